//! `gatelet keys` as its users meet it: arguments in, text, JSON and an exit status out.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in the functions it calls too"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Parser;
use gatelet::authn;
use gatelet::cli::Terminal;
use gatelet::cli::keys::{self, Keys};
use gatelet::platform::{Clock, Monotonic, Platform};
use gatelet::rules::session::Lifetime;
use gatelet::rules::time::Timestamp;
use gatelet::store;
use serde_json::{Value, json};
use tempfile::TempDir;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    keys: Keys,
}

/// Tells the time it was last set to.
struct StillClock(AtomicU64);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::default()
    }

    fn timer(&self, _: Monotonic, wait: Duration) -> tokio::time::Instant {
        tokio::time::Instant::now() + wait
    }
}

/// 2027-01-01T00:00:00Z
const NOW: u64 = 1_798_761_600;

/// A place with a store, at which commands are given.
struct Shell {
    folder: TempDir,
    clock: Arc<StillClock>,
}

/// What a command printed, and its exit status.
#[derive(Debug)]
struct Outcome {
    status: u8,
    out: String,
    err: String,
}

impl Outcome {
    fn json(&self) -> Value {
        assert_eq!((self.status, self.err.as_str()), (0, ""));
        serde_json::from_str(&self.out).unwrap()
    }
}

impl Shell {
    fn new() -> Self {
        Self {
            folder: TempDir::new().unwrap(),
            clock: Arc::new(StillClock(AtomicU64::new(NOW))),
        }
    }

    fn keys(&self, line: &[&str]) -> Outcome {
        self.keys_with_input(line, "")
    }

    fn keys_with_input(&self, line: &[&str], input: &str) -> Outcome {
        let store = store::Config::Embedded {
            path: self.folder.path().join("data"),
        };
        self.run(line, Some(&store), input)
    }

