//! `gatelet store copy`: what one store holds is in another, and works there.

use std::fs;
use std::path::Path;
use std::process::Output;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Flavour, Server, Upstream, Wallet, World, eventually, sha256_hex};
use crate::sign_in::site::{Site, text};

const ROUTES: &str = r#"
[[routes]]
name = "client"
prefix = "/client"
require = ["session_token"]

[[routes]]
name = "keys"
prefix = "/keys"
require = ["api_key"]
"#;

const WALLET: &str = r#"
[[routes]]
name = "portfolio"
path = "/api/v1/portfolio"
require = ["api_key", "access_token"]

[wallet]
domains = ["app.example.com"]
"#;

/// A store in this folder.
fn embedded(path: &Path) -> String {
    let path = path.display();
    format!("[store]\nkind = \"embedded\"\npath = \"{path}\"\n")
}

/// A store on this server.
fn redis(server: &Server) -> String {
    let port = server.port();
    format!("[store]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]\n")
}

fn site(store: &str) -> Site {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, &format!("{ROUTES}{WALLET}{store}"));
    Site {
        upstream,
        world,
        key: String::new(),
    }
}

/// A program on an embedded store of its own, without sign-in.
fn source() -> (Upstream, World) {
    let upstream = Upstream::echo();
    let store = "[store]\nkind = \"embedded\"\npath = \"{folder}/data\"";
    let world = World::start(&upstream, &format!("{ROUTES}{store}"));
    (upstream, world)
}

