//! Tunnels and streams: opened with a credential, ended with it.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt;
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Client, Exchange, H2, KEY, Upstream, World, empty, eventually, within};

const ROUTES: &str = r#"
[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"

[store]
kind = "embedded"
path = "{folder}/data"
"#;

/// What a revocation may take: the contract's second, and the time a crowded machine takes to show it.
const SOON: Duration = Duration::from_millis(1800);

fn upgrade(target: &str, key: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\nconnection: keep-alive, Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n\r\n"
    )
}

/// Accepts the upgrade and repeats each line in capitals.
fn shout(exchange: &mut Exchange<'_>) -> std::io::Result<()> {
    exchange.write(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    )?;
    while let Ok(line) = exchange.until(b"\n") {
        exchange.write(line.to_ascii_uppercase())?;
    }
    exchange.close()
}

/// Accepts upgrades; anything else is a stream that begins and does not end.
fn tunnels_and_streams() -> Upstream {
    Upstream::scripted(|exchange| {
        if exchange.request().headers.has("upgrade") {
            return shout(exchange);
        }
        exchange.write(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
             d\r\ndata: first\n\n\r\n",
        )?;
        exchange.peer_closes();
        Ok(())
    })
}

fn open_tunnel(world: &World, key: &str) -> Client {
    let mut client = world.connect();
    let (status, headers) = client.send(upgrade("/guarded", key)).head();
    assert_eq!(status, 101);
    assert_eq!(headers.one("upgrade"), Some("websocket"));
    assert_eq!(
        headers.one("sec-websocket-accept"),
        Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    );
    client.send("hello\n").until("HELLO\n");
    client
}

fn open_stream(world: &World, key: &str) -> Client {
    let mut client = world.connect();
    client.send(crate::harness::request(
        "GET",
        "/guarded/events",
        &[("x-api-key", key)],
    ));
    client.until("data: first");
    client
}

#[test]
fn a_tunnel_carries_bytes_both_ways() {
    let upstream = tunnels_and_streams();
    let world = World::start(&upstream, ROUTES);
    let mut client = open_tunnel(&world, KEY);
    for _ in 0..100 {
        client.send("more\n").until("MORE\n");
    }
    let received = upstream.received().remove(0);
    assert_eq!(received.headers.one("upgrade"), Some("websocket"));
    let connection = received.headers.one("connection").unwrap();
    assert!(connection.eq_ignore_ascii_case("upgrade"), "{connection}");
    assert_eq!(
        received.headers.one("sec-websocket-key"),
        Some("dGhlIHNhbXBsZSBub25jZQ==")
    );
    assert_eq!(received.headers.one("x-auth-subject"), Some("platform"));
    assert!(!received.headers.has("x-api-key"));
    drop(client);
    eventually("the upstream's side is closed", || upstream.open() == 0);
}

#[test]
fn a_tunnel_that_the_upstream_ends_ends_for_the_caller() {
    let upstream = tunnels_and_streams();
    let world = World::start(&upstream, ROUTES);
    let mut client = open_tunnel(&world, KEY);
    upstream.close_connections();
    assert!(client.closes_within(SOON));
}

#[test]
fn no_tunnel_is_opened_without_a_key() {
    let upstream = tunnels_and_streams();
    let world = World::start(&upstream, ROUTES);
    let (status, headers) = world
        .connect()
        .send(upgrade("/guarded", "no-such-key-no-such-key"))
        .head();
    assert_eq!(status, 401);
    assert!(!headers.has("upgrade"));
    upstream.assert_untouched("an upgrade without a key");
}

#[test]
fn an_upgrade_that_is_declined_is_an_ordinary_answer() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    for _ in 0..2 {
        assert_eq!(client.send(upgrade("/guarded", KEY)).response().status, 200);
    }
}

