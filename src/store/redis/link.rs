//! The connections to the master, made anew when they break.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};

use super::Config;
use super::advice::Advisor;
use super::master::{self, Reached};
use super::replicas_of;
use crate::platform::{Monotonic, Platform};
use crate::store::StoreFault;

/// The longest that the answer to a read may take.
const READ: Duration = Duration::from_secs(1);

/// The longest that the answer to a swap may take, and a replica to hear of it.
const SWAP: Duration = Duration::from_secs(2);

/// How long what has to be kept waits for a replica.
const REPLICA: Duration = Duration::from_millis(500);

/// How often it is asked whether there are replicas.
const LOOK: Duration = Duration::from_secs(10);

/// The longest pause between two attempts to connect; the shortest is a quarter of it.
const PAUSE: Duration = Duration::from_millis(500);

/// The layout of what is kept. A server with a larger one is left alone.
const LAYOUT: &str = "1";

/// What speaks to the master.
pub(super) struct Connected {
    /// The run of the server.
    run: u64,
    pub(super) reads: MultiplexedConnection,
    pub(super) loose: MultiplexedConnection,
    /// For what has to be kept. Apart, since it waits for a replica.
    pub(super) firm: MultiplexedConnection,
    /// When it was asked last, and whether there are any that answer.
    replicas: Mutex<Option<(Monotonic, bool)>>,
    waits: Waits,
}

/// The questions whether a replica has heard: one at a time, since the server answers nothing else
/// on the connection meanwhile.
struct Waits {
    turn: Semaphore,
    /// How many were begun.
    begun: AtomicU64,
    /// Which of them was the last to be told yes; it was told so of everything written before it.
    heard: AtomicU64,
}

impl Default for Waits {
    fn default() -> Self {
        Self {
            turn: Semaphore::new(1),
            begun: AtomicU64::new(0),
            heard: AtomicU64::new(0),
        }
    }
}

/// Keeps a connection to the master.
///
/// Once the events of a run of a server are followed, nothing is asked of another: what was loaded
/// there would not be forgotten by what happens here.
pub(super) struct Link {
    config: Arc<Config>,
    platform: Platform,
    current: ArcSwapOption<Connected>,
    attempt: Mutex<Attempt>,
    /// How many attempts to connect have ended.
    ended: watch::Sender<u64>,
    /// Told when whoever follows had better look whether the server is still the master.
    moved: Notify,
    advisor: Advisor,
    /// Where connections live: workers come and go.
    home: Option<Handle>,
}

/// How far connecting has come.
#[derive(Default)]
struct Attempt {
    under_way: bool,
    /// Since when the next one may be made, after one that failed.
    not_before: Option<Monotonic>,
    /// Why the last one failed.
    fault: Option<StoreFault>,
    /// A connection has broken since the last one was made.
    lost: bool,
    /// The run whose events are followed.
    followed: Option<u64>,
}

impl Link {
    pub(super) fn new(config: Config, platform: Platform) -> Self {
        Self {
            config: Arc::new(config),
            platform,
            current: ArcSwapOption::empty(),
            attempt: Mutex::default(),
            ended: watch::Sender::new(0),
            moved: Notify::new(),
            advisor: Advisor::default(),
            home: Handle::try_current().ok(),
        }
    }

    pub(super) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// The connections, made where there are none.
    ///
    /// The first attempt is waited for. While the server cannot be reached, one is made now and then,
    /// and whoever asks is told so at once. An attempt goes on although nobody waits for it any more.
    pub(super) async fn connected(self: &Arc<Self>) -> Result<Arc<Connected>, StoreFault> {
        if let Some(connected) = self.current.load_full() {
            return Ok(connected);
        }
        let mut ended = self.ended.subscribe();
        ended.mark_unchanged();
        if let Some(fault) = self.begin() {
            return Err(fault);
        }
        // The sender is here.
        let _ = ended.changed().await;
        match self.current.load_full() {
            Some(connected) => Ok(connected),
            None => Err(self
                .attempt()
                .fault
                .clone()
                .unwrap_or_else(StoreFault::stopped)),
        }
    }

