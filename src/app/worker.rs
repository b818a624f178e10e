//! The workers' threads: each a runtime with its own connections, pools and snapshot.

use std::io;
use std::sync::Arc;
use std::thread;

use arc_swap::ArcSwap;
use tokio::sync::{mpsc, oneshot};

use crate::authn::authenticators::Authenticators;
use crate::cache::feed::Pulse;
use crate::gateway::{self, Core, RequestIds, Snapshot, Unservable};
use crate::limits::Callers;
use crate::listener::{self, Desk, Shares, Stages, Worker};
use crate::platform::{Alive, Platform};
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::metrics::Metrics;
use crate::upstream::Pool;
use crate::upstream::directory::Directory;

use super::StartError;
use super::services::{Connections, Guard};

/// After how many polls of its tasks a worker looks at its sockets, if it is never idle before.
///
/// Twice the runtime's own number: what is written is then written in larger batches, which wakes
/// the other sides less often.
const EVENT_INTERVAL: u32 = 122;

/// After how many polls a busy worker looks at what other threads have woken. That is seldom
/// anything but a new connection, and each look takes a lock.
const GLOBAL_QUEUE_INTERVAL: u32 = 122;

/// What all workers are built from.
#[derive(Clone)]
pub(super) struct Blueprint {
    pub(super) workers: usize,
    pub(super) listen: Arc<ArcSwap<listener::Config>>,
    pub(super) shares: Shares,
    pub(super) platform: Platform,
    pub(super) metrics: Metrics,
    pub(super) callers: Arc<Callers>,
    pub(super) access_log: Option<AccessLog>,
    pub(super) pulse: Pulse,
    pub(super) alive: Alive,
    pub(super) stages: Stages,
}

/// The part of a configuration that a reload replaces.
pub(super) struct Served {
    pub(super) gateway: gateway::Config,
    pub(super) upstreams: Vec<Arc<Directory>>,
    pub(super) authenticators: Arc<Authenticators>,
}

/// A configuration on its way to a worker, which answers whether it is in force.
type Order = (Arc<Served>, oneshot::Sender<Result<(), Unservable>>);

/// All workers.
pub(super) struct Crew {
    hands: Vec<Hand>,
}

