//! Proxies that say with the PROXY protocol who is calling, and others that say it.

use std::net::Ipv6Addr;
use std::time::Duration;

use crate::harness::{
    Client, Frames, RawAnswer, Upstream, World, eventually, request, socket_from,
};

const ROUTES: &str = r#"
[[routes]]
prefix = "/"
require = "nothing"

[forwarded]
trusted_proxies = ["127.0.0.2", "192.0.2.99"]

[limits]
head_timeout = "400ms"
"#;

/// The one address that is believed.
const PROXY: [u8; 4] = [127, 0, 0, 2];
const STRANGER: [u8; 4] = [127, 0, 0, 3];

const REASON: &str = "gatelet_connection_errors_total";

fn start(upstream: &Upstream) -> World {
    start_within(upstream, "")
}

/// The same within further limits.
fn start_within(upstream: &Upstream, limits: &str) -> World {
    let world = World::start(upstream, &format!("{ROUTES}{limits}"));
    // The section stands at the head of every world's file.
    let file = std::fs::read_to_string(world.config_file()).unwrap();
    world.write(
        "config.toml",
        &file.replacen("[listen]", "[listen]\nproxy_protocol = true", 1),
    );
    world.signal("HUP");
    let applied = [("outcome", "applied")];
    world.metric_becomes("gatelet_config_reloads_total", &applied, 1.0);
    world
}

/// Version 2: command, family, what follows.
fn block(command: u8, family: u8, said: &[u8]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(said.len()).unwrap().to_be_bytes());
    bytes.extend(said);
    bytes
}

fn over_ipv6(address: &str) -> Vec<u8> {
    let address: Ipv6Addr = address.parse().unwrap();
    let said = [&address.octets()[..], &[0; 16], &[1, 2, 0, 80]].concat();
    block(0x21, 0x21, &said)
}

/// The chain that the upstream was told of.
fn told(upstream: &Upstream) -> String {
    let received = upstream.take().unwrap();
    received.headers.one("x-forwarded-for").unwrap().to_owned()
}

#[test]
fn the_upstream_is_told_who_the_proxy_says_is_calling() {
    let upstream = Upstream::echo();
    let mut world = start(&upstream);
    let besides = [&[198, 51, 100, 7, 10, 0, 0, 1, 1, 2, 0, 80][..], &[4; 60]].concat();
    for (case, header, expected) in [
        (
            "a line",
            b"PROXY TCP4 198.51.100.7 10.0.0.1 4000 80\r\n".to_vec(),
            "198.51.100.7",
        ),
        (
            "a line, IPv6",
            b"PROXY TCP6 2001:db8::7 ::1 4000 80\r\n".to_vec(),
            "2001:db8::7",
        ),
        (
            "a line, mapped",
            b"PROXY TCP6 ::ffff:198.51.100.7 ::1 4000 80\r\n".to_vec(),
            "198.51.100.7",
        ),
        (
            "a line, unknown",
            b"PROXY UNKNOWN\r\n".to_vec(),
            "127.0.0.2",
        ),
        ("a block", block(0x21, 0x11, &besides[..12]), "198.51.100.7"),
        (
            "a block, and more",
            block(0x21, 0x11, &besides),
            "198.51.100.7",
        ),
        ("a block, IPv6", over_ipv6("2001:db8::7"), "2001:db8::7"),
        (
            "a block, mapped",
            over_ipv6("::ffff:198.51.100.7"),
            "198.51.100.7",
        ),
        ("the proxy itself", block(0x20, 0, &[]), "127.0.0.2"),
        (
            "a unix socket",
            block(0x21, 0x31, &[b'/'; 216]),
            "127.0.0.2",
        ),
    ] {
        let get = request("GET", "/", &[]).into_bytes();
        let mut client = Client::connect_from(PROXY, world.proxy());
        client.send([header.clone(), get.clone()].concat());
        assert_eq!(client.response().status, 200, "{case}");
        assert_eq!(told(&upstream), expected, "{case}");
        assert_eq!(client.send(&get).response().status, 200, "{case}: once");
        assert_eq!(told(&upstream), expected, "{case}");

        let mut client = Client::connect_from(PROXY, world.proxy());
        for byte in header.iter().chain(&get) {
            client.send([*byte]);
        }
        assert_eq!(client.response().status, 200, "{case}, byte by byte");
        assert_eq!(told(&upstream), expected, "{case}, byte by byte");
    }
    let mut client = Client::connect_from(PROXY, world.proxy());
    client.send("PROXY TCP4 198.51.100.8 10.0.0.1 4000 80\r\n");
    client.send(request("GET", "/logged", &[]));
    assert_eq!(client.response().status, 200);
    assert_eq!(world.access("/logged").field("client"), "198.51.100.8");
}

