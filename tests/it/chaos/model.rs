//! What is known of each credential, and what follows from it for whoever presents it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::REPLICAS;

/// How long a session lives past its use, as the replicas are configured.
pub(super) const IDLE: Duration = Duration::from_secs(20);

/// How much less of it is certain elsewhere: a replica may lose its store for 5 s, needs 2 s to find
/// it again, and tells it of slides within a tenth of [`IDLE`], before and after; the rest is for a
/// question that was on its way.
const UNTOLD: Duration = Duration::from_secs(15);

/// What may end a credential: the key, session or sign-in that it depends on.
#[derive(Debug, Default)]
pub(super) struct Life(Mutex<State>);

#[derive(Clone, Copy, Debug, Default)]
enum State {
    /// Nobody asked to end it.
    #[default]
    Good,
    /// Somebody did, and does not know what came of it.
    Unsure,
    /// It was answered then that it is over.
    Ended(Instant),
}

impl Life {
    /// Somebody is about to ask that it ends.
    pub(super) fn endanger(&self) {
        let mut state = self.0.lock().unwrap();
        if matches!(*state, State::Good) {
            *state = State::Unsure;
        }
    }

    /// Somebody was told that it is over.
    pub(super) fn end(&self, at: Instant) {
        let mut state = self.0.lock().unwrap();
        if !matches!(*state, State::Ended(_)) {
            *state = State::Ended(at);
        }
    }

    pub(super) fn is_good(&self) -> bool {
        matches!(*self.0.lock().unwrap(), State::Good)
    }
}

/// What is true of a credential now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is good, and nobody may say otherwise.
    Good,
    /// Both are right.
    Unsure,
    /// It was ended then: so long after, nobody may let it in.
    Ended(Instant),
    /// It ran out then, and every replica can tell by itself.
    Expired(Instant),
}

/// Where and how a credential is presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Key,
    Session,
    Access,
    /// Exchanged alone.
    Refresh,
}

/// Until when a session lives, by what was seen of its use.
#[derive(Clone, Copy, Debug)]
struct Uses {
    /// On every replica, whatever became of the one that saw it used.
    certain: Instant,
    /// Nowhere longer.
    possible: Instant,
}

/// Something that lets in.
#[derive(Debug)]
pub(super) struct Credential {
    pub(super) kind: Kind,
    /// The id of a key or session.
    pub(super) id: String,
    pub(super) secret: String,
    pub(super) subject: String,
    /// The session that the API is told of; the same however often it is refreshed.
    pub(super) session: Arc<OnceLock<String>>,
    /// It is good while each of these is.
    pub(super) lives: Vec<Arc<Life>>,
    uses: Option<Mutex<Uses>>,
    /// It is not to be used any more, only to be refused.
    retired: AtomicBool,
    /// Where it was let in the last time that it was presented.
    remembered: [AtomicBool; REPLICAS],
}

impl Credential {
    /// One that lasts as long as its `lives`.
    pub(super) fn new(
        kind: Kind,
        id: &str,
        secret: &str,
        subject: &str,
        lives: Vec<Arc<Life>>,
    ) -> Self {
        Self {
            kind,
            id: id.to_owned(),
            secret: secret.to_owned(),
            subject: subject.to_owned(),
            session: Arc::default(),
            lives,
            uses: None,
            retired: AtomicBool::new(false),
            remembered: Default::default(),
        }
    }

    /// A session that was asked for at `asked`, which is known now.
    pub(super) fn session(
        id: &str,
        token: &str,
        subject: &str,
        lives: Vec<Arc<Life>>,
        asked: Instant,
    ) -> Self {
        let uses = Uses {
            // Nobody has to be told of it: it was made in the store.
            certain: asked + IDLE,
            possible: Instant::now() + IDLE,
        };
        let known = OnceLock::from(id.to_owned());
        Self {
            session: Arc::new(known),
            uses: Some(Mutex::new(uses)),
            ..Self::new(Kind::Session, id, token, subject, lives)
        }
    }

    /// An access token of the sign-in that the API knows as `session`.
    pub(super) fn access(
        token: &str,
        subject: &str,
        session: &Arc<OnceLock<String>>,
        lives: Vec<Arc<Life>>,
    ) -> Self {
        Self {
            session: Arc::clone(session),
            ..Self::new(Kind::Access, "", token, subject, lives)
        }
    }

    /// It was asked for its use at `sent`, and let in.
    pub(super) fn was_used(&self, sent: Instant) {
        if let Some(uses) = &self.uses {
            let mut uses = uses.lock().unwrap();
            uses.certain = uses.certain.max(sent + IDLE.saturating_sub(UNTOLD));
            uses.possible = uses.possible.max(Instant::now() + IDLE);
        }
    }

    /// It was presented to a replica that was killed before it answered.
    pub(super) fn may_have_been_used(&self) {
        if let Some(uses) = &self.uses {
            let mut uses = uses.lock().unwrap();
            uses.possible = uses.possible.max(Instant::now() + IDLE);
        }
    }

    /// From now on nobody uses it, and nobody expects to be let in with it.
    pub(super) fn retire(&self) {
        self.retired.store(true, Ordering::SeqCst);
    }

    /// A replica let it in or refused it.
    pub(super) fn note(&self, replica: usize, let_in: bool) {
        self.remembered[replica].store(let_in, Ordering::Relaxed);
    }

    /// Whether a replica may let it in without asking the store.
    pub(super) fn is_remembered(&self, replica: usize) -> bool {
        self.remembered[replica].load(Ordering::Relaxed)
    }

    pub(super) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::SeqCst)
    }

    pub(super) fn standing(&self, now: Instant) -> Standing {
        let mut standing = Standing::Good;
        for life in &self.lives {
            standing = match (*life.0.lock().unwrap(), standing) {
                (State::Ended(at), Standing::Ended(before)) => Standing::Ended(at.min(before)),
                (State::Ended(at), _) => Standing::Ended(at),
                (State::Unsure, Standing::Good) => Standing::Unsure,
                (_, standing) => standing,
            };
        }
        let Some(uses) = &self.uses else {
            return standing;
        };
        let uses = *uses.lock().unwrap();
        match standing {
            Standing::Ended(_) => standing,
            _ if uses.possible < now => Standing::Expired(uses.possible),
            Standing::Good if uses.certain < now => Standing::Unsure,
            _ => standing,
        }
    }
}
