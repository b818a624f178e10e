//! Sessions that several replicas see used: none is shortened by what another had not heard of.

use std::sync::Arc;
use std::time::Duration;

use gatelet::platform::Clock;
use gatelet::rules::decision::{Refusal, Reject};
use gatelet::rules::session::Lifetime;
use tempfile::TempDir;

use super::replica::{Replica, eventually, hold, pass};
use crate::harness::HandClock;

const LIFETIME: Lifetime = Lifetime {
    idle: Duration::from_secs(20),
    max: Duration::from_secs(3600),
};

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn a_replica_looks_again_before_it_refuses_a_session_as_idle() {
    let _held = hold();
    let folder = TempDir::new().unwrap();
    let clock = HandClock::default();
    let here = Replica::open(&folder, &clock, LIFETIME);
    let elsewhere = Replica::open(&folder, &clock, LIFETIME);
    let (used, unused) = (here.issue().await, here.issue().await);
    for token in [&used, &unused] {
        here.r#use(token).await;
    }
    pass(&clock, 15 * SECOND).await;
    elsewhere.r#use(&used).await;
    elsewhere.sessions.write_slides().await;
    let end = clock.now().plus(LIFETIME.idle);
    // Here it was heard of no more: by what is remembered, both are over now.
    pass(&clock, 5 * SECOND).await;
    let session = here.judge(&used).await.unwrap();
    assert_eq!(session.expires_at(), end);
    let refused = here.judge(&unused).await.unwrap_err();
    assert_eq!(refused, Refusal::Reject(Reject::SessionExpired));
    pass(&clock, 15 * SECOND).await;
    let refused = here.judge(&used).await.unwrap_err();
    assert_eq!(refused, Refusal::Reject(Reject::SessionExpired));
}

#[tokio::test(start_paused = true)]
async fn a_slide_that_is_told_late_takes_no_later_one_back() {
    let _held = hold();
    let folder = TempDir::new().unwrap();
    let clock = HandClock::default();
    let early = Replica::open(&folder, &clock, LIFETIME);
    let late = Replica::open(&folder, &clock, LIFETIME);
    let token = early.issue().await;
    pass(&clock, SECOND).await;
    early.r#use(&token).await;
    pass(&clock, SECOND).await;
    late.r#use(&token).await;
    let end = clock.now().plus(LIFETIME.idle);
    for replica in [&late, &early, &late] {
        replica.sessions.write_slides().await;
        assert_eq!(replica.stored(&token).await.expires_at, end);
    }
}

#[tokio::test(start_paused = true)]
async fn many_sessions_that_slide_in_one_interval_are_one_write_and_no_end_is_ahead() {
    let _held = hold();
    let folder = TempDir::new().unwrap();
    let clock = HandClock::default();
    let replica = Replica::open(&folder, &clock, LIFETIME);
    let mut tokens = Vec::new();
    for _ in 0..40 {
        tokens.push(replica.issue().await);
    }
    tokio::spawn(Arc::clone(&replica.sessions).keep_writing());
    let issued = replica.writes();
    let mut used = Vec::new();
    for token in &tokens {
        clock.advance(Duration::from_millis(25));
        replica.r#use(token).await;
        used.push(clock.now());
        let told = replica.stored(token).await.expires_at;
        assert!(told <= clock.now().plus(LIFETIME.idle), "never lengthened");
    }
    pass(&clock, LIFETIME.write_interval()).await;
    eventually("they are written", || replica.writes() > issued).await;
    replica.settle().await;
    assert_eq!(replica.writes() - issued, 1);
    for (token, used) in tokens.iter().zip(used) {
        let told = replica.stored(token).await.expires_at;
        assert_eq!(told, used.plus(LIFETIME.idle));
    }
}
