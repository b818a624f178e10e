//! Begins, exchanges and ends families of refresh tokens in the store.
//!
//! What a token is worth and what a family becomes is judged in `rules::refresh`; this loads, asks
//! the rules, and swaps, again if someone else was faster: of all that race, one rotates.

use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

use crate::platform::Platform;
use crate::rules::api_key::{Digest, Pepper};
use crate::rules::feed::Change;
use crate::rules::refresh::{self, Exchange, Family, Grant, Reason, Refused, Salt, Terms, Token};
use crate::rules::time::Timestamp;
use crate::store::{Store, StoreFault, Swapped, Versioned, Write};

use super::sessions::SessionsError;

/// How often a change is tried again because someone else was faster.
const TRIES: usize = 64;

/// Below which families are kept, by id.
const RECORDS: &str = "family/";

/// Below which digests of tokens that were taken over lead to ids.
const DIGESTS: &str = "family_digest/";

/// Below which subjects lead to ids.
const SUBJECTS: &str = "family_subject/";

/// How long a family that is over is kept, so that its access tokens are told why they are refused.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// How refresh tokens live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// How long a family lives, counted from its sign-in.
    pub ttl: Duration,
    /// How long a token is still answered after it was rotated away.
    pub grace: Duration,
}

impl Default for Lifetime {
    fn default() -> Self {
        Self {
            ttl: Duration::from_secs(7 * 24 * 3600),
            grace: Duration::from_secs(10),
        }
    }
}

/// The families in a store.
#[derive(Clone)]
pub struct Families {
    store: Arc<Store>,
    pepper: Option<Pepper>,
    platform: Platform,
}

/// What a refresh token was exchanged for.
pub enum Exchanged {
    /// The family's current token.
    Token {
        /// The family as it is now.
        family: Box<Family>,
        /// Its current token.
        token: Token,
        /// It was made by this exchange.
        rotated: bool,
    },
    /// The token came back out of turn: its family was ended.
    Reused,
    /// There is nothing to exchange it for.
    Refused(Refused),
}

impl Families {
    /// The families in `store`, whose tokens are known by digests keyed with `pepper`.
    pub fn new(store: Arc<Store>, pepper: Option<Pepper>, platform: Platform) -> Self {
        Self {
            store,
            pepper,
            platform,
        }
    }

    /// Begins a family at a sign-in. If the future is dropped, one whose token nobody knows may
    /// remain.
    pub async fn begin(
        &self,
        grant: Grant,
        lifetime: Lifetime,
    ) -> Result<(Family, Token), SessionsError> {
        let mut random = Zeroizing::new([0; 64]);
        self.fill(random.as_mut_slice())?;
        let now = self.platform.clock.now();
        let (family, token) = refresh::begin(grant, &random, &self.terms(lifetime), now);
        let writes = vec![
            write(record_key(&family.id), None, Some(encode(&family))),
            write(
                subject_key(&family.grant.subject, &family.id),
                None,
                Some(Vec::new()),
            ),
        ];
        match self.store.swap(writes, Vec::new()).await? {
            Swapped::Committed => Ok((family, token)),
            Swapped::Conflict => Err(SessionsError::Contended),
        }
    }

    /// The family that a token is of, good or not. Cancel safe.
    ///
    /// A token that merely names a family is of none: the id is no secret.
    pub async fn of_token(&self, token: &Token) -> Result<Option<Family>, StoreFault> {
        let named = self.load_of(token).await?.map(|(_, family)| family);
        Ok(named.filter(|family| refresh::is_of(family, token, self.pepper.as_ref())))
    }

    /// The family with this id, good or not. Cancel safe.
    pub async fn lookup(&self, id: &str) -> Result<Option<Family>, StoreFault> {
        Ok(self.load(id).await?.map(|(_, family)| family))
    }

