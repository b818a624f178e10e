//! Whether a request that carries the refresh cookie comes from a page that may send it.
//!
//! Pure. A browser adds the cookie to what any page asks for, so the cookie alone does not say who
//! asks (CSRF). Which origins may read an answer is another matter, which CORS settles.

use http::header::{self, HeaderName, HeaderValue};

use crate::rules::fields::{Fields, text};

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether a page that may use the refresh cookie sent this request, or no page at all.
///
/// `own` is the scheme and the host as the caller used them, like `https://api.example.com:8443`.
/// The first of these that applies decides:
///
/// 1. An `Origin` (Fetch §3.1) is there: it has to be the only one, and `own` or a listed one.
///    `Sec-Fetch-Site` is not asked: it says `cross-site` of listed pages too, and no word of it
///    redeems an origin that is `null` or a stranger's.
/// 2. A `Sec-Fetch-Site` (Fetch Metadata §2.3) is there: it has to be the only one, and
///    `same-origin`, or `none`, which says that the user and not a page asked. `same-site` does not
///    do: a neighbouring subdomain is a stranger until it is listed.
/// 3. Neither is there: it was not a browser, which would have sent the first with every POST, and
///    what is not a browser has no cookies of somebody else.
pub fn is_allowed(fields: &Fields, listed: &[HeaderValue], own: &str) -> bool {
    match only(fields, &header::ORIGIN) {
        Lines::One(origin) => is_known(origin, listed, own),
        Lines::Several => false,
        Lines::None => match only(fields, &SEC_FETCH_SITE) {
            Lines::One(site) => site == b"same-origin" || site == b"none",
            Lines::Several => false,
            Lines::None => true,
        },
    }
}

/// What stands under a name of which there may be one line.
enum Lines<'h> {
    None,
    One(&'h [u8]),
    Several,
}

fn only<'h>(fields: &'h Fields, name: &'h HeaderName) -> Lines<'h> {
    let mut values = fields.get_all(name);
    match (values.next(), values.next()) {
        (None, _) => Lines::None,
        (Some(value), None) => Lines::One(value),
        (Some(_), Some(_)) => Lines::Several,
    }
}

fn is_known(origin: &[u8], listed: &[HeaderValue], own: &str) -> bool {
    let Some(origin) = Origin::of(origin) else {
        return false;
    };
    Origin::parse(own).is_some_and(|own| own.is(&origin))
        || listed
            .iter()
            .filter_map(|listed| Origin::of(listed.as_bytes()))
            .any(|listed| listed.is(&origin))
}

/// A scheme, a host and a port (RFC 6454 §4).
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    /// The one that is said, else the scheme's own where it is known.
    port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn of(value: &'a [u8]) -> Option<Self> {
        Self::parse(text(value)?)
    }

    /// Reads `scheme "://" host [ ":" port ]` (RFC 6454 §6.2) and nothing around it; `null` is none.
    fn parse(text: &'a str) -> Option<Self> {
        let (scheme, authority) = text.split_once("://")?;
        // The colons inside an IPv6 address are not the port's.
        let address = authority.rfind(']').map_or(0, |at| at + 1);
        let (host, port) = match authority[address..].find(':') {
            Some(colon) => {
                let (host, port) = authority.split_at(address + colon);
                (host, &port[1..])
            }
            None => (authority, ""),
        };
        if scheme.is_empty() || host.is_empty() || !host.bytes().all(is_of_host) {
            return None;
        }
        let port = if port.is_empty() {
            default_port(scheme)
        } else if port.bytes().all(|byte| byte.is_ascii_digit()) {
            Some(port.parse().ok()?)
        } else {
            return None;
        };
        Some(Self { scheme, host, port })
    }

    /// Whether both are one origin; schemes and hosts have no case (RFC 3986 §6.2.2.1).
    fn is(&self, other: &Self) -> bool {
        self.scheme.eq_ignore_ascii_case(other.scheme)
            && self.host.eq_ignore_ascii_case(other.host)
            && self.port == other.port
    }
}

/// Whether a host can hold it, and not only what stands around a host in a longer text.
fn is_of_host(byte: u8) -> bool {
    byte.is_ascii_graphic() && !b"/?#@\\,\"<>".contains(&byte)
}

