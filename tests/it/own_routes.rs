//! gatelet's own routes: what they take and answer, and bodies that come slowly or not as they should.

mod endings;
mod grants;
mod introspection;
mod origins;
mod paths;
mod secrets;
mod sign_ins;

use std::fs;

use rusqlite::Connection;
use serde_json::json;

use crate::harness::{Client, Upstream, Wallet, World, eventually};
use crate::sign_in::site::{AUTH, Site};

/// Sends all of a request but the end of its body, which is returned.
fn begin(client: &mut Client, target: &str, key: &str, body: &str) -> String {
    let length = body.len();
    let (now, later) = body.split_at(length - 2);
    client.send(format!(
        "POST {AUTH}{target} HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n{now}"
    ));
    later.to_owned()
}

/// Where a request was let in, `100 Continue` is said before its body is read.
fn begin_let_in(client: &mut Client, target: &str, key: &str, body: &str) {
    let length = body.len();
    client.send(format!(
        "POST {AUTH}{target} HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\nexpect: 100-continue\r\n\
         content-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ));
    assert_eq!(client.head().0, 100, "{target}");
}

#[test]
fn a_key_that_is_revoked_while_a_body_comes_does_nothing() {
    let site = Site::open();
    let scopes = ["--owner", "acme", "--scope", "sessions:issue"];
    let (id, key) = site.world.create_key("slow", &scopes);
    site.world.within_a_second("/keys", &key, 200);
    let wallet = Wallet::numbered(90);
    let nonce = site.post(
        "/nonce",
        &[("x-api-key", &key)],
        &json!({"address": wallet.address()}),
    );
    let message = nonce.json()["message"].as_str().unwrap().to_owned();
    let signature = wallet.sign(&message);
    let requests = [
        ("/sessions", json!({"subject": "user-7"})),
        (
            "/verify",
            json!({"message": message, "signature": signature, "mode": "body"}),
        ),
        ("/nonce", json!({"address": wallet.address()})),
    ];
    site.upstream.take();
    let mut waiting: Vec<(Client, String)> = requests
        .iter()
        .map(|(target, body)| {
            let mut client = site.world.connect();
            let body = body.to_string();
            begin_let_in(&mut client, target, &key, &body);
            (client, body)
        })
        .collect();
    site.world.revoke_key(&id);
    site.world.within_a_second("/keys", &key, 401);
    for (client, body) in &mut waiting {
        let answer = client.send(&*body).response_to("POST");
        assert_eq!((answer.status, &*answer.code()), (401, "api_key_invalid"));
        assert!(!answer.headers.has("set-cookie"));
    }
    let sessions = site.world.command_json(&["sessions", "list", "--json"]);
    assert_eq!(sessions, json!([]), "nothing was issued");
    let received = site.upstream.received();
    assert!(received.iter().all(|it| it.target == "/keys"), "own routes");
}

#[test]
fn a_body_that_comes_slowly_to_a_store_that_is_gone_is_a_503() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        "[[routes]]\nprefix = \"/keys\"\nrequire = [\"api_key\"]\n\
         [store]\npath = \"{folder}/data\"\n[cache]\nmax_staleness = \"1s\"\n",
    );
    let (_, key) = world.create_key("slow", &["--scope", "sessions:issue"]);
    world.within_a_second("/keys", &key, 200);
    let mut client = world.connect();
    let body = json!({"subject": "user-7"}).to_string();
    begin_let_in(&mut client, "/sessions", &key, &body);
    let (data, away) = (world.folder().join("data"), world.folder().join("away"));
    fs::rename(data, away).unwrap();
    eventually("what the store said is too old", || {
        world.status_with("/keys", &key) == 503
    });
    let answer = client.send(&body).response_to("POST");
    assert_eq!((answer.status, &*answer.code()), (503, "store_unavailable"));
    let database = Connection::open(world.folder().join("away/gatelet.db")).unwrap();
    let count = "SELECT count(*) FROM records WHERE key LIKE 'session%'";
    let sessions: u32 = database.query_row(count, (), |row| row.get(0)).unwrap();
    assert_eq!(sessions, 0);
}