#[test]
fn other_upgrades_go_no_further() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    for protocol in ["foo", "h2c", "TLS/1.0", "foo, websocket2"] {
        let bytes =
            upgrade("/guarded", KEY).replace("upgrade: websocket", &format!("upgrade: {protocol}"));
        assert_eq!(world.send(bytes).status, 200, "{protocol}");
        let received = upstream.take().unwrap();
        assert!(!received.headers.has("upgrade"), "{received:#?}");
        assert!(!received.headers.has("connection"), "{received:#?}");
    }
}

#[test]
fn a_revocation_ends_tunnels_and_streams_of_that_key_alone() {
    let upstream = tunnels_and_streams();
    let world = World::start(&upstream, ROUTES);
    let (id, key) = world.create_key("to be revoked", &[]);
    within(SOON, "the key is known", || {
        let (status, _) = world.connect().send(upgrade("/guarded", &key)).head();
        status == 101
    });
    let mut tunnel = open_tunnel(&world, &key);
    let mut stream = open_stream(&world, &key);
    let mut others = open_tunnel(&world, KEY);
    world.revoke_key(&id);
    assert!(tunnel.closes_within(SOON), "the tunnel");
    assert!(stream.closes_within(SOON), "the stream");
    others.send("still\n").until("STILL\n");
    drop(others);
    eventually("nothing is left open upstream", || upstream.open() == 0);
}

#[test]
fn an_expiry_ends_tunnels_and_streams() {
    let upstream = tunnels_and_streams();
    let world = World::start(&upstream, ROUTES);
    let (_, key) = world.create_key("short-lived", &["--expires-in", "2s"]);
    let mut tunnel = open_tunnel(&world, &key);
    let mut stream = open_stream(&world, &key);
    assert!(tunnel.closes_within(Duration::from_secs(4)), "the tunnel");
    assert!(stream.closes_within(SOON), "the stream");
    eventually("nothing is left open upstream", || upstream.open() == 0);
}

