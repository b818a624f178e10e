//! Heads put together at random, against a reading of paths that is not gatelet's own.

use std::collections::BTreeSet;

use super::{WIDE, assert_unforged};
use crate::harness::{Client, Random, Upstream, World};

/// How many heads are tried; `GATELET_FUZZ_CASES` asks for more.
fn cases() -> usize {
    std::env::var("GATELET_FUZZ_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(4000)
}

const SEGMENTS: &[&str] = &[
    "public",
    "admin",
    "ADMIN",
    "Admin",
    "adm%69n",
    "%61dmin",
    "adm%2569n",
    "..",
    ".",
    "%2e%2e",
    "%2E.",
    ".%2e",
    "%252e%252e",
    "..;",
    "..;a=b",
    "..%3b",
    ";",
    ";x",
    "",
    "x",
    "public;v=1",
    "admin;v=1",
    "admin%23",
    "admin%3f",
    "admin%20",
    "..%00",
    "%5c",
    "%c0%ae%c0%ae",
    "a%2fb",
    "..%5c..",
    "administrator",
];

const SEPARATORS: &[&str] = &[
    "/", "/", "/", "/", "/", "/", "//", "%2f", "%2F", "\\", "%5c", "%252f", "%255c", "/./", "/;/",
    "?", "#", "%3f", "%23",
];

const NAMES: &[&str] = &[
    "x-auth-subject",
    "X-Auth-Subject",
    "X_Auth_Subject",
    "x.auth.methods",
    "x~auth~key-id",
    "connection",
    "Connection",
    "x-forwarded-for",
    "x_forwarded_host",
    "X-Original-URL",
    "x-rewrite_url",
    "x-http-method-override",
    "forwarded",
    "x-real-ip",
    "x-api-key",
    "x_api_key",
    "authorization",
    "cookie",
    "te",
    "upgrade",
    "accept",
    "x-request-id",
    "origin",
    "access-control-request-method",
    "traceparent",
    "x-plain",
    "expect-ct",
    "proxy-authorization",
    "keep-alive",
];

const VALUES: &[&str] = &[
    "root",
    "root-forged",
    "close, x-auth-subject",
    "keep-alive",
    "x-auth-subject",
    "X_Auth_Subject, te",
    "/admin",
    "Bearer x",
    "Bearer ",
    "gk_0000000000000000000000000000000000000000000000000",
    "websocket",
    "h2c",
    "trailers",
    "",
    "forged",
    "127.0.0.1",
    "GET",
    "a=b; c=d",
    "https://app.example.com",
    "\u{ff}",
];

const METHODS: &[&str] = &["GET", "GET", "GET", "OPTIONS", "DELETE", "PROPFIND"];

fn head(random: &mut Random) -> Vec<u8> {
    let mut target = String::from("/");
    for part in 0..=random.below(5) {
        if part > 0 {
            target.push_str(random.pick(SEPARATORS));
        }
        target.push_str(random.pick(SEGMENTS));
    }
    if random.below(12) == 0 {
        target = format!("http://api.test{target}");
    }
    let mut text = format!(
        "{} {target} HTTP/1.1\r\nhost: api.test\r\n",
        random.pick(METHODS)
    );
    for _ in 0..random.below(6) {
        text.push_str(random.pick(NAMES));
        text.push_str(random.pick(&[": ", ":", ":  "]));
        text.push_str(random.pick(VALUES));
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    text.chars()
        .map(|c| u8::try_from(u32::from(c)).unwrap())
        .collect()
}

/// Whether some upstream might serve this target from below `/admin`.
///
/// Applies every leniency, alone and after each other, until no new reading comes; escapes are
/// decoded at most twice.
fn may_be_admin(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    let mut readings = BTreeSet::from([(0_u8, path.to_owned())]);
    let mut pending: Vec<(u8, String)> = readings.iter().cloned().collect();
    while let Some((decoded, reading)) = pending.pop() {
        let mut next = vec![
            (decoded, reading.to_ascii_lowercase()),
            (decoded, reading.replace('\\', "/")),
            (decoded, strip_parameters(&reading)),
            (decoded, collapse(&reading)),
            (decoded, resolve(&reading)),
            (decoded, trim_spaces(&reading)),
            (
                decoded,
                reading
                    .split(['#', '?'])
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ),
        ];
        if decoded < 2 {
            next.push((decoded + 1, decode(&reading)));
        }
        for reading in next {
            if readings.insert(reading.clone()) {
                pending.push(reading);
            }
        }
    }
    readings
        .iter()
        .any(|(_, reading)| reading == "/admin" || reading.starts_with("/admin/"))
}

fn strip_parameters(path: &str) -> String {
    let stripped: Vec<&str> = path
        .split('/')
        .map(|segment| segment.split(';').next().unwrap_or_default())
        .collect();
    stripped.join("/")
}

fn trim_spaces(path: &str) -> String {
    let trimmed: Vec<&str> = path
        .split('/')
        .map(|segment| segment.trim_end_matches([' ', '\u{a0}']))
        .collect();
    trimmed.join("/")
}

fn collapse(path: &str) -> String {
    let mut path = path.to_owned();
    while path.contains("//") {
        path = path.replace("//", "/");
    }
    path
}

fn resolve(path: &str) -> String {
    let mut kept: Vec<&str> = Vec::new();
    for segment in path.split('/').skip(1) {
        match segment {
            "." => {}
            ".." => {
                kept.pop();
            }
            other => kept.push(other),
        }
    }
    format!("/{}", kept.join("/"))
}

fn decode(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut decoded = String::new();
    let mut at = 0;
    while at < bytes.len() {
        let escape = (bytes[at] == b'%')
            .then(|| path.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        if let Some(byte) = escape {
            decoded.push(char::from(byte));
            at += 3;
        } else {
            decoded.push(char::from(bytes[at]));
            at += 1;
        }
    }
    decoded
}

#[test]
fn no_random_head_reaches_the_guarded_path_or_forges_a_header() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, WIDE);
    let mut random = Random::seeded(0x6761_7465_6c65_7401);
    let mut client: Option<Client> = None;
    let mut through = 0;
    for case in 0..cases() {
        let bytes = head(&mut random);
        let shown = || format!("case {case}: {}", String::from_utf8_lossy(&bytes));
        let connection = client.get_or_insert_with(|| world.connect());
        let status = match connection.send(&bytes).try_response("GET") {
            Ok(response) => {
                if response.headers.all("connection") == ["close"] {
                    client = None;
                }
                response.status
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                panic!("no answer: {}", shown())
            }
            Err(_) => {
                client = None;
                0
            }
        };
        assert!(status < 500, "{status}: {}", shown());
        let received = upstream.received();
        assert_eq!(
            received.len(),
            usize::from(status == 200),
            "{status}: {}",
            shown()
        );
        for seen in &received {
            through += 1;
            assert!(
                !may_be_admin(&seen.target),
                "{} in {}",
                seen.target,
                shown()
            );
            assert_unforged(seen, None);
        }
        upstream.take();
    }
    upstream.assert_sane();
    // A run in which nothing passes, or everything does, has tested nothing.
    assert!(
        through > cases() / 50 && through < cases() / 2,
        "{through} passed"
    );
}

#[test]
fn the_readings_here_find_the_known_ways_in() {
    for target in [
        "/admin",
        "/ADMIN/x",
        "//admin",
        "/public/../admin",
        "/public/..;/admin",
        "/public/%252e%252e%252fadmin",
        "/public\\..\\admin",
        "/admin%23/public",
        "/admin;x",
        "/adm%2569n",
        "/admin%20",
    ] {
        assert!(may_be_admin(target), "{target}");
    }
    for target in [
        "/public",
        "/administrator",
        "/public/admin",
        "/public?x=/../admin",
        "/",
    ] {
        assert!(!may_be_admin(target), "{target}");
    }
}