    /// Has an attempt made, unless one is under way or it is too early; why the last one failed.
    fn begin(self: &Arc<Self>) -> Option<StoreFault> {
        let mut attempt = self.attempt();
        let now = self.platform.clock.monotonic();
        let early = attempt
            .not_before
            .is_some_and(|not_before| now < not_before);
        if !attempt.under_way && !early {
            attempt.under_way = true;
            let link = Arc::clone(self);
            self.home().spawn(async move {
                let made = link.make().await;
                link.end(made);
            });
        }
        attempt.fault.clone()
    }

    fn end(&self, made: Result<Connected, StoreFault>) {
        let mut attempt = self.attempt();
        attempt.under_way = false;
        let followed = attempt.followed;
        let made = match made {
            Ok(made) if followed.is_some_and(|run| run != made.run) => {
                self.moved.notify_one();
                Err(StoreFault::unfollowed())
            }
            made => made,
        };
        match made {
            Ok(made) => {
                self.current.store(Some(Arc::new(made)));
                let was_away = attempt.fault.take().is_some();
                if std::mem::take(&mut attempt.lost) || was_away {
                    // What waits for events may wait on a connection that is dead as well.
                    self.moved.notify_one();
                }
                attempt.not_before = None;
            }
            Err(fault) => {
                let now = self.platform.clock.monotonic();
                attempt.not_before = Some(Monotonic(now.0 + self.pause()));
                attempt.fault = Some(fault);
            }
        }
        drop(attempt);
        self.ended.send_modify(|ended| *ended += 1);
    }

    /// From here on the events of this run are followed, and nothing is asked of another one.
    pub(super) fn follow(&self, run: u64) {
        let mut attempt = self.attempt();
        if attempt.followed.replace(run) == Some(run) {
            return;
        }
        // Whoever asks next waits for an attempt there.
        (attempt.not_before, attempt.fault) = (None, None);
        if self
            .current
            .load()
            .as_ref()
            .is_some_and(|current| current.run != run)
        {
            self.current.store(None);
        }
    }

    /// Waits until whoever follows had better connect anew.
    pub(super) async fn moved(&self) {
        self.moved.notified().await;
    }

    fn attempt(&self) -> MutexGuard<'_, Attempt> {
        self.attempt.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn home(&self) -> Handle {
        self.home.clone().unwrap_or_else(Handle::current)
    }

    async fn make(&self) -> Result<Connected, StoreFault> {
        let (reads, loose, firm) =
            tokio::try_join!(self.connect(READ), self.connect(SWAP), self.connect(SWAP))?;
        if reads.run != loose.run || reads.run != firm.run {
            return Err(StoreFault::unfollowed());
        }
        let address = reads.address;
        let made = Connected {
            run: reads.run,
            reads: reads.connection,
            loose: loose.connection,
            firm: firm.connection,
            replicas: Mutex::default(),
            waits: Waits::default(),
        };
        self.judge(&made).await?;
        let topology = &self.config.topology;
        self.advisor
            .look(made.loose.clone(), &address, topology)
            .await;
        Ok(made)
    }

    /// Says no to a server that a newer version has laid out.
    async fn judge(&self, made: &Connected) -> Result<(), StoreFault> {
        let name = format!("{{{}}}:layout", self.config.key_prefix);
        let mut connection = made.loose.clone();
        // First, since a server that takes no writes may be read.
        let mut get = redis::cmd("GET");
        let layout: Option<String> = get
            .arg(&name)
            .query_async(&mut connection)
            .await
            .map_err(StoreFault::redis)?;
        match layout.as_deref() {
            Some(LAYOUT) => {}
            Some(_) => return Err(StoreFault::newer(&self.config.key_prefix)),
            // Whoever is faster writes the same, or is of another version, which the next
            // connection finds out.
            None => redis::cmd("SET")
                .arg(&name)
                .arg(LAYOUT)
                .arg("NX")
                .query_async::<Value>(&mut connection)
                .await
                .map(drop)
                .map_err(StoreFault::redis)?,
        }
        Ok(())
    }