#[test]
fn a_stream_on_an_open_route_needs_no_key_and_outlives_every_one() {
    let upstream = tunnels_and_streams();
    let world = World::start(&upstream, ROUTES);
    let (id, key) = world.create_key("another", &[]);
    let mut client = world.connect();
    client.send(
        "GET /open HTTP/1.1\r\nhost: api.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    );
    assert_eq!(client.head().0, 101);
    world.revoke_key(&id);
    world.within_a_second("/guarded", &key, 401);
    client.send("open\n").until("OPEN\n");
}

#[test]
fn a_tunnel_opens_over_http2() {
    let upstream = tunnels_and_streams();
    let world = World::start(&upstream, ROUTES);
    let mut h2 = H2::connect(world.proxy());
    // The answer comes after the server's settings, which say that extended CONNECT is spoken here.
    assert_eq!(h2.get("/guarded", &[]).status, 401);
    let connect = |key: &str| {
        Request::builder()
            .method(Method::CONNECT)
            .uri("http://api.test/guarded/ws")
            .extension(Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "of-no-use-in-http2")
            .header("x-api-key", key)
            .body(empty())
            .unwrap()
    };
    let refused = h2.send(connect("no-such-key-no-such-key"));
    assert_eq!(refused.status, 401);
    upstream.assert_untouched("an extended CONNECT without a key");
    let echoed = h2.with(async |sender| {
        let response = sender.send_request(connect(KEY)).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        tunnel.write_all(b"over h2\n").await.unwrap();
        let mut echoed = [0; 8];
        tunnel.read_exact(&mut echoed).await.unwrap();
        Bytes::copy_from_slice(&echoed)
    });
    assert_eq!(echoed, "OVER H2\n");
    let received = upstream.received().remove(0);
    assert_eq!(received.method, "GET");
    assert_eq!(received.headers.one("upgrade"), Some("websocket"));
    let keys = received.headers.all("sec-websocket-key");
    assert!(keys.len() == 1 && keys[0].len() == 24, "{keys:?}");
    assert_eq!(received.headers.one("x-auth-subject"), Some("platform"));
}

#[test]
fn a_revocation_ends_a_stream_over_http2() {
    let upstream = tunnels_and_streams();
    let world = World::start(&upstream, ROUTES);
    let (id, key) = world.create_key("streams over h2", &[]);
    let mut h2 = H2::connect(world.proxy());
    let request = Request::get("http://api.test/guarded/events")
        .header("x-api-key", key)
        .body(empty())
        .unwrap();
    let mut body = h2.with(async |sender| {
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut body = response.into_body();
        let first = body.frame().await.unwrap().unwrap();
        assert!(first.is_data());
        body
    });
    world.revoke_key(&id);
    let ended = h2.with(async |_| {
        tokio::time::timeout(SOON, async {
            while let Some(Ok(_)) = body.frame().await {}
        })
        .await
        .is_ok()
    });
    assert!(ended, "the stream outlived its key");
}

/// What follows the head of a request to upgrade, if it is not the tunnel's, is a body; one that is
/// declared upstream and never sent there makes the next request part of itself.
#[test]
fn a_request_to_upgrade_declares_no_body_upstream_that_it_does_not_send() {
    // Answers at once, and reads the body afterwards: as Node and Go do.
    let upstream = Upstream::scripted(|exchange| exchange.answer("200 OK", "", "no tunnel"));
    let world = World::start(&upstream, ROUTES);
    let hidden = "GET /guarded HTTP/1.1\r\nhost: api.test\r\nx-auth-subject: root\r\n\r\n";
    let asking = |length: usize| {
        format!(
            "GET /open HTTP/1.1\r\nhost: api.test\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\ncontent-length: {length}\r\n\r\n"
        )
    };
    let carrying = format!(
        "POST /open HTTP/1.1\r\nhost: api.test\r\ncontent-length: {}\r\n\r\n{hidden}",
        hidden.len()
    );
    world.connect().send(&carrying).response();
    let swallowed = upstream.take().unwrap().raw.len();
    for length in [1, swallowed] {
        world.connect().send(asking(length)).response();
        world.connect().send(&carrying).response();
        for received in upstream.received() {
            assert!(!received.target.starts_with("/guarded"), "{received:#?}");
            assert!(!received.headers.has("x-auth-subject"), "{received:#?}");
        }
        eventually("what was declared was sent", || {
            upstream.received().iter().all(|received| received.complete)
        });
        upstream.assert_sane();
    }
}

#[test]
fn tunnels_are_connections_like_any_other() {
    let upstream = tunnels_and_streams();
    let world = World::start(&upstream, &format!("{ROUTES}\n[limits]\nconnections = 2\n"));
    let tunnels: Vec<_> = (0..2).map(|_| open_tunnel(&world, KEY)).collect();
    let mut third = world.connect();
    let (status, _) = third.send(upgrade("/guarded", KEY)).head();
    assert_eq!(status, 503);
    drop(tunnels);
}

/// The idle timeout is for connections at rest, "never inside a stream".
#[test]
fn a_tunnel_over_http2_outlives_the_idle_timeout() {
    let upstream = tunnels_and_streams();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\nidle_timeout = \"1s\"\n"),
    );
    let mut h2 = H2::connect(world.proxy());
    assert_eq!(h2.get("/guarded", &[]).status, 401);
    let connect = Request::builder()
        .method(Method::CONNECT)
        .uri("http://api.test/guarded/ws")
        .extension(Protocol::from_static("websocket"))
        .header("x-api-key", KEY)
        .body(empty())
        .unwrap();
    h2.with(async |sender| {
        let response = sender.send_request(connect).await.unwrap();
        let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        for _ in 0..5 {
            tunnel.write_all(b"still\n").await.unwrap();
            let mut echoed = [0; 6];
            tunnel
                .read_exact(&mut echoed)
                .await
                .expect("the tunnel is open");
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    });
}
