//! How long a stream stays open on a session that is used elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use gatelet::authn::proven::Proven;
use gatelet::authn::standing;
use gatelet::cache::feed::Pulse;
use gatelet::platform::Clock;
use gatelet::rules::session::Lifetime;
use tempfile::TempDir;

use super::replica::{Replica, hold, pass};
use crate::harness::HandClock;

const LIFETIME: Lifetime = Lifetime {
    idle: Duration::from_secs(20),
    max: Duration::from_secs(3600),
};

#[tokio::test(start_paused = true)]
async fn a_session_that_is_used_elsewhere_keeps_its_stream_and_costs_a_look_a_second() {
    let _held = hold();
    let folder = TempDir::new().unwrap();
    let clock = HandClock::default();
    let here = Replica::open(&folder, &clock, LIFETIME);
    let elsewhere = Replica::open(&folder, &clock, LIFETIME);
    let token = here.issue().await;
    let session = here.r#use(&token).await;
    let known_end = session.expires_at();
    let looks = Arc::new(AtomicUsize::new(0));
    let in_force = {
        let (looks, authenticators) = (Arc::clone(&looks), Arc::clone(&here.authenticators));
        move || {
            looks.fetch_add(1, Ordering::SeqCst);
            Arc::clone(&authenticators)
        }
    };
    let proven = Proven {
        session: Some(session),
        ..Proven::default()
    };
    let pulse = Pulse::new();
    let platform = clock.platform();
    let stream = tokio::spawn(standing::ended(proven, in_force, pulse.clone(), platform));

    pass(&clock, Duration::from_secs(15)).await;
    here.settle().await;
    assert_eq!(looks.load(Ordering::SeqCst), 1, "nothing was due");
    let used = elsewhere.r#use(&token).await;
    elsewhere.sessions.write_slides().await;
    let end = used.expires_at();
    assert_eq!(end, known_end.plus(Duration::from_secs(15)));

    // Past the end that was known here: it stands, and is not looked at all the time.
    while clock.now() < end {
        assert!(!stream.is_finished(), "cut at {:?}", clock.now());
        pass(&clock, Duration::from_millis(250)).await;
        here.settle().await;
    }
    let looked = looks.load(Ordering::SeqCst);
    assert!((10..=18).contains(&looked), "{looked} looks in 20 seconds");
    // It was not used again: now it ends.
    for _ in 0..8 {
        pass(&clock, Duration::from_millis(250)).await;
        here.settle().await;
    }
    assert!(stream.is_finished(), "it outlives its session");
    drop(pulse);
}
