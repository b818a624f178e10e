//! Following what happens in the store, and knowing how long ago it was last heard from.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;

use crate::platform::{Clock, Monotonic};
use crate::rules::api_key::Digest;
use crate::rules::feed::Change;
use crate::store::{Place, Store, StoreFault};
use crate::telemetry::metrics::Metrics;

use super::verdicts::Verdicts;

/// How often a store that was not heard from is asked whether it is there.
const RETRY: Duration = Duration::from_millis(500);

/// The longest that a store without news is waited for.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// The most events taken at once.
const BATCH: u32 = 1000;

/// What stands for a time that has never been.
const NEVER: u64 = u64::MAX;

/// When the store was last heard from. Verdicts that came from it are believed for so long after.
#[derive(Debug)]
pub struct Freshness {
    /// In nanoseconds, as the other.
    heard: AtomicU64,
    max_staleness: AtomicU64,
}

impl Freshness {
    /// Not heard from yet, and believed for `max_staleness` after each time.
    pub fn new(max_staleness: Duration) -> Self {
        Self {
            heard: AtomicU64::new(NEVER),
            max_staleness: AtomicU64::new(nanoseconds(max_staleness)),
        }
    }

    /// Whether the store was ever heard from.
    pub fn began(&self) -> bool {
        self.heard.load(Ordering::Relaxed) != NEVER
    }

    /// From now on, verdicts are believed for `max_staleness` after the store was heard from.
    pub fn believe_for(&self, max_staleness: Duration) {
        let max_staleness = nanoseconds(max_staleness);
        self.max_staleness.store(max_staleness, Ordering::Relaxed);
    }

    /// Whether what the store said may be believed now.
    pub fn vouches(&self, now: Monotonic) -> bool {
        let heard = self.heard.load(Ordering::Relaxed);
        let max_staleness = self.max_staleness.load(Ordering::Relaxed);
        let silence = now.since(Monotonic(Duration::from_nanos(heard)));
        heard != NEVER && silence <= Duration::from_nanos(max_staleness)
    }

    /// How long the store may be silent without being doubted: what it said when it was asked has to
    /// be believed until it is asked again.
    fn patience(&self) -> Duration {
        let max_staleness = self.max_staleness.load(Ordering::Relaxed);
        (Duration::from_nanos(max_staleness) / 4).min(LONGEST_WAIT)
    }

    /// It was heard from.
    pub fn hear(&self, now: Monotonic) {
        self.heard.store(nanoseconds(now.0), Ordering::Relaxed);
    }
}

/// A duration as an atomic holds it; 584 years are the most.
fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Tells whoever holds something open on a credential that it has to be judged again.
#[derive(Clone, Debug)]
pub struct Pulse(watch::Sender<()>);

impl Pulse {
    /// A pulse that nobody listens to yet.
    pub fn new() -> Self {
        Self(watch::Sender::new(()))
    }

    /// Tells everyone who listens.
    pub fn beat(&self) {
        self.0.send_replace(());
    }

    /// Hears each beat from here on; several in a row may be heard as one.
    pub fn listen(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

impl Default for Pulse {
    fn default() -> Self {
        Self::new()
    }
}

/// Something remembered of the store, and how it is forgotten.
pub struct Remembered {
    forget: Box<dyn Fn(&Change) + Send + Sync>,
    forget_all: Box<dyn Fn() + Send + Sync>,
}

impl Remembered {
    /// `concerned` tells what a change makes wrong in `verdicts`.
    pub fn new<V: Send + Sync + 'static>(
        verdicts: &Arc<Verdicts<V>>,
        concerned: fn(&Change) -> Vec<Digest>,
    ) -> Self {
        let (one, all) = (Arc::clone(verdicts), Arc::clone(verdicts));
        Self {
            forget: Box::new(move |change| one.forget(&concerned(change))),
            forget_all: Box::new(move || all.forget_all()),
        }
    }
}

/// Follows a store's events on behalf of everything remembered of it.
pub struct Follower {
    store: Arc<Store>,
    remembered: Vec<Remembered>,
    freshness: Arc<Freshness>,
    pulse: Pulse,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
    /// `None` while the store was not heard from.
    last: Option<Place>,
    connected: bool,
}

impl Follower {
    /// Follows from where the store is when it is first heard from.
    pub fn new(
        store: Arc<Store>,
        remembered: Vec<Remembered>,
        freshness: Arc<Freshness>,
        pulse: Pulse,
        clock: Arc<dyn Clock>,
        metrics: Metrics,
    ) -> Self {
        metrics.store_connected(false);
        metrics.event_lag(Duration::ZERO);
        Self {
            store,
            remembered,
            freshness,
            pulse,
            clock,
            metrics,
            last: None,
            connected: false,
        }
    }

