//! Where credentials are read from, as the operator says, and whose they are.

use serde_json::{Value, json};

use crate::harness::{KEY, NARROW_KEY, Response, Serve, Timed, Upstream, Wallet, World, request};
use crate::sign_in::site::{AUTH, REST, ROUTES, Site, cookie, static_key, text};

const KEYS: &str = r#"
[[routes]]
prefix = "/guarded"
require = ["api_key"]

[[routes]]
prefix = "/either"
require = { any = ["api_key", "session_token"] }

[[routes]]
prefix = "/session"
require = ["session_token"]

[[routes]]
prefix = "/both"
require = ["api_key", "session_token"]

[store]
path = "{folder}/data"
"#;

#[test]
fn a_key_is_read_from_the_headers_that_are_named_and_from_no_other() {
    let upstream = Upstream::echo();
    let named = "\n[api_keys]\nheaders = [\"x-partner-key\", \"API-Token\"]\nbearer = false\n";
    let world = Timed::start(&upstream, &format!("{KEYS}{named}"));
    for name in ["x-partner-key", "X-Partner-Key", "api-token"] {
        assert_eq!(world.get("/guarded", &[(name, KEY)]).status, 200, "{name}");
        let received = upstream.take().unwrap();
        assert_eq!(received.headers.one("x-auth-key-id"), Some("static:ci"));
        assert!(!String::from_utf8_lossy(&received.raw).contains(KEY));
    }
    let two = [("x-partner-key", KEY), ("api-token", KEY)];
    assert_eq!(world.get("/guarded", &two).code(), "credential_ambiguous");
    let elsewhere = world.get("/guarded", &[("x-api-key", KEY)]);
    assert_eq!(elsewhere.code(), "credential_missing");
    let bearer = format!("Bearer {KEY}");
    let as_bearer = world.get("/guarded", &[("authorization", &bearer)]);
    assert_eq!(
        (as_bearer.status, &*as_bearer.code()),
        (401, "token_invalid")
    );
    upstream.assert_untouched("no key was shown where keys are");
    // Beside a key it is what it always was: the API's own.
    let beside = [("api-token", KEY), ("authorization", &*bearer)];
    assert_eq!(world.get("/guarded", &beside).status, 200);
    let received = upstream.take().unwrap();
    assert_eq!(received.headers.one("authorization"), Some(&*bearer));
}

#[test]
fn minted_keys_begin_as_the_operator_says() {
    let upstream = Upstream::echo();
    let world = World::start(
        &upstream,
        &format!("{KEYS}\n[api_keys]\nprefix = \"acme\"\n"),
    );
    let (id, key) = world.create_key("web", &[]);
    let secret = key.strip_prefix("acme_").unwrap();
    assert_eq!(secret.len(), 43 + 6);
    assert!(secret.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    assert!(key.ends_with(&crate::sign_in::checksum(&key[..key.len() - 6])));
    world.within_a_second("/guarded", &key, 200);
    let received = upstream.received().pop().unwrap();
    assert_eq!(received.headers.one("x-auth-key-id"), Some(&*id));
    assert_eq!(received.headers.one("x-auth-subject"), Some("web"));
}

#[test]
fn a_bearer_that_is_nobodys_here_passes_where_the_route_is_satisfied_without_it() {
    let upstream = Upstream::echo();
    let world = Timed::start(&upstream, KEYS);
    // One of somebody else's issuer, and one that is no JWT.
    for theirs in [
        "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJodHRwczovL2Vsc2UifQ.c2ln",
        "opaque-token-of-the-api",
    ] {
        for scheme in ["Bearer", "bEARER"] {
            let line = format!("{scheme} {theirs}");
            for target in ["/guarded", "/either"] {
                let with_key = [("x-api-key", KEY), ("authorization", &*line)];
                assert_eq!(world.get(target, &with_key).status, 200, "{line}");
                let received = upstream.take().unwrap();
                assert_eq!(received.headers.one("authorization"), Some(&*line));
                assert!(!received.headers.has("x-api-key"));
            }
            for target in ["/guarded", "/either", "/session"] {
                let alone = world.get(target, &[("authorization", &line)]);
                let told = (alone.status, alone.code());
                assert_eq!(told, (401, "token_invalid".to_owned()), "{target} {line}");
                let challenge = alone.headers.all("www-authenticate")[0];
                assert!(
                    challenge.contains(r#"error="invalid_token""#),
                    "{challenge}"
                );
            }
        }
    }
    upstream.assert_untouched("nothing of gatelet's was shown");
}

#[test]
fn a_token_goes_with_its_owners_keys_or_where_it_has_none_with_its_own_key_alone() {
    const NOBODYS: &str = "a-key-without-an-owner-that-issues";
    const ACMES: &str = "a-key-of-acme-that-issues";
    const SIBLING: &str = "another-key-of-acme-without-scopes";
    let keys = [
        static_key(NOBODYS, "", &["sessions:issue"]),
        static_key(ACMES, "acme", &["sessions:issue"]),
        static_key(SIBLING, "acme", &[]),
    ];
    let routes = KEYS.split("[store]").next().unwrap();
    let site = Site::timed_by(&format!("{ROUTES}{REST}{routes}{}", keys.concat()));
    let with = |target: &str, key: &str, token: &str| -> Response {
        let bearer = format!("Bearer {token}");
        let headers = [("x-api-key", key), ("authorization", &*bearer)];
        site.world.send(request("GET", target, &headers))
    };
    let body = json!({"subject": "user-7"});
    for (issuer, good, bad) in [
        (NOBODYS, &[NOBODYS][..], &[NARROW_KEY, ACMES, KEY][..]),
        (ACMES, &[ACMES, SIBLING], &[NOBODYS, KEY]),
    ] {
        let issued = site.post("/sessions", &[("x-api-key", issuer)], &body);
        let token = text(&issued, "clientSessionToken");
        for key in good {
            assert_eq!(with("/both", key, &token).status, 200, "{key}");
            let received = site.upstream.take().unwrap();
            assert_eq!(received.headers.one("x-auth-subject"), Some("user-7"));
        }
        for key in bad {
            for target in ["/both", &format!("{AUTH}/session")] {
                let refused = with(target, key, &token);
                let told = (refused.status, refused.code());
                assert_eq!(told, (403, "credential_mismatch".to_owned()), "{key}");
            }
        }
        site.upstream
            .assert_untouched("they do not belong together");
    }
}

#[test]
fn two_refresh_cookies_are_never_picked_from() {
    let site = Site::timed("\n[refresh_token.cookie]\nlegacy_names = [\"old\"]\n");
    let [one, two] = [1, 2].map(|number| {
        let signed_in = site.sign_in(&Wallet::numbered(number), "cookie");
        cookie(&signed_in)
    });
    let twice = format!("__Host-refresh={one}; __Host-refresh={two}");
    let old = format!("old={one}; old={two}");
    for line in [twice, old] {
        for route in ["/refresh", "/logout"] {
            let answer = site.post(route, &[("cookie", &line)], &Value::Null);
            let told = (answer.status, answer.code());
            assert_eq!(told, (400, "credential_ambiguous".to_owned()), "{route}");
        }
    }
    // The same twice is one, as browsers send it that keep it for two paths.
    let same = format!("__Host-refresh={one}; __Host-refresh={one}");
    let answer = site.post("/refresh", &[("cookie", &same)], &Value::Null);
    assert_eq!(answer.status, 200, "{}", answer.text());
}