#[test]
fn the_access_log_counts_what_came_in() {
    let mut site = Site::open();
    let body = json!({"address": Wallet::numbered(91).address()}).to_string();
    let mut client = site.world.connect();
    let key = site.key.clone();
    let later = begin(&mut client, "/nonce", &key, &body);
    assert_eq!(client.send(later).response_to("POST").status, 201);
    let line = site.world.access("/api/v1/auth/nonce");
    assert_eq!(line.field("bytes_in"), body.len());
    assert_eq!(line.field("status"), 201);

    // What was refused in the middle came in all the same.
    let mut client = site.world.connect();
    let large = "x".repeat(17 * 1024);
    client.send(format!(
        "POST {AUTH}/sessions HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\n\
         transfer-encoding: chunked\r\n\r\n4400\r\n{large}\r\n0\r\n\r\n"
    ));
    assert_eq!(client.response_to("POST").code(), "scope_missing");
    let line = site.world.access("/api/v1/auth/sessions");
    assert_eq!(line.field("bytes_in"), 0, "it was not read");
    client = site.world.connect();
    client.send(format!(
        "POST {AUTH}/verify HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\n\
         transfer-encoding: chunked\r\n\r\n4400\r\n{large}\r\n0\r\n\r\n"
    ));
    assert_eq!(client.response_to("POST").code(), "body_too_large");
    let line = site.world.access("/api/v1/auth/verify");
    let counted = line.field("bytes_in").as_u64().unwrap();
    assert!((1..=17 * 1024).contains(&counted), "{counted}");
}

#[test]
fn a_signature_that_is_too_short_is_no_contracts() {
    let site = Site::open();
    let wallet = Wallet::numbered(92);
    for (signature, code) in [
        ("0x12".to_owned(), "signature_invalid"),
        (format!("0x{}", "12".repeat(63)), "signature_invalid"),
        (format!("0x{}", "12".repeat(96)), "wallet_unsupported"),
    ] {
        let message = site.nonce(&wallet)["message"].as_str().unwrap().to_owned();
        let body = json!({"message": message, "signature": signature});
        let answer = site.with_key("/verify", &body);
        assert_eq!((answer.status, &*answer.code()), (401, code), "{signature}");
    }
}

/// Why an upload was cut is what its sender would be told anew: nothing is wrong with a key when the
/// store is gone, and a token that ended is no key.
#[test]
fn an_upload_that_is_cut_says_why() {
    let site = Site::with("ttl = \"2s\"\n");
    let signed_in = site.sign_in(&Wallet::numbered(91), "body");
    let bearer = signed_in.json()["accessToken"].as_str().unwrap().to_owned();
    let begin = |target: &str, header: &str| {
        let mut client = site.world.connect();
        client.send(format!(
            "POST {target} HTTP/1.1\r\nhost: api.test\r\n{header}\r\ncontent-length: 10\r\n\r\nbegun"
        ));
        client
    };
    let mut expires = begin("/token", &format!("authorization: Bearer {bearer}"));
    let answer = expires.response_to("POST");
    assert_eq!((answer.status, &*answer.code()), (401, "token_expired"));

    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        "[[routes]]\nprefix = \"/keys\"\nrequire = [\"api_key\"]\n\
         [store]\npath = \"{folder}/data\"\n[cache]\nmax_staleness = \"1s\"\n",
    );
    let (_, key) = world.create_key("up", &[]);
    world.within_a_second("/keys", &key, 200);
    let mut client = world.connect();
    client.send(format!(
        "POST /keys HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\ncontent-length: 10\r\n\r\nbegun"
    ));
    let (data, away) = (world.folder().join("data"), world.folder().join("away"));
    fs::rename(&data, &away).unwrap();
    let answer = client.response_to("POST");
    assert_eq!((answer.status, &*answer.code()), (503, "store_unavailable"));
}
