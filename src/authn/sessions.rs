//! Issues, finds, slides and ends client sessions in the store.
//!
//! How one is judged and how it slides is in `rules::session`; this loads, asks the rules, and
//! swaps, again if someone else was faster.

mod import;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use import::{Fresh, ImportError};

use crate::platform::Platform;
use crate::rules::api_key::{self, Digest, Label, Pepper};
use crate::rules::feed::Change;
use crate::rules::principal::Scopes;
use crate::rules::session::{Lifetime, PREFIX, Record};
use crate::rules::time::Timestamp;
use crate::store::{Store, StoreFault, Swapped, Versioned, Write};

/// How often a change is tried again because someone else was faster.
const TRIES: usize = 16;

/// Below which session records are kept, by digest.
const RECORDS: &str = "session/";

/// Below which ids lead to digests.
const IDS: &str = "session_id/";

/// Below which subjects lead to ids and digests.
const SUBJECTS: &str = "session_subject/";

/// How long a session that is over is kept, so that its token is told why it is refused.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// The sessions in a store.
#[derive(Clone)]
pub struct Sessions {
    store: Arc<Store>,
    pepper: Option<Pepper>,
    platform: Platform,
}

/// What a new session shall be.
#[derive(Clone, Debug)]
pub struct NewSession {
    /// Whose it is.
    pub subject: Label,
    /// The API key that it is issued through.
    pub key_id: Option<Box<str>>,
    /// That key's owner.
    pub key_owner: Option<Box<str>>,
    /// What its token may do.
    pub scopes: Scopes,
    /// What the issuer says of it.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// A session and its token, which is known only now.
pub struct Issued {
    /// What the caller presents.
    pub token: Zeroizing<String>,
    /// What is kept.
    pub record: Record,
}

/// Why a session was not issued or changed.
#[derive(Debug)]
pub enum SessionsError {
    /// Others changed the same records again and again meanwhile.
    Contended,
    /// The machine gave no randomness.
    Entropy(io::Error),
    /// The store failed; the change may have been made or not.
    Store(StoreFault),
}

impl fmt::Display for SessionsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Contended => "others are changing the same session; try again",
            Self::Entropy(_) => "the machine gives no randomness",
            Self::Store(_) => "the store failed",
        })
    }
}

impl std::error::Error for SessionsError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Contended => None,
            Self::Entropy(source) => Some(source),
            Self::Store(source) => Some(source),
        }
    }
}

impl From<StoreFault> for SessionsError {
    fn from(fault: StoreFault) -> Self {
        Self::Store(fault)
    }
}

impl Sessions {
    /// The sessions in `store`, whose tokens are known by digests keyed with `pepper`.
    pub fn new(store: Arc<Store>, pepper: Option<Pepper>, platform: Platform) -> Self {
        Self {
            store,
            pepper,
            platform,
        }
    }

    /// Issues a session. If the future is dropped, one whose token nobody knows may remain.
    pub async fn issue(&self, new: NewSession) -> Result<Issued, SessionsError> {
        let mut random = Zeroizing::new([0; 32]);
        self.fill(random.as_mut_slice())?;
        let token = api_key::mint(PREFIX, &random);
        let digest = Digest::of(token.as_bytes()).keyed(self.pepper.as_ref());
        let mut id = [0; 16];
        self.fill(&mut id)?;
        let now = self.platform.clock.now();
        let max_expires_at = now.plus(new.lifetime.max);
        let record = Record {
            id: api_key::identifier("session", &id),
            subject: new.subject.into(),
            key_id: new.key_id,
            key_owner: new.key_owner,
            scopes: new.scopes,
            metadata: new.metadata,
            created_at: now,
            expires_at: new.lifetime.slid(now, max_expires_at),
            max_expires_at,
            revoked_at: None,
        };
        let writes = creation(&digest, &record);
        // Nobody can remember anything of a token that nobody knew: no event.
        match self.store.swap(writes, Vec::new()).await? {
            Swapped::Committed => Ok(Issued { token, record }),
            Swapped::Conflict => Err(SessionsError::Contended),
        }
    }

