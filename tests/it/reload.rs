//! A configuration that changes under a running server: taken whole, or not at all.

use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use crate::harness::{KEY, Upstream, World, eventually, request, sha256_hex};

const BEFORE: &str = r#"
[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]
"#;

const AFTER: &str = r#"
[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]

[[routes]]
name = "added"
prefix = "/added"
require = "nothing"
"#;

const ADDED_KEY: &str = "added-key-added-key-added-key";

fn with_added_key() -> String {
    let digest = sha256_hex(ADDED_KEY);
    format!("{BEFORE}\n[[api_keys.static]]\nname = \"added\"\nsha256 = \"{digest}\"\n")
}

/// How many reloads of each outcome there were.
fn outcomes(world: &World) -> Vec<(String, f64)> {
    world.metrics().all("gatelet_config_reloads_total")
}

/// The outcomes that were counted since `before`.
fn counted(world: &World, before: &[(String, f64)]) -> Vec<String> {
    outcomes(world)
        .into_iter()
        .zip(before)
        .filter(|((_, now), (_, then))| now > then)
        .map(|((series, _), _)| series)
        .collect()
}

/// Replaces the file, and waits until it is in force. Left to be noticed, it is read once.
fn reload(world: &World, upstream: &Upstream, toml: &str) {
    let before = outcomes(world);
    world.write_config(upstream, toml);
    eventually("the reload is counted", || {
        !counted(world, &before).is_empty()
    });
}

#[test]
fn a_hangup_reads_the_file_again() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, BEFORE);
    let before = outcomes(&world);
    assert_eq!(world.get("/added", &[]).status, 404);
    world.write_config(&upstream, AFTER);
    world.signal("HUP");
    eventually("the added route is there", || {
        world.get("/added", &[]).status == 200
    });
    eventually("the reload is counted", || {
        counted(&world, &before).len() == 1
    });
    world.write_config(&upstream, BEFORE);
    world.signal("HUP");
    eventually("the added route is gone", || {
        world.get("/added", &[]).status == 404
    });
}

#[test]
fn a_changed_file_is_noticed_without_a_signal() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, BEFORE);
    world.write_config(&upstream, AFTER);
    eventually("the added route is there", || {
        world.get("/added", &[]).status == 200
    });
}

#[test]
fn an_invalid_file_is_logged_counted_and_ignored() {
    let upstream = Upstream::echo();
    let mut world = World::start(&upstream, BEFORE);
    let before = outcomes(&world);
    world.write_config(&upstream, AFTER);
    world.signal("HUP");
    eventually("the added route is there", || {
        world.get("/added", &[]).status == 200
    });
    eventually("the reload is counted", || {
        counted(&world, &before).len() == 1
    });
    let good = counted(&world, &before);

    let before = outcomes(&world);
    let broken = AFTER.replace("require = [\"api_key\"]", "require = [\"apikey\"]");
    world.write_config(&upstream, &broken);
    world.signal("HUP");
    world.log_line(&["apikey"]);
    eventually("the failure is counted", || {
        !counted(&world, &before).is_empty()
    });
    assert_ne!(counted(&world, &before), good, "a failure is not a success");
    assert_eq!(
        world.get("/added", &[]).status,
        200,
        "the last good state stays"
    );
    assert_eq!(world.status_with("/guarded", KEY), 200);
    assert_eq!(world.get("/guarded", &[]).status, 401);
    assert_eq!(world.probe("/readyz").status, 200);

    world.write_config(&upstream, BEFORE);
    eventually("a good file is taken again", || {
        world.get("/added", &[]).status == 404
    });
}

#[test]
fn a_static_key_comes_and_goes() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, BEFORE);
    assert_eq!(world.status_with("/guarded", ADDED_KEY), 401);
    world.write_config(&upstream, &with_added_key());
    world.signal("HUP");
    eventually("the key works", || {
        world.status_with("/guarded", ADDED_KEY) == 200
    });
    assert_eq!(world.status_with("/guarded", KEY), 200);
    world.write_config(&upstream, BEFORE);
    world.signal("HUP");
    eventually("the key is gone", || {
        world.status_with("/guarded", ADDED_KEY) == 401
    });
}

#[test]
fn a_static_key_that_goes_takes_its_tunnels_along() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
        exchange.peer_closes();
        Ok(())
    });
    let world = World::start(&upstream, &with_added_key());
    let mut going = world.connect();
    going.send(request("GET", "/guarded", &[("x-api-key", ADDED_KEY)]));
    going.until("first");
    let mut staying = world.connect();
    staying.send(request("GET", "/guarded", &[("x-api-key", KEY)]));
    staying.until("first");
    world.write_config(&upstream, BEFORE);
    world.signal("HUP");
    assert!(going.closes_within(Duration::from_secs(5)));
    assert!(!staying.closes_within(Duration::from_millis(300)));
}

