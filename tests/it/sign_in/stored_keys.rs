//! Signing keys in the store, for replicas that are told different things.

use std::sync::Arc;
use std::time::Duration;

use gatelet::authn::signers::StoredKeys;
use gatelet::rules::jwt::SigningAlgorithm::{EdDsa, Es256};
use gatelet::store::{Config, Store};
use tempfile::TempDir;

use crate::harness::HandClock;

/// A member of each published key; the one that signs comes first.
fn members(replica: &StoredKeys, name: &str) -> Vec<String> {
    let ring = replica.ring().unwrap();
    let keys = ring.published["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key[name].as_str().unwrap().to_owned())
        .collect()
}

fn published(replica: &StoredKeys) -> Vec<String> {
    members(replica, "alg")
}

fn kids(replica: &StoredKeys) -> Vec<String> {
    members(replica, "kid")
}

#[tokio::test]
async fn a_replica_that_is_told_otherwise_makes_one_key_and_lets_the_others_be() {
    let folder = TempDir::new().unwrap();
    let clock = HandClock::default();
    let replica = || {
        let platform = clock.platform();
        let config = Config::Embedded {
            path: folder.path().join("data"),
        };
        let store = Store::open(&config, &platform, Arc::new(|_, _, _| {}));
        StoredKeys::new(Arc::new(store.unwrap()), platform)
    };
    let (old, new) = (replica(), replica());
    old.want(Some(Es256)).await.unwrap();
    assert_eq!(published(&old), ["ES256"]);
    new.want(Some(EdDsa)).await.unwrap();
    assert_eq!(published(&new), ["ES256", "EdDSA"], "announced");

    // Reloads that change nothing, while the update goes on.
    for _ in 0..5 {
        clock.advance(Duration::from_secs(3600));
        for (replica, told) in [(&old, Es256), (&new, EdDsa)] {
            replica.want(Some(told)).await.unwrap();
            assert_eq!(published(replica), ["EdDSA", "ES256"]);
        }
    }
    // It was no update: after a day the one follows the other's key, and is followed in a day again.
    let before = kids(&old);
    clock.advance(Duration::from_secs(24 * 3600));
    for (replica, told) in [(&old, Es256), (&new, EdDsa), (&old, Es256)] {
        replica.want(Some(told)).await.unwrap();
        assert_eq!(published(replica), ["EdDSA", "ES256"]);
    }
    assert_ne!(kids(&old)[1], before[1], "the first is forgotten");

    // What is asked for anew is made at once.
    new.want(Some(Es256)).await.unwrap();
    assert_eq!(published(&new), ["EdDSA", "ES256"], "it is there already");
    new.want(Some(EdDsa)).await.unwrap();
    assert_eq!(published(&new), ["EdDSA", "EdDSA", "ES256"]);
}
