//! Whether a message that was read is meant for here and now.

use std::fmt;
use std::time::Duration;

use super::Message;
use super::uri::Uri;
use crate::rules::time::Timestamp;

/// How far ahead of the clock here a message may say it was issued.
const MOST_AHEAD: Duration = Duration::from_secs(5 * 60);

/// What a message has to be bound to.
#[derive(Clone, Copy, Debug)]
pub struct Expected<'a> {
    /// The authorities that sign-ins are taken for.
    pub domains: &'a [Box<str>],
    /// The chains that sessions may be bound to.
    pub chains: &'a [u64],
    /// The time.
    pub now: Timestamp,
}

/// The binding that does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mismatch {
    /// The message was made for another site.
    Domain,
    /// The message names one scheme and its URI another.
    Scheme,
    /// The URI is not one of the message's domain, or neither http nor https.
    Uri,
    /// The message is bound to a chain that is not taken here.
    Chain,
    /// The message was issued later than any clock could disagree.
    IssuedAt,
    /// The message's expiration time has come.
    Expired,
    /// The message's time has not come yet.
    NotYetValid,
}

impl Mismatch {
    /// What does not hold, in words.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Domain => "the message is for another domain",
            Self::Scheme => "the message's scheme is not its URI's",
            Self::Uri => "the message's URI is not an http or https URI of its domain",
            Self::Chain => "the message is for a chain that is not accepted",
            Self::IssuedAt => "the message was issued in the future",
            Self::Expired => "the message has expired",
            Self::NotYetValid => "the message is not valid yet",
        }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for Mismatch {}

/// Judges each binding of a message by itself.
///
/// How old a message is does not matter: that its nonce is still good says that it is fresh. Who
/// signed it, and for which nonce, is for the caller to judge as well.
pub fn judge(message: &Message<'_>, expected: &Expected<'_>) -> Result<(), Mismatch> {
    let Expected {
        domains,
        chains,
        now,
    } = *expected;
    if !domains.iter().any(|domain| is_same(domain, message.domain)) {
        return Err(Mismatch::Domain);
    }
    judge_uri(message)?;
    if !chains.contains(&message.chain_id) {
        return Err(Mismatch::Chain);
    }
    if message.issued_at > now.plus(MOST_AHEAD) {
        return Err(Mismatch::IssuedAt);
    }
    if message.expiration_time.is_some_and(|end| end <= now) {
        return Err(Mismatch::Expired);
    }
    if message.not_before.is_some_and(|begin| begin > now) {
        return Err(Mismatch::NotYetValid);
    }
    Ok(())
}

/// The URI is the domain's, and spoken to by the scheme that the message names.
///
/// The standard leaves their relation open. A wallet shows its owner the domain and compares that
/// with the page alone, so that a URI of another site is one that nobody looked at.
fn judge_uri(message: &Message<'_>) -> Result<(), Mismatch> {
    let uri = Uri::parse(message.uri).ok_or(Mismatch::Uri)?;
    let is_web = ["http", "https"]
        .iter()
        .any(|scheme| uri.scheme.eq_ignore_ascii_case(scheme));
    let is_of_domain = uri
        .authority
        .is_some_and(|authority| is_same(authority, message.domain));
    if !is_web || !is_of_domain {
        return Err(Mismatch::Uri);
    }
    // Schemes know no case (RFC 3986 §3.1).
    if !message
        .scheme
        .is_none_or(|scheme| scheme.eq_ignore_ascii_case(uri.scheme))
    {
        return Err(Mismatch::Scheme);
    }
    Ok(())
}

