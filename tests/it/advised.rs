//! What is said of a server that is not set as a store needs it: once, and nothing of one that is.

use crate::harness::{Flavour, Sentinel, Server, Upstream, World, eventually};

const ROUTES: &str = r#"
[[routes]]
name = "keys"
prefix = "/keys"
require = ["api_key"]

[log]
level = "debug"
"#;

/// A program on this server, after it has asked it for something.
fn on(server: &Server, more: &str) -> World {
    let upstream = Upstream::echo();
    let port = server.port();
    let store = format!("[store]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]\n");
    let mut world = World::start(&upstream, &format!("{ROUTES}{store}{more}"));
    ask(&world, "an-unknown-key-of-nobody");
    // What was said before it is read by then.
    world.access("/keys");
    world
}

fn ask(world: &World, key: &str) {
    eventually("the store says no", || {
        world.status_with("/keys", key) == 401
    });
}

/// The warnings about the server.
fn warnings(world: &World) -> Vec<String> {
    let mut lines = world.log();
    lines.retain(|line| line.contains("WARN") && line.contains("store's server"));
    lines
}

fn kept(more: &[&str]) -> Vec<String> {
    let arguments = [&["--appendonly", "yes"], more].concat();
    arguments.into_iter().map(ToOwned::to_owned).collect()
}

fn start(flavour: Flavour, arguments: &[String]) -> Server {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Server::with(flavour, &arguments)
}

#[test]
fn a_server_that_may_forget_is_warned_of() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let snapshots = ["--save", "3600 1"].map(ToOwned::to_owned).to_vec();
        for (arguments, said) in [
            (vec![], "keeps nothing on disk"),
            (snapshots, "what came since its last snapshot"),
            (kept(&["--appendfsync", "no"]), "half a minute"),
            (
                kept(&["--maxmemory-policy", "allkeys-lru"]),
                "evicts what is kept",
            ),
        ] {
            let server = start(flavour, &arguments);
            let world = on(&server, "");
            eventually("it is said", || !warnings(&world).is_empty());
            let warnings = warnings(&world);
            assert_eq!(warnings.len(), 1, "{arguments:?}: {warnings:?}");
            assert!(warnings[0].contains(said), "{said}: {warnings:?}");
            let address = server.address().to_string();
            assert!(warnings[0].contains(&address), "{warnings:?}");
        }
        for arguments in [
            kept(&[]),
            kept(&["--appendfsync", "always"]),
            kept(&["--maxmemory-policy", "volatile-lru"]),
        ] {
            let server = start(flavour, &arguments);
            assert_eq!(warnings(&on(&server, "")), [""; 0], "{arguments:?}");
        }
    }
}

#[test]
fn a_server_is_warned_of_once_however_often_it_is_connected_to() {
    let mut server = Server::with(Flavour::Redis, &[]);
    let world = on(&server, "");
    for round in 0..3 {
        server.kill();
        world.metric_becomes("gatelet_store_connected", &[], 0.0);
        server.start_again();
        ask(&world, &format!("another-unknown-key-{round}"));
    }
    let warned = warnings(&world);
    let of_disk = warned.iter().filter(|line| line.contains("on disk"));
    assert_eq!(of_disk.count(), 1, "{warned:?}");
}

#[test]
fn a_server_that_does_not_tell_how_it_is_set_is_used_all_the_same() {
    let user = ["--user", "gate", "on", ">of-the-gate", "~{gatelet}:*"];
    let rights = ["+@all", "-config"];
    let server = Server::with(Flavour::Valkey, &[&user[..], &rights].concat());
    let folder = tempfile::tempdir().unwrap();
    let password = folder.path().join("password");
    std::fs::write(&password, "of-the-gate").unwrap();
    let mut world = on(
        &server,
        &format!("username = \"gate\"\npassword_file = {password:?}\n"),
    );
    world.log_line(&["DEBUG", "does not tell how it is set"]);
    assert_eq!(warnings(&world), [""; 0]);
}

#[test]
fn a_master_that_writes_for_itself_alone_is_warned_of_where_it_may_be_replaced() {
    for (heard, expected) in [("0", 1), ("1", 0)] {
        let soon = ["--repl-diskless-sync-delay", "0"];
        let arguments = kept(&[&["--min-replicas-to-write", heard][..], &soon].concat());
        let master = start(Flavour::Redis, &arguments);
        let port = master.port().to_string();
        let follow = ["--replicaof", "127.0.0.1", &port];
        let _replica = Server::with(Flavour::Redis, &follow);
        eventually("the replica follows", || {
            master
                .ask(&["INFO", "replication"])
                .contains("state=online")
        });
        assert_eq!(
            warnings(&on(&master, "")).len(),
            0,
            "nobody would replace it"
        );
        let sentinel = Sentinel::over(&master);
        let world = on(sentinel.server(), "sentinel_master = \"main\"\n");
        eventually("it is said", || warnings(&world).len() >= expected);
        let warned = warnings(&world);
        assert_eq!(warned.len(), expected, "{warned:?}");
        let of_replicas = |line: &String| line.contains("min-replicas-to-write");
        assert!(warned.iter().all(of_replicas), "{warned:?}");
    }
}
