//! `gatelet keys` and `gatelet sessions` on a server that replicas share: what each does, and what it
//! says where the server does not do its part.

use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Flavour, Server, Upstream, World, eventually, request, sha256_hex};

const ROUTES: &str = r#"
[[routes]]
name = "keys"
prefix = "/keys"
require = ["api_key"]

[[routes]]
name = "client"
prefix = "/client"
require = ["session_token"]

[wallet]
domains = ["app.example.com"]
"#;

fn world(server: &Server) -> (Upstream, World) {
    let upstream = Upstream::echo();
    let port = server.port();
    let store = format!("[store]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]\n");
    let world = World::start(&upstream, &format!("{ROUTES}{store}"));
    (upstream, world)
}

/// The exit status, and what was said on either stream.
fn told(output: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let status = output.status.code().unwrap();
    (status, text(&output.stdout), text(&output.stderr))
}

fn ids(listed: &Value) -> Vec<&str> {
    let listed = listed.as_array().unwrap().iter();
    listed.map(|one| one["id"].as_str().unwrap()).collect()
}

fn session_status(world: &World, token: &str) -> u16 {
    let bearer = format!("Bearer {token}");
    world.get("/client", &[("authorization", &bearer)]).status
}

fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs()
}

#[test]
fn keys_are_managed_on_a_server() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let server = Server::start(flavour);
        let (upstream, world) = world(&server);
        assert_eq!(world.command_json(&["keys", "list", "--json"]), json!([]));
        let (id, first) = world.create_key("web", &["--owner", "acme", "--scope", "a:read"]);
        world.within_a_second("/keys", &first, 200);
        let received = upstream.take().unwrap();
        assert_eq!(received.headers.one("x-auth-key-id"), Some(&*id));
        let shown = world.command_json(&["keys", "show", &id, "--json"]);
        assert_eq!(
            (&shown["owner"], &shown["scopes"]),
            (&json!("acme"), &json!(["a:read"]))
        );

        let line = ["keys", "rotate", &id, "--overlap", "1h", "--json"];
        let rotated = world.command_json(&line);
        let second = rotated["key"].as_str().unwrap().to_owned();
        for key in [&first, &second] {
            world.within_a_second("/keys", key, 200);
        }
        let line = ["keys", "rotate", &id, "--json"];
        let third = world.command_json(&line)["key"]
            .as_str()
            .unwrap()
            .to_owned();
        world.within_a_second("/keys", &second, 401);
        world.within_a_second("/keys", &third, 200);

        let imported = "a-key-of-another-system";
        assert_eq!(world.status_with("/keys", imported), 401);
        let text = json!({"name": "old", "sha256": sha256_hex(imported)}).to_string();
        world.write("keys.ndjson", &text);
        let taken = told(&world.command(&["keys", "import", "keys.ndjson"]));
        assert_eq!(taken, (0, "Imported 1 key.\n".to_owned(), String::new()));
        world.within_a_second("/keys", imported, 200);
        let (status, out, err) = told(&world.command(&["keys", "import", "keys.ndjson"]));
        assert_eq!((status, &*out), (1, ""));
        assert!(
            err.contains("keys.ndjson:1: the store has this key"),
            "{err}"
        );

        let listed = world.command_json(&["keys", "list", "--json"]);
        assert_eq!(ids(&listed).len(), 2, "{listed}");
        assert!(ids(&listed).contains(&&*id));
        let revoked = world.command_json(&["keys", "revoke", &id, "--json"]);
        assert_eq!(revoked["state"], "revoked");
        world.within_a_second("/keys", &third, 401);
        let again = world.command_json(&["keys", "revoke", &id, "--json"]);
        assert_eq!(again["revokedAt"], revoked["revokedAt"]);
        for action in ["show", "revoke", "rotate"] {
            let (status, out, err) = told(&world.command(&["keys", action, "key_nobody"]));
            assert_eq!((status, &*out), (1, ""), "{action}");
            assert!(err.contains("no key has the id \"key_nobody\""), "{err}");
        }
        let (status, _, err) = told(&world.command(&["keys", "rotate", &id]));
        assert_eq!(status, 1);
        assert!(err.contains("revoked"), "{err}");
    }
}

