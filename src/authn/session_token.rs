//! Session tokens on the request path: from presented bytes to a live [`Session`], which slides.
//!
//! A slide is exact here at once. The store hears of it within [`Lifetime::write_interval`], with
//! all others of that time; until then it is kept here, whatever is forgotten meanwhile.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ahash::RandomState;
use arc_swap::ArcSwap;
use tokio::sync::Notify;

use crate::authn::identity::Identity;
use crate::authn::sessions::Sessions;
use crate::cache::freshness::Freshness;
use crate::cache::verdicts::{Known, LoadFailed, Verdicts};
use crate::platform::{Monotonic, Platform};
use crate::rules::api_key::Digest;
use crate::rules::decision::{Fault, Refusal, Reject};
use crate::rules::feed::Change;
use crate::rules::session::{Lifetime, Record, Refused};
use crate::rules::time::Timestamp;
use crate::telemetry::metrics::{Cache, CacheResult, Metrics, WorkerShard};

/// A session that the store says is over is not asked about again before this.
const ASKED_AGAIN: Duration = Duration::from_secs(1);

/// How much before the last moment slides are written.
const AHEAD: Duration = Duration::from_millis(50);

/// The most slides that wait to be written; past it they are written at once.
const MOST_PENDING: usize = 65_536;

/// The most slides in one swap.
const BATCH: usize = 500;

/// A session, with all that a request needs of it made once.
#[derive(Debug)]
pub struct Session {
    /// What the store said of it.
    pub record: Record,
    /// Whose it is, and what it may do.
    pub identity: Identity,
    /// The digest of the id of the key that it was issued through.
    issuer: Option<Digest>,
    digest: Digest,
    /// Until when it lives, in nanoseconds since the epoch.
    expires_at: AtomicU64,
    /// It slid, and the store has not heard of it.
    pending: AtomicBool,
    /// When the store was asked.
    asked: Monotonic,
}

impl Session {
    fn new(record: Record, digest: Digest, asked: Monotonic) -> Self {
        Self {
            identity: Identity::new(&record.subject, &record.scopes).in_session(&record.id),
            issuer: record.key_id.as_ref().map(|id| Digest::of(id.as_bytes())),
            digest,
            expires_at: AtomicU64::new(record.expires_at.nanoseconds()),
            pending: AtomicBool::new(false),
            asked,
            record,
        }
    }

    /// The id of the key that it was issued through, and its digest.
    pub fn issuer(&self) -> Option<(&str, &Digest)> {
        self.record.key_id.as_deref().zip(self.issuer.as_ref())
    }

    /// Until when it lives, if it is not used again.
    pub fn expires_at(&self) -> Timestamp {
        Timestamp::from_nanoseconds(self.expires_at.load(Ordering::Relaxed))
    }

    /// Until when it lives, however it is used.
    pub fn max_expires_at(&self) -> Timestamp {
        self.record.max_expires_at
    }

    fn judge(&self, wall: Timestamp) -> Result<(), Refused> {
        self.record.judge(self.expires_at(), wall)
    }

    fn slide_to(&self, expires_at: Timestamp) -> bool {
        let expires_at = expires_at.nanoseconds();
        self.expires_at.fetch_max(expires_at, Ordering::Relaxed) < expires_at
    }
}

/// What a change makes wrong of the sessions that are remembered.
pub fn concerned(change: &Change) -> Vec<Digest> {
    match change {
        Change::Session { digests, .. } => digests.clone(),
        Change::ApiKey { .. } | Change::Family { .. } | Change::Unknown => Vec::new(),
    }
}

impl From<Refused> for Reject {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Expired => Self::SessionExpired,
            Refused::Revoked => Self::SessionRevoked,
        }
    }
}

/// Sessions in the store, as the request path sees them. Outlives reloads.
pub struct SessionTokens {
    sessions: Sessions,
    verdicts: Arc<Verdicts<Session>>,
    freshness: Arc<Freshness>,
    lifetime: ArcSwap<Lifetime>,
    slides: Mutex<Slides>,
    /// A slide waits to be written.
    slid: Notify,
    /// No more may wait.
    full: Notify,
    platform: Platform,
    metrics: Metrics,
}

