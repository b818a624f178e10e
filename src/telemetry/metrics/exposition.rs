//! The sums over all shards, as Prometheus reads them.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{MetricFamily, MetricType};
use prometheus::{Registry, TextEncoder};

use super::cells::{Histogram, Tally};
use super::families::{counter, counters, family, gauge, histogram, seconds, whole};
use super::labels::{
    AddressState, Cache, CacheResult, ConnectionError, IssuerFetch, Listener, Outcome, Refresh,
    Reload, SessionTouch, SignIn, StatusClass, StoreOperation,
};
use super::series::NO_STORE;
use super::{Metrics, Series};
use crate::rules::decision::{Fault, Reject};

/// Registers gatelet's series, and the process's where the machine tells of it.
pub(super) fn register(registry: &Registry, series: Arc<Series>) -> prometheus::Result<()> {
    registry.register(Box::new(Sums(series)))?;
    #[cfg(target_os = "linux")]
    registry.register(Box::new(super::process::Process::of_this()))?;
    Ok(())
}

impl Metrics {
    /// Every series in Prometheus' text format, version 0.0.4.
    ///
    /// Takes no lock that a request takes. Meant for one scrape at a time, beside the workers:
    /// reading the process's numbers asks the kernel.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Fails on a family without a sample alone, and the registry has left those out.
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics cannot be written");
        }
        text
    }
}

/// Sums the shards when it is asked to.
struct Sums(Arc<Series>);

impl Collector for Sums {
    fn desc(&self) -> Vec<&Desc> {
        // Undescribed: routes and upstreams come and go, and no other collector shares a name.
        Vec::new()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::with_capacity(20);
        families.extend(self.routes());
        families.extend(self.upstreams());
        families.extend(self.workers());
        families.extend(self.store());
        families.extend(self.process());
        families
    }
}

impl Sums {
    fn routes(&self) -> [MetricFamily; 3] {
        let (mut requests, mut decisions, mut durations) = (Vec::new(), Vec::new(), Vec::new());
        for (name, route) in snapshot(&self.0.routes) {
            let shards = || route.0.iter();
            let sums = Tally::sum(shards().map(|shard| &shard.requests));
            requests.extend(
                sums.iter().zip(StatusClass::ALL).map(|(sum, of)| {
                    counter(&[("route", &name), ("status_class", of.name())], *sum)
                }),
            );
            let sums = Tally::sum(shards().map(|shard| &shard.decisions));
            decisions.extend(
                sums.iter()
                    .zip(Outcome::ALL)
                    .map(|(sum, of)| counter(&[("route", &name), ("outcome", of.name())], *sum)),
            );
            let reading = Histogram::read(shards().map(|shard| &shard.durations));
            durations.push(histogram(&[("route", &name)], &reading));
        }
        [
            family(
                "gatelet_requests_total",
                "Requests answered, by route and the first digit of the status.",
                MetricType::COUNTER,
                requests,
            ),
            family(
                "gatelet_decisions_total",
                "What gatelet made of requests, whatever the upstream then said.",
                MetricType::COUNTER,
                decisions,
            ),
            family(
                "gatelet_request_duration_seconds",
                "Time from a request's head to the end of its answer.",
                MetricType::HISTOGRAM,
                durations,
            ),
        ]
    }

    fn upstreams(&self) -> [MetricFamily; 2] {
        let (mut durations, mut addresses) = (Vec::new(), Vec::new());
        for (name, upstream) in snapshot(&self.0.upstreams) {
            let shards = upstream.shards.iter();
            let reading = Histogram::read(shards.map(|shard| &shard.durations));
            durations.push(histogram(&[("upstream", &name)], &reading));
            let cells = upstream.addresses.iter();
            addresses.extend(cells.zip(AddressState::ALL).map(|(cell, state)| {
                let count = whole(cell.load(Ordering::Relaxed));
                gauge(&[("upstream", &name), ("state", state.name())], count)
            }));
        }
        [
            family(
                "gatelet_upstream_duration_seconds",
                "Time the upstream took for the head of an answer.",
                MetricType::HISTOGRAM,
                durations,
            ),
            family(
                "gatelet_upstream_addresses",
                "Addresses that an upstream has now, by how they stand.",
                MetricType::GAUGE,
                addresses,
            ),
        ]
    }