#[test]
fn who_is_said_to_call_is_the_peer() {
    let upstream = Upstream::echo();
    let world = start(&upstream);
    let forwarded = request("GET", "/", &[("x-forwarded-for", "203.0.113.1")]);
    for (source, expected) in [
        ("198.51.100.7", "198.51.100.7"),
        ("192.0.2.99", "203.0.113.1, 192.0.2.99"),
    ] {
        let mut client = Client::connect_from(PROXY, world.proxy());
        client.send(format!(
            "PROXY TCP4 {source} 10.0.0.1 4000 80\r\n{forwarded}"
        ));
        assert_eq!(client.response().status, 200);
        assert_eq!(told(&upstream), expected);
    }
}

#[test]
fn http2_follows_a_header_as_well() {
    let upstream = Upstream::echo();
    let world = start(&upstream);
    let socket = socket_from(PROXY, world.proxy());
    let mut frames = Frames::greet(socket, b"PROXY TCP4 198.51.100.7 10.0.0.1 4000 80\r\n");
    let fields = [
        (":method", "GET"),
        (":scheme", "http"),
        (":path", "/"),
        (":authority", "api.test"),
    ];
    frames.headers(1, &fields, true).unwrap();
    assert_eq!(frames.answer(1), RawAnswer::Status(200));
    assert_eq!(told(&upstream), "198.51.100.7");
}

#[test]
fn a_trusted_proxy_must_say_it() {
    let upstream = Upstream::echo();
    let world = start(&upstream);
    let mut refused = 0.0;
    for said in [
        &b"GET / HTTP/1.1\r\nhost: api.test\r\n\r\n"[..],
        b"PROXY TCP4 nobody 10.0.0.1 4000 80\r\nGET / HTTP/1.1\r\nhost: api.test\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x31",
    ] {
        let mut client = Client::connect_from(PROXY, world.proxy());
        client.send(said);
        assert_eq!(client.rest(), "", "no answer");
        refused += 1.0;
        world.metric_becomes(REASON, &[("reason", "proxy_protocol")], refused);
    }
    upstream.assert_untouched("no header");
    assert!(Client::connect_from(PROXY, world.proxy()).closes_within(Duration::from_secs(5)));
    let mut slow = Client::connect_from(PROXY, world.proxy());
    slow.send("PROXY TCP4 198.51.100.7");
    assert_eq!(slow.rest(), "");
    world.metric_becomes(REASON, &[("reason", "head_timeout")], 1.0);
    world.metric_becomes(REASON, &[("reason", "proxy_protocol")], refused);
}

/// Connections behind the proxy that begin so, each with a request, until one is refused.
fn hoard(world: &World, header: &str) -> Vec<Client> {
    let mut held = Vec::new();
    while let Some(client) = served(world, header) {
        held.push(client);
        assert!(held.len() < 100);
    }
    held
}

/// A connection behind the proxy that begins so, if it is not refused.
fn served(world: &World, header: &str) -> Option<Client> {
    let mut client = Client::connect_from(PROXY, world.proxy());
    let _ = client.try_send(format!("{header}{}", request("GET", "/", &[])));
    let answer = client.try_response("GET");
    answer
        .is_ok_and(|answer| answer.status == 200)
        .then_some(client)
}

#[test]
fn one_client_behind_a_proxy_leaves_some_to_others() {
    let upstream = Upstream::echo();
    let world = start_within(&upstream, "connections = 10\n");
    let from = |address: &str| format!("PROXY TCP4 {address} 10.0.0.1 4000 80\r\n");
    let mut greedy = hoard(&world, &from("198.51.100.7"));
    assert_eq!(greedy.len(), 8, "four fifths");
    world.metric_becomes(REASON, &[("reason", "overloaded")], 1.0);
    let newcomer = served(&world, &from("198.51.100.8"));
    assert!(newcomer.is_some(), "it finds a place");
    assert!(served(&world, &from("198.51.100.7")).is_none());
    greedy.truncate(3);
    eventually("what was given up can be taken again", || {
        served(&world, &from("198.51.100.7")).is_some()
    });
    drop((greedy, newcomer));
    // A trusted proxy behind this one, and the proxy itself.
    for header in [&*from("192.0.2.99"), "PROXY UNKNOWN\r\n"] {
        eventually("all are free again", || {
            let all = hoard(&world, header);
            assert!(all.len() <= 10);
            all.len() == 10
        });
    }
}

#[test]
fn nobody_else_is_believed() {
    let upstream = Upstream::echo();
    let world = start(&upstream);
    let get = request("GET", "/", &[]);
    let mut client = Client::connect_from(STRANGER, world.proxy());
    assert_eq!(client.send(&get).response().status, 200);
    assert_eq!(told(&upstream), "127.0.0.3");
    for header in [
        b"PROXY TCP4 198.51.100.7 10.0.0.1 4000 80\r\n".to_vec(),
        over_ipv6("2001:db8::7"),
        block(0x20, 0, &[]),
    ] {
        let mut client = Client::connect_from(STRANGER, world.proxy());
        client.send([&header, get.as_bytes()].concat());
        let answer = client.rest();
        assert!(answer.is_empty() || answer.contains(" 400 "), "{answer}");
        upstream.assert_untouched("a stranger's header");
    }
}
