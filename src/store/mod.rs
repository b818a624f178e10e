//! Records that outlive the process: load, swap, events.
//!
//! Knows no rules: it loads a record with its version, swaps records against their versions
//! together with events, lists records, and lists the events since a place. What records mean, and
//! what to do about a conflict, is judged by whoever calls.

mod embedded;
mod fault;
mod redis;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::platform::{Clock, Monotonic, Platform};
use crate::rules::time::Timestamp;

use embedded::Embedded;
pub use fault::{OpenError, StoreFault};
use redis::Redis;
pub use redis::{Address, Config as RedisConfig, Topology};

/// Which store, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// A SQLite file in this folder.
    Embedded {
        /// The folder; made, with mode 0700, where it is missing.
        path: PathBuf,
    },
    /// A Redis or Valkey server, shared by any number of replicas.
    Redis(RedisConfig),
}

/// What a record held when it was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// Differs between any two states of the record, also if it was deleted in between.
    pub version: u64,
    /// The record.
    pub value: Vec<u8>,
}

/// One record's part in a swap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The record's key.
    pub key: String,
    /// The version it must still have; `None`: it must not exist.
    pub expected: Option<u64>,
    /// What it becomes; `None` deletes it.
    pub value: Option<Vec<u8>>,
}

/// A swap's outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Swapped {
    /// Every write was made and is kept.
    Committed,
    /// A record had another version; nothing was written.
    Conflict,
}

/// How much it would matter if a server that takes over did not know of a swap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kept {
    /// It must not be undone: one of the replicas is waited for, where there are any.
    Firmly,
    /// It would be made again.
    Loosely,
}

/// A place among the events: behind one of them, or before the first.
///
/// Later places are larger, as long as the store does not lose events that it had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    id: u128,
    /// Tells the event from another one that took its id when it was lost.
    mark: u64,
}

impl Place {
    /// Before the first event that ever was.
    pub const BEGINNING: Self = Self { id: 0, mark: 0 };
}

/// Something that happened to the store's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Where it stands.
    pub place: Place,
    /// When it was committed, by the clock of the process that did.
    pub at: Timestamp,
    /// What its swap said about it.
    pub payload: Vec<u8>,
}

/// What happened since a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Events {
    /// The events, oldest first; none where there is a gap.
    pub events: Vec<Event>,
    /// Events since the place asked for are no longer kept, or the store has gone back behind it:
    /// whatever was remembered must be dropped.
    pub gap: bool,
    /// Where to ask from next time.
    pub last: Place,
    /// Whether nothing is behind `last`.
    pub complete: bool,
    /// The run of the server that said so: another one may have lost what this one had. The same at
    /// all times where nothing is ever lost.
    pub run: u64,
    /// When others said that it is the server to ask, where they have to be asked.
    pub as_of: Option<Monotonic>,
}

/// A record in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The record's key.
    pub key: String,
    /// The record.
    pub record: Versioned,
}

/// What a store does, for whoever measures it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// [`Store::load`].
    Load,
    /// [`Store::swap`].
    Swap,
    /// [`Store::events_since`].
    Events,
    /// [`Store::list`].
    List,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 4] = [Self::Load, Self::Swap, Self::Events, Self::List];

    /// The operation's name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Swap => "swap",
            Self::Events => "events",
            Self::List => "list",
        }
    }
}

/// Hears of every operation: which, how long it took, and whether the store did its part (a
/// conflict is a success). Called on the caller's thread; it must not wait.
pub type Observer = Arc<dyn Fn(Operation, Duration, bool) + Send + Sync>;

/// How often an embedded store is asked for news: a change holds here well within a second.
const PERIOD: Duration = Duration::from_millis(100);

/// How many records a page has.
const PAGE: u32 = 500;

/// How long a reading operation may take.
const READ_DEADLINE: Duration = Duration::from_secs(2);

/// How long a swap may take: longer than it waits for another process to finish its own.
const SWAP_DEADLINE: Duration = Duration::from_secs(10);

