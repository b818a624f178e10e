//! The store on a Redis or Valkey server.
//!
//! A record is a string of its version and its value; a sorted set lists the keys, and a stream
//! holds the events. All of it shares one hash slot, so that a swap is one script wherever it runs:
//! a Cluster is asked for the one master that has the slot, a Sentinel for the one that it watches.

mod advice;
mod feed;
mod link;
mod master;
mod sentinels;

pub use master::{Address, Topology};

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use tokio::sync::Semaphore;
use zeroize::Zeroizing;

use super::{Events, Kept, Listed, Place, StoreFault, Swapped, Versioned, Write};
use crate::platform::{Monotonic, Platform};
use crate::rules::bucket::Rate;
use link::Link;

/// How many reads are on their way at once: more would only wait in the server.
const READS: usize = 64;

/// How many more wait for their turn.
const WAITING: usize = 4096;

/// How many look-ups a second may find nothing, and as many at once: what guessing may cost the
/// server, from however many addresses. Whoever is not remembered waits for those meanwhile.
const GUESSES: u32 = 2_000;

/// The swap.
const SWAP: &str = include_str!("redis/swap.lua");

/// How many bytes a version has, before each value.
const VERSION: usize = 8;

/// Which server, and how it is spoken to.
#[derive(Clone, PartialEq, Eq)]
pub struct Config {
    /// Where to begin: the servers themselves, or those that know where they are.
    pub addresses: Vec<Address>,
    /// How the master is found.
    pub topology: Topology,
    /// Whether it is spoken to over TLS.
    pub tls: bool,
    /// Who vouches for it, in PEM; otherwise those whom the machine trusts.
    pub authorities: Option<Arc<[u8]>>,
    /// As whom.
    pub username: Option<Box<str>>,
    /// With what.
    pub password: Option<Arc<Zeroizing<String>>>,
    /// How every key begins, between braces.
    pub key_prefix: Box<str>,
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("addresses", &self.addresses)
            .field("topology", &self.topology)
            .field("tls", &self.tls)
            .field("username", &self.username)
            .field("key_prefix", &self.key_prefix)
            .finish_non_exhaustive()
    }
}

/// The names of what is kept.
struct Names {
    records: String,
    index: String,
    events: String,
}

impl Names {
    fn below(prefix: &str) -> Self {
        Self {
            records: format!("{{{prefix}}}:r:"),
            index: format!("{{{prefix}}}:index"),
            events: format!("{{{prefix}}}:events"),
        }
    }

    fn record(&self, key: &str) -> String {
        format!("{}{key}", self.records)
    }
}

/// The look-ups that have found nothing, and those that may.
struct Guesses {
    rate: Rate,
    bucket: AtomicU64,
}

impl Guesses {
    fn new() -> Self {
        Self {
            rate: Rate::per(GUESSES, Duration::from_secs(1), GUESSES).expect("it is not zero"),
            bucket: AtomicU64::new(0),
        }
    }

    fn charge(&self, now: Monotonic) -> bool {
        let admit = |bucket| self.rate.admit(bucket, now.nanoseconds()).ok();
        let charged = self
            .bucket
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit);
        charged.is_ok()
    }

    fn refund(&self) {
        let refund = |bucket| Some(self.rate.refund(bucket));
        let _ = self
            .bucket
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, refund);
    }
}

/// The store on a server.
pub(super) struct Redis {
    link: Arc<Link>,
    names: Arc<Names>,
    reads: Semaphore,
    waiting: Semaphore,
    guesses: Guesses,
    feed: feed::Feed,
    platform: Platform,
}

impl Redis {
    /// A store that connects when it is first used.
    pub(super) fn new(config: &Config, platform: Platform) -> Self {
        let names = Arc::new(Names::below(&config.key_prefix));
        let link = Arc::new(Link::new(config.clone(), platform.clone()));
        let clock = Arc::clone(&platform.clock);
        Self {
            feed: feed::Feed::new(Arc::clone(&link), Arc::clone(&names), clock),
            link,
            names,
            reads: Semaphore::new(READS),
            waiting: Semaphore::new(WAITING),
            guesses: Guesses::new(),
            platform,
        }
    }

    pub(super) async fn load(&self, key: &str) -> Result<Option<Versioned>, StoreFault> {
        let name = self.names.record(key);
        let record: Option<Vec<u8>> = self
            .read(async |connection| redis::cmd("GET").arg(name).query_async(connection).await)
            .await?;
        record.map(|record| versioned(key, record)).transpose()
    }

    /// See [`super::Store::look_up`].
    pub(super) async fn look_up(&self, key: &str) -> Result<Option<Versioned>, StoreFault> {
        let now = self.platform.clock.monotonic();
        if !self.guesses.charge(now) {
            return Err(StoreFault::overloaded());
        }
        let loaded = self.load(key).await;
        if !matches!(loaded, Ok(None)) {
            self.guesses.refund();
        }
        loaded
    }

