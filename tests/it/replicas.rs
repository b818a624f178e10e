//! Several replicas on one server.

mod failover;
mod fleet;
mod flood;
mod races;
mod revocation;

use std::time::{Duration, Instant};

use crate::harness::{Flavour, KEY, Server, Upstream, World, eventually, within};

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
