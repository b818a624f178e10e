//! Makes, lists, changes and looks up stored API keys.
//!
//! What a key may look like and how it changes is judged in `rules::api_key`; this loads, asks
//! the rules, and swaps, again if someone else was faster. Each change carries an event, from
//! which replicas learn what to forget.

mod import;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use import::{ImportError, WrongLine};

use crate::platform::Platform;
use crate::rules::api_key::{self, Digest, Label, NotRotated, Pepper, Record, Secret, Shape};
use crate::rules::bucket::Rate;
use crate::rules::feed::Change;
use crate::rules::principal::Scopes;
use crate::rules::time::Timestamp;
use crate::store::{Store, StoreFault, Swapped, Versioned, Write};

/// How often a change is tried again because someone else was faster.
const TRIES: usize = 16;

/// Below which key records are kept.
const RECORDS: &str = "api_key/";

/// Below which digests lead to key ids.
const DIGESTS: &str = "api_key_digest/";

/// The keys in a store.
#[derive(Clone)]
pub struct Keyring {
    store: Arc<Store>,
    prefix: Box<str>,
    pepper: Option<Pepper>,
    platform: Platform,
}

/// What a new key shall be.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// What people call it.
    pub name: Label,
    /// Who it belongs to.
    pub owner: Option<Label>,
    /// What it may do.
    pub scopes: Scopes,
    /// From when it is refused.
    pub expires_at: Option<Timestamp>,
    /// The rate its holder may reach, over all routes.
    pub rate_limit: Option<Rate>,
}

/// A key and its secret, which is known only now.
pub struct Created {
    /// What the caller presents.
    pub secret: Zeroizing<String>,
    /// What is kept.
    pub record: Record,
}

impl fmt::Debug for Created {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Created")
            .field("record", &self.record)
            .finish_non_exhaustive()
    }
}

/// Why a key was not made or changed.
#[derive(Debug)]
pub enum KeyringError {
    /// No key has this id.
    UnknownKey(Box<str>),
    /// What was given for an id is a key itself.
    KeyForId,
    /// The key cannot have a new secret.
    NotRotated(NotRotated),
    /// Others changed the same records again and again meanwhile.
    Contended,
    /// The machine gave no randomness.
    Entropy(io::Error),
    /// The store failed; the change may have been made or not.
    Store(StoreFault),
}

impl fmt::Display for KeyringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownKey(id) => {
                write!(
                    f,
                    "no key has the id {id:?}; `gatelet keys list` shows the ids"
                )
            }
            Self::KeyForId => {
                f.write_str("that is a key and not its id; `gatelet keys list` shows the ids")
            }
            Self::NotRotated(_) => f.write_str("the key cannot be rotated"),
            Self::Contended => f.write_str("others are changing the same key; try again"),
            Self::Entropy(_) => f.write_str("the machine gives no randomness"),
            Self::Store(_) => f.write_str("the store failed"),
        }
    }
}

impl std::error::Error for KeyringError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::UnknownKey(_) | Self::KeyForId | Self::Contended => None,
            Self::NotRotated(source) => Some(source),
            Self::Entropy(source) => Some(source),
            Self::Store(source) => Some(source),
        }
    }
}

impl From<StoreFault> for KeyringError {
    fn from(fault: StoreFault) -> Self {
        Self::Store(fault)
    }
}

impl Keyring {
    /// The keys in `store`: minted with `prefix`, known by digests keyed with `pepper`.
    pub fn new(
        store: Arc<Store>,
        prefix: Box<str>,
        pepper: Option<Pepper>,
        platform: Platform,
    ) -> Self {
        Self {
            store,
            prefix,
            pepper,
            platform,
        }
    }

    /// Finds the key that has a secret with this digest, good or not; judging is the caller's.
    ///
    /// `digest` is the keyed one. Cancel safe.
    pub async fn lookup(&self, digest: &Digest) -> Result<Option<Record>, StoreFault> {
        let entry = self.store.look_up(&digest_key(digest)).await?;
        let Some(id) = entry.map(held_by).transpose()? else {
            return Ok(None);
        };
        let record = self.load(&id).await?.map(|(_, record)| record);
        // A pointer that outlived its secret leads to a key that no longer knows it.
        Ok(record.filter(|record| record.digests().any(|known| known.matches(digest))))
    }

