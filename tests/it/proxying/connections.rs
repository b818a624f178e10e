//! Connections: reused, given up, ended, and whose fault that was.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use super::ROUTES;
use crate::harness::{Client, KEY, Upstream, World, eventually, request};

#[test]
fn one_connection_carries_many_requests_upstream() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    for _ in 0..20 {
        let response = client
            .send(request("GET", "/guarded", &[("x-api-key", KEY)]))
            .response();
        assert_eq!(response.status, 200);
    }
    let received = upstream.received();
    assert_eq!(received.len(), 20);
    assert!(received.iter().all(|seen| seen.connection == 0));
    assert_eq!(upstream.accepted(), 1);
}

#[test]
fn a_connection_that_the_upstream_closed_while_idle_is_no_502() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    for round in 0..30 {
        let body = "POST /open HTTP/1.1\r\nhost: api.test\r\ncontent-length: 2\r\n\r\nhi";
        assert_eq!(client.send(body).response().status, 200, "round {round}");
        upstream.close_connections();
    }
    assert_eq!(upstream.received().len(), 30, "nothing was sent twice");
}

#[test]
fn a_connection_that_the_upstream_says_it_closes_is_not_used_again() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.answer("200 OK", "connection: close\r\n", "ok")
    });
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    for _ in 0..5 {
        let response = client.send(request("GET", "/open", &[])).response();
        assert_eq!(response.status, 200);
        assert!(
            !response.headers.has("connection"),
            "the upstream's affair alone"
        );
    }
    assert_eq!(upstream.accepted(), 5);
}

#[test]
fn an_idle_connection_upstream_is_closed_in_time() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, &format!("idle_timeout = \"300ms\"\n{ROUTES}"));
    assert_eq!(world.get("/open", &[]).status, 200);
    eventually("the pooled connection is closed", || upstream.open() == 0);
    assert_eq!(world.get("/open", &[]).status, 200);
}

#[test]
fn connections_upstream_are_bounded() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.peer_closes();
        Ok(())
    });
    let world = World::start(
        &upstream,
        &format!(
            "max_connections = 2\nconnect_timeout = \"300ms\"\nresponse_timeout = \"8s\"\n{ROUTES}"
        ),
    );
    let mut waiting: Vec<_> = (0..2).map(|_| world.connect()).collect();
    for client in &mut waiting {
        client.send(request("GET", "/open", &[]));
    }
    eventually("both connections are in use", || {
        upstream.received().len() == 2
    });
    let third = world.get("/open", &[]);
    assert_eq!(third.status / 100, 5, "{}", third.text());
    assert_eq!(upstream.accepted(), 2);
}

#[test]
fn a_caller_that_goes_away_takes_its_request_along() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
        exchange.peer_closes();
        Ok(())
    });
    let mut world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    client.send(request("GET", "/open/streaming", &[]));
    client.until("first");
    drop(client);
    eventually("the upstream's connection is ended", || {
        upstream.open() == 0
    });
    assert_eq!(world.access("/open/streaming").field("status"), 499);
}

#[test]
fn a_caller_that_goes_away_before_the_answer_is_a_499() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.peer_closes();
        Ok(())
    });
    let mut world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    client.send(request("GET", "/open/silent", &[]));
    eventually("the request arrived", || upstream.received().len() == 1);
    drop(client);
    eventually("the upstream's connection is ended", || {
        upstream.open() == 0
    });
    assert_eq!(world.access("/open/silent").field("status"), 499);
}

#[test]
fn a_caller_that_breaks_off_its_body_is_not_answered_for() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    client.send("POST /open HTTP/1.1\r\nhost: api.test\r\ncontent-length: 100000\r\n\r\nhello");
    eventually("the head arrived", || upstream.received().len() == 1);
    drop(client);
    eventually("the upstream's connection is ended", || {
        upstream.open() == 0
    });
    assert!(!upstream.received()[0].complete);
}

#[test]
fn an_idle_caller_is_parted_with() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\nidle_timeout = \"300ms\"\n"),
    );
    let mut client = world.connect();
    assert_eq!(
        client.send(request("GET", "/open", &[])).response().status,
        200
    );
    assert!(client.closes_within(Duration::from_secs(3)));
}

