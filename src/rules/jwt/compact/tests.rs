use proptest::prelude::*;

use super::*;

const HEADER: &str = r#"{"alg":"ES256","kid":"one"}"#;
const PAYLOAD: &str = r#"{"iss":"us"}"#;

/// A token of these texts; its signature is one byte.
fn token(header: &str, payload: &str) -> String {
    let [header, payload] = [header, payload].map(|text| base64url(text.as_bytes()));
    format!("{header}.{payload}.AA")
}

fn named(bearer: &str) -> Vec<String> {
    let issuers = issuers_of(bearer.as_bytes());
    issuers.into_iter().map(String::from).collect()
}

fn refused(token: &str) -> Malformed {
    split(token.as_bytes()).expect_err(token)
}

#[test]
fn takes_a_token_apart() {
    let token = token(
        r#"{"typ":"at+jwt","alg":"EdDSA","kid":"one","x":[1]}"#,
        PAYLOAD,
    );
    let parts = split(token.as_bytes()).unwrap();
    assert_eq!(parts.header.algorithm, Algorithm::EdDsa);
    assert_eq!(parts.header.kid.as_deref(), Some("one"));
    assert!(parts.header.is_of_type("at+jwt"));
    assert_eq!(parts.payload, Object::parse(PAYLOAD.as_bytes()).unwrap());
    assert_eq!(parts.signature, "AA");
    let covered = token.strip_suffix(".AA").unwrap();
    assert_eq!(parts.signed, covered.as_bytes());
}

#[test]
fn takes_the_tokens_of_rfc_7515_apart() {
    // Appendix A.1: the header and the payload hold line breaks.
    let token = b"eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk";
    let parts = split(token).unwrap();
    assert_eq!(parts.header.algorithm, Algorithm::Hs256);
    assert_eq!(parts.header.kid, None);
    assert_eq!(issuers_of(token), [Box::from("joe")]);
    // Appendix A.5 is not signed, appendix A.4 is signed with ES512.
    let unsigned = "eyJhbGciOiJub25lIn0.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.";
    assert_eq!(refused(unsigned), Malformed::Parts);
    assert_eq!(refused(&format!("{unsigned}AA")), Malformed::Algorithm);
    assert_eq!(refused("eyJhbGciOiJFUzUxMiJ9.e30.AA"), Malformed::Algorithm);
}

#[test]
fn refuses_everything_but_three_parts_that_hold_something() {
    let good = token(HEADER, PAYLOAD);
    let [header, payload] = [HEADER, PAYLOAD].map(|text| base64url(text.as_bytes()));
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "...".into(),
        header.clone(),
        format!("{header}.{payload}"),
        format!("{header}.{payload}."),
        format!("{header}..AA"),
        format!(".{payload}.AA"),
        format!("{good}."),
        format!(".{good}"),
        format!("{good}.AA"),
        // Five parts are an encrypted token (RFC 7516 §7.1).
        format!("{header}.AA.AA.{payload}.AA"),
    ] {
        assert_eq!(refused(&bad), Malformed::Parts);
    }
}

#[test]
fn refuses_what_is_not_canonical_base64url() {
    let good = token(HEADER, PAYLOAD);
    assert!(split(good.as_bytes()).is_ok());
    for bad in [
        format!("{good}=="),
        good.replace("AA", "AB"),
        good.replace("AA", "A"),
        good.replace("AA", "AA=="),
        good.replace("AA", "AA%3D%3D"),
        good.replace("AA", "A+"),
        good.replace("AA", "A/"),
        good.replace("AA", "A A"),
        good.replace('.', "=."),
        format!("{good}\n"),
        format!("{good}\r\n"),
        format!("{good} "),
        format!(" {good}"),
        format!("\n{good}"),
        format!("{good}\0"),
        format!("{good}é"),
        format!("Bearer {good}"),
    ] {
        assert_eq!(refused(&bad), Malformed::Encoding, "{bad:?}");
    }
    // `e30` is `{}`; `e31` differs in the two bits that are left over.
    let stray = good.replacen(&base64url(PAYLOAD.as_bytes()), "e31", 1);
    assert_eq!(refused(&stray), Malformed::Encoding);
}