    fn workers(&self) -> [MetricFamily; 9] {
        let shards = || self.0.workers.iter();
        let rejects = Tally::sum(shards().map(|shard| &shard.rejects));
        let faults = Tally::sum(shards().map(|shard| &shard.faults));
        let overheads = Histogram::read(shards().map(|shard| &shard.overheads));
        let caches = Cache::ALL.into_iter().flat_map(|cache| {
            let sums = Tally::sum(shards().map(|shard| &shard.caches[cache as usize]));
            sums.into_iter()
                .zip(CacheResult::ALL)
                .map(move |(sum, of)| {
                    counter(&[("cache", cache.name()), ("result", of.name())], sum)
                })
        });
        // Closed ones are summed first: opened ones only grow meanwhile, so none is negative.
        let closed = Tally::sum(shards().map(|shard| &shard.closed));
        let opened = Tally::sum(shards().map(|shard| &shard.opened));
        let connections = Listener::ALL.map(|listener| {
            let open = opened[listener as usize].saturating_sub(closed[listener as usize]);
            gauge(&[("listener", listener.name())], whole(open))
        });
        let errors = Tally::sum(shards().map(|shard| &shard.connection_errors));
        let sign_ins = Tally::sum(shards().map(|shard| &shard.sign_ins));
        let refreshes = Tally::sum(shards().map(|shard| &shard.refreshes));
        let mut touches = Tally::sum(shards().map(|shard| &shard.session_touches));
        touches[SessionTouch::Written as usize] +=
            self.0.session_touches_written.load(Ordering::Relaxed);
        [
            family(
                "gatelet_rejects_total",
                "Requests turned away, by the code of the answer.",
                MetricType::COUNTER,
                counters("code", Reject::CODES.into_iter().zip(rejects)),
            ),
            family(
                "gatelet_faults_total",
                "Requests failed by a breakage, by the code of the answer.",
                MetricType::COUNTER,
                counters("code", Fault::CODES.into_iter().zip(faults)),
            ),
            family(
                "gatelet_overhead_seconds",
                "Time from a request's head until it was sent to the upstream, or answered by gatelet.",
                MetricType::HISTOGRAM,
                vec![histogram(&[], &overheads)],
            ),
            family(
                "gatelet_cache_requests_total",
                "Looks into what is remembered of the store.",
                MetricType::COUNTER,
                caches.collect(),
            ),
            family(
                "gatelet_connections",
                "Connections open now.",
                MetricType::GAUGE,
                connections.into(),
            ),
            family(
                "gatelet_connection_errors_total",
                "Connections that ended badly or were turned away.",
                MetricType::COUNTER,
                counters(
                    "reason",
                    ConnectionError::ALL
                        .map(ConnectionError::name)
                        .into_iter()
                        .zip(errors),
                ),
            ),
            family(
                "gatelet_sign_ins_total",
                "Sign-ins with a wallet, by what became of them.",
                MetricType::COUNTER,
                counters(
                    "outcome",
                    SignIn::ALL.map(SignIn::name).into_iter().zip(sign_ins),
                ),
            ),
            family(
                "gatelet_refreshes_total",
                "Refresh tokens presented, by what became of them.",
                MetricType::COUNTER,
                counters(
                    "outcome",
                    Refresh::ALL.map(Refresh::name).into_iter().zip(refreshes),
                ),
            ),
            family(
                "gatelet_session_touches_total",
                "Sessions prolonged by their use, by what it cost the store.",
                MetricType::COUNTER,
                counters(
                    "result",
                    SessionTouch::ALL
                        .map(SessionTouch::name)
                        .into_iter()
                        .zip(touches),
                ),
            ),
        ]
    }

