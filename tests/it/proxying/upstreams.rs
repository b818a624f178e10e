//! What an upstream may say, and in which pieces.

use std::thread;
use std::time::Duration;

use super::ROUTES;
use crate::harness::{Upstream, World, eventually, request};

/// An upstream that answers each request with these pieces, a moment apart.
fn in_pieces(pieces: Vec<String>) -> Upstream {
    Upstream::scripted(move |exchange| {
        exchange.read_body()?;
        for piece in &pieces {
            exchange.write(piece)?;
            thread::sleep(Duration::from_millis(3));
        }
        Ok(())
    })
}

#[test]
fn an_answer_may_arrive_in_any_pieces() {
    let wire = "HTTP/1.1 200 Quite OK\r\nTransfer-Encoding: chunked\r\nx-a: 1\r\n\r\n5;x=y\r\nhello\r\n1\r\n!\r\n0\r\nx-sum: 1\r\n\r\n";
    for length in [1, 2, 7, 60, wire.len()] {
        let pieces = wire.as_bytes().chunks(length);
        let pieces = pieces.map(|piece| String::from_utf8(piece.to_vec()).unwrap());
        let upstream = in_pieces(pieces.collect());
        let world = World::start(&upstream, ROUTES);
        let mut client = world.connect();
        for _ in 0..2 {
            let response = client.send(request("GET", "/open", &[])).response();
            assert_eq!(response.status, 200);
            assert_eq!(response.text(), "hello!", "{length}");
            assert_eq!(response.headers.one("x-a"), Some("1"));
        }
        assert_eq!(upstream.accepted(), 1, "{length}");
    }
}

#[test]
fn interim_answers_go_no_further() {
    let upstream = in_pieces(vec![
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n".to_owned(),
        "link: </a>\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
    ]);
    let world = World::start(&upstream, ROUTES);
    let response = world.get("/open", &[]);
    assert_eq!(
        (response.status, &*response.text()),
        (200, "ok"),
        "{:?}",
        response.headers
    );
    assert!(!response.headers.has("link"));
}

#[test]
fn what_follows_an_answer_is_nobodys_answer() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for pieces in [
        vec![format!(
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok{evil}"
        )],
        vec![
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n".to_owned(),
            format!("ok{evil}"),
        ],
        vec![
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
            evil.to_owned(),
        ],
        vec![format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n{evil}"
        )],
    ] {
        let upstream = in_pieces(pieces.clone());
        let world = World::start(&upstream, ROUTES);
        let mut client = world.connect();
        for _ in 0..4 {
            let response = client.send(request("GET", "/open", &[])).response();
            assert_eq!(response.text(), "ok", "{pieces:?}");
            // Time for what was said out of turn.
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(upstream.accepted(), 4, "{pieces:?}");
    }
}

#[test]
fn an_answer_to_a_head_has_no_body_whatever_it_announces() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        let framing = match exchange.request().target.as_str() {
            "/open/chunked" => "transfer-encoding: chunked",
            _ => "content-length: 1000",
        };
        exchange.write(format!("HTTP/1.1 200 OK\r\n{framing}\r\n\r\n"))
    });
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    for target in ["/open/chunked", "/open/length", "/open/chunked"] {
        let response = client
            .send(request("HEAD", target, &[]))
            .response_to("HEAD");
        assert_eq!(response.status, 200);
    }
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn what_is_no_answer_is_a_502() {
    let long = format!("HTTP/1.1 200 OK\r\nx-long: {}\r\n\r\n", "x".repeat(70_000));
    for wire in [
        "hello\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ncontent-length: 2, 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length : 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 2\r\n\r\nok",
        &long,
    ] {
        let upstream = in_pieces(vec![wire.to_owned()]);
        let world = World::start(&upstream, ROUTES);
        let response = world.get("/open", &[]);
        assert_eq!(response.status, 502, "{wire:?}");
        assert_eq!(response.code(), "upstream_protocol");
        eventually("the connection is closed", || upstream.open() == 0);
    }
}

#[test]
fn a_long_head_is_relayed() {
    let value = "x".repeat(30_000);
    let wire = format!("HTTP/1.1 200 OK\r\nx-long: {value}\r\ncontent-length: 2\r\n\r\nok");
    let upstream = in_pieces(vec![wire]);
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    for _ in 0..2 {
        let response = client.send(request("GET", "/open", &[])).response();
        assert_eq!(response.headers.one("x-long"), Some(&*value));
        assert_eq!(response.text(), "ok");
    }
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn http_1_0_is_kept_alive_where_it_says_so() {
    let wire = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok";
    let upstream = in_pieces(vec![wire.to_owned()]);
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    for _ in 0..3 {
        let response = client.send(request("GET", "/open", &[])).response();
        assert_eq!(response.text(), "ok");
    }
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn an_answer_before_the_bodys_end_ends_the_upload_with_it() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.answer("413 Content Too Large", "", "enough")?;
        exchange.peer_closes();
        Ok(())
    });
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    client.send("POST /open HTTP/1.1\r\nhost: api.test\r\ncontent-length: 1000000\r\n\r\nbegin");
    let response = client.response();
    assert_eq!((response.status, &*response.text()), (413, "enough"));
    eventually("the upstream's connection is closed", || {
        upstream.open() == 0
    });
    assert!(!upstream.received()[0].complete);
}

#[test]
fn callers_take_turns_on_a_connection() {
    let upstream = in_pieces(vec![
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n".to_owned(),
        "0\r\n\r\n".to_owned(),
    ]);
    let toml = format!("max_connections = 1\nconnect_timeout = \"9s\"\n{ROUTES}");
    let world = World::start(&upstream, &toml);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = world.connect();
                for _ in 0..12 {
                    let response = client.send(request("GET", "/open", &[])).response();
                    assert_eq!((response.status, &*response.text()), (200, "ok"));
                }
            });
        }
    });
    assert!(upstream.accepted() <= 2, "at most one for each worker");
    assert_eq!(upstream.received().len(), 96);
}

#[test]
fn an_upstream_has_no_more_time_because_its_caller_waited_before() {
    let upstream = Upstream::scripted(|exchange| {
        if exchange.request().target == "/open/held" {
            thread::sleep(Duration::from_millis(300));
            return exchange.answer("200 OK", "", "ok");
        }
        exchange.peer_closes();
        Ok(())
    });
    let toml = format!(
        "max_connections = 1\nconnect_timeout = \"9s\"\nresponse_timeout = \"500ms\"\n{ROUTES}"
    );
    let world = World::start(&upstream, &toml);
    let mut holders = [world.connect(), world.connect()];
    for holder in &mut holders {
        holder.send(request("GET", "/open/held", &[]));
    }
    eventually("each worker's connection is in use", || {
        upstream.received().len() == 2
    });
    let late = world.get("/open/silent", &[]);
    assert_eq!((late.status, &*late.code()), (504, "upstream_timeout"));
    for holder in &mut holders {
        assert_eq!(holder.response().status, 200);
    }
}
