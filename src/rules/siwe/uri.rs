//! URIs and authorities, by the whole grammar of RFC 3986.
//!
//! Nothing is normalised or decoded: what is compared with these is compared as it is written.

/// The parts of a URI that a sign-in is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Uri<'a> {
    /// Before the first colon.
    pub scheme: &'a str,
    /// Between `//` and the path, where there is one.
    pub authority: Option<&'a str>,
}

impl<'a> Uri<'a> {
    /// Reads `scheme ":" hier-part [ "?" query ] [ "#" fragment ]` (RFC 3986 §3).
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (hierarchy, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = match hierarchy.strip_prefix("//") {
            Some(rest) => {
                // A path that follows an authority begins with a slash or is empty (§3.3).
                let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
                (Some(authority), path)
            }
            None => (None, hierarchy),
        };
        let well_formed = is_scheme(scheme)
            && authority.is_none_or(is_authority)
            && is_made_of(path, |byte| is_path_character(byte) || byte == b'/')
            && [query, fragment].into_iter().all(is_query);
        well_formed.then_some(Self { scheme, authority })
    }
}

/// `ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )` (RFC 3986 §3.1).
pub(super) fn is_scheme(text: &str) -> bool {
    let of_scheme = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    text.starts_with(|first: char| first.is_ascii_alphabetic()) && text.bytes().all(of_scheme)
}

/// `[ userinfo "@" ] host [ ":" port ]` (RFC 3986 §3.2), which may be empty.
pub(super) fn is_authority(text: &str) -> bool {
    let (user, place) = match text.rsplit_once('@') {
        Some((user, place)) => (user, place),
        None => ("", text),
    };
    let is_user = is_made_of(user, |byte| is_name_character(byte) || byte == b':');
    is_user && is_host_and_port(place)
}

/// Whether `text` is `*pchar` (RFC 3986 §3.3).
pub(super) fn is_segment(text: &str) -> bool {
    is_made_of(text, is_path_character)
}

/// `*( pchar / "/" / "?" )`, which queries and fragments are (RFC 3986 §3.4, §3.5).
fn is_query(text: &str) -> bool {
    is_made_of(text, |byte| {
        is_path_character(byte) || matches!(byte, b'/' | b'?')
    })
}

/// `host [ ":" port ]` (RFC 3986 §3.2.2, §3.2.3). An IPv4 address is a name by its letters.
fn is_host_and_port(text: &str) -> bool {
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(literal) = text.strip_prefix('[') {
        let Some((address, rest)) = literal.split_once(']') else {
            return false;
        };
        return is_ip_literal(address)
            && (rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port));
    }
    let (name, port) = text.split_once(':').unwrap_or((text, ""));
    is_made_of(name, is_name_character) && is_port(port)
}

/// What stands in brackets: `IPv6address / IPvFuture` (RFC 3986 §3.2.2).
fn is_ip_literal(text: &str) -> bool {
    match text.strip_prefix(['v', 'V']) {
        Some(future) => future.split_once('.').is_some_and(|(version, address)| {
            !version.is_empty()
                && version.bytes().all(|byte| byte.is_ascii_hexdigit())
                && !address.is_empty()
                && address
                    .bytes()
                    .all(|byte| is_unreserved(byte) || is_delimiter(byte) || byte == b':')
        }),
        None => is_ipv6(text),
    }
}

/// Eight groups, or fewer and one `::` in place of one group or more; the last two may be
/// written as an IPv4 address.
fn is_ipv6(text: &str) -> bool {
    match text.split_once("::") {
        // A second `::` leaves an empty group behind.
        Some((before, after)) => match (groups(before, false), groups(after, true)) {
            (Some(before), Some(after)) => before + after <= 7,
            _ => false,
        },
        None => groups(text, true) == Some(8),
    }
}

