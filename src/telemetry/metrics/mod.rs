//! Counting what happens.
//!
//! Handles are resolved when a snapshot is built; a request then costs a few additions, each in a
//! shard that its worker has for itself: no lock, no look-up, no allocation. A scrape sums the
//! shards. How the sums are written is `exposition`'s.

mod cells;
mod exposition;
mod families;
mod labels;
#[cfg(target_os = "linux")]
mod process;
mod series;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::Registry;

use cells::{Tally, nanoseconds};
pub use labels::{
    AddressState, Cache, CacheResult, ConnectionError, IssuerFetch, Listener, Outcome, Refresh,
    Reload, SessionTouch, SignIn, StatusClass, StoreOperation,
};
pub use series::{RouteSeries, RouteShard, UpstreamSeries, UpstreamShard, WorkerShard};
use series::{Shards, StoreSeries};

/// The route label of requests that matched no route.
pub const UNMATCHED: &str = "none";

/// The route of the requests that gatelet answers itself, below `auth.prefix`.
pub const OWN_ROUTES: &str = "auth";

/// What the thread that accepts, and serves telemetry, says where a worker says its number.
pub const NO_WORKER: usize = usize::MAX;

/// The metrics of one running sidecar. Clones count into the same series.
#[derive(Clone, Debug)]
pub struct Metrics {
    series: Arc<Series>,
    registry: Registry,
}

/// Everything counted, by who writes it.
#[derive(Debug)]
struct Series {
    workers: Shards<WorkerShard>,
    // By name, and kept when a reload drops the name: a counter must not fall back to zero.
    routes: Mutex<BTreeMap<Box<str>, Arc<RouteSeries>>>,
    upstreams: Mutex<BTreeMap<Box<str>, Arc<UpstreamSeries>>>,
    store: StoreSeries,
    reloads: Tally<{ Reload::ALL.len() }>,
    issuer_fetches: Tally<{ IssuerFetch::ALL.len() }>,
    log_lines_dropped: AtomicU64,
    session_touches_written: AtomicU64,
}

impl Metrics {
    /// Metrics that have counted nothing, for this many workers.
    #[expect(
        clippy::missing_panics_doc,
        reason = "registering in an empty registry cannot fail"
    )]
    pub fn new(workers: usize) -> Self {
        let series = Arc::new(Series {
            workers: Shards::new(workers + 1, WorkerShard::new),
            routes: Mutex::default(),
            upstreams: Mutex::default(),
            store: StoreSeries::new(),
            reloads: Tally::default(),
            issuer_fetches: Tally::default(),
            log_lines_dropped: AtomicU64::new(0),
            session_touches_written: AtomicU64::new(0),
        });
        let registry = Registry::new();
        exposition::register(&registry, Arc::clone(&series))
            .expect("the registry is new, and the collectors share no name");
        let metrics = Self { series, registry };
        metrics.unmatched();
        metrics
    }

    /// The series of the route of this name: always the same ones, also over reloads.
    pub fn route(&self, name: &str) -> Arc<RouteSeries> {
        let shards = self.series.workers.iter().len();
        named(&self.series.routes, name, || RouteSeries::new(shards))
    }

    /// The series of requests that matched no route.
    pub fn unmatched(&self) -> Arc<RouteSeries> {
        self.route(UNMATCHED)
    }

    /// The series of the upstream of this name: always the same ones, also over reloads.
    pub fn upstream(&self, name: &str) -> Arc<UpstreamSeries> {
        let shards = self.series.workers.iter().len();
        named(&self.series.upstreams, name, || UpstreamSeries::new(shards))
    }

    /// Where the worker, or the thread that is [`NO_WORKER`], counts what has no route.
    ///
    /// Each number is one thread's: counting from two would lose counts.
    pub fn worker(&self, worker: usize) -> &WorkerShard {
        self.series.workers.of(worker)
    }

    /// Counts a connection as open for as long as the returned value lives.
    pub fn connection(&self, worker: usize, listener: Listener) -> OpenConnection {
        self.worker(worker).opened.add(listener as usize);
        OpenConnection {
            series: Arc::clone(&self.series),
            worker,
            listener,
        }
    }

    /// Counts how long the store took, whether it then succeeded or not.
    pub fn store_operation(&self, operation: StoreOperation, duration: Duration) {
        self.series.store.operations[operation as usize].observe_shared(duration);
    }

    /// Counts a failure of the store.
    pub fn store_error(&self) {
        self.series.store.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Says whether the store answers.
    ///
    /// Until this is first called there is no such series: where no store is configured, a 0 would
    /// read as an outage.
    pub fn store_connected(&self, connected: bool) {
        self.series
            .store
            .connected
            .store(u8::from(connected), Ordering::Relaxed);
    }

    /// Says how old the newest event was when it was applied, or zero when there is none to apply.
    pub fn event_lag(&self, lag: Duration) {
        self.series
            .store
            .event_lag
            .store(nanoseconds(lag), Ordering::Relaxed);
    }

    /// Counts a changed configuration.
    pub fn reload(&self, outcome: Reload) {
        self.series.reloads.add(outcome as usize);
    }

    /// Counts a fetch of a trusted issuer's keys.
    pub fn issuer_fetch(&self, outcome: IssuerFetch) {
        self.series.issuer_fetches.add(outcome as usize);
    }

    /// Counts sessions whose prolongation was written to the store.
    pub fn session_touches_written(&self, sessions: usize) {
        self.series
            .session_touches_written
            .fetch_add(sessions as u64, Ordering::Relaxed);
    }

    /// Counts lines of the access log that were not written.
    pub fn log_lines_dropped(&self, lines: u64) {
        self.series
            .log_lines_dropped
            .fetch_add(lines, Ordering::Relaxed);
    }
}

