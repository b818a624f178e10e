//! Following what happens in the store: carries out what `rules` makes of each answer.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::platform::{Clock, Monotonic};
use crate::rules::api_key::Digest;
use crate::rules::feed::Change;
use crate::rules::feed::following::{Answer, Following, Forget};
use crate::store::{Events, Place, Store, StoreFault};
use crate::telemetry::metrics::Metrics;

use super::freshness::Freshness;
use super::verdicts::Verdicts;

/// The most events taken at once.
const BATCH: u32 = 1000;

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

    /// Something that no change concerns, and that may be lost all the same.
    pub fn unchanging(forget_all: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            forget: Box::new(|_| {}),
            forget_all: Box::new(forget_all),
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
    following: Following<Place>,
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
            following: Following::new(),
            connected: false,
        }
    }

    /// Follows for ever. Cancel safe.
    pub async fn follow(mut self) {
        loop {
            // A fault was told.
            let _ = self.once().await;
        }
    }

    /// Asks the store once.
    pub async fn once(&mut self) -> Result<(), StoreFault> {
        // What was asked before an answer is what the answer vouches for, however long it took.
        let asked = self.clock.monotonic();
        let place = self.following.place();
        let wait = self.freshness.patience();
        match self.store.follow(place, BATCH, wait).await {
            Ok(events) => {
                self.answered(asked, events);
                Ok(())
            }
            Err(fault) => {
                self.unanswered(&fault);
                Err(fault)
            }
        }
    }

    fn answered(&mut self, asked: Monotonic, events: Events) {
        if !self.connected {
            tracing::info!("the store answers");
            self.connected = true;
            self.metrics.store_connected(true);
        }
        let newest = events.events.last().map(|event| event.at);
        let lag = newest.map_or(Duration::ZERO, |at| self.clock.now().since(at));
        self.metrics.event_lag(lag);
        let changes = events.events.into_iter();
        let asked = events.as_of.map_or(asked, |as_of| as_of.min(asked));
        let told = self.following.hear(Answer {
            asked: asked.0,
            run: events.run,
            gap: events.gap,
            changes: changes
                .map(|event| Change::decode(&event.payload))
                .collect(),
            last: events.last,
            complete: events.complete,
        });
        for remembered in &self.remembered {
            match &told.forget {
                Forget::Everything => (remembered.forget_all)(),
                Forget::Concerned(changes) => changes.iter().for_each(&remembered.forget),
            }
        }
        if let Some(heard) = told.heard {
            self.freshness.hear(Monotonic(heard));
        }
        if told.judge_again {
            self.pulse.beat();
        }
    }

    fn unanswered(&mut self, fault: &StoreFault) {
        if self.connected {
            let cause = fault.source().map(tracing::field::display);
            tracing::warn!(error = %fault, cause, "the store does not answer");
            self.connected = false;
            self.metrics.store_connected(false);
        }
        if !self.freshness.vouches(self.clock.monotonic()) {
            // What is held open on its word has to end.
            self.pulse.beat();
        }
    }
}