/// Where records are kept.
///
/// Shared by every worker; each method may be called from any tokio runtime that has its timer
/// enabled. Dropping the store waits for what the disk is doing, then closes the file.
pub struct Store {
    backend: Backend,
    clock: Arc<dyn Clock>,
    observer: Observer,
}

enum Backend {
    Embedded(Embedded),
    Redis(Box<Redis>),
}

impl Store {
    /// Opens the store, making it where there is none. Blocks on the disk; a server is connected to
    /// when it is first asked for something, and its connections live in the runtime that this is
    /// called in.
    pub fn open(
        config: &Config,
        platform: &Platform,
        observer: Observer,
    ) -> Result<Self, OpenError> {
        let clock = Arc::clone(&platform.clock);
        Ok(Self {
            backend: match config {
                Config::Embedded { path } => {
                    Backend::Embedded(Embedded::open(path, Arc::clone(&clock))?)
                }
                Config::Redis(config) => {
                    Backend::Redis(Box::new(Redis::new(config, platform.clone())))
                }
            },
            clock,
            observer,
        })
    }

    /// The folder in which [`Store::open`] would make a store, if there is none; a server is always
    /// taken for one.
    pub fn missing_from(config: &Config) -> Option<&Path> {
        match config {
            Config::Embedded { path } => (!Embedded::is_there(path)).then_some(path),
            Config::Redis(_) => None,
        }
    }

    /// Loads a record. Cancel safe.
    pub async fn load(&self, key: &str) -> Result<Option<Versioned>, StoreFault> {
        let load = async {
            match &self.backend {
                Backend::Embedded(store) => store.load(key).await,
                Backend::Redis(store) => store.load(key).await,
            }
        };
        self.observed(Operation::Load, READ_DEADLINE, load).await
    }

    /// Loads a record by what a stranger has shown: of a server, only so many look-ups a second may
    /// find nothing. Past that it fails, whether the record is there or not. Cancel safe.
    pub async fn look_up(&self, key: &str) -> Result<Option<Versioned>, StoreFault> {
        let load = async {
            match &self.backend {
                Backend::Embedded(store) => store.load(key).await,
                Backend::Redis(store) => store.look_up(key).await,
            }
        };
        self.observed(Operation::Load, READ_DEADLINE, load).await
    }

    /// Loads records at once: one answer a key. Cancel safe.
    pub async fn load_all(&self, keys: &[String]) -> Result<Vec<Option<Versioned>>, StoreFault> {
        let load = async {
            match &self.backend {
                Backend::Embedded(store) => {
                    let mut loaded = Vec::with_capacity(keys.len());
                    for key in keys {
                        loaded.push(store.load(key).await?);
                    }
                    Ok(loaded)
                }
                Backend::Redis(store) => store.load_all(keys).await,
            }
        };
        self.observed(Operation::Load, READ_DEADLINE, load).await
    }

    /// Makes every write and appends an event for each payload, or does nothing if a record does
    /// not have the version expected of it. A key may be written once in a swap.
    ///
    /// Once this returns [`Swapped::Committed`], a crash does not undo it. After a fault, or if the
    /// future is dropped, the swap may have been made or not: load the records to know.
    pub async fn swap(
        &self,
        writes: Vec<Write>,
        payloads: Vec<Vec<u8>>,
    ) -> Result<Swapped, StoreFault> {
        self.swap_as(Kept::Firmly, writes, payloads).await
    }

    /// The same, without events and for what would be written again: a server's replicas are not
    /// waited for, so that one that takes over may not know of it.
    pub async fn swap_loosely(&self, writes: Vec<Write>) -> Result<Swapped, StoreFault> {
        self.swap_as(Kept::Loosely, writes, Vec::new()).await
    }

