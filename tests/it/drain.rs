//! Leaving: unready first, then nothing new, then what runs, then gone.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{H2, Upstream, World, eventually, request};

const ROUTES: &str = r#"
[[routes]]
name = "open"
prefix = "/open"
require = "nothing"
"#;

/// An upstream that answers `/open/held` when it is told to, and all else at once.
fn holding() -> (Upstream, Arc<AtomicBool>) {
    let release = Arc::new(AtomicBool::new(false));
    let released = Arc::clone(&release);
    let upstream = Upstream::scripted(move |exchange| {
        if exchange.request().target == "/open/held" {
            eventually("the request is released", || {
                released.load(Ordering::SeqCst)
            });
        }
        exchange.answer("200 OK", "", "ok")
    });
    (upstream, release)
}

#[test]
fn what_runs_is_finished_and_the_status_is_zero() {
    let (upstream, release) = holding();
    let mut world = World::start(&upstream, ROUTES);
    let mut running = world.connect();
    running.send(request("GET", "/open/held", &[]));
    eventually("the request runs", || upstream.received().len() == 1);
    let mut idle = world.connect();
    assert_eq!(
        idle.send(request("GET", "/open", &[])).response().status,
        200
    );

    world.signal("TERM");
    assert!(
        idle.closes_within(Duration::from_secs(5)),
        "an idle connection is closed"
    );
    eventually("nothing new is accepted", || {
        TcpStream::connect(world.proxy()).is_err()
    });
    release.store(true, Ordering::SeqCst);
    let response = running.response();
    assert_eq!((response.status, &*response.text()), (200, "ok"));
    assert_eq!(response.headers.one("connection"), Some("close"));
    let status = world.ends_within(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0), "{:#?}", world.log());
}

#[test]
fn it_serves_on_unready_through_the_delay() {
    let (upstream, _) = holding();
    let mut world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\ndrain_delay = \"1500ms\"\n"),
    );
    let mut kept = world.connect();
    assert_eq!(
        kept.send(request("GET", "/open", &[])).response().status,
        200
    );
    assert_eq!(world.probe("/readyz").status, 200);
    world.signal("TERM");
    eventually("it is unready", || world.probe("/readyz").status == 503);
    assert_eq!(world.probe("/livez").status, 200);
    assert_eq!(world.probe("/healthz").status, 200);
    let fresh = world.get("/open", &[]);
    assert_eq!(fresh.status, 200);
    assert_eq!(fresh.headers.one("connection"), Some("close"));
    let last = kept.send(request("GET", "/open", &[])).response();
    assert_eq!(last.status, 200);
    assert_eq!(last.headers.one("connection"), Some("close"));
    assert_eq!(world.ends_within(Duration::from_secs(6)).code(), Some(0));
}

#[test]
fn http2_callers_are_sent_away_and_finished() {
    let (upstream, release) = holding();
    let mut world = World::start(&upstream, ROUTES);
    let mut h2 = H2::connect(world.proxy());
    assert_eq!(h2.get("/open", &[]).status, 200);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("the request runs", || upstream.received().len() == 2);
            world.signal("TERM");
            eventually("nothing new is accepted", || {
                TcpStream::connect(world.proxy()).is_err()
            });
            release.store(true, Ordering::SeqCst);
        });
        assert_eq!(h2.get("/open/held", &[]).status, 200);
    });
    // The connection is still the caller's to close; gatelet does not wait for that.
    assert_eq!(world.ends_within(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn what_does_not_finish_is_cut_at_the_grace() {
    let (upstream, _release) = holding();
    let mut world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\nshutdown_grace = \"700ms\"\n"),
    );
    let mut running = world.connect();
    running.send(request("GET", "/open/held", &[]));
    eventually("the request runs", || upstream.received().len() == 1);
    let begun = Instant::now();
    world.signal("TERM");
    let status = world.ends_within(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0));
    assert!(
        begun.elapsed() >= Duration::from_millis(600),
        "{:?}",
        begun.elapsed()
    );
    assert!(running.try_response("GET").is_err());
}

#[test]
fn tunnels_end_with_the_grace() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.write(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        )?;
        exchange.peer_closes();
        Ok(())
    });
    let mut world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\nshutdown_grace = \"700ms\"\n"),
    );
    let mut client = world.connect();
    client.send(request(
        "GET",
        "/open",
        &[("connection", "upgrade"), ("upgrade", "websocket")],
    ));
    assert_eq!(client.head().0, 101);
    world.signal("TERM");
    assert!(client.closes_within(Duration::from_secs(5)));
    assert_eq!(world.ends_within(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn an_interrupt_drains_as_well() {
    let (upstream, _) = holding();
    let mut world = World::start(&upstream, ROUTES);
    world.signal("INT");
    assert_eq!(world.ends_within(Duration::from_secs(5)).code(), Some(0));
}

#[test]
fn every_request_that_was_answered_is_in_the_log() {
    let (upstream, _) = holding();
    let mut world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    for n in 0..200 {
        assert_eq!(
            client
                .send(request("GET", &format!("/open/{n}"), &[]))
                .response()
                .status,
            200
        );
    }
    world.signal("TERM");
    assert_eq!(world.ends_within(Duration::from_secs(5)).code(), Some(0));
    eventually("all lines were read", || {
        let log = world.log();
        (0..200).all(|n| {
            let path = format!("\"path\":\"/open/{n}\"");
            log.iter().any(|line| line.contains(&path))
        })
    });
}
