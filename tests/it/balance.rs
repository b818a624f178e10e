//! Several addresses of one upstream: who gets a request, who is left out, and who comes back.

mod checks;
mod names;

use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::harness::{Upstream, World, eventually, request};

const ROUTES: &str = "\n[[routes]]\nprefix = \"/\"\nrequire = \"nothing\"\n";

const POST: &str = "POST /a HTTP/1.1\r\nhost: api.test\r\ncontent-length: 2\r\n\r\nhi";

/// As an upstream that echoes, but that it answers only this long after.
fn slow(wait: Duration) -> Upstream {
    Upstream::scripted(move |exchange| {
        exchange.read_body()?;
        thread::sleep(wait);
        exchange.answer("200 OK", "", "ok")
    })
}

/// Sends so many requests on each of so many connections at once; every one is answered 200.
fn crowd(world: &World, callers: usize, requests: usize) {
    thread::scope(|scope| {
        for _ in 0..callers {
            scope.spawn(|| {
                let mut client = world.connect();
                for _ in 0..requests {
                    let response = client.send(request("GET", "/", &[])).response();
                    assert_eq!(response.status, 200, "{}", response.text());
                }
            });
        }
    });
}

fn addresses(world: &World, state: &str, count: u32) {
    let labels = [("upstream", "api"), ("state", state)];
    world.metric_becomes("gatelet_upstream_addresses", &labels, count.into());
}

#[test]
fn one_request_at_a_time_goes_round() {
    let upstreams = [Upstream::echo(), Upstream::echo(), Upstream::echo()];
    let world = World::before(&upstreams.each_ref(), ROUTES);
    crowd(&world, 1, 30);
    for upstream in &upstreams {
        assert_eq!(upstream.received().len(), 10);
        assert_eq!(upstream.accepted(), 1, "connections are kept");
    }
}

#[test]
fn many_requests_are_shared_and_a_slow_address_gets_less() {
    let (fast, slow) = (
        slow(Duration::from_millis(2)),
        slow(Duration::from_millis(60)),
    );
    let world = World::before(&[&fast, &slow], ROUTES);
    crowd(&world, 8, 25);
    let (fast, slow) = (fast.received().len(), slow.received().len());
    assert_eq!(fast + slow, 200);
    assert!(slow >= 4 && slow < fast / 2, "{fast} and {slow}");
}

#[test]
fn an_address_that_goes_costs_no_request_and_gets_its_share_when_it_is_back() {
    let stays = Upstream::echo();
    let mut leaves = Upstream::echo();
    let mut world = World::before(&[&leaves, &stays], ROUTES);
    let mut client = world.connect();
    crowd(&world, 4, 10);
    leaves.stop();
    leaves.take();
    for _ in 0..20 {
        assert_eq!(client.send(request("GET", "/", &[])).response().status, 200);
        assert_eq!(client.send(POST).response().status, 200);
    }
    leaves.assert_untouched("it is gone");
    addresses(&world, "ejected", 1);
    addresses(&world, "in_service", 1);
    let name = leaves.url().replace("http://", "");
    world.log_line(&["an address was ejected", &name, "Connection refused"]);

    leaves.start_again();
    addresses(&world, "ejected", 0);
    world.log_line(&["an address is back in service", &name]);
    eventually("it has its share again", || {
        assert_eq!(client.send(POST).response().status, 200);
        leaves.received().len() >= 5
    });
    let lines = world.log();
    let told = |what: &str| lines.iter().filter(|line| line.contains(what)).count();
    assert_eq!(told("an address was ejected"), 1);
    assert_eq!(told("an address is back in service"), 1);
}

#[test]
fn an_address_that_breaks_connections_is_left_out() {
    let good = Upstream::echo();
    let broken = Arc::new(AtomicBool::new(true));
    let breaks = Arc::clone(&broken);
    let bad = Upstream::scripted(move |exchange| {
        if breaks.load(Ordering::SeqCst) {
            return exchange.close();
        }
        exchange.answer("200 OK", "", "ok")
    });
    let world = World::before(&[&bad, &good], ROUTES);
    let mut client = world.connect();
    let lost = (0..60)
        .map(|_| client.send(request("GET", "/", &[])).response().status)
        .filter(|status| *status != 200)
        .count();
    assert!(
        (3..=6).contains(&lost),
        "{lost}: what was sent is not sent again"
    );
    broken.store(false, Ordering::SeqCst);
    bad.take();
    eventually("it has its share again", || {
        client.send(request("GET", "/", &[])).response();
        bad.received().len() >= 5
    });
    addresses(&world, "in_service", 2);
}