fn default_port(scheme: &str) -> Option<u16> {
    if scheme.eq_ignore_ascii_case("https") {
        Some(443)
    } else if scheme.eq_ignore_ascii_case("http") {
        Some(80)
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "https://api.example.com";

    fn judged_at(own: &str, lines: &[(&str, &str)]) -> bool {
        let mut fields = Fields::default();
        for (name, value) in lines {
            fields.append(
                HeaderName::from_bytes(name.as_bytes()).unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let listed = [
            "https://app.example.com",
            "http://localhost:5173",
            "capacitor://localhost",
            "null",
        ];
        is_allowed(&fields, &listed.map(HeaderValue::from_static), own)
    }

    fn judged(lines: &[(&str, &str)]) -> bool {
        judged_at(OWN, lines)
    }

    #[test]
    fn what_is_not_a_browser_may() {
        assert!(judged(&[]));
        assert!(judged(&[("referer", "https://evil.example/")]));
    }

    #[test]
    fn listed_origins_and_ones_own_may() {
        for origin in [
            OWN,
            "https://app.example.com",
            "http://localhost:5173",
            "capacitor://localhost",
            "https://api.example.com:443",
            "HTTPS://Api.Example.Com",
            "https://app.example.com:443",
        ] {
            assert!(judged(&[("origin", origin)]), "{origin}");
        }
    }

    #[test]
    fn other_origins_may_not() {
        for origin in [
            "",
            // Even where somebody lists it: each sandboxed page says so.
            "null",
            "NULL",
            "*",
            "https://evil.example",
            "http://api.example.com",
            "https://api.example.com:80",
            "http://api.example.com:443",
            "https://api.example.com:8443",
            "https://api.example.com.",
            "https://api.example.com.evil.example",
            "https://evil-api.example.com",
            "https://sub.api.example.com",
            "https://example.com",
            "https://api.example.com/",
            "https://api.example.com@evil.example",
            "https://user@api.example.com",
            "https://api.example.com https://evil.example",
            "https://evil.example, https://api.example.com",
            "https://api.example.com:443:443",
            "https://api.example.com:+443",
            "https://api.example.com:65979",
            "https://",
            "://api.example.com",
            "api.example.com",
            "//api.example.com",
            "http://localhost",
            "capacitor://localhost:80",
            "https://api.example.com\u{e9}",
        ] {
            assert!(!judged(&[("origin", origin)]), "{origin}");
        }
    }

    #[test]
    fn two_origins_are_none() {
        for second in [OWN, "https://app.example.com", "https://evil.example"] {
            assert!(!judged(&[("origin", OWN), ("origin", second)]), "{second}");
        }
    }

    #[test]
    fn an_origin_decides_whatever_the_site_is_said_to_be() {
        for site in ["same-origin", "same-site", "cross-site", "none", ""] {
            let with = |origin| judged(&[("origin", origin), ("sec-fetch-site", site)]);
            assert!(with("https://app.example.com"), "{site}");
            assert!(with(OWN), "{site}");
            assert!(!with("https://evil.example"), "{site}");
            assert!(!with("null"), "{site}");
        }
    }

    #[test]
    fn without_an_origin_the_site_decides() {
        for (site, may) in [
            ("same-origin", true),
            ("none", true),
            ("same-site", false),
            ("cross-site", false),
            ("", false),
            ("None", false),
            ("same-origin, cross-site", false),
            ("same-origin;a=b", false),
            ("same-origin ", false),
            ("unheard-of", false),
        ] {
            assert_eq!(judged(&[("sec-fetch-site", site)]), may, "{site}");
        }
        for second in ["same-origin", "cross-site"] {
            let lines = [
                ("sec-fetch-site", "same-origin"),
                ("sec-fetch-site", second),
            ];
            assert!(!judged(&lines), "{second}");
        }
    }

    #[test]
    fn ones_own_is_compared_with_ports_in_either_form() {
        for (own, origin, may) in [
            ("https://a.example:443", "https://a.example", true),
            ("https://a.example", "https://a.example:443", true),
            ("http://a.example:80", "http://a.example", true),
            ("http://a.example:", "http://a.example", true),
            ("https://A.example:8443", "https://a.example:8443", true),
            ("https://a.example:80", "https://a.example", false),
            ("http://a.example", "https://a.example", false),
            ("http://[::1]:8080", "http://[::1]:8080", true),
            ("http://[::1]", "http://[::1]:80", true),
            ("http://[::A]", "http://[::a]", true),
            ("http://[::1]", "http://[::1]:8080", false),
            ("http://[::1]x", "http://[::1]", false),
            ("", "", false),
            ("null", "null", false),
            ("https://", "https://", false),
        ] {
            assert_eq!(judged_at(own, &[("origin", origin)]), may, "{own} {origin}");
        }
    }

    #[test]
    fn nothing_listed_leaves_ones_own() {
        let mut fields = Fields::default();
        fields.insert(header::ORIGIN, HeaderValue::from_static(OWN));
        assert!(is_allowed(&fields, &[], OWN));
        assert!(!is_allowed(&fields, &[], "https://other.example"));
    }

    proptest! {
        /// By the reading of another library, what is allowed has this authority and no other.
        #[test]
        fn no_spelling_leads_elsewhere(
            origin in "(https?://)?(api\\.example\\.com|evil\\.example|[@:/?#\\\\,.0-9a]){1,4}(api\\.example\\.com)?(:[0-9]{1,6})?",
        ) {
            if judged(&[("origin", &origin)]) {
                let read: http::Uri = origin.parse().unwrap();
                prop_assert_eq!(read.scheme_str(), Some("https"));
                prop_assert_eq!(read.host(), Some("api.example.com"));
                prop_assert_eq!(read.port_u16().unwrap_or(443), 443);
            }
        }

        #[test]
        fn judging_never_panics(origin in "[\\PC\t]{0,40}", own: String) {
            let _ = judged_at(&own, &[("origin", &origin)]);
        }
    }
}