/// An open connection, counted as such until this is dropped.
#[derive(Debug)]
pub struct OpenConnection {
    series: Arc<Series>,
    worker: usize,
    listener: Listener,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let shard = self.series.workers.of(self.worker);
        shard.closed.add(self.listener as usize);
    }
}

fn named<T>(
    all: &Mutex<BTreeMap<Box<str>, Arc<T>>>,
    name: &str,
    new: impl FnOnce() -> T,
) -> Arc<T> {
    // Nothing panics while the lock is held.
    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = all.get(name) {
        return Arc::clone(known);
    }
    let fresh = Arc::new(new());
    all.insert(name.into(), Arc::clone(&fresh));
    fresh
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::rules::decision::{Fault, Reject};

    /// The value of one sample of a scrape, by its name and labels as they are written.
    fn sample(metrics: &Metrics, series: &str) -> Option<f64> {
        let text = metrics.text();
        let line = text.lines().find(|line| {
            line.rsplit_once(' ')
                .is_some_and(|(name, _)| name == series)
        })?;
        line.rsplit_once(' ')?.1.parse().ok()
    }

    #[test]
    #[expect(clippy::float_cmp, reason = "counters are exact")]
    fn nothing_is_lost_between_workers() {
        let metrics = Metrics::new(3);
        let route = metrics.route("r");
        thread::scope(|scope| {
            for worker in [0, 1, 2, NO_WORKER] {
                let (metrics, route) = (&metrics, &route);
                scope.spawn(move || {
                    for _ in 0..5_000 {
                        route.shard(worker).request(StatusClass::Success);
                        route.shard(worker).decision(Outcome::Allow);
                        route.shard(worker).duration(Duration::from_micros(1_500));
                        metrics.worker(worker).reject(&Reject::ApiKeyInvalid);
                    }
                });
            }
        });
        let value = |series| sample(&metrics, series).unwrap();
        assert_eq!(
            value(r#"gatelet_requests_total{route="r",status_class="2xx"}"#),
            20_000.0
        );
        assert_eq!(
            value(r#"gatelet_decisions_total{route="r",outcome="allow"}"#),
            20_000.0
        );
        assert_eq!(
            value(r#"gatelet_rejects_total{code="api_key_invalid"}"#),
            20_000.0
        );
        let histogram = |part: &str| {
            let series = format!("gatelet_request_duration_seconds{part}");
            sample(&metrics, &series).unwrap()
        };
        assert_eq!(histogram(r#"_bucket{route="r",le="0.001"}"#), 0.0);
        assert_eq!(histogram(r#"_bucket{route="r",le="0.0025"}"#), 20_000.0);
        assert_eq!(histogram(r#"_count{route="r"}"#), 20_000.0);
        assert_eq!(histogram(r#"_sum{route="r"}"#), 30.0);
    }

    #[test]
    fn a_name_keeps_its_series() {
        let metrics = Metrics::new(1);
        assert!(Arc::ptr_eq(&metrics.route("a"), &metrics.route("a")));
        assert!(!Arc::ptr_eq(&metrics.route("a"), &metrics.route("b")));
        assert!(Arc::ptr_eq(&metrics.upstream("a"), &metrics.upstream("a")));
    }

    #[test]
    fn open_connections_are_counted_while_they_live() {
        let metrics = Metrics::new(2);
        let open = |m: &Metrics| sample(m, r#"gatelet_connections{listener="proxy"}"#);
        assert_eq!(open(&metrics), Some(0.0));
        let first = metrics.connection(0, Listener::Proxy);
        let second = metrics.connection(1, Listener::Proxy);
        assert_eq!(open(&metrics), Some(2.0));
        drop(first);
        assert_eq!(open(&metrics), Some(1.0));
        drop(second);
        assert_eq!(open(&metrics), Some(0.0));
    }

    #[test]
    fn each_happening_moves_its_own_series() {
        let metrics = Metrics::new(1);
        let worker = metrics.worker(0);
        worker.fault(Fault::Overloaded);
        worker.overhead(Duration::from_micros(20));
        worker.cache(Cache::ApiKey, CacheResult::Negative);
        worker.connection_error(ConnectionError::Io);
        metrics
            .upstream("api")
            .shard(0)
            .duration(Duration::from_secs(90));
        metrics.store_operation(StoreOperation::Swap, Duration::from_millis(3));
        metrics.store_error();
        metrics.event_lag(Duration::from_millis(250));
        metrics.reload(Reload::Rejected);
        metrics.issuer_fetch(IssuerFetch::Failed);
        metrics.log_lines_dropped(3);
        metrics.unmatched().shard(0).decision(Outcome::Deny);
        for (series, expected) in [
            (r#"gatelet_faults_total{code="overloaded"}"#, 1.0),
            (r#"gatelet_overhead_seconds_bucket{le="0.00001"}"#, 0.0),
            (r#"gatelet_overhead_seconds_bucket{le="0.000025"}"#, 1.0),
            (
                r#"gatelet_cache_requests_total{cache="api_key",result="negative"}"#,
                1.0,
            ),
            (r#"gatelet_connection_errors_total{reason="io"}"#, 1.0),
            (
                r#"gatelet_upstream_duration_seconds_bucket{upstream="api",le="60"}"#,
                0.0,
            ),
            (
                r#"gatelet_upstream_duration_seconds_bucket{upstream="api",le="+Inf"}"#,
                1.0,
            ),
            (
                r#"gatelet_store_operation_duration_seconds_count{operation="swap"}"#,
                1.0,
            ),
            ("gatelet_store_errors_total", 1.0),
            ("gatelet_event_lag_seconds", 0.25),
            (r#"gatelet_config_reloads_total{outcome="rejected"}"#, 1.0),
            (r#"gatelet_issuer_fetches_total{outcome="failed"}"#, 1.0),
            ("gatelet_log_lines_dropped_total", 3.0),
            (
                r#"gatelet_decisions_total{route="none",outcome="deny"}"#,
                1.0,
            ),
        ] {
            assert_eq!(sample(&metrics, series), Some(expected), "{series}");
        }
    }

    #[test]
    fn a_store_that_is_not_there_is_not_down() {
        let metrics = Metrics::new(1);
        assert_eq!(sample(&metrics, "gatelet_store_connected"), None);
        metrics.store_connected(true);
        assert_eq!(sample(&metrics, "gatelet_store_connected"), Some(1.0));
        metrics.store_connected(false);
        assert_eq!(sample(&metrics, "gatelet_store_connected"), Some(0.0));
    }
}
