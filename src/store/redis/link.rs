//! The connections to the master, made anew when they break.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, ServerErrorKind, Value};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use super::{Config, master, text};
use crate::platform::{Monotonic, Platform};
use crate::store::StoreFault;

/// The longest that the answer to a read may take.
const READ: Duration = Duration::from_secs(1);

/// The longest that the answer to a swap may take, and a replica to hear of it.
const SWAP: Duration = Duration::from_secs(2);

/// How long a revocation waits for a replica.
const REPLICA: Duration = Duration::from_millis(500);

/// How often it is asked whether there are replicas.
const LOOK: Duration = Duration::from_secs(10);

/// The longest pause between two attempts to connect; the shortest is a quarter of it.
const PAUSE: Duration = Duration::from_millis(800);

/// The layout of what is kept. A server with a larger one is left alone.
const LAYOUT: &str = "1";

/// What speaks to the master.
pub(super) struct Connected {
    pub(super) reads: MultiplexedConnection,
    /// Apart, since it may wait for a replica.
    pub(super) writes: MultiplexedConnection,
    /// When it was asked last, and how many there were.
    replicas: Mutex<Option<(Monotonic, usize)>>,
}

/// Keeps a connection to the master.
pub(super) struct Link {
    config: Config,
    platform: Platform,
    current: ArcSwapOption<Connected>,
    /// Held by whoever connects: from when on it may be tried again, after it failed.
    connecting: Mutex<Option<Monotonic>>,
    /// Why the last attempt failed.
    fault: ArcSwapOption<StoreFault>,
    /// Where connections live: workers come and go.
    home: Option<Handle>,
}

impl Link {
    pub(super) fn new(config: Config, platform: Platform) -> Self {
        Self {
            config,
            platform,
            current: ArcSwapOption::empty(),
            connecting: Mutex::default(),
            fault: ArcSwapOption::empty(),
            home: Handle::try_current().ok(),
        }
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The connections, made where there are none.
    ///
    /// While the server cannot be reached, an attempt is made now and then, and whoever asks in
    /// between is told so at once.
    pub(super) async fn connected(&self) -> Result<Arc<Connected>, StoreFault> {
        if let Some(connected) = self.current.load_full() {
            return Ok(connected);
        }
        let failed = self.fault.load_full();
        let mut not_before = match (self.connecting.try_lock(), &failed) {
            (Ok(connecting), _) => connecting,
            (Err(_), Some(fault)) => return Err((**fault).clone()),
            (Err(_), None) => self.connecting.lock().await,
        };
        if let Some(connected) = self.current.load_full() {
            return Ok(connected);
        }
        if let (Some(not_before), Some(fault)) = (*not_before, &failed)
            && self.platform.clock.monotonic() < not_before
        {
            return Err((**fault).clone());
        }
        match self.make().await {
            Ok(made) => {
                let made = Arc::new(made);
                self.current.store(Some(Arc::clone(&made)));
                self.fault.store(None);
                *not_before = None;
                Ok(made)
            }
            Err(fault) => {
                let now = self.platform.clock.monotonic();
                *not_before = Some(Monotonic(now.0 + self.pause()));
                self.fault.store(Some(Arc::new(fault.clone())));
                Err(fault)
            }
        }
    }

    async fn make(&self) -> Result<Connected, StoreFault> {
        let (reads, writes) = tokio::try_join!(self.connect(READ), self.connect(SWAP))?;
        let made = Connected {
            reads,
            writes,
            replicas: Mutex::default(),
        };
        self.judge(&made).await?;
        Ok(made)
    }

    /// Says no to a server that a newer version has laid out, and warns of one that may forget.
    async fn judge(&self, made: &Connected) -> Result<(), StoreFault> {
        let name = format!("{{{}}}:layout", self.config.key_prefix);
        let mut connection = made.writes.clone();
        let (_, layout): (Value, Option<String>) = redis::pipe()
            .cmd("SET")
            .arg(&name)
            .arg(LAYOUT)
            .arg("NX")
            .cmd("GET")
            .arg(&name)
            .query_async(&mut connection)
            .await
            .map_err(StoreFault::redis)?;
        if layout.as_deref() != Some(LAYOUT) {
            return Err(StoreFault::newer(&self.config.key_prefix));
        }
        // Servers that others run may not tell.
        let settings: Result<Vec<(String, String)>, RedisError> = redis::cmd("CONFIG")
            .arg("GET")
            .arg("maxmemory-policy")
            .query_async(&mut connection)
            .await;
        if let Ok(settings) = settings {
            for (_, policy) in settings {
                if policy != "noeviction" {
                    tracing::warn!(
                        policy,
                        "the store's server evicts what is kept when its memory is full; set maxmemory-policy to noeviction"
                    );
                }
            }
        }
        Ok(())
    }

    /// One more connection to the master, whose answers may take as long as `patience`.
    pub(super) async fn connect(
        &self,
        patience: Duration,
    ) -> Result<MultiplexedConnection, StoreFault> {
        let config = self.config.clone();
        let connect = async move { master::connect(&config, patience).await };
        let connected = match &self.home {
            Some(home) => {
                let connected = home.spawn(connect).await;
                connected.map_err(|_| StoreFault::stopped())?
            }
            None => connect.await,
        };
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
        let mut connection = self.writes.clone();
        if !self.has_replicas(&mut connection, platform).await {
            return;
        }
        let milliseconds = u64::try_from(REPLICA.as_millis()).unwrap_or(u64::MAX);
        let heard: Result<u64, RedisError> = redis::cmd("WAIT")
            .arg(1)
            .arg(milliseconds)
            .query_async(&mut connection)
            .await;
        match heard {
            Ok(0) => tracing::warn!(
                "no replica of the store has heard of a change yet: a failover now could undo it"
            ),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the store's replicas could not be waited for"),
        }
    }

    async fn has_replicas(
        &self,
        connection: &mut MultiplexedConnection,
        platform: &Platform,
    ) -> bool {
        let mut known = self.replicas.lock().await;
        let now = platform.clock.monotonic();
        if let Some((asked, replicas)) = *known
            && now.since(asked) < LOOK
        {
            return replicas > 0;
        }
        let role: Result<Value, RedisError> = redis::cmd("ROLE").query_async(connection).await;
        let replicas = match role {
            Ok(Value::Array(role)) if role.first().and_then(text) == Some("master") => {
                match role.get(2) {
                    Some(Value::Array(replicas)) => replicas.len(),
                    _ => 0,
                }
            }
            _ => 0,
        };
        *known = Some((now, replicas));
        replicas > 0
    }
}
