//! Answers that are on their way when the credential expires that let them in.

use std::sync::{Arc, Mutex, mpsc};

use crate::harness::{Client, Exchange, Upstream, Wallet, World, eventually, request};
use crate::sign_in::site::{Site, text};

const SESSIONS: &str = r#"
[[routes]]
prefix = "/client"
require = ["session_token"]

[[routes]]
prefix = "/keys"
require = ["api_key"]

[session_token]
idle = "2s"
max = "2s"

[store]
path = "{folder}/data"
"#;

/// Begins answers and finishes those of known length when it is told to, once for each.
fn unhurried() -> (Upstream, mpsc::Sender<()>) {
    let (go_on, told) = mpsc::channel();
    let told = Arc::new(Mutex::new(told));
    let upstream = Upstream::scripted(move |exchange: &mut Exchange<'_>| {
        let request = exchange.request();
        if request.target.ends_with("/stream") {
            exchange
                .write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n")?;
            exchange.peer_closes();
            return Ok(());
        }
        if request.target.ends_with("/file") {
            exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nbegun")?;
            let _ = told.lock().unwrap().recv();
            return exchange.write("ended");
        }
        exchange.answer("200 OK", "", "")
    });
    (upstream, go_on)
}

/// Begins a file and a stream, lets the bearer expire, and looks at what becomes of both.
fn assert_finished_and_cut(
    world: &World,
    prefix: &str,
    headers: &[(&str, &str)],
    has_expired: impl Fn() -> bool,
    go_on: &mpsc::Sender<()>,
) {
    let open = |target: &str| -> Client {
        let mut client = world.connect();
        client.send(request("GET", &format!("{prefix}/{target}"), headers));
        assert_eq!(client.head().0, 200, "{target}");
        client.until("begun");
        client
    };
    let (mut file, mut stream) = (open("file"), open("stream"));
    eventually("it expires", has_expired);
    let seen = stream.rest();
    assert!(!seen.contains("0\r\n\r\n"), "cut, and not ended: {seen:?}");
    go_on.send(()).unwrap();
    assert_eq!(file.until("ended"), "ended", "an ordinary answer ends");
}

#[test]
fn over_a_sessions_end_a_file_is_finished_and_a_stream_is_cut() {
    let (upstream, go_on) = unhurried();
    let world = World::start(&upstream, SESSIONS);
    let (_, key) = world.create_key("server", &["--scope", "sessions:issue"]);
    world.within_a_second("/keys", &key, 200);
    let issued = world.send(format!(
        "POST /api/v1/auth/sessions HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: 20\r\n\r\n{{\"subject\":\"user-7\"}}"
    ));
    assert_eq!(issued.status, 201, "{}", issued.text());
    let bearer = format!("Bearer {}", text(&issued, "clientSessionToken"));
    let headers = [("authorization", &*bearer)];
    let has_expired = || world.get("/client", &headers).code() == "session_expired";
    assert_finished_and_cut(&world, "/client", &headers, has_expired, &go_on);
    let received = upstream.received();
    let files = received.iter().filter(|it| it.target.ends_with("/file"));
    for file in files {
        assert_eq!(file.headers.one("x-auth-subject"), Some("user-7"));
        assert!(!file.headers.has("authorization"));
    }
}

#[test]
fn over_an_access_tokens_end_a_file_is_finished_and_a_stream_is_cut() {
    let (upstream, go_on) = unhurried();
    let site = Site::before(upstream, "ttl = \"2s\"\n");
    let signed_in = site.sign_in(&Wallet::numbered(100), "body");
    let bearer = format!("Bearer {}", text(&signed_in, "accessToken"));
    let headers = [("authorization", &*bearer)];
    let world = &site.world;
    let has_expired = || world.get("/token", &headers).code() == "token_expired";
    assert_finished_and_cut(world, "/token", &headers, has_expired, &go_on);
}

#[test]
fn over_a_logout_both_are_cut() {
    let (upstream, go_on) = unhurried();
    let site = Site::before(upstream, "");
    let signed_in = site.sign_in(&Wallet::numbered(101), "body");
    let bearer = format!("Bearer {}", text(&signed_in, "accessToken"));
    let headers = [("authorization", &*bearer)];
    let open = |target: &str| -> Client {
        let mut client = site.world.connect();
        client.send(request("GET", target, &headers)).until("begun");
        client
    };
    let (mut file, mut stream) = (open("/token/file"), open("/token/stream"));
    let out = site.post("/logout", &headers, &serde_json::Value::Null);
    assert_eq!(out.status, 204);
    assert!(!stream.rest().contains("0\r\n\r\n"));
    assert_eq!(file.rest(), "", "what was revoked goes no further");
    let _ = go_on.send(());
}
