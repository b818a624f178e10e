//! Fifty refreshes of one token at once have one successor, whatever their order and the store.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use gatelet::authn::families::{Exchanged, Families, Lifetime};
use gatelet::platform::{Entropy, Platform, SystemEntropy};
use gatelet::rules::principal::Scopes;
use gatelet::rules::refresh::{Family, Grant, Mode, Token};
use gatelet::store::{Config, Store, Topology};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::harness::{Client, Flavour, HandClock, Random, Response, Server, Wallet, World, rounds};
use crate::sign_in::site::{AUTH, Site, text};
use crate::store::redis::config;

/// How many refresh at once.
const CALLERS: usize = 50;

/// How many rounds there are without a socket; this variable asks for more.
pub(crate) const ROUNDS: &str = "GATELET_RACE_ROUNDS";

/// For each round through the program there are so many without it.
pub(crate) const CHEAPER: usize = 20;

/// Randomness that lets other threads go first, now and then: it is asked for between the loading of
/// a family and its swap.
struct Hesitant(AtomicU64);

impl Entropy for Hesitant {
    fn fill(&self, bytes: &mut [u8]) -> std::io::Result<()> {
        let drawn = Random::seeded(self.0.fetch_add(1, Ordering::Relaxed)).next();
        match drawn % 8 {
            0 => thread::sleep(Duration::from_micros(drawn >> 8 & 0xff)),
            1..=3 => thread::yield_now(),
            _ => {}
        }
        SystemEntropy.fill(bytes)
    }
}

/// What one process has of the store: a handle of its own, and a thread to use it on.
struct Replica {
    runtime: Runtime,
    families: Families,
}

impl Replica {
    fn open(config: &Config, clock: &HandClock) -> Self {
        let platform = Platform {
            entropy: Arc::new(Hesitant(AtomicU64::new(0))),
            ..clock.platform()
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        Self {
            runtime,
            families: families(config, platform),
        }
    }

    /// Exchanges the token so often at once, each with as many pauses before it as are given.
    fn exchange(&self, token: &Token, pauses: &[usize]) -> Vec<(String, bool)> {
        self.runtime.block_on(async {
            let mut racing = JoinSet::new();
            for pauses in pauses {
                let (families, token, pauses) = (self.families.clone(), token.clone(), *pauses);
                racing.spawn(async move {
                    for _ in 0..pauses {
                        tokio::task::yield_now().await;
                    }
                    match families.exchange(&token, Lifetime::default()).await {
                        Ok(Exchanged::Token { token, rotated, .. }) => {
                            (token.as_str().to_owned(), rotated)
                        }
                        Ok(Exchanged::Reused) => panic!("logged out"),
                        Ok(Exchanged::Refused(refused)) => panic!("{refused:?}"),
                        Err(error) => panic!("{error}"),
                    }
                });
            }
            racing.join_all().await
        })
    }

    fn family(&self, id: &str) -> Family {
        let family = self.runtime.block_on(self.families.lookup(id));
        family.unwrap().unwrap()
    }
}

fn families(config: &Config, platform: Platform) -> Families {
    let store = Store::open(config, &platform, Arc::new(|_, _, _| {})).unwrap();
    Families::new(Arc::new(store), None, platform)
}

fn grant() -> Grant {
    Grant {
        subject: "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2".into(),
        key_id: None,
        key_owner: None,
        scopes: Scopes::default(),
        chain_id: None,
        mode: Mode::Cookie,
    }
}

/// Races of fifty to so many processes on one store; so few unless more are asked for.
fn race(store: &Config, replicas: usize, few: usize) {
    let begun = Instant::now();
    let clock = HandClock::default();
    let replicas: Vec<Replica> = (0..replicas)
        .map(|_| Replica::open(store, &clock))
        .collect();
    let first = &replicas[0];
    let family = first.families.begin(grant(), Lifetime::default());
    let (family, mut token) = first.runtime.block_on(family).unwrap();
    let mut random = Random::seeded(50);
    let rounds = rounds(ROUNDS, few);
    for round in 1..=rounds {
        let mut pauses = vec![Vec::new(); replicas.len()];
        for _ in 0..CALLERS {
            pauses[random.below(replicas.len())].push(random.below(6));
        }
        let answers: Vec<(String, bool)> = thread::scope(|scope| {
            let racing: Vec<_> = replicas
                .iter()
                .zip(&pauses)
                .map(|(replica, pauses)| scope.spawn(|| replica.exchange(&token, pauses)))
                .collect();
            racing
                .into_iter()
                .flat_map(|racer| racer.join().unwrap())
                .collect()
        });
        assert_eq!(answers.len(), CALLERS);
        let successors: HashSet<&str> = answers.iter().map(|(token, _)| &**token).collect();
        assert_eq!(successors.len(), 1, "round {round}");
        let rotated = answers.iter().filter(|(_, rotated)| *rotated).count();
        assert_eq!(rotated, 1, "round {round}");
        let successor = Token::parse(answers[0].0.as_bytes()).unwrap();
        assert_ne!(successor.as_str(), token.as_str());
        for replica in &replicas {
            let now = replica.family(&family.id);
            assert_eq!(now.generation, u64::try_from(round).unwrap());
            assert!(now.revoked.is_none(), "round {round}");
        }
        // Rounds follow one another within grace and beyond it.
        clock.advance(Duration::from_millis(200 + random.next() % 3_000));
        token = successor;
    }
    println!("{rounds} races of {CALLERS} took {:?}", begun.elapsed());
}

#[test]
fn a_race_of_fifty_has_one_successor() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("data");
    race(&Config::Embedded { path }, 4, 100);
}

