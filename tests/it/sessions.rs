//! Client sessions: a server fetches a token for its user, whose every request prolongs it.

use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::{Client, Response, Upstream, World, eventually, request, sha256_hex};

const ROUTES: &str = r#"
[[routes]]
name = "client"
prefix = "/client"
require = { any = ["session_token", "api_key"] }

[[routes]]
name = "both"
prefix = "/both"
require = ["api_key", "session_token"]

[[routes]]
name = "scoped"
prefix = "/scoped"
require = ["session_token"]
scopes = ["orders:read"]

[[routes]]
name = "kept"
prefix = "/kept"
require = ["session_token"]
forward = ["session_token"]

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"

[[routes]]
name = "keys"
prefix = "/keys"
require = ["api_key"]

[store]
kind = "embedded"
path = "{folder}/data"
"#;

const SESSIONS: &str = "/api/v1/auth/sessions";

fn post(client: &mut Client, target: &str, key: &str, body: &Value) -> Response {
    let body = body.to_string();
    client
        .send(format!(
            "POST {target} HTTP/1.1\r\nhost: api.test\r\nauthorization: Bearer {key}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
        .response()
}

/// A server's key that may issue sessions.
fn server(world: &World, owner: &str) -> String {
    let scopes = ["--scope", "sessions:issue", "--scope", "orders:read"];
    let more = [&["--owner", owner][..], &scopes].concat();
    let (_, key) = world.create_key(owner, &more);
    world.within_a_second("/keys", &key, 200);
    key
}

/// Issues a session; the answer's members.
fn issue(world: &World, key: &str, body: &Value) -> Value {
    let response = post(&mut world.connect(), SESSIONS, key, body);
    assert_eq!(response.status, 201, "{}", response.text());
    assert_eq!(response.headers.one("cache-control"), Some("no-store"));
    response.json()
}

fn token(world: &World, key: &str) -> String {
    let issued = issue(world, key, &json!({"subject": "user-7"}));
    issued["clientSessionToken"].as_str().unwrap().to_owned()
}

fn shown(world: &World, target: &str, token: &str) -> Response {
    let bearer = format!("Bearer {token}");
    world.get(target, &[("authorization", &bearer)])
}

fn delete(world: &World, key: &str, id: &str) -> Response {
    let target = format!("{SESSIONS}/{id}");
    world.send(request("DELETE", &target, &[("x-api-key", key)]))
}

fn seconds(response: &Response, name: &str) -> u64 {
    response.headers.one(name).unwrap().parse().unwrap()
}

#[test]
fn a_server_fetches_a_token_and_its_user_gets_in_with_it() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let key = server(&world, "acme");
    upstream.take();
    let issued = issue(
        &world,
        &key,
        &json!({"subject": "user-7", "metadata": {"device": "phone"}, "scopes": ["orders:read"]}),
    );
    assert_eq!(issued["id"], "user-7");
    let token = issued["clientSessionToken"].as_str().unwrap();
    assert!(token.starts_with("gs_"));
    let (expires, cap) = (
        issued["expiresAt"].as_u64().unwrap(),
        issued["maxExpiresAt"].as_u64().unwrap(),
    );
    assert_eq!(cap - expires, 6 * 24 * 3600);

    let response = shown(&world, "/scoped", token);
    assert_eq!(response.status, 200, "{}", response.text());
    assert!(seconds(&response, "x-session-expires-at") >= expires);
    assert_eq!(seconds(&response, "x-session-max-expires-at"), cap);
    let received = upstream.take().unwrap();
    assert_eq!(received.headers.one("x-auth-subject"), Some("user-7"));
    assert_eq!(
        received.headers.one("x-auth-session-id"),
        issued["sessionId"].as_str()
    );
    assert_eq!(
        received.headers.one("x-auth-methods"),
        Some("session_token")
    );
    assert_eq!(received.headers.one("x-auth-scopes"), Some("orders:read"));
    assert!(!received.headers.has("x-auth-key-id"));
    assert!(!received.headers.has("authorization"));

    let who = shown(&world, "/api/v1/auth/session", token);
    assert_eq!(who.status, 200);
    assert_eq!(who.json()["subject"], "user-7");
    assert_eq!(who.json()["metadata"]["device"], "phone");
    assert_eq!(who.json()["maxExpiresAt"], cap);
    upstream.assert_untouched("an own route");
}

#[test]
fn a_session_slides_with_each_use_and_never_past_its_cap() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[session_token]\nidle = \"1200ms\"\nmax = \"4s\"\n"),
    );
    let key = server(&world, "acme");
    let used = token(&world, &key);
    let unused = token(&world, &key);
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(3300) {
        assert_eq!(shown(&world, "/client", &used).status, 200);
        thread::sleep(Duration::from_millis(400));
    }
    let idle = shown(&world, "/client", &unused);
    assert_eq!((idle.status, &*idle.code()), (401, "session_expired"));
    let challenge = idle.headers.all("www-authenticate");
    assert!(challenge[0].contains("error=\"invalid_token\""));
    eventually("the cap is reached, however it is used", || {
        shown(&world, "/client", &used).status == 401
    });
    assert!(began.elapsed() < Duration::from_secs(6));
    assert_eq!(shown(&world, "/client", &used).code(), "session_expired");
}

