//! The keys that an issuer publishes, kept at hand.
//!
//! They are fetched ahead of need, by one task for all who use them. When they are fetched again,
//! and for how long they are believed, is judged in `rules::issuer`.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;

use crate::authn::issuers::Publication;
use crate::authn::jwt::verifying::KeySet;
use crate::cache::feed::Pulse;
use crate::fetch::{DEADLINE, FetchError};
use crate::platform::{Monotonic, Platform};
use crate::rules::issuer;
use crate::rules::jwk::LONGEST_SET;
use crate::telemetry::metrics::{IssuerFetch, Metrics};

/// Fetches a publication of at most so many bytes.
pub type Fetch = Arc<
    dyn Fn(&Publication, usize) -> Pin<Box<dyn Future<Output = Result<Bytes, FetchError>> + Send>>
        + Send
        + Sync,
>;

/// A publication at hand. Dropped, it is fetched no more.
pub struct Published {
    publication: Publication,
    state: Arc<State>,
    keeper: JoinHandle<()>,
}

struct State {
    good: ArcSwapOption<Good>,
    progress: watch::Sender<Progress>,
    wanted: Notify,
}

/// The last set that was good.
struct Good {
    keys: Arc<KeySet>,
    document: Bytes,
    fetched_at: Monotonic,
}

/// How far fetching has come.
#[derive(Clone, Copy, Default)]
struct Progress {
    /// How many fetches have ended.
    ended: u64,
    /// When the last of them did.
    ended_at: Monotonic,
    /// How many of them failed since one succeeded.
    failures: u32,
    /// One is under way.
    under_way: bool,
}

impl Published {
    /// Has a publication at hand from now on, beginning with what `before` has of it: the same place,
    /// read in another way. `pulse` beats when the keys change. Has to be called within a runtime.
    pub fn keep(
        publication: Publication,
        before: Option<&Self>,
        fetch: Fetch,
        pulse: Pulse,
        platform: Platform,
        metrics: Metrics,
    ) -> Self {
        let under_way = Progress {
            under_way: true,
            ..Progress::default()
        };
        let state = Arc::new(State {
            good: ArcSwapOption::new(before.and_then(|before| before.read_as(&publication))),
            progress: watch::Sender::new(under_way),
            wanted: Notify::new(),
        });
        let keeper = Keeper {
            publication: publication.clone(),
            state: Arc::clone(&state),
            fetch,
            pulse,
            platform,
            metrics,
        };
        Self {
            publication,
            state,
            keeper: tokio::spawn(keeper.keep()),
        }
    }

    /// What is at hand, read as another publication of the same place says.
    fn read_as(&self, publication: &Publication) -> Option<Arc<Good>> {
        let good = self.state.good.load_full()?;
        let (keys, _) = KeySet::from_jwks(&good.document, &publication.algorithms).ok()?;
        Some(Arc::new(Good {
            keys: Arc::new(keys),
            document: good.document.clone(),
            fetched_at: good.fetched_at,
        }))
    }

    /// What is kept at hand.
    pub fn publication(&self) -> &Publication {
        &self.publication
    }

    /// Waits until it was first fetched, or could not be.
    pub async fn first_attempt(&self) {
        let mut progress = self.state.progress.subscribe();
        // The sender is here.
        let _ = progress.wait_for(|progress| progress.ended > 0).await;
    }

    /// What `look` finds in the keys that are believed now.
    pub(super) fn with<T>(
        &self,
        now: Monotonic,
        look: impl FnOnce(&Arc<KeySet>) -> T,
    ) -> Option<T> {
        let good = self.state.good.load();
        let believed = good.as_ref().filter(|good| good.is_believed(now));
        believed.map(|good| look(&good.keys))
    }

    /// The keys that are believed now.
    pub(super) fn keys(&self, now: Monotonic) -> Option<Arc<KeySet>> {
        self.with(now, Arc::clone)
    }

    /// Whether the last fetch showed all keys that there are.
    pub(super) fn is_current(&self, now: Monotonic) -> bool {
        self.state.progress.borrow().failures == 0 && self.with(now, |_| ()).is_some()
    }

