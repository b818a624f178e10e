//! However often a session is used, the store hears of it once an interval, and is right.

use std::sync::Arc;
use std::time::Duration;

use gatelet::platform::Clock;
use gatelet::rules::decision::{Refusal, Reject};
use gatelet::rules::session::Lifetime;
use gatelet::rules::time::Timestamp;
use tempfile::TempDir;

use super::replica::{Replica, hold, pass};
use crate::harness::HandClock;

/// A slide is told within two seconds.
const LIFETIME: Lifetime = Lifetime {
    idle: Duration::from_secs(20),
    max: Duration::from_secs(3600),
};

const TENTH: Duration = Duration::from_millis(100);

/// The shortest time that a clock tells.
const INSTANT: Duration = Duration::from_nanos(1);

#[tokio::test(start_paused = true)]
async fn two_thousand_uses_a_second_are_one_write_an_interval_and_expiry_is_exact() {
    let _held = hold();
    let folder = TempDir::new().unwrap();
    let clock = HandClock::default();
    let replica = Replica::open(&folder, &clock, LIFETIME);
    let token = replica.issue().await;
    tokio::spawn(Arc::clone(&replica.sessions).keep_writing());
    let issued = replica.writes();
    let interval = LIFETIME.write_interval();
    let mut written_at = Vec::new();
    let mut last = clock.now();
    for _ in 0..200 {
        for _ in 0..200 {
            clock.advance(TENTH / 200);
            last = clock.now();
            let session = replica.r#use(&token).await;
            assert_eq!(session.expires_at(), last.plus(LIFETIME.idle));
        }
        tokio::time::advance(TENTH).await;
        replica.settle().await;
        let writes = replica.writes() - issued;
        written_at.resize(writes, clock.monotonic());
        let told = replica.stored(&token).await.expires_at;
        assert!(
            told.plus(interval) >= last.plus(LIFETIME.idle),
            "late: {told:?}"
        );
    }
    // Ten intervals, of which each ends a little before its time.
    assert!((9..=11).contains(&written_at.len()), "{written_at:?}");
    for pair in written_at.windows(2) {
        let between = pair[1].since(pair[0]);
        assert!(between + TENTH >= interval, "{written_at:?}");
    }

    // Nobody uses it any more: the last use is told, and then nothing.
    for _ in 0..60 {
        pass(&clock, TENTH).await;
        replica.settle().await;
    }
    assert_eq!(
        replica.stored(&token).await.expires_at,
        last.plus(LIFETIME.idle)
    );
    let quiet = replica.writes() - issued;
    assert!(quiet <= written_at.len() + 2, "{quiet} writes");

    // Here and on another replica it ends in the same moment.
    let other = Replica::open(&folder, &clock, LIFETIME);
    let end = last.plus(LIFETIME.idle);
    pass(&clock, end.minus(INSTANT).since(clock.now())).await;
    for replica in [&replica, &other] {
        let session = replica.judge(&token).await.unwrap();
        assert_eq!(session.expires_at(), end);
    }
    // What was asked just now is not asked again.
    pass(&clock, INSTANT).await;
    assert_eq!(clock.now(), end);
    for replica in [&replica, &other] {
        assert_expired(replica, &token).await;
    }
    pass(&clock, Duration::from_secs(2)).await;
    assert_expired(&other, &token).await;
}

#[tokio::test(start_paused = true)]
async fn the_cap_is_exact_however_often_a_session_is_used() {
    let _held = hold();
    let folder = TempDir::new().unwrap();
    let clock = HandClock::default();
    let lifetime = Lifetime {
        max: Duration::from_secs(30),
        ..LIFETIME
    };
    let replica = Replica::open(&folder, &clock, lifetime);
    let token = replica.issue().await;
    tokio::spawn(Arc::clone(&replica.sessions).keep_writing());
    let cap: Timestamp = clock.now().plus(lifetime.max);
    for tenth in 1..300 {
        pass(&clock, TENTH).await;
        let session = replica.r#use(&token).await;
        let slid = clock.now().plus(lifetime.idle).min(cap);
        assert_eq!(session.expires_at(), slid);
        assert_eq!(session.max_expires_at(), cap);
        // The store works in real time, which must not be outrun.
        if tenth % 10 == 0 || tenth == 299 {
            replica.settle().await;
        }
    }
    assert_eq!(replica.stored(&token).await.expires_at, cap);
    pass(&clock, cap.minus(INSTANT).since(clock.now())).await;
    replica.r#use(&token).await;
    pass(&clock, INSTANT).await;
    assert_expired(&replica, &token).await;
}

async fn assert_expired(replica: &Replica, token: &str) {
    let refused = replica.judge(token).await.unwrap_err();
    assert_eq!(refused, Refusal::Reject(Reject::SessionExpired));
}
