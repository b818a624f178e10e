//! Several replicas on one server.

mod failover;
mod fleet;
mod flood;
mod races;
mod revocation;

use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::harness::{Flavour, KEY, Server, Upstream, World, eventually, sha256_hex, within};

const ROUTES: &str = r#"
[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"
"#;

fn config(server: &Server, more: &str) -> String {
    format!(
        "{ROUTES}\n{more}\n[store]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{}\"]\n",
        server.port()
    )
}

fn status(world: &World, key: &str) -> u16 {
    world.status_with("/guarded", key)
}

#[test]
fn a_change_on_one_replica_holds_on_all_of_them() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let server = Server::start(flavour);
        let upstream = Upstream::echo();
        let worlds = [(); 3].map(|()| World::start(&upstream, &config(&server, "")));
        for _ in 0..5 {
            let (id, key) = worlds[0].create_key("web", &[]);
            for world in &worlds {
                assert_eq!(status(world, &key), 200, "it was made before it was shown");
                assert_eq!(status(world, &key), 200);
            }
            worlds[1].revoke_key(&id);
            for world in &worlds {
                world.within_a_second("/guarded", &key, 401);
            }
        }
        // A key that was tried before it was made works as soon as it is.
        let early = "early-early-early-early";
        assert!(worlds.iter().all(|world| status(world, early) == 401));
        worlds[2].write(
            "early.ndjson",
            &format!(r#"{{"name":"early","key":"{early}"}}"#),
        );
        let file = worlds[2].folder().join("early.ndjson");
        let imported = worlds[2].command(&["keys", "import", file.to_str().unwrap()]);
        assert!(imported.status.success(), "{imported:?}");
        for world in &worlds {
            world.within_a_second("/guarded", early, 200);
        }
    }
}

#[test]
fn without_its_server_a_replica_serves_what_needs_none() {
    let mut server = Server::start(Flavour::Redis);
    let upstream = Upstream::echo();
    let staleness = "[cache]\nmax_staleness = \"2s\"";
    let world = World::start(&upstream, &config(&server, staleness));
    let (_, warm) = world.create_key("warm", &[]);
    let (_, cold) = world.create_key("cold", &[]);
    assert_eq!(status(&world, &warm), 200);
    for round in 0..2 {
        server.kill();
        let down = Instant::now();
        assert_eq!(status(&world, &warm), 200, "it is remembered");
        let asked = Instant::now();
        let unknown = format!("unknown-unknown-unknown-{round}");
        for key in [&cold, &unknown] {
            let answer = world.get("/guarded", &[("x-api-key", key)]);
            assert_eq!((answer.status, &*answer.code()), (503, "store_unavailable"));
        }
        assert!(
            asked.elapsed() < Duration::from_secs(1),
            "{:?}",
            asked.elapsed()
        );
        within(
            Duration::from_secs(6),
            "what is remembered is stale",
            || status(&world, &warm) == 503,
        );
        assert!(
            down.elapsed() > Duration::from_secs(1),
            "{:?}",
            down.elapsed()
        );
        assert_eq!(
            (status(&world, KEY), world.status_with("/open", KEY)),
            (200, 200)
        );
        assert_eq!(world.probe("/readyz").status, 200);
        world.metric_becomes("gatelet_store_connected", &[], 0.0);

        server.start_again();
        let back = Instant::now();
        for (key, expected) in [(&warm, 200), (&unknown, 401)] {
            let bound = Duration::from_secs(2).saturating_sub(back.elapsed());
            within(bound, "it is served again", || {
                status(&world, key) == expected
            });
        }
        world.metric_becomes("gatelet_store_connected", &[], 1.0);
    }
    assert_eq!(status(&world, &cold), 200);
}

#[test]
fn a_replica_starts_without_its_server_and_is_ready_with_it() {
    let mut server = Server::start(Flavour::Redis);
    let upstream = Upstream::echo();
    let wallet = "[wallet]\ndomains = [\"localhost\"]";
    let first = World::start(&upstream, &config(&server, wallet));
    let (_, key) = first.create_key("web", &[]);
    server.kill();
    let world = World::start_unready(&upstream, &config(&server, wallet));
    assert_eq!(world.probe("/readyz").status, 503);
    assert_eq!(
        (status(&world, KEY), world.status_with("/open", KEY)),
        (200, 200)
    );
    let answer = world.get("/guarded", &[("x-api-key", &key)]);
    assert_eq!((answer.status, &*answer.code()), (503, "store_unavailable"));
    server.start_again();
    eventually("it is ready", || world.probe("/readyz").status == 200);
    assert_eq!(status(&world, &key), 200);
    let keys = world.get("/.well-known/jwks.json", &[]);
    assert_eq!(
        (keys.status, keys.json()["keys"].as_array().unwrap().len()),
        (200, 1)
    );
}

