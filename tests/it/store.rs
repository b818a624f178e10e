//! What every store does, run over each of them; what only the embedded one does is in `embedded`.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in the functions it calls too"
)]

mod contract;
mod embedded;
mod herd;
pub(crate) mod redis;
mod rights;
mod stuck;

use std::sync::Arc;
use std::time::Duration;

use gatelet::platform::Platform;
use gatelet::store::{Config, Event, Place, Store, Swapped, Write};
use tempfile::TempDir;

/// Where one store lives; each call of `open` gives another handle on it.
trait Home {
    fn fresh() -> Self;
    fn open(&self) -> Store;
}

/// A folder for the embedded store.
struct Folder(TempDir);

impl Folder {
    fn config(&self) -> Config {
        Config::Embedded {
            path: self.0.path().join("data"),
        }
    }
}

impl Home for Folder {
    fn fresh() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn open(&self) -> Store {
        open(&self.config())
    }
}

fn open(config: &Config) -> Store {
    Store::open(config, &Platform::system(), Arc::new(|_, _, _| {})).unwrap()
}

/// Runs every test of the contract over a store.
macro_rules! contract {
    ($store:ident: $home:ty { $($test:ident,)* }) => {
        mod $store {
            $(
                #[tokio::test]
                async fn $test() {
                    super::contract::$test(<$home as super::Home>::fresh()).await;
                }
            )*
        }
    };
}

macro_rules! contracts {
    ($($store:ident: $home:ty;)*) => {
        $(contract!($store: $home {
    a_missing_record_is_none,
    a_record_is_created_once,
    a_swap_needs_the_version_it_saw,
    a_deleted_record_is_gone_and_its_version_never_comes_back,
    a_swap_is_all_or_nothing,
    a_key_is_written_once_in_a_swap,
    absence_can_be_required,
    values_may_be_any_bytes,
    events_come_in_order_and_once,
    events_can_be_read_in_parts,
    a_conflict_leaves_no_event,
    following_begins_where_the_store_is,
    news_is_waited_for,
    trimmed_events_are_a_gap,
    one_of_many_racing_swaps_wins,
    no_increment_is_lost,
    two_handles_see_each_other,
    reopening_keeps_everything,
    listing_goes_in_pages_and_stays_below_its_prefix,
});)*
    };
}

contracts! {
    embedded_keeps_the_contract: super::Folder;
    redis_keeps_the_contract: super::redis::OnRedis;
    valkey_keeps_the_contract: super::redis::OnValkey;
    a_cluster_keeps_the_contract: super::redis::OnCluster;
}

fn create(key: &str, value: &[u8]) -> Write {
    Write {
        key: key.into(),
        expected: None,
        value: Some(value.into()),
    }
}

fn replace(key: &str, version: u64, value: &[u8]) -> Write {
    Write {
        key: key.into(),
        expected: Some(version),
        value: Some(value.into()),
    }
}

fn delete(key: &str, version: u64) -> Write {
    Write {
        key: key.into(),
        expected: Some(version),
        value: None,
    }
}

/// Swaps without events, and insists that it was committed.
async fn commit(store: &Store, writes: Vec<Write>) {
    commit_with(store, writes, &[]).await;
}

async fn commit_with(store: &Store, writes: Vec<Write>, payloads: &[&str]) {
    let payloads = payloads.iter().map(|text| text.as_bytes().to_vec());
    let swapped = store.swap(writes, payloads.collect()).await.unwrap();
    assert_eq!(swapped, Swapped::Committed);
}

async fn version(store: &Store, key: &str) -> u64 {
    store.load(key).await.unwrap().unwrap().version
}

async fn value(store: &Store, key: &str) -> Option<String> {
    let record = store.load(key).await.unwrap()?;
    Some(String::from_utf8(record.value).unwrap())
}

/// Where the events end.
async fn end(store: &Store) -> Place {
    let mut place = Place::BEGINNING;
    loop {
        let part = store.events_since(place, 5_000).await.unwrap();
        if part.complete {
            return part.last;
        }
        place = part.last;
    }
}

fn payloads(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .map(|event| std::str::from_utf8(&event.payload).unwrap())
        .collect()
}

/// A bound for waits that should be short.
const PATIENCE: Duration = Duration::from_secs(10);