    /// The session whose token has this digest, good or not; judging is the caller's. Cancel safe.
    pub async fn lookup(&self, digest: &Digest) -> Result<Option<Record>, StoreFault> {
        let loaded = self.store.look_up(&record_key(digest)).await?;
        // The key is named in faults, and a digest is not to be shown.
        loaded.map(|loaded| decode(RECORDS, &loaded)).transpose()
    }

    /// The session with this id. Cancel safe.
    pub async fn find(&self, id: &str) -> Result<Option<(Digest, Record)>, StoreFault> {
        let Some(digest) = self.pointer(&id_key(id)).await? else {
            return Ok(None);
        };
        let found = self.load(&digest).await?;
        Ok(found.map(|(_, record)| (digest, record)))
    }

    /// Ends a session for good; one that is revoked already stays as it was.
    ///
    /// Once this returns, the revocation is on disk and running servers hear of it. If the future
    /// is dropped it may have been made or not; asking again is safe.
    pub async fn revoke(&self, digest: &Digest) -> Result<(), SessionsError> {
        for _ in 0..TRIES {
            let Some((version, record)) = self.load(digest).await? else {
                return Ok(());
            };
            let Some(revoked) = record.revoked(self.platform.clock.now()) else {
                return Ok(());
            };
            let key = record_key(digest);
            let writes = vec![write(key, Some(version), Some(encode(&revoked)))];
            let change = Change::Session {
                id: revoked.id.clone(),
                digests: vec![*digest],
            };
            if self.store.swap(writes, vec![change.encode()]).await? != Swapped::Conflict {
                return Ok(());
            }
        }
        Err(SessionsError::Contended)
    }

    /// Every session of a subject that is kept. Cancel safe.
    pub async fn of_subject(&self, subject: &str) -> Result<Vec<(Digest, Record)>, StoreFault> {
        let prefix = subject_key(subject, "");
        let mut found = Vec::new();
        let mut pages = self.store.pages(&prefix);
        while let Some(page) = pages.next().await? {
            for listed in &page {
                let digest = digest_of(&listed.key, &listed.record)?;
                if let Some((_, record)) = self.load(&digest).await? {
                    found.push((digest, record));
                }
            }
        }
        Ok(found)
    }

    /// Every session that is kept. Those that are issued meanwhile may be missing. Cancel safe.
    pub async fn list(&self) -> Result<Vec<Record>, StoreFault> {
        let mut records: Vec<Record> = Vec::new();
        let mut pages = self.store.pages(RECORDS);
        while let Some(page) = pages.next().await? {
            for listed in &page {
                records.push(decode(&listed.key, &listed.record)?);
            }
        }
        records.sort_by(|one, two| (one.created_at, &one.id).cmp(&(two.created_at, &two.id)));
        Ok(records)
    }

    /// Tells the store until when these sessions live; never shortens one. Returns how many it
    /// was told of.
    ///
    /// In one swap where nobody else writes them; nobody needs to hear of it, since a session is
    /// looked up again before it is refused.
    pub async fn slide(&self, slides: &[(Digest, Timestamp)]) -> Result<usize, SessionsError> {
        // What another replica has raised meanwhile need not be raised again.
        for _ in 0..TRIES {
            if let Some(written) = self.slide_together(slides).await? {
                return Ok(written);
            }
        }
        let mut written = 0;
        for slide in slides {
            written += self.slide_one(slide).await?;
        }
        Ok(written)
    }

    /// `None` if someone else wrote one of them meanwhile.
    async fn slide_together(
        &self,
        slides: &[(Digest, Timestamp)],
    ) -> Result<Option<usize>, SessionsError> {
        let keys: Vec<String> = slides
            .iter()
            .map(|(digest, _)| record_key(digest))
            .collect();
        let loaded = self.store.load_all(&keys).await?;
        let mut writes = Vec::with_capacity(slides.len());
        for ((key, loaded), (_, expires_at)) in keys.into_iter().zip(loaded).zip(slides) {
            let Some(loaded) = loaded else { continue };
            // One that cannot be read keeps none of the others, and is not tried for ever.
            let record = match decode(RECORDS, &loaded) {
                Ok(record) => record,
                Err(error) => {
                    tracing::warn!(%error, "a session that was used could not be prolonged in the store");
                    continue;
                }
            };
            if let Some(slid) = record.slid_to(*expires_at) {
                writes.push(write(key, Some(loaded.version), Some(encode(&slid))));
            }
        }
        let count = writes.len();
        if count == 0 {
            return Ok(Some(0));
        }
        let swapped = self.store.swap_loosely(writes).await?;
        Ok((swapped != Swapped::Conflict).then_some(count))
    }

