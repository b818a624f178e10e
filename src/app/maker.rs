//! What turns credentials into principals: made anew for each configuration, over a store and what
//! is remembered of it that outlive them.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::task::JoinHandle;

use crate::authn;
use crate::authn::access_token::{self, AccessTokens};
use crate::authn::api_key::{self, ApiKeys, StoredKeys};
use crate::authn::authenticators::Authenticators;
use crate::authn::families::Families;
use crate::authn::issuers::{self, Fetch, Issuers, Published};
use crate::authn::keyring::Keyring;
use crate::authn::nonces::Nonces;
use crate::authn::session_token::{self, SessionTokens};
use crate::authn::sessions::Sessions;
use crate::authn::signers::{self, RingError};
use crate::authn::sweep::{self, Sweep};
use crate::cache::feed::{Follower, Pulse, Remembered};
use crate::cache::freshness::Freshness;
use crate::cache::verdicts::Verdicts;
use crate::config::Config;
use crate::fetch;
use crate::limits::{self, FailedAuthentications};
use crate::platform::Platform;
use crate::rules::api_key::Pepper;
use crate::rules::jwt::SigningAlgorithm;
use crate::store::{self, Store};
use crate::telemetry::metrics::Metrics;

use super::StartError;
use super::services::observer;

/// How often it is looked whether everything was loaded.
const LOOK: Duration = Duration::from_millis(50);

/// Makes what turns credentials into principals, anew for each configuration.
pub(super) struct Maker {
    stored: Option<Stored>,
    /// What digests are keyed with until a restart: what is in the store knows no other.
    pepper: Option<Pepper>,
    failures: ArcSwap<FailedAuthentications>,
    /// Those in force: what they have fetched outlives a reload.
    issuers: ArcSwap<Issuers>,
    /// The most tokens that are remembered.
    capacity: u64,
    pulse: Pulse,
    platform: Platform,
    metrics: Metrics,
}

/// What is in the store, and for how long what it said is believed.
struct Stored {
    keys: Arc<StoredKeys>,
    sessions: Arc<SessionTokens>,
    access: Arc<access_token::Stored>,
    signing: Arc<signers::StoredKeys>,
    store: Arc<Store>,
    nonces: Arc<Nonces>,
    freshness: Arc<Freshness>,
}

impl Maker {
    /// Opens the store, where there is one, and begins what goes on beside the requests.
    pub(super) async fn start(
        config: &Config,
        platform: &Platform,
        metrics: &Metrics,
        pulse: &Pulse,
        background: &mut Vec<JoinHandle<()>>,
    ) -> Result<Self, StartError> {
        let stored = match &config.store {
            Some(store) => {
                let (stored, mut follower) = open_store(store, config, platform, metrics, pulse)?;
                // A server may come later; a file that does not answer now never will.
                let waits = matches!(store, store::Config::Redis(_));
                match follower.once().await {
                    Err(error) if waits => {
                        let cause = error.source().map(tracing::field::display);
                        tracing::warn!(%error, cause, "the store does not answer; starting without it");
                    }
                    begun => begun.map_err(StartError::Feed)?,
                }
                background.push(tokio::spawn(follower.follow()));
                let sessions = &stored.sessions;
                background.push(tokio::spawn(Arc::clone(sessions).keep_writing()));
                background.push(tokio::spawn(keep_sweeping(Sweep::new(
                    Arc::clone(&stored.store),
                    sessions.sessions().clone(),
                    stored.access.families().clone(),
                    Arc::clone(&stored.nonces),
                    platform.clone(),
                ))));
                let signing = &stored.signing;
                match signing.want(wanted_keys(&config.authn)).await {
                    Err(RingError::Store(_)) if waits => {}
                    wanted => wanted.map_err(StartError::Signing)?,
                }
                background.push(tokio::spawn(Arc::clone(signing).keep()));
                Some(stored)
            }
            None => None,
        };
        let failures = FailedAuthentications::new(config.limits.failed_authentications);
        Ok(Self {
            stored,
            pepper: config.authn.pepper.clone(),
            failures: ArcSwap::from_pointee(failures),
            issuers: ArcSwap::from_pointee(Issuers::none()),
            capacity: config.cache.capacity,
            pulse: pulse.clone(),
            platform: platform.clone(),
            metrics: metrics.clone(),
        })
    }