#[test]
fn an_address_that_comes_back_and_says_nothing_costs_one_request() {
    let good = Upstream::echo();
    let bad = Upstream::scripted(|exchange| {
        if exchange.request().target == "/break" {
            return exchange.close();
        }
        exchange.peer_closes();
        Ok(())
    });
    let toml = format!("response_timeout = \"300ms\"\n{ROUTES}");
    let world = World::before(&[&bad, &good], &toml);
    let mut client = world.connect();
    let mut get = |target| client.send(request("GET", target, &[])).response().status;
    while bad.received().len() < 3 {
        get("/break");
    }
    addresses(&world, "ejected", 1);
    addresses(&world, "ejected", 0);
    bad.take();
    let answers: Vec<_> = (0..10).map(|_| get("/")).collect();
    assert_eq!(bad.received().len(), 1, "{answers:?}");
    let late = answers.iter().filter(|status| **status == 504).count();
    assert_eq!(late, 1, "{answers:?}");
    addresses(&world, "ejected", 1);
}

/// A listener that accepts nothing, with as many connections waiting as it has room for.
fn black_hole() -> (Socket, Vec<TcpStream>) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&any.into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
        waiting.push(stream);
    }
    (socket, waiting)
}

#[test]
fn an_address_that_says_nothing_keeps_few_waiting() {
    let (hole, _waiting) = black_hole();
    let hole = hole.local_addr().unwrap().as_socket().unwrap();
    let good = Upstream::echo();
    let urls = format!("[\"http://{hole}\", {:?}]", good.url());
    let world = World::start_at(&urls, &format!("connect_timeout = \"800ms\"\n{ROUTES}"));
    let mut client = world.connect();
    let mut late = 0;
    for _ in 0..60 {
        let sent = Instant::now();
        assert_eq!(client.send(POST).response().status, 200);
        late += usize::from(sent.elapsed() > Duration::from_millis(700));
    }
    assert!(late <= 2, "{late}");
    addresses(&world, "ejected", 1);
}

#[test]
fn the_only_address_is_never_left_out() {
    let mut upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    upstream.stop();
    for _ in 0..5 {
        assert_eq!(world.get("/", &[]).code(), "upstream_unreachable");
    }
    addresses(&world, "in_service", 1);
    upstream.start_again();
    assert_eq!(world.get("/", &[]).status, 200);
}

#[test]
fn where_all_are_gone_each_request_still_tries() {
    let (mut one, mut other) = (Upstream::echo(), Upstream::echo());
    let world = World::before(&[&one, &other], ROUTES);
    crowd(&world, 1, 4);
    one.stop();
    other.stop();
    for _ in 0..6 {
        assert_eq!(world.get("/", &[]).code(), "upstream_unreachable");
    }
    addresses(&world, "ejected", 2);
    one.start_again();
    for _ in 0..6 {
        assert_eq!(
            world.get("/", &[]).status,
            200,
            "whatever it was thought to be"
        );
    }
}

#[test]
fn the_bound_on_connections_is_over_all_addresses() {
    let upstreams = [Upstream::echo(), Upstream::echo(), Upstream::echo()];
    let toml = format!("max_connections = 2\nconnect_timeout = \"9s\"\n{ROUTES}");
    let world = World::before(&upstreams.each_ref(), &toml);
    crowd(&world, 8, 20);
    let open: usize = upstreams.iter().map(Upstream::open).sum();
    assert!(open <= 2, "{open}");
    let received: usize = upstreams
        .iter()
        .map(|upstream| upstream.received().len())
        .sum();
    assert_eq!(received, 160);
}

#[test]
fn an_address_may_be_any_socket() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| {
        Upstream::on_unix_socket(&folder.path().join(name), |exchange| {
            exchange.answer("200 OK", "", "ok")
        })
    };
    let (one, mut other) = (at("one"), at("other"));
    let world = World::before(&[&one, &other], ROUTES);
    crowd(&world, 1, 6);
    assert_eq!((one.received().len(), other.received().len()), (3, 3));
    other.stop();
    crowd(&world, 2, 6);
    assert_eq!(one.received().len(), 15);
}

#[test]
fn an_address_that_leaves_the_configuration_loses_its_connections() {
    let (one, other) = (Upstream::echo(), Upstream::echo());
    let world = World::before(&[&one, &other], ROUTES);
    crowd(&world, 4, 4);
    assert!(other.open() > 0);
    world.write_config(&one, ROUTES);
    world.signal("HUP");
    eventually("its connections are closed", || other.open() == 0);
    addresses(&world, "in_service", 1);
    other.take();
    crowd(&world, 2, 4);
    other.assert_untouched("it is not configured");
}

/// Binds one port on two addresses of loopback.
fn pair() -> (TcpListener, TcpListener) {
    loop {
        let one = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = one.local_addr().unwrap().port();
        if let Ok(other) = TcpListener::bind(("127.0.0.2", port)) {
            return (one, other);
        }
    }
}
