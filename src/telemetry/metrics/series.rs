//! What is counted, each in shards that one worker has for itself.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use super::cells::{Histogram, Tally};
use super::labels::{
    AddressState, Cache, CacheResult, ConnectionError, Listener, Outcome, Refresh, SessionTouch,
    SignIn, StatusClass, StoreOperation,
};
use crate::rules::decision::{Fault, Reject};

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

/// Bounds for what callers wait for: 1 ms to 60 s.
const WAITS: [u64; 15] = [
    MILLISECOND,
    2_500 * MICROSECOND,
    5 * MILLISECOND,
    10 * MILLISECOND,
    25 * MILLISECOND,
    50 * MILLISECOND,
    100 * MILLISECOND,
    250 * MILLISECOND,
    500 * MILLISECOND,
    SECOND,
    2_500 * MILLISECOND,
    5 * SECOND,
    10 * SECOND,
    30 * SECOND,
    60 * SECOND,
];

/// Bounds for gatelet's own share of that: 10 µs to 50 ms.
const OVERHEADS: [u64; 12] = [
    10 * MICROSECOND,
    25 * MICROSECOND,
    50 * MICROSECOND,
    100 * MICROSECOND,
    250 * MICROSECOND,
    500 * MICROSECOND,
    MILLISECOND,
    2_500 * MICROSECOND,
    5 * MILLISECOND,
    10 * MILLISECOND,
    25 * MILLISECOND,
    50 * MILLISECOND,
];

/// Bounds for the store, from a page in memory to a disk in trouble: 50 µs to 5 s.
const STORE_TIMES: [u64; 12] = [
    50 * MICROSECOND,
    100 * MICROSECOND,
    250 * MICROSECOND,
    MILLISECOND,
    2_500 * MICROSECOND,
    5 * MILLISECOND,
    10 * MILLISECOND,
    25 * MILLISECOND,
    100 * MILLISECOND,
    500 * MILLISECOND,
    SECOND,
    5 * SECOND,
];

/// A shard for each worker, and one for the thread that accepts and serves telemetry: each has one
/// writer. Aligned shards: two of them never write one cache line.
#[derive(Debug)]
pub(super) struct Shards<T>(Box<[T]>);

impl<T> Shards<T> {
    pub(super) fn new(shards: usize, shard: impl Fn() -> T) -> Self {
        Self((0..shards).map(|_| shard()).collect())
    }

    /// The shard of the worker; any number beyond them is the other thread's.
    pub(super) fn of(&self, worker: usize) -> &T {
        &self.0[worker.min(self.0.len() - 1)]
    }

    pub(super) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }
}

/// The series of one route.
#[derive(Debug)]
pub struct RouteSeries(pub(super) Shards<RouteShard>);

impl RouteSeries {
    pub(super) fn new(shards: usize) -> Self {
        Self(Shards::new(shards, || RouteShard {
            requests: Tally::default(),
            decisions: Tally::default(),
            durations: Histogram::new(&WAITS),
        }))
    }

    /// Where the worker counts.
    pub fn shard(&self, worker: usize) -> &RouteShard {
        self.0.of(worker)
    }
}

/// One worker's part of a route's series.
#[derive(Debug)]
#[repr(align(128))]
pub struct RouteShard {
    pub(super) requests: Tally<{ StatusClass::ALL.len() }>,
    pub(super) decisions: Tally<{ Outcome::ALL.len() }>,
    pub(super) durations: Histogram<{ WAITS.len() }>,
}

impl RouteShard {
    /// Counts a request that was answered with a status of this class.
    pub fn request(&self, class: StatusClass) {
        self.requests.add(class as usize);
    }

    /// Counts what gatelet made of a request.
    pub fn decision(&self, outcome: Outcome) {
        self.decisions.add(outcome as usize);
    }

    /// Counts how long a request took, from its head to the end of its answer.
    pub fn duration(&self, duration: Duration) {
        self.durations.observe(duration);
    }
}

/// The series of one upstream.
#[derive(Debug)]
pub struct UpstreamSeries {
    pub(super) shards: Shards<UpstreamShard>,
    /// How many addresses are in each state.
    pub(super) addresses: [AtomicU64; AddressState::ALL.len()],
}

impl UpstreamSeries {
    pub(super) fn new(shards: usize) -> Self {
        Self {
            shards: Shards::new(shards, || UpstreamShard {
                durations: Histogram::new(&WAITS),
            }),
            addresses: AddressState::ALL.map(|_| AtomicU64::new(0)),
        }
    }

