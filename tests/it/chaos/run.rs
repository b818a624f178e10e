//! What all threads of a run share: the replicas, what is known of every credential, and what went
//! wrong.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::REPLICAS;
use super::caller::Heard;
use super::forwarder::Forwarder;
use super::load::once_in;
use super::model::{Credential, Standing};
use super::tally::Tally;
use super::weather::Weather;
use crate::harness::{Headers, Random, World};

/// The longest that a replica believes what it remembers, as it is configured.
pub(super) const MAX_STALENESS: Duration = Duration::from_secs(3);

/// How long a revocation takes while the store is there.
const SECOND: Duration = Duration::from_secs(1);

/// How late something was let in, by whether the replica had its store meanwhile.
const WITH_THE_STORE: &str = "let in after it was ended, with the store";
const WITHOUT_THE_STORE: &str = "let in after it was ended, without the store";

/// A gatelet with a path of its own to the store.
pub(super) struct Replica {
    pub(super) world: Mutex<World>,
    pub(super) path: Forwarder,
    /// `None` while it is away.
    pub(super) proxy: Mutex<Option<SocketAddr>>,
}

/// What the API was told of each request that it got, by the number in its path.
pub(super) type Seen = Arc<Mutex<HashMap<u64, Headers>>>;

pub(super) struct Run {
    pub(super) began: Instant,
    pub(super) replicas: [Replica; REPLICAS],
    pub(super) weather: Weather,
    pub(super) tally: Tally,
    pub(super) seen: Seen,
    /// Keys that sessions and sign-ins begin with.
    pub(super) keys: Mutex<Vec<Arc<Credential>>>,
    /// One that nobody revokes.
    pub(super) lasting: OnceLock<Arc<Credential>>,
    /// Everything that lets in or did, for whoever tries it elsewhere.
    pub(super) presented: Mutex<Vec<Arc<Credential>>>,
    /// Keys that no replica was ever shown.
    pub(super) unseen: Mutex<Vec<Arc<Credential>>>,
    /// What was wrong with the stores, and since when.
    pub(super) faults: Mutex<Vec<String>>,
    failures: Mutex<Vec<String>>,
    over: AtomicBool,
    numbers: AtomicU64,
}

impl Run {
    pub(super) fn new(replicas: [Replica; REPLICAS], seen: Seen) -> Self {
        let tally = Tally::default();
        for what in [WITH_THE_STORE, WITHOUT_THE_STORE] {
            tally.took(what, Duration::ZERO);
        }
        Self {
            began: Instant::now(),
            replicas,
            weather: Weather::default(),
            tally,
            seen,
            keys: Mutex::default(),
            lasting: OnceLock::new(),
            presented: Mutex::default(),
            unseen: Mutex::default(),
            faults: Mutex::default(),
            failures: Mutex::default(),
            over: AtomicBool::new(false),
            numbers: AtomicU64::new(0),
        }
    }

    pub(super) fn goes_on(&self) -> bool {
        !self.over.load(Ordering::SeqCst)
    }

    pub(super) fn stop(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    /// Notes that the model and the replicas disagree; the run ends.
    pub(super) fn fail(&self, why: &str) {
        let at = self.began.elapsed();
        let mut failures = self.failures.lock().unwrap();
        failures.push(format!("at {:.3} s: {why}", at.as_secs_f64()));
        self.stop();
    }

    /// What went wrong.
    pub(super) fn failures(&self) -> Vec<String> {
        self.failures.lock().unwrap().clone()
    }

    /// A number that nothing else of this run has.
    pub(super) fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// A key that nobody has asked to revoke, as far as can be told.
    pub(super) fn any_key(&self, random: &mut Random) -> Arc<Credential> {
        let keys = self.keys.lock().unwrap();
        // What is begun with the one that lasts may live until it ends by itself.
        let chosen = if once_in(random, 3) || keys.is_empty() {
            self.lasting.get().unwrap()
        } else {
            &keys[random.below(keys.len())]
        };
        Arc::clone(chosen)
    }

    /// Has everyone try this credential from here on.
    pub(super) fn publish(&self, credential: &Arc<Credential>) {
        let mut presented = self.presented.lock().unwrap();
        presented.push(Arc::clone(credential));
    }

    /// When something happened, as failures say it.
    pub(super) fn when(&self, at: Instant) -> String {
        format!("{:.3} s", at.duration_since(self.began).as_secs_f64())
    }

    /// Judges an answer to whoever presented this credential.
    pub(super) fn judge(&self, what: &'static str, credential: &Credential, heard: &Heard) {
        let outcome = match heard.status {
            200..=299 => "let in",
            401 => "refused",
            503 => "unknown",
            _ => "other",
        };
        self.tally.count(what, outcome);
        if heard.status == 401 && matches!(credential.standing(heard.sent), Standing::Expired(_)) {
            self.tally.count(what, "refused as idle");
        }
        let wrong = match heard.status {
            200..=299 => self.wrongly_let_in(credential, heard),
            401 => wrongly_refused(credential),
            503 if heard.code == "store_unavailable" => self.wrongly_unknown(heard),
            _ => Some("nobody may answer so".to_owned()),
        };
        if let Some(wrong) = wrong {
            self.fail(&format!(
                "{what} on replica {}: {wrong}: answered {} {} to what was sent at {}, at {}; \
                 {:?} {} {:?}",
                heard.replica,
                heard.status,
                heard.code,
                self.when(heard.sent),
                self.when(heard.answered),
                credential.kind,
                credential.id,
                credential.subject,
            ));
        }
    }

    fn wrongly_let_in(&self, credential: &Credential, heard: &Heard) -> Option<String> {
        match credential.standing(heard.sent) {
            Standing::Good | Standing::Unsure => None,
            Standing::Expired(at) => Some(format!("it expired at {}", self.when(at))),
            Standing::Ended(at) => {
                let late = heard.sent.saturating_duration_since(at);
                let connected = self.weather.is_fair(heard.replica, at, heard.sent);
                let (measured, bound) = if connected {
                    (WITH_THE_STORE, SECOND)
                } else {
                    (WITHOUT_THE_STORE, MAX_STALENESS)
                };
                self.tally.took(measured, late);
                let lost = self.weather.lost(at, heard.sent);
                (late > bound + lost).then(|| {
                    format!(
                        "it was ended at {}, {late:?} before (lost {lost:?}, connected: {connected})",
                        self.when(at)
                    )
                })
            }
        }
    }

    fn wrongly_unknown(&self, heard: &Heard) -> Option<String> {
        let fair = self
            .weather
            .is_fair(heard.replica, heard.sent, heard.answered);
        fair.then(|| "the store is there".to_owned())
    }
}

/// That it is good is looked at after the answer: whoever ends it says so before asking.
fn wrongly_refused(credential: &Credential) -> Option<String> {
    let good = credential.standing(Instant::now()) == Standing::Good;
    good.then(|| "it is good".to_owned())
}
