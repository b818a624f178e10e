//! Bodies: streamed both ways, bounded, admitted before they are asked for.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::ROUTES;
use crate::harness::{KEY, Upstream, World, eventually, request};

/// How many bytes are much: enough to show in the peak of memory, were they kept.
const MUCH: u64 = if cfg!(debug_assertions) {
    64 << 20
} else {
    512 << 20
};

#[test]
fn the_first_bytes_of_an_answer_arrive_before_the_last_are_sent() {
    let seen = Arc::new(AtomicBool::new(false));
    let last = Arc::clone(&seen);
    let upstream = Upstream::scripted(move |exchange| {
        exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
        eventually("the caller has the first bytes", || {
            last.load(Ordering::SeqCst)
        });
        exchange.write("4\r\nlast\r\n0\r\n\r\n")
    });
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    client.send(request("GET", "/open", &[]));
    client.until("first");
    seen.store(true, Ordering::SeqCst);
    client.until("last");
}

#[test]
fn the_first_bytes_of_a_request_arrive_before_the_last_are_sent() {
    let seen = Arc::new(AtomicBool::new(false));
    let first = Arc::clone(&seen);
    let upstream = Upstream::scripted(move |exchange| {
        exchange.until(b"first")?;
        first.store(true, Ordering::SeqCst);
        exchange.until(b"last")?;
        exchange.until(b"0\r\n\r\n")?;
        exchange.answer("200 OK", "", "ok")?;
        exchange.close()
    });
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    client.send(
        "POST /open HTTP/1.1\r\nhost: api.test\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n",
    );
    eventually("the upstream has the first bytes", || {
        seen.load(Ordering::SeqCst)
    });
    client.send("4\r\nlast\r\n0\r\n\r\n");
    assert_eq!(client.response().status, 200);
}

#[test]
fn an_answer_may_begin_before_the_request_has_ended() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
        for word in ["one", "two"] {
            exchange.until(word.as_bytes())?;
            exchange.write(format!("3\r\n{word}\r\n"))?;
        }
        exchange.until(b"0\r\n\r\n")?;
        exchange.write("0\r\n\r\n")?;
        exchange.close()
    });
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    client.send("POST /open HTTP/1.1\r\nhost: api.test\r\ntransfer-encoding: chunked\r\n\r\n");
    for word in ["one", "two"] {
        client.send(format!("3\r\n{word}\r\n"));
        client.until(word);
    }
    client.send("0\r\n\r\n");
    client.until("0\r\n\r\n");
}

#[test]
fn a_large_body_passes_both_ways_in_constant_memory() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {MUCH}\r\n\r\n"))?;
        let block = vec![b'x'; 1 << 16];
        for _ in 0..MUCH >> 16 {
            exchange.write(&block)?;
        }
        Ok(())
    });
    let world = World::start(&upstream, ROUTES);
    assert_eq!(world.get("/open/warm", &[]).status, 200);
    let before = world.peak_memory();
    let mut client = world.connect();
    let mut writer = client.writer();
    let head = format!(
        "POST /bulk HTTP/1.1\r\nhost: api.test\r\nx-api-key: {KEY}\r\ncontent-length: {MUCH}\r\n\r\n"
    );
    let sending = std::thread::spawn(move || {
        writer.write_all(head.as_bytes()).unwrap();
        let block = vec![b'y'; 1 << 16];
        for _ in 0..MUCH >> 16 {
            writer.write_all(&block).unwrap();
        }
    });
    let (status, _) = client.head();
    assert_eq!((status, client.discard(MUCH).unwrap()), (200, MUCH));
    sending.join().unwrap();
    assert_eq!(upstream.received().last().unwrap().length, MUCH);
    let grown = world.peak_memory() - before;
    assert!(grown < 16 * 1024, "grew by {grown} KiB");
}

#[test]
fn trailers_pass_both_ways() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.write(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum, x-session-expires-at\r\n\r\n\
             2\r\nok\r\n0\r\nx-sum: 9\r\n\r\n",
        )
    });
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    client.send(
        "POST /open HTTP/1.1\r\nhost: api.test\r\nte: trailers\r\ntransfer-encoding: chunked\r\ntrailer: x-up\r\n\r\n\
         2\r\nhi\r\n0\r\nx-up: 7\r\n\r\n",
    );
    let response = client.response();
    assert_eq!(response.text(), "ok");
    assert_eq!(response.trailers.one("x-sum"), Some("9"));
    let received = upstream.only();
    assert_eq!(received.body, b"hi");
    assert_eq!(received.trailers.one("x-up"), Some("7"));
}