    /// Makes a key. If the future is dropped, a key whose secret nobody knows may remain.
    pub async fn create(&self, new: NewKey) -> Result<Created, KeyringError> {
        let (secret, digest) = self.mint()?;
        let record = self.record(new, digest)?;
        match self
            .store
            .swap(creation(&record), vec![change(&record, &[])])
            .await?
        {
            Swapped::Committed => Ok(Created { secret, record }),
            // An id or a secret came twice out of the generator: it is not fit for secrets.
            Swapped::Conflict => Err(KeyringError::Contended),
        }
    }

    /// Every key, the oldest first. Keys that are made meanwhile may be missing. Cancel safe.
    pub async fn list(&self) -> Result<Vec<Record>, KeyringError> {
        let mut records = Vec::new();
        let mut pages = self.store.pages(RECORDS);
        while let Some(page) = pages.next().await? {
            for listed in &page {
                records.push(decode(&listed.key, &listed.record)?);
            }
        }
        records.sort_by(|one: &Record, two: &Record| {
            (one.created_at, &one.name, &one.id).cmp(&(two.created_at, &two.name, &two.id))
        });
        Ok(records)
    }

    /// The key with this id. Cancel safe.
    pub async fn show(&self, id: &str) -> Result<Record, KeyringError> {
        let (_, record) = self.existing(id).await?;
        Ok(record)
    }

    /// Ends a key for good, with all its secrets; one that is revoked already stays as it was.
    ///
    /// Once this returns, the revocation is on disk and running servers hear of it. If the future
    /// is dropped it may have been made or not; asking again is safe.
    pub async fn revoke(&self, id: &str) -> Result<Record, KeyringError> {
        for _ in 0..TRIES {
            let (version, record) = self.existing(id).await?;
            let Some(revoked) = api_key::revoke(&record, self.platform.clock.now()) else {
                return Ok(record);
            };
            let writes = vec![replacement(&revoked, version)];
            let outcome = self.store.swap(writes, vec![change(&revoked, &[])]).await?;
            if outcome != Swapped::Conflict {
                return Ok(revoked);
            }
        }
        Err(KeyringError::Contended)
    }

    /// Gives a key a new secret; its present one works until `overlap` has passed.
    ///
    /// Not cancel safe: if the future is dropped, the present secret may end and nobody know the
    /// new one. Rotating again is the way out.
    pub async fn rotate(&self, id: &str, overlap: Duration) -> Result<Created, KeyringError> {
        let (secret, digest) = self.mint()?;
        for _ in 0..TRIES {
            let (version, record) = self.existing(id).await?;
            let rotated = api_key::rotate(&record, digest, overlap, self.platform.clock.now())
                .map_err(KeyringError::NotRotated)?;
            let mut writes = vec![
                replacement(&rotated.record, version),
                index(digest, &rotated.record),
            ];
            for dropped in &rotated.dropped {
                let key = digest_key(dropped);
                if let Some(entry) = self.store.load(&key).await? {
                    writes.push(Write {
                        key,
                        expected: Some(entry.version),
                        value: None,
                    });
                }
            }
            let payload = change(&rotated.record, &rotated.dropped);
            if self.store.swap(writes, vec![payload]).await? != Swapped::Conflict {
                return Ok(Created {
                    secret,
                    record: rotated.record,
                });
            }
        }
        Err(KeyringError::Contended)
    }

    /// The key with this id, good or not; judging is the caller's. Cancel safe.
    pub async fn find(&self, id: &str) -> Result<Option<Record>, StoreFault> {
        Ok(self.load(id).await?.map(|(_, record)| record))
    }

