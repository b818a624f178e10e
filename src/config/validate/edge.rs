//! What callers and the upstream see around a request: realm, identity headers, CORS, matching.

use http::HeaderValue;

use super::super::problems::{Findings, quoted};
use super::super::raw::{Auth, Cors, CorsMode, Identity, MatchCase, Routing, TrailingSlash};
use super::bounded;
use crate::gateway;
use crate::rules::route::MatchOptions;

/// Headers that mean something to HTTP, to proxies or to gatelet: no key is read from them, and no
/// identity prefix may swallow them.
const TAKEN: [&str; 34] = [
    "accept",
    "accept-encoding",
    "access-control-request-headers",
    "access-control-request-method",
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-type",
    "cookie",
    "date",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "keep-alive",
    "origin",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "referer",
    "te",
    "traceparent",
    "tracestate",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-real-ip",
    "x-request-id",
];

/// `name` as an upstream may read it: lower case, every other character than a letter or digit a
/// `-`.
pub(super) fn folded(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            _ if c.is_ascii_alphanumeric() => c.to_ascii_lowercase(),
            _ => '-',
        })
        .collect()
}

/// The header of [`TAKEN`] that `name` is, in any spelling.
pub(super) fn taken(name: &str) -> Option<&'static str> {
    let name = folded(name);
    TAKEN.into_iter().find(|taken| *taken == name)
}

pub(super) fn matching(routing: &Routing) -> MatchOptions {
    MatchOptions {
        ignore_case: routing.match_case == MatchCase::Ignore,
        ignore_trailing_slash: routing.trailing_slash == TrailingSlash::Ignore,
    }
}

pub(super) fn realm(auth: &Auth, findings: &mut Findings) -> Box<str> {
    // It stands between quotes in a header (RFC 9110 §11.5).
    let good = |c: char| c == ' ' || (c.is_ascii_graphic() && !matches!(c, '"' | '\\'));
    if !auth.realm.chars().all(good) {
        let message = format!("{} cannot stand in a header", quoted(&auth.realm));
        let suggestion = "write it in ASCII, without quotes and backslashes";
        findings.problem_with("auth.realm", message, suggestion);
    }
    auth.realm.as_str().into()
}

/// The prefix of identity headers in lower case, where it is good.
pub(super) fn identity_prefix(identity: &Identity, findings: &mut Findings) -> Option<Box<str>> {
    const KEY: &str = "identity.prefix";
    const WAY_OUT: &str = "write it like \"x-auth-\"";
    let prefix = identity.prefix.to_ascii_lowercase();
    let plain = prefix
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !plain || !prefix.ends_with('-') || !prefix.starts_with(|c: char| c.is_ascii_alphanumeric())
    {
        let message = format!(
            "{} is not letters, digits and \"-\", with a \"-\" at its end",
            quoted(&identity.prefix)
        );
        findings.problem_with(KEY, message, WAY_OUT);
        return None;
    }
    if let Some(taken) = TAKEN.iter().find(|taken| taken.starts_with(&prefix)) {
        let message = format!("it would take {taken} away from every request");
        findings.problem_with(KEY, message, WAY_OUT);
        return None;
    }
    Some(prefix.into())
}

pub(super) fn cors(cors: &Cors, findings: &mut Findings) -> gateway::Cors {
    const KEY: &str = "cors.origins";
    if cors.origins.is_empty() && cors.mode == CorsMode::Answer {
        let suggestion = "write origins = [\"https://app.example.com\"]";
        findings.missing(KEY, "no origin may read an answer", suggestion);
    }
    let origins = origins(KEY, &cors.origins, findings);
    gateway::Cors {
        mode: match cors.mode {
            CorsMode::Answer => gateway::CorsMode::Answer,
            CorsMode::Forward => gateway::CorsMode::Forward,
        },
        origins,
        max_age: bounded("cors.max_age", cors.max_age, findings),
    }
}

/// The origins that stand at `key`, exactly as browsers send them.
pub(super) fn origins(key: &str, listed: &[String], findings: &mut Findings) -> Vec<HeaderValue> {
    let mut origins = Vec::with_capacity(listed.len());
    for origin in listed {
        match origin_value(origin) {
            Ok(value) => origins.push(value),
            Err(suggestion) => {
                let message = format!("{} is not an origin", quoted(origin));
                findings.problem_with(key, message, suggestion);
            }
        }
    }
    origins
}

/// An origin exactly as browsers send it (RFC 6454 §6.2), else how to write one.
fn origin_value(origin: &str) -> Result<HeaderValue, String> {
    if origin == "*" {
        return Err("answers carry credentials, so each origin is named".to_owned());
    }
    let example = || "write it like \"https://app.example.com\"".to_owned();
    let uri: http::Uri = origin.parse().map_err(|_| example())?;
    let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(example());
    };
    let default_port = match scheme {
        "http" => Some(80),
        "https" => Some(443),
        _ => None,
    };
    let host = authority.host().to_ascii_lowercase();
    let exact = match uri.port_u16().filter(|port| Some(*port) != default_port) {
        Some(port) => format!("{scheme}://{host}:{port}"),
        None => format!("{scheme}://{host}"),
    };
    if exact != origin {
        return Err(format!("browsers send {exact:?}"));
    }
    HeaderValue::from_str(origin).map_err(|_| example())
}