#[test]
fn a_body_is_asked_for_only_when_its_sender_is_admitted() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let ask = |key: &str| {
        format!(
            "POST /guarded HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\ncontent-length: 5\r\nexpect: 100-continue\r\n\r\n"
        )
    };
    let mut stranger = world.connect();
    let (status, _) = stranger.send(ask("no-such-key-no-such-key")).head();
    assert_eq!(status, 401, "no 100 for a stranger");
    upstream.assert_untouched("a stranger's body");

    let mut caller = world.connect();
    let (status, _) = caller.send(ask(KEY)).head();
    assert_eq!(status, 100);
    let response = caller.send("hello").response();
    assert_eq!(response.status, 200);
    assert_eq!(upstream.only().body, b"hello");
}

#[test]
fn a_refusal_before_its_body_has_come_keeps_the_connection() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    for _ in 0..3 {
        client.send("POST /guarded HTTP/1.1\r\nhost: api.test\r\ncontent-length: 5\r\n\r\n");
        let refusal = client.response();
        assert_eq!(refusal.status, 401);
        assert_eq!(refusal.headers.one("connection"), None);
        client.send("hello");
    }
    upstream.assert_untouched("a body without a key");
    client.send(request("GET", "/guarded", &[("x-api-key", KEY)]));
    assert_eq!(client.response().status, 200);
}

#[test]
fn a_last_answer_is_not_lost_to_a_body_that_comes_behind_it() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    for (version, connection) in [("1.1", "close"), ("1.0", "x")] {
        let mut client = world.connect();
        client.send(format!(
            "POST /guarded HTTP/{version}\r\nhost: api.test\r\nconnection: {connection}\r\ncontent-length: 20000\r\n\r\n"
        ));
        assert_eq!(client.response().status, 401);
        for _ in 0..2 {
            std::thread::sleep(std::time::Duration::from_millis(20));
            client.try_send([b'x'; 10_000]).expect("it is read");
        }
        assert_eq!(client.rest(), "", "HTTP/{version}");
    }
    upstream.assert_untouched("a body without a key");
}

#[test]
fn a_refusal_says_where_its_connection_ends_with_it() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    for lines in [
        "content-length: 5\r\nexpect: 100-continue",
        "content-length: 100000",
        "transfer-encoding: chunked",
    ] {
        let mut client = world.connect();
        client.send(format!(
            "POST /guarded HTTP/1.1\r\nhost: api.test\r\n{lines}\r\n\r\n"
        ));
        let refusal = client.response();
        assert_eq!(refusal.status, 401, "{lines}");
        assert_eq!(refusal.headers.one("connection"), Some("close"), "{lines}");
        client.send("GET /guarded HTTP/1.1\r\n");
        assert!(client.try_response("GET").is_err(), "{lines}");
    }
    upstream.assert_untouched("a body without a key");
}