    fn store(&self) -> [MetricFamily; 4] {
        let operations = StoreOperation::ALL.map(|operation| {
            let cell = &self.0.store.operations[operation as usize];
            let reading = Histogram::read([cell].into_iter());
            histogram(&[("operation", operation.name())], &reading)
        });
        let connected = match self.0.store.connected.load(Ordering::Relaxed) {
            NO_STORE => Vec::new(),
            connected => vec![gauge(&[], f64::from(connected))],
        };
        let lag = self.0.store.event_lag.load(Ordering::Relaxed);
        [
            family(
                "gatelet_store_operation_duration_seconds",
                "Time the store took for an operation, failed ones included.",
                MetricType::HISTOGRAM,
                operations.into(),
            ),
            family(
                "gatelet_store_errors_total",
                "Operations of the store that failed.",
                MetricType::COUNTER,
                vec![counter(&[], self.0.store.errors.load(Ordering::Relaxed))],
            ),
            family(
                "gatelet_store_connected",
                "Whether the store answers (1) or not (0).",
                MetricType::GAUGE,
                connected,
            ),
            family(
                "gatelet_event_lag_seconds",
                "Age of the newest event of the store when it was applied here.",
                MetricType::GAUGE,
                vec![gauge(&[], seconds(lag))],
            ),
        ]
    }

    fn process(&self) -> [MetricFamily; 4] {
        let reloads = Tally::sum([&self.0.reloads].into_iter());
        let fetches = Tally::sum([&self.0.issuer_fetches].into_iter());
        let dropped = self.0.log_lines_dropped.load(Ordering::Relaxed);
        [
            family(
                "gatelet_config_reloads_total",
                "Changed configurations, by what became of them.",
                MetricType::COUNTER,
                counters(
                    "outcome",
                    Reload::ALL.map(Reload::name).into_iter().zip(reloads),
                ),
            ),
            family(
                "gatelet_issuer_fetches_total",
                "Fetches of the keys that trusted issuers publish, by what became of them.",
                MetricType::COUNTER,
                counters(
                    "outcome",
                    IssuerFetch::ALL
                        .map(IssuerFetch::name)
                        .into_iter()
                        .zip(fetches),
                ),
            ),
            family(
                "gatelet_log_lines_dropped_total",
                "Lines of the access log that were not written.",
                MetricType::COUNTER,
                vec![counter(&[], dropped)],
            ),
            family(
                "gatelet_build_info",
                "Always 1; the labels say what runs.",
                MetricType::GAUGE,
                vec![gauge(&[("version", env!("CARGO_PKG_VERSION"))], 1.0)],
            ),
        ]
    }
}

