//! API keys on the request path: from presented bytes to a proven [`Key`].

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ahash::RandomState;
use http::{HeaderName, HeaderValue};

use crate::authn::Config;
use crate::authn::identity::Identity;
use crate::authn::keyring::Keyring;
use crate::cache::freshness::Freshness;
use crate::cache::verdicts::{Known, LoadFailed, Verdicts};
use crate::limits::FailedAuthentications;
use crate::platform::Monotonic;
use crate::rules::api_key::{Digest, Pepper, Record, Shape, StaticKey, shape};
use crate::rules::bucket::Rate;
use crate::rules::decision::{Fault, Refusal, Reject};
use crate::rules::feed::Change;
use crate::rules::headers::encoded_value;
use crate::rules::principal::Scopes;
use crate::rules::time::Timestamp;
use crate::telemetry::metrics::{Cache, CacheResult, WorkerShard};

/// Shorter secrets were never minted and are refused by an import: not worth a look-up.
pub(super) const SHORTEST_STORED: usize = 20;

/// How the ids of keys from the configuration begin.
const STATIC: &str = "static:";

/// A genuine API key, with all that a request needs of it made once.
#[derive(Debug)]
pub struct Key {
    /// Its id.
    pub id: Arc<str>,
    /// Its owner, or its name where it has none, and what it may do.
    pub identity: Identity,
    /// Its owner.
    pub owner: Option<Box<str>>,
    /// The rate its holder may reach, over all routes.
    pub rate_limit: Option<Rate>,
    /// [`Key::id`] as a header value.
    pub id_value: HeaderValue,
    /// Its owner as a header value.
    pub owner_value: Option<HeaderValue>,
    digest: Digest,
    good_until: Option<Timestamp>,
    revoked: bool,
    /// The store vouches for it: what it says grows stale.
    stored: bool,
}

impl Key {
    fn from_static(key: &StaticKey, digest: Digest) -> Self {
        Self::new(
            &format!("{STATIC}{}", key.name),
            &key.name,
            key.owner.as_deref(),
            &key.scopes,
            &Grant {
                digest,
                good_until: key.expires_at,
                revoked: false,
                stored: false,
                rate_limit: key.rate_limit,
            },
        )
    }

    fn from_record(record: &Record, digest: Digest) -> Self {
        Self::new(
            &record.id,
            &record.name,
            record.owner.as_deref(),
            &record.scopes,
            &Grant {
                digest,
                good_until: record.good_until(&digest),
                revoked: record.revoked_at.is_some(),
                stored: true,
                rate_limit: record.rate_limit,
            },
        )
    }

    fn new(id: &str, name: &str, owner: Option<&str>, scopes: &Scopes, grant: &Grant) -> Self {
        Self {
            id: id.into(),
            identity: Identity::new(owner.unwrap_or(name), scopes),
            owner: owner.map(Into::into),
            rate_limit: grant.rate_limit,
            id_value: encoded_value(id),
            owner_value: owner.map(encoded_value),
            digest: grant.digest,
            good_until: grant.good_until,
            revoked: grant.revoked,
            stored: grant.stored,
        }
    }

    /// Whether the key may be used now. Expired and revoked look alike outside.
    pub fn judge(&self, now: Timestamp) -> Result<(), Reject> {
        if self.revoked || self.good_until.is_some_and(|end| end <= now) {
            Err(Reject::ApiKeyInvalid)
        } else {
            Ok(())
        }
    }

    /// Whether what was issued through the key `id` of `owner` goes with this key.
    pub fn is_of(&self, id: Option<&str>, owner: Option<&str>) -> bool {
        match &self.owner {
            Some(own) => owner == Some(&**own),
            None => id == Some(&*self.id),
        }
    }

    /// From when the key is refused, if nothing else happens to it.
    pub(super) fn good_until(&self) -> Option<Timestamp> {
        self.good_until
    }
}

/// The part of a key that differs between the configuration's and the store's.
struct Grant {
    digest: Digest,
    good_until: Option<Timestamp>,
    revoked: bool,
    stored: bool,
    rate_limit: Option<Rate>,
}

/// What is known of a presented secret.
#[derive(Debug)]
pub enum Sought {
    /// It is a key's, good or not any more.
    Genuine(Arc<Key>),
    /// It is no key's.
    Unknown {
        /// It was counted as a failure already, because the store was asked.
        counted: bool,
    },
}

/// Whether a key is in force, for what was issued through it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Issuer {
    revoked: bool,
}

/// Keys in the store, as the request path sees them. Outlives reloads.
pub struct StoredKeys {
    keyring: Arc<Keyring>,
    verdicts: Arc<Verdicts<Key>>,
    /// By the digest of a key's id.
    issuers: Arc<Verdicts<Issuer>>,
    freshness: Arc<Freshness>,
    /// The last look-up failed, and that was told.
    failing: Arc<AtomicBool>,
}

