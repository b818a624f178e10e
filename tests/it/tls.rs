//! TLS towards callers: what is agreed upon, who is let in, and certificates that change.

use rustls::version::{TLS12, TLS13};
use rustls::{HandshakeKind, ProtocolVersion};

use crate::harness::{
    Authority, Client, H2, Identity, KEY, Received, TlsCaller, Upstream, World, eventually, request,
};

const ROUTES: &str = r#"
[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"
"#;

const TLS: &str = r#"
[listen.tls]
certificate = "tls.crt"
private_key = "tls.key"
"#;

const MUTUAL_TLS: &str = r#"
[listen.tls]
certificate = "tls.crt"
private_key = "tls.key"
client_ca = "ca.crt"
"#;

/// The files that the sections above name.
fn files<'f>(identity: &Identity, clients: &Authority) -> [(&'f str, String); 3] {
    [
        ("tls.crt", identity.certificate_pem()),
        ("tls.key", identity.key_pem()),
        ("ca.crt", clients.pem()),
    ]
}

/// gatelet as `api.test`, and who vouches for that.
fn start(toml: &str) -> (Upstream, Authority, World) {
    start_for(&Authority::new(), toml)
}

/// The same, with `clients` to vouch for callers, where `toml` asks for it.
fn start_for(clients: &Authority, toml: &str) -> (Upstream, Authority, World) {
    let (upstream, authority) = (Upstream::echo(), Authority::new());
    let identity = authority.certify(&["api.test"], &[]);
    let toml = ROUTES.to_owned() + toml;
    let world = World::start_with(&upstream, &toml, &files(&identity, clients));
    (upstream, authority, world)
}

fn last(upstream: &Upstream) -> Received {
    upstream.received().pop().unwrap()
}

fn get(target: &str) -> String {
    request("GET", target, &[("x-api-key", KEY)])
}