    async fn slide_one(&self, slide: &(Digest, Timestamp)) -> Result<usize, SessionsError> {
        for _ in 0..TRIES {
            if let Some(written) = self.slide_together(std::slice::from_ref(slide)).await? {
                return Ok(written);
            }
        }
        Err(SessionsError::Contended)
    }

    /// Deletes sessions that have long been over; returns how many. Cancel safe.
    pub async fn sweep(&self) -> Result<usize, StoreFault> {
        let now = self.platform.clock.now();
        let mut deleted = 0;
        let mut pages = self.store.pages(RECORDS);
        while let Some(page) = pages.next().await? {
            for listed in &page {
                // One that cannot be read keeps none of the others.
                let Ok(record) = decode(&listed.key, &listed.record) else {
                    continue;
                };
                let over = record.revoked_at.unwrap_or(record.expires_at);
                if over.plus(KEPT) <= now {
                    deleted += usize::from(
                        self.delete(&listed.key, listed.record.version, &record)
                            .await?,
                    );
                }
            }
        }
        Ok(deleted)
    }

    async fn delete(&self, key: &str, version: u64, record: &Record) -> Result<bool, StoreFault> {
        let mut writes = vec![write(key.to_owned(), Some(version), None)];
        for pointer in [id_key(&record.id), subject_key(&record.subject, &record.id)] {
            if let Some(entry) = self.store.load(&pointer).await? {
                writes.push(write(pointer, Some(entry.version), None));
            }
        }
        let swapped = self.store.swap_loosely(writes).await?;
        Ok(swapped != Swapped::Conflict)
    }

    async fn load(&self, digest: &Digest) -> Result<Option<(u64, Record)>, StoreFault> {
        let loaded = self.store.load(&record_key(digest)).await?;
        // The key is named in faults, and a digest is not to be shown.
        loaded
            .map(|loaded| Ok((loaded.version, decode(RECORDS, &loaded)?)))
            .transpose()
    }

    async fn pointer(&self, key: &str) -> Result<Option<Digest>, StoreFault> {
        let entry = self.store.load(key).await?;
        entry.map(|entry| digest_of(key, &entry)).transpose()
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), SessionsError> {
        self.platform
            .entropy
            .fill(bytes)
            .map_err(SessionsError::Entropy)
    }
}

fn record_key(digest: &Digest) -> String {
    format!("{RECORDS}{}", digest.hex())
}

fn id_key(id: &str) -> String {
    format!("{IDS}{id}")
}

/// A subject may be any text, and one may begin like another.
fn subject_key(subject: &str, id: &str) -> String {
    format!("{SUBJECTS}{}/{id}", Digest::of(subject.as_bytes()).hex())
}

/// The writes that make a session and lead to it.
fn creation(digest: &Digest, record: &Record) -> Vec<Write> {
    let pointer = |key| write(key, None, Some(digest.hex().into_bytes()));
    vec![
        write(record_key(digest), None, Some(encode(record))),
        pointer(id_key(&record.id)),
        pointer(subject_key(&record.subject, &record.id)),
    ]
}

fn write(key: String, expected: Option<u64>, value: Option<Vec<u8>>) -> Write {
    Write {
        key,
        expected,
        value,
    }
}

fn encode(record: &Record) -> Vec<u8> {
    serde_json::to_vec(record).expect("strings, numbers and maps of them are always JSON")
}

fn decode(key: &str, loaded: &Versioned) -> Result<Record, StoreFault> {
    serde_json::from_slice(&loaded.value).map_err(|error| StoreFault::unreadable(key, error))
}

fn digest_of(key: &str, entry: &Versioned) -> Result<Digest, StoreFault> {
    std::str::from_utf8(&entry.value)
        .unwrap_or_default()
        .parse()
        .map_err(|error| StoreFault::unreadable(key, error))
}
