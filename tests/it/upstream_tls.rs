//! TLS towards the upstream: whom it is spoken with, who gatelet says it is, and that nothing gets
//! stuck in it.

use std::sync::Arc;

use crate::harness::{Authority, Client, KEY, Terminator, Upstream, World, eventually, request};

const ROUTES: &str = r#"
[[routes]]
name = "guarded"
prefix = "/"
require = ["api_key"]
request_body = "unlimited"
"#;

/// What is trusted, as the configuration says it.
fn trusting(authority: &Authority, more: &str) -> (String, [(&'static str, String); 1]) {
    let toml = format!("ca_file = \"ca.crt\"\n{more}\n{ROUTES}");
    (toml, [("ca.crt", authority.pem())])
}

fn start(terminator: &Terminator, toml: &str, files: &[(&str, String)]) -> World {
    let url = format!("https://{}", terminator.address());
    World::start_before(&url, toml, files)
}

/// TLS as `name` before `upstream`, and gatelet, which takes it for `api.test`.
fn guarded(upstream: &Upstream, name: &str) -> (Terminator, World) {
    let authority = Authority::new();
    let identity = authority.certify(&[name], &[]);
    let terminator = Terminator::start(upstream.socket_address(), &identity, None, &["http/1.1"]);
    let (toml, files) = trusting(&authority, "server_name = \"api.test\"");
    let world = start(&terminator, &toml, &files);
    (terminator, world)
}

#[test]
fn requests_go_on_over_connections_that_are_used_again() {
    let upstream = Upstream::echo();
    let (terminator, world) = guarded(&upstream, "api.test");
    let mut client = world.connect();
    for target in ["/a", "/b", "/c", "/d"] {
        let asked = request("GET", target, &[("x-api-key", KEY)]);
        assert_eq!(client.send(asked).response().status, 200);
    }
    let received = upstream.received();
    let targets: Vec<&str> = received.iter().map(|one| one.target.as_str()).collect();
    assert_eq!(targets, ["/a", "/b", "/c", "/d"]);
    assert!(received.iter().all(|one| !one.headers.has("x-api-key")));
    let seen = terminator.seen();
    assert_eq!(seen.len(), 1);
    assert_eq!(seen[0].protocol.as_deref(), Some("http/1.1"));
    assert_eq!(seen[0].server_name.as_deref(), Some("api.test"));
}

#[test]
fn another_name_and_another_authority_are_not_spoken_to() {
    let upstream = Upstream::echo();
    let (_terminator, world) = guarded(&upstream, "other.test");
    let refused = world.get("/", &[("x-api-key", KEY)]);
    assert_eq!(
        (refused.status, &*refused.code()),
        (502, "upstream_unreachable")
    );

    let identity = Authority::new().certify(&["api.test"], &[]);
    let terminator = Terminator::start(upstream.socket_address(), &identity, None, &["http/1.1"]);
    let (toml, files) = trusting(&Authority::new(), "server_name = \"api.test\"");
    let world = start(&terminator, &toml, &files);
    let refused = world.get("/", &[("x-api-key", KEY)]);
    assert_eq!(
        (refused.status, &*refused.code()),
        (502, "upstream_unreachable")
    );
    upstream.assert_untouched("nobody vouches for it");
}

#[test]
fn an_upstream_that_asks_for_a_certificate_is_shown_ours() {
    let (upstream, servers, clients) = (Upstream::echo(), Authority::new(), Authority::new());
    let identity = servers.certify(&["127.0.0.1"], &[]);
    let terminator = Terminator::start(
        upstream.socket_address(),
        &identity,
        Some(&clients),
        &["http/1.1"],
    );
    let ours = clients.certify(&["gatelet.test"], &[]);
    let files = [
        ("ca.crt", servers.pem()),
        ("ours.crt", ours.certificate_pem()),
        ("ours.key", ours.key_pem()),
    ];
    let (toml, _) = trusting(&servers, "");
    let world = start(&terminator, &toml, &files);
    assert_eq!(world.get("/", &[("x-api-key", KEY)]).status, 502);
    let (toml, _) = trusting(
        &servers,
        "client_certificate = \"ours.crt\"\nclient_key = \"ours.key\"",
    );
    let world = start(&terminator, &toml, &files);
    assert_eq!(world.get("/", &[("x-api-key", KEY)]).status, 200);
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn large_bodies_pass_both_ways() {
    let large = Arc::new("0123456789abcdef".repeat(1 << 16));
    let answer = Arc::clone(&large);
    let upstream = Upstream::scripted(move |exchange| {
        exchange.read_body()?;
        exchange.answer("200 OK", "", &answer)
    });
    let (terminator, world) = guarded(&upstream, "api.test");
    let mut client = world.connect();
    for _ in 0..3 {
        let length = large.len().to_string();
        let head = [("x-api-key", KEY), ("content-length", &length)];
        client.send(request("POST", "/", &head));
        let response = client.send(&*large).response();
        assert_eq!(response.body.len(), large.len());
        assert!(response.body == large.as_bytes());
    }
    assert!(
        upstream
            .received()
            .iter()
            .all(|one| one.body == large.as_bytes())
    );
    assert_eq!(terminator.seen().len(), 1);
}

#[test]
fn a_piece_of_a_body_is_not_kept_until_the_next() {
    let upstream = Upstream::echo();
    let (_terminator, world) = guarded(&upstream, "api.test");
    let mut client = world.connect();
    let head = [("x-api-key", KEY), ("transfer-encoding", "chunked")];
    client.send(request("POST", "/", &head));
    for count in 1..=5 {
        client.send("5\r\nhello\r\n");
        eventually("the piece is there", || {
            let received = upstream.received();
            received.first().is_some_and(|one| one.length == 5 * count)
        });
    }
    assert_eq!(client.send("0\r\n\r\n").response().status, 200);
}

#[test]
fn an_upstream_that_closes_at_rest_costs_no_request() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.answer("200 OK", "", "ok")?;
        exchange.close()
    });
    let (terminator, world) = guarded(&upstream, "api.test");
    let mut client = world.connect();
    for _ in 0..20 {
        let asked = request("POST", "/", &[("x-api-key", KEY), ("content-length", "0")]);
        assert_eq!(client.send(asked).response().status, 200);
        eventually("it is closed", || terminator.open() == 0);
    }
    assert_eq!(terminator.seen().len(), 20);
}