#[test]
fn a_session_is_ended_by_its_owner_alone() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (key, other) = (server(&world, "acme"), server(&world, "globex"));
    let issued = issue(&world, &key, &json!({"subject": "user-7"}));
    let token = issued["clientSessionToken"].as_str().unwrap();
    let id = issued["sessionId"].as_str().unwrap();
    for _ in 0..10 {
        assert_eq!(shown(&world, "/client", token).status, 200);
    }
    assert_eq!(delete(&world, &other, id).code(), "not_found");
    assert_eq!(delete(&world, &key, "session_none").status, 404);
    assert_eq!(shown(&world, "/client", token).status, 200);
    for _ in 0..2 {
        assert_eq!(delete(&world, &key, id).status, 204, "and again");
    }
    for _ in 0..10 {
        let refused = shown(&world, "/client", token);
        assert_eq!((refused.status, &*refused.code()), (401, "session_revoked"));
    }
}

#[test]
fn a_revoked_key_takes_its_sessions_along() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (id, key) = world.create_key("backend", &["--scope", "sessions:issue"]);
    world.within_a_second("/keys", &key, 200);
    let token = token(&world, &key);
    assert_eq!(shown(&world, "/client", &token).status, 200);
    world.revoke_key(&id);
    eventually("the session is over", || {
        shown(&world, "/client", &token).status == 401
    });
    assert_eq!(shown(&world, "/client", &token).code(), "session_revoked");
}

#[test]
fn a_token_belongs_to_the_key_that_it_was_issued_through() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (key, other) = (server(&world, "acme"), server(&world, "globex"));
    let token = token(&world, &key);
    let bearer = format!("Bearer {token}");
    let both = |key: &str| world.get("/both", &[("x-api-key", key), ("authorization", &bearer)]);
    upstream.take();
    assert_eq!(both(&key).status, 200);
    let received = upstream.received().pop().unwrap();
    assert_eq!(received.headers.one("x-auth-subject"), Some("user-7"));
    assert_eq!(
        received.headers.one("x-auth-methods"),
        Some("api_key session_token")
    );
    assert_eq!(received.headers.one("x-auth-key-owner"), Some("acme"));
    assert_eq!(both(&other).code(), "credential_mismatch");
    assert_eq!(both("no-such-key-no-such-key").code(), "api_key_invalid");
    assert_eq!(shown(&world, "/both", &token).code(), "credential_missing");
    assert_eq!(shown(&world, "/scoped", &token).code(), "scope_missing");
}

