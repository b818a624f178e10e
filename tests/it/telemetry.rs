//! What is counted, what is logged, and that no secret is among it.

use std::time::Duration;

use crate::harness::{KEY, NARROW_KEY, Upstream, World, eventually, request, sha256_hex};

const ROUTES: &str = r#"
[[routes]]
name = "open"
prefix = "/open"
require = "nothing"

[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]

[[routes]]
name = "scoped"
prefix = "/scoped"
require = ["api_key"]
scopes = ["nobody:has:this"]

[store]
kind = "embedded"
path = "{folder}/data"
"#;

#[test]
fn every_request_is_counted_once() {
    let mut upstream = Upstream::scripted(|exchange| {
        let request = exchange.read_body()?;
        if request.target == "/open/broken" {
            return exchange.answer("500 Internal Server Error", "", "theirs");
        }
        exchange.answer("200 OK", "", "ok")
    });
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    let mut send = |target: &str, key: Option<&str>, times: usize, status: u16| {
        let headers: Vec<(&str, &str)> = key.map(|key| ("x-api-key", key)).into_iter().collect();
        for _ in 0..times {
            let answered = client
                .send(request("GET", target, &headers))
                .response()
                .status;
            assert_eq!(answered, status, "{target}");
        }
    };
    send("/open", None, 7, 200);
    send("/open/broken", None, 2, 500);
    send("/guarded", Some(KEY), 5, 200);
    send("/guarded", Some("no-such-key-no-such-key"), 3, 401);
    send("/guarded", None, 4, 401);
    send("/scoped", Some(KEY), 2, 403);
    send("/nowhere", None, 6, 404);
    upstream.stop();
    let response = world.get("/open", &[]);
    assert_eq!(response.status, 502);

    let requests = "gatelet_requests_total";
    for (route, class, count) in [
        ("open", "2xx", 7.0),
        ("open", "5xx", 3.0),
        ("guarded", "2xx", 5.0),
        ("guarded", "4xx", 7.0),
        ("scoped", "4xx", 2.0),
        ("none", "4xx", 6.0),
        ("scoped", "2xx", 0.0),
    ] {
        world.metric_becomes(
            requests,
            &[("route", route), ("status_class", class)],
            count,
        );
    }
    world.metric_becomes(requests, &[], 30.0);
    let decisions = "gatelet_decisions_total";
    for (route, outcome, count) in [
        ("open", "allow", 10.0),
        ("guarded", "allow", 5.0),
        ("guarded", "deny", 7.0),
        ("scoped", "deny", 2.0),
        ("guarded", "fault", 0.0),
    ] {
        world.metric_becomes(decisions, &[("route", route), ("outcome", outcome)], count);
    }
    for (code, count) in [
        ("credential_missing", 4.0),
        ("api_key_invalid", 3.0),
        ("scope_missing", 2.0),
        ("route_not_found", 6.0),
        ("rate_limited", 0.0),
    ] {
        world.metric_becomes("gatelet_rejects_total", &[("code", code)], count);
    }
    world.metric_becomes(
        "gatelet_faults_total",
        &[("code", "upstream_unreachable")],
        1.0,
    );
    world.metric_becomes("gatelet_faults_total", &[], 1.0);
    world.metric_becomes(
        "gatelet_request_duration_seconds_count",
        &[("route", "guarded")],
        12.0,
    );
    world.metric_becomes("gatelet_request_duration_seconds_count", &[], 30.0);
}

#[test]
fn series_exist_from_the_start() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let metrics = world.metrics();
    for route in ["open", "guarded", "scoped", "none"] {
        for class in ["2xx", "3xx", "4xx", "5xx"] {
            assert!(
                metrics.has(
                    "gatelet_requests_total",
                    &[("route", route), ("status_class", class)]
                ),
                "{route} {class}"
            );
        }
        assert!(
            metrics.has(
                "gatelet_request_duration_seconds_bucket",
                &[("route", route), ("le", "60")]
            ),
            "{route}"
        );
    }
    for code in gatelet::rules::decision::Reject::CODES {
        assert!(
            metrics.has("gatelet_rejects_total", &[("code", code)]),
            "{code}"
        );
    }
    for code in gatelet::rules::decision::Fault::CODES {
        assert!(
            metrics.has("gatelet_faults_total", &[("code", code)]),
            "{code}"
        );
    }
    for name in [
        "gatelet_decisions_total",
        "gatelet_overhead_seconds_count",
        "gatelet_upstream_duration_seconds_count",
        "gatelet_cache_requests_total",
        "gatelet_store_operation_duration_seconds_count",
        "gatelet_store_errors_total",
        "gatelet_store_connected",
        "gatelet_event_lag_seconds",
        "gatelet_connections",
        "gatelet_connection_errors_total",
        "gatelet_config_reloads_total",
        "gatelet_log_lines_dropped_total",
        "gatelet_build_info",
        "process_resident_memory_bytes",
        "process_open_fds",
        "process_cpu_seconds_total",
    ] {
        assert!(metrics.has(name, &[]), "{name}");
    }
    assert!((metrics.sum("gatelet_store_connected", &[]) - 1.0).abs() < f64::EPSILON);
}