    /// The authenticators for a configuration, which count failures in `failures`.
    pub(super) fn make(
        &self,
        config: &authn::Config,
        failures: &Arc<FailedAuthentications>,
    ) -> Arc<Authenticators> {
        let config = &authn::Config {
            pepper: self.pepper.clone(),
            ..config.clone()
        };
        let stored = self.stored.as_ref();
        let keys = stored.map(|stored| Arc::clone(&stored.keys));
        Arc::new(Authenticators {
            keys: Arc::new(ApiKeys::new(config, keys, Arc::clone(failures))),
            sessions: stored.map(|stored| Arc::clone(&stored.sessions)),
            access: stored
                .zip(config.access_token.as_ref())
                .map(|(stored, tokens)| {
                    let access = Arc::clone(&stored.access);
                    let from_files = config.signing_keys.clone();
                    Arc::new(AccessTokens::new(tokens.clone(), access, from_files))
                }),
            own_issuer: config.own_issuer.clone(),
            issuers: self.issuers(&config.trusted),
            nonces: stored.map(|stored| Arc::clone(&stored.nonces)),
        })
    }

    /// The trusted issuers, in force from here on.
    fn issuers(&self, configs: &[issuers::Config]) -> Arc<Issuers> {
        let known = self.issuers.load_full();
        let fetch: Fetch = Arc::new(|publication, most| {
            let location = publication.location.clone();
            Box::pin(async move { fetch::fetch(&location, most).await })
        });
        let issuers = Issuers::new(configs, self.capacity, |publication| {
            let same = known
                .published()
                .find(|published| published.publication() == publication);
            if let Some(same) = same {
                return Arc::clone(same);
            }
            let place = &publication.location;
            let before = known
                .published()
                .find(|published| published.publication().location.is_at(place));
            Arc::new(Published::keep(
                publication.clone(),
                before.map(|before| &**before),
                Arc::clone(&fetch),
                self.pulse.clone(),
                self.platform.clone(),
                self.metrics.clone(),
            ))
        });
        let issuers = Arc::new(issuers);
        self.issuers.store(Arc::clone(&issuers));
        issuers
    }

    /// Has the keys at hand that access tokens are signed with under a configuration.
    pub(super) async fn want_keys(&self, config: &authn::Config) -> Result<(), RingError> {
        match &self.stored {
            Some(stored) => match stored.signing.want(wanted_keys(config)).await {
                // Those that are in force will do until the store answers.
                Err(RingError::Store(_)) if stored.signing.is_settled() => Ok(()),
                wanted => wanted,
            },
            None => Ok(()),
        }
    }

    /// A configuration is in force, and counts failures in `failures`.
    pub(super) fn settle(&self, config: &Config, failures: Arc<FailedAuthentications>) {
        self.failures.store(failures);
        if let Some(stored) = &self.stored {
            stored.freshness.believe_for(config.cache.max_staleness);
            stored.sessions.live_for(config.authn.session_lifetime);
        }
    }

    /// Writes what the store has not heard of yet.
    pub(super) async fn finish(&self) {
        if let Some(stored) = &self.stored {
            stored.sessions.write_slides().await;
        }
    }