/// Copies what the world's store holds to the one that `store` names.
fn copy(world: &World, store: &str, more: &[&str]) -> Output {
    world.write("to.toml", store);
    world.command(&[&["store", "copy", "--to", "to.toml"], more].concat())
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// How it ended and what it told.
fn told(output: &Output) -> (Option<i32>, String, String) {
    (output.status.code(), out(output), err(output))
}

fn stop(world: &mut World) {
    world.signal("TERM");
    assert!(world.ends_within(Duration::from_secs(10)).success());
}

/// Everything below a prefix on a server, by its name.
fn on(server: &Server) -> Vec<String> {
    let names = server.ask(&["ZRANGE", "{gatelet}:index", "0", "-1"]);
    let lines = names.lines().filter(|line| !line.starts_with(['*', '$']));
    lines.map(ToOwned::to_owned).collect()
}

/// What its holders show.
struct Credentials {
    key: String,
    revoked: String,
    session: String,
    access: String,
    refresh: String,
    /// The message of a nonce that was issued and not spent, and one that was.
    unspent: String,
    spent: Value,
    subject: String,
}

impl Credentials {
    fn issue(site: &mut Site) -> Self {
        let scopes = ["--scope", "sessions:issue", "--scope", "portfolio:read"];
        let more = [&["--owner", "acme"][..], &scopes].concat();
        site.key = site.world.create_key("web", &more).1;
        let (id, revoked) = site.world.create_key("gone", &[]);
        site.world.revoke_key(&id);
        let wallet = Wallet::numbered(1);
        let message = site.nonce(&wallet)["message"].as_str().unwrap().to_owned();
        let signature = wallet.sign(&message);
        let spent = json!({"message": message, "signature": signature, "mode": "body"});
        let signed_in = site.with_key("/verify", &spent);
        assert_eq!(signed_in.status, 201, "{}", signed_in.text());
        let issued = site.with_key("/sessions", &json!({"subject": "user-7"}));
        assert_eq!(issued.status, 201, "{}", issued.text());
        Self {
            key: site.key.clone(),
            revoked,
            session: text(&issued, "clientSessionToken"),
            access: text(&signed_in, "accessToken"),
            refresh: text(&signed_in, "refreshToken"),
            unspent: site.nonce(&wallet)["message"].as_str().unwrap().to_owned(),
            spent,
            subject: text(&signed_in, "subject"),
        }
    }

    /// Each is taken, and says to the API what it always said; what was over is over.
    fn assert_good(&mut self, site: &mut Site) {
        site.key.clone_from(&self.key);
        assert_eq!(site.portfolio(&self.access).status, 200);
        let bearer = format!("Bearer {}", self.session);
        let headers = [("authorization", &*bearer)];
        assert_eq!(site.world.get("/client", &headers).status, 200);
        let received = site.upstream.received();
        let received = &received[received.len() - 2..];
        let subjects = received.iter().map(|one| one.headers.one("x-auth-subject"));
        assert_eq!(
            subjects.collect::<Vec<_>>(),
            [Some(&*self.subject), Some("user-7")]
        );
        assert_eq!(received[0].headers.one("x-auth-key-owner"), Some("acme"));
        let refreshed = site.refresh(&self.refresh);
        assert_eq!(refreshed.status, 200, "{}", refreshed.text());
        self.refresh = text(&refreshed, "refreshToken");
        self.access = text(&refreshed, "accessToken");
        assert_eq!(site.portfolio(&self.access).status, 200);

        assert_eq!(site.world.status_with("/keys", &self.revoked), 401);
        let again = site.with_key("/verify", &self.spent);
        assert_eq!((again.status, &*again.code()), (401, "nonce_invalid"));
        let signature = Wallet::numbered(1).sign(&self.unspent);
        let body = json!({"message": self.unspent, "signature": signature, "mode": "body"});
        let fresh = site.with_key("/verify", &body);
        assert_eq!(fresh.status, 201, "{}", fresh.text());
        let next = site.nonce(&Wallet::numbered(1));
        next["message"]
            .as_str()
            .unwrap()
            .clone_into(&mut self.unspent);
        self.spent = body;
    }
}

#[test]
fn what_was_issued_on_one_store_is_good_on_the_other_and_back_again() {
    for flavour in [Flavour::Redis, Flavour::Valkey] {
        let server = Server::start(flavour);
        let mut first = site("[store]\nkind = \"embedded\"\npath = \"{folder}/data\"\n");
        let mut credentials = Credentials::issue(&mut first);
        stop(&mut first.world);
        let copied = copy(&first.world, &redis(&server), &[]);
        let count = on(&server).len();
        let line = format!("copied {count}, there already 0\n");
        assert_eq!(told(&copied), (Some(0), line, String::new()));
        for kind in [
            "api_key/",
            "api_key_digest/",
            "family/",
            "family_subject/",
            "nonce/",
            "nonce_seal",
            "session/",
            "session_id/",
            "session_subject/",
            "signing_keys",
        ] {
            let has = on(&server).iter().any(|name| name.starts_with(kind));
            assert!(has, "{kind}: {:?}", on(&server));
        }
        let mut second = site(&redis(&server));
        credentials.assert_good(&mut second);
        stop(&mut second.world);

        let store = embedded(&second.world.folder().join("data"));
        let back = copy(&second.world, &store, &[]);
        let count = on(&server).len();
        let line = format!("copied {count}, there already 0\n");
        assert_eq!(told(&back), (Some(0), line, String::new()));
        credentials.assert_good(&mut site(&store));
    }
}

#[test]
fn a_copy_that_is_made_again_finds_everything_there() {
    let server = Server::start(Flavour::Redis);
    let (_upstream, world) = source();
    for name in ["a", "b", "c"] {
        world.create_key(name, &[]);
    }
    assert_eq!(copy(&world, &redis(&server), &[]).status.code(), Some(0));
    let before = server.ask(&["XLEN", "{gatelet}:events"]);
    for more in [&[][..], &["--replace"]] {
        let again = copy(&world, &redis(&server), more);
        let counts = match more {
            [] => "copied 0, there already 6\n",
            _ => "copied 0, there already 6, replaced 0, removed 0\n",
        };
        assert_eq!(told(&again), (Some(0), counts.to_owned(), String::new()));
    }
    assert_eq!(server.ask(&["XLEN", "{gatelet}:events"]), before);
    // What is new is what is copied.
    world.create_key("d", &[]);
    let more = copy(&world, &redis(&server), &[]);
    assert_eq!(out(&more), "copied 2, there already 6\n");
}

#[test]
fn what_changed_in_the_source_is_named_and_replaced_only_where_that_is_asked_for() {
    let server = Server::start(Flavour::Redis);
    let mut site = site("[store]\nkind = \"embedded\"\npath = \"{folder}/data\"\n");
    let credentials = Credentials::issue(&mut site);
    let (rotated, old) = site.world.create_key("rotated", &[]);
    let (ended, _) = site.world.create_key("ended", &[]);
    assert_eq!(
        copy(&site.world, &redis(&server), &[]).status.code(),
        Some(0)
    );

    // With the second rotation the key forgets its first secret.
    for _ in 0..2 {
        site.world
            .command_json(&["keys", "rotate", &rotated, "--json"]);
    }
    site.world.revoke_key(&ended);
    let sessions = site.world.command_json(&["sessions", "list", "--json"]);
    let sessions = sessions.as_array().unwrap();
    let of_kind = |kind: &str| {
        let session = sessions.iter().find(|session| session["kind"] == kind);
        session.unwrap()["id"].as_str().unwrap().to_owned()
    };
    let (session, family) = (of_kind("session"), of_kind("refresh"));
    for id in [&session, &family] {
        assert!(
            site.world
                .command(&["sessions", "revoke", id])
                .status
                .success()
        );
    }
    let again = copy(&site.world, &redis(&server), &[]);
    let (status, _, err) = told(&again);
    assert_eq!(status, Some(1), "{err}");
    for name in [
        format!("api_key/{rotated}"),
        format!("api_key/{ended}"),
        format!("session/{session}"),
        format!("family/{family}"),
    ] {
        let line = format!("differs in the target: {name}\n");
        assert!(err.contains(&line), "{name}: {err}");
    }
    assert!(
        err.contains("4 records differ") && err.contains("--replace"),
        "{err}"
    );
    // The old secret is known in the target alone, and no digest is shown.
    assert!(err.contains("note: 1 in the target alone"), "{err}");
    assert!(!err.contains(&sha256_hex(&credentials.session)), "{err}");
    let index = on(&server);

    let replaced = copy(&site.world, &redis(&server), &["--replace"]);
    let (status, out, err) = told(&replaced);
    assert_eq!((status, &*err), (Some(0), ""), "{out}");
    assert!(
        out.contains("copied 0,") && out.ends_with("replaced 4, removed 1\n"),
        "{out}"
    );
    let gone = format!("api_key_digest/{}", sha256_hex(&old));
    assert!(index.contains(&gone) && !on(&server).contains(&gone));

    let upstream = Upstream::echo();
    let target = World::start(&upstream, &format!("{ROUTES}{WALLET}{}", redis(&server)));
    let bearer = format!("Bearer {}", credentials.session);
    let answer = target.get("/client", &[("authorization", &*bearer)]);
    assert_eq!((answer.status, &*answer.code()), (401, "session_revoked"));
    let bearer = format!("Bearer {}", credentials.access);
    let headers = [
        ("authorization", &*bearer),
        ("x-api-key", &*credentials.key),
    ];
    let answer = target.get("/api/v1/portfolio", &headers);
    assert_eq!((answer.status, &*answer.code()), (401, "session_revoked"));
    assert_eq!(target.status_with("/keys", &old), 401);
    upstream.assert_untouched("all of it was revoked");
}

#[test]
fn a_target_that_is_in_use_is_added_to_and_never_replaced() {
    let server = Server::start(Flavour::Redis);
    let (_upstream, world) = source();
    let (_, key) = world.create_key("moved", &[]);
    let upstream = Upstream::echo();
    let target = World::start(&upstream, &format!("{ROUTES}{}", redis(&server)));
    let (_, own) = target.create_key("own", &[]);
    // It remembers that there is no such key.
    for _ in 0..2 {
        assert_eq!(target.status_with("/keys", &key), 401);
    }
    let refused = copy(&world, &redis(&server), &["--replace"]);
    let (status, _, err) = told(&refused);
    assert_eq!(status, Some(1));
    assert!(err.contains("the target is in use"), "{err}");
    assert_eq!(on(&server).len(), 2, "the target's own");

    let copied = copy(&world, &redis(&server), &[]);
    let (status, out, err) = told(&copied);
    assert_eq!(
        (status, &*out),
        (Some(0), "copied 2, there already 0\n"),
        "{err}"
    );
    assert!(err.contains("note: 2 in the target alone"), "{err}");
    target.within_a_second("/keys", &key, 200);
    assert_eq!(target.status_with("/keys", &own), 200);
}

/// Replicas that run on the target sign with its keys, and would go on to.
#[test]
fn a_target_that_signs_already_keeps_its_keys() {
    let server = Server::start(Flavour::Redis);
    let target = site(&redis(&server));
    let signing = ["GETRANGE", "{gatelet}:r:signing_keys", "8", "-1"];
    eventually("it has keys", || server.ask(&signing).contains("kid"));
    let before = server.ask(&signing);
    let source = site("[store]\nkind = \"embedded\"\npath = \"{folder}/data\"\n");
    let (status, _, err) = told(&copy(&source.world, &redis(&server), &[]));
    assert_eq!(status, Some(1));
    assert!(
        err.starts_with("differs in the target: signing_keys\n"),
        "{err}"
    );
    assert_eq!(server.ask(&signing), before);
    drop(target);
}

#[test]
fn an_interrupted_copy_goes_on_where_it_is_begun_again() {
    let server = Server::start(Flavour::Redis);
    // Laid out, so that the first thing which has to wait is a swap.
    server.ask(&["SET", "{gatelet}:layout", "1"]);
    let (_upstream, world) = source();
    world.create_key("a", &[]);
    world.write("to.toml", &redis(&server));
    for signal in ["INT", "TERM"] {
        server.ask(&["CLIENT", "PAUSE", "60000", "WRITE"]);
        let mut copying = world.begin(&["store", "copy", "--to", "to.toml"]);
        eventually("the copy writes", || {
            server.ask(&["CLIENT", "LIST"]).contains("cmd=eval")
        });
        copying.signal(signal);
        let status = copying.ends_within(Duration::from_secs(5));
        assert_eq!(status.code(), Some(1), "{:?}", copying.log());
        copying.log_line(&["interrupted", "again"]);
        server.ask(&["CLIENT", "UNPAUSE"]);
        assert_eq!(on(&server), [""; 0], "{signal}");
    }
    let again = copy(&world, &redis(&server), &[]);
    assert_eq!(told(&again).0, Some(0));
    assert_eq!(on(&server).len(), 2);
}

#[test]
fn a_copy_that_takes_long_says_how_far_it_has_come() {
    let server = Server::start(Flavour::Redis);
    server.ask(&["SET", "{gatelet}:layout", "1"]);
    let (_upstream, world) = source();
    let lines = (0..300).map(|n| json!({"name": "n", "key": format!("imported-key-{n:09}")}));
    let lines: Vec<String> = lines.map(|line| line.to_string()).collect();
    world.write("keys.ndjson", &lines.join("\n"));
    assert!(
        world
            .command(&["keys", "import", "keys.ndjson"])
            .status
            .success()
    );
    server.ask(&["CLIENT", "PAUSE", "1300", "WRITE"]);
    let (status, out, err) = told(&copy(&world, &redis(&server), &[]));
    assert_eq!(
        (status, &*out),
        (Some(0), "copied 600, there already 0\n"),
        "{err}"
    );
    assert!(err.starts_with("500 records read, 500 copied, "), "{err}");
    assert!(err.ends_with("/s\n"), "{err}");
}

#[test]
fn a_target_that_cannot_be_had_is_said_and_nothing_is_written() {
    let (_upstream, world) = source();
    let (_, key) = world.create_key("a", &[]);
    let nobody = Server::free_port();
    let guarded = Server::with(
        Flavour::Redis,
        &["--requirepass", "a-password-of-the-server"],
    );
    let master = Server::start(Flavour::Redis);
    let port = master.port().to_string();
    let replica = Server::with(Flavour::Redis, &["--replicaof", "127.0.0.1", &port]);
    let newer = Server::start(Flavour::Redis);
    newer.ask(&["SET", "{gatelet}:layout", "99"]);
    let newer_file = world.folder().join("newer");
    fs::create_dir(&newer_file).unwrap();
    let database = rusqlite::Connection::open(newer_file.join("gatelet.db")).unwrap();
    database
        .pragma_update(None, "application_id", 0x6761_7465)
        .unwrap();
    database.pragma_update(None, "user_version", 99).unwrap();
    drop(database);
    let file = world.folder().join("config.toml");
    let away = format!("[store]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{nobody}\"]\n");
    for (store, code, why) in [
        (away, 1, "the target: the store's server cannot be reached"),
        (redis(&guarded), 1, "store.password_file"),
        (redis(&replica), 1, "master"),
        (redis(&newer), 1, "newer gatelet"),
        (embedded(&newer_file), 1, "newer gatelet"),
        (embedded(&file), 1, "store.path"),
        (embedded(&world.folder().join("data")), 2, "the same store"),
        (
            embedded(&world.folder().join("other/../data")),
            2,
            "the same store",
        ),
        (String::new(), 2, "to.toml has no [store]"),
        (
            "[store]\nkind = \"redis\"".to_owned(),
            2,
            "to.toml:1: store.urls",
        ),
        (
            "[store]\nkind = \"file\"".to_owned(),
            2,
            "to.toml:2: store.kind",
        ),
        (
            "[store]\npaht = \"a\"".to_owned(),
            2,
            "did you mean \"path\"?",
        ),
        ("[store".to_owned(), 2, "to.toml:1: not TOML"),
    ] {
        fs::create_dir_all(world.folder().join("other")).unwrap();
        let (status, out, err) = told(&copy(&world, &store, &[]));
        assert_eq!(status, Some(code), "{store}: {out}{err}");
        assert!(err.contains(why), "{store}: {err}");
        assert!(!format!("{out}{err}").contains(&key), "{err}");
        assert!(!out.contains("copied 2"), "{out}");
    }
    for server in [&master, &newer] {
        assert_eq!(on(server), [""; 0]);
    }
    let missing = world.command(&["store", "copy", "--to", "nowhere.toml"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(
        err(&missing).contains("nowhere.toml: cannot be read"),
        "{}",
        err(&missing)
    );
    // The environment and flags are the source's.
    world.write("to.toml", &redis(&master));
    let set = ["--set", "store.path=elsewhere"];
    let line = [&["store", "copy", "--to", "to.toml"][..], &set].concat();
    let (status, _, err) = told(&world.command(&line));
    assert_eq!(status, Some(1));
    assert!(err.contains("there is no store in /"), "{err}");
    assert!(!world.folder().join("elsewhere").exists());
}

#[test]
fn a_source_that_holds_nothing_is_most_likely_the_wrong_one() {
    let server = Server::start(Flavour::Redis);
    let target = Server::start(Flavour::Redis);
    let upstream = Upstream::echo();
    let world = World::start(&upstream, &format!("{ROUTES}{}", redis(&server)));
    let (status, _, err) = told(&copy(&world, &redis(&target), &["--replace"]));
    assert_eq!(status, Some(1));
    assert!(err.contains("the source holds nothing"), "{err}");
    let (status, _, err) = told(&copy(&world, &redis(&server), &[]));
    assert_eq!(status, Some(2));
    assert!(err.contains("the same store"), "{err}");
    assert_eq!(on(&target), [""; 0]);
}
