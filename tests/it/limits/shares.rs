//! Connections that become few.

use crate::harness::{Client, Upstream, World, eventually, request};

const ROUTES: &str = r#"
[[routes]]
prefix = "/open"
require = "nothing"

[limits]
connections = 10
"#;

/// Opens connections from this address until one is refused.
fn hoard(world: &World, source: [u8; 4]) -> Vec<Client> {
    let mut held = Vec::new();
    while let Some(client) = served(world, source) {
        held.push(client);
        assert!(held.len() < 100);
    }
    held
}

/// A connection from this address, if it is not refused.
fn served(world: &World, source: [u8; 4]) -> Option<Client> {
    let mut client = Client::connect_from(source, world.proxy());
    let _ = client.try_send(request("GET", "/open", &[]));
    let response = client.try_response("GET");
    response
        .is_ok_and(|response| response.status == 200)
        .then_some(client)
}

#[test]
fn one_client_leaves_some_to_others() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut greedy = hoard(&world, [127, 0, 0, 2]);
    assert_eq!(greedy.len(), 8, "four fifths");
    let refused = [("reason", "overloaded")];
    world.metric_becomes("gatelet_connection_errors_total", &refused, 1.0);
    let other = served(&world, [127, 0, 0, 3]);
    assert!(other.is_some(), "a newcomer finds a place");
    assert!(served(&world, [127, 0, 0, 2]).is_none());
    greedy.truncate(3);
    eventually("what was given up can be taken again", || {
        served(&world, [127, 0, 0, 2]).is_some()
    });
}

#[test]
fn a_trusted_proxy_may_hold_all() {
    let upstream = Upstream::echo();
    let trusted = "[forwarded]\ntrusted_proxies = [\"127.0.0.2\"]\n";
    let world = World::start(&upstream, &format!("{ROUTES}{trusted}"));
    assert_eq!(hoard(&world, [127, 0, 0, 2]).len(), 10);
}