/// How many groups of 16 bits there are, an IPv4 address at the end being two of them.
fn groups(text: &str, ends: bool) -> Option<usize> {
    if text.is_empty() {
        return Some(0);
    }
    let (most, last) = match text.rsplit_once(':') {
        Some((most, last)) => (Some(most), last),
        None => (None, text),
    };
    let is_group = |group: &str| {
        matches!(group.len(), 1..=4) && group.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let at_end = if is_group(last) {
        1
    } else if ends && is_ipv4(last) {
        2
    } else {
        return None;
    };
    match most {
        Some(most) => most
            .split(':')
            .all(is_group)
            .then(|| most.split(':').count() + at_end),
        None => Some(at_end),
    }
}

/// Four numbers up to 255 without leading zeros.
fn is_ipv4(text: &str) -> bool {
    let is_octet = |octet: &str| {
        octet.bytes().all(|byte| byte.is_ascii_digit())
            && (octet.len() == 1 || !octet.starts_with('0'))
            && octet.parse::<u8>().is_ok()
    };
    text.split('.').count() == 4 && text.split('.').all(is_octet)
}

/// Whether `text` is made of escapes and of bytes that are `allowed`.
fn is_made_of(text: &str, allowed: impl Fn(u8) -> bool) -> bool {
    let mut rest = text.as_bytes();
    loop {
        rest = match rest {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..] if allowed(*byte) => rest,
            _ => return false,
        };
    }
}

/// `pchar` but for escapes (RFC 3986 §3.3).
fn is_path_character(byte: u8) -> bool {
    is_name_character(byte) || matches!(byte, b':' | b'@')
}

/// `reg-name`'s characters but for escapes (RFC 3986 §3.2.2).
fn is_name_character(byte: u8) -> bool {
    is_unreserved(byte) || is_delimiter(byte)
}

/// `unreserved` (RFC 3986 §2.3).
pub(super) fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// `reserved` (RFC 3986 §2.2).
pub(super) fn is_reserved(byte: u8) -> bool {
    is_delimiter(byte) || matches!(byte, b':' | b'/' | b'?' | b'#' | b'[' | b']' | b'@')
}

