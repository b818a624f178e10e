//! Every refusal as its caller sees it: status, code, challenge, form; and that the upstream was
//! left alone.

use std::time::Duration;

use http::Request;
use http_body_util::BodyExt;
use serde_json::Value;

use crate::harness::{H2, KEY, NARROW_KEY, Response, Upstream, World, request, text};

const ROUTES: &str = r#"
[[routes]]
name = "open"
prefix = "/open"
require = "nothing"
request_body = "1KiB"
response_timeout = "300ms"

[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]

[[routes]]
name = "scoped"
prefix = "/scoped"
require = ["api_key"]
scopes = ["portfolio:read", "orders:write"]

[[routes]]
name = "read"
path = "/read"
methods = ["GET"]
require = "nothing"

[[routes]]
name = "write"
path = "/read"
methods = ["POST", "PUT"]
require = ["api_key"]

[[routes]]
name = "slow"
prefix = "/limited"
require = ["api_key"]
rate_limit = "1/m"

[auth]
realm = "a realm"

[limits]
request_head = "32KiB"
head_timeout = "400ms"
"#;

/// The challenges, in the order they were written.
fn challenges(response: &Response) -> String {
    response.headers.all("www-authenticate").join(", ")
}

/// Panics unless the answer is a whole problem of this status and code.
fn assert_problem(response: &Response, status: u16, code: &str) {
    assert_eq!(
        (response.status, &*response.code()),
        (status, code),
        "{}",
        response.text()
    );
    let headers = &response.headers;
    assert_eq!(
        headers.one("content-type"),
        Some("application/problem+json")
    );
    let problem = response.json();
    assert_eq!(problem["status"], status);
    assert_eq!(problem["error"], problem["code"]);
    assert_eq!(problem["message"], problem["detail"]);
    for field in ["type", "title", "detail", "requestId"] {
        let text = problem[field].as_str();
        assert!(
            text.is_some_and(|text| !text.is_empty()),
            "{field}: {problem}"
        );
    }
    assert_eq!(headers.one("x-request-id"), problem["requestId"].as_str());
    assert_eq!(
        headers.has("www-authenticate"),
        status == 401 || code == "scope_missing"
    );
    assert_eq!(headers.has("retry-after"), status == 429);
    assert_eq!(headers.has("allow"), status == 405);
}

#[test]
fn each_refusal_has_its_status_and_code() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let minted_shape = "gk_0000000000000000000000000000000000000000000000000";
    let large = "content-length: 2000\r\nexpect: 100-continue\r\n";
    let post = format!("POST /open HTTP/1.1\r\nhost: api.test\r\n{large}\r\n");
    for (bytes, status, code) in [
        (
            request("GET", "/open/../guarded", &[]),
            400,
            "request_malformed",
        ),
        (
            request("GET", "/guarded", &[("x-api-key", KEY), ("x-api-key", KEY)]),
            400,
            "credential_ambiguous",
        ),
        (request("GET", "/guarded", &[]), 401, "credential_missing"),
        (
            request(
                "GET",
                "/guarded",
                &[("x-api-key", "no-such-key-no-such-key")],
            ),
            401,
            "api_key_invalid",
        ),
        (
            request("GET", "/guarded", &[("x-api-key", minted_shape)]),
            401,
            "api_key_invalid",
        ),
        (
            request(
                "GET",
                "/guarded",
                &[("authorization", "Bearer somebody-elses-token")],
            ),
            401,
            "token_invalid",
        ),
        (
            request("GET", "/scoped", &[("x-api-key", KEY)]),
            403,
            "scope_missing",
        ),
        (
            request("GET", "/scoped", &[("x-api-key", NARROW_KEY)]),
            403,
            "scope_missing",
        ),
        (
            request("GET", "/nowhere", &[("x-api-key", KEY)]),
            404,
            "route_not_found",
        ),
        (
            request("DELETE", "/read", &[("x-api-key", KEY)]),
            405,
            "method_not_allowed",
        ),
        (post, 413, "body_too_large"),
    ] {
        assert_problem(&world.send(&bytes), status, code);
        upstream.assert_untouched(code);
    }
}