#[test]
fn a_tunnel_passes_through() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.write(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\r\n",
        )?;
        while let Ok(line) = exchange.until(b"\n") {
            exchange.write(line.to_ascii_uppercase())?;
        }
        exchange.close()
    });
    let (_terminator, world) = guarded(&upstream, "api.test");
    let mut client = world.connect();
    let upgrade = [
        ("x-api-key", KEY),
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
    ];
    let answer = client.send(request("GET", "/", &upgrade)).response();
    assert_eq!(answer.status, 101);
    for _ in 0..3 {
        client.send("hello\n");
        assert_eq!(client.until("\n"), "HELLO\n");
    }
}

#[test]
fn a_new_authority_is_believed_by_new_connections() {
    let (upstream, before, after) = (Upstream::echo(), Authority::new(), Authority::new());
    let identity = after.certify(&["api.test"], &[]);
    let terminator = Terminator::start(upstream.socket_address(), &identity, None, &["http/1.1"]);
    let (toml, files) = trusting(&before, "server_name = \"api.test\"");
    let world = start(&terminator, &toml, &files);
    assert_eq!(world.get("/", &[("x-api-key", KEY)]).status, 502);
    world.write("ca.crt", &after.pem());
    world.signal("HUP");
    eventually("it is believed", || {
        world.get("/", &[("x-api-key", KEY)]).status == 200
    });
}

#[test]
fn plaintext_behind_an_https_url_is_no_answer() {
    let upstream = Upstream::echo();
    let authority = Authority::new();
    let (toml, files) = trusting(&authority, "");
    let url = format!("https://{}", upstream.socket_address());
    let world = World::start_before(&url, &toml, &files);
    let mut client = Client::connect(world.proxy());
    let asked = request("GET", "/", &[("x-api-key", KEY)]);
    assert_eq!(client.send(asked).response().status, 502);
}

#[test]
fn each_of_several_addresses_is_who_its_url_says() {
    let (upstream, authority) = (Upstream::echo(), Authority::new());
    let terminated = |name: &str| {
        let identity = authority.certify(&[name], &[]);
        Terminator::start(upstream.socket_address(), &identity, None, &["http/1.1"])
    };
    let (first, second) = (terminated("localhost"), terminated("127.0.0.1"));
    let urls = format!(
        "[\"https://localhost:{}\", \"https://{}\"]",
        first.address().port(),
        second.address()
    );
    let check = "[upstreams.health_check]\npath = \"/healthz\"\ninterval = \"100ms\"\n";
    let (toml, files) = trusting(&authority, check);
    let world = World::start_before(&urls, &toml, &files);
    let checks = || {
        let received = upstream.received();
        let checks = received.iter().filter(|seen| seen.target == "/healthz");
        checks.count()
    };
    eventually("both are checked", || checks() >= 4);
    let mut client = world.connect();
    for _ in 0..6 {
        let asked = request("GET", "/", &[("x-api-key", KEY)]);
        assert_eq!(client.send(asked).response().status, 200);
    }
    let names = |terminator: &Terminator| {
        let seen = terminator.seen().into_iter();
        let mut names: Vec<_> = seen.map(|one| one.server_name).collect();
        names.dedup();
        names
    };
    assert_eq!(names(&first), [Some("localhost".to_owned())]);
    assert_eq!(names(&second), [None], "an address is no name to ask for");
    let states = [("upstream", "api"), ("state", "unhealthy")];
    world.metric_becomes("gatelet_upstream_addresses", &states, 0.0);
}
