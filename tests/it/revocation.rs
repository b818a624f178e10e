//! Keys that are made, revoked, rotated and imported beside a running server.

use std::time::Duration;

use crate::harness::{KEY, Upstream, World, sha256_hex, within};

const ROUTES: &str = r#"
[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]

[[routes]]
name = "scoped"
prefix = "/scoped"
require = ["api_key"]
scopes = ["orders:write"]

[store]
kind = "embedded"
path = "{folder}/data"
"#;

#[test]
fn a_key_works_from_its_making_and_not_beyond_its_revocation() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (id, key) = world.create_key("backend", &["--owner", "acme", "--scope", "orders:write"]);
    assert!(
        key.starts_with("gk_") && key.len() == 52,
        "{} long",
        key.len()
    );
    world.within_a_second("/scoped", &key, 200);
    let received = upstream.take().unwrap();
    assert_eq!(received.headers.one("x-auth-subject"), Some("acme"));
    assert_eq!(received.headers.one("x-auth-key-owner"), Some("acme"));
    assert_eq!(received.headers.one("x-auth-key-id"), Some(id.as_str()));
    assert_eq!(received.headers.one("x-auth-scopes"), Some("orders:write"));
    assert!(!String::from_utf8_lossy(&received.raw).contains(&key));

    // Warm: the verdict that has to be forgotten is in the cache of both workers.
    for _ in 0..20 {
        assert_eq!(world.status_with("/guarded", &key), 200);
    }
    world.revoke_key(&id);
    world.within_a_second("/guarded", &key, 401);
    upstream.take();
    for _ in 0..50 {
        assert_eq!(world.status_with("/guarded", &key), 401, "it came back");
    }
    upstream.assert_untouched("a revoked key");
    assert_eq!(
        world.status_with("/guarded", KEY),
        200,
        "no other key is touched"
    );
}

#[test]
fn a_revocation_holds_on_connections_that_are_open() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (id, key) = world.create_key("kept alive", &[]);
    let mut client = world.connect();
    let bytes = crate::harness::request("GET", "/guarded", &[("x-api-key", &key)]);
    within(Duration::from_millis(1500), "the key works", || {
        client.send(&bytes).response().status == 200
    });
    world.revoke_key(&id);
    within(Duration::from_millis(1500), "the key is refused", || {
        client.send(&bytes).response().status == 401
    });
}

#[test]
fn a_key_that_was_probed_before_it_was_made_works_at_once() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let key = "a-key-that-the-customer-chose-long-ago";
    for _ in 0..20 {
        assert_eq!(world.status_with("/guarded", key), 401);
    }
    let line = format!("{{\"name\":\"chosen\",\"key\":\"{key}\"}}\n");
    world.write("keys.ndjson", &line);
    let file = world.folder().join("keys.ndjson");
    let output = world.command(&["keys", "import", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    world.within_a_second("/guarded", key, 200);
}

#[test]
fn imported_keys_work_hashed_or_not() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (plain, hashed) = ("plain-key-plain-key-plain", "hashed-key-hashed-key-hashed");
    world.write(
        "keys.ndjson",
        &format!(
            "{{\"name\":\"plain\",\"key\":\"{plain}\",\"owner\":\"acme\",\"scopes\":[\"orders:write\"]}}\n\
             {{\"name\":\"hashed\",\"sha256\":\"{}\"}}\n",
            sha256_hex(hashed)
        ),
    );
    let file = world.folder().join("keys.ndjson");
    let output = world.command(&["keys", "import", file.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    world.within_a_second("/scoped", plain, 200);
    world.within_a_second("/guarded", hashed, 200);
    assert_eq!(world.status_with("/scoped", hashed), 403);
    let bearer = format!("Bearer {hashed}");
    assert_eq!(
        world.get("/guarded", &[("authorization", &bearer)]).status,
        200
    );
}

#[test]
fn an_import_with_a_wrong_line_takes_nothing_over() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let good = "good-key-good-key-good-key";
    world.write(
        "keys.ndjson",
        &format!(
            "{{\"name\":\"good\",\"key\":\"{good}\"}}\n{{\"name\":\"short\",\"key\":\"short\"}}\n"
        ),
    );
    let file = world.folder().join("keys.ndjson");
    let output = world.command(&["keys", "import", file.to_str().unwrap()]);
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains('2'), "the wrong line is named: {said}");
    assert!(
        !said.contains("\"short\",\"key\""),
        "no line is printed: {said}"
    );
    // Made later, known now: whatever the import had done would be known as well.
    let (_, later) = world.create_key("later", &[]);
    world.within_a_second("/guarded", &later, 200);
    assert_eq!(world.status_with("/guarded", good), 401);
}

