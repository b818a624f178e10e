use proptest::prelude::*;

use super::*;
use crate::rules::fields::text;

fn rules() -> HeaderRules {
    HeaderRules::new(
        "x-auth-",
        &[HeaderName::from_static("x-api-key")],
        &["__Host-refresh".into()],
    )
}

const STRANGER: Scrub = Scrub {
    trusted_peer: false,
    keep_api_key: false,
    take_authorization: true,
};

fn passed(fields: &Fields, scrub: Scrub) -> Fields {
    let rules = rules();
    let mut passed = Fields::default();
    let is_kept = rules.passing(fields, Lines::of(fields), scrub);
    for (name, value) in fields.iter().filter(|(name, _)| is_kept(name)) {
        passed.append(name.clone(), HeaderValue::from_bytes(value).unwrap());
    }
    for cookies in rules.cookies(fields, Lines::of(fields)) {
        passed.append(header::COOKIE, HeaderValue::from_bytes(&cookies).unwrap());
    }
    passed
}

#[test]
fn an_ordinary_name_that_is_gatelets_own_passes_no_more_than_another() {
    let fields: Fields = ORDINARY
        .into_iter()
        .map(|name| (name, HeaderValue::from_static("v")))
        .collect();
    for (prefix, key, dropped) in [
        ("x-auth-", "x-api-key", None),
        ("user-", "x-api-key", Some(header::USER_AGENT)),
        ("x-auth-", "accept", Some(header::ACCEPT)),
    ] {
        let key = HeaderName::from_static(key);
        let rules = HeaderRules::new(prefix, &[key], &[]);
        let passes = rules.passing(&fields, Lines::of(&fields), STRANGER);
        for name in ORDINARY {
            assert_eq!(passes(&name), Some(&name) != dropped.as_ref(), "{name}");
        }
    }
}