#[test]
fn sessions_are_managed_on_a_server() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let server = Server::start(flavour);
        let (upstream, world) = world(&server);
        assert_eq!(
            world.command_json(&["sessions", "list", "--json"]),
            json!([])
        );
        let tokens = ["one", "two", "three"].map(|name| format!("token-{name}-of-another-system"));
        let line = |token: &str, kind: &str, subject: &str| {
            json!({
                "kind": kind, "sha256": sha256_hex(token), "subject": subject,
                "createdAt": now() - 100, "expiresAt": now() + 3600, "mode": "body",
            })
        };
        let mut lines: Vec<String> = ["user-1", "user-2", "user-2"]
            .iter()
            .zip(&tokens)
            .map(|(subject, token)| line(token, "session", subject).to_string())
            .collect();
        let refresh = "a-refresh-token-of-another-system";
        lines.push(line(refresh, "refresh", "user-1").to_string());
        assert_eq!(session_status(&world, &tokens[0]), 401);
        world.write("sessions.ndjson", &lines.join("\n"));
        let taken = told(&world.command(&["sessions", "import", "sessions.ndjson"]));
        assert_eq!(taken, (0, "imported 4\n".to_owned(), String::new()));
        let (status, out, err) = told(&world.command(&["sessions", "import", "sessions.ndjson"]));
        assert_eq!((status, &*out), (1, ""));
        assert!(err.contains("in the store already"), "{err}");
        eventually("it is known", || session_status(&world, &tokens[0]) == 200);
        let received = upstream.take().unwrap();
        assert_eq!(received.headers.one("x-auth-subject"), Some("user-1"));
        let body = format!("{{\"refreshToken\":\"{refresh}\"}}");
        let refreshed = || {
            let head = request(
                "POST",
                "/api/v1/auth/refresh",
                &[
                    ("content-type", "application/json"),
                    ("content-length", &body.len().to_string()),
                ],
            );
            world.send(format!("{head}{body}")).status
        };
        assert_eq!(refreshed(), 200);

        let listed = world.command_json(&["sessions", "list", "--json"]);
        assert_eq!(ids(&listed).len(), 4, "{listed}");
        let line = ["sessions", "list", "--subject", "user-1", "--json"];
        let of_one = world.command_json(&line);
        assert_eq!(ids(&of_one).len(), 2, "{of_one}");
        for id in ids(&of_one) {
            let revoked = told(&world.command(&["sessions", "revoke", id]));
            assert_eq!(revoked, (0, format!("revoked {id}\n"), String::new()));
        }
        eventually("it has ended", || {
            session_status(&world, &tokens[0]) == 401 && refreshed() == 401
        });
        assert_eq!(session_status(&world, &tokens[1]), 200);
        let all = told(&world.command(&["sessions", "revoke", "--subject", "user-2"]));
        assert_eq!((all.0, all.1.lines().count()), (0, 2), "{all:?}");
        eventually("both have ended", || {
            tokens[1..]
                .iter()
                .all(|token| session_status(&world, token) == 401)
        });
        let listed = world.command_json(&["sessions", "list", "--json"]);
        let listed = listed.as_array().unwrap();
        assert!(
            listed.iter().all(|one| one["state"] == "revoked"),
            "{listed:?}"
        );
        let (status, out, err) = told(&world.command(&["sessions", "revoke", "session_nobody"]));
        assert_eq!((status, &*out), (1, ""));
        assert!(
            err.contains("no session has the id \"session_nobody\""),
            "{err}"
        );
    }
}

/// A server takes back nothing of a swap that it refuses midway. A revocation without its event would
/// never reach a replica that remembers the key, and would look as if it had been made.
#[test]
fn what_cannot_be_told_is_not_done() {
    let user = ["--user", "gate", "on", ">of-the-gate", "~{gatelet}:*"];
    for missing in ["-xadd", "-zadd", "-set"] {
        let rights = ["+@all", missing];
        let server = Server::with(Flavour::Redis, &[&user[..], &rights].concat());
        let (_upstream, world) = world(&server);
        let (id, key) = world.create_key("a", &[]);
        world.within_a_second("/keys", &key, 200);
        world.write("password", "of-the-gate");
        for line in [
            &["keys", "revoke", &id][..],
            &["keys", "create", "--name", "b"],
        ] {
            let who = [
                "--set",
                "store.username=gate",
                "--set",
                "store.password_file=password",
            ];
            let (status, out, err) = told(&world.command(&[line, &who].concat()));
            assert_eq!((status, &*out), (1, ""), "{missing}: {line:?}");
            assert!(err.contains("script"), "{missing}: {line:?}: {err}");
        }
        let listed = world.command_json(&["keys", "list", "--json"]);
        assert_eq!(ids(&listed), [&*id], "{missing}");
        assert_eq!(listed[0]["state"], "active", "{missing}");
        world.revoke_key(&id);
        world.within_a_second("/keys", &key, 401);
    }
}