    /// Waits for the fetch that is under way, or for another one where it is time for that. Else one
    /// is made when it is.
    pub(super) async fn newer(&self, now: Monotonic) {
        let mut progress = self.state.progress.subscribe();
        let before = *progress.borrow_and_update();
        // Also while one is under way: what it brings may be older than the token.
        self.state.wanted.notify_one();
        if !before.under_way && !issuer::may_ask(now.since(before.ended_at)) {
            return;
        }
        // Without any keys each of its callers would wait for an issuer that does not answer.
        if before.failures > 0 && self.with(now, |_| ()).is_none() {
            return;
        }
        let ended = progress.wait_for(|progress| progress.ended > before.ended);
        // Twice: one under way may have begun just before.
        let _ = tokio::time::timeout(DEADLINE * 2, ended).await;
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl fmt::Debug for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Published({})", self.publication.location)
    }
}

impl Good {
    fn is_believed(&self, now: Monotonic) -> bool {
        issuer::is_believed(now.since(self.fetched_at))
    }
}

/// The task that fetches.
struct Keeper {
    publication: Publication,
    state: Arc<State>,
    fetch: Fetch,
    pulse: Pulse,
    platform: Platform,
    metrics: Metrics,
}

impl Keeper {
    async fn keep(self) {
        loop {
            let fetched = (self.fetch)(&self.publication, LONGEST_SET).await;
            let now = self.platform.clock.monotonic();
            let succeeded = self.take(fetched, now);
            let outcome = if succeeded {
                IssuerFetch::Succeeded
            } else {
                IssuerFetch::Failed
            };
            self.metrics.issuer_fetch(outcome);
            let mut failures = 0;
            self.state.progress.send_modify(|progress| {
                progress.ended += 1;
                progress.ended_at = now;
                progress.failures = if succeeded {
                    0
                } else {
                    progress.failures.saturating_add(1)
                };
                progress.under_way = false;
                failures = progress.failures;
            });
            self.rest(failures, now).await;
            self.state
                .progress
                .send_modify(|progress| progress.under_way = true);
        }
    }

    /// Waits until the next fetch is due, or a token asks for one.
    async fn rest(&self, failures: u32, since: Monotonic) {
        let mut jitter = [0];
        if let Err(error) = self.platform.entropy.fill(&mut jitter) {
            tracing::warn!(%error, "the next fetch of keys is not spread");
        }
        let mut due = pin!(tokio::time::sleep(issuer::wait(failures, jitter[0])));
        tokio::select! {
            () = &mut due => return,
            () = self.state.wanted.notified() => {}
        }
        let rested = self.platform.clock.monotonic().since(since);
        let soonest = tokio::time::sleep(issuer::SPACING.saturating_sub(rested));
        tokio::select! {
            () = due => {}
            () = soonest => {}
        }
    }

    /// Puts a set in force; true if it is one.
    fn take(&self, fetched: Result<Bytes, FetchError>, now: Monotonic) -> bool {
        let location = &self.publication.location;
        let document = match fetched {
            Ok(document) => document,
            Err(error) => {
                tracing::warn!(%location, %error, "an issuer's keys cannot be fetched");
                return false;
            }
        };
        let known = self.state.good.load();
        if let Some(known) = known.as_ref().filter(|known| known.document == document) {
            self.put(Arc::clone(&known.keys), document, now);
            return true;
        }
        let (keys, ignored) = match KeySet::from_jwks(&document, &self.publication.algorithms) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%location, %error, "what an issuer publishes are no keys");
                return false;
            }
        };
        for reason in ignored {
            tracing::debug!(%location, %reason, "a published key is not used");
        }
        if keys.is_empty() {
            tracing::warn!(%location, "an issuer publishes no key that can be used");
        }
        tracing::info!(%location, keys = keys.len(), "an issuer's keys are in force");
        self.put(Arc::new(keys), document, now);
        // What is held open on a key that was withdrawn ends now.
        self.pulse.beat();
        true
    }

    fn put(&self, keys: Arc<KeySet>, document: Bytes, fetched_at: Monotonic) {
        self.state.good.store(Some(Arc::new(Good {
            keys,
            document,
            fetched_at,
        })));
    }
}