    /// One more connection to the master, whose answers may take as long as `patience`.
    pub(super) async fn connect(&self, patience: Duration) -> Result<Reached, StoreFault> {
        let config = Arc::clone(&self.config);
        let connect = async move { master::connect(&config, patience).await };
        let connected = self.home().spawn(connect).await;
        let connected = connected.map_err(|_| StoreFault::stopped())?;
        connected.map_err(StoreFault::redis)
    }

    /// What a failed command means; a connection that it broke is not used again.
    pub(super) fn failed(&self, connected: &Arc<Connected>, error: RedisError) -> StoreFault {
        if is_broken(&error) {
            let current = self.current.load();
            if current
                .as_ref()
                .is_some_and(|current| Arc::ptr_eq(current, connected))
            {
                self.current.store(None);
                self.attempt().lost = true;
            }
        }
        StoreFault::redis(error)
    }

    /// How long to wait before the next attempt, another time on each replica.
    pub(super) fn pause(&self) -> Duration {
        let mut jitter = [u8::MAX];
        // Without it they come at once, which the server survives as well.
        let _ = self.platform.entropy.fill(&mut jitter);
        PAUSE / 4 + PAUSE * 3 / 4 * u32::from(jitter[0]) / u32::from(u8::MAX)
    }
}

/// Whether the connection is of no use any more, or leads to a server that is not the master.
fn is_broken(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::Server(kind) => matches!(
            kind,
            ServerErrorKind::BusyLoading
                | ServerErrorKind::Moved
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly
        ),
        // What is found out here is that the server is not the master.
        ErrorKind::Io | ErrorKind::Client => true,
        _ => error.is_unrecoverable_error(),
    }
}

impl Connected {
    /// Waits until a replica has what was written, where there is one. That none has heard of it in
    /// time is said, and undoes nothing.
    pub(super) async fn wait_for_a_replica(&self, platform: &Platform) {
        let begun = self.waits.begun.load(Ordering::Relaxed);
        // Never closed.
        let _turn = self.waits.turn.acquire().await;
        if self.waits.heard.load(Ordering::Relaxed) > begun {
            return;
        }
        let mut connection = self.firm.clone();
        if !self.has_replicas(&mut connection, platform).await {
            return;
        }
        let this = self.waits.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let milliseconds = u64::try_from(REPLICA.as_millis()).unwrap_or(u64::MAX);
        let heard: Result<u64, RedisError> = redis::cmd("WAIT")
            .arg(1)
            .arg(milliseconds)
            .query_async(&mut connection)
            .await;
        match heard {
            Ok(0) => {
                tracing::warn!(
                    "no replica of the store has heard of a change yet: a failover now could undo it"
                );
                // One that is stuck must not hold up everything that follows.
                self.note_replicas(platform.clock.monotonic(), false);
            }
            Ok(_) => self.waits.heard.store(this, Ordering::Relaxed),
            Err(error) => tracing::warn!(%error, "the store's replicas could not be waited for"),
        }
    }

    async fn has_replicas(
        &self,
        connection: &mut MultiplexedConnection,
        platform: &Platform,
    ) -> bool {
        let now = platform.clock.monotonic();
        let known = *self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((asked, answering)) = known
            && now.since(asked) < LOOK
        {
            return answering;
        }
        let role: Result<Value, RedisError> = redis::cmd("ROLE").query_async(connection).await;
        // What could not be found out is not remembered.
        let Some(replicas) = role.as_ref().ok().and_then(replicas_of) else {
            return true;
        };
        let some = !replicas.is_empty();
        self.note_replicas(now, some);
        some
    }

    fn note_replicas(&self, now: Monotonic, answering: bool) {
        let mut known = self.replicas.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((now, answering));
    }
}