/// A server that is no master any more goes on answering what it is asked. Who has shown nothing here
/// before is not let in by its word either, once nobody vouches for it.
#[test]
fn nobody_is_let_in_by_a_server_that_nobody_vouches_for() {
    const SESSION: &str = "a-session-of-another-system";
    let server = Server::start(Flavour::Redis);
    let upstream = Upstream::echo();
    let more = "[[routes]]\nname = \"live\"\nprefix = \"/live\"\nrequire = [\"session_token\"]\n\
                [cache]\nmax_staleness = \"1s\"";
    let world = World::start(&upstream, &config(&server, more));
    let (_, warm) = world.create_key("warm", &[]);
    let (_, cold) = world.create_key("cold", &[]);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let session = json!({
        "kind": "session", "sha256": sha256_hex(SESSION), "subject": "user-9",
        "createdAt": now.as_secs() - 100, "expiresAt": now.as_secs() + 3600,
    });
    world.write("live.ndjson", &format!("{session}\n"));
    let taken = world.command(&["sessions", "import", "live.ndjson"]);
    assert!(taken.status.success(), "{taken:?}");
    let live = |token: &str| {
        let bearer = format!("Bearer {token}");
        world.get("/live", &[("authorization", &bearer)])
    };
    assert_eq!(status(&world, &warm), 200);
    // The replica of a master that it cannot reach has what it had, whatever is revoked there.
    server.ask(&["REPLICAOF", "127.0.0.1", "1"]);
    within(
        Duration::from_secs(6),
        "what is remembered is stale",
        || status(&world, &warm) == 503,
    );
    upstream.take();
    let unknown = "unknown-unknown-unknown";
    let answers = [&*cold, unknown].map(|key| world.get("/guarded", &[("x-api-key", key)]));
    for answer in answers.into_iter().chain([live(SESSION), live(unknown)]) {
        assert_eq!((answer.status, &*answer.code()), (503, "store_unavailable"));
    }
    upstream.assert_untouched("nobody vouches for them");
    server.ask(&["REPLICAOF", "NO", "ONE"]);
    within(Duration::from_secs(2), "it is served again", || {
        status(&world, &cold) == 200
    });
    assert_eq!((status(&world, &warm), status(&world, unknown)), (200, 401));
    assert_eq!((live(SESSION).status, live(unknown).status), (200, 401));
}

/// Whoever has lost everything agrees again on what signs, and not at the next look a minute later.
#[test]
fn signing_keys_that_are_lost_are_looked_for_at_once() {
    let server = Server::start(Flavour::Redis);
    let upstream = Upstream::echo();
    let more = "[wallet]\ndomains = [\"localhost\"]\n[cache]\nmax_staleness = \"2s\"";
    let worlds = [(); 2].map(|()| World::start(&upstream, &config(&server, more)));
    let published = |world: &World| world.get("/.well-known/jwks.json", &[]).json();
    let before = published(&worlds[0]);
    assert_eq!(published(&worlds[1]), before);
    server.ask(&["FLUSHALL"]);
    within(Duration::from_secs(5), "they agree on another key", || {
        let now = published(&worlds[0]);
        now != before && published(&worlds[1]) == now
    });
}

/// A credential that is not remembered yet may be in great use: its look-up is one, and no guess.
#[test]
fn what_is_genuine_is_not_refused_for_coming_often_while_it_is_looked_up() {
    let server = Server::start(Flavour::Redis);
    let upstream = Upstream::echo();
    let world = World::start(&upstream, &config(&server, ""));
    let (_, key) = world.create_key("web", &[]);
    assert_eq!(server.ask(&["CLIENT", "PAUSE", "600", "ALL"]), "+OK\r\n");
    let statuses: Vec<u16> = thread::scope(|scope| {
        let asked: Vec<_> = (0..300)
            .map(|_| scope.spawn(|| status(&world, &key)))
            .collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    });
    // An upstream that is not quick enough is another matter.
    let refused = statuses
        .iter()
        .filter(|&&status| status != 200 && status != 502);
    assert_eq!(refused.count(), 0, "{statuses:?}");
}