#[test]
fn a_rotated_key_overlaps_with_its_successor() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (id, old) = world.create_key("rotating", &["--owner", "acme"]);
    world.within_a_second("/guarded", &old, 200);
    let rotated = world.command_json(&["keys", "rotate", &id, "--overlap", "3s", "--json"]);
    let new = rotated["key"].as_str().unwrap();
    assert_eq!(rotated["id"].as_str(), Some(id.as_str()));
    world.within_a_second("/guarded", new, 200);
    assert_eq!(
        upstream.take().unwrap().headers.one("x-auth-key-id"),
        Some(id.as_str())
    );
    assert_eq!(world.status_with("/guarded", &old), 200, "the overlap runs");
    within(Duration::from_secs(5), "the overlap ends", || {
        world.status_with("/guarded", &old) == 401
    });
    assert_eq!(world.status_with("/guarded", new), 200);
    world.revoke_key(&id);
    world.within_a_second("/guarded", new, 401);
}

#[test]
fn a_revocation_within_the_overlap_ends_both_secrets() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (id, old) = world.create_key("rotating", &[]);
    world.within_a_second("/guarded", &old, 200);
    let rotated = world.command_json(&["keys", "rotate", &id, "--overlap", "1h", "--json"]);
    let new = rotated["key"].as_str().unwrap();
    world.within_a_second("/guarded", new, 200);
    world.revoke_key(&id);
    world.within_a_second("/guarded", &old, 401);
    world.within_a_second("/guarded", new, 401);
}

#[test]
fn a_rotation_without_an_overlap_ends_the_old_secret() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (id, old) = world.create_key("leaked", &[]);
    world.within_a_second("/guarded", &old, 200);
    let rotated = world.command_json(&["keys", "rotate", &id, "--overlap", "0s", "--json"]);
    world.within_a_second("/guarded", rotated["key"].as_str().unwrap(), 200);
    world.within_a_second("/guarded", &old, 401);
}

#[test]
fn a_key_expires_by_itself() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (_, key) = world.create_key("short-lived", &["--expires-in", "2s"]);
    world.within_a_second("/guarded", &key, 200);
    within(Duration::from_secs(4), "the key expires", || {
        world.status_with("/guarded", &key) == 401
    });
}

#[test]
fn a_crash_loses_neither_keys_nor_revocations() {
    let upstream = Upstream::echo();
    let mut world = World::start(&upstream, ROUTES);
    let (_, kept) = world.create_key("kept", &[]);
    let (id, revoked) = world.create_key("revoked", &[]);
    world.within_a_second("/guarded", &revoked, 200);
    world.revoke_key(&id);
    world.crash();
    assert_eq!(world.status_with("/guarded", &kept), 200);
    assert_eq!(world.status_with("/guarded", &revoked), 401);
}

#[test]
fn a_made_up_key_of_the_minted_shape_is_refused_unread() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (_, key) = world.create_key("real", &[]);
    world.within_a_second("/guarded", &key, 200);
    upstream.take();
    for at in [3, 20, 45, 51] {
        let mut forged = key.clone().into_bytes();
        forged[at] = if forged[at] == b'a' { b'b' } else { b'a' };
        let forged = String::from_utf8(forged).unwrap();
        assert_eq!(
            world.status_with("/guarded", &forged),
            401,
            "changed at {at}"
        );
    }
    upstream.assert_untouched("forged keys");
    assert_eq!(world.status_with("/guarded", &key), 200);
}