#[test]
fn processor_time_is_counted_in_fractions_of_a_second() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    eventually("some processor time was spent", || {
        for _ in 0..50 {
            client.send(request("GET", "/open", &[])).response();
        }
        let spent = world.metrics().sum("process_cpu_seconds_total", &[]);
        spent > 0.0 && spent.fract() > 0.0
    });
}

#[test]
fn nobody_waits_for_a_log_that_is_not_read() {
    // Where nothing listens each request is a line of diagnostics; the pipe holds some hundreds.
    let nowhere = tempfile::tempdir().unwrap();
    let url = format!("unix:{}", nowhere.path().join("api.sock").display());
    let mut world = World::start_unread(&url, ROUTES);
    let mut client = world.connect();
    for _ in 0..2_000 {
        let answered = client.send(request("GET", "/open", &[])).response();
        assert_eq!(answered.status, 502);
    }
    world.signal("TERM");
    let status = world.ends_within(Duration::from_secs(5));
    assert_eq!(status.code(), Some(0));
}

#[test]
fn labels_never_come_from_requests() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let before = world.metrics().names();
    for n in 0..50 {
        let target = format!("/open/{n}?q={n}");
        let host = format!("h{n}.test");
        let bytes = format!("M{n} {target} HTTP/1.1\r\nhost: {host}\r\nx-api-key: key-{n}\r\n\r\n");
        world.send(bytes);
        world.get(
            &format!("/nowhere-{n}"),
            &[("user-agent", &format!("agent-{n}"))],
        );
    }
    assert_eq!(world.metrics().names(), before);
}

#[test]
fn connections_are_counted_while_they_are_open() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let open: Vec<_> = (0..3)
        .map(|_| {
            let mut client = world.connect();
            assert_eq!(
                client.send(request("GET", "/open", &[])).response().status,
                200
            );
            client
        })
        .collect();
    world.metric_becomes("gatelet_connections", &[("listener", "proxy")], 3.0);
    drop(open);
    world.metric_becomes("gatelet_connections", &[("listener", "proxy")], 0.0);
}

#[test]
fn the_probes_answer_and_nothing_else_does() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    for (target, status) in [
        ("/livez", 200),
        ("/readyz", 200),
        ("/healthz", 200),
        ("/metrics", 200),
        ("/", 404),
        ("/open", 404),
        ("/metrics/x", 404),
    ] {
        assert_eq!(world.probe(target).status, status, "{target}");
    }
    let content_type = world
        .probe("/metrics")
        .headers
        .one("content-type")
        .unwrap()
        .to_owned();
    assert!(content_type.starts_with("text/plain"), "{content_type}");
    for target in ["/metrics", "/livez", "/readyz", "/healthz"] {
        assert_eq!(
            world.get(target, &[]).status,
            404,
            "{target} on the data path"
        );
    }
    upstream.assert_untouched("probes");
}