#[test]
fn who_may_not_issue_a_session_gets_none() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let key = server(&world, "acme");
    let (_, plain) = world.create_key("plain", &[]);
    world.within_a_second("/keys", &plain, 200);
    let mut client = world.connect();
    let subject = json!({"subject": "user-7"});
    assert_eq!(
        post(&mut client, SESSIONS, &plain, &subject).code(),
        "scope_missing"
    );
    for (body, status, code) in [
        (json!({}), 400, "request_malformed"),
        (json!({"subject": ""}), 400, "request_malformed"),
        (json!({"subject": "a\nb"}), 400, "request_malformed"),
        (json!({"subject": 7}), 400, "request_malformed"),
        (
            json!({"subject": "a", "scopes": ["b c"]}),
            400,
            "request_malformed",
        ),
        (
            json!({"subject": "a", "metadata": {"long": "x".repeat(3000)}}),
            400,
            "request_malformed",
        ),
        (
            json!({"subject": "a", "scopes": ["orders:write"]}),
            403,
            "scope_missing",
        ),
        (
            json!({"subject": "a", "scopes": ["sessions:issue"]}),
            403,
            "scope_missing",
        ),
        (
            json!({"subject": "x".repeat(20_000)}),
            413,
            "body_too_large",
        ),
    ] {
        let response = post(&mut world.connect(), SESSIONS, &key, &body);
        assert_eq!(
            (response.status, &*response.code()),
            (status, code),
            "{body}"
        );
    }
    let form = format!(
        "POST {SESSIONS} HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\n\
         content-type: text/plain\r\ncontent-length: 2\r\n\r\n{{}}"
    );
    assert_eq!(world.send(form).code(), "media_type_unsupported");
    let wrong_method = world.send(request("PUT", SESSIONS, &[("x-api-key", &key)]));
    assert_eq!(wrong_method.code(), "method_not_allowed");
    assert_eq!(wrong_method.headers.one("allow"), Some("POST"));
    assert_eq!(world.get(SESSIONS, &[]).status, 405);
    upstream.take();
}

#[test]
fn a_token_stays_with_gatelet_on_every_route() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let token = token(&world, &server(&world, "acme"));
    upstream.take();
    for (target, seen) in [("/open", false), ("/client", false), ("/kept", true)] {
        assert_eq!(shown(&world, target, &token).status, 200, "{target}");
        let received = upstream.received().pop().unwrap();
        assert_eq!(received.headers.has("authorization"), seen, "{target}");
    }
    assert_eq!(shown(&world, "/keys", &token).status, 401);
    let (rest, last) = token.split_at(token.len() - 1);
    let garbled = format!("{rest}{}", if last == "0" { "1" } else { "0" });
    for wrong in [&*garbled, "gs_", "gs_short"] {
        assert_eq!(shown(&world, "/client", wrong).code(), "token_invalid");
    }
    let looked_up = [("cache", "session_token"), ("result", "miss")];
    let misses = world
        .metrics()
        .sum("gatelet_cache_requests_total", &looked_up);
    assert!(
        misses <= 4.0,
        "garbage is refused without a look-up: {misses}"
    );
}

#[test]
fn the_store_hears_of_many_uses_in_few_writes_and_of_the_last_before_the_end() {
    let upstream = Upstream::echo();
    let mut world = World::start(
        &upstream,
        &format!("{ROUTES}\n[session_token]\nidle = \"20s\"\nmax = \"60s\"\n"),
    );
    let key = server(&world, "acme");
    let token = token(&world, &key);
    let began = Instant::now();
    let mut client = world.connect();
    let bearer = format!("Bearer {token}");
    let head = request("GET", "/client", &[("authorization", &bearer)]);
    let mut uses = 0;
    let mut last = 0;
    while began.elapsed() < Duration::from_millis(4500) {
        let response = client.send(&head).response();
        assert_eq!(response.status, 200);
        last = seconds(&response, "x-session-expires-at");
        uses += 1;
    }
    let written = [("result", "written")];
    let writes = world
        .metrics()
        .sum("gatelet_session_touches_total", &written);
    assert!(
        uses > 100 && writes <= 3.0,
        "{writes} writes for {uses} uses"
    );
    drop(client);
    world.signal("TERM");
    world.ends_within(Duration::from_secs(10));
    let sessions = world.command_json(&["sessions", "list", "--json"]);
    let kept = sessions[0]["expiresAt"].as_u64().unwrap();
    assert!(kept == last || kept + 1 == last, "{kept} of {last}");
}

#[test]
fn sessions_survive_a_crash() {
    let upstream = Upstream::echo();
    let mut world = World::start(&upstream, ROUTES);
    let token = token(&world, &server(&world, "acme"));
    assert_eq!(shown(&world, "/client", &token).status, 200);
    world.crash();
    assert_eq!(shown(&world, "/client", &token).status, 200);
}

