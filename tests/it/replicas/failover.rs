//! A master is killed under load: what needs it fails for a moment, and nothing else does.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::fleet::{self, Credential, Kind, SERVER};
use crate::harness::{
    AT_ONCE, Cluster, Flavour, Response, Sentinel, Server, Wallet, eventually, request, within,
};
use crate::sign_in::site::{Site, text};

/// Until everything is served again, once there is a master again.
const AGAIN: Duration = Duration::from_secs(2);

/// How long before the kill is noticed a call may have met it.
const MOMENTS: Duration = Duration::from_secs(1);

/// How many keys each replica has never seen.
const COLD: usize = 3_000;

/// How often each thing has to be answered before the kill, and again after it.
const ENOUGH: usize = 30;

/// Between two questions of one caller.
const PAUSE: Duration = Duration::from_millis(5);

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Asked {
    /// A key that was seen a moment ago.
    Cached,
    /// A key that was made long ago and is seen for the first time.
    Cold,
    /// A new session.
    Issue,
    /// A session, first on another replica, later on any.
    Use,
    /// A sign-in with a wallet.
    SignIn,
    /// The next refresh token.
    Refresh,
    /// The access token that came with it.
    Access,
}

impl Asked {
    const ALL: [Self; 7] = [
        Self::Cached,
        Self::Cold,
        Self::Issue,
        Self::Use,
        Self::SignIn,
        Self::Refresh,
        Self::Access,
    ];
}

/// An answer.
struct Answered {
    asked: Asked,
    sent: Instant,
    came: Instant,
    status: u16,
    code: String,
}

impl Answered {
    fn is_good(&self) -> bool {
        self.status < 300
    }
}

/// Who asks one replica, and now and then another.
struct Caller<'a> {
    site: &'a Site,
    other: &'a Site,
    /// Nobody uses the same wallet.
    wallet: Wallet,
    over: &'a AtomicBool,
    log: &'a Mutex<Vec<Answered>>,
}

impl Caller<'_> {
    fn goes_on(&self) -> bool {
        thread::sleep(PAUSE);
        !self.over.load(Ordering::Relaxed)
    }

    fn note(&self, asked: Asked, ask: impl FnOnce() -> Response) -> Response {
        let sent = Instant::now();
        let answer = ask();
        self.log.lock().unwrap().push(Answered {
            asked,
            sent,
            came: Instant::now(),
            status: answer.status,
            code: answer.code(),
        });
        answer
    }

    fn cached(&self) {
        let shown = request("GET", "/keys", &[("x-api-key", &self.site.key)]);
        while self.goes_on() {
            self.note(Asked::Cached, || self.site.world.send(&shown));
        }
    }

    fn cold(&self) {
        for number in 0..COLD {
            let shown = request("GET", "/keys", &[("x-api-key", &cold_key(number))]);
            self.note(Asked::Cold, || self.site.world.send(&shown));
            if !self.goes_on() {
                return;
            }
        }
        panic!("no key is cold any more");
    }

    fn sessions(&self) {
        let mut issued: Vec<String> = Vec::new();
        while self.goes_on() {
            let answer = self.note(Asked::Issue, || {
                let body = json!({"subject": "user-7"});
                self.site.post("/sessions", &[("x-api-key", SERVER)], &body)
            });
            let older = issued.len() / 2;
            if answer.status == 201 {
                issued.push(text(&answer, "clientSessionToken"));
                self.use_session(self.other, &issued[issued.len() - 1]);
            }
            if let Some(older) = issued.get(older) {
                self.use_session(self.site, older);
            }
        }
    }

    fn use_session(&self, site: &Site, token: &str) {
        let shown = with_bearer("/client", token);
        self.note(Asked::Use, || site.world.send(shown));
    }

    fn refreshes(&self) {
        let mut held: Option<String> = None;
        while self.goes_on() {
            let answer = match &held {
                Some(token) => self.note(Asked::Refresh, || self.site.refresh(token)),
                None => self.note(Asked::SignIn, || self.sign_in()),
            };
            match answer.status {
                200 | 201 => {
                    let shown = with_bearer("/token", &text(&answer, "accessToken"));
                    self.note(Asked::Access, || self.other.world.send(shown));
                    held = Some(text(&answer, "refreshToken"));
                }
                // The same one is shown again.
                503 => {}
                _ => held = None,
            }
        }
    }

    fn sign_in(&self) -> Response {
        let nonce = self.site.nonce(&self.wallet);
        let message = nonce["message"].as_str().unwrap();
        let signature = self.wallet.sign(message);
        let body = json!({"message": message, "signature": signature, "mode": "body"});
        self.site.with_key("/verify", &body)
    }
}

fn with_bearer(target: &str, bearer: &str) -> String {
    let bearer = format!("Bearer {bearer}");
    request("GET", target, &[("authorization", &bearer)])
}

fn cold_key(number: usize) -> String {
    format!("a-key-that-was-never-seen-{number:06}")
}

/// Imports the keys that are cold on every replica.
fn import_cold(site: &Site) {
    let lines: Vec<String> = (0..COLD)
        .map(|number| format!("{}\n", json!({"name": "cold", "key": cold_key(number)})))
        .collect();
    site.world.write("cold.ndjson", &lines.concat());
    let imported = site.world.command(&["keys", "import", "cold.ndjson"]);
    assert!(imported.status.success(), "{imported:?}");
}