    async fn swap_as(
        &self,
        kept: Kept,
        writes: Vec<Write>,
        payloads: Vec<Vec<u8>>,
    ) -> Result<Swapped, StoreFault> {
        let swap = async {
            match &self.backend {
                Backend::Embedded(store) => store.swap(writes, payloads).await,
                Backend::Redis(store) => store.swap(&writes, &payloads, kept).await,
            }
        };
        self.observed(Operation::Swap, SWAP_DEADLINE, swap).await
    }

    /// Lists at most `limit` events behind a place, as soon as there are any, or none after `wait` or
    /// earlier; without a place, tells at once where the events end. A failure comes after a pause.
    /// Cancel safe.
    ///
    /// Whoever follows a server costs it one question in this time, and from then on everything else
    /// is asked of that server alone.
    pub async fn follow(
        &self,
        place: Option<Place>,
        limit: u32,
        wait: Duration,
    ) -> Result<Events, StoreFault> {
        match &self.backend {
            Backend::Embedded(store) => {
                let pause = tokio::time::sleep(PERIOD.min(wait));
                if let Some(place) = place {
                    pause.await;
                    return self.events_since(place, limit).await;
                }
                let end = self.observed(Operation::Events, READ_DEADLINE, store.end());
                let end = end.await;
                if end.is_err() {
                    pause.await;
                }
                end
            }
            // How long it waited for news says nothing about the server.
            Backend::Redis(store) => {
                let followed = store.follow(place, limit, wait).await;
                if followed.is_err() {
                    (self.observer)(Operation::Events, Duration::ZERO, false);
                }
                followed
            }
        }
    }

    /// Lists at most `limit` events behind a place. Cancel safe.
    ///
    /// Costs one small read where nothing happened.
    pub async fn events_since(&self, place: Place, limit: u32) -> Result<Events, StoreFault> {
        let events = async {
            match &self.backend {
                Backend::Embedded(store) => store.events_since(place, limit).await,
                Backend::Redis(store) => store.events_since(place, limit).await,
            }
        };
        self.observed(Operation::Events, READ_DEADLINE, events)
            .await
    }

    /// Lists at most `limit` records whose keys begin with `prefix`, in the order of their keys,
    /// from the first one after the key `after`. Cancel safe.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreFault> {
        let list = async {
            match &self.backend {
                Backend::Embedded(store) => store.list(prefix, after, limit).await,
                Backend::Redis(store) => store.list(prefix, after, limit).await,
            }
        };
        self.observed(Operation::List, READ_DEADLINE, list).await
    }

    /// Every record whose key begins with `prefix`, in pages.
    pub fn pages(&self, prefix: &str) -> Pages<'_> {
        Pages {
            store: self,
            prefix: prefix.to_owned(),
            after: None,
        }
    }

    async fn observed<T>(
        &self,
        operation: Operation,
        deadline: Duration,
        outcome: impl Future<Output = Result<T, StoreFault>>,
    ) -> Result<T, StoreFault> {
        let began = self.clock.monotonic();
        let outcome = tokio::time::timeout(deadline, outcome)
            .await
            .unwrap_or_else(|_| Err(StoreFault::deadline(deadline)));
        let took = self.clock.monotonic().since(began);
        (self.observer)(operation, took, outcome.is_ok());
        outcome
    }
}

/// Records in the order of their keys, some at a time. What is written meanwhile may be missing.
pub struct Pages<'s> {
    store: &'s Store,
    prefix: String,
    after: Option<String>,
}

impl Pages<'_> {
    /// The next records; `None` after the last. Cancel safe.
    pub async fn next(&mut self) -> Result<Option<Vec<Listed>>, StoreFault> {
        let after = self.after.as_deref();
        let page = self.store.list(&self.prefix, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(None);
        };
        self.after = Some(last.key.clone());
        Ok(Some(page))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let store: &dyn std::fmt::Debug = match &self.backend {
            Backend::Embedded(store) => store,
            Backend::Redis(store) => &**store,
        };
        f.debug_tuple("Store").field(store).finish()
    }
}