#[test]
fn a_stream_is_not_idle() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
        // Longer than every timeout that is not about streams.
        std::thread::sleep(Duration::from_millis(1200));
        exchange.write("4\r\nlast\r\n0\r\n\r\n")
    });
    let world = World::start(
        &upstream,
        &format!(
            "response_timeout = \"300ms\"\nidle_timeout = \"300ms\"\n{ROUTES}\n[limits]\nidle_timeout = \"300ms\"\nhead_timeout = \"300ms\"\n"
        ),
    );
    let response = world.get("/open", &[]);
    assert_eq!(response.text(), "firstlast");
}

#[test]
fn an_upstream_may_be_a_unix_socket() {
    let folder = tempfile::tempdir().unwrap();
    let upstream = Upstream::on_unix_socket(&folder.path().join("api.sock"), |exchange| {
        let request = exchange.read_body()?;
        exchange.answer("200 OK", "", &request.length.to_string())
    });
    let world = World::start(&upstream, ROUTES);
    let response = world.send(format!(
        "POST /guarded HTTP/1.1\r\nhost: api.test\r\nx-api-key: {KEY}\r\ncontent-length: 5\r\n\r\nhello"
    ));
    assert_eq!((response.status, &*response.text()), (200, "5"));
    let received = upstream.only();
    assert_eq!(received.headers.one("host"), Some("api.test"));
    assert_eq!(received.headers.one("x-auth-subject"), Some("platform"));
}

#[test]
fn each_route_has_its_upstream() {
    let first = Upstream::echo();
    let second = Upstream::echo();
    let world = World::start(
        &first,
        &format!(
            r#"
[[upstreams]]
name = "second"
url = "{}"

[[routes]]
prefix = "/a"
require = "nothing"
upstream = "api"

[[routes]]
prefix = "/b"
require = "nothing"
upstream = "second"

[[routes]]
prefix = "/a"
host = "b.test"
require = "nothing"
upstream = "second"
"#,
            second.url()
        ),
    );
    assert_eq!(world.get("/a", &[]).status, 200);
    assert_eq!((first.received().len(), second.received().len()), (1, 0));
    assert_eq!(world.get("/b", &[]).status, 200);
    let by_host = "GET /a HTTP/1.1\r\nhost: B.test:80\r\n\r\n";
    assert_eq!(world.send(by_host).status, 200);
    assert_eq!((first.received().len(), second.received().len()), (1, 2));
}

/// How often each worker has waited for something to do.
fn waits(world: &World) -> BTreeMap<String, u64> {
    let stat = world.proc("stat");
    let process = stat.split(' ').next().unwrap();
    let mut waits = BTreeMap::new();
    for thread in fs::read_dir(format!("/proc/{process}/task")).unwrap() {
        let thread = thread.unwrap().path();
        // One that only reads or writes for a moment may have ended meanwhile.
        let Ok(name) = fs::read_to_string(thread.join("comm")) else {
            continue;
        };
        if name.starts_with("worker-") {
            let status = fs::read_to_string(thread.join("status")).unwrap();
            let mut lines = status.lines();
            let count = lines.find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
            waits.insert(name, count.unwrap().trim().parse().unwrap());
        }
    }
    waits
}

#[test]
fn a_few_long_connections_keep_every_worker_busy() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut clients: Vec<Client> = Vec::new();
    for all in [2, 4, 8] {
        while clients.len() < all {
            clients.push(world.connect());
        }
        let before = waits(&world);
        for _ in 0..40 {
            for client in &mut clients {
                let response = client.send(request("GET", "/open", &[])).response();
                assert_eq!(response.status, 200);
            }
        }
        let mut did = waits(&world);
        for (worker, before) in before {
            *did.get_mut(&worker).unwrap() -= before;
        }
        let (total, least) = (did.values().sum::<u64>(), did.values().min().unwrap());
        // A quarter for the half that it is, since a worker need not wait where the upstream is quick.
        assert!(did.len() == 2 && 4 * least > total, "{all}: {did:?}");
    }
}
