//! Rates, counts and sizes that have a bound.

mod shares;
mod tokens;

use std::time::{Duration, Instant};

use crate::harness::{KEY, NARROW_KEY, Upstream, World, eventually, request, within};

const ROUTES: &str = r#"
[[routes]]
name = "limited"
prefix = "/limited"
require = ["api_key"]
rate_limit = "2/s"

[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"

[store]
kind = "embedded"
path = "{folder}/data"
"#;

#[test]
fn a_route_bounds_each_caller_alone() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let burst: Vec<u16> = (0..6).map(|_| world.status_with("/limited", KEY)).collect();
    assert_eq!(burst[..2], [200, 200], "the burst is a second's worth");
    let refused = burst.iter().filter(|status| **status == 429).count();
    assert!(refused >= 2, "{burst:?}");
    assert_eq!(
        upstream.received().len(),
        6 - refused,
        "a refused request goes no further"
    );
    assert_eq!(
        world.status_with("/limited", NARROW_KEY),
        200,
        "another caller"
    );
    assert_eq!(world.status_with("/guarded", KEY), 200, "another route");
    within(Duration::from_secs(3), "the bucket fills again", || {
        world.status_with("/limited", KEY) == 200
    });
}

#[test]
fn a_key_has_a_rate_of_its_own_over_all_routes() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let (_, key) = world.create_key("slow", &["--rate-limit", "1/m"]);
    world.within_a_second("/guarded", &key, 200);
    let response = world.get("/limited", &[("x-api-key", &key)]);
    assert_eq!((response.status, &*response.code()), (429, "rate_limited"));
    let wait: u64 = response
        .headers
        .one("retry-after")
        .unwrap()
        .parse()
        .unwrap();
    assert!((30..=60).contains(&wait), "{wait}");
    assert_eq!(upstream.received().len(), 1);
    assert_eq!(world.status_with("/guarded", KEY), 200);
}

#[test]
fn a_rate_survives_a_reload() {
    let upstream = Upstream::echo();
    let slow = ROUTES.replace("2/s", "1/m");
    let world = World::start(&upstream, &slow);
    assert_eq!(world.status_with("/limited", KEY), 200);
    assert_eq!(world.status_with("/limited", KEY), 429);
    let more = format!("{slow}\n[[routes]]\npath = \"/new\"\nrequire = \"nothing\"\n");
    world.write_config(&upstream, &more);
    world.signal("HUP");
    eventually("the new route is there", || {
        world.get("/new", &[]).status == 200
    });
    assert_eq!(world.status_with("/limited", KEY), 429);
}

#[test]
fn guessing_is_bounded_and_good_keys_are_not() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\nfailed_authentications = \"5/s\"\n"),
    );
    assert_eq!(world.status_with("/guarded", KEY), 200);
    upstream.take();
    let mut client = world.connect();
    let begun = Instant::now();
    let guesses: Vec<_> = (0..40)
        .map(|n| {
            let key = format!("a-guess-of-twenty-characters-{n}");
            client
                .send(request("GET", "/guarded", &[("x-api-key", &key)]))
                .response()
        })
        .collect();
    let judged = guesses.iter().filter(|guess| guess.status == 401).count();
    let refilled = begun.elapsed().as_secs_f64() * 5.0;
    assert!(judged >= 5, "the burst is a second's worth: {judged}");
    let judged = f64::from(u32::try_from(judged).unwrap());
    assert!(judged <= 5.0 + refilled + 1.0, "{judged} were judged");
    for guess in guesses.iter().filter(|guess| guess.status != 401) {
        assert_eq!((guess.status, &*guess.code()), (429, "rate_limited"));
        assert!(guess.headers.has("retry-after"));
    }
    upstream.assert_untouched("guesses");
    for _ in 0..20 {
        assert_eq!(world.status_with("/guarded", KEY), 200);
    }
    assert_eq!(world.get("/open", &[]).status, 200);
    assert_eq!(world.get("/guarded", &[]).status, 401, "no guess, no bound");
}

/// A bearer of the API's own is no guess where the route is satisfied without it.
#[test]
fn the_apis_own_tokens_are_no_guesses() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\nfailed_authentications = \"5/s\"\n"),
    );
    for n in 0..40 {
        let own = format!("Bearer a-token-of-the-api-itself-{n}");
        assert_eq!(world.get("/open", &[("authorization", &own)]).status, 200);
        let headers = [("authorization", &*own), ("x-api-key", KEY)];
        assert_eq!(world.get("/guarded", &headers).status, 200);
        for received in upstream.received() {
            assert_eq!(received.headers.one("authorization"), Some(&*own));
        }
        upstream.take();
    }
    let guesses: Vec<u16> = (0..40)
        .map(|n| {
            let guess = format!("Bearer a-guess-of-twenty-characters-{n}");
            let headers = [
                ("authorization", &*guess),
                ("x-api-key", "no-such-key-at-all"),
            ];
            world.get("/guarded", &headers).status
        })
        .collect();
    assert!(
        guesses.contains(&429),
        "a bad key beside it makes no guess free"
    );
}