impl StoredKeys {
    /// The keys of `keyring`, remembered for as long as `freshness` vouches for it: those that
    /// were presented in `verdicts`, those that something was issued through in `issuers`.
    pub fn new(
        keyring: Arc<Keyring>,
        verdicts: Arc<Verdicts<Key>>,
        issuers: Arc<Verdicts<Issuer>>,
        freshness: Arc<Freshness>,
    ) -> Self {
        Self {
            keyring,
            verdicts,
            issuers,
            freshness,
            failing: Arc::default(),
        }
    }

    async fn load_issuer(
        &self,
        id: &str,
        digest: Digest,
    ) -> Result<Option<Arc<Issuer>>, LoadFailed> {
        let keyring = Arc::clone(&self.keyring);
        let id: Box<str> = id.into();
        let load = move || async move {
            match keyring.find(&id).await {
                Ok(record) => Ok(record.map(|record| Issuer {
                    revoked: record.revoked_at.is_some(),
                })),
                Err(fault) => {
                    tracing::debug!(error = %Chain(&fault), "looking up an API key by its id failed");
                    Err(LoadFailed)
                }
            }
        };
        self.issuers.load(digest, load).await
    }

    async fn load(&self, digest: Digest) -> Result<Option<Arc<Key>>, LoadFailed> {
        let keyring = Arc::clone(&self.keyring);
        let failing = Arc::clone(&self.failing);
        let load = move || async move {
            match keyring.lookup(&digest).await {
                Ok(record) => {
                    failing.store(false, Ordering::Relaxed);
                    Ok(record.map(|record| Key::from_record(&record, digest)))
                }
                Err(fault) => {
                    // Once an outage: a line a request would fill the disk that may be why.
                    if !failing.swap(true, Ordering::Relaxed) {
                        tracing::warn!(error = %Chain(&fault), "looking up an API key failed");
                    }
                    Err(LoadFailed)
                }
            }
        };
        self.verdicts.load(digest, load).await
    }
}

/// What a change makes wrong of the keys that were presented.
pub fn concerned_keys(change: &Change) -> Vec<Digest> {
    match change {
        Change::ApiKey { digests, .. } => digests.clone(),
        Change::Session { .. } | Change::Family { .. } | Change::Unknown => Vec::new(),
    }
}

/// What a change makes wrong of the keys that something was issued through.
pub fn concerned_issuers(change: &Change) -> Vec<Digest> {
    match change {
        Change::ApiKey { id, .. } => vec![Digest::of(id.as_bytes())],
        Change::Session { .. } | Change::Family { .. } | Change::Unknown => Vec::new(),
    }
}

/// An error with its causes, on one line.
struct Chain<'a>(&'a dyn std::error::Error);

impl std::fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

/// Recognises API keys under one configuration.
pub struct ApiKeys {
    headers: Vec<HeaderName>,
    bearer: bool,
    prefix: Box<str>,
    pepper: Option<Pepper>,
    statics: HashMap<Digest, Arc<Key>, RandomState>,
    static_names: HashSet<Box<str>, RandomState>,
    stored: Option<Arc<StoredKeys>>,
    failures: Arc<FailedAuthentications>,
}

impl ApiKeys {
    /// Recognises the static keys of `config` and those `stored`.
    pub fn new(
        config: &Config,
        stored: Option<Arc<StoredKeys>>,
        failures: Arc<FailedAuthentications>,
    ) -> Self {
        let statics = config.statics.iter().map(|key| {
            // Under one form with the stored ones, so that a request is digested once.
            let digest = key.sha256.keyed(config.pepper.as_ref());
            (digest, Arc::new(Key::from_static(key, digest)))
        });
        Self {
            headers: config.headers.clone(),
            bearer: config.bearer,
            prefix: config.prefix.clone(),
            pepper: config.pepper.clone(),
            statics: statics.collect(),
            static_names: config.statics.iter().map(|key| key.name.clone()).collect(),
            stored,
            failures,
        }
    }

    /// The headers that carry a key.
    pub fn headers(&self) -> &[HeaderName] {
        &self.headers
    }

    /// Whether `Authorization: Bearer` carries one too.
    pub fn read_bearer(&self) -> bool {
        self.bearer
    }

    /// Whether these bytes have the shape of a minted key, whatever they are worth.
    pub fn is_minted(&self, secret: &[u8]) -> bool {
        matches!(shape(&self.prefix, secret), Shape::Minted)
    }

    /// The digest under which the store knows a secret.
    pub(super) fn digest(&self, secret: &[u8]) -> Digest {
        Digest::of(secret).keyed(self.pepper.as_ref())
    }