#[test]
fn the_access_log_tells_each_request_in_a_line() {
    let upstream = Upstream::echo();
    let mut world = World::start(&upstream, ROUTES);
    let body = "POST /guarded/logged?secret=1 HTTP/1.1\r\nhost: api.test\r\n";
    let bytes = format!("{body}x-api-key: {KEY}\r\ncontent-length: 5\r\n\r\nhello");
    let response = world.send(bytes);
    let line = world.access("/guarded/logged");
    let text = |name: &str| line.field(name).as_str().unwrap_or_default().to_owned();
    assert_eq!(
        text("request_id"),
        response.headers.one("x-request-id").unwrap()
    );
    assert_eq!(text("method"), "POST");
    assert_eq!(text("route"), "guarded");
    assert_eq!(text("subject"), "platform");
    assert_eq!(text("key_id"), "static:ci");
    assert!(
        text("client").starts_with("127.0.0.1"),
        "{}",
        text("client")
    );
    assert!(!text("time").is_empty());
    assert_eq!(line.field("status"), 200);
    assert_eq!(line.field("bytes_in"), 5);
    assert_eq!(line.field("bytes_out"), response.body.len());
    assert!(line.field("duration_ms").as_f64().is_some());
    assert!(line.field("upstream_ms").as_f64().is_some());

    world.get(
        "/guarded/denied",
        &[("x-api-key", "no-such-key-no-such-key")],
    );
    let line = world.access("/guarded/denied");
    assert_eq!(line.field("status"), 401);
    assert_eq!(line.field("code"), "api_key_invalid");
    world.get("/nowhere/at/all", &[]);
    assert_eq!(
        world.access("/nowhere/at/all").field("code"),
        "route_not_found"
    );
}

#[test]
fn the_access_log_tells_why_an_answer_was_cut_off() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhello")?;
        exchange.close()
    });
    let mut world = World::start(&upstream, ROUTES);
    let mut client = world.connect();
    client.send(request("GET", "/open/cut", &[]));
    assert!(client.try_response("GET").is_err());
    let line = world.access("/open/cut");
    assert_eq!(line.field("status"), 200);
    assert_eq!(line.field("code"), "upstream_unreachable");
}

#[test]
fn the_access_log_can_be_off() {
    let upstream = Upstream::echo();
    let mut world = World::start(&upstream, &format!("{ROUTES}\n[log]\naccess = false\n"));
    assert_eq!(world.get("/open/unlogged", &[]).status, 200);
    world.metric_becomes("gatelet_requests_total", &[("route", "open")], 1.0);
    world.signal("TERM");
    assert!(world.ends_within(Duration::from_secs(5)).success());
    assert!(!world.log().iter().any(|line| line.contains("unlogged")));
}

#[test]
fn a_log_line_cannot_be_forged() {
    let upstream = Upstream::echo();
    let mut world = World::start(&upstream, ROUTES);
    let target = "/open/%0a%7b%22forged%22:1%7d\"quoted\"";
    world.get(target, &[]);
    world.get("/open/after", &[]);
    world.access("/open/after");
    assert!(
        !world
            .log()
            .iter()
            .any(|line| line.starts_with("{\"forged\""))
    );
}

#[test]
fn no_secret_is_ever_logged_or_counted() {
    let mut upstream = Upstream::echo();
    let mut world = World::start(&upstream, &format!("{ROUTES}\n[log]\nlevel = \"trace\"\n"));
    let (id, minted) = world.create_key("minted", &[]);
    world.within_a_second("/guarded", &minted, 200);
    let unknown = "an-unknown-credential-of-a-stranger";
    let bearer = format!("Bearer {minted}");
    let foreign = "Bearer a-foreign-bearer-nobody-knows";
    for headers in [
        vec![("x-api-key", KEY)],
        vec![("x-api-key", NARROW_KEY)],
        vec![("x-api-key", unknown)],
        vec![("x-api-key", KEY), ("x-api-key", unknown)],
        vec![("authorization", bearer.as_str())],
        vec![("authorization", foreign)],
        vec![("cookie", "__Host-refresh=a-refresh-token-of-somebody")],
    ] {
        for target in ["/guarded", "/open", "/scoped", "/guarded/../x", "/nowhere"] {
            world.get(target, &headers);
        }
    }
    world.get(&format!("/open?key={KEY}"), &[]);
    world.revoke_key(&id);
    world.write(
        "config.toml",
        &format!("[api_keys]\npepper = \"{unknown}\"\n"),
    );
    world.signal("HUP");
    upstream.stop();
    world.get("/guarded/last", &[("x-api-key", KEY)]);
    world.access("/guarded/last");
    eventually("the reload was refused", || {
        world.log().iter().any(|line| line.contains("pepper"))
    });
    let told = world.log().join("\n") + &world.metrics().text;
    for secret in [
        KEY,
        NARROW_KEY,
        &minted,
        unknown,
        "a-foreign-bearer-nobody-knows",
        "a-refresh-token-of-somebody",
        &sha256_hex(KEY),
        &sha256_hex(&minted),
    ] {
        assert!(!told.contains(secret), "{secret} was told");
    }
}