#[test]
fn a_race_of_fifty_on_a_server_has_one_successor() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let server = Server::start(flavour);
        race(&Config::Redis(config(&[&server], Topology::Single)), 3, 25);
    }
}

/// The answers to one request that all callers send before any of them reads.
pub(crate) fn at_once(callers: &mut [Client], request: &str) -> Vec<Response> {
    for caller in &mut *callers {
        caller.send(request);
    }
    let answers = callers.iter_mut();
    answers.map(|caller| caller.response_to("POST")).collect()
}

#[test]
fn a_race_of_fifty_to_several_processes_has_one_successor() {
    let site = Site::with("\n[refresh_token]\ngrace = \"2s\"\n");
    let others = [site.world.another(), site.world.another()];
    let worlds: Vec<&World> = std::iter::once(&site.world).chain(&others).collect();
    let mut callers: Vec<Client> = (0..CALLERS)
        .map(|caller| worlds[caller % worlds.len()].connect())
        .collect();
    let signed_in = site.sign_in(&Wallet::numbered(30), "cookie");
    let mut token = crate::sign_in::site::cookie(&signed_in);
    let path = site.world.folder().join("data");
    let store = families(&Config::Embedded { path }, Platform::system());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    for round in 1..=rounds(ROUNDS, 100).div_ceil(CHEAPER) {
        let request = format!(
            "POST {AUTH}/refresh HTTP/1.1\r\nhost: api.test\r\ncontent-length: 0\r\n\
             cookie: __Host-refresh={token}\r\n\r\n"
        );
        let answers = at_once(&mut callers, &request);
        for answer in &answers {
            assert_eq!(answer.status, 200, "round {round}: {}", answer.text());
        }
        let successors: HashSet<String> =
            answers.iter().map(crate::sign_in::site::cookie).collect();
        assert_eq!(successors.len(), 1, "round {round}");
        token = successors.into_iter().next().unwrap();
        let family = Token::parse(token.as_bytes()).unwrap();
        let family = runtime.block_on(store.of_token(&family)).unwrap().unwrap();
        assert_eq!(family.generation, u64::try_from(round).unwrap());
        assert!(family.revoked.is_none());
        let access = text(&answers[round % CALLERS], "accessToken");
        assert_eq!(site.portfolio(&access).status, 200);
    }
    let received = site.upstream.received().pop().unwrap();
    let subject = text(&signed_in, "subject");
    assert_eq!(received.headers.one("x-auth-subject"), Some(&*subject));
    let in_a_body = site.post("/refresh", &[], &json!({"refreshToken": token}));
    assert_eq!(in_a_body.code(), "refresh_invalid", "still a cookie's");
}
