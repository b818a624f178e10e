//! Which header lines may cross the gateway, and in what spelling a name counts.
//!
//! An upstream may read `X_Auth_Subject`, `x.auth.subject` and `x-auth-subject` as one name (CGI
//! and WSGI do), so every name that gatelet writes or removes is compared with each
//! non-alphanumeric character read as `-`. HTTP's own framing stays with the HTTP library.

use std::borrow::Cow;
use std::collections::HashSet;

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use crate::rules::fields::Fields;
use crate::rules::form::{Line, Lines};
use crate::rules::{cookie, refresh};

/// Whether a name speaks to the next hop only (RFC 9110 §7.6.1, RFC 7540 §3.2.1), besides those
/// `Connection` lists.
///
/// `close` is reserved, so that the option of that name lists no field (RFC 9112 §9.6).
fn is_hop_by_hop(name: &[u8]) -> bool {
    matches!(
        name,
        b"close"
            | b"connection"
            | b"http2-settings"
            | b"keep-alive"
            | b"proxy-authenticate"
            | b"proxy-authorization"
            | b"proxy-connection"
            | b"te"
            | b"transfer-encoding"
            | b"upgrade"
    )
}

/// Whether a name tells an upstream of another target or method than the one judged.
fn is_override(name: &[u8]) -> bool {
    matches!(
        name,
        b"x-original-url"
            | b"x-rewrite-url"
            | b"x-http-method-override"
            | b"x-http-method"
            | b"x-method-override"
    )
}

/// Fields that never stand in a trailer section (RFC 9110 §6.5.1): framing, routing, request
/// modifiers, authentication, response control and the content's format.
const FORBIDDEN_IN_TRAILERS: [&str; 28] = [
    "age",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "date",
    "expect",
    "expires",
    "host",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "range",
    "retry-after",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "vary",
    "www-authenticate",
];

/// Which bytes stand for themselves in every spelling of a name.
const NORMAL: [bool; 256] = {
    let mut normal = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        normal[byte as usize] = normalised_byte(byte) == byte;
        byte += 1;
    }
    normal
};

/// Names that most requests have, the most frequent first.
const ORDINARY: [HeaderName; 7] = [
    header::HOST,
    header::USER_AGENT,
    header::ACCEPT,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
];

/// Names that most answers have, and that are never gatelet's.
const ORDINARY_IN_ANSWERS: [HeaderName; 4] = [
    header::CONTENT_TYPE,
    header::CONTENT_LENGTH,
    header::DATE,
    header::SERVER,
];

/// The longest name whose other spelling is written on the stack.
const LONGEST_ON_STACK: usize = 128;

/// Which names are gatelet's own, for one configuration.
#[derive(Clone, Debug)]
pub struct HeaderRules {
    identity_prefix: Box<[u8]>,
    /// Headers that carry API keys, normalised.
    key_headers: Box<[Box<[u8]>]>,
    private_cookies: Box<[Box<str>]>,
    /// Those of the ordinary names that always pass.
    passing: Box<[HeaderName]>,
}

/// What a scrub is told about its request.
#[derive(Clone, Copy, Debug)]
pub struct Scrub {
    /// The peer's forwarding headers are believed.
    pub trusted_peer: bool,
    /// The upstream may see API keys.
    pub keep_api_key: bool,
    /// The bearer is gatelet's own and is not for the upstream.
    pub take_authorization: bool,
}

/// Nothing passes that does not always.
const NOTHING_KEPT: Scrub = Scrub {
    trusted_peer: false,
    keep_api_key: false,
    take_authorization: true,
};

impl HeaderRules {
    /// Rules for identity headers below `identity_prefix` and keys read from `key_headers`.
    ///
    /// `private_cookies` are the cookies that no upstream sees.
    pub fn new(
        identity_prefix: &str,
        key_headers: &[HeaderName],
        private_cookies: &[Box<str>],
    ) -> Self {
        let mut rules = Self {
            identity_prefix: normalised(identity_prefix.as_bytes()),
            key_headers: key_headers
                .iter()
                .map(|name| normalised(name.as_str().as_bytes()))
                .collect(),
            private_cookies: private_cookies.into(),
            passing: Box::default(),
        };
        let passing = ORDINARY
            .into_iter()
            .filter(|name| !rules.is_dropped(name, NOTHING_KEPT));
        rules.passing = passing.collect();
        rules
    }