    /// Finds out whether these bytes are a key's.
    ///
    /// A look-up in the store is counted against the `charged` address before it is made, and
    /// taken back if it shows that the caller did nothing wrong.
    pub async fn seek(
        &self,
        secret: &[u8],
        charged: Option<IpAddr>,
        now: Monotonic,
        metrics: &WorkerShard,
    ) -> Result<Sought, Refusal> {
        let unknown = Ok(Sought::Unknown { counted: false });
        if matches!(shape(&self.prefix, secret), Shape::Garbled) {
            return unknown;
        }
        let digest = self.digest(secret);
        if let Some(key) = self.statics.get(&digest) {
            return Ok(Sought::Genuine(Arc::clone(key)));
        }
        let Some(stored) = &self.stored else {
            return unknown;
        };
        if secret.len() < SHORTEST_STORED {
            return unknown;
        }
        let (known, vouched) = stored.verdicts.vouched(&digest, &stored.freshness, now);
        let result = match &known {
            Known::Value(_) => CacheResult::Hit,
            Known::Nothing => CacheResult::Negative,
            Known::Unasked => CacheResult::Miss,
        };
        metrics.cache(Cache::ApiKey, result);
        // What it says now is no better: it may be said by a server that was replaced.
        if !vouched {
            return Err(Fault::StoreUnavailable.into());
        }
        match known {
            Known::Value(key) => Ok(Sought::Genuine(key)),
            Known::Nothing => unknown,
            // Rare, and large: kept out of the future that every request carries.
            Known::Unasked => Box::pin(self.ask(stored, digest, charged, now)).await,
        }
    }

    async fn ask(
        &self,
        stored: &StoredKeys,
        digest: Digest,
        charged: Option<IpAddr>,
        now: Monotonic,
    ) -> Result<Sought, Refusal> {
        // Whoever joins costs the store nothing; if it is no key, that is counted later.
        let charged = charged.filter(|_| !stored.verdicts.is_asked(&digest));
        if let Some(client) = charged {
            self.count(client, now)?;
        }
        let loaded = stored.load(digest).await;
        if let (Some(client), Ok(Some(_)) | Err(LoadFailed)) = (charged, &loaded) {
            self.failures.refund(client);
        }
        match loaded {
            Ok(Some(key)) => Ok(Sought::Genuine(key)),
            Ok(None) => Ok(Sought::Unknown {
                counted: charged.is_some(),
            }),
            Err(LoadFailed) => Err(Fault::StoreUnavailable.into()),
        }
    }

    /// Whether the key of this id, whose digest is `digest`, is in force for what was issued
    /// through it: known, and not revoked. That it expired ends nothing.
    pub async fn vouches_for(
        &self,
        id: &str,
        digest: &Digest,
        now: Monotonic,
    ) -> Result<bool, Fault> {
        if let Some(name) = id.strip_prefix(STATIC) {
            return Ok(self.static_names.contains(name));
        }
        let Some(stored) = &self.stored else {
            return Ok(false);
        };
        if !stored.freshness.vouches(now) {
            return Err(Fault::StoreUnavailable);
        }
        let issuer = match stored.issuers.known(digest) {
            Known::Value(issuer) => Some(issuer),
            Known::Nothing => None,
            Known::Unasked => Box::pin(stored.load_issuer(id, *digest))
                .await
                .map_err(|LoadFailed| Fault::StoreUnavailable)?,
        };
        Ok(issuer.is_some_and(|issuer| !issuer.revoked))
    }

    /// Counts an unknown credential against `client`; a reject past the limit.
    pub fn count(&self, client: IpAddr, now: Monotonic) -> Result<(), Reject> {
        self.failures
            .charge(client, now)
            .map_err(|retry_after| Reject::RateLimited { retry_after })
    }

    /// Takes back what was counted against `client`.
    pub fn refund(&self, client: IpAddr) {
        self.failures.refund(client);
    }

    /// Says no to a key that was let in and may not stay: it is judged as if it were presented anew.
    /// False if nobody could say now.
    pub(super) async fn still_stands(
        &self,
        key: &Key,
        wall: Timestamp,
        now: Monotonic,
    ) -> Result<bool, Refusal> {
        if let Some(key) = self.statics.get(&key.digest) {
            key.judge(wall)?;
            return Ok(true);
        }
        let Some(stored) = self.stored.as_ref().filter(|_| key.stored) else {
            return Err(Reject::ApiKeyInvalid.into());
        };
        if !stored.freshness.vouches(now) {
            return Err(Fault::StoreUnavailable.into());
        }
        let known = match stored.verdicts.known(&key.digest) {
            Known::Value(key) => Some(key),
            Known::Nothing => None,
            Known::Unasked => {
                let Ok(known) = stored.load(key.digest).await else {
                    // Not known to be bad, and still vouched for: the next look will tell.
                    key.judge(wall)?;
                    return Ok(false);
                };
                known
            }
        };
        known.ok_or(Reject::ApiKeyInvalid)?.judge(wall)?;
        Ok(true)
    }

    /// Whether what is remembered of the store may be believed now; nothing where there is none.
    pub(super) fn store_vouches(&self, now: Monotonic) -> bool {
        let stored = self.stored.as_ref();
        stored.is_some_and(|stored| stored.freshness.vouches(now))
    }
}