#[test]
fn a_path_of_ones_own_names_the_subject_and_answers_in_an_envelope() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!(
            "{ROUTES}\n[auth]\nenvelope = \"data\"\n[auth.paths]\n\
             sessions = \"//api/v3/custodians/me/clients/{{subject}}/sessions\"\n"
        ),
    );
    let key = server(&world, "acme");
    let target = "/api/v3/custodians/me/clients/user%207/sessions";
    let head = format!(
        "POST {target} HTTP/1.1\r\nhost: api.test\r\nauthorization: Bearer {key}\r\n\
         content-length: 0\r\n\r\n"
    );
    let issued = world.send(head);
    assert_eq!(issued.status, 201, "{}", issued.text());
    let data = &issued.json()["data"];
    assert_eq!(data["id"], "user 7");
    let id = data["sessionId"].as_str().unwrap();
    let other = post(
        &mut world.connect(),
        target,
        &key,
        &json!({"subject": "else"}),
    );
    assert_eq!(other.code(), "request_malformed");
    let end = format!("{target}/{id}");
    let ended = world.send(request("DELETE", &end, &[("x-api-key", &key)]));
    assert_eq!(ended.status, 204);
    assert_eq!(world.get(SESSIONS, &[]).status, 404, "it was moved");
}

#[test]
fn a_server_learns_what_a_token_is_worth() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let key = server(&world, "acme");
    let (_, asking) = world.create_key("asking", &["--scope", "tokens:introspect"]);
    world.within_a_second("/keys", &asking, 200);
    let issued = issue(&world, &key, &json!({"subject": "user-7"}));
    let token = issued["clientSessionToken"].as_str().unwrap();
    let ask = |key: &str, token: &str| {
        let form = format!("token={token}&token_type_hint=access_token");
        world.send(format!(
            "POST /api/v1/auth/introspect HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
            form.len()
        ))
    };
    let told = ask(&asking, token).json();
    assert_eq!(told["active"], true);
    assert_eq!(told["sub"], "user-7");
    assert_eq!(told["exp"], issued["expiresAt"]);
    assert_eq!(told["sid"], issued["sessionId"]);
    for unknown in ["gs_short", "something-else"] {
        assert_eq!(ask(&asking, unknown).json(), json!({"active": false}));
    }
    assert_eq!(ask(&key, token).code(), "scope_missing");
    delete(&world, &key, issued["sessionId"].as_str().unwrap());
    assert_eq!(ask(&asking, token).json(), json!({"active": false}));
}

#[test]
fn live_sessions_are_taken_over_and_ended_by_the_command() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let key = server(&world, "acme");
    let old = "a-session-token-of-another-system";
    assert_eq!(shown(&world, "/client", old).code(), "token_invalid");
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let line = json!({
        "kind": "session", "sha256": sha256_hex(old), "subject": "user-9", "owner": "acme",
        "createdAt": now - 100, "expiresAt": now + 3600,
    });
    world.write(
        "bad.ndjson",
        &format!("{line}\n{{\"kind\":\"session\"}}\nx\n"),
    );
    let refused = world.command(&["sessions", "import", "bad.ndjson"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("bad.ndjson:2: \"sha256\" is missing"),
        "{said}"
    );
    assert!(said.contains("bad.ndjson:3: not a JSON object"), "{said}");
    assert_eq!(shown(&world, "/client", old).code(), "token_invalid");

    world.write("live.ndjson", &format!("{line}\n"));
    let taken = world.command(&["sessions", "import", "live.ndjson"]);
    assert!(taken.status.success(), "{taken:?}");
    eventually("it works, although it was probed", || {
        shown(&world, "/client", old).status == 200
    });
    let received = upstream.received().pop().unwrap();
    assert_eq!(received.headers.one("x-auth-subject"), Some("user-9"));
    let bearer = format!("Bearer {old}");
    let both = world.get("/both", &[("x-api-key", &key), ("authorization", &bearer)]);
    assert_eq!(both.status, 200, "of the same owner");
    assert_eq!(shown(&world, "/open", old).status, 200);
    let received = upstream.received().pop().unwrap();
    assert!(!received.headers.has("authorization"));

    let listed = world.command_json(&["sessions", "list", "--subject", "user-9", "--json"]);
    assert_eq!(listed[0]["state"], "active");
    let ended = world.command(&["sessions", "revoke", "--subject", "user-9"]);
    assert!(ended.status.success(), "{ended:?}");
    eventually("it is over", || {
        shown(&world, "/client", old).code() == "session_revoked"
    });
    let unknown = world.command(&["sessions", "revoke", "session_none"]);
    assert_eq!(unknown.status.code(), Some(1));
}