    /// Exchanges a refresh token for its family's current one.
    ///
    /// Not cancel safe: if the future is dropped, the token may have been rotated away; presenting
    /// it again within grace is the way out.
    pub async fn exchange(
        &self,
        token: &Token,
        lifetime: Lifetime,
    ) -> Result<Exchanged, SessionsError> {
        for _ in 0..TRIES {
            let Some((version, family)) = self.load_of(token).await? else {
                return Ok(Exchanged::Refused(Refused::Unknown));
            };
            let mut salt = [0; 32];
            self.fill(&mut salt)?;
            let now = self.platform.clock.now();
            let outcome = refresh::exchange(&family, token, Salt(salt), &self.terms(lifetime), now);
            let (becomes, event, exchanged) = match outcome {
                Exchange::Refused(refused) => return Ok(Exchanged::Refused(refused)),
                Exchange::Again {
                    token,
                    family: None,
                } => {
                    return Ok(Exchanged::Token {
                        family: Box::new(family),
                        token,
                        rotated: false,
                    });
                }
                Exchange::Again {
                    token,
                    family: Some(noted),
                } => {
                    let exchanged = Exchanged::Token {
                        family: Box::new(noted.clone()),
                        token,
                        rotated: false,
                    };
                    (noted, None, exchanged)
                }
                Exchange::Rotated { family, token } => {
                    let exchanged = Exchanged::Token {
                        family: Box::new(family.clone()),
                        token,
                        rotated: true,
                    };
                    (family, None, exchanged)
                }
                Exchange::Reused { family } => {
                    let event = change(&family.id);
                    (family, Some(event), Exchanged::Reused)
                }
            };
            let key = record_key(&becomes.id);
            let writes = vec![write(key, Some(version), Some(encode(&becomes)))];
            let events = event.into_iter().collect();
            // A rotation that is committed when its grace is over would log out a second tab.
            let bound = (lifetime.grace / 2).max(Duration::from_secs(1));
            let swap = tokio::time::timeout(bound, self.store.swap(writes, events));
            let Ok(swapped) = swap.await else {
                return Err(SessionsError::Contended);
            };
            if swapped? != Swapped::Conflict {
                return Ok(exchanged);
            }
        }
        Err(SessionsError::Contended)
    }

    /// Notes that an access token of this generation was presented, where that matters.
    pub async fn note_presented(&self, id: &str, generation: u64) -> Result<(), SessionsError> {
        self.change(id, None, |family| {
            refresh::note_presented(family, generation)
        })
        .await
    }

    /// Ends a family for good; one that is over already stays as it was.
    ///
    /// Once this returns, the revocation is on disk and running servers hear of it. If the future
    /// is dropped it may have been made or not; asking again is safe.
    pub async fn revoke(&self, id: &str, reason: Reason) -> Result<(), SessionsError> {
        let now = self.platform.clock.now();
        self.change(id, Some(change(id)), |family| {
            refresh::revoke(family, reason, now)
        })
        .await
    }

    async fn change(
        &self,
        id: &str,
        event: Option<Vec<u8>>,
        becomes: impl Fn(&Family) -> Option<Family>,
    ) -> Result<(), SessionsError> {
        for _ in 0..TRIES {
            let Some((version, family)) = self.load(id).await? else {
                return Ok(());
            };
            let Some(changed) = becomes(&family) else {
                return Ok(());
            };
            let writes = vec![write(record_key(id), Some(version), Some(encode(&changed)))];
            let events = event.clone().into_iter().collect();
            if self.store.swap(writes, events).await? != Swapped::Conflict {
                return Ok(());
            }
        }
        Err(SessionsError::Contended)
    }

    /// Every family of a subject that is kept. Cancel safe.
    pub async fn of_subject(&self, subject: &str) -> Result<Vec<Family>, StoreFault> {
        let prefix = subject_key(subject, "");
        let mut found = Vec::new();
        let mut pages = self.store.pages(&prefix);
        while let Some(page) = pages.next().await? {
            for listed in &page {
                let id = listed.key.strip_prefix(&prefix).unwrap_or_default();
                found.extend(self.lookup(id).await?);
            }
        }
        Ok(found)
    }

    /// Every family that is kept. Those that are begun meanwhile may be missing. Cancel safe.
    pub async fn list(&self) -> Result<Vec<Family>, StoreFault> {
        let mut families: Vec<Family> = Vec::new();
        let mut pages = self.store.pages(RECORDS);
        while let Some(page) = pages.next().await? {
            for listed in &page {
                families.push(decode(&listed.key, &listed.record)?);
            }
        }
        families.sort_by(|one, two| (one.created_at, &one.id).cmp(&(two.created_at, &two.id)));
        Ok(families)
    }

    /// Deletes families that have long been over; returns how many. Cancel safe.
    pub async fn sweep(&self) -> Result<usize, StoreFault> {
        let now = self.platform.clock.now();
        let mut deleted = 0;
        let mut pages = self.store.pages(RECORDS);
        while let Some(page) = pages.next().await? {
            for listed in &page {
                // One that cannot be read keeps none of the others.
                let Ok(family) = decode(&listed.key, &listed.record) else {
                    continue;
                };
                if family.expires_at.plus(KEPT) <= now {
                    let version = listed.record.version;
                    deleted += usize::from(self.delete(&listed.key, version, &family).await?);
                }
            }
        }
        Ok(deleted)
    }