#[test]
fn refuses_parts_that_are_no_objects_or_name_a_member_twice() {
    for bad in [
        token("[]", PAYLOAD),
        token("null", PAYLOAD),
        token("\"ES256\"", PAYLOAD),
        token(&format!("{HEADER}{HEADER}"), PAYLOAD),
        token(r#"{"alg":"ES256","alg":"ES256"}"#, PAYLOAD),
        token(r#"{"alg":"none","alg":"ES256"}"#, PAYLOAD),
        token(r#"{"alg":"ES256","kid":"a","\u006bid":"b"}"#, PAYLOAD),
        token(HEADER, "[]"),
        token(HEADER, "{"),
        token(HEADER, r#"{"iss":"us","iss":"us"}"#),
        token(HEADER, r#"{"sub":"a","exp":1,"sub":"b"}"#),
        token(HEADER, r#"{"act":{"sub":"a","sub":"b"}}"#),
    ] {
        assert_eq!(refused(&bad), Malformed::Json, "{bad}");
    }
    // The payload of RFC 7520 §4 is prose.
    assert_eq!(
        refused(&token(HEADER, "It’s a dangerous business")),
        Malformed::Json
    );
}

#[test]
fn refuses_headers_that_do_not_say_what_they_must() {
    for (header, problem) in [
        ("{}", Malformed::Header),
        (r#"{"kid":"one"}"#, Malformed::Header),
        (r#"{"alg":null}"#, Malformed::Header),
        (r#"{"alg":["ES256"]}"#, Malformed::Header),
        (r#"{"alg":256}"#, Malformed::Header),
        (r#"{"alg":"ES256","kid":1}"#, Malformed::Header),
        (r#"{"alg":"ES256","kid":null}"#, Malformed::Header),
        (r#"{"alg":"ES256","kid":["one"]}"#, Malformed::Header),
        (r#"{"alg":"ES256","typ":true}"#, Malformed::Header),
        (r#"{"alg":""}"#, Malformed::Algorithm),
        (r#"{"alg":"none"}"#, Malformed::Algorithm),
        (r#"{"alg":"nOnE"}"#, Malformed::Algorithm),
        (r#"{"alg":"es256"}"#, Malformed::Algorithm),
        (r#"{"alg":"HS512"}"#, Malformed::Algorithm),
        (r#"{"alg":"PS256"}"#, Malformed::Algorithm),
        (r#"{"alg":"ES256","crit":[]}"#, Malformed::Critical),
        (
            r#"{"alg":"ES256","crit":["exp"],"exp":1}"#,
            Malformed::Critical,
        ),
        (
            r#"{"alg":"ES256","crit":["b64"],"b64":false}"#,
            Malformed::Critical,
        ),
        (r#"{"alg":"none","crit":null}"#, Malformed::Critical),
    ] {
        assert_eq!(refused(&token(header, PAYLOAD)), problem, "{header}");
    }
}

#[test]
fn a_type_is_a_media_type_with_or_without_its_tree() {
    let typ = |typ: &str| {
        let token = token(&format!(r#"{{"alg":"ES256","typ":"{typ}"}}"#), PAYLOAD);
        split(token.as_bytes()).unwrap().header
    };
    for same in [
        "at+jwt",
        "AT+JWT",
        "application/at+jwt",
        "Application/At+Jwt",
    ] {
        assert!(typ(same).is_of_type("at+jwt"), "{same}");
    }
    for other in [
        "",
        "jwt",
        "at+jwt ",
        "at jwt",
        "application/",
        "text/at+jwt",
        "é",
    ] {
        assert!(!typ(other).is_of_type("at+jwt"), "{other}");
    }
}

#[test]
fn reads_no_more_than_the_longest_token() {
    let token =
        |padding: usize| token(HEADER, &format!(r#"{{"iss":"us"{}}}"#, " ".repeat(padding)));
    let most = (0..LONGEST)
        .rev()
        .find(|padding| token(*padding).len() <= LONGEST)
        .unwrap();
    assert!(split(token(most).as_bytes()).is_ok());
    assert_eq!(named(&token(most)), ["us"]);
    assert_eq!(refused(&token(most + 3)), Malformed::TooLong);
    // It is sorted nonetheless, and refused by whom it names.
    assert_eq!(named(&token(most + 3)), ["us"]);
}

#[test]
fn a_bearer_is_sorted_by_the_issuer_it_names() {
    let payload = base64url(br#"{"sub":"a","iss":"https://id.example.com/\u0061"}"#);
    for ours in [
        format!("e30.{payload}.AA"),
        // Badly made, and ours to refuse.
        format!("{}.{payload}.", base64url(br#"{"alg":"none"}"#)),
        format!("!.{payload}.!"),
        format!("e30.{payload}==.AA"),
        format!(".{payload}."),
    ] {
        assert_eq!(named(&ours), ["https://id.example.com/a"], "{ours}");
    }
    let stray = "e30.eyJpc3MiOiJhIn1=.AA";
    assert_eq!(named(stray), ["a"]);
    for nobodys in [
        String::new(),
        "..".into(),
        "gk_0123456789".into(),
        payload.clone(),
        format!("e30.{payload}"),
        format!("e30.AA.AA.{payload}.AA"),
        "e30.e30.AA".into(),
        format!("e30.{}.AA", base64url(br#"{"iss":1}"#)),
        format!("e30.{}.AA", base64url(br#"{"iss":null}"#)),
        format!("e30.{}.AA", base64url(b"iss")),
        format!("e30.{}.AA", base64url(b"\xff")),
    ] {
        assert!(named(&nobodys).is_empty(), "{nobodys}");
    }
}

#[test]
fn a_bearer_is_of_every_issuer_that_some_reader_takes_it_for() {
    for (payload, issuers) in [
        (r#"{"iss":"us","iss":"them"}"#, &["us", "them"][..]),
        (
            r#"{"iss":"them","sub":"a","i\u0073s":"us"}"#,
            &["them", "us"],
        ),
        (r#"{"iss":1,"iss":"us","iss":null}"#, &["us"]),
        (r#"{"a":{"iss":"us"},"iss":"them"}"#, &["them"]),
    ] {
        let bearer = format!("e30.{}.AA", base64url(payload.as_bytes()));
        assert_eq!(named(&bearer), issuers, "{payload}");
    }
}

/// Bytes that are likely to look like tokens.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| base64url(&bytes)),
        "[{\"a-z:,0-9\\[\\]}]{0,40}".prop_map(|text| base64url(text.as_bytes())),
        "[A-Za-z0-9_=+/-]{0,40}",
        Just(base64url(HEADER.as_bytes())),
        Just(base64url(PAYLOAD.as_bytes())),
    ];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        prop::collection::vec(part, 0..6).prop_map(|parts| parts.join(".").into_bytes()),
    ]
}

proptest! {
    #[test]
    fn no_bytes_panic_and_there_is_one_way_to_write_a_token(bytes in bytes()) {
        let issuers = issuers_of(&bytes);
        if let Ok(parts) = split(&bytes) {
            let signature = from_base64url(parts.signature.as_bytes()).unwrap();
            let again = [parts.signed, b".", base64url(&signature).as_bytes()].concat();
            prop_assert_eq!(&again, &bytes);
            let named = parts.payload.member("iss").and_then(Value::as_str);
            let issuers: Vec<&str> = issuers.iter().map(|issuer| &**issuer).collect();
            prop_assert_eq!(issuers, Vec::from_iter(named));
        }
    }

    #[test]
    fn every_change_of_a_letter_changes_the_token(place in 0..60_usize, letter in "[A-Za-z0-9_-]") {
        let good = token(HEADER, PAYLOAD);
        let mut other = good.clone().into_bytes();
        let place = place % other.len();
        other[place] = letter.as_bytes()[0];
        prop_assume!(other != good.as_bytes());
        let good = split(good.as_bytes()).unwrap();
        let decoded = |parts: &Parts<'_>| from_base64url(parts.signature.as_bytes());
        let same = split(&other)
            .is_ok_and(|parts| parts.signed == good.signed && decoded(&parts) == decoded(&good));
        prop_assert!(!same);
    }
}