    async fn existing(&self, id: &str) -> Result<(u64, Record), KeyringError> {
        if api_key::shape(&self.prefix, id.as_bytes()) == Shape::Minted {
            return Err(KeyringError::KeyForId);
        }
        let loaded = self.load(id).await?;
        loaded.ok_or_else(|| KeyringError::UnknownKey(id.into()))
    }

    async fn load(&self, id: &str) -> Result<Option<(u64, Record)>, StoreFault> {
        let key = record_key(id);
        match self.store.load(&key).await? {
            Some(loaded) => Ok(Some((loaded.version, decode(&key, &loaded)?))),
            None => Ok(None),
        }
    }

    /// The id of the key that has a secret with this digest.
    async fn holder(&self, digest: &Digest) -> Result<Option<String>, StoreFault> {
        let entry = self.store.load(&digest_key(digest)).await?;
        entry.map(held_by).transpose()
    }

    fn record(&self, new: NewKey, digest: Digest) -> Result<Record, KeyringError> {
        let NewKey {
            name,
            owner,
            scopes,
            expires_at,
            rate_limit,
        } = new;
        Ok(Record {
            id: self.new_id()?,
            name: name.into(),
            owner: owner.map(Into::into),
            scopes,
            created_at: whole_seconds(self.platform.clock.now()),
            // Rounded up: a key works for as long as was said.
            expires_at: expires_at.map(Timestamp::ceiled),
            revoked_at: None,
            rate_limit,
            secrets: vec![Secret {
                digest,
                until: None,
            }],
        })
    }

    fn mint(&self) -> Result<(Zeroizing<String>, Digest), KeyringError> {
        let mut random = Zeroizing::new([0; 32]);
        self.fill(random.as_mut_slice())?;
        let secret = api_key::mint(&self.prefix, &random);
        let digest = Digest::of(secret.as_bytes()).keyed(self.pepper.as_ref());
        Ok((secret, digest))
    }

    fn new_id(&self) -> Result<Box<str>, KeyringError> {
        let mut random = [0; 16];
        self.fill(&mut random)?;
        Ok(api_key::key_id(&random))
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), KeyringError> {
        self.platform
            .entropy
            .fill(bytes)
            .map_err(KeyringError::Entropy)
    }
}

/// Times are kept in whole seconds.
fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_seconds(time.seconds())
}

/// The id of the key that an entry of a digest leads to.
fn held_by(entry: Versioned) -> Result<String, StoreFault> {
    // The key is named in faults, and a digest is not to be shown.
    let id = String::from_utf8(entry.value);
    id.map_err(|error| StoreFault::unreadable(DIGESTS, error.utf8_error()))
}

fn record_key(id: &str) -> String {
    format!("{RECORDS}{id}")
}

fn digest_key(digest: &Digest) -> String {
    format!("{DIGESTS}{}", digest.hex())
}

/// The writes that make a key and lead its secrets' digests to it.
fn creation(record: &Record) -> Vec<Write> {
    let record_write = Write {
        key: record_key(&record.id),
        expected: None,
        value: Some(encode(record)),
    };
    let entries = record.digests().map(|digest| index(digest, record));
    std::iter::once(record_write).chain(entries).collect()
}

fn replacement(record: &Record, version: u64) -> Write {
    Write {
        key: record_key(&record.id),
        expected: Some(version),
        value: Some(encode(record)),
    }
}

fn index(digest: Digest, record: &Record) -> Write {
    Write {
        key: digest_key(&digest),
        expected: None,
        value: Some(record.id.as_bytes().to_vec()),
    }
}

/// The event that makes replicas forget what they remember of a key.
fn change(record: &Record, dropped: &[Digest]) -> Vec<u8> {
    Change::ApiKey {
        id: record.id.clone(),
        digests: record.digests().chain(dropped.iter().copied()).collect(),
    }
    .encode()
}

fn encode(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("strings, numbers and lists of them are always JSON")
}

fn decode(key: &str, loaded: &Versioned) -> Result<Record, StoreFault> {
    serde_json::from_slice(&loaded.value).map_err(|error| StoreFault::unreadable(key, error))
}

#[cfg(test)]
mod tests;
