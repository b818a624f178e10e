//! What is said of tokens, of who signs in and of the own routes, where it cannot be meant.

use super::{ROUTE, STORE, UPSTREAM, loaded, problems};

/// A valid file with these lines behind it.
fn text(lines: &str) -> String {
    format!("{UPSTREAM}{ROUTE}upstream = \"api\"\n{STORE}{lines}\n")
}

/// The one problem of a valid file with these lines behind it, without its place.
fn problem(lines: &str) -> String {
    let found = problems(&text(lines));
    assert_eq!(found.lines().count(), 1, "{lines}\n{found}");
    found.splitn(3, ':').nth(2).unwrap().trim().to_owned()
}

#[track_caller]
fn assert_problems(cases: &[(&str, &str)]) {
    for (lines, expected) in cases {
        let found = problem(lines);
        assert!(found.starts_with(expected), "{lines}\n{found}");
    }
}

#[test]
fn no_token_is_granted_what_is_done_to_tokens() {
    for name in [
        "sessions:issue",
        "sessions:",
        "tokens:introspect",
        "tokens:x",
    ] {
        for key in ["session_token", "access_token"] {
            let found = problem(&format!("[{key}]\nscopes = [\"a\", \"{name}\"]"));
            let expected = format!("{key}.scopes: \"{name}\" is never granted to a token");
            assert!(found.starts_with(&expected), "{found}");
        }
    }
    for fine in ["sessions", "tokens", "session:read", "my-tokens:read"] {
        loaded(&text(&format!("[session_token]\nscopes = [\"{fine}\"]")));
    }
}

#[test]
fn a_cookie_that_browsers_would_not_keep_is_a_problem() {
    let cookie = |lines: &str| problem(&format!("[refresh_token.cookie]\n{lines}"));
    for (lines, expected) in [
        ("secure = false", "secure: browsers ignore a __Host- cookie"),
        (
            "path = \"/auth\"",
            "path: a __Host- cookie has the path \"/\"",
        ),
        (
            "domain = \"example.com\"",
            "domain: a __Host- cookie has no domain",
        ),
        (
            "name = \"__host-r\"\npath = \"/a\"",
            "path: a __Host- cookie has the path",
        ),
        (
            "name = \"__Secure-r\"\nsecure = false",
            "secure: browsers ignore a __Secure- cookie",
        ),
        (
            "name = \"r\"\nsecure = false\nsame_site = \"none\"",
            "same_site: browsers ignore",
        ),
        (
            "name = \"r\"\nsecure = false\npartitioned = true",
            "partitioned: browsers ignore",
        ),
        ("name = \"a b\"", "name: it is not a token"),
        (
            "legacy_names = [\"a;b\"]",
            "legacy_names: \"a;b\" is not the name of a cookie",
        ),
    ] {
        let found = cookie(lines);
        let expected = format!("refresh_token.cookie.{expected}");
        assert!(found.starts_with(&expected), "{lines}\n{found}");
    }
    for fine in [
        "name = \"r\"\npath = \"/auth\"\ndomain = \"example.com\"",
        "name = \"__Secure-r\"\npath = \"/auth\"",
        "same_site = \"none\"\npartitioned = true",
        "legacy_names = [\"refresh\", \"__Host-old\"]",
    ] {
        loaded(&text(&format!("[refresh_token.cookie]\n{fine}")));
    }
}

#[test]
fn lifetimes_are_some_time_and_one_within_the_other() {
    assert_problems(&[
        ("[access_token]\nttl = \"0s\"", "access_token.ttl: "),
        (
            "[access_token]\nttl = \"25h\"",
            "access_token.ttl: 25h is too long; the most is 24h",
        ),
        (
            "[refresh_token]\ngrace = \"0s\"",
            "refresh_token.grace: no time at all",
        ),
        (
            "[refresh_token]\nttl = \"10s\"",
            "refresh_token.grace: it is not shorter than refresh_token.ttl",
        ),
        (
            "[session_token]\nidle = \"999ms\"",
            "session_token.idle: 999ms is shorter than a second",
        ),
        (
            "[session_token]\nmax = \"1h\"",
            "session_token.idle: 1d is longer than session_token.max",
        ),
        (
            "[wallet]\ndomains = [\"a\"]\nnonce_ttl = \"0s\"",
            "wallet.nonce_ttl: ",
        ),
    ]);
}

#[test]
fn who_signs_in_to_what_is_said_so_that_a_message_can_hold_it() {
    assert_problems(&[
        (
            "[wallet]\nchains = [1]",
            "wallet.domains: missing; write domains =",
        ),
        (
            "[wallet]\ndomains = []",
            "wallet.domains: there is no domain",
        ),
        (
            "[wallet]\ndomains = [\"https://a\"]",
            "wallet.domains: \"https://a\" is not a domain",
        ),
        (
            "[wallet]\ndomains = [\"a\"]\nchains = []",
            "wallet.chains: there is no chain",
        ),
        (
            "[wallet]\ndomains = [\"a\"]\nstatement = \"two\\nlines\"",
            "wallet.statement: a sign-in message cannot hold it",
        ),
        (
            "[access_token]\nissuer = \"\"",
            "access_token.issuer: it is empty",
        ),
        (
            "[access_token]\naudience = []",
            "access_token.audience: nobody is named",
        ),
        (
            "[access_token]\naudience = [\"a\", \"\"]",
            "access_token.audience: nobody is named",
        ),
        (
            "[access_token]\nalgorithm = \"HS256\"",
            "access_token.algorithm: unknown algorithm \"HS256\"",
        ),
        (
            "[access_token]\nsigning_key_files = [\"/nonexistent/key.pem\"]",
            "access_token.signing_key_files: /nonexistent/key.pem cannot be read",
        ),
    ]);
}

#[test]
fn own_routes_are_at_paths_that_requests_can_reach() {
    assert_problems(&[
        (
            "[auth]\nenvelope = \"a.b\"",
            "auth.envelope: \"a.b\" is not letters, digits and \"_\"",
        ),
        (
            "[auth]\nprefix = \"auth\"",
            "auth.prefix: \"auth\" does not begin",
        ),
        (
            "[auth.paths]\nverify = \"sign-in\"",
            "auth.paths.verify: \"sign-in\" does not begin with \"/\"",
        ),
        (
            "[auth.paths]\nverify = \"/{subject}\"",
            "auth.paths.verify: \"/api/v1/auth/{subject}\" holds what a plain path",
        ),
        (
            "[auth.paths]\nsessions = \"//{subject}/{subject}\"",
            "auth.paths.sessions: \"/{subject}/{subject}\" names the subject twice",
        ),
        (
            "[auth.paths]\nsession = \"/a/../b\"",
            "auth.paths.session: \"/api/v1/auth/a/../b\" has an empty segment, or one of dots",
        ),
        ("[auth.paths]\nintrospect = \"/sessions\"", "auth.paths."),
    ]);
}
