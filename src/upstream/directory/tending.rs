//! The tasks that keep a directory true: names, trials and health checks.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use super::{Directory, Found};
use crate::platform::Platform;
use crate::telemetry::metrics::Metrics;
use crate::upstream::check::check;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::stream::Socket;
use crate::upstream::{Config, HealthCheck};

/// How long after a look-up the next one may begin, if a failure is the reason for it.
const SPACING: Duration = Duration::from_secs(1);

/// How long after that it begins in any case. The machine's resolver does not say how long an answer
/// holds; five seconds is what name servers inside a cluster commonly say.
const REST: Duration = Duration::from_secs(4);

/// A directory with the tasks that tend it. Dropped, they end, and the directory says for ever what
/// it said last.
pub struct Tended {
    directory: Arc<Directory>,
    _tasks: JoinSet<()>,
}

impl Tended {
    /// Tends a directory of the upstream's addresses. Has to be called within a runtime.
    pub fn start(config: &Config, platform: &Platform, metrics: &Metrics) -> Self {
        let series = metrics.upstream(&config.name);
        let directory = Arc::new(Directory::new(config.clone(), platform.clone(), series));
        let mut tasks = JoinSet::new();
        for place in 0..directory.names.len() {
            tasks.spawn(keep_resolving(Arc::clone(&directory), place));
        }
        tasks.spawn(keep_trying(Arc::clone(&directory)));
        if let Some(check) = &config.health_check {
            tasks.spawn(keep_checking(Arc::clone(&directory), check.clone()));
        }
        Self {
            directory,
            _tasks: tasks,
        }
    }

    /// Puts the directory in force: it speaks for its upstream from here on.
    pub fn enter(&self) {
        self.directory.in_force.store(true, Ordering::Relaxed);
        self.directory.tally();
    }

    /// What is tended.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.directory
    }
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.directory.in_force.store(false, Ordering::Relaxed);
    }
}

/// Looks a name up, now and then, for ever.
///
/// There is no deadline: a look-up that was given up would go on all the same, and the machine's
/// resolver has deadlines of its own.
async fn keep_resolving(directory: Arc<Directory>, place: usize) {
    let name = &directory.names[place];
    loop {
        let found = directory.platform.resolver.resolve(&name.host).await;
        let found = match found {
            Ok(addresses) if addresses.is_empty() => Err("its name has no address".into()),
            Ok(addresses) => Ok(addresses),
            Err(error) => Err(error.to_string()),
        };
        directory.resolved(place, found);
        sleep(SPACING).await;
        // What was doubted before the look-up ended was answered by it, or will soon be again.
        let _ = timeout(REST, name.doubted.notified()).await;
    }
}

/// Tries ejected addresses again when their back-off is over, for ever.
async fn keep_trying(directory: Arc<Directory>) {
    let mut trials = JoinSet::new();
    loop {
        let now = directory.now();
        let mut soonest = Duration::MAX;
        for endpoint in directory.endpoints().iter() {
            match endpoint.look(|condition| condition.health.due()) {
                Some(due) if due <= now => {
                    trials.spawn(try_again(Arc::clone(&directory), Arc::clone(endpoint)));
                }
                Some(due) => soonest = soonest.min(due),
                None => {}
            }
        }
        tokio::select! {
            () = sleep(soonest.saturating_sub(now)) => {}
            () = directory.ejected.notified() => {}
            Some(_) = trials.join_next() => {}
        }
    }
}

/// Connects to an ejected address, so that no request has to find out.
async fn try_again(directory: Arc<Directory>, endpoint: Arc<Endpoint>) {
    let now = directory.now();
    let mut begun = false;
    endpoint.change(|condition| begun = condition.health.begin_trial(now));
    if !begun {
        return;
    }
    let connecting = Socket::connect(&endpoint, directory.config.tls.as_ref());
    let reached = timeout(directory.config.connect_timeout, connecting).await;
    if matches!(reached, Ok(Ok(_))) {
        directory.connected(&endpoint);
        return;
    }
    let (now, jitter) = (directory.now(), directory.jitter());
    endpoint.change(|condition| {
        condition.health.trial_failed(now, jitter);
    });
}

/// Checks every address at once, each interval, for ever.
async fn keep_checking(directory: Arc<Directory>, how: HealthCheck) {
    let how = Arc::new(how);
    let mut rounds = interval(how.interval);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // Names may be on their way; where there is none, none is checked.
        let _ = directory.reachable().await;
        rounds.tick().await;
        let mut checks = JoinSet::new();
        for endpoint in directory.endpoints().iter().map(Arc::clone) {
            let (directory, how) = (Arc::clone(&directory), Arc::clone(&how));
            checks.spawn(async move {
                let outcome = check(&endpoint, &directory.config, &how).await;
                directory.checked(&endpoint, outcome, &how);
            });
        }
        checks.join_all().await;
    }
}

impl Directory {
    /// Takes up a look-up. One that failed changes nothing but what is said of it.
    fn resolved(&self, place: usize, outcome: Result<Vec<IpAddr>, String>) {
        let (upstream, name) = (&*self.config.name, &*self.names[place].host);
        self.list(|found| {
            let known = &mut found[place];
            let fresh = match outcome {
                Ok(mut addresses) => {
                    // Answers rotate; what they say is a set.
                    addresses.sort_unstable();
                    addresses.dedup();
                    Found {
                        addresses,
                        looked_up: true,
                        failure: None,
                    }
                }
                Err(failure) => Found {
                    addresses: std::mem::take(&mut known.addresses),
                    looked_up: true,
                    failure: Some(failure.into()),
                },
            };
            match &fresh.failure {
                Some(failure) if known.failure.is_none() => {
                    tracing::warn!(upstream, name, %failure, "a name cannot be resolved");
                }
                None if known.failure.is_some() || known.addresses != fresh.addresses => {
                    let addresses = &fresh.addresses;
                    tracing::info!(upstream, name, ?addresses, "a name was resolved");
                }
                _ => {}
            }
            *known = fresh;
        });
    }

    /// Takes up a health check.
    fn checked(&self, endpoint: &Endpoint, outcome: Result<(), String>, how: &HealthCheck) {
        let passed = outcome.is_ok();
        let why = outcome.err().unwrap_or_default();
        self.change(endpoint, &why, |condition| {
            condition.checked.take(passed, how.thresholds);
        });
    }
}