    fn run(&self, line: &[&str], store: Option<&store::Config>, input: &str) -> Outcome {
        let line = Line::try_parse_from([&["keys"], line].concat()).unwrap();
        let api_keys = authn::Config {
            headers: Vec::new(),
            bearer: true,
            prefix: "gk".into(),
            pepper: None,
            statics: Vec::new(),
            session_lifetime: Lifetime::default(),
            own_issuer: "".into(),
            access_token: None,
            signing_keys: None,
            trusted: Vec::new(),
        };
        let platform = Platform {
            clock: Arc::clone(&self.clock) as Arc<dyn Clock>,
            ..Platform::system()
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut terminal = Terminal {
            input: &mut input.as_bytes(),
            out: &mut out,
            err: &mut err,
        };
        let status = keys::run(line.keys, store, &api_keys, &platform, &mut terminal);
        Outcome {
            status,
            out: String::from_utf8(out).unwrap(),
            err: String::from_utf8(err).unwrap(),
        }
    }
}

#[test]
fn create_prints_one_object() {
    let shell = Shell::new();
    let created = shell
        .keys(&[
            "create",
            "--name",
            "ci",
            "--owner",
            "platform",
            "--scope",
            "b",
            "--scope",
            "a",
            "--expires-in",
            "90d",
            "--rate-limit",
            "100/s",
            "--json",
        ])
        .json();
    let key = created["key"].as_str().unwrap();
    assert!(key.starts_with("gk_") && key.len() == 52, "{key}");
    let id = created["id"].as_str().unwrap();
    assert!(id.starts_with("key_"), "{id}");
    assert_eq!(
        created,
        json!({
            "id": id,
            "key": key,
            "name": "ci",
            "owner": "platform",
            "scopes": ["a", "b"],
            "state": "active",
            "createdAt": NOW,
            "expiresAt": NOW + 90 * 86_400,
            "revokedAt": null,
            "rateLimit": "100/s",
            "olderSecretsUntil": [],
        })
    );
    // From now on it is never shown again.
    for line in [
        &["list", "--json"][..],
        &["show", id, "--json"],
        &["list"],
        &["show", id],
    ] {
        assert!(!shell.keys(line).out.contains(key), "{line:?}");
    }
}

#[test]
fn create_shows_the_secret_on_a_line_of_its_own() {
    let shell = Shell::new();
    let Outcome { status, out, err } = shell.keys(&["create", "--name", "Zoë's laptop"]);
    assert_eq!((status, err.as_str()), (0, ""));
    let lines: Vec<_> = out.lines().collect();
    let secret = lines.iter().find(|line| line.starts_with("gk_")).unwrap();
    assert_eq!(secret.len(), 52);
    assert!(lines[0].contains("Zoë's laptop"), "{out}");
    assert!(out.contains("shown this once"), "{out}");
}

#[test]
fn the_table_is_aligned_and_tells_states() {
    let shell = Shell::new();
    let empty = shell.keys(&["list"]);
    assert_eq!(empty.status, 0);
    assert!(empty.out.contains("keys create"), "{}", empty.out);
    let empty = shell.keys(&["list", "--json"]);
    assert_eq!((empty.status, empty.out.trim()), (0, "[]"));

    let new = |line: &[&str]| {
        let line = [&["create", "--json", "--name"], line].concat();
        let created = shell.keys(&line).json();
        created["id"].as_str().unwrap().to_owned()
    };
    let ids = [
        new(&["a", "--scope", "portfolio:read", "--owner", "Zoë"]),
        new(&["brief", "--expires-in", "1h"]),
        new(&["c"]),
    ];
    shell.clock.0.store(NOW + 3600, Ordering::Relaxed);
    assert_eq!(shell.keys(&["revoke", &ids[2]]).status, 0);

    let [a, brief, c] = &ids;
    let expected = format!(
        "\
ID                    NAME   OWNER  SCOPES          STATE    CREATED               EXPIRES
{a}  a      Zoë    portfolio:read  active   2027-01-01T00:00:00Z  never
{brief}  brief  -      -               expired  2027-01-01T00:00:00Z  2027-01-01T01:00:00Z
{c}  c      -      -               revoked  2027-01-01T00:00:00Z  never
"
    );
    assert_eq!(shell.keys(&["list"]).out, expected);
    let listed = shell.keys(&["list", "--json"]).json();
    let states: Vec<_> = listed
        .as_array()
        .unwrap()
        .iter()
        .map(|key| &key["state"])
        .collect();
    assert_eq!(states, ["active", "expired", "revoked"]);
}

#[test]
fn show_tells_all_but_the_secret() {
    let shell = Shell::new();
    let created = shell
        .keys(&["create", "--name", "ci", "--rate-limit", "60/m", "--json"])
        .json();
    let id = created["id"].as_str().unwrap();
    let shown = shell.keys(&["show", id]);
    assert_eq!(
        shown.out,
        format!(
            "\
id          {id}
name        ci
owner       -
scopes      -
state       active
created     2027-01-01T00:00:00Z
expires     never
rate limit  1/s
"
        )
    );
}

#[test]
fn revoking_twice_is_no_error() {
    let shell = Shell::new();
    let created = shell.keys(&["create", "--name", "ci", "--json"]).json();
    let id = created["id"].as_str().unwrap();
    let once = shell.keys(&["revoke", id]);
    assert_eq!(once.status, 0);
    assert!(
        once.out.contains("revoked since 2027-01-01T00:00:00Z"),
        "{}",
        once.out
    );

    shell.clock.0.store(NOW + 60, Ordering::Relaxed);
    let twice = shell.keys(&["revoke", id, "--json"]).json();
    assert_eq!(
        (&twice["state"], &twice["revokedAt"]),
        (&json!("revoked"), &json!(NOW))
    );
    let rotated = shell.keys(&["rotate", id]);
    assert_eq!((rotated.status, rotated.out.as_str()), (1, ""));
    assert!(rotated.err.contains("it is revoked"), "{}", rotated.err);
}

#[test]
fn rotating_shows_a_new_secret_and_until_when_the_old_one_works() {
    let shell = Shell::new();
    let created = shell.keys(&["create", "--name", "ci", "--json"]).json();
    let id = created["id"].as_str().unwrap();
    let rotated = shell
        .keys(&["rotate", id, "--overlap", "24h", "--json"])
        .json();
    assert_eq!(rotated["id"], created["id"]);
    assert_ne!(rotated["key"], created["key"]);
    assert_eq!(rotated["olderSecretsUntil"], json!([NOW + 86_400]));
    let shown = shell.keys(&["show", id]).out;
    assert!(
        shown.contains("old secret  works until 2027-01-02T00:00:00Z"),
        "{shown}"
    );

    let rotated = shell.keys(&["rotate", id]).out;
    assert!(rotated.contains("no longer works"), "{rotated}");
    assert_eq!(
        rotated
            .lines()
            .filter(|line| line.starts_with("gk_"))
            .count(),
        1
    );
}

#[test]
fn an_unknown_id_fails_and_says_so() {
    let shell = Shell::new();
    shell.keys(&["create", "--name", "a"]);
    for line in [["show", "key_x"], ["revoke", "key_x"], ["rotate", "key_x"]] {
        let Outcome { status, out, err } = shell.keys(&line);
        assert_eq!((status, out.as_str()), (1, ""), "{line:?}");
        assert_eq!(
            err,
            "error: no key has the id \"key_x\"; `gatelet keys list` shows the ids\n"
        );
    }
}

#[test]
fn import_takes_a_file_or_standard_input() {
    let shell = Shell::new();
    let file = shell.folder.path().join("keys.ndjson");
    std::fs::write(&file, r#"{"name":"one","key":"the first imported key"}"#).unwrap();
    let imported = shell.keys(&["import", file.to_str().unwrap()]);
    assert_eq!(
        (imported.status, imported.out.as_str()),
        (0, "Imported 1 key.\n")
    );

    let two = "{\"name\":\"two\",\"key\":\"the second imported key\"}\n{\"name\":\"three\",\"key\":\"the third imported key\"}\n";
    let imported = shell.keys_with_input(&["import", "-"], two);
    assert_eq!(
        (imported.status, imported.out.as_str()),
        (0, "Imported 2 keys.\n")
    );
    assert_eq!(
        shell
            .keys(&["list", "--json"])
            .json()
            .as_array()
            .unwrap()
            .len(),
        3
    );
}

#[test]
fn an_import_that_is_wrong_names_file_and_line() {
    let shell = Shell::new();
    let text = "{\"name\":\"one\",\"key\":\"the first imported key\"}\n{\"name\":\"two\",\"key\":\"short\"}\n\n{}";
    let file = shell.folder.path().join("keys.ndjson");
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for (line, name) in [(["import", file], file), (["import", "-"], "stdin")] {
        let Outcome { status, out, err } = shell.keys_with_input(&line, text);
        assert_eq!((status, out.as_str()), (1, ""));
        assert_eq!(
            err,
            format!(
                "{name}:2: the key must be at least 20 characters long\n\
                 {name}:4: name is missing\n\
                 error: nothing was imported\n"
            )
        );
    }
    assert_eq!(shell.keys(&["list", "--json"]).json(), json!([]));
}

#[test]
fn an_import_without_its_file_leaves_no_store_behind() {
    let shell = Shell::new();
    let missing = shell.keys(&["import", "/nowhere/keys.ndjson"]);
    assert_eq!(missing.status, 1);
    assert!(
        missing.err.contains("/nowhere/keys.ndjson"),
        "{}",
        missing.err
    );
    assert!(!shell.folder.path().join("data").exists());
}

#[test]
fn what_is_about_keys_that_are_there_makes_no_store() {
    let shell = Shell::new();
    for line in [
        &["list"][..],
        &["show", "key_0"],
        &["revoke", "key_0"],
        &["rotate", "key_0"],
    ] {
        let outcome = shell.keys(line);
        assert_eq!(outcome.status == 0, line == ["list"], "{line:?}");
        assert!(
            outcome.err.contains("there is no store in /"),
            "{}",
            outcome.err
        );
        assert!(outcome.err.contains("store.path"), "{}", outcome.err);
    }
    assert!(!shell.folder.path().join("data").exists());
}

#[test]
fn a_key_given_for_an_id_is_not_repeated() {
    let shell = Shell::new();
    let key = shell.keys(&["create", "--name", "a", "--json"]).json()["key"].clone();
    let key = key.as_str().unwrap();
    let outcome = shell.keys(&["revoke", key]);
    assert_eq!(outcome.status, 1);
    assert!(outcome.err.contains("keys list"), "{}", outcome.err);
    assert!(!outcome.err.contains(&key[..10]), "{}", outcome.err);
}

#[test]
fn ten_thousand_keys_are_imported_in_seconds() {
    let shell = Shell::new();
    let lines: Vec<_> = (0..10_000)
        .map(|number| format!(r#"{{"name":"n{number}","key":"imported key {number:07}"}}"#))
        .collect();
    let clock = Platform::system().clock;
    let began = clock.monotonic();
    let imported = shell.keys_with_input(&["import", "-"], &lines.join("\n"));
    assert_eq!(imported.out, "Imported 10000 keys.\n");
    let took = clock.monotonic().since(began);
    assert!(took < Duration::from_secs(20), "{took:?}");

    // A key that the store has is named, however many were new.
    let again = shell.keys_with_input(&["import", "-"], &lines[9_999]);
    assert_eq!(again.status, 1);
    assert!(
        again
            .err
            .starts_with("stdin:1: the store has this key already, as key_")
    );
}

#[test]
fn without_a_store_the_way_out_is_named() {
    let shell = Shell::new();
    let Outcome { status, out, err } = shell.run(&["list"], None, "");
    assert_eq!((status, out.as_str()), (2, ""));
    assert!(err.contains("[store]") && err.contains("path = "), "{err}");
}

#[test]
fn a_store_that_cannot_be_opened_fails_with_its_reason() {
    let shell = Shell::new();
    std::fs::write(shell.folder.path().join("data"), "in the way").unwrap();
    let Outcome { status, err, .. } = shell.keys(&["list"]);
    assert_eq!(status, 1);
    assert!(err.contains("store.path"), "{err}");
}

#[test]
fn wrong_usage_is_told_with_the_right_one() {
    for (line, word) in [
        (&["create"][..], "--name"),
        (&["create", "--name", ""], "must not be empty"),
        (&["create", "--name", "a\nb"], "control characters"),
        (
            &["create", "--name", "n", "--owner", "\u{7}"],
            "control characters",
        ),
        (
            &["create", "--name", "n", "--scope", "a b"],
            "visible ASCII",
        ),
        (
            &["create", "--name", "n", "--expires-in", "90"],
            "needs a unit",
        ),
        (
            &["create", "--name", "n", "--expires-in", "0s"],
            "for a second at least",
        ),
        (&["create", "--name", "n", "--rate-limit", "fast"], "100/s"),
        (&["rotate", "key_x", "--overlap", "1.5h"], "not a duration"),
        (&["show"], "<ID>"),
        (&["import"], "<FILE>"),
        (&["creat", "--name", "n"], "create"),
    ] {
        let Err(error) = Line::try_parse_from([&["keys"], line].concat()) else {
            panic!("{line:?} was taken");
        };
        assert_eq!(error.exit_code(), 2, "{line:?}");
        assert!(error.to_string().contains(word), "{line:?}: {error}");
    }
}
