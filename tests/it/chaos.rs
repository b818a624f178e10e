//! Three replicas under load whose store is paused, killed and cut off: whatever was ended stays out,
//! whatever is good is never refused, and every replica serves again soon after its store is back.
//!
//! What must hold is known by a model of every credential; the faults follow from a seed.

mod caller;
mod faults;
mod forwarder;
mod load;
mod model;
mod run;
mod tally;
mod weather;

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::harness::{Flavour, Random, Server, Upstream, World};
use caller::Caller;
use forwarder::Forwarder;
use load::{
    make_and_revoke_keys, present_what_is_known, present_what_is_remembered,
    present_what_needs_no_store, refresh_sign_ins, use_sessions,
};
use model::{Credential, Kind, Life};
use run::{Replica, Run, Seen};

/// How many gatelets share the store.
const REPLICAS: usize = 3;

/// How long it goes on: `scripts/test` asks for more.
const SECONDS: &str = "GATELET_CHAOS_SECONDS";

/// What the faults follow from: the time, unless the environment says it.
const SEED: &str = "GATELET_CHAOS_SEED";

const CONFIG: &str = r#"
[[routes]]
name = "keys"
prefix = "/keys"
require = ["api_key"]

[[routes]]
name = "client"
prefix = "/client"
require = ["session_token"]

[[routes]]
name = "token"
prefix = "/token"
require = ["access_token"]

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"

[session_token]
idle = "20s"
max = "1h"

[refresh_token]
grace = "3s"

[wallet]
domains = ["localhost"]

[cache]
max_staleness = "3s"

[log]
access = false

[store]
kind = "redis"
"#;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().and_then(|text| text.parse().ok())
}

#[test]
fn what_was_ended_stays_out_and_what_is_good_gets_in() {
    let time = Duration::from_secs(number(SECONDS).unwrap_or(12));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seed = number(SEED).unwrap_or(now.as_secs());
    let mut random = Random::seeded(seed);
    let flavour = [Flavour::Redis, Flavour::Valkey][random.below(2)];
    let mut server = Server::start(flavour);
    let told = Seen::default();
    let upstream = telling_upstream(&told);
    let replicas = [(); REPLICAS].map(|()| start(&server, &upstream));
    let run = Run::new(replicas, told);
    prepare(&run, time);
    thread::scope(|scope| {
        let run = &run;
        let mut spawn = |work: Box<dyn Fn(u64) + Send>| {
            let seed = random.next();
            scope.spawn(move || {
                let _guard = StopsRun(run);
                work(seed);
            });
        };
        spawn(Box::new(|_| run.weather.watch(|| run.goes_on())));
        spawn(Box::new(|seed| make_and_revoke_keys(run, seed)));
        for wallet in 1..=2 {
            spawn(Box::new(|seed| use_sessions(run, seed)));
            spawn(Box::new(move |seed| refresh_sign_ins(run, seed, wallet)));
        }
        for replica in 0..REPLICAS {
            spawn(Box::new(move |seed| {
                present_what_is_known(run, replica, seed);
            }));
            spawn(Box::new(move |seed| {
                present_what_is_remembered(run, replica, seed);
            }));
            spawn(Box::new(move |_| present_what_needs_no_store(run, replica)));
        }
        let _guard = StopsRun(run);
        faults::go_wrong(run, &mut server, &upstream, &mut random, time);
        run.stop();
    });
    if run.failures().is_empty() {
        look_at_everything(&run);
    }
    tell(&run, seed, flavour);
    let (failures, faults) = (run.failures(), run.faults.lock().unwrap().clone());
    assert!(
        failures.is_empty(),
        "seed {seed}: {failures:#?}\nafter {faults:#?}"
    );
    upstream.assert_sane();
    assert_enough_happened(&run, time);
}

/// Ends the run when its thread does, whatever ended that.
struct StopsRun<'r>(&'r Run);

impl Drop for StopsRun<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

/// Remembers what it was told of each caller, by the number at the end of the path.
fn telling_upstream(seen: &Seen) -> Upstream {
    let seen = Arc::clone(seen);
    Upstream::scripted(move |exchange| {
        let request = exchange.read_body()?;
        let number = request
            .target
            .rsplit('/')
            .next()
            .and_then(|it| it.parse().ok());
        seen.lock()
            .unwrap()
            .insert(number.unwrap(), request.headers);
        exchange.answer("200 OK", "", "")
    })
}