/// The series known now. Copied out, so that a scrape holds no lock while it writes.
fn snapshot<T>(all: &Mutex<BTreeMap<Box<str>, Arc<T>>>) -> Vec<(Box<str>, Arc<T>)> {
    let all = all.lock().unwrap_or_else(PoisonError::into_inner);
    all.iter()
        .map(|(name, series)| (name.clone(), Arc::clone(series)))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use super::*;

    /// A family's type, and its samples with their values.
    type Family<'a> = (&'a str, Vec<(&'a str, f64)>);

    /// What a scrape says, checked as Prometheus' parser checks it.
    fn parse(text: &str) -> BTreeMap<&str, Family<'_>> {
        let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut lines = text.lines();
        let mut current = "";
        while let Some(line) = lines.next() {
            if let Some(help) = line.strip_prefix("# HELP ") {
                let (name, help) = help.split_once(' ').unwrap();
                assert!(!help.is_empty() && !families.contains_key(name), "{line}");
                let kind = lines.next().unwrap().strip_prefix("# TYPE ").unwrap();
                let (typed, kind) = kind.split_once(' ').unwrap();
                assert_eq!(name, typed);
                families.insert(name, (kind, Vec::new()));
                current = name;
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap();
            assert!(seen.insert(series), "twice: {series}");
            let name = series.split('{').next().unwrap();
            let (kind, samples) = families.get_mut(current).unwrap();
            let suffix = name.strip_prefix(current).unwrap();
            if *kind == "histogram" {
                assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}");
            } else {
                assert_eq!(suffix, "", "{line}");
            }
            assert_eq!(*kind == "counter", name.ends_with("_total"), "{line}");
            samples.push((series, value.parse().unwrap()));
        }
        families
    }

    fn busy() -> Metrics {
        let metrics = Metrics::new(2);
        metrics.store_connected(true);
        for name in ["/api/v1", "a \"quoted\" name", "a\nb\\c"] {
            let route = metrics.route(name);
            for (worker, millis) in [(0, 0), (1, 3), (0, 900), (1, 100_000)] {
                route.shard(worker).duration(Duration::from_millis(millis));
            }
        }
        metrics.upstream("api");
        metrics
    }

    #[test]
    fn a_scrape_is_well_formed_and_names_every_series() {
        let text = busy().text();
        let families = parse(&text);
        let ours: Vec<&str> = families
            .keys()
            .copied()
            .filter(|name| name.starts_with("gatelet_"))
            .collect();
        assert_eq!(
            ours,
            [
                "gatelet_build_info",
                "gatelet_cache_requests_total",
                "gatelet_config_reloads_total",
                "gatelet_connection_errors_total",
                "gatelet_connections",
                "gatelet_decisions_total",
                "gatelet_event_lag_seconds",
                "gatelet_faults_total",
                "gatelet_issuer_fetches_total",
                "gatelet_log_lines_dropped_total",
                "gatelet_overhead_seconds",
                "gatelet_refreshes_total",
                "gatelet_rejects_total",
                "gatelet_request_duration_seconds",
                "gatelet_requests_total",
                "gatelet_session_touches_total",
                "gatelet_sign_ins_total",
                "gatelet_store_connected",
                "gatelet_store_errors_total",
                "gatelet_store_operation_duration_seconds",
                "gatelet_upstream_addresses",
                "gatelet_upstream_duration_seconds",
            ]
        );
        #[cfg(target_os = "linux")]
        assert!(families.contains_key("process_resident_memory_bytes"));
    }

    #[test]
    fn series_are_there_before_anything_happened() {
        let text = busy().text();
        for code in Reject::CODES {
            assert!(text.contains(&format!("gatelet_rejects_total{{code=\"{code}\"}} 0\n")));
        }
        for code in Fault::CODES {
            assert!(text.contains(&format!("gatelet_faults_total{{code=\"{code}\"}} 0\n")));
        }
        for class in StatusClass::ALL {
            let labels = format!("route=\"none\",status_class=\"{}\"", class.name());
            assert!(text.contains(&format!("gatelet_requests_total{{{labels}}} 0\n")));
        }
    }

    #[test]
    fn buckets_rise_to_the_count() {
        let text = busy().text();
        for (name, (kind, samples)) in parse(&text) {
            if kind != "histogram" {
                continue;
            }
            let mut latest = 0.0;
            let mut infinite = None;
            for (series, value) in samples {
                if series.contains("_bucket{") {
                    assert!(value >= latest, "{series}");
                    latest = value;
                    infinite = series.contains("le=\"+Inf\"").then_some(value);
                } else if series.starts_with(&format!("{name}_count")) {
                    assert_eq!(Some(value), infinite, "{series}");
                    latest = 0.0;
                }
            }
        }
        assert!(text.contains("gatelet_request_duration_seconds_sum{route=\"/api/v1\"} 100.903\n"));
    }
}
