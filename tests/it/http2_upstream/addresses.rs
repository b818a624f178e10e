//! Addresses that fail, and which of several gets a request.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use tokio::sync::Semaphore;

use super::{ROUTES, streamed};
use crate::harness::{
    Body, Forwarder, H2, H2Received, H2Upstream, Settings, Way, World, empty, eventually, request,
};

#[test]
fn several_addresses_share_the_requests_and_one_that_goes_is_left_out() {
    let (stays, leaves) = (H2Upstream::echo(), H2Upstream::echo());
    let urls = format!("[{:?}, {:?}]", stays.url(), leaves.url());
    let check = "[upstreams.health_check]\npath = \"/healthz\"\ninterval = \"100ms\"\n";
    let routes = ROUTES.replace("protocol = \"http2\"\n", "");
    let world = World::start_at(&urls, &format!("protocol = \"http2\"\n{check}{routes}"));
    let served = |upstream: &H2Upstream| {
        let received = upstream.received();
        let (checks, served): (Vec<_>, Vec<_>) = received
            .into_iter()
            .partition(|one| one.uri.ends_with("/healthz"));
        assert!(
            checks
                .iter()
                .all(|one| upstream.url() + "/healthz" == one.uri)
        );
        (checks.len(), served.len())
    };
    let mut client = world.connect();
    let mut get = || client.send(request("GET", "/open", &[])).response().status;
    for _ in 0..10 {
        assert_eq!(get(), 200);
    }
    assert_eq!((served(&stays).1, served(&leaves).1), (5, 5));
    eventually("both are checked", || {
        served(&stays).0 > 0 && served(&leaves).0 > 0
    });
    drop(leaves);
    let labels = [("upstream", "api"), ("state", "in_service")];
    world.metric_becomes("gatelet_upstream_addresses", &labels, 1.0);
    for _ in 0..10 {
        assert_eq!(get(), 200);
    }
    assert_eq!(served(&stays).1, 15);
}

/// How many addresses are left out after failures.
fn ejected(world: &World) -> f64 {
    let labels = [("upstream", "api"), ("state", "ejected")];
    world.metrics().sum("gatelet_upstream_addresses", &labels)
}