#[test]
fn a_key_directory_is_followed_over_a_swapped_link() {
    let upstream = Upstream::echo();
    let folder = tempfile::tempdir().unwrap();
    let key_file = |version: &str, name: &str, key: &str| {
        let directory = folder.path().join(version);
        fs::create_dir_all(&directory).unwrap();
        let text = format!(
            "name = \"{name}\"\nsha256 = \"{}\"\nscopes = [\"a\"]\n",
            sha256_hex(key)
        );
        fs::write(directory.join(format!("{name}.toml")), text).unwrap();
    };
    let (first, second) = (
        "first-key-first-key-first-key",
        "second-key-second-key-second",
    );
    // As Kubernetes mounts a Secret: files are links into `..data`, which is a link to a version.
    key_file("..v1", "first", first);
    key_file("..v2", "second", second);
    symlink("..v1", folder.path().join("..data")).unwrap();
    for name in ["first.toml", "second.toml"] {
        let _ = symlink(format!("..data/{name}"), folder.path().join(name));
    }
    fs::remove_file(folder.path().join("second.toml")).unwrap();
    let world = World::start(
        &upstream,
        &format!(
            "{BEFORE}\n[api_keys]\ndirectory = \"{}\"\n",
            folder.path().display()
        ),
    );
    assert_eq!(world.status_with("/guarded", first), 200);
    assert_eq!(
        upstream.take().unwrap().headers.one("x-auth-key-id"),
        Some("static:first")
    );
    assert_eq!(world.status_with("/guarded", second), 401);

    symlink("..v2", folder.path().join("..next")).unwrap();
    fs::rename(folder.path().join("..next"), folder.path().join("..data")).unwrap();
    symlink("..data/second.toml", folder.path().join("second.toml")).unwrap();
    fs::remove_file(folder.path().join("first.toml")).unwrap();
    eventually("the second key works", || {
        world.status_with("/guarded", second) == 200
    });
    eventually("the first key is gone", || {
        world.status_with("/guarded", first) == 401
    });
}

#[test]
fn a_listeners_address_is_fixed_until_a_restart() {
    let upstream = Upstream::echo();
    let mut world = World::start(&upstream, BEFORE);
    let text = fs::read_to_string(world.config_file()).unwrap();
    let moved = text.replace("proxy = \"127.0.0.1:0\"", "proxy = \"127.0.0.2:0\"");
    assert_ne!(text, moved);
    world.write("config.toml", &moved);
    world.signal("HUP");
    world.log_line(&["listen", "restart"]);
    assert_eq!(world.status_with("/guarded", KEY), 200);
}

#[test]
fn what_else_is_fixed_is_named_until_it_is_put_back() {
    let upstream = Upstream::echo();
    let mut world = World::start(&upstream, BEFORE);
    let fixed = "[log]\naccess = false\nlevel = \"debug\"\n[cache]\ncapacity = 5\n";
    reload(&world, &upstream, &format!("{BEFORE}\n{fixed}"));
    world.log_line(&["\"log.access\"", "restart"]);
    world.log_line(&["\"cache.capacity\"", "restart"]);
    assert_eq!(world.status_with("/guarded", KEY), 200);
    world.access("/guarded");

    reload(&world, &upstream, BEFORE);
    let lines = |piece: &str| {
        let log = world.log();
        log.iter().filter(|line| line.contains(piece)).count()
    };
    eventually("both reloads are logged", || lines("was reloaded") == 2);
    assert_eq!(lines("restart"), 2, "{:#?}", world.log());
}

#[test]
fn the_deadlines_of_new_connections_follow() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, BEFORE);
    let ask = request("GET", "/guarded", &[("x-api-key", KEY)]);
    let mut old = world.connect();
    assert_eq!(old.send(&ask).response().status, 200);
    reload(
        &world,
        &upstream,
        &format!("{BEFORE}\n[limits]\nidle_timeout = \"200ms\"\n"),
    );
    let mut new = world.connect();
    assert_eq!(new.send(&ask).response().status, 200);
    assert!(new.closes_within(Duration::from_secs(5)));
    assert_eq!(old.send(&ask).response().status, 200);
}

#[test]
fn the_most_connections_follow() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, BEFORE);
    let ask = request("GET", "/guarded", &[("x-api-key", KEY)]);
    let mut held = world.connect();
    assert_eq!(held.send(&ask).response().status, 200);
    assert_eq!(world.status_with("/guarded", KEY), 200);
    reload(
        &world,
        &upstream,
        &format!("{BEFORE}\n[limits]\nconnections = 1\n"),
    );
    assert_eq!(world.connect().response().status, 503);
    assert_eq!(held.send(&ask).response().status, 200);
}

#[test]
fn the_rate_of_guesses_follows_and_is_not_forgiven_by_another_change() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, BEFORE);
    let guess = || world.status_with("/guarded", "a-guess-of-more-than-twenty-characters");
    assert_eq!([guess(), guess(), guess()], [401; 3]);
    let few = format!("{BEFORE}\n[limits]\nfailed_authentications = \"1/h\"\n");
    reload(&world, &upstream, &few);
    assert_eq!([guess(), guess(), guess()], [401, 429, 429]);
    reload(&world, &upstream, &format!("{few}idle_timeout = \"10s\"\n"));
    assert_eq!(guess(), 429);
}

#[test]
fn the_grace_of_the_end_follows() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.peer_closes();
        Ok(())
    });
    let mut world = World::start(&upstream, BEFORE);
    let mut running = world.connect();
    running.send(request("GET", "/guarded", &[("x-api-key", KEY)]));
    eventually("the request runs", || upstream.received().len() == 1);
    reload(
        &world,
        &upstream,
        &format!("{BEFORE}\n[limits]\nshutdown_grace = \"100ms\"\n"),
    );
    world.signal("TERM");
    world.ends_within(Duration::from_secs(10));
}

#[test]
fn requests_go_on_through_a_reload() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, BEFORE);
    let mut client = world.connect();
    let bytes = request("GET", "/guarded", &[("x-api-key", KEY)]);
    for round in 0..20 {
        world.write_config(&upstream, if round % 2 == 0 { AFTER } else { BEFORE });
        world.signal("HUP");
        for _ in 0..10 {
            assert_eq!(client.send(&bytes).response().status, 200);
        }
    }
}