/// Whether two authorities are one: a host knows no case (RFC 3986 §3.2.2), a user does.
///
/// A port that is the scheme's own and none are not the same here, and neither are two spellings
/// of an address.
fn is_same(one: &str, other: &str) -> bool {
    let split = |authority: &str| authority.rfind('@').map_or(0, |at| at + 1);
    let (user, place) = one.split_at(split(one));
    let (other_user, other_place) = other.split_at(split(other));
    user == other_user && place.eq_ignore_ascii_case(other_place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::wallet::Address;
    use proptest::prelude::*;

    const NOW: u64 = 1_700_000_000;

    fn message() -> Message<'static> {
        Message {
            scheme: None,
            domain: "app.example",
            address: Address([7; 20]),
            statement: None,
            uri: "https://app.example/login?a#b",
            chain_id: 1,
            nonce: "abcdefgh",
            issued_at: at(NOW),
            expiration_time: None,
            not_before: None,
            request_id: None,
            resources: Vec::new(),
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn judged(message: &Message<'_>) -> Result<(), Mismatch> {
        let domains = ["app.example", "App.example:8443", "[::a]:1"].map(Box::from);
        let expected = Expected {
            domains: &domains,
            chains: &[1, 8453],
            now: at(NOW),
        };
        judge(message, &expected)
    }

    #[test]
    fn the_domain_is_one_that_is_expected() {
        for (domain, uri) in [
            ("app.example", "https://app.example"),
            ("APP.Example", "http://app.eXample/"),
            ("app.example:8443", "https://app.example:8443/a"),
            ("[::A]:1", "https://[::a]:1"),
        ] {
            let message = Message {
                domain,
                uri,
                ..message()
            };
            assert_eq!(judged(&message), Ok(()), "{domain} {uri}");
        }
        for domain in [
            "",
            "example",
            "evil.example",
            "app.example.",
            "app.example:443",
            "app.example:",
            "app.example:8444",
            "sub.app.example",
            "app.example.evil.example",
            "user@app.example",
            "app.example@evil.example",
            "[::0a]:1",
        ] {
            let message = Message {
                domain,
                ..message()
            };
            assert_eq!(judged(&message), Err(Mismatch::Domain), "{domain}");
        }
    }

    #[test]
    fn the_uri_is_of_the_domain() {
        for uri in [
            "https://app.example",
            "http://app.example",
            "HTTPS://APP.EXAMPLE/",
            "https://app.example?@evil.example",
            "https://app.example#@evil.example",
            "https://app.example//evil.example/",
        ] {
            let message = Message { uri, ..message() };
            assert_eq!(judged(&message), Ok(()), "{uri}");
        }
        for uri in [
            "",
            "app.example",
            "//app.example/",
            "https:app.example",
            "https:/app.example",
            "https:///app.example",
            "ftp://app.example/",
            "wss://app.example/",
            "did:key:app.example",
            "https://app.example:443/",
            "https://app.example:8443/",
            "https://user@app.example/",
            "https://app.example@evil.example/",
            "https://evil.example/app.example",
            "https://app.example\\@evil.example/",
        ] {
            let message = Message { uri, ..message() };
            assert_eq!(judged(&message), Err(Mismatch::Uri), "{uri}");
        }
    }

    #[test]
    fn the_scheme_is_the_uris() {
        for (scheme, uri, expected) in [
            (Some("https"), "https://app.example", Ok(())),
            (Some("HTTPS"), "https://app.example", Ok(())),
            (Some("http"), "http://app.example", Ok(())),
            (Some("http"), "https://app.example", Err(Mismatch::Scheme)),
            (Some("https"), "http://app.example", Err(Mismatch::Scheme)),
            (Some("ftp"), "https://app.example", Err(Mismatch::Scheme)),
        ] {
            let message = Message {
                scheme,
                uri,
                ..message()
            };
            assert_eq!(judged(&message), expected, "{scheme:?} {uri}");
        }
    }

    #[test]
    fn the_chain_is_one_that_is_expected() {
        for (chain_id, expected) in [
            (1, Ok(())),
            (8453, Ok(())),
            (0, Err(Mismatch::Chain)),
            (10, Err(Mismatch::Chain)),
            (u64::MAX, Err(Mismatch::Chain)),
        ] {
            let message = Message {
                chain_id,
                ..message()
            };
            assert_eq!(judged(&message), expected, "{chain_id}");
        }
    }

    #[test]
    fn times_are_judged_to_the_nanosecond() {
        let after = |seconds: u64| Timestamp::from_nanoseconds(at(seconds).nanoseconds() + 1);
        for (issued_at, expected) in [
            (Timestamp::EPOCH, Ok(())),
            (at(NOW + 300), Ok(())),
            (after(NOW + 300), Err(Mismatch::IssuedAt)),
        ] {
            let message = Message {
                issued_at,
                ..message()
            };
            assert_eq!(judged(&message), expected, "{issued_at:?}");
        }
        for (end, expected) in [
            (after(NOW), Ok(())),
            (at(NOW), Err(Mismatch::Expired)),
            (at(NOW - 1), Err(Mismatch::Expired)),
        ] {
            let message = Message {
                expiration_time: Some(end),
                ..message()
            };
            assert_eq!(judged(&message), expected, "{end:?}");
        }
        for (begin, expected) in [
            (at(NOW), Ok(())),
            (after(NOW), Err(Mismatch::NotYetValid)),
            (at(NOW + 1), Err(Mismatch::NotYetValid)),
        ] {
            let message = Message {
                not_before: Some(begin),
                ..message()
            };
            assert_eq!(judged(&message), expected, "{begin:?}");
        }
    }

    #[test]
    fn nothing_is_expected_of_nothing() {
        let expected = Expected {
            domains: &[],
            chains: &[1],
            now: at(NOW),
        };
        assert_eq!(judge(&message(), &expected), Err(Mismatch::Domain));
    }

    proptest! {
        /// Whatever the URI, a message that is taken has no other authority in it than its own,
        /// by the reading of another library.
        #[test]
        fn no_uri_leads_elsewhere(
            uri in "(https?|ftp)://(app\\.example|evil\\.example|[@:/?#.a]){1,4}(app\\.example)?",
        ) {
            let message = Message { uri: &uri, ..message() };
            if judged(&message).is_ok() {
                let read: http::Uri = uri.parse().unwrap();
                prop_assert_eq!(read.host(), Some("app.example"));
                prop_assert_eq!(read.port_u16(), None);
            }
        }
    }
}