    async fn delete(&self, key: &str, version: u64, family: &Family) -> Result<bool, StoreFault> {
        let mut writes = vec![write(key.to_owned(), Some(version), None)];
        let mut pointers = vec![subject_key(&family.grant.subject, &family.id)];
        pointers.extend(family.imported.as_ref().map(digest_key));
        for pointer in pointers {
            if let Some(entry) = self.store.load(&pointer).await? {
                writes.push(write(pointer, Some(entry.version), None));
            }
        }
        let swapped = self.store.swap_loosely(writes).await?;
        Ok(swapped != Swapped::Conflict)
    }

    async fn load_of(&self, token: &Token) -> Result<Option<(u64, Family)>, StoreFault> {
        if let Some(id) = token.family_id()
            && let Some(found) = self.store.look_up(&record_key(id)).await?
        {
            let family = decode(&record_key(id), &found)?;
            return Ok(Some((found.version, family)));
        }
        let pointer = digest_key(&token.digest(self.pepper.as_ref()));
        let Some(entry) = self.store.look_up(&pointer).await? else {
            return Ok(None);
        };
        // The key is named in faults, and a digest is not to be shown.
        let id = String::from_utf8(entry.value)
            .map_err(|error| StoreFault::unreadable(DIGESTS, error.utf8_error()))?;
        self.load(&id).await
    }

    async fn load(&self, id: &str) -> Result<Option<(u64, Family)>, StoreFault> {
        let key = record_key(id);
        match self.store.load(&key).await? {
            Some(loaded) => Ok(Some((loaded.version, decode(&key, &loaded)?))),
            None => Ok(None),
        }
    }

    fn terms(&self, lifetime: Lifetime) -> Terms<'_> {
        Terms {
            ttl: lifetime.ttl,
            grace: lifetime.grace,
            pepper: self.pepper.as_ref(),
        }
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), SessionsError> {
        self.platform
            .entropy
            .fill(bytes)
            .map_err(SessionsError::Entropy)
    }
}

/// The writes that take over a family whose one living token has this digest.
pub(super) fn taking_over(digest: &Digest, family: &Family) -> Vec<Write> {
    vec![
        write(record_key(&family.id), None, Some(encode(family))),
        write(
            digest_key(digest),
            None,
            Some(family.id.as_bytes().to_vec()),
        ),
        write(
            subject_key(&family.grant.subject, &family.id),
            None,
            Some(Vec::new()),
        ),
    ]
}

/// The digest under which what is known of a family is remembered.
pub(super) fn standing_digest(id: &str) -> Digest {
    Digest::of(id.as_bytes())
}

fn change(id: &str) -> Vec<u8> {
    Change::Family { id: id.into() }.encode()
}

fn record_key(id: &str) -> String {
    format!("{RECORDS}{id}")
}

fn digest_key(digest: &Digest) -> String {
    format!("{DIGESTS}{}", digest.hex())
}

/// A subject may be any text, and one may begin like another.
fn subject_key(subject: &str, id: &str) -> String {
    format!("{SUBJECTS}{}/{id}", Digest::of(subject.as_bytes()).hex())
}

fn write(key: String, expected: Option<u64>, value: Option<Vec<u8>>) -> Write {
    Write {
        key,
        expected,
        value,
    }
}

fn encode(family: &Family) -> Vec<u8> {
    serde_json::to_vec(family).expect("strings, numbers and lists of them are always JSON")
}

fn decode(key: &str, loaded: &Versioned) -> Result<Family, StoreFault> {
    serde_json::from_slice(&loaded.value).map_err(|error| StoreFault::unreadable(key, error))
}

/// Whether a family is good at this time, and of whom it is.
#[derive(Debug)]
pub struct Standing {
    revoked: bool,
    expires_at: Timestamp,
    /// The owner of the key that it was begun with.
    pub key_owner: Option<Box<str>>,
    /// The id of that key.
    pub key_id: Option<Box<str>>,
}

impl Standing {
    /// What is remembered of a family.
    pub fn of(family: &Family) -> Self {
        Self {
            revoked: family.revoked.is_some(),
            expires_at: family.expires_at,
            key_owner: family.grant.key_owner.clone(),
            key_id: family.grant.key_id.clone(),
        }
    }

    /// When the family ends, however it is used.
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// Whether the family is neither revoked nor past its cap.
    pub fn is_good(&self, now: Timestamp) -> bool {
        !self.revoked && now < self.expires_at
    }
}