fn start(server: &Server, upstream: &Upstream) -> Replica {
    let path = Forwarder::to(server.address());
    let store = format!("urls = [\"redis://127.0.0.1:{}\"]\n", path.port());
    let world = World::start(upstream, &format!("{CONFIG}{store}"));
    Replica {
        path,
        proxy: Mutex::new(Some(world.proxy())),
        world: Mutex::new(world),
    }
}

/// Makes a key that lasts, and those that no replica is shown before its store comes back.
fn prepare(run: &Run, time: Duration) {
    // A fault and the calm after it take more than two seconds.
    let most = (usize::try_from(time.as_secs()).unwrap() / 2 + 2) * REPLICAS;
    let mut file = String::new();
    let mut add = |name: String| {
        let secret = format!("the-key-of-this-name-{name}");
        let line = json!({"name": name, "key": secret, "scopes": ["sessions:issue"]});
        writeln!(file, "{line}").unwrap();
        let lives = vec![Arc::new(Life::default())];
        Arc::new(Credential::new(Kind::Key, "", &secret, &name, lives))
    };
    let lasting = add("lasting".to_owned());
    let unseen = (0..most).map(|number| add(format!("unseen-{number}")));
    run.unseen.lock().unwrap().extend(unseen);
    let world = run.replicas[0].world.lock().unwrap();
    world.write("keys.ndjson", &file);
    let imported = world.command(&["keys", "import", "keys.ndjson"]);
    assert!(imported.status.success(), "{imported:?}");
    run.publish(&lasting);
    run.lasting.set(lasting).unwrap();
}

/// With the store there, every replica says of everything what is true.
fn look_at_everything(run: &Run) {
    let mut caller = Caller::new(run);
    let presented = std::mem::take(&mut *run.presented.lock().unwrap());
    for credential in &presented {
        for replica in 0..REPLICAS {
            caller.present(replica, credential);
        }
    }
    assert!(presented.len() > 20, "{}", presented.len());
}

/// Says on the terminal what happened, passed or not.
fn tell(run: &Run, seed: u64, flavour: Flavour) {
    let paths: Vec<(u64, u64)> = run.replicas.iter().map(|it| it.path.counts()).collect();
    let lost = run.weather.lost(run.began, Instant::now());
    let text = format!(
        "chaos: {SEED}={seed}, {flavour:?}, {:.1} s{}\n  connections and bytes of each path: \
         {paths:?}\n  kept from running in all: {} ms\n",
        run.began.elapsed().as_secs_f64(),
        run.tally.summary(),
        lost.as_millis()
    );
    let _ = io::stderr().write_all(text.as_bytes());
}

/// A run in which little happened says little.
fn assert_enough_happened(run: &Run, time: Duration) {
    let tally = &run.tally;
    let seconds = time.as_secs();
    for (what, outcome, least) in [
        ("key", "let in", seconds * 2),
        ("key", "refused", seconds),
        ("session", "let in", seconds * 10),
        ("session", "refused", seconds),
        // None of them has expired before.
        ("session", "refused as idle", seconds.saturating_sub(30)),
        ("access token", "let in", seconds * 10),
        ("access token", "refused", seconds),
        ("refresh", "let in", seconds),
        ("session issued", "let in", seconds / 2),
        ("session ended", "let in", seconds / 8),
        ("sign-in", "let in", seconds / 8),
        ("logout", "let in", seconds / 8),
        ("keys made", "done", seconds / 4),
        ("keys revoked", "done", seconds / 8),
        ("static key", "asked", seconds * 10),
        ("public route", "asked", seconds * 10),
        ("recoveries", "measured", seconds / 4),
    ] {
        let count = tally.of(what, outcome);
        assert!(count >= least, "{what} {outcome} {count}, not {least}");
    }
    assert!(tally.all("unknown") > 0, "no fault was felt");
    let faults = run.faults.lock().unwrap().len();
    assert!(faults as u64 >= seconds / 8, "{faults} faults");
}
