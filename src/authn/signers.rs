//! The keys that access tokens are signed with: from files, or made and kept in the store.
//!
//! Which key signs and which are published is planned in `rules::signing_keys`.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::Notify;
use zeroize::Zeroizing;

use crate::authn::jwt::signing::{BadSigningKey, SigningFault, SigningKey};
use crate::authn::jwt::verifying::KeySet;
use crate::platform::Platform;
use crate::rules::jwt::SigningAlgorithm;
use crate::rules::signing_keys::{self, Record, Schedule};
use crate::rules::time::Timestamp;
use crate::store::{Store, StoreFault, Swapped, Write};

/// Where the stored keys are: in one record, so that one of several replicas makes a new one.
const RECORD: &str = "signing_keys";

/// How often a change is tried again because someone else was faster.
const TRIES: usize = 16;

/// How often they are looked for while there are none.
const RETRY: Duration = Duration::from_millis(500);

/// How often the stored keys are looked at.
const LOOK: Duration = Duration::from_secs(60);

/// The longest that an access token may live, whatever the configuration has ever said.
pub const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How long a key of another algorithm is left alone that another replica may have made.
const PATIENCE: Duration = Duration::from_secs(24 * 3600);

/// How stored keys follow one another.
const PERIOD: Duration = Duration::from_secs(30 * 24 * 3600);

/// How long a key is published before it signs: twice as long as verifiers may keep the set.
const LEAD: Duration = Duration::from_secs(600);

/// The keys in force.
pub struct Ring {
    signer: Arc<SigningKey>,
    /// What tokens are verified with.
    pub verifying: KeySet,
    /// The set as it is published (RFC 7517 §5).
    pub published: Value,
}

/// Why there is no ring.
#[derive(Debug)]
pub enum RingError {
    /// The library made no key.
    Signing(SigningFault),
    /// A stored key cannot be read.
    Stored(BadSigningKey),
    /// Others changed the keys again and again meanwhile.
    Contended,
    /// The store failed.
    Store(StoreFault),
}

impl fmt::Display for RingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signing(_) => "no signing key could be made",
            Self::Stored(_) => "a signing key in the store cannot be used",
            Self::Contended => "others are changing the signing keys",
            Self::Store(_) => "the store failed",
        })
    }
}

impl std::error::Error for RingError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Signing(source) => Some(source),
            Self::Stored(source) => Some(source),
            Self::Contended => None,
            Self::Store(source) => Some(source),
        }
    }
}

impl From<StoreFault> for RingError {
    fn from(fault: StoreFault) -> Self {
        Self::Store(fault)
    }
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ring({})", self.signer.kid())
    }
}

impl Ring {
    /// A ring of keys of which the first signs and all are published.
    pub fn of(keys: &[Arc<SigningKey>]) -> Option<Self> {
        let verifying = keys.iter().filter_map(|key| key.verifying_key().ok());
        Some(Self {
            signer: Arc::clone(keys.first()?),
            verifying: KeySet::new(verifying),
            published: json!({
                "keys": keys.iter().map(|key| key.public_jwk()).collect::<Vec<_>>(),
            }),
        })
    }

    /// The key that signs.
    pub fn signer(&self) -> &SigningKey {
        &self.signer
    }
}

/// A key as it is stored.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    kid: Box<str>,
    algorithm: Box<str>,
    created_at: u64,
    signs_from: u64,
    /// PKCS#8, in hexadecimal.
    key: Zeroizing<String>,
}

/// The stored keys, and which of them are in force.
pub struct StoredKeys {
    store: Arc<Store>,
    platform: Platform,
    ring: ArcSwapOption<Ring>,
    /// What new keys shall sign with; nothing while no key is wanted.
    wanted: ArcSwapOption<SigningAlgorithm>,
    /// Whether that is news: no keys of another algorithm are waited for then.
    is_news: AtomicBool,
    /// Told when the store may hold others than it did.
    doubted: Notify,
}

impl StoredKeys {
    /// The keys in `store`; none are in force before [`Self::want`].
    pub fn new(store: Arc<Store>, platform: Platform) -> Self {
        Self {
            store,
            platform,
            ring: ArcSwapOption::empty(),
            wanted: ArcSwapOption::empty(),
            is_news: AtomicBool::new(false),
            doubted: Notify::new(),
        }
    }

    /// The ring in force.
    pub fn ring(&self) -> Option<Arc<Ring>> {
        self.ring.load_full()
    }

    /// Whether the keys that are wanted are in force.
    pub fn is_settled(&self) -> bool {
        self.wanted.load().is_none() || self.ring.load().is_some()
    }

    /// From now on keys are wanted that sign with `algorithm`, or none; they are in force once this
    /// returns.
    pub async fn want(&self, algorithm: Option<SigningAlgorithm>) -> Result<(), RingError> {
        let before = self.wanted.swap(algorithm.map(Arc::new));
        if before.as_deref() != algorithm.as_ref() {
            self.is_news.store(true, Ordering::Relaxed);
        }
        match algorithm {
            Some(algorithm) => self.look(algorithm).await,
            None => Ok(()),
        }
    }