/// `sub-delims` (RFC 3986 §2.2).
fn is_delimiter(byte: u8) -> bool {
    matches!(
        byte,
        b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';' | b'='
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn uris_are_taken_apart() {
        for (text, scheme, authority) in [
            // The examples of RFC 3986 §1.1.2.
            (
                "ftp://ftp.is.co.za/rfc/rfc1808.txt",
                "ftp",
                Some("ftp.is.co.za"),
            ),
            (
                "http://www.ietf.org/rfc/rfc2396.txt",
                "http",
                Some("www.ietf.org"),
            ),
            (
                "ldap://[2001:db8::7]/c=GB?objectClass?one",
                "ldap",
                Some("[2001:db8::7]"),
            ),
            ("mailto:John.Doe@example.com", "mailto", None),
            ("news:comp.infosystems.www.servers.unix", "news", None),
            ("tel:+1-816-555-1212", "tel", None),
            ("telnet://192.0.2.16:80/", "telnet", Some("192.0.2.16:80")),
            (
                "urn:oasis:names:specification:docbook:dtd:xml:4.1.2",
                "urn",
                None,
            ),
            // Each part absent, empty and full.
            ("a:", "a", None),
            ("a+-.0Z:/b//c", "a+-.0Z", None),
            ("a://", "a", Some("")),
            ("a:////b", "a", Some("")),
            ("a://u:p@h:1/p;x=1/@:?q/?:@#f/?:@", "a", Some("u:p@h:1")),
            ("a://h?q", "a", Some("h")),
            ("a://h#f?q", "a", Some("h")),
            ("a:?#", "a", None),
            ("a:%41%e2%82%aC", "a", None),
            ("a://%41:/", "a", Some("%41:")),
            // What a reader in a hurry would take for `example.com`'s.
            (
                "https://example.com@evil.example/",
                "https",
                Some("example.com@evil.example"),
            ),
            (
                "https://evil.example#@example.com",
                "https",
                Some("evil.example"),
            ),
            (
                "https://evil.example?@example.com",
                "https",
                Some("evil.example"),
            ),
        ] {
            assert_eq!(Uri::parse(text), Some(Uri { scheme, authority }), "{text}");
        }
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        for text in [
            "",
            "a",
            ":",
            ":a",
            "//a",
            "/a",
            "1a:b",
            "+a:b",
            "a b:c",
            "a_b:c",
            "é:a",
            "a:b c",
            "a:b\"",
            "a:<b>",
            "a:b\\c",
            "a:b^",
            "a:b`",
            "a:{b}",
            "a:b|c",
            "a:é",
            "a:b\u{7f}",
            "a:b\tc",
            "a:%",
            "a:%4",
            "a:%4g",
            "a:%g4",
            "a:[b]",
            "a:b?[",
            "a:b#c#d",
            "a:b#[",
            "a://[::1]b/",
            "a://[::1",
            "a://::1]/",
            "a://[]/",
            "a://[::1]:a/",
            "a://h:80a/",
            "a://h:80:81/",
            "a://u@v@h/",
            "a://u[@h/",
            "a://h[/",
            "a://h\\@i/",
        ] {
            assert_eq!(Uri::parse(text), None, "{text:?}");
        }
    }

    /// Every alternative of `IPv6address` (RFC 3986 §3.2.2) at its longest and its shortest.
    #[test]
    fn ipv6_addresses_are_those_of_the_grammar() {
        for text in [
            "1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7.7.8.8",
            "::2:3:4:5:6:7:8",
            "::2:3:4:5:6:7.7.8.8",
            "1::3:4:5:6:7:8",
            "1:2::4:5:6:7:8",
            "1:2:3::5:6:7:8",
            "1:2:3:4::6:7:8",
            "1:2:3:4:5::7:8",
            "1:2:3:4:5::7.7.8.8",
            "1:2:3:4:5:6::8",
            "1:2:3:4:5:6:7::",
            "::",
            "::1",
            "1::",
            "::255.249.99.0",
            "ABCD:ef01::",
        ] {
            assert!(is_authority(&format!("[{text}]")), "{text}");
        }
        for text in [
            "",
            ":",
            ":::",
            "1",
            "1:2:3:4:5:6:7",
            "1:2:3:4:5:6:7:8:9",
            "1:2:3:4:5:6:7:8.8.9.9",
            "1:2:3:4:5:6.6.7.7",
            "1:2:3:4:5:6:7.7.8.8:9",
            "::1:2:3:4:5:6:7:8",
            "1:2:3:4:5:6:7:8::",
            "1:2:3:4::5:6:7:8",
            "1:2:3:4:5:6::7.7.8.8",
            "1::2::3",
            ":1::",
            "::1:",
            "1:::2",
            "12345::",
            "g::",
            "::1%25eth0",
            "::1.2.3",
            "::1.2.3.4.5",
            "::1.2.3.256",
            "::1.2.3.1000",
            "::01.2.3.4",
            "::+1.2.3.4",
            "::1.2..4",
            "1.2.3.4::",
            "1.2.3.4",
        ] {
            assert!(!is_authority(&format!("[{text}]")), "{text}");
        }
    }

    #[test]
    fn authorities_are_those_of_the_grammar() {
        for text in [
            "",
            "example.com",
            "example.com.",
            "localhost:4361",
            "h:",
            ":80",
            "127.0.0.1",
            "999.0.0.01",
            "user:pass:word@h",
            "@h",
            "%75ser@%68",
            "a!$&'()*+,;=-._~z",
            "[::1]:80",
            "[::1]:",
            "u@[::1]:80",
            "[v1.a]",
            "[VfF.a:b!]:80",
        ] {
            assert!(is_authority(text), "{text:?}");
        }
        for text in [
            " ", "a b", "a/b", "a?b", "a#b", "a@b@c", "a:b", "a:1:2", "a%2", "é", "[v.a]", "[v1.]",
            "[v1]", "[vg.a]", "[v1.a/b]", "[v1.%41]", "[::1]a", "a[::1]", "[[::1]]",
        ] {
            assert!(!is_authority(text), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn addresses_are_those_of_the_standard_library(
            text in "(([0-9a-fA-F]{1,5})?::?){1,8}([0-9a-f]{1,4}|([0-2]?[0-9]{1,2}\\.){3}[0-9]{1,3})?",
        ) {
            let address = text.parse::<std::net::Ipv6Addr>();
            prop_assert_eq!(is_ipv6(&text), address.is_ok());
        }

        #[test]
        fn every_address_is_taken(address: std::net::Ipv6Addr) {
            let literal = format!("[{address}]");
            prop_assert!(is_authority(&literal), "{}", literal);
        }

        #[test]
        fn a_uri_is_put_together_again(text in "[a-c:/?#@%\\[\\]0-9. -]{0,24}") {
            if let Some(uri) = Uri::parse(&text) {
                let mut again = format!("{}:", uri.scheme);
                if let Some(authority) = uri.authority {
                    again.push_str("//");
                    again.push_str(authority);
                }
                prop_assert!(text.starts_with(&again));
            }
        }

        #[test]
        fn reading_never_panics(text in ".{0,60}") {
            let _ = (Uri::parse(&text), is_authority(&text), is_segment(&text));
        }
    }
}