/// Sessions that slid, of which the store has not heard.
#[derive(Default)]
struct Slides {
    waiting: HashMap<Digest, Arc<Session>, RandomState>,
    /// They are on their way to the store, and not to be lost if it fails.
    leaving: HashMap<Digest, Arc<Session>, RandomState>,
}

impl SessionTokens {
    /// The sessions of `sessions`, remembered in `verdicts` while `freshness` vouches for it.
    pub fn new(
        sessions: Sessions,
        verdicts: Arc<Verdicts<Session>>,
        freshness: Arc<Freshness>,
        lifetime: Lifetime,
        platform: Platform,
        metrics: Metrics,
    ) -> Self {
        Self {
            sessions,
            verdicts,
            freshness,
            lifetime: ArcSwap::from_pointee(lifetime),
            slides: Mutex::default(),
            slid: Notify::new(),
            full: Notify::new(),
            platform,
            metrics,
        }
    }

    /// Where sessions are issued and ended.
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Forgets what is remembered of a session that was ended here.
    pub fn forget(&self, digest: &Digest) {
        self.verdicts.forget(&[*digest]);
    }

    /// How long sessions live.
    pub fn lifetime(&self) -> Lifetime {
        **self.lifetime.load()
    }

    /// From now on, sessions live so long past their use; caps stay as they were issued.
    pub fn live_for(&self, lifetime: Lifetime) {
        self.lifetime.store(Arc::new(lifetime));
    }

    /// What is remembered of the token with this digest, while the store may be believed: what it
    /// says now is no better, as it may be said by a server that was replaced.
    pub(super) fn known(
        &self,
        digest: &Digest,
        now: Monotonic,
        metrics: &WorkerShard,
    ) -> Result<Known<Session>, Fault> {
        let (known, vouched) = self.verdicts.vouched(digest, &self.freshness, now);
        let result = match &known {
            Known::Value(_) => CacheResult::Hit,
            Known::Nothing => CacheResult::Negative,
            Known::Unasked => CacheResult::Miss,
        };
        metrics.cache(Cache::SessionToken, result);
        if vouched {
            Ok(known)
        } else {
            Err(Fault::StoreUnavailable)
        }
    }

    /// Judges a session, asking the store once more before it is refused as idle: another replica
    /// may have seen it used.
    pub async fn judge(
        self: &Arc<Self>,
        session: Arc<Session>,
        wall: Timestamp,
        now: Monotonic,
    ) -> Result<Arc<Session>, Refusal> {
        let refused = match session.judge(wall) {
            Ok(()) => return Ok(session),
            Err(refused) => refused,
        };
        let hopeless = refused == Refused::Revoked || session.max_expires_at() <= wall;
        if hopeless || now.since(session.asked) < ASKED_AGAIN {
            return Err(Reject::from(refused).into());
        }
        self.verdicts.forget(&[session.digest]);
        match Box::pin(self.ask(session.digest)).await? {
            Some(session) => match session.judge(wall) {
                Ok(()) => Ok(session),
                Err(refused) => Err(Reject::from(refused).into()),
            },
            None => Err(Reject::TokenInvalid.into()),
        }
    }

    /// Moves on the expiry of a session that was used.
    pub fn slide(&self, session: &Arc<Session>, wall: Timestamp, metrics: &WorkerShard) {
        let slid = self.lifetime.load().slid(wall, session.max_expires_at());
        if !session.slide_to(slid) {
            return;
        }
        if session.pending.swap(true, Ordering::AcqRel) {
            metrics.session_touch_coalesced();
            return;
        }
        let mut slides = self.slides();
        let before = slides.waiting.insert(session.digest, Arc::clone(session));
        if let Some(before) = before {
            session.slide_to(before.expires_at());
        }
        if slides.waiting.len() >= MOST_PENDING {
            self.full.notify_one();
        }
        drop(slides);
        self.slid.notify_one();
    }

    /// Whether the store is being asked for this digest.
    pub(super) fn is_asked(&self, digest: &Digest) -> bool {
        self.verdicts.is_asked(digest)
    }