    /// Which lines may reach the upstream; gatelet's own are written besides.
    ///
    /// `lines` are those of `fields`. Without the cookies, which [`Self::cookies`] has. The `Host` line always passes, whatever
    /// `Connection` names.
    pub fn passing(
        &self,
        fields: &Fields,
        lines: Lines,
        scrub: Scrub,
    ) -> impl Fn(&HeaderName) -> bool {
        let mut named = named(fields, lines);
        if !named.is_empty() {
            named.remove(&header::HOST);
        }
        move |name| {
            let passes = self.passing.contains(name)
                || (*name != header::COOKIE && !self.is_dropped(name, scrub));
            passes && !named.contains(name)
        }
    }

    /// The cookies that may reach the upstream, as they stand on each line.
    pub fn cookies<'h>(
        &self,
        fields: &'h Fields,
        lines: Lines,
    ) -> impl Iterator<Item = Cow<'h, [u8]>> {
        let pass = lines.has(Line::Cookie) && !named(fields, lines).contains(&header::COOKIE);
        let lines = fields.get_all(&header::COOKIE);
        lines
            .take(if pass { usize::MAX } else { 0 })
            .map(|line| self.kept_cookies(line))
            .filter(|kept| !kept.is_empty())
    }

    fn is_dropped(&self, name: &HeaderName, scrub: Scrub) -> bool {
        let plain = name.as_str().as_bytes();
        if plain.iter().all(|byte| NORMAL[usize::from(*byte)]) {
            return self.is_dropped_as(plain, plain, scrub);
        }
        let mut buffer = [0; LONGEST_ON_STACK];
        match normalise_into(plain, &mut buffer) {
            Some(spelled) => self.is_dropped_as(plain, spelled, scrub),
            None => self.is_dropped_as(plain, &normalised(plain), scrub),
        }
    }

    /// Whether the header named `plain`, which an upstream may read as `spelled`, is dropped.
    fn is_dropped_as(&self, plain: &[u8], spelled: &[u8], scrub: Scrub) -> bool {
        if spelled.starts_with(&self.identity_prefix) {
            return true;
        }
        let canonical = spelled == plain;
        if self.key_headers.iter().any(|key| **key == *spelled) {
            return !(canonical && scrub.keep_api_key);
        }
        match spelled.first() {
            Some(b'x') => {
                if is_override(spelled) {
                    return true;
                }
                let forwarding = spelled == b"x-real-ip"
                    || spelled == b"x-request-id"
                    || spelled.starts_with(b"x-forwarded-");
                forwarding && !(canonical && scrub.trusted_peer)
            }
            Some(b'f') => spelled == b"forwarded" && !scrub.trusted_peer,
            Some(b'a') => spelled == b"authorization" && scrub.take_authorization,
            // The expectation is answered here, when the admitted request's body is first read.
            Some(b'e') => spelled == b"expect",
            Some(b'c') if spelled == b"content-length" => !canonical,
            _ => is_hop_by_hop(spelled),
        }
    }

    fn kept_cookies<'h>(&self, line: &'h [u8]) -> Cow<'h, [u8]> {
        let mut pairs = line.split(|byte| *byte == b';');
        if !pairs.any(|pair| self.is_private_cookie(pair)) {
            return Cow::Borrowed(line);
        }
        let kept = line
            .split(|byte| *byte == b';')
            .filter(|pair| !self.is_private_cookie(pair))
            .collect::<Vec<_>>()
            .join(&b';');
        Cow::Owned(kept.trim_ascii().to_owned())
    }

    /// Whether a cookie is gatelet's: by its name, or by a value that is a refresh token of an old one.
    fn is_private_cookie(&self, pair: &[u8]) -> bool {
        let name = cookie::name_of(pair);
        let private = self
            .private_cookies
            .iter()
            .any(|private| private.as_bytes() == name);
        let value = cookie::value_of(pair);
        private || value.is_some_and(refresh::is_minted)
    }

    /// Drops from a request's trailers what must not stand there, and every reserved name.
    pub fn scrub_trailers(&self, trailers: &mut HeaderMap) {
        let doomed: Vec<HeaderName> = trailers
            .keys()
            .filter(|name| is_forbidden_in_trailers(name) || self.is_dropped(name, NOTHING_KEPT))
            .cloned()
            .collect();
        for name in doomed {
            trailers.remove(name);
        }
    }

    /// Drops from an upstream's answer the lines that speak to gatelet alone, and those that only
    /// gatelet may write.
    pub fn scrub_response(&self, fields: &mut Fields) {
        let mut doomed: Vec<HeaderName> = Vec::new();
        let mut sets_cookies = false;
        let mut connection = false;
        for name in fields.names() {
            if ORDINARY_IN_ANSWERS.contains(name) {
                continue;
            }
            let spelled = name.as_str().as_bytes();
            // Few names begin like one of these.
            if !matches!(
                spelled.first(),
                Some(b'c' | b'k' | b'p' | b's' | b't' | b'u' | b'x')
            ) {
                continue;
            }
            match spelled {
                // The one of them that an origin says too (RFC 9110 §11.7.1).
                b"proxy-authenticate" => {}
                b"connection" => connection = true,
                b"set-cookie" => sets_cookies = true,
                // A length beside it means nothing (RFC 9112 §6.3), and would frame what goes out.
                b"transfer-encoding" => doomed.extend([name.clone(), header::CONTENT_LENGTH]),
                _ if is_hop_by_hop(spelled) || spelled.starts_with(b"x-session-") => {
                    doomed.push(name.clone());
                }
                _ => {}
            }
        }
        if connection {
            connection_named(fields, |name| doomed.push(name));
            doomed.push(header::CONNECTION);
        }
        let sets_private = |name: &HeaderName, value: &[u8]| {
            *name == header::SET_COOKIE && self.is_private_cookie(cookie::pair_of(value))
        };
        if sets_cookies || !doomed.is_empty() {
            fields.retain(|name, value| !doomed.contains(name) && !sets_private(name, value));
        }
    }
}

