//! What the store is told at the end, or in the middle of a failure: no slide is lost.

use std::sync::Arc;
use std::time::Duration;

use gatelet::platform::Clock;
use gatelet::rules::session::Lifetime;
use gatelet::store::Write;
use rusqlite::Connection;
use tempfile::TempDir;

use super::replica::{Replica, eventually, hold, pass};
use crate::harness::HandClock;

const LIFETIME: Lifetime = Lifetime {
    idle: Duration::from_secs(20),
    max: Duration::from_secs(3600),
};

fn put(key: &str, value: &str) -> Vec<Write> {
    vec![Write {
        key: key.into(),
        expected: None,
        value: Some(value.into()),
    }]
}

#[tokio::test(start_paused = true)]
async fn slides_survive_an_end_in_the_middle_of_their_write() {
    let _held = hold();
    let folder = TempDir::new().unwrap();
    let clock = HandClock::default();
    let replica = Replica::open(&folder, &clock, LIFETIME);
    let (again, once) = (replica.issue().await, replica.issue().await);
    let writing = tokio::spawn(Arc::clone(&replica.sessions).keep_writing());
    pass(&clock, Duration::from_secs(1)).await;
    replica.r#use(&again).await;
    replica.r#use(&once).await;
    let used_once = clock.now();

    // The writer is kept busy by somebody else, so that the slides wait behind it.
    let other = Connection::open(folder.path().join("data/gatelet.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let busy = tokio::spawn({
        let store = Arc::clone(&replica.store);
        async move { store.swap(put("busy", ""), Vec::new()).await }
    });
    tokio::task::yield_now().await;
    pass(&clock, LIFETIME.write_interval()).await;
    for _ in 0..3 {
        replica.store.load("nothing").await.unwrap();
        tokio::task::yield_now().await;
    }
    replica.r#use(&again).await;
    let used_again = clock.now();
    let before = replica.stored(&once).await.expires_at;
    assert!(before < used_once.plus(LIFETIME.idle), "it is not written");

    // The end: the task is stopped wherever it is, and what is left is written.
    writing.abort();
    eventually("the task ends", || writing.is_finished()).await;
    other.execute_batch("ROLLBACK").unwrap();
    busy.await.unwrap().unwrap();
    replica.sessions.write_slides().await;
    for (token, used) in [(&again, used_again), (&once, used_once)] {
        let told = replica.stored(token).await.expires_at;
        assert_eq!(told, used.plus(LIFETIME.idle));
    }
}

#[tokio::test(start_paused = true)]
async fn slides_that_the_store_did_not_take_are_told_once_it_does() {
    let _held = hold();
    let folder = TempDir::new().unwrap();
    let clock = HandClock::default();
    let replica = Replica::open(&folder, &clock, LIFETIME);
    let token = replica.issue().await;
    tokio::spawn(Arc::clone(&replica.sessions).keep_writing());
    pass(&clock, Duration::from_secs(1)).await;
    replica.r#use(&token).await;
    let used = clock.now();
    let other = Connection::open(folder.path().join("data/gatelet.db")).unwrap();
    other
        .execute_batch("ALTER TABLE records RENAME TO away")
        .unwrap();
    pass(&clock, LIFETIME.write_interval()).await;
    for _ in 0..3 {
        let lost = replica.store.load("nothing").await;
        assert!(lost.is_err(), "{lost:?}");
        tokio::task::yield_now().await;
    }
    other
        .execute_batch("ALTER TABLE away RENAME TO records")
        .unwrap();
    pass(&clock, LIFETIME.write_interval()).await;
    replica.settle().await;
    let told = replica.stored(&token).await.expires_at;
    assert_eq!(told, used.plus(LIFETIME.idle));
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_read_keeps_no_other_slide() {
    let _held = hold();
    let folder = TempDir::new().unwrap();
    let clock = HandClock::default();
    let replica = Replica::open(&folder, &clock, LIFETIME);
    let tokens = [
        replica.issue().await,
        replica.issue().await,
        replica.issue().await,
    ];
    pass(&clock, Duration::from_secs(1)).await;
    for token in &tokens {
        replica.r#use(token).await;
    }
    let used = clock.now();
    let digest = gatelet::rules::api_key::Digest::of(tokens[1].as_bytes());
    let key = format!("session/{}", digest.hex());
    let version = replica.store.load(&key).await.unwrap().unwrap().version;
    let garbled = Write {
        key,
        expected: Some(version),
        value: Some(b"{".to_vec()),
    };
    replica.store.swap(vec![garbled], Vec::new()).await.unwrap();
    replica.sessions.write_slides().await;
    for token in [&tokens[0], &tokens[2]] {
        let told = replica.stored(token).await.expires_at;
        assert_eq!(told, used.plus(LIFETIME.idle));
    }
    assert!(replica.judge(&tokens[1]).await.is_ok(), "as remembered");
}