    /// Asks the store for the session whose token has this digest.
    pub(super) async fn ask(
        self: &Arc<Self>,
        digest: Digest,
    ) -> Result<Option<Arc<Session>>, Fault> {
        let asking = Arc::clone(self);
        let load = move || async move {
            let asked = asking.platform.clock.monotonic();
            match asking.sessions.lookup(&digest).await {
                Ok(record) => Ok(record.map(|record| asking.resumed(record, digest, asked))),
                Err(error) => {
                    tracing::debug!(%error, "looking up a session failed");
                    Err(LoadFailed)
                }
            }
        };
        let loaded = self.verdicts.load(digest, load).await;
        loaded.map_err(|LoadFailed| Fault::StoreUnavailable)
    }

    /// A session as the store has it, with the slides that the store has not heard of.
    fn resumed(&self, record: Record, digest: Digest, asked: Monotonic) -> Session {
        let session = Session::new(record, digest, asked);
        let slides = self.slides();
        for known in [&slides.waiting, &slides.leaving] {
            if let Some(known) = known.get(&digest) {
                session.slide_to(known.expires_at());
            }
        }
        session
    }

    /// Says no to a session that was let in and may not stay: it is judged as if it were presented
    /// anew. False if nobody could say now.
    pub(super) async fn still_stands(
        self: &Arc<Self>,
        session: &Session,
        wall: Timestamp,
        now: Monotonic,
    ) -> Result<bool, Refusal> {
        if !self.freshness.vouches(now) {
            return Err(Fault::StoreUnavailable.into());
        }
        let present = match self.verdicts.known(&session.digest) {
            Known::Value(present) => Some(present),
            Known::Nothing => None,
            Known::Unasked => {
                let Ok(present) = self.ask(session.digest).await else {
                    // Not known to be over, and still vouched for: the next look will tell.
                    session.judge(wall).map_err(Reject::from)?;
                    return Ok(false);
                };
                present
            }
        };
        let present = present.ok_or(Reject::SessionRevoked)?;
        self.judge(present, wall, now).await?;
        Ok(true)
    }

    /// Writes slides when they are due, for ever.
    pub async fn keep_writing(self: Arc<Self>) {
        loop {
            self.slid.notified().await;
            let interval = self.lifetime().write_interval();
            let rest = interval.saturating_sub(AHEAD.min(interval / 4));
            tokio::select! {
                () = tokio::time::sleep(rest) => {}
                () = self.full.notified() => {}
            }
            self.write_slides().await;
        }
    }

    /// Tells the store of every slide that it has not heard of. What it does not take is tried
    /// again later.
    pub async fn write_slides(&self) {
        let leaving: Vec<Arc<Session>> = {
            let mut slides = self.slides();
            // What an earlier write was stopped in the middle of is still to be told.
            for (digest, unfinished) in std::mem::take(&mut slides.leaving) {
                let kept = slides.waiting.entry(digest);
                let kept = kept.or_insert_with(|| Arc::clone(&unfinished));
                kept.slide_to(unfinished.expires_at());
            }
            slides.leaving = std::mem::take(&mut slides.waiting);
            slides.leaving.values().cloned().collect()
        };
        for batch in leaving.chunks(BATCH) {
            let slid: Vec<(Digest, Timestamp)> = batch
                .iter()
                .map(|session| {
                    // Before its expiry is read: a slide after this is the next one's.
                    session.pending.swap(false, Ordering::AcqRel);
                    (session.digest, session.expires_at())
                })
                .collect();
            match self.sessions.slide(&slid).await {
                Ok(written) => self.metrics.session_touches_written(written),
                Err(error) => {
                    tracing::warn!(%error, "sessions that were used could not be prolonged in the store");
                    self.keep(batch);
                }
            }
        }
        self.slides().leaving.clear();
    }

    fn keep(&self, batch: &[Arc<Session>]) {
        let mut slides = self.slides();
        for session in batch {
            session.pending.store(true, Ordering::Release);
            let kept = slides
                .waiting
                .entry(session.digest)
                .or_insert_with(|| Arc::clone(session));
            kept.slide_to(session.expires_at());
        }
        drop(slides);
        self.slid.notify_one();
    }

    fn slides(&self) -> MutexGuard<'_, Slides> {
        self.slides.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
