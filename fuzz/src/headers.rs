//! What crosses the gateway of a request's and an answer's header lines.

use std::sync::LazyLock;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::request;
use crate::rules::cookie;
use crate::rules::fields::Fields;
use crate::rules::form::Lines;
use crate::rules::headers::{
    HeaderRules, Scrub, connection_lists, encoded_value, scrub_response_trailers,
};
use crate::rules::refresh;

const COOKIE: &str = "__Host-refresh";

static RULES: LazyLock<HeaderRules> = LazyLock::new(|| {
    HeaderRules::new(
        "x-auth-",
        &[HeaderName::from_static("x-api-key")],
        &[COOKIE.into()],
    )
});

/// Names that never cross, in whatever spelling, where nothing is trusted.
const RESERVED: [&str; 19] = [
    "x-api-key",
    "authorization",
    "connection",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "transfer-encoding",
    "upgrade",
    "expect",
    "forwarded",
    "x-real-ip",
    "x-request-id",
    "x-original-url",
    "x-rewrite-url",
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
];

/// The first byte says what is trusted; the rest are header lines.
///
/// Scrubbing is idempotent, adds nothing, and lets no reserved name pass in any spelling.
pub fn headers(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else {
        return;
    };
    let scrub = Scrub {
        trusted_peer: flags & 1 != 0,
        keep_api_key: flags & 2 != 0,
        take_authorization: flags & 4 == 0,
    };
    let fields = request::lines(data);
    let passed = passing(&fields, scrub);
    let again = passing(&passed, scrub);
    assert!(again.iter().eq(passed.iter()), "{again:?}, {passed:?}");
    for (name, value) in passed.iter() {
        let spelled = spelled(name);
        assert!(!is_reserved(name, &spelled, scrub), "{name}");
        if name == header::COOKIE {
            assert!(cookie::values(&passed, COOKIE).next().is_none());
        } else {
            assert!(fields.get_all(name).any(|said| said == value));
        }
        if name != header::HOST {
            assert!(!connection_lists(&fields, name.as_str()), "{name}");
        }
    }

    let mut trailers = HeaderMap::from(fields.clone());
    RULES.scrub_trailers(&mut trailers);
    for name in trailers.keys() {
        let nothing = Scrub {
            trusted_peer: false,
            keep_api_key: false,
            take_authorization: true,
        };
        assert!(!is_reserved(name, &spelled(name), nothing), "{name}");
        assert!(!matches!(
            name.as_str(),
            "host" | "content-length" | "trailer" | "cookie"
        ));
    }
    twice(&trailers, |trailers| RULES.scrub_trailers(trailers));

    let mut answer = fields.clone();
    RULES.scrub_response(&mut answer);
    for (name, value) in answer.iter() {
        let name = name.as_str();
        assert!(!name.starts_with("x-session-"), "{name}");
        assert!(!matches!(
            name,
            "connection" | "transfer-encoding" | "upgrade" | "keep-alive"
        ));
        if name == "set-cookie" {
            let pair = value.split(|byte| *byte == b';').next().unwrap_or_default();
            let mut parts = pair.splitn(2, |byte| *byte == b'=');
            let mut part = || parts.next().unwrap_or_default().trim_ascii();
            assert!(part() != COOKIE.as_bytes());
            assert!(!refresh::is_minted(part()));
        }
    }
    let mut again = answer.clone();
    RULES.scrub_response(&mut again);
    assert!(again.iter().eq(answer.iter()), "{again:?}, {answer:?}");
    let mut trailers = HeaderMap::from(fields);
    scrub_response_trailers(&mut trailers);
    twice(&trailers, scrub_response_trailers);

    if let Ok(text) = str::from_utf8(data) {
        check_encoded(text);
    }
}

fn twice(once: &HeaderMap, scrub: impl Fn(&mut HeaderMap)) {
    let mut again = once.clone();
    scrub(&mut again);
    assert_eq!(again, *once);
}

fn passing(fields: &Fields, scrub: Scrub) -> Fields {
    let lines = Lines::of(fields);
    let mut passed = Fields::default();
    let passes = RULES.passing(fields, lines, scrub);
    for (name, value) in fields.iter().filter(|(name, _)| passes(name)) {
        let Ok(value) = HeaderValue::from_bytes(value) else {
            panic!("what passes is no header value");
        };
        passed.append(name.clone(), value);
    }
    for cookies in RULES.cookies(fields, lines) {
        for pair in cookies.split(|byte| *byte == b';') {
            let value = pair.splitn(2, |byte| *byte == b'=').nth(1);
            let value = value.unwrap_or_default().trim_ascii();
            assert!(!refresh::is_minted(value), "a refresh token crosses");
        }
        let Ok(cookies) = HeaderValue::from_bytes(&cookies) else {
            panic!("what is left of the cookies is no header value");
        };
        passed.append(header::COOKIE, cookies);
    }
    passed
}

/// The name as those may read it who know letters and digits alone.
fn spelled(name: &HeaderName) -> String {
    let plain = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    name.as_str().chars().map(plain).collect()
}

fn is_reserved(name: &HeaderName, spelled: &str, scrub: Scrub) -> bool {
    let canonical = name.as_str() == spelled;
    let kept = match spelled {
        "x-api-key" => canonical && scrub.keep_api_key,
        "authorization" => !scrub.take_authorization,
        "forwarded" => scrub.trusted_peer,
        "x-real-ip" | "x-request-id" => canonical && scrub.trusted_peer,
        _ if spelled.starts_with("x-forwarded-") => canonical && scrub.trusted_peer,
        _ => false,
    };
    let reserved = RESERVED.contains(&spelled)
        || spelled.starts_with("x-auth-")
        || spelled.starts_with("x-forwarded-")
        || (spelled == "content-length" && !canonical);
    reserved && !kept
}

/// What is told to an upstream reads back as what was meant.
fn check_encoded(text: &str) {
    let value = encoded_value(text);
    assert!(
        value
            .as_bytes()
            .iter()
            .all(|byte| matches!(byte, b' '..=b'~'))
    );
    assert_eq!(value.as_bytes().trim_ascii(), value.as_bytes());
    let mut decoded = Vec::new();
    let mut rest = value.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        let mut byte = *first;
        if byte == b'%' {
            let digits = str::from_utf8(&rest[..2]).unwrap_or_default();
            byte = u8::from_str_radix(digits, 16).unwrap_or_else(|_| panic!("{value:?}"));
            rest = &rest[2..];
        }
        decoded.push(byte);
    }
    assert_eq!(decoded, text.as_bytes());
}
