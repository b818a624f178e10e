//! An upstream that speaks HTTP/2: what it is sent, how connections are shared, and what passes through.

mod addresses;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt;
use http_body_util::channel::{Channel, Sender};
use hyper::ext::Protocol;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{
    Authority, Body, Client, H2, H2Upstream, KEY, Settings, Terminator, World, empty, eventually,
    request, text, with_trailers,
};

const ROUTES: &str = r#"
protocol = "http2"

[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]
request_body = "unlimited"

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"

[store]
kind = "embedded"
path = "{folder}/data"
"#;

fn world(upstream: &H2Upstream) -> World {
    World::start_at(&upstream.url(), ROUTES)
}

fn keyed(target: &str) -> String {
    request("GET", target, &[("x-api-key", KEY)])
}

/// A body that is what is sent to it, until that is dropped.
fn streamed() -> (Sender<Bytes>, Body) {
    let (sender, body) = Channel::<Bytes, Infallible>::new(16);
    (sender, body.boxed())
}

#[test]
fn a_request_arrives_with_its_host_its_path_and_who_is_calling() {
    let upstream = H2Upstream::echo();
    let world = world(&upstream);
    let more =
        "x-api-key: KEY\r\ncookie: a=1; b=2\r\nconnection: x-drop\r\nx-drop: 1\r\nte: trailers\r\n";
    let head = format!("GET /guarded/a%2Fb/?q=%20 HTTP/1.1\r\nhost: api.test:99\r\n{more}\r\n");
    let refused = world.send(head.replace("%2F", "").replace("KEY", "wrong"));
    assert_eq!(refused.code(), "api_key_invalid");
    let answer = world.send(head.replace("%2F", "-").replace("KEY", KEY));
    assert_eq!((answer.status, &*answer.text()), (200, "0"));
    let received = upstream.last();
    assert_eq!(received.uri, "http://api.test:99/guarded/a-b/?q=%20");
    let line = |name: &str| {
        received
            .headers
            .get(name)
            .map(|value| value.to_str().unwrap())
    };
    assert_eq!(line("x-auth-subject"), Some("platform"));
    assert_eq!(line("cookie"), Some("a=1; b=2"));
    assert_eq!(line("x-forwarded-host"), Some("api.test:99"));
    assert_eq!(line("x-forwarded-proto"), Some("http"));
    for gone in [
        "x-api-key",
        "connection",
        "x-drop",
        "host",
        "content-length",
    ] {
        assert_eq!(line(gone), None, "{gone}");
    }
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn trailers_pass_both_ways_and_reserved_ones_do_not() {
    let (seen, trailers) = std::sync::mpsc::channel();
    let upstream = H2Upstream::scripted(Settings::default(), move |request| {
        let seen = seen.clone();
        async move {
            let te = request.headers().get("te").cloned();
            let body = request.into_body().collect().await.unwrap();
            seen.send((te, body.trailers().cloned())).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            trailers.insert("set-cookie", HeaderValue::from_static("a=b"));
            Response::new(with_trailers("done", trailers))
        }
    });
    let world = world(&upstream);
    let mut h2 = H2::connect(world.proxy());
    let mut sent = HeaderMap::new();
    sent.insert("x-sum", HeaderValue::from_static("9"));
    sent.insert("x-auth-subject", HeaderValue::from_static("root"));
    let request = Request::post("http://api.test/guarded")
        .header("x-api-key", KEY)
        .header("te", "trailers")
        .body(with_trailers("hello", sent))
        .unwrap();
    let answer = h2.send(request);
    assert_eq!(&*answer.body, b"done");
    let found = answer.trailers.unwrap();
    assert_eq!(found["grpc-status"], "0");
    assert!(!found.contains_key("set-cookie"));
    let (te, received) = trailers.recv().unwrap();
    assert_eq!(te.unwrap(), "trailers");
    let received = received.unwrap();
    assert_eq!(received["x-sum"], "9");
    assert!(!received.contains_key("x-auth-subject"));
}

#[test]
fn many_requests_share_a_connection_and_no_more_than_the_upstream_takes() {
    let settings = Settings {
        max_streams: Some(4),
        ..Settings::default()
    };
    let upstream = H2Upstream::scripted(settings, |_| async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        Response::new(text("ok"))
    });
    let toml = format!("max_connections = 4\n{ROUTES}");
    let world = World::start_at(&upstream.url(), &toml);
    let callers: Vec<_> = (0..24)
        .map(|_| {
            let address = world.proxy();
            std::thread::spawn(move || {
                let mut client = Client::connect(address);
                for _ in 0..5 {
                    assert_eq!(client.send(keyed("/guarded")).response().status, 200);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.join().unwrap();
    }
    assert_eq!(upstream.received().len(), 120);
    assert!(upstream.accepted() <= 4, "{}", upstream.accepted());
}

#[test]
fn a_stream_that_nobody_reads_holds_up_no_other() {
    let upstream = H2Upstream::scripted(Settings::default(), |_| async {
        Response::new(text(&"x".repeat(8 << 20)))
    });
    let toml = format!("max_connections = 1\n{ROUTES}");
    let world = World::start_at(&upstream.url(), &toml);
    let mut stuck: Vec<_> = (0..40).map(|_| world.connect()).collect();
    for client in &mut stuck {
        client.send(keyed("/guarded/stuck"));
    }
    eventually("they are being answered", || {
        upstream.received().len() == 40
    });
    let mut h2 = H2::connect(world.proxy());
    for _ in 0..5 {
        let answer = h2.get("/guarded/read", &[("x-api-key", KEY)]);
        assert_eq!(answer.body.len(), 8 << 20);
    }
}

#[test]
fn both_sides_stream_at_once() {
    let upstream = H2Upstream::scripted(Settings::default(), |request| async {
        let (mut sender, body) = streamed();
        tokio::spawn(async move {
            let mut incoming = request.into_body();
            while let Some(Ok(frame)) = incoming.frame().await {
                if let Ok(data) = frame.into_data() {
                    let shouted = data.to_ascii_uppercase();
                    if sender.send_data(shouted.into()).await.is_err() {
                        return;
                    }
                }
            }
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            let _ = sender.send_trailers(trailers).await;
        });
        Response::new(body)
    });
    let world = world(&upstream);
    let mut h2 = H2::connect(world.proxy());
    let (mut sender, body) = streamed();
    let request = Request::post("http://api.test/guarded")
        .header("x-api-key", KEY)
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap();
    h2.with(async |connection| {
        connection.ready().await.unwrap();
        let answer = connection.send_request(request).await.unwrap();
        let mut answer = answer.into_body();
        for _ in 0..10 {
            sender.send_data(Bytes::from_static(b"ping")).await.unwrap();
            let frame = answer.frame().await.unwrap().unwrap();
            assert_eq!(frame.into_data().unwrap(), "PING");
        }
        drop(sender);
        let last = answer.frame().await.unwrap().unwrap();
        assert_eq!(last.into_trailers().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn a_caller_that_leaves_cancels_its_request() {
    let upstream = H2Upstream::scripted(Settings::default(), |_| std::future::pending());
    let world = world(&upstream);
    let mut client = world.connect();
    client.send(keyed("/guarded"));
    eventually("it is there", || upstream.received().len() == 1);
    drop(client);
    eventually("it is cancelled", || upstream.abandoned() == 1);
    let mut h2 = H2::connect(world.proxy());
    h2.with(async |connection| {
        connection.ready().await.unwrap();
        let request = Request::get("http://api.test/guarded").header("x-api-key", KEY);
        let asking = connection.send_request(request.body(empty()).unwrap());
        let asked = tokio::time::timeout(Duration::from_millis(300), asking);
        assert!(asked.await.is_err());
        while upstream.abandoned() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn an_answer_that_does_not_come_in_time_is_504() {
    let upstream = H2Upstream::scripted(Settings::default(), |_| std::future::pending());
    let toml = format!("response_timeout = \"300ms\"\n{ROUTES}");
    let world = World::start_at(&upstream.url(), &toml);
    let late = world.get("/guarded", &[("x-api-key", KEY)]);
    assert_eq!((late.status, &*late.code()), (504, "upstream_timeout"));
    eventually("it is cancelled", || upstream.abandoned() == 1);
}

#[test]
fn a_server_of_http1_is_no_upstream_over_http2() {
    let upstream = crate::harness::Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let answer = world.get("/guarded", &[("x-api-key", KEY)]);
    assert_eq!(answer.status, 502);
}

#[test]
fn connections_that_were_closed_at_rest_cost_no_request() {
    let upstream = H2Upstream::echo();
    let world = world(&upstream);
    for _ in 0..3 {
        assert_eq!(world.get("/guarded", &[("x-api-key", KEY)]).status, 200);
    }
    assert!(upstream.accepted() <= 2, "one a worker");
}

#[test]
fn http2_is_agreed_upon_with_tls() {
    let (upstream, authority) = (H2Upstream::echo(), Authority::new());
    let identity = authority.certify(&["127.0.0.1"], &[]);
    for (offered, status) in [(&["h2"][..], 200), (&["http/1.1"], 502), (&[], 200)] {
        let terminator = Terminator::start(upstream.socket_address(), &identity, None, offered);
        let url = format!("https://{}", terminator.address());
        let toml = format!("ca_file = \"ca.crt\"\n{ROUTES}");
        let world = World::start_before(&url, &toml, &[("ca.crt", authority.pem())]);
        let answer = world.get("/guarded", &[("x-api-key", KEY)]);
        assert_eq!(answer.status, status, "{offered:?}");
    }
    assert_eq!(upstream.received().len(), 2);
    assert!(upstream.last().uri.starts_with("https://"));
}

/// Opens tunnels and repeats each line in capitals.
fn shouting() -> H2Upstream {
    let settings = Settings {
        opens_websockets: true,
        ..Settings::default()
    };
    H2Upstream::scripted(settings, |mut request| async move {
        let protocol = request.extensions().get::<Protocol>();
        if protocol.is_none_or(|protocol| protocol.as_str() != "websocket") {
            return Response::new(text("no tunnel"));
        }
        let upgrade = hyper::upgrade::on(&mut request);
        tokio::spawn(async move {
            let mut tunnel = TokioIo::new(upgrade.await.unwrap());
            let mut bytes = [0; 100];
            while let Ok(count @ 1..) = tunnel.read(&mut bytes).await {
                let shouted = bytes[..count].to_ascii_uppercase();
                if tunnel.write_all(&shouted).await.is_err() {
                    return;
                }
            }
        });
        Response::new(empty())
    })
}

const UPGRADE: &str = "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-version: 13\r\n";

/// The key that RFC 6455 §1.3 takes for an example, and what answers it.
const KEY_OF_RFC: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT_OF_RFC: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

#[test]
fn a_websocket_opens_for_callers_of_either_protocol_and_ends_with_its_key() {
    let upstream = shouting();
    let world = world(&upstream);
    let (id, key) = world.create_key("tunnel", &[]);
    let mut client = world.connect();
    let head =
        format!("GET /guarded HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\n{UPGRADE}\r\n");
    let answer = client.send(head).response();
    assert_eq!(answer.status, 101);
    let accept = answer.headers.one("sec-websocket-accept");
    assert_eq!(accept, Some(ACCEPT_OF_RFC));
    client.send("hello\n");
    assert_eq!(client.until("\n"), "HELLO\n");
    let received = upstream.last();
    assert_eq!(received.method, "CONNECT");
    assert_eq!(received.headers["sec-websocket-key"], KEY_OF_RFC);
    assert!(!received.headers.contains_key("upgrade"));
    assert_eq!(received.headers["sec-websocket-version"], "13");

    // A caller of HTTP/2 has no key, unless it is a proxy that has a caller of HTTP/1.1.
    for (its_own, accept) in [(None, None), (Some(KEY_OF_RFC), Some(ACCEPT_OF_RFC))] {
        let mut h2 = H2::connect(world.proxy());
        h2.with(async |connection| {
            connection.ready().await.unwrap();
            let request = Request::builder()
                .method(Method::CONNECT)
                .uri("http://api.test/guarded")
                .header("x-api-key", &key)
                .extension(Protocol::from_static("websocket"));
            let request = its_own
                .into_iter()
                .fold(request, |request, key| {
                    request.header("sec-websocket-key", key)
                })
                .body(empty())
                .unwrap();
            let answer = connection.send_request(request).await.unwrap();
            assert_eq!(answer.status(), 200);
            let told = answer.headers().get("sec-websocket-accept");
            assert_eq!(told.map(|told| told.to_str().unwrap()), accept);
            let mut tunnel = TokioIo::new(hyper::upgrade::on(answer).await.unwrap());
            tunnel.write_all(b"hello").await.unwrap();
            let mut bytes = [0; 5];
            tunnel.read_exact(&mut bytes).await.unwrap();
            assert_eq!(&bytes, b"HELLO");
        });
        // The upstream may be a proxy that goes on over HTTP/1.1: it is told one in any case.
        let told = upstream.last().headers["sec-websocket-key"].clone();
        assert_eq!(told.len(), KEY_OF_RFC.len());
        assert_ne!(told, KEY_OF_RFC);
    }
    world.revoke_key(&id);
    assert!(client.closes_within(Duration::from_millis(1800)));
}

#[test]
fn an_upstream_that_opens_no_websockets_is_told_of_as_one() {
    let upstream = H2Upstream::echo();
    let world = world(&upstream);
    let decided = || world.metrics().sum("gatelet_decisions_total", &[]);
    let before = decided();
    let head = format!("GET /open HTTP/1.1\r\nhost: api.test\r\n{UPGRADE}\r\n");
    let answer = world.send(&head);
    assert_eq!((answer.status, &*answer.code()), (502, "upstream_protocol"));
    let malformed = world.send(head.replace("sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""));
    assert_eq!(malformed.code(), "request_malformed");
    eventually("each is decided upon", || decided() >= before + 1.5);
}

#[test]
fn a_grpc_stream_ends_with_its_key_and_says_why() {
    let upstream = H2Upstream::scripted(Settings::default(), |_| async {
        let (mut sender, body) = streamed();
        sender
            .send_data(Bytes::from_static(b"first"))
            .await
            .unwrap();
        // It goes on and says nothing more.
        std::mem::forget(sender);
        let answer = Response::builder().header("content-type", "application/grpc");
        answer.body(body).unwrap()
    });
    let world = world(&upstream);
    let (id, key) = world.create_key("stream", &[]);
    let mut h2 = H2::connect(world.proxy());
    let request = Request::post("http://api.test/guarded")
        .header("x-api-key", &key)
        .header("content-type", "application/grpc")
        .body(text("message"))
        .unwrap();
    h2.with(async |connection| {
        connection.ready().await.unwrap();
        let answer = connection.send_request(request).await.unwrap();
        let mut answer = answer.into_body();
        let first = answer.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap(), "first");
        world.revoke_key(&id);
        let ended = tokio::time::timeout(Duration::from_millis(1800), answer.frame());
        let trailers = ended
            .await
            .expect("it ends")
            .unwrap()
            .unwrap()
            .into_trailers();
        assert_eq!(trailers.unwrap()["grpc-status"], "16");
        assert!(answer.frame().await.is_none());
    });
}