#[test]
fn a_401_says_what_would_have_done() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let missing = world.get("/guarded", &[]);
    assert_eq!(
        challenges(&missing),
        r#"Bearer realm="a realm", ApiKey realm="a realm""#
    );
    let wrong = world.get("/guarded", &[("x-api-key", "no-such-key-no-such-key")]);
    let first = challenges(&wrong);
    assert!(
        first.starts_with(r#"Bearer realm="a realm", error="invalid_token""#),
        "{first}"
    );
    assert!(first.ends_with(r#"ApiKey realm="a realm""#), "{first}");
    let foreign = challenges(&world.get("/guarded", &[("authorization", "Bearer x.y.z")]));
    assert!(foreign.contains(r#"error="invalid_token""#), "{foreign}");
    upstream.assert_untouched("401");
}

#[test]
fn a_403_names_the_scopes() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let response = world.get("/scoped", &[("x-api-key", KEY)]);
    let challenge = challenges(&response);
    assert!(
        challenge.starts_with(r#"Bearer realm="a realm", error="insufficient_scope", scope=""#),
        "{challenge}"
    );
    assert!(challenge.contains("orders:write"), "{challenge}");
    upstream.assert_untouched("403");
}

#[test]
fn a_405_names_the_methods_and_never_falls_through() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let response = world.send(request("DELETE", "/read", &[]));
    let mut allowed: Vec<String> = response
        .headers
        .one("allow")
        .unwrap()
        .split(',')
        .map(|method| method.trim().to_owned())
        .collect();
    allowed.sort();
    assert_eq!(allowed, ["GET", "HEAD", "POST", "PUT"]);
    upstream.assert_untouched("405");
    assert_eq!(world.get("/read", &[]).status, 200);
    assert_eq!(world.send(request("POST", "/read", &[])).status, 401);
}

#[test]
fn a_refusal_to_head_has_no_body() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    for (target, status) in [
        ("/guarded", 401),
        ("/nowhere", 404),
        ("/open/../guarded", 400),
    ] {
        let mut client = world.connect();
        client.send(request("HEAD", target, &[]) + &request("GET", "/open", &[]));
        let refusal = client.response_to("HEAD");
        assert_eq!(refusal.status, status);
        // Had the refusal a body, this would begin with it. A 400 may end the connection.
        match client.try_response("GET") {
            Ok(next) => assert_eq!(next.status, 200),
            Err(_) => assert_eq!(refusal.headers.one("connection"), Some("close")),
        }
    }
}

#[test]
fn an_unknown_an_expired_and_a_revoked_key_look_alike() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[store]\nkind = \"embedded\"\npath = \"{{folder}}/data\"\n"),
    );
    let (id, revoked) = world.create_key("revoked", &[]);
    let (_, expired) = world.create_key("expired", &["--expires-in", "1s"]);
    world.within_a_second("/guarded", &revoked, 200);
    world.revoke_key(&id);
    world.within_a_second("/guarded", &revoked, 401);
    crate::harness::within(Duration::from_secs(4), "the key expires", || {
        world.status_with("/guarded", &expired) == 401
    });
    let shape = |key: &str| {
        let response = world.get("/guarded", &[("x-api-key", key)]);
        let mut problem = response.json();
        problem["requestId"] = Value::Null;
        (response.status, challenges(&response), problem)
    };
    let unknown = shape("never-made-never-made-never");
    assert_eq!(shape(&revoked), unknown);
    assert_eq!(shape(&expired), unknown);
}

#[test]
fn a_429_says_when_to_come_again() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    assert_eq!(world.status_with("/limited", KEY), 200);
    let refused = world.get("/limited", &[("x-api-key", KEY)]);
    assert_problem(&refused, 429, "rate_limited");
    let wait: u64 = refused.headers.one("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(upstream.received().len(), 1);
}

#[test]
fn a_head_that_is_too_large_is_refused() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let large = "x".repeat(64 * 1024);
    let response = world.get("/open", &[("x-large", &large)]);
    assert_eq!(response.status, 431);
    let many = "x-more: y\r\n".repeat(8000);
    let bytes = format!("GET /open HTTP/1.1\r\nhost: api.test\r\n{many}\r\n");
    assert_eq!(world.send(bytes).status, 431);
    let long = format!("/open/{}", "x".repeat(30 * 1024));
    assert_eq!(world.get(&long, &[]).status, 414);
    upstream.assert_untouched("too large");
}

#[test]
fn a_head_that_never_ends_is_given_up() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    for beginning in [
        "",
        "G",
        "GET /open HTTP/1.1\r\nhost: api.test\r\n",
        "PRI * HTTP/2.0\r\n",
    ] {
        let mut client = world.connect();
        client.send(beginning);
        client.patience(Duration::from_secs(5));
        let answer = client.rest();
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 408"),
            "{beginning:?}: {answer}"
        );
    }
    upstream.assert_untouched("no whole head");
}

