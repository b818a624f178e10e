//! Which pages may use the refresh cookie.

use http::header::{self, HeaderName, HeaderValue};

use crate::request;
use crate::rules::origin::is_allowed;

const LISTED: [&str; 3] = ["https://app.example.com", "http://localhost:5173", "null"];

/// The first line is gatelet's own origin; the rest are header lines.
///
/// Whoever is allowed by an `Origin` wrote one that is listed but for case and a port that goes
/// without saying; who says two things is not allowed.
pub fn origins(data: &[u8]) {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let own = str::from_utf8(parts.next().unwrap_or_default()).unwrap_or_default();
    let fields = request::lines(parts.next().unwrap_or_default());
    let listed = LISTED.map(HeaderValue::from_static);
    if !is_allowed(&fields, &listed, own) {
        return;
    }
    let mut said = fields.get_all(&header::ORIGIN);
    let Some(origin) = said.next() else {
        let name = HeaderName::from_static("sec-fetch-site");
        let mut sites = fields.get_all(&name);
        assert!(
            sites
                .next()
                .is_none_or(|site| site == b"same-origin" || site == b"none")
        );
        assert!(sites.next().is_none());
        return;
    };
    assert!(said.next().is_none(), "one of two origins is allowed");
    let origin = HeaderValue::from_bytes(origin).unwrap_or_else(|_| panic!("{origin:?}"));
    let origin = origin.to_str().unwrap_or_else(|_| panic!("{origin:?}"));
    let own = [own];
    let known = LISTED[..2].iter().chain(&own);
    assert!(
        known
            .map(|known| plain(known))
            .any(|known| known == plain(origin)),
        "{origin} is not listed"
    );
    let (_, rest) = origin
        .split_once("://")
        .unwrap_or_else(|| panic!("{origin}"));
    assert!(!rest.is_empty() && !rest.contains(['/', '@', '?', '#', '\\', ' ', ',']));
}

/// An origin in lower case, without a port that its scheme implies.
fn plain(origin: &str) -> String {
    let mut plain = origin.to_ascii_lowercase();
    let digits = plain.len()
        - plain
            .trim_end_matches(|digit: char| digit.is_ascii_digit())
            .len();
    let (rest, port) = plain.split_at(plain.len() - digits);
    if let Some(rest) = rest.strip_suffix(':') {
        let port = port.trim_start_matches('0');
        let implied = (rest.starts_with("https://") && port == "443")
            || (rest.starts_with("http://") && port == "80")
            || (digits == 0);
        plain = if implied {
            rest.to_owned()
        } else {
            format!("{rest}:{port}")
        };
    }
    plain
}
