//! What a copy of the store is worth to whoever has one.

use std::fs;

use serde_json::{Value, json};

use crate::harness::{Response, Upstream, Wallet, World, sha256_hex};
use crate::sign_in::site::{REST, ROUTES, Site, text};

/// Every byte that is on disk, once the program has ended.
fn copy(world: &World) -> Vec<u8> {
    let files = fs::read_dir(world.folder().join("data")).unwrap();
    let read = files.map(|file| fs::read(file.unwrap().path()).unwrap());
    read.collect::<Vec<_>>().concat()
}

fn holds(copy: &[u8], text: &str) -> bool {
    copy.windows(text.len())
        .any(|window| window.eq_ignore_ascii_case(text.as_bytes()))
}

fn with_bearer(world: &World, target: &str, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    world.get(target, &[("authorization", &bearer)])
}

#[test]
fn no_secret_is_kept_and_with_a_pepper_not_even_its_plain_digest() {
    let client = "\n[[routes]]\nprefix = \"/client\"\nrequire = [\"session_token\"]\n";
    let folder = tempfile::tempdir().unwrap();
    let pepper = folder.path().join("pepper");
    fs::write(&pepper, "as long as it takes to be a pepper").unwrap();
    let peppered = format!("\n[api_keys]\npepper_file = {pepper:?}\n");
    for (more, plain) in [("", true), (&*peppered, false)] {
        let upstream = Upstream::echo();
        let world = World::start(&upstream, &format!("{ROUTES}{REST}{client}{more}"));
        let (_, key) = world.create_key("web", &["--scope", "sessions:issue"]);
        world.within_a_second("/keys", &key, 200);
        let imported = "a-key-that-another-system-issued";
        let line = json!({"name": "old", "key": imported}).to_string();
        world.write("keys.ndjson", &format!("{line}\n"));
        let taken = world.command(&["keys", "import", "keys.ndjson"]);
        assert!(taken.status.success(), "{taken:?}");
        world.within_a_second("/keys", imported, 200);
        let mut site = Site {
            upstream,
            world,
            key,
        };
        let issued = site.with_key("/sessions", &json!({"subject": "user-7"}));
        let session = text(&issued, "clientSessionToken");
        assert_eq!(with_bearer(&site.world, "/client", &session).status, 200);
        let received = site.upstream.received().pop().unwrap();
        assert_eq!(received.headers.one("x-auth-subject"), Some("user-7"));
        let signed_in = site.sign_in(&Wallet::numbered(70), "body");
        let rotated = site.refresh(&text(&signed_in, "refreshToken"));
        let again = site.refresh(&text(&signed_in, "refreshToken"));
        let access = text(&rotated, "accessToken");
        assert_eq!(with_bearer(&site.world, "/token", &access).status, 200);
        let refresh = [&signed_in, &rotated, &again].map(|it| text(it, "refreshToken"));
        assert_eq!(refresh[1], refresh[2]);

        site.world.signal("TERM");
        site.world.ends_within(crate::harness::BOUND);
        let copy = copy(&site.world);
        assert!(holds(&copy, "user-7"), "it is the store");
        for secret in [&*site.key, imported, &session] {
            // Of a minted one, what is between its prefix and its checksum is secret.
            assert!(!holds(&copy, &secret[3..26]), "{secret}");
            assert_eq!(holds(&copy, &sha256_hex(secret)), plain, "{more}");
        }
        let [_, hidden, signature] = three(&access);
        for part in [hidden, signature] {
            assert!(!holds(&copy, part), "an access token");
        }
        for token in &refresh {
            // The id of its family is no secret; the proof and the secret behind it are.
            for secret in [&token[25..47], &token[47..90]] {
                assert!(!holds(&copy, secret), "{token}");
            }
        }
        let digests = refresh[1..].iter().all(|it| holds(&copy, &sha256_hex(it)));
        assert_eq!(digests, plain);
    }
}

fn three(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().unwrap()
}

#[test]
fn an_access_token_that_was_seen_costs_no_look_into_the_store() {
    let site = Site::open();
    let access = text(&site.sign_in(&Wallet::numbered(71), "body"), "accessToken");
    // Once by each worker.
    for _ in 0..8 {
        assert_eq!(site.portfolio(&access).status, 200);
    }
    let asked = || {
        let labels = [("operation", "load")];
        let name = "gatelet_store_operation_duration_seconds_count";
        site.world.metrics().sum(name, &labels)
    };
    let before = asked();
    for _ in 0..200 {
        assert_eq!(site.portfolio(&access).status, 200);
    }
    // Some are asked in the background.
    assert!(asked() - before < 100.0, "memory alone is asked");
    let bearer = format!("Bearer {access}");
    site.post("/logout", &[("authorization", &bearer)], &Value::Null);
    assert_eq!(site.portfolio(&access).code(), "session_revoked");
}