    /// Where the worker counts.
    pub fn shard(&self, worker: usize) -> &UpstreamShard {
        self.shards.of(worker)
    }

    /// Says how many addresses there are in each state, in the order of the states.
    pub fn addresses(&self, tally: [u64; AddressState::ALL.len()]) {
        for (cell, count) in self.addresses.iter().zip(tally) {
            cell.store(count, Ordering::Relaxed);
        }
    }
}

/// One worker's part of an upstream's series.
#[derive(Debug)]
#[repr(align(128))]
pub struct UpstreamShard {
    pub(super) durations: Histogram<{ WAITS.len() }>,
}

impl UpstreamShard {
    /// Counts how long the upstream took for the head of an answer.
    pub fn duration(&self, duration: Duration) {
        self.durations.observe(duration);
    }
}

/// One worker's part of the series that have no route.
#[derive(Debug)]
#[repr(align(128))]
pub struct WorkerShard {
    pub(super) rejects: Tally<{ Reject::CODES.len() }>,
    pub(super) faults: Tally<{ Fault::CODES.len() }>,
    pub(super) overheads: Histogram<{ OVERHEADS.len() }>,
    pub(super) caches: [Tally<{ CacheResult::ALL.len() }>; Cache::ALL.len()],
    pub(super) opened: Tally<{ Listener::ALL.len() }>,
    pub(super) closed: Tally<{ Listener::ALL.len() }>,
    pub(super) connection_errors: Tally<{ ConnectionError::ALL.len() }>,
    pub(super) session_touches: Tally<{ SessionTouch::ALL.len() }>,
    pub(super) sign_ins: Tally<{ SignIn::ALL.len() }>,
    pub(super) refreshes: Tally<{ Refresh::ALL.len() }>,
}

impl WorkerShard {
    pub(super) fn new() -> Self {
        Self {
            rejects: Tally::default(),
            faults: Tally::default(),
            overheads: Histogram::new(&OVERHEADS),
            caches: Cache::ALL.map(|_| Tally::default()),
            opened: Tally::default(),
            closed: Tally::default(),
            connection_errors: Tally::default(),
            session_touches: Tally::default(),
            sign_ins: Tally::default(),
            refreshes: Tally::default(),
        }
    }

    /// Counts a deliberate no.
    pub fn reject(&self, reject: &Reject) {
        self.rejects.add(reject.index());
    }

    /// Counts a breakage.
    pub fn fault(&self, fault: Fault) {
        self.faults.add(fault.index());
    }

    /// Counts the time that one request spent in gatelet itself.
    pub fn overhead(&self, duration: Duration) {
        self.overheads.observe(duration);
    }

    /// Counts a look into a cache.
    pub fn cache(&self, cache: Cache, result: CacheResult) {
        self.caches[cache as usize].add(result as usize);
    }

    /// Counts what became of a sign-in.
    pub fn sign_in(&self, outcome: SignIn) {
        self.sign_ins.add(outcome as usize);
    }

    /// Counts what became of a refresh token.
    pub fn refresh(&self, outcome: Refresh) {
        self.refreshes.add(outcome as usize);
    }

    /// Counts a session's prolongation that costs no write of its own.
    pub fn session_touch_coalesced(&self) {
        self.session_touches.add(SessionTouch::Coalesced as usize);
    }

    /// Counts a connection that ended badly, or was turned away.
    pub fn connection_error(&self, reason: ConnectionError) {
        self.connection_errors.add(reason as usize);
    }
}

/// What [`StoreSeries::connected`] holds until the store was first heard of.
pub(super) const NO_STORE: u8 = u8::MAX;

/// The series of the store, which works beside the workers.
#[derive(Debug)]
pub(super) struct StoreSeries {
    pub(super) operations: [Histogram<{ STORE_TIMES.len() }>; StoreOperation::ALL.len()],
    pub(super) errors: AtomicU64,
    pub(super) connected: AtomicU8,
    pub(super) event_lag: AtomicU64,
}

impl StoreSeries {
    pub(super) fn new() -> Self {
        Self {
            operations: StoreOperation::ALL.map(|_| Histogram::new(&STORE_TIMES)),
            errors: AtomicU64::new(0),
            connected: AtomicU8::new(NO_STORE),
            event_lag: AtomicU64::new(0),
        }
    }
}