    /// Waits until what serving needs was loaded once: the store was heard from, and each issuer was
    /// asked for its keys, whatever it said. Whether one of them answers is no reason to keep
    /// everybody else waiting.
    pub(super) fn loaded(&self) -> impl Future<Output = ()> + Send + use<> {
        let issuers = self.issuers.load_full();
        let stored = self.stored.as_ref().map(|stored| {
            let signing = Arc::clone(&stored.signing);
            (Arc::clone(&stored.freshness), signing)
        });
        async move {
            for published in issuers.published() {
                published.first_attempt().await;
            }
            if let Some((freshness, signing)) = stored {
                while !(freshness.began() && signing.is_settled()) {
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
    }

    /// The failures counted so far, unless the rate at which they may come has changed.
    pub(super) fn failures(&self, config: &limits::Config) -> Arc<FailedAuthentications> {
        let rate = config.failed_authentications;
        let known = self.failures.load_full();
        if known.rate() == rate {
            known
        } else {
            Arc::new(FailedAuthentications::new(rate))
        }
    }
}

/// What the keys in the store shall sign with, where they are needed.
fn wanted_keys(config: &authn::Config) -> Option<SigningAlgorithm> {
    let tokens = config.access_token.as_ref();
    let tokens = tokens.filter(|_| config.signing_keys.is_none());
    tokens.map(|tokens| tokens.algorithm)
}

/// Opens the store and begins to follow it, before anything of it is remembered.
fn open_store(
    store: &store::Config,
    config: &Config,
    platform: &Platform,
    metrics: &Metrics,
    pulse: &Pulse,
) -> Result<(Stored, Follower), StartError> {
    let clock = &platform.clock;
    let store = Store::open(store, platform, observer(metrics));
    let store = Arc::new(store.map_err(StartError::Store)?);
    let capacity = config.cache.capacity;
    let keys = Arc::new(Verdicts::new(capacity));
    let issuers = Arc::new(Verdicts::new(capacity));
    let sessions = Arc::new(Verdicts::new(capacity));
    let standings = Arc::new(Verdicts::new(capacity));
    let nonces = Arc::new(Nonces::new(Arc::clone(&store), platform.clone()));
    let signing = Arc::new(signers::StoredKeys::new(
        Arc::clone(&store),
        platform.clone(),
    ));
    let (seal, doubted) = (Arc::clone(&nonces), Arc::clone(&signing));
    let remembered = vec![
        Remembered::unchanging(move || seal.forget()),
        Remembered::unchanging(move || doubted.doubt()),
        Remembered::new(&standings, access_token::concerned),
        Remembered::new(&keys, api_key::concerned_keys),
        Remembered::new(&issuers, api_key::concerned_issuers),
        Remembered::new(&sessions, session_token::concerned),
    ];
    let freshness = Arc::new(Freshness::new(config.cache.max_staleness));
    let follower = Follower::new(
        Arc::clone(&store),
        remembered,
        Arc::clone(&freshness),
        pulse.clone(),
        Arc::clone(clock),
        metrics.clone(),
    );
    let pepper = &config.authn.pepper;
    let keyring = Keyring::new(
        Arc::clone(&store),
        config.authn.prefix.clone(),
        pepper.clone(),
        platform.clone(),
    );
    let keys = StoredKeys::new(Arc::new(keyring), keys, issuers, Arc::clone(&freshness));
    let access = access_token::Stored::new(
        Families::new(Arc::clone(&store), pepper.clone(), platform.clone()),
        standings,
        Arc::clone(&freshness),
        Arc::clone(&signing),
        capacity,
        platform.clone(),
    );
    let sessions = SessionTokens::new(
        Sessions::new(Arc::clone(&store), pepper.clone(), platform.clone()),
        sessions,
        Arc::clone(&freshness),
        config.authn.session_lifetime,
        platform.clone(),
        metrics.clone(),
    );
    let stored = Stored {
        keys: Arc::new(keys),
        sessions: Arc::new(sessions),
        access: Arc::new(access),
        signing,
        store,
        nonces,
        freshness,
    };
    Ok((stored, follower))
}

/// Deletes what has long been over, now and then, for ever.
async fn keep_sweeping(sweep: Sweep) {
    loop {
        tokio::time::sleep(sweep::PERIOD / 3).await;
        match sweep.turn().await {
            Ok(Some(deleted)) => tracing::debug!(deleted, "swept what was over"),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "what is over could not be swept"),
        }
    }
}
