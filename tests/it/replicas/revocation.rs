//! How long a credential that was revoked on one replica is good on the others.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::fleet::{self, Credential, Kind};
use crate::harness::{Flavour, Forwarder, Server, Way, eventually, rounds, within};
use crate::sign_in::site::Site;

/// How often each kind is revoked; this variable asks for more.
const ROUNDS: &str = "GATELET_REVOCATION_ROUNDS";

/// How often each replica is asked again once it has refused.
const AGAIN: usize = 50;

/// The contract's bound, while the server is there.
const SECOND: Duration = Duration::from_secs(1);

const STALENESS: Duration = Duration::from_secs(2);

/// Until a server that is there again is used again.
const AGAIN_THERE: Duration = Duration::from_secs(3);

/// What a replica says to one request that it is asked over and over.
struct Watch<'a> {
    site: &'a Site,
    credential: &'a Credential,
    refused: Mutex<Option<Instant>>,
    /// How often it was asked since.
    asked: AtomicUsize,
}

impl<'a> Watch<'a> {
    fn new(site: &'a Site, credential: &'a Credential) -> Self {
        Self {
            site,
            credential,
            refused: Mutex::default(),
            asked: AtomicUsize::new(0),
        }
    }

    /// Asks until it is told that this is over: once refused, it has to be refused for ever.
    fn ask(&self, over: &AtomicBool) {
        let mut client = self.site.world.connect();
        while !over.load(Ordering::Relaxed) {
            let answer = client.send(&self.credential.shown).response();
            let mut refused = self.refused();
            let known = matches!(
                (answer.status, &*answer.code()),
                (200, _)
                    | (401, "api_key_invalid" | "session_revoked")
                    | (503, "store_unavailable")
            );
            assert!(known, "{}: {}", answer.status, answer.text());
            if answer.status != 200 {
                refused.get_or_insert_with(Instant::now);
                self.asked.fetch_add(1, Ordering::Relaxed);
            }
            assert!(
                answer.status != 200 || refused.is_none(),
                "{:?} came back",
                self.credential.kind
            );
            drop(refused);
            // Leaves the machine to those who are measured.
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn refused(&self) -> MutexGuard<'_, Option<Instant>> {
        // Whoever panicked under it has said why.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends the watching however a round ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Revokes these on one replica while all are asked; the longest that one was good elsewhere.
///
/// `meanwhile` is done once all have refused, and they are asked on until it is done.
fn revoke(
    credentials: &[Credential],
    by: &Site,
    elsewhere: &[&Site],
    before: impl FnOnce(),
    meanwhile: impl FnOnce(),
) -> Vec<Duration> {
    let watches: Vec<Watch> = credentials
        .iter()
        .flat_map(|credential| elsewhere.iter().map(|site| Watch::new(site, credential)))
        .collect();
    for watch in &watches {
        // Both workers of each replica remember it.
        for _ in 0..4 {
            let answer = watch.site.world.send(&watch.credential.shown);
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    }
    let over = AtomicBool::new(false);
    let mut revoked = Vec::new();
    thread::scope(|scope| {
        let _over = Over(&over);
        for watch in &watches {
            scope.spawn(|| {
                let _over = Over(&over);
                watch.ask(&over);
            });
        }
        before();
        for credential in credentials {
            credential.revoke_on(by);
            revoked.push(Instant::now());
        }
        eventually("all refuse it", || {
            let asked = |watch: &Watch| watch.asked.load(Ordering::Relaxed);
            watches.iter().all(|watch| asked(watch) >= AGAIN) || over.load(Ordering::Relaxed)
        });
        meanwhile();
    });
    let of_each = watches.chunks(elsewhere.len()).zip(revoked);
    of_each
        .map(|(watches, revoked)| {
            let longest = watches.iter().map(|watch| {
                let refused = watch.refused().expect("it was refused");
                refused.saturating_duration_since(revoked)
            });
            longest.max().unwrap()
        })
        .collect()
}

fn others(sites: &[Site], by: usize) -> Vec<&Site> {
    let apart = sites.iter().enumerate().filter(|(place, _)| *place != by);
    apart.map(|(_, site)| site).collect()
}

#[test]
fn what_is_revoked_on_one_replica_is_refused_on_the_others_within_a_second() {
    let server = Server::start(Flavour::Redis);
    let sites = fleet::on(&server, "[log]\naccess = false");
    let rounds = rounds(ROUNDS, 4);
    for kind in Kind::ALL {
        let mut took = Vec::new();
        for round in 0..rounds {
            let (by, maker) = (round % sites.len(), &sites[(round + 1) % sites.len()]);
            let credentials = [Credential::made_on(maker, kind)];
            let elsewhere = others(&sites, by);
            took.extend(revoke(&credentials, &sites[by], &elsewhere, || {}, || {}));
            let here = sites[by].world.send(&credentials[0].shown);
            assert_eq!(here.status, 401, "where it was revoked: {}", here.text());
        }
        took.sort();
        let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
        println!("{kind:?}: {rounds} revocations, refused after {median:?}, at most {longest:?}");
        assert!(longest < SECOND, "{kind:?}: {longest:?}");
    }
}

/// The others hear of nothing, and cannot know that they do not.
fn revoke_behind(way: Way) {
    let server = Server::start(Flavour::Redis);
    let ways = [(); 3].map(|()| Forwarder::to(server.address()));
    let stores = ways.each_ref().map(|way| fleet::at(way.port()));
    let more = format!(
        "[log]\naccess = false\n[cache]\nmax_staleness = \"{}s\"",
        STALENESS.as_secs()
    );
    let sites = fleet::start(&stores, &more);
    let rounds = rounds(ROUNDS, 20).div_ceil(10);
    let mut longest = [Duration::ZERO; Kind::ALL.len()];
    for round in 0..rounds {
        let by = round % sites.len();
        let credentials = Kind::ALL.map(|kind| Credential::made_on(&sites[by], kind));
        let set = |way: Way| {
            for (place, forwarder) in ways.iter().enumerate() {
                if place != by {
                    forwarder.set(way);
                }
            }
        };
        let elsewhere = others(&sites, by);
        let took = revoke(
            &credentials,
            &sites[by],
            &elsewhere,
            || set(way),
            || {
                set(Way::Open);
                for site in &elsewhere {
                    within(AGAIN_THERE, "what is good is served again", || {
                        site.world.status_with("/keys", &site.key) == 200
                    });
                    for credential in &credentials {
                        within(AGAIN_THERE, "what was revoked is known to be", || {
                            site.world.send(&credential.shown).status == 401
                        });
                    }
                }
            },
        );
        for (longest, took) in longest.iter_mut().zip(took) {
            *longest = took.max(*longest);
        }
    }
    for (kind, longest) in Kind::ALL.iter().zip(longest) {
        println!("{way:?}, {kind:?}: {rounds} revocations, refused after at most {longest:?}");
        assert!(longest <= STALENESS, "{kind:?}: {longest:?}");
    }
}

#[test]
fn behind_a_feed_that_was_reset_nothing_revoked_outlives_the_staleness() {
    revoke_behind(Way::Cut);
}

#[test]
fn behind_a_feed_that_fell_silent_nothing_revoked_outlives_the_staleness() {
    revoke_behind(Way::Held);
}