#[test]
fn a_request_is_guarded_and_forwarded_as_one_over_https() {
    let (upstream, authority, world) = start(TLS);
    let mut client = Client::over_tls(world.proxy(), &TlsCaller::trusting(&authority));
    assert_eq!(client.send(get("/guarded/a")).response().status, 200);
    let refused = client.send(request("GET", "/guarded/b", &[])).response();
    assert_eq!(refused.code(), "credential_missing");
    let received = last(&upstream);
    assert_eq!(received.target, "/guarded/a");
    assert_eq!(received.headers.one("x-forwarded-proto"), Some("https"));
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn both_versions_and_both_protocols_are_spoken_and_post_quantum_key_exchange_is_preferred() {
    let (upstream, authority, world) = start(TLS);
    for (version, said, group) in [
        (&TLS13, ProtocolVersion::TLSv1_3, "X25519MLKEM768"),
        (&TLS12, ProtocolVersion::TLSv1_2, "X25519"),
    ] {
        for (offered, agreed) in [
            (&["h2", "http/1.1"][..], Some("h2")),
            (&["http/1.1", "h2"], Some("h2")),
            (&["http/1.1"], Some("http/1.1")),
            (&[], None),
        ] {
            let caller = TlsCaller::new(&authority, None, offered, &[version]);
            let client = Client::over_tls(world.proxy(), &caller);
            let found = client.agreed();
            assert_eq!(found.version, said);
            assert_eq!(found.alpn.as_deref(), agreed, "{offered:?}");
            assert_eq!(found.group.as_deref(), Some(group));
        }
    }
    let caller = TlsCaller::new(&authority, None, &["h2"], &[&TLS13]);
    let mut h2 = H2::over_tls(world.proxy(), &caller);
    assert_eq!(h2.get("/guarded", &[("x-api-key", KEY)]).status, 200);
    assert_eq!(h2.get("/guarded", &[]).status, 401);
    let received = last(&upstream);
    assert_eq!(received.headers.one("x-forwarded-proto"), Some("https"));
    // None agreed upon is HTTP/1.1, whatever is sent; one agreed upon is what is spoken.
    for offered in [&[][..], &["http/1.1"]] {
        let caller = TlsCaller::new(&authority, None, offered, &[&TLS13]);
        let mut client = Client::over_tls(world.proxy(), &caller);
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        assert_eq!(client.try_response("GET").unwrap().status, 400);
    }
}

#[test]
fn a_session_is_resumed_by_any_worker_and_across_reloads() {
    let (_upstream, authority, world) = start(TLS);
    for version in [&TLS13, &TLS12] {
        let caller = TlsCaller::new(&authority, None, &["http/1.1"], &[version]);
        let kind = || {
            let mut client = Client::over_tls(world.proxy(), &caller);
            // A ticket comes with the first answer.
            assert_eq!(client.send(get("/guarded")).response().status, 200);
            client.agreed().kind
        };
        assert_eq!(kind(), HandshakeKind::Full);
        for _ in 0..4 {
            assert_eq!(kind(), HandshakeKind::Resumed);
        }
        let before = shown(&world, &authority);
        rotate(&world, &authority);
        eventually("another certificate is shown", || {
            shown(&world, &authority) != before
        });
        assert_eq!(kind(), HandshakeKind::Resumed);
    }
}

/// The certificate that a new caller is shown.
fn shown(world: &World, authority: &Authority) -> Vec<u8> {
    let caller = TlsCaller::trusting(authority);
    Client::over_tls(world.proxy(), &caller)
        .agreed()
        .certificate
}

/// Puts another certificate and its key in the place of the present ones.
fn rotate(world: &World, authority: &Authority) {
    let identity = authority.certify(&["api.test"], &[]);
    world.write("tls.crt", &identity.certificate_pem());
    world.write("tls.key", &identity.key_pem());
    world.signal("HUP");
}

#[test]
fn callers_who_must_show_a_certificate_are_told_of_to_the_upstream() {
    let clients = Authority::new();
    let (upstream, authority, world) = start_for(&clients, MUTUAL_TLS);
    let nobody = TlsCaller::trusting(&authority);
    let stranger = Authority::new().certify(&["client.test"], &[]);
    let known = clients.certify(&["client.test"], &["spiffe://test/client"]);
    for version in [&TLS13, &TLS12] {
        for identity in [None, Some(&stranger)] {
            let caller = TlsCaller::new(&authority, identity, &["http/1.1"], &[version]);
            let answered = Client::try_over_tls(world.proxy(), &caller)
                .and_then(|mut client| client.send(get("/open")).try_response("GET"));
            assert!(answered.is_err(), "{answered:?}");
        }
        let caller = TlsCaller::new(&authority, Some(&known), &["http/1.1"], &[version]);
        for target in ["/open", "/guarded"] {
            let mut client = Client::over_tls(world.proxy(), &caller);
            // No session is resumed: the certificate is judged each time.
            assert_eq!(client.agreed().kind, HandshakeKind::Full);
            let headers = [("x-api-key", KEY), ("X_Auth_Certificate", "spiffe://root")];
            let answer = client.send(request("GET", target, &headers)).response();
            assert_eq!(answer.status, 200);
            let received = last(&upstream);
            let names = received.headers.one("x-auth-certificate");
            assert_eq!(names, Some("client.test, spiffe://test/client"));
            let folded = received.headers.folded_names();
            let all = folded.iter().filter(|name| *name == "x-auth-certificate");
            assert_eq!(all.count(), 1);
        }
    }
    assert!(
        Client::try_over_tls(world.proxy(), &nobody)
            .is_ok_and(|mut client| { client.send(get("/open")).try_response("GET").is_err() })
    );
    assert_eq!(upstream.received().len(), 4);
    let failed = [("reason", "tls")];
    eventually("each is counted", || {
        let metrics = world.metrics();
        metrics.sum("gatelet_connection_errors_total", &failed) >= 5.0
    });
}

#[test]
fn nobody_says_a_certificate_of_his_own() {
    let (upstream, authority, world) = start(TLS);
    let mut client = Client::over_tls(world.proxy(), &TlsCaller::trusting(&authority));
    let headers = [("x-auth-certificate", "a"), ("x.auth.certificate", "b")];
    let answer = client.send(request("GET", "/open", &headers)).response();
    assert_eq!(answer.status, 200);
    let names = last(&upstream).headers.folded_names();
    assert!(
        !names.contains(&"x-auth-certificate".to_owned()),
        "{names:?}"
    );
}

#[test]
fn a_new_certificate_is_shown_to_new_callers_and_the_others_go_on() {
    let (_upstream, authority, world) = start(TLS);
    let caller = TlsCaller::trusting(&authority);
    let mut open = Client::over_tls(world.proxy(), &caller);
    let mut seen = vec![open.agreed().certificate];
    for _ in 0..3 {
        rotate(&world, &authority);
        eventually("another certificate is shown", || {
            !seen.contains(&shown(&world, &authority))
        });
        seen.push(shown(&world, &authority));
        assert_eq!(open.send(get("/guarded")).response().status, 200);
    }
}

#[test]
fn a_key_of_another_certificate_changes_nothing() {
    let (_upstream, authority, mut world) = start(TLS);
    let before = shown(&world, &authority);
    let other = authority.certify(&["api.test"], &[]);
    world.write("tls.crt", &other.certificate_pem());
    world.signal("HUP");
    world.log_line(&["its key is not the one of the certificate"]);
    assert_eq!(shown(&world, &authority), before);
    let rejected = [("outcome", "rejected")];
    assert!(
        world
            .metrics()
            .sum("gatelet_config_reloads_total", &rejected)
            >= 1.0
    );
    world.write("tls.key", &other.key_pem());
    world.signal("HUP");
    eventually("the other certificate is shown", || {
        shown(&world, &authority) != before
    });
}

#[test]
fn whether_there_is_tls_stays_until_a_restart() {
    let (upstream, authority, mut world) = start(TLS);
    world.write_config(&upstream, ROUTES);
    world.signal("HUP");
    world.log_line(&["listen.tls", "restart"]);
    let mut client = Client::over_tls(world.proxy(), &TlsCaller::trusting(&authority));
    assert_eq!(client.send(get("/guarded")).response().status, 200);
}

/// Before anything was agreed upon, an answer would be taken for a broken record.
#[test]
fn one_connection_too_many_is_closed_without_a_word() {
    let (_upstream, authority, world) = start(&(TLS.to_owned() + "[limits]\nconnections = 1\n"));
    let mut client = Client::over_tls(world.proxy(), &TlsCaller::trusting(&authority));
    assert_eq!(client.send(get("/open")).response().status, 200);
    assert_eq!(world.connect().rest(), "");
    let refused = [("reason", "overloaded")];
    world.metric_becomes("gatelet_connection_errors_total", &refused, 1.0);
    assert_eq!(client.send(get("/open")).response().status, 200);
}

#[test]
fn a_caller_without_tls_or_slow_to_agree_is_cut_off_and_counted() {
    let limits = "[limits]\nhead_timeout = \"300ms\"\n";
    let (upstream, authority, world) = start(&(TLS.to_owned() + limits));
    let failed = |count| {
        let labels = [("reason", "tls")];
        world.metric_becomes("gatelet_connection_errors_total", &labels, count);
    };
    let mut plain = world.connect();
    assert!(plain.send(get("/open")).try_response("GET").is_err());
    failed(1.0);
    // The beginning of a record that never ends.
    let mut slow = world.connect();
    slow.send([22, 3, 1, 1, 0]);
    assert!(slow.try_response("GET").is_err());
    failed(2.0);
    // Agreed, and then slow with the head: told so, as anybody else.
    let mut late = Client::over_tls(world.proxy(), &TlsCaller::trusting(&authority));
    assert_eq!(late.send("GET / HT").response().status, 408);
    assert_eq!(upstream.received().len(), 0);
    // Whoever looks whether the port is open has done nothing wrong.
    drop(world.connect());
    eventually("it has left", || {
        let open = [("listener", "proxy")];
        world.metrics().sum("gatelet_connections", &open) < 1.5
    });
    failed(2.0);
}
