//! Health checks.

use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use super::{ROUTES, addresses, crowd};
use crate::harness::{Upstream, World, eventually};

const CHECK: &str = "[upstreams.health_check]\npath = \"/healthz?deep=1\"\ninterval = \"100ms\"\n";

/// An upstream that answers health checks with a status that can be set.
fn checked() -> (Upstream, Arc<AtomicU16>) {
    let status = Arc::new(AtomicU16::new(204));
    let answered = Arc::clone(&status);
    let upstream = Upstream::scripted(move |exchange| {
        exchange.read_body()?;
        let line = match exchange.request().target.as_str() {
            "/healthz?deep=1" => format!("{} Whatever", answered.load(Ordering::SeqCst)),
            _ => "200 OK".to_owned(),
        };
        exchange.answer(&line, "", "")
    });
    (upstream, status)
}

/// How many of what an upstream received were health checks, and how many were not.
fn split(upstream: &Upstream) -> (usize, usize) {
    let received = upstream.received();
    let checks = received
        .iter()
        .filter(|seen| seen.target.starts_with("/healthz"))
        .count();
    (checks, received.len() - checks)
}

#[test]
fn an_address_that_fails_its_checks_gets_nothing_until_it_passes() {
    let (good, _) = checked();
    let (sick, status) = checked();
    let mut world = World::before(&[&good, &sick], &format!("{CHECK}{ROUTES}"));
    addresses(&world, "in_service", 2);
    for bad in [500, 302] {
        status.store(bad, Ordering::SeqCst);
        addresses(&world, "unhealthy", 1);
        let before = split(&sick);
        crowd(&world, 4, 10);
        eventually("it is still checked", || split(&sick).0 > before.0 + 2);
        assert_eq!(split(&sick).1, before.1);
        status.store(200, Ordering::SeqCst);
        addresses(&world, "unhealthy", 0);
        crowd(&world, 2, 10);
        assert!(split(&sick).1 > before.1);
    }
    world.log_line(&["does not pass its health check", "its answer is 500"]);
    world.log_line(&["back in service"]);
}

#[test]
fn a_check_is_a_request_of_gatelets_own() {
    let (upstream, _) = checked();
    let _world = World::start(&upstream, &format!("{CHECK}{ROUTES}"));
    eventually("it is checked", || split(&upstream).0 > 1);
    let check = upstream.take().unwrap();
    assert_eq!((&*check.method, &*check.target), ("GET", "/healthz?deep=1"));
    let authority = upstream.url().replace("http://", "");
    assert_eq!(check.headers.one("host"), Some(&*authority));
    assert_eq!(check.headers.one("connection"), Some("close"));
    assert!(
        check
            .headers
            .one("user-agent")
            .unwrap()
            .starts_with("gatelet/")
    );
    assert!(check.connection > 0, "each on a connection of its own");
}

#[test]
fn where_none_passes_requests_are_sent_all_the_same() {
    let (one, first) = checked();
    let (mut other, second) = checked();
    first.store(503, Ordering::SeqCst);
    second.store(503, Ordering::SeqCst);
    let world = World::before(&[&one, &other], &format!("{CHECK}{ROUTES}"));
    addresses(&world, "unhealthy", 2);
    crowd(&world, 2, 4);
    other.stop();
    crowd(&world, 2, 4);
}

#[test]
fn checks_end_with_the_configuration_that_wanted_them() {
    let (one, _) = checked();
    let (other, _) = checked();
    let second = |check: &str| {
        let (url, routes) = (
            other.url(),
            ROUTES.replace("\"nothing\"", "\"nothing\"\nupstream = \"api\""),
        );
        format!("{CHECK}[[upstreams]]\nname = \"second\"\nurl = {url:?}\n{check}{routes}")
    };
    let world = World::start(&one, &second(CHECK));
    eventually("both are checked", || {
        split(&one).0 > 0 && split(&other).0 > 0
    });
    world.write_config(&one, &second(""));
    world.signal("HUP");
    world.metric_becomes(
        "gatelet_config_reloads_total",
        &[("outcome", "applied")],
        1.0,
    );
    let (kept, gone) = (split(&one).0, split(&other).0);
    eventually("the other's go on", || split(&one).0 > kept + 5);
    assert!(split(&other).0 <= gone + 1, "one may have been under way");
}