#[test]
fn a_body_over_the_limit_is_refused_at_its_length_or_at_the_byte() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let full = "x".repeat(1024);
    let declared = |length: usize, body: &str| {
        world.send(format!(
            "POST /small HTTP/1.1\r\nhost: api.test\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    };
    assert_eq!(declared(1024, &full).status, 200);
    assert_eq!(upstream.take().unwrap().length, 1024);
    let refused = declared(1025, &format!("{full}x"));
    assert_eq!((refused.status, &*refused.code()), (413, "body_too_large"));
    upstream.assert_untouched("a declared length over the limit");

    let chunked = |chunks: usize| {
        let head = "POST /small HTTP/1.1\r\nhost: api.test\r\ntransfer-encoding: chunked\r\n\r\n";
        let chunk = format!("100\r\n{}\r\n", "x".repeat(256));
        world.send(format!("{head}{}0\r\n\r\n", chunk.repeat(chunks)))
    };
    assert_eq!(chunked(4).status, 200);
    assert_eq!(upstream.take().unwrap().length, 1024);
    let refused = chunked(5);
    assert_eq!((refused.status, &*refused.code()), (413, "body_too_large"));
    eventually("the upstream's connection is ended", || {
        upstream.received().iter().all(|seen| !seen.complete)
    });
}

#[test]
fn an_answer_cut_short_is_cut_short_for_the_caller() {
    let upstream = Upstream::scripted(|exchange| {
        let framing = if exchange.request().target.ends_with("length") {
            "content-length: 10\r\n\r\nhello"
        } else {
            "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
        };
        exchange.write(format!("HTTP/1.1 200 OK\r\n{framing}"))?;
        exchange.close()
    });
    let world = World::start(&upstream, ROUTES);
    for target in ["/open/length", "/open/chunked"] {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let mut client = world.connect();
            client.send(request("GET", target, &[]).replace("HTTP/1.1", version));
            let answer = client.try_response("GET");
            assert!(answer.is_err(), "{target} {version}: {answer:?}");
        }
    }
}

#[test]
fn what_came_before_an_answer_broke_off_reaches_its_caller() {
    let upstream = Upstream::scripted(|exchange| {
        let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
        exchange.write(format!("{head}5\r\nhello\r\nno size\r\n"))?;
        exchange.close()
    });
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    client.send(request("GET", "/open", &[]));
    assert_eq!(client.head().0, 200);
    client.until("hello");
    assert_eq!(client.rest(), "\r\n", "it has no end");
}

#[test]
fn an_answer_that_ends_with_its_connection_is_whole() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.write("HTTP/1.0 200 OK\r\n\r\nuntil the end")?;
        exchange.close()
    });
    let world = World::start(&upstream, ROUTES);
    assert_eq!(world.get("/open", &[]).text(), "until the end");
    // Nor does such a caller hear anything but its end.
    let old = request("GET", "/open", &[]).replace("HTTP/1.1", "HTTP/1.0");
    assert_eq!(world.send(old).text(), "until the end");
}

#[test]
fn a_small_body_that_comes_slowly_is_waited_for_before_the_upstream_is_asked() {
    let upstream = Upstream::echo();
    let toml = format!("max_connections = 1\nresponse_timeout = \"500ms\"\n{ROUTES}");
    let world = World::start(&upstream, &toml);
    let head = |length: usize| {
        let length = length.to_string();
        let headers = [("x-api-key", KEY), ("content-length", &*length)];
        request("POST", "/guarded", &headers)
    };
    let mut slow: Vec<_> = (0..8).map(|_| world.connect()).collect();
    for client in &mut slow {
        client.send(head(10)).send("hello");
    }
    // The one connection is everybody else's meanwhile.
    for _ in 0..5 {
        let answer = world.send(head(3) + "abc");
        assert_eq!((answer.status, &*answer.text()), (200, "{\"length\":3}"));
    }
    assert_eq!(upstream.received().len(), 5);
    for client in &mut slow {
        let answer = client.send("world").response();
        assert_eq!((answer.status, &*answer.text()), (200, "{\"length\":10}"));
    }
    let whole = upstream.received().into_iter().skip(5);
    assert!(whole.into_iter().all(|one| one.body == b"helloworld"));
    // One that never goes on is told so, and nobody heard of it.
    let mut stuck = world.connect();
    let late = stuck.send(head(10)).send("hello").response();
    assert_eq!((late.status, &*late.code()), (408, "request_timeout"));
    assert_eq!(upstream.received().len(), 13);
}

/// Each byte is read by itself, into room of its own, and most of it would stay.
#[test]
fn a_small_body_that_comes_byte_by_byte_takes_no_more_than_it_is_long() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let length = 16_000;
    let headers = [("x-api-key", KEY), ("content-length", &*length.to_string())];
    let head = request("POST", "/guarded", &headers);
    let mut clients: Vec<_> = (0..8).map(|_| world.connect()).collect();
    for client in &mut clients {
        client.send(&head);
    }
    let before = world.peak_memory();
    for _ in 0..length {
        for client in &mut clients {
            client.send("x");
        }
    }
    for mut client in clients {
        assert_eq!(client.response().status, 200);
    }
    let grown = world.peak_memory() - before;
    assert!(grown < 8 * 1024, "{grown} KiB");
    let received = upstream.received();
    assert!(received.iter().all(|one| one.body.len() == length));
}