#[test]
fn an_upstream_that_is_away_is_a_502() {
    let mut upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    upstream.stop();
    assert_problem(&world.get("/open", &[]), 502, "upstream_unreachable");
    upstream.start_again();
    assert_eq!(world.get("/open", &[]).status, 200);
}

#[test]
fn an_upstream_that_closes_without_an_answer_is_a_502() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.close()
    });
    let world = World::start(&upstream, ROUTES);
    assert_problem(&world.get("/open", &[]), 502, "upstream_unreachable");
    assert_eq!(
        upstream.received().len(),
        1,
        "what was sent is not sent again"
    );
}

#[test]
fn an_upstream_that_speaks_something_else_is_a_502() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.6\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nbroken line\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nhello",
        "HTTP/9.9 200 OK\r\n\r\n",
    ] {
        let upstream = Upstream::scripted(move |exchange| {
            exchange.write(garbage)?;
            exchange.close()
        });
        let world = World::start(&upstream, ROUTES);
        let response = world.get("/open", &[]);
        assert_problem(&response, 502, "upstream_protocol");
    }
}

#[test]
fn an_upstream_that_does_not_answer_is_a_504() {
    let upstream = Upstream::scripted(|exchange| {
        exchange.read_body()?;
        exchange.peer_closes();
        Ok(())
    });
    let world = World::start(&upstream, ROUTES);
    assert_problem(&world.get("/open", &[]), 504, "upstream_timeout");
    crate::harness::eventually("the upstream's connection is ended", || {
        upstream.open() == 0
    });
}

/// Trailers that its caller would not see, or not take for an end, are none.
#[test]
fn an_answer_that_breaks_off_is_whole_to_nobody() {
    let upstream = Upstream::scripted(|exchange| {
        let asked = exchange.request();
        let media_type = match &*asked.target {
            "/open/other" => "application/json",
            _ => asked.headers.one("content-type").unwrap_or_default(),
        };
        exchange.write(format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {media_type}\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n"
        ))?;
        exchange.close()
    });
    let world = World::start(&upstream, ROUTES);
    for (media_type, target, told) in [
        ("application/grpc", "/open", true),
        ("application/grpc+proto", "/open", true),
        ("application/grpc-web+proto", "/open", false),
        ("application/grpc", "/open/other", false),
        ("application/json", "/open", false),
    ] {
        let headers = [("content-type", media_type), ("content-length", "0")];
        let mut client = world.connect();
        client.send(request("POST", target, &headers));
        assert!(
            client.try_response("POST").is_err(),
            "{media_type}: HTTP/1.1"
        );
        let request =
            Request::post(format!("http://api.test{target}")).header("content-type", media_type);
        let mut h2 = H2::connect(world.proxy());
        h2.with(async |connection| {
            connection.ready().await.unwrap();
            let sending = connection.send_request(request.body(text("")).unwrap());
            let whole = match sending.await {
                Ok(answer) => answer.into_body().collect().await.ok(),
                Err(_) => None,
            };
            assert_eq!(whole.is_some(), told, "{media_type}: {target}");
            if let Some(whole) = whole {
                assert_eq!(whole.trailers().unwrap()["grpc-status"], "14");
                assert_eq!(whole.to_bytes(), "hello");
            }
        });
    }
}

#[test]
fn a_grpc_caller_is_refused_in_trailers() {
    let mut upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut h2 = H2::connect(world.proxy());
    let mut call = |path: &str, headers: &[(&str, &str)]| {
        let headers = [
            &[
                ("content-type", "application/grpc+proto"),
                ("te", "trailers"),
            ],
            headers,
        ]
        .concat();
        let response = h2.get(path, &headers);
        assert_eq!(response.status, 200, "{path}");
        assert!(response.body.is_empty(), "{path}");
        assert!(
            response.headers["content-type"]
                .to_str()
                .unwrap()
                .starts_with("application/grpc")
        );
        let message = response.headers.get("grpc-message").is_some();
        assert!(message, "{path}: {:?}", response.headers);
        response.headers["grpc-status"].to_str().unwrap().to_owned()
    };
    assert_eq!(call("/guarded", &[]), "16");
    assert_eq!(
        call("/guarded", &[("x-api-key", "no-such-key-no-such-key")]),
        "16"
    );
    assert_eq!(call("/scoped", &[("x-api-key", KEY)]), "7");
    upstream.assert_untouched("gRPC");
    assert_ne!(call("/nowhere", &[]), "0");
    upstream.stop();
    assert_eq!(call("/open", &[]), "14");
    upstream.start_again();
    assert_eq!(world.status_with("/limited", KEY), 200);
    assert_eq!(call("/limited", &[("x-api-key", KEY)]), "8");
}