    pub(super) async fn swap(
        &self,
        writes: &[Write],
        payloads: &[Vec<u8>],
        kept: Kept,
    ) -> Result<Swapped, StoreFault> {
        let mut keys = HashSet::with_capacity(writes.len());
        // The second of a key would find what the first has written.
        if !writes.iter().all(|write| keys.insert(&write.key)) {
            return Ok(Swapped::Conflict);
        }
        let mut version = [0; VERSION];
        let filled = self.platform.entropy.fill(&mut version);
        filled.map_err(|error| StoreFault::caused("the machine gives no randomness", error))?;
        let mut swap = redis::cmd("EVAL");
        swap.arg(SWAP).arg(writes.len() + 2);
        swap.arg(&self.names.index).arg(&self.names.events);
        for write in writes {
            swap.arg(self.names.record(&write.key));
        }
        let now = self.platform.clock.now().nanoseconds();
        swap.arg(&version[..]).arg(now).arg(writes.len());
        for write in writes {
            let expected = write.expected.map(u64::to_be_bytes);
            swap.arg(expected.as_ref().map_or(&[][..], |version| &version[..]));
            match &write.value {
                Some(value) => swap.arg("set").arg(value),
                None if write.expected.is_some() => swap.arg("del").arg(""),
                // Nothing to write: the swap depends on the record's absence.
                None => swap.arg("none").arg(""),
            };
        }
        for payload in payloads {
            swap.arg(payload);
        }
        let connected = self.link.connected().await?;
        let mut connection = match kept {
            Kept::Firmly => connected.firm.clone(),
            Kept::Loosely => connected.loose.clone(),
        };
        let swapped: redis::RedisResult<u8> = swap.query_async(&mut connection).await;
        let swapped = swapped.map_err(|error| self.link.failed(&connected, error))?;
        if swapped == 0 {
            return Ok(Swapped::Conflict);
        }
        if kept == Kept::Firmly {
            // Whoever takes over has to know of it.
            connected.wait_for_a_replica(&self.platform).await;
        }
        Ok(Swapped::Committed)
    }

    pub(super) async fn load_all(
        &self,
        keys: &[String],
    ) -> Result<Vec<Option<Versioned>>, StoreFault> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut get = redis::cmd("MGET");
        for key in keys {
            get.arg(self.names.record(key));
        }
        let records: Vec<Option<Vec<u8>>> = self
            .read(async |connection| get.query_async(connection).await)
            .await?;
        let loaded = keys.iter().zip(records).map(|(key, record)| {
            let record = record.map(|record| versioned(key, record));
            record.transpose()
        });
        loaded.collect()
    }

    pub(super) async fn events_since(
        &self,
        place: Place,
        limit: u32,
    ) -> Result<Events, StoreFault> {
        self.read(async |connection| {
            feed::events_since(connection, &self.names, place, limit, None).await
        })
        .await
    }

    /// See [`super::Store::follow`].
    pub(super) async fn follow(
        &self,
        place: Option<Place>,
        limit: u32,
        wait: Duration,
    ) -> Result<Events, StoreFault> {
        self.feed.follow(place, limit, wait).await
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreFault> {
        let mut begin = match after {
            Some(after) if after >= prefix => [b"(", after.as_bytes()].concat(),
            _ => [b"[", prefix.as_bytes()].concat(),
        };
        // No key has this byte: keys are UTF-8.
        let end = [b"(", prefix.as_bytes(), b"\xff"].concat();
        loop {
            let mut range = redis::cmd("ZRANGEBYLEX");
            range.arg(&self.names.index).arg(&begin).arg(&end);
            range.arg("LIMIT").arg(0).arg(limit);
            let keys: Vec<String> = self
                .read(async |connection| range.query_async(connection).await)
                .await?;
            let Some(last) = keys.last() else {
                return Ok(Vec::new());
            };
            begin = [b"(", last.as_bytes()].concat();
            // One that was deleted in between is not there.
            let records = self.load_all(&keys).await?;
            let there = keys.into_iter().zip(records);
            let listed: Vec<Listed> = there
                .filter_map(|(key, record)| {
                    let record = record?;
                    Some(Listed { key, record })
                })
                .collect();
            if !listed.is_empty() {
                return Ok(listed);
            }
        }
    }

    async fn read<T>(
        &self,
        ask: impl AsyncFnOnce(&mut MultiplexedConnection) -> redis::RedisResult<T>,
    ) -> Result<T, StoreFault> {
        let waiting = self.waiting.try_acquire();
        let waiting = waiting.map_err(|_| StoreFault::overloaded())?;
        // Never closed.
        let _turn = self.reads.acquire().await;
        drop(waiting);
        let connected = self.link.connected().await?;
        let mut connection = connected.reads.clone();
        let answer = ask(&mut connection).await;
        answer.map_err(|error| self.link.failed(&connected, error))
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Redis").field(self.link.config()).finish()
    }
}

fn versioned(key: &str, mut record: Vec<u8>) -> Result<Versioned, StoreFault> {
    let version = record.first_chunk::<VERSION>().copied();
    let version = version.ok_or_else(|| StoreFault::foreign(key))?;
    record.drain(..VERSION);
    Ok(Versioned {
        version: u64::from_be_bytes(version),
        value: record,
    })
}

/// What `ROLE` is answered with, if the server is a master: its replicas.
fn replicas_of(role: &Value) -> Option<&[Value]> {
    let Value::Array(role) = role else {
        return None;
    };
    match &role[..] {
        [name, _, Value::Array(replicas), ..] if text(name) == Some("master") => Some(replicas),
        _ => None,
    }
}

/// Text that a server answered with.
fn text(value: &Value) -> Option<&str> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text),
        _ => None,
    }
}