/// One worker, seen from outside.
struct Hand {
    /// `None` once nothing more will be handed over.
    worker: Option<Worker>,
    orders: Option<mpsc::UnboundedSender<Order>>,
    /// Dropped to end the worker with whatever still runs on it.
    leave: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Crew {
    /// Starts the workers; each is ready when this returns.
    pub(super) async fn hire(
        blueprint: &Blueprint,
        served: &Arc<Served>,
    ) -> Result<Self, StartError> {
        let mut hands = Vec::with_capacity(blueprint.workers);
        for index in 0..blueprint.workers {
            hands.push(Hand::hire(index, blueprint.clone(), Arc::clone(served)).await?);
        }
        Ok(Self { hands })
    }

    /// The inboxes of all workers.
    pub(super) fn workers(&self) -> Vec<Worker> {
        self.hands
            .iter()
            .filter_map(|hand| hand.worker.clone())
            .collect()
    }

    /// Puts a configuration in force on every worker.
    ///
    /// Whether it can be served is the same question on each, so that none is left behind.
    pub(super) async fn reload(&self, served: &Arc<Served>) -> Result<(), Unservable> {
        for orders in self.hands.iter().filter_map(|hand| hand.orders.as_ref()) {
            let (done, outcome) = oneshot::channel();
            if orders.send((Arc::clone(served), done)).is_ok()
                && let Ok(outcome) = outcome.await
            {
                outcome?;
            }
        }
        Ok(())
    }

    /// Hands over nothing more; what runs goes on.
    pub(super) fn close(&mut self) {
        for hand in &mut self.hands {
            hand.worker = None;
            hand.orders = None;
        }
    }

    /// Ends the workers with whatever still runs on them.
    pub(super) async fn dismiss(&mut self) {
        for hand in &mut self.hands {
            hand.leave = None;
        }
        for thread in self.hands.iter_mut().filter_map(|hand| hand.thread.take()) {
            let joined = tokio::task::spawn_blocking(|| thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("a worker did not end well");
            }
        }
    }
}

impl Hand {
    async fn hire(
        index: usize,
        blueprint: Blueprint,
        served: Arc<Served>,
    ) -> Result<Self, StartError> {
        let (ready, is_ready) = oneshot::channel();
        let (orders, inbox) = mpsc::unbounded_channel();
        let (leave, left) = oneshot::channel();
        let thread = thread::Builder::new()
            .name(format!("worker-{index}"))
            .spawn(move || {
                let runtime = match tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .event_interval(EVENT_INTERVAL)
                    .global_queue_interval(GLOBAL_QUEUE_INTERVAL)
                    .build()
                {
                    Ok(runtime) => runtime,
                    Err(error) => {
                        let _ = ready.send(Err(StartError::Machine(error)));
                        return;
                    }
                };
                runtime.block_on(live(index, blueprint, &served, ready, inbox, left));
            })
            .map_err(StartError::Machine)?;
        let worker = is_ready
            .await
            .unwrap_or_else(|_| Err(StartError::Machine(io::Error::other("a worker died"))))?;
        Ok(Self {
            worker: Some(worker),
            orders: Some(orders),
            leave: Some(leave),
            thread: Some(thread),
        })
    }
}

/// A worker's life, on its own runtime.
async fn live(
    index: usize,
    blueprint: Blueprint,
    served: &Served,
    ready: oneshot::Sender<Result<Worker, StartError>>,
    mut orders: mpsc::UnboundedReceiver<Order>,
    left: oneshot::Receiver<()>,
) {
    let metrics = blueprint.metrics.clone();
    let Blueprint {
        workers,
        listen,
        shares,
        platform,
        callers,
        access_log,
        pulse,
        alive,
        stages,
        ..
    } = blueprint;
    let clock = Arc::clone(&platform.clock);
    let mut pools = Pools {
        worker: index,
        workers,
        platform: platform.clone(),
        open: Vec::new(),
    };
    pools.fit(&served.upstreams);
    let built = Snapshot::build(
        &served.gateway,
        &served.authenticators,
        &pools.open,
        &metrics,
    );
    let built = built.map_err(StartError::Config).and_then(|snapshot| {
        let request_ids = RequestIds::new(&platform).map_err(StartError::Machine)?;
        Ok((snapshot, request_ids))
    });
    let (snapshot, request_ids) = match built {
        Ok(built) => built,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let core = Arc::new(Core {
        worker: index,
        platform,
        metrics: metrics.clone(),
        callers,
        access_log,
        pulse,
        snapshot: ArcSwap::from_pointee(snapshot),
        request_ids,
    });
    let (worker, serving) = Worker::new(Desk {
        service: Arc::new(Guard(Arc::clone(&core))),
        config: listen,
        shares,
        is_edge: true,
        clock,
        census: Arc::new(Connections::proxy(metrics.clone(), index)),
        stages,
        alive,
    });
    let _ = ready.send(Ok(worker));
    let reloading = async {
        while let Some((served, done)) = orders.recv().await {
            let mut fresh = pools.clone();
            fresh.fit(&served.upstreams);
            let authenticators = &served.authenticators;
            let outcome = Snapshot::build(&served.gateway, authenticators, &fresh.open, &metrics)
                .map(|snapshot| core.snapshot.store(Arc::new(snapshot)));
            if outcome.is_ok() {
                pools = fresh;
            }
            let _ = done.send(outcome);
        }
    };
    tokio::join!(serving, reloading);
    // Connections and tunnels hold the core from here on; when the last has gone, so has it.
    drop(core);
    let _ = left.await;
}

/// A worker's pools, in the order of the upstreams.
#[derive(Clone)]
struct Pools {
    worker: usize,
    workers: usize,
    platform: Platform,
    open: Vec<Pool>,
}

impl Pools {
    /// Has a pool for each upstream, keeping those whose configuration did not change, and with it
    /// their directory.
    fn fit(&mut self, upstreams: &[Arc<Directory>]) {
        self.open = upstreams
            .iter()
            .map(|directory| {
                let mut open = self.open.iter();
                let same = open.find(|pool| Arc::ptr_eq(pool.directory(), directory));
                same.map_or_else(|| self.start(directory), Pool::clone)
            })
            .collect();
    }

    fn start(&self, directory: &Arc<Directory>) -> Pool {
        let share = directory.config().max_connections.div_ceil(self.workers);
        let clock = Arc::clone(&self.platform.clock);
        Pool::start(Arc::clone(directory), share, self.worker, clock)
    }
}