#[test]
fn a_connection_that_breaks_counts_once_whatever_it_carried() {
    let waiting = || H2Upstream::scripted(Settings::default(), |_| std::future::pending());
    let (stays, breaks) = (waiting(), waiting());
    let way = Forwarder::to(breaks.socket_address());
    let urls = format!("[{:?}, \"http://127.0.0.1:{}\"]", stays.url(), way.port());
    let world = World::start_at(&urls, ROUTES);
    let sent = || stays.received().len() + breaks.received().len();
    let each = 3;
    for round in 1..=3 {
        assert!(ejected(&world) < 1.0, "before connection {round}");
        H2::connect(world.proxy()).with(async |connection| {
            let before = sent();
            let mut asked = Vec::new();
            while asked.len() < 2 * each {
                connection.ready().await.unwrap();
                let request = Request::get("http://api.test/open").body(empty()).unwrap();
                asked.push(tokio::spawn(connection.send_request(request)));
                while sent() < before + asked.len() {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            assert_eq!(breaks.received().len(), round * each);
            way.set(Way::Cut);
            while asked.iter().filter(|asked| asked.is_finished()).count() < each {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
        way.set(Way::Open);
        let left = || stays.abandoned() == round * each;
        eventually("the others were cancelled", left);
    }
    assert!(ejected(&world) > 0.0, "three in a row");
}

#[test]
fn an_address_that_comes_back_and_says_nothing_costs_one_request() {
    let silent = H2Upstream::scripted(Settings::default(), |_| std::future::pending());
    let (answers, way) = (H2Upstream::echo(), Forwarder::to(silent.socket_address()));
    let urls = format!("[{:?}, \"http://127.0.0.1:{}\"]", answers.url(), way.port());
    let world = World::start_at(&urls, &format!("response_timeout = \"300ms\"\n{ROUTES}"));
    let mut client = world.connect();
    let mut get = || client.send(request("GET", "/open", &[])).response().status;
    way.set(Way::Cut);
    for _ in 0..2 {
        assert_eq!(get(), 200);
    }
    assert!(ejected(&world) > 0.0);
    way.set(Way::Open);
    eventually("it is back", || ejected(&world) < 1.0);
    let answers: Vec<_> = (0..10).map(|_| get()).collect();
    assert_eq!(silent.received().len(), 1, "{answers:?}");
    let late = answers.iter().filter(|status| **status == 504).count();
    assert_eq!(late, 1, "{answers:?}");
    assert!(ejected(&world) > 0.0);
}

#[test]
fn a_failed_connect_is_told_to_all_who_waited_for_it() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let toml = format!("connect_timeout = \"800ms\"\n{ROUTES}");
    let world = World::start_at(&format!("http://{}", silent.local_addr().unwrap()), &toml);
    let answers = H2::connect(world.proxy()).with(async |connection| {
        let mut asked = Vec::new();
        for _ in 0..6 {
            connection.ready().await.unwrap();
            let request = Request::get("http://api.test/open").body(empty()).unwrap();
            asked.push(tokio::spawn(connection.send_request(request)));
        }
        let mut answers = Vec::new();
        for answer in asked {
            let answer = answer.await.unwrap().unwrap().into_body();
            answers.push(answer.collect().await.unwrap().to_bytes());
        }
        answers
    });
    for answer in answers {
        let problem: serde_json::Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(problem["code"], "upstream_unreachable");
    }
    silent.accept().unwrap();
    silent.set_nonblocking(true).unwrap();
    assert!(silent.accept().is_err(), "one connection was tried");
}

const CHECKED: &str = r#"
protocol = "http2"

[upstreams.health_check]
path = "/healthz"
interval = "100ms"

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"
"#;

/// An upstream with a health check that can be made to fail. What is asked of `/open/long` begins and
/// ends when it is told to.
struct Checked {
    upstream: H2Upstream,
    passes: Arc<AtomicBool>,
    end: Arc<Semaphore>,
}

impl Checked {
    fn start(settings: Settings) -> Self {
        let (passes, end) = (Arc::new(AtomicBool::new(true)), Arc::new(Semaphore::new(0)));
        let (told, ends) = (Arc::clone(&passes), Arc::clone(&end));
        let upstream = H2Upstream::scripted(settings, move |request| {
            let passes = told.load(Ordering::SeqCst);
            let ends = Arc::clone(&ends);
            async move {
                let (mut sender, body) = streamed();
                let path = request.uri().path();
                if path == "/open/long" {
                    sender.send_data("begin".into()).await.unwrap();
                    tokio::spawn(async move {
                        ends.acquire().await.unwrap().forget();
                        let _ = sender.send_data(" end".into()).await;
                    });
                }
                let mut answer = Response::new(body);
                if path == "/healthz" && !passes {
                    *answer.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                }
                answer
            }
        });
        Self {
            upstream,
            passes,
            end,
        }
    }

    /// Requests that are no checks.
    fn served(&self) -> usize {
        let received = self.upstream.received();
        let checks = |one: &&H2Received| !one.uri.ends_with("/healthz");
        received.iter().filter(checks).count()
    }
}

fn before_checked(upstreams: &[Checked; 2], max_connections: usize) -> World {
    let urls = upstreams.each_ref().map(|one| one.upstream.url());
    let toml = format!("max_connections = {max_connections}\n{CHECKED}");
    World::start_at(&format!("{urls:?}"), &toml)
}

fn unhealthy(world: &World, count: f64) {
    let labels = [("upstream", "api"), ("state", "unhealthy")];
    world.metric_becomes("gatelet_upstream_addresses", &labels, count);
}

/// Asks for this path, and waits for an answer's head.
async fn asked(connection: &mut SendRequest<Body>, path: &str) -> Incoming {
    connection.ready().await.unwrap();
    let request = Request::get(format!("http://api.test{path}"));
    let answer = connection.send_request(request.body(empty()).unwrap());
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 200);
    answer.into_body()
}

/// Which of these had the one request so far, and the other.
fn by_turn([one, other]: &[Checked; 2]) -> (&Checked, &Checked) {
    if one.served() == 1 {
        (one, other)
    } else {
        (other, one)
    }
}

#[test]
fn a_full_pool_leaves_an_address_that_fails_its_check() {
    let upstreams = [(); 2].map(|()| Checked::start(Settings::default()));
    let world = before_checked(&upstreams, 1);
    H2::connect(world.proxy()).with(async |connection| {
        let long = asked(connection, "/open/long").await;
        let (fails, passes) = by_turn(&upstreams);
        fails.passes.store(false, Ordering::SeqCst);
        unhealthy(&world, 1.0);
        let gets = (0..10).map(|_| {
            let mut connection = connection.clone();
            tokio::spawn(async move { asked(&mut connection, "/open").await.collect().await })
        });
        for got in gets.collect::<Vec<_>>() {
            got.await.unwrap().unwrap();
        }
        assert_eq!((fails.served(), passes.served()), (1, 10));

        fails.end.add_permits(1);
        let long = long.collect().await.expect("what was begun is finished");
        assert_eq!(long.to_bytes(), "begin end");
    });
}

#[test]
fn connections_that_made_room_are_no_more_than_a_pool_may_have() {
    let upstreams = [(); 2].map(|()| Checked::start(Settings::default()));
    let world = before_checked(&upstreams, 1);
    H2::connect(world.proxy()).with(async |connection| {
        let first = asked(connection, "/open/long").await;
        let (one, other) = by_turn(&upstreams);
        one.passes.store(false, Ordering::SeqCst);
        unhealthy(&world, 1.0);
        let second = asked(connection, "/open/long").await;
        assert_eq!((one.served(), other.served()), (1, 1));

        one.passes.store(true, Ordering::SeqCst);
        unhealthy(&world, 0.0);
        other.passes.store(false, Ordering::SeqCst);
        unhealthy(&world, 1.0);
        asked(connection, "/open").await.collect().await.unwrap();
        assert_eq!((one.served(), other.served()), (1, 2), "one made room yet");
        one.end.add_permits(1);
        assert_eq!(first.collect().await.unwrap().to_bytes(), "begin end");
        asked(connection, "/open").await.collect().await.unwrap();
        assert_eq!((one.served(), other.served()), (2, 2));
        other.end.add_permits(1);
        assert_eq!(second.collect().await.unwrap().to_bytes(), "begin end");
    });
}

#[test]
fn a_full_pool_gives_an_address_that_is_back_its_share() {
    let settings = Settings {
        max_streams: Some(1),
        ..Settings::default()
    };
    let upstreams = [(); 2].map(|()| Checked::start(settings));
    let [stays, comes] = &upstreams;
    comes.passes.store(false, Ordering::SeqCst);
    let world = before_checked(&upstreams, 4);
    unhealthy(&world, 1.0);
    H2::connect(world.proxy()).with(async |connection| {
        let first = asked(connection, "/open/long").await;
        let second = asked(connection, "/open/long").await;
        stays.end.add_permits(2);
        for long in [first, second] {
            long.collect().await.unwrap();
        }
        assert_eq!((stays.served(), comes.served()), (2, 0));
        comes.passes.store(true, Ordering::SeqCst);
        unhealthy(&world, 0.0);
        for _ in 0..10 {
            asked(connection, "/open").await.collect().await.unwrap();
        }
        assert_eq!((stays.served(), comes.served()), (7, 5));
    });
}