    /// Follows the plan for ever.
    pub async fn keep(self: Arc<Self>) {
        loop {
            // What is missing is looked for at once.
            let wait = if self.is_settled() { LOOK } else { RETRY };
            // Either way it is looked at.
            let _ = tokio::time::timeout(wait, self.doubted.notified()).await;
            let Some(algorithm) = self.wanted.load_full() else {
                continue;
            };
            if let Err(error) = self.look(*algorithm).await {
                tracing::warn!(%error, "the signing keys could not be looked at");
            }
        }
    }

    /// Has them looked at now: the store may have lost what it had.
    pub fn doubt(&self) {
        self.doubted.notify_one();
    }

    async fn look(&self, algorithm: SigningAlgorithm) -> Result<(), RingError> {
        let is_news = self.is_news.load(Ordering::Relaxed);
        let patience = if is_news { Duration::ZERO } else { PATIENCE };
        self.refresh(algorithm, patience).await?;
        // Unless it is by now something else that is wanted.
        if self.wanted.load().as_deref() == Some(&algorithm) {
            self.is_news.store(false, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Looks at the stored keys, makes and forgets what the plan says, and puts them in force.
    async fn refresh(
        &self,
        algorithm: SigningAlgorithm,
        patience: Duration,
    ) -> Result<(), RingError> {
        for _ in 0..TRIES {
            let loaded = self.store.load(RECORD).await?;
            let version = loaded.as_ref().map(|loaded| loaded.version);
            let stored: Vec<Stored> = match &loaded {
                Some(loaded) => serde_json::from_slice(&loaded.value)
                    .map_err(|error| StoreFault::unreadable(RECORD, error))?,
                None => Vec::new(),
            };
            let now = self.platform.clock.now();
            let schedule = Schedule {
                algorithm,
                patience,
                period: PERIOD,
                lead: LEAD,
                lifetime: LONGEST_LIFETIME,
            };
            let records: Vec<Record> = stored.iter().filter_map(Stored::record).collect();
            let plan = signing_keys::plan(&records, &schedule, now);
            if plan.make.is_none() && plan.forget.is_empty() {
                let order = plan.signer.into_iter().chain(
                    plan.published
                        .iter()
                        .copied()
                        .filter(|record| Some(*record) != plan.signer),
                );
                let keys: Result<Vec<Arc<SigningKey>>, RingError> = order
                    .filter_map(|record| stored.iter().find(|stored| stored.kid == record.kid))
                    .map(|stored| stored.key().map(Arc::new).map_err(RingError::Stored))
                    .collect();
                self.ring.store(Ring::of(&keys?).map(Arc::new));
                return Ok(());
            }
            let mut next: Vec<Stored> = stored
                .iter()
                .filter(|stored| !plan.forget.iter().any(|record| record.kid == stored.kid))
                .cloned()
                .collect();
            if let Some(signs_from) = plan.make {
                let key = SigningKey::generate(algorithm).map_err(RingError::Signing)?;
                next.push(Stored::new(&key, now, signs_from));
            }
            let value = serde_json::to_vec(&next).expect("strings and numbers are always JSON");
            let write = Write {
                key: RECORD.to_owned(),
                expected: version,
                value: Some(value),
            };
            // A conflict is another replica that was faster: its keys are as good.
            if self.store.swap(vec![write], Vec::new()).await? != Swapped::Conflict {
                tracing::info!("the signing keys have changed");
            }
        }
        Err(RingError::Contended)
    }
}

impl Stored {
    fn new(key: &SigningKey, created_at: Timestamp, signs_from: Timestamp) -> Self {
        let hex = key.as_pkcs8().iter().map(|byte| format!("{byte:02x}"));
        Self {
            kid: key.kid().into(),
            algorithm: key.algorithm().name().into(),
            created_at: created_at.seconds(),
            signs_from: signs_from.seconds(),
            key: Zeroizing::new(hex.collect()),
        }
    }

    /// What the plan needs; `None` for a key that this version does not know.
    fn record(&self) -> Option<Record> {
        let algorithm = SigningAlgorithm::ALL
            .into_iter()
            .find(|algorithm| algorithm.name() == &*self.algorithm)?;
        Some(Record {
            kid: self.kid.clone(),
            algorithm,
            created_at: Timestamp::from_seconds(self.created_at),
            signs_from: Timestamp::from_seconds(self.signs_from),
        })
    }

    fn key(&self) -> Result<SigningKey, BadSigningKey> {
        let (pairs, []) = self.key.as_bytes().as_chunks::<2>() else {
            return Err(BadSigningKey::Malformed);
        };
        let mut der = Zeroizing::new(Vec::with_capacity(pairs.len()));
        for pair in pairs {
            let digits = std::str::from_utf8(pair).map_err(|_| BadSigningKey::Malformed)?;
            let byte = u8::from_str_radix(digits, 16).map_err(|_| BadSigningKey::Malformed)?;
            der.push(byte);
        }
        SigningKey::from_pkcs8(&der)
    }
}