    /// Hears from the store for the first time.
    ///
    /// What was remembered before is forgotten: nobody would tell that it has become wrong.
    pub async fn begin(&mut self) -> Result<(), StoreFault> {
        let asked = self.clock.monotonic();
        self.last = Some(self.store.latest().await?);
        self.forget_all();
        self.answered();
        self.freshness.hear(asked);
        Ok(())
    }

    /// Follows for ever. Cancel safe.
    pub async fn follow(mut self) {
        loop {
            if let Some(last) = self.last {
                self.catch_up(last).await;
                continue;
            }
            tokio::time::sleep(RETRY).await;
            if let Err(error) = self.begin().await {
                tracing::debug!(%error, "the store does not answer yet");
            }
        }
    }

    async fn catch_up(&mut self, last: Place) {
        // What was asked before an answer is what the answer vouches for, however long it took.
        let asked = self.clock.monotonic();
        match self
            .store
            .follow(last, BATCH, self.freshness.patience())
            .await
        {
            Ok(events) => {
                self.answered();
                let newest = events.events.last().map(|event| event.at);
                let lag = newest.map_or(Duration::ZERO, |at| self.clock.now().since(at));
                self.metrics.event_lag(lag);
                if events.gap {
                    self.forget_all();
                }
                for event in &events.events {
                    self.apply(&Change::decode(&event.payload));
                }
                self.last = Some(events.last);
                let whole = events.events.len() < BATCH as usize;
                if whole {
                    self.freshness.hear(asked);
                }
                if events.gap || !events.events.is_empty() {
                    self.pulse.beat();
                }
            }
            Err(error) => {
                if self.connected {
                    tracing::warn!(%error, "the store does not answer");
                    self.connected = false;
                    self.metrics.store_connected(false);
                }
                if !self.freshness.vouches(self.clock.monotonic()) {
                    // What is held open on its word has to end.
                    self.pulse.beat();
                }
            }
        }
    }

    fn answered(&mut self) {
        if !self.connected {
            tracing::info!("the store answers");
            self.connected = true;
            self.metrics.store_connected(true);
        }
    }

    fn apply(&self, change: &Change) {
        if *change == Change::Unknown {
            self.forget_all();
            return;
        }
        for remembered in &self.remembered {
            (remembered.forget)(change);
        }
    }

    fn forget_all(&self) {
        for remembered in &self.remembered {
            (remembered.forget_all)();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_long_the_store_is_believed_can_change() {
        let at = |second| Monotonic(Duration::from_secs(second));
        let freshness = Freshness::new(Duration::from_secs(10));
        assert!(!freshness.began() && !freshness.vouches(at(0)));
        freshness.hear(at(5));
        assert!(freshness.began());
        assert!(freshness.vouches(at(15)) && !freshness.vouches(at(16)));
        freshness.believe_for(Duration::from_secs(3));
        assert!(freshness.vouches(at(8)) && !freshness.vouches(at(9)));
        freshness.hear(at(9));
        assert!(freshness.vouches(at(12)) && !freshness.vouches(at(13)));
    }
}