fn scrubbed(lines: &[(&str, &str)], scrub: Scrub) -> Vec<(String, String)> {
    let mut fields = Fields::default();
    for (name, value) in lines {
        fields.append(
            HeaderName::from_bytes(name.as_bytes()).unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    passed(&fields, scrub)
        .iter()
        .map(|(name, value)| {
            (
                name.to_string(),
                String::from_utf8_lossy(value).into_owned(),
            )
        })
        .collect()
}

#[test]
fn reserved_names_fall_in_every_spelling() {
    for name in [
        "x-auth-subject",
        "X_Auth_Subject",
        "x.auth.subject",
        "x-auth-",
        "x!auth~anything",
        "x_api_key",
        "x-api-key",
        "x_forwarded_for",
        "x-forwarded-prefix",
        "x-original-url",
        "X_HTTP_METHOD_OVERRIDE",
        "content_length",
        "transfer_encoding",
        "forwarded",
        "x-real-ip",
        "proxy-connection",
        "keep-alive",
        "http2-settings",
        "close",
        "authorization",
    ] {
        assert_eq!(scrubbed(&[(name, "v")], STRANGER), [], "{name}");
    }
}

#[test]
fn a_reserved_beginning_falls_in_every_spelling_however_long_the_name_is() {
    let long = "a".repeat(LONGEST_ON_STACK);
    for beginning in ["x_auth_", "x.forwarded.", "x-forwarded-", "x-auth-"] {
        for trusted_peer in [false, true] {
            let scrub = Scrub {
                trusted_peer,
                ..STRANGER
            };
            let name = format!("{beginning}{long}_");
            assert_eq!(scrubbed(&[(&name, "v")], scrub), [], "{name}");
        }
    }
    let name = format!("x-ordinary-{long}_");
    assert_eq!(scrubbed(&[(&name, "v")], STRANGER).len(), 1);
}

#[test]
fn ordinary_lines_stay_as_they_are() {
    let lines = [
        ("host", "api.example.com"),
        ("accept", "*/*"),
        ("x-authority", "kept"),
        ("traceparent", "00-1-2-03"),
        ("content-length", "3"),
        ("trailer", "x-checksum"),
    ];
    let kept = scrubbed(&lines, STRANGER);
    for (name, value) in lines {
        assert!(
            kept.contains(&(name.to_owned(), value.to_owned())),
            "{name}"
        );
    }
}

#[test]
fn a_trusted_peer_keeps_its_forwarding_lines_in_their_one_spelling() {
    let trusted = Scrub {
        trusted_peer: true,
        ..STRANGER
    };
    let kept = scrubbed(
        &[
            ("x-forwarded-for", "1.2.3.4"),
            ("x_forwarded_for", "6.6.6.6"),
        ],
        trusted,
    );
    assert_eq!(kept, [("x-forwarded-for".to_owned(), "1.2.3.4".to_owned())]);
}

#[test]
fn connection_takes_what_it_names_on_every_line_but_never_the_host() {
    let kept = scrubbed(
        &[
            ("connection", "close, X-Secret"),
            ("connection", "host, x-other"),
            ("connection", "\u{ff}"),
            ("host", "a"),
            ("x-secret", "1"),
            ("x-other", "2"),
        ],
        STRANGER,
    );
    assert_eq!(kept, [("host".to_owned(), "a".to_owned())]);
}

#[test]
fn connection_takes_the_cookies_too() {
    for connection in ["cookie", "close, Cookie"] {
        let lines = [("cookie", "a=1"), ("connection", connection)];
        assert_eq!(scrubbed(&lines, STRANGER), []);
    }
}

#[test]
fn private_cookies_leave_and_the_others_stay() {
    let kept = scrubbed(&[("cookie", "a=1; __Host-refresh=secret; b=2")], STRANGER);
    assert_eq!(kept, [("cookie".to_owned(), "a=1; b=2".to_owned())]);
    assert_eq!(scrubbed(&[("cookie", "__Host-refresh=x")], STRANGER), []);
}

#[test]
fn an_answer_keeps_its_lines_but_for_the_hop_and_the_reserved() {
    let mut fields = Fields::default();
    for (name, value) in [
        ("connection", "x-hop"),
        ("x-hop", "1"),
        ("keep-alive", "timeout=5"),
        ("x-session-expires-at", "1"),
        ("set-cookie", "a=1"),
        ("set-cookie", "__Host-refresh=stolen; Path=/"),
        ("set-cookie", "__Host-refresh; Max-Age=1"),
        (
            "set-cookie",
            "old=gr_000SYW7RiJxkEgOGusQGwp0UJg4EBGO3cQWJhXqJNbv57cMxemzhJjkW31yzTx5H07wJF2A2uBEOEec26ubYMsJ4EZ9AP; Path=/",
        ),
        ("content-type", "text/plain"),
    ] {
        let name = HeaderName::from_static(name);
        fields.append(name, HeaderValue::from_static(value));
    }
    rules().scrub_response(&mut fields);
    let mut names: Vec<_> = fields
        .iter()
        .map(|(n, v)| (n.as_str(), text(v).unwrap()))
        .collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [("content-type", "text/plain"), ("set-cookie", "a=1")]
    );
}

#[test]
fn an_answer_keeps_its_length_only_where_that_frames_it() {
    let length_of = |lines: &[(&'static str, &'static str)]| {
        let lines = lines.iter().map(|(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        });
        let mut fields: Fields = lines.collect();
        rules().scrub_response(&mut fields);
        fields.get(&header::CONTENT_LENGTH).map(<[u8]>::to_vec)
    };
    let length = ("content-length", "5");
    assert_eq!(length_of(&[length]).unwrap(), b"5");
    assert_eq!(length_of(&[length, ("transfer-encoding", "chunked")]), None);
}

#[test]
fn the_forbidden_trailers_are_sorted_for_the_search() {
    assert!(FORBIDDEN_IN_TRAILERS.is_sorted());
}

#[test]
fn values_are_made_visible() {
    assert_eq!(encoded_value("a b%c").to_str().unwrap(), "a b%25c");
    assert_eq!(encoded_value(" é").to_str().unwrap(), "%20%C3%A9");
}

proptest! {
    #[test]
    fn scrubbing_is_idempotent_and_lets_no_reserved_name_through(
        lines in proptest::collection::vec(("[xX][-_.!a-z]{1,3}(auth|api|forwarded)[-_.!a-z]{1,12}|[a-zA-Z!#$%&'*+.^_`|~0-9-]{1,20}", "[ -~]{0,20}"), 0..12),
        connection in proptest::collection::vec("[a-zA-Z-]{1,12}", 0..4),
    ) {
        let mut fields = Fields::default();
        for (name, value) in &lines {
            fields.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            );
        }
        let connection = HeaderValue::from_str(&connection.join(", ")).unwrap();
        fields.append(header::CONNECTION, connection);
        let once = passed(&fields, STRANGER);
        for name in once.names() {
            let spelled = normalised(name.as_str().as_bytes());
            prop_assert!(!spelled.starts_with(b"x-auth-"), "{name}");
            prop_assert!(*spelled != *b"x-api-key", "{name}");
            prop_assert!(!spelled.starts_with(b"x-forwarded-"), "{name}");
        }
        let again = passed(&once, STRANGER);
        prop_assert!(again.iter().eq(once.iter()));
    }
}