/// Drops from an answer's trailers what must not stand there (RFC 9110 §6.5.1).
pub fn scrub_response_trailers(trailers: &mut HeaderMap) {
    let doomed: Vec<HeaderName> = trailers
        .keys()
        .filter(|name| is_forbidden_in_trailers(name) || name.as_str().starts_with("x-session-"))
        .cloned()
        .collect();
    for name in doomed {
        trailers.remove(name);
    }
}

fn is_forbidden_in_trailers(name: &HeaderName) -> bool {
    FORBIDDEN_IN_TRAILERS.binary_search(&name.as_str()).is_ok()
}

/// The field names that the `Connection` lines list.
fn named(fields: &Fields, lines: Lines) -> HashSet<HeaderName> {
    let mut named = HashSet::new();
    if lines.has(Line::Connection) {
        connection_named(fields, |name| {
            named.insert(name);
        });
    }
    named
}

/// Calls `found` for each field name that a `Connection` line lists.
fn connection_named(fields: &Fields, mut found: impl FnMut(HeaderName)) {
    let persistence = |token: &[u8]| {
        token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"close")
    };
    for value in fields.get_all(&header::CONNECTION) {
        // What nearly every line says.
        if persistence(value) {
            continue;
        }
        for token in value.split(|byte| *byte == b',') {
            let token = token.trim_ascii();
            if token.is_empty() || persistence(token) {
                continue;
            }
            // What is no field name can name no header.
            if let Ok(name) = HeaderName::from_bytes(token) {
                found(name);
            }
        }
    }
}

/// Whether a `Connection` line lists `option`.
pub fn connection_lists(fields: &Fields, option: &str) -> bool {
    fields.get_all(&header::CONNECTION).any(|value| {
        value
            .split(|byte| *byte == b',')
            .any(|token| token.trim_ascii().eq_ignore_ascii_case(option.as_bytes()))
    })
}

/// Whether the sender accepts trailers: a `TE` line lists `trailers` (RFC 9110 §10.1.4).
pub fn accepts_trailers(fields: &Fields) -> bool {
    fields.get_all(&header::TE).any(|value| {
        value
            .split(|byte| *byte == b',')
            .any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    })
}

/// `text` as a header value: bytes outside visible ASCII, and `%`, percent-encoded.
///
/// Spaces inside stay, so that a list of scopes is readable; the first and last may not be spaces.
pub fn encoded_value(text: &str) -> HeaderValue {
    let bytes = text.as_bytes();
    let mut encoded = String::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        let inner_space = *byte == b' ' && at != 0 && at + 1 != bytes.len();
        if inner_space || (byte.is_ascii_graphic() && *byte != b'%') {
            encoded.push(char::from(*byte));
        } else {
            const HEX: &[u8; 16] = b"0123456789ABCDEF";
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    HeaderValue::try_from(encoded).unwrap_or_else(|_| HeaderValue::from_static(""))
}

fn normalised(name: &[u8]) -> Box<[u8]> {
    name.iter().map(|byte| normalised_byte(*byte)).collect()
}

const fn normalised_byte(byte: u8) -> u8 {
    if byte.is_ascii_alphanumeric() {
        byte.to_ascii_lowercase()
    } else {
        b'-'
    }
}

fn normalise_into<'a>(name: &[u8], buffer: &'a mut [u8; LONGEST_ON_STACK]) -> Option<&'a [u8]> {
    let target = buffer.get_mut(..name.len())?;
    for (to, from) in target.iter_mut().zip(name) {
        *to = normalised_byte(*from);
    }
    Some(target)
}

#[cfg(test)]
mod tests;