#[test]
fn a_revoked_key_that_was_genuine_is_no_guess() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\nfailed_authentications = \"5/s\"\n"),
    );
    let (id, key) = world.create_key("revoked", &[]);
    world.revoke_key(&id);
    let mut client = world.connect();
    for _ in 0..60 {
        let response = client
            .send(request("GET", "/guarded", &[("x-api-key", &key)]))
            .response();
        assert_eq!(response.status, 401);
    }
}

#[test]
fn connections_are_bounded() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, &format!("{ROUTES}\n[limits]\nconnections = 4\n"));
    let mut open: Vec<_> = (0..4).map(|_| world.connect()).collect();
    for client in &mut open {
        assert_eq!(
            client.send(request("GET", "/open", &[])).response().status,
            200
        );
    }
    let mut fifth = world.connect();
    fifth.send(request("GET", "/open", &[]));
    match fifth.try_response("GET") {
        Ok(response) => assert_eq!(response.status, 503),
        Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "it hangs"),
    }
    for client in &mut open {
        assert_eq!(
            client.send(request("GET", "/open", &[])).response().status,
            200
        );
    }
    open.pop();
    within(Duration::from_secs(3), "a place is free again", || {
        let mut client = world.connect();
        client.send(request("GET", "/open", &[]));
        client
            .try_response("GET")
            .is_ok_and(|response| response.status == 200)
    });
}

#[test]
fn the_head_is_bounded_as_configured() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\nrequest_head = \"8KiB\"\n"),
    );
    let value = |length: usize| "x".repeat(length);
    assert_eq!(world.get("/open", &[("x-a", &value(6000))]).status, 200);
    upstream.take();
    assert_eq!(world.get("/open", &[("x-a", &value(9000))]).status, 431);
    upstream.assert_untouched("a large head");
}

#[test]
fn the_body_is_bounded_by_default_and_by_route() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!(
            "{ROUTES}\n[[routes]]\npath = \"/larger\"\nrequire = \"nothing\"\nrequest_body = \"4KiB\"\n[limits]\nrequest_body = \"1KiB\"\n"
        ),
    );
    let post = |target: &str, length: usize| {
        let body = "x".repeat(length);
        world
            .send(format!(
                "POST {target} HTTP/1.1\r\nhost: api.test\r\ncontent-length: {length}\r\n\r\n{body}"
            ))
            .status
    };
    assert_eq!((post("/open", 1024), post("/open", 1025)), (200, 413));
    assert_eq!((post("/larger", 4096), post("/larger", 4097)), (200, 413));
}

#[test]
fn open_files_are_as_many_as_the_machine_grants() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let limits = world.proc("limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"))
        .unwrap();
    let columns: Vec<&str> = line.split_whitespace().collect();
    assert_eq!(columns[0], columns[1], "soft and hard: {line}");
}

/// Bytes of a body are no beginning of a head.
#[test]
fn a_connection_rests_after_a_body_as_long_as_after_none() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\nidle_timeout = \"20s\"\nhead_timeout = \"1s\"\n"),
    );
    let mut client = world.connect();
    client.send("POST /open HTTP/1.1\r\nhost: api.test\r\ncontent-length: 4\r\n\r\n");
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(client.send("body").response().status, 200);
    assert!(!client.closes_within(Duration::from_secs(3)), "it rests");
    assert_eq!(
        client.send(request("GET", "/open", &[])).response().status,
        200
    );
    world.metric_becomes(
        "gatelet_connection_errors_total",
        &[("reason", "head_timeout")],
        0.0,
    );
}

/// A key that is good no more makes no guess free.
#[test]
fn a_revoked_key_beside_them_makes_guesses_no_cheaper() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{ROUTES}\n[limits]\nfailed_authentications = \"5/s\"\n"),
    );
    let (id, key) = world.create_key("revoked", &[]);
    world.revoke_key(&id);
    world.within_a_second("/guarded", &key, 401);
    let guesses: Vec<u16> = (0..40)
        .map(|n| {
            let guess = format!("Bearer a-guess-of-twenty-characters-{n}");
            let headers = [("authorization", &*guess), ("x-api-key", &*key)];
            world.get("/guarded", &headers).status
        })
        .collect();
    assert!(guesses.contains(&429), "{guesses:?}");
}

/// Where a key may be shown, a guess tells a key from none.
#[test]
fn guesses_on_an_optional_route_are_bounded() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!(
            "{ROUTES}\n[[routes]]\nprefix = \"/feed\"\nrequire = {{ optional = [\"api_key\"] }}\n[limits]\nfailed_authentications = \"5/s\"\n"
        ),
    );
    let guesses: Vec<u16> = (0..40)
        .map(|n| {
            let guess = format!("Bearer a-guess-of-twenty-characters-{n}");
            world.get("/feed", &[("authorization", &guess)]).status
        })
        .collect();
    let right = format!("Bearer {KEY}");
    upstream.take();
    world.get("/feed", &[("authorization", &right)]);
    let told = upstream
        .received()
        .iter()
        .any(|r| r.headers.has("x-auth-subject"));
    assert!(guesses.contains(&429), "told: {told}; {guesses:?}");
}