/// Whatever is asked of a server that cannot do it fails, with its reason and in good time.
#[test]
fn a_server_that_does_not_do_its_part_is_told_by_every_command() {
    const PASSWORD: &str = "the-password-of-the-server";
    let healthy = Server::start(Flavour::Redis);
    let (_upstream, world) = world(&healthy);
    world.write(
        "keys.ndjson",
        r#"{"name":"a","key":"a-key-of-another-system"}"#,
    );
    let line = json!({
        "kind": "session", "sha256": sha256_hex("a"), "subject": "user-1",
        "createdAt": now(), "expiresAt": now() + 3600,
    });
    world.write("sessions.ndjson", &line.to_string());
    world.write("wrong", "not-the-password-of-it");
    world.write("right", PASSWORD);
    let guarded = Server::with(Flavour::Redis, &["--requirepass", PASSWORD]);
    let user = [
        "--user",
        "gate",
        "on",
        ">the-password-of-the-server",
        "~{gatelet}:*",
    ];
    let rights = ["+@all", "-eval", "-zrangebylex", "-get"];
    let limited = Server::with(Flavour::Redis, &[&user[..], &rights].concat());
    let port = healthy.port().to_string();
    let replica = Server::with(Flavour::Valkey, &["--replicaof", "127.0.0.1", &port]);
    let newer = Server::start(Flavour::Valkey);
    newer.ask(&["SET", "{gatelet}:layout", "99"]);
    let foreign = Server::start(Flavour::Valkey);
    foreign.ask(&["LPUSH", "{gatelet}:index", "something else"]);
    foreign.ask(&["LPUSH", "{gatelet}:r:api_key/key_a", "something else"]);
    foreign.ask(&[
        "LPUSH",
        "{gatelet}:r:session_id/session_a",
        "something else",
    ]);
    let at = |server: &Server| format!("store.urls=redis://127.0.0.1:{}", server.port());
    let nobody = format!("store.urls=redis://127.0.0.1:{}", Server::free_port());
    for (what, set, why) in [
        ("away", vec![nobody], "cannot be reached: "),
        (
            "no password",
            vec![at(&guarded)],
            "store.password_file: NOAUTH",
        ),
        (
            "another password",
            vec![at(&guarded), "store.password_file=wrong".to_owned()],
            "store.password_file: ",
        ),
        (
            "another user",
            vec![
                at(&guarded),
                "store.username=who".to_owned(),
                "store.password_file=right".to_owned(),
            ],
            "store.username and",
        ),
        (
            "no rights",
            vec![
                at(&limited),
                "store.username=gate".to_owned(),
                "store.password_file=right".to_owned(),
            ],
            "see store.username: NOPERM",
        ),
        ("a replica", vec![at(&replica)], "the server is no master"),
        ("newer", vec![at(&newer)], "made by a newer gatelet"),
        ("something else", vec![at(&foreign)], "WRONGTYPE"),
    ] {
        for line in [
            &["keys", "create", "--name", "a"][..],
            &["keys", "list"],
            &["keys", "list", "--json"],
            &["keys", "show", "key_a"],
            &["keys", "revoke", "key_a"],
            &["keys", "rotate", "key_a"],
            &["keys", "import", "keys.ndjson"],
            &["sessions", "list"],
            &["sessions", "revoke", "session_a"],
            &["sessions", "revoke", "--subject", "user-1"],
            &["sessions", "import", "sessions.ndjson"],
        ] {
            let flags = set.iter().flat_map(|set| ["--set", set]);
            let line: Vec<&str> = line.iter().copied().chain(flags).collect();
            let began = Instant::now();
            let (status, out, err) = told(&world.command(&line));
            assert_eq!((status, &*out), (1, ""), "{what}: {line:?}: {err}");
            assert!(began.elapsed() < Duration::from_secs(3), "{what}: {line:?}");
            assert!(err.starts_with("error: "), "{what}: {line:?}: {err}");
            assert!(err.contains(why), "{what}: {line:?}: {err}");
            assert_eq!(err.lines().count(), 1, "{what}: {line:?}: {err}");
            assert!(!err.contains("password-of"), "{what}: {line:?}: {err}");
        }
    }
    let (status, out, _) = told(&world.command(&["keys", "list", "--json"]));
    assert_eq!((status, &*out), (0, "[]\n"), "nothing was made on the way");
}
