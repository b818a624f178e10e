//! Files of keys, sessions and refresh tokens that are not taken over: all of a file, or nothing.

use std::process::Output;

use serde_json::{Value, json};

use crate::harness::{Upstream, World, sha256_hex};

const ROUTES: &str = r#"
[[routes]]
name = "client"
prefix = "/client"
require = { any = ["session_token", "api_key"] }

[wallet]
domains = ["app.example.com"]

[store]
kind = "embedded"
path = "{folder}/data"
"#;

const GOOD: &str = "a-token-that-another-system-issued";

fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

/// A good line with this token, in which these members are others.
fn session(token: &str, others: &Value) -> Value {
    let mut line = json!({
        "kind": "session", "sha256": sha256_hex(token), "subject": "user-9", "owner": "acme",
        "createdAt": now() - 100, "expiresAt": now() + 3600,
    });
    for (name, value) in others.as_object().unwrap() {
        line[name] = value.clone();
    }
    line
}

fn import(world: &World, what: &str, lines: &[String]) -> Output {
    world.write("import.ndjson", &format!("{}\n", lines.join("\n")));
    world.command(&[what, "import", "import.ndjson"])
}

/// The file is refused for its second line, with this reason, and nothing of it is there.
fn assert_refused(world: &World, what: &str, lines: &[String], why: &str) {
    let refused = import(world, what, lines);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success(), "{why}: {said}");
    assert!(said.contains("import.ndjson:2: "), "{why}: {said}");
    assert!(said.contains(why), "{why}: {said}");
    assert!(!said.contains(GOOD) && !said.contains("user-9"), "{said}");
    assert_eq!(listed(world, what), 0, "{why}");
}

fn listed(world: &World, what: &str) -> usize {
    let listed = world.command_json(&[what, "list", "--json"]);
    listed.as_array().unwrap().len()
}

fn status(world: &World, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    world.get("/client", &[("authorization", &bearer)]).status
}

#[test]
fn a_wrong_session_keeps_its_whole_file_out() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let good = session(GOOD, &json!({})).to_string();
    let other = |others: Value| session("another-token-of-that-system", &others).to_string();
    let refresh = |mut others: Value| {
        others["kind"] = "refresh".into();
        other(others)
    };
    let array = json!([
        "session",
        sha256_hex("another"),
        "user-9",
        null,
        null,
        null,
        null,
        now(),
        now() + 9
    ]);
    for (line, why) in [
        (
            other(json!({"createdAt": now() + 3600, "expiresAt": now() + 7200})),
            "lies in the future",
        ),
        (
            refresh(json!({"createdAt": now() + 3600, "expiresAt": now() + 7200})),
            "lies in the future",
        ),
        (
            other(json!({"createdAt": now() * 1000, "expiresAt": now() * 1000})),
            "Unix seconds",
        ),
        (other(json!({"expiresAt": now() - 200})), "lies before"),
        (
            other(json!({"scopes": ["sessions:issue"]})),
            "no token is granted",
        ),
        (
            other(json!({"scopes": ["orders:read", "sessions:anything"]})),
            "no token is granted",
        ),
        (
            refresh(json!({"scopes": ["tokens:introspect"]})),
            "no token is granted",
        ),
        (other(json!({"scopes": ["two words"]})), "without spaces"),
        (other(json!({"scopes": "orders:read"})), "wrong type"),
        (other(json!({"subject": "two\nlines"})), "subject"),
        (other(json!({"subject": ""})), "subject"),
        (other(json!({"owner": ["acme"]})), "wrong type"),
        (other(json!({"sha256": "short"})), "64 hexadecimal digits"),
        (other(json!({"kind": "cookie"})), "\"kind\" must be"),
        (refresh(json!({"mode": "header"})), "\"mode\" must be"),
        (other(json!({"token": "in the clear"})), "not known"),
        (array.to_string(), "not a JSON object"),
        (format!("[{good}]"), "not a JSON object"),
        (good.clone(), "is on line 1"),
        ("null".to_owned(), "not a JSON object"),
    ] {
        assert_refused(&world, "sessions", &[good.clone(), line], why);
    }
    assert_eq!(status(&world, GOOD), 401);
    upstream.assert_untouched("nothing was taken over");

    // By itself the good line is taken, and then keeps the next file out.
    let taken = import(&world, "sessions", std::slice::from_ref(&good));
    assert!(taken.status.success(), "{taken:?}");
    let again = import(&world, "sessions", &[other(json!({})), good]);
    assert!(!again.status.success());
    assert_eq!(listed(&world, "sessions"), 1);
}

#[test]
fn a_wrong_key_keeps_its_whole_file_out() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let good = json!({"name": "good", "key": GOOD}).to_string();
    let key = "another-key-of-that-system";
    for (line, why) in [
        (json!(["name", key]), "must be a JSON object"),
        (json!([{"name": "a", "key": key}]), "must be a JSON object"),
        (json!({"name": ["a"], "key": key}), "name must be a string"),
        (json!({"name": "a", "key": [key]}), "key must be a string"),
        (
            json!({"name": "a", "key": key, "scopes": "orders:read"}),
            "list of strings",
        ),
        (
            json!({"name": "a", "key": key, "scopes": ["two words"]}),
            "list of strings",
        ),
        (
            json!({"name": "a", "key": key, "scopes": {"orders:read": true}}),
            "list of strings",
        ),
        (
            json!({"name": "a", "key": key, "expiresAt": now() * 1000}),
            "in seconds",
        ),
        (
            json!({"name": "a", "key": key, "expiresAt": "tomorrow"}),
            "Unix seconds",
        ),
        (
            json!({"name": "a", "key": key, "sha256": sha256_hex(key)}),
            "not both",
        ),
        (json!({"name": "a", "key": key, "secret": true}), "unknown"),
        (json!({"name": "a", "key": GOOD}), "is on line 1"),
        (json!(null), "must be a JSON object"),
    ] {
        assert_refused(&world, "keys", &[good.clone(), line.to_string()], why);
    }
    assert_eq!(status(&world, GOOD), 401);
    upstream.assert_untouched("nothing was taken over");

    let taken = import(&world, "keys", std::slice::from_ref(&good));
    assert!(taken.status.success(), "{taken:?}");
    let other = json!({"name": "a", "key": key}).to_string();
    let again = import(&world, "keys", &[other, good]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(
        said.contains("import.ndjson:2: the store has this key"),
        "{said}"
    );
    assert_eq!(listed(&world, "keys"), 1);
}