/// Loads the replicas, kills the master and waits until there is one again.
fn ride_out(stores: &[String], kill: impl FnOnce(), is_recovered: impl FnMut() -> bool) {
    let sites = fleet::start(stores, "[log]\naccess = false");
    import_cold(&sites[0]);
    let revoked = Kind::ALL.map(|kind| Credential::made_on(&sites[1], kind));
    for (site, credential) in sites
        .iter()
        .flat_map(|site| revoked.iter().map(move |it| (site, it)))
    {
        assert_eq!(site.world.send(&credential.shown).status, 200);
    }
    let (over, log) = (AtomicBool::new(false), Mutex::new(Vec::new()));
    let callers: Vec<Caller> = (0..sites.len())
        .map(|place| Caller {
            site: &sites[place],
            other: &sites[(place + 1) % sites.len()],
            wallet: Wallet::numbered(60 + u8::try_from(place).unwrap()),
            over: &over,
            log: &log,
        })
        .collect();
    let enough = |since: Instant| {
        eventually("everything is served", || {
            let log = log.lock().unwrap();
            Asked::ALL.iter().all(|asked| {
                // A sign-in is seldom needed.
                let least = if *asked == Asked::SignIn { 0 } else { ENOUGH };
                let good =
                    |seen: &&Answered| seen.asked == *asked && seen.sent >= since && seen.is_good();
                log.iter().filter(good).count() >= least
            })
        })
    };
    let (killed, recovered) = thread::scope(|scope| {
        let _over = Over(&over);
        for caller in &callers {
            scope.spawn(|| caller.cached());
            scope.spawn(|| caller.cold());
            scope.spawn(|| caller.sessions());
            scope.spawn(|| caller.refreshes());
        }
        enough(Instant::now());
        for (place, credential) in revoked.iter().enumerate() {
            credential.revoke_on(&sites[place]);
        }
        kill();
        let killed = Instant::now();
        within(
            Duration::from_secs(20),
            "there is a master again",
            is_recovered,
        );
        let recovered = Instant::now();
        enough(recovered);
        (killed, recovered)
    });
    println!("a master again after {:?}", recovered - killed);
    judge(&log.into_inner().unwrap(), killed, recovered);
    for site in &sites {
        for credential in &revoked {
            let answer = site.world.send(&credential.shown);
            assert_eq!(answer.status, 401, "{:?} came back", credential.kind);
        }
    }
}

/// Ends the load however the test ends.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Only what needs the store fails, only as unavailable, and only while there is no master. Nothing
/// is refused: what was answered is on the server that takes over.
fn judge(log: &[Answered], killed: Instant, recovered: Instant) {
    let mut counts: BTreeMap<(Asked, &str), (usize, Duration)> = BTreeMap::new();
    for seen in log {
        let (count, last) = counts.entry((seen.asked, &seen.code)).or_default();
        *count += 1;
        *last = (*last).max(seen.came.saturating_duration_since(killed));
    }
    for ((asked, code), (count, last)) in counts.iter().filter(|((_, code), _)| !code.is_empty()) {
        println!("{asked:?} {code}: {count}, the last {last:?} after the kill");
    }
    for seen in log.iter().filter(|seen| !seen.is_good()) {
        let sent = seen.sent.saturating_duration_since(killed);
        let what = format!(
            "{:?}: {} {}, asked {sent:?} after the kill",
            seen.asked, seen.status, seen.code
        );
        match (seen.status, &*seen.code) {
            (503, "store_unavailable") => {
                assert_ne!(seen.asked, Asked::Cached, "{what}");
                assert!(seen.came + MOMENTS >= killed, "{what}");
                assert!(seen.sent <= recovered + AGAIN, "{what}");
            }
            _ => panic!("{what}"),
        }
    }
}

#[test]
fn a_cluster_that_loses_a_master_fails_no_more_than_it_says() {
    let mut cluster = Cluster::with_replicas(Flavour::Redis);
    let place = cluster.holder_of("{gatelet}:index");
    let urls: Vec<String> = cluster
        .nodes
        .iter()
        .chain(&cluster.replicas)
        .map(|node| format!("redis://127.0.0.1:{}", node.port()))
        .collect();
    let store = format!("[store]\nkind = \"redis\"\ncluster = true\nurls = {urls:?}\n");
    let mut master = cluster.nodes.remove(place);
    let successor = &cluster.replicas[place];
    ride_out(
        &[(); 3].map(|()| store.clone()),
        || master.kill(),
        || {
            successor.is_master()
                && cluster
                    .nodes
                    .iter()
                    .chain([successor])
                    .all(Server::is_in_order)
        },
    );
}

#[test]
fn a_master_that_a_sentinel_replaces_fails_no_more_than_it_says() {
    let mut master = Server::with(Flavour::Valkey, &AT_ONCE);
    let port = master.port().to_string();
    let replica = Server::with(Flavour::Valkey, &["--replicaof", "127.0.0.1", &port]);
    replica.follows();
    let sentinel = Sentinel::over(&master);
    let server = sentinel.server();
    eventually("the sentinel knows of the replica", || {
        let known = server.ask(&["SENTINEL", "REPLICAS", "main"]);
        known.contains("127.0.0.1")
    });
    let store = format!(
        "[store]\nkind = \"redis\"\nsentinel_master = \"main\"\nurls = [\"redis://127.0.0.1:{}\"]\n",
        server.port()
    );
    ride_out(
        &[(); 3].map(|()| store.clone()),
        || master.kill(),
        || {
            let named = server.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main"]);
            replica.is_master() && named.contains(&replica.port().to_string())
        },
    );
}
