//! Where a document is, and who vouches for the server there.

use std::fmt;
use std::net::IpAddr;

use http::Uri;

use crate::platform::Authorities;

/// Where a document is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    uri: Uri,
    authorities: Authorities,
}

/// Why a text is no location.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLocation {
    /// It is no URL of a host, or of another scheme than `http` and `https`.
    NotAUrl,
    /// It names a user.
    User,
    /// Whoever is on the way to another machine could answer in its stead.
    Insecure,
}

impl fmt::Display for BadLocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAUrl => "not a URL",
            Self::User => "a user or a password has no place in it",
            Self::Insecure => "without TLS, whoever is on the way could put keys of his own there",
        })
    }
}

impl std::error::Error for BadLocation {}

impl Location {
    /// Reads a URL: `https://…`, or `http://…` on loopback alone.
    pub fn parse(url: &str, authorities: Authorities) -> Result<Self, BadLocation> {
        let uri: Uri = url.parse().map_err(|_| BadLocation::NotAUrl)?;
        let authority = uri.authority().ok_or(BadLocation::NotAUrl)?;
        if authority.as_str().contains('@') {
            return Err(BadLocation::User);
        }
        let port = authority.as_str().strip_prefix(authority.host());
        let is_port =
            |port: &str| port.is_empty() || authority.port_u16().is_some_and(|port| port > 0);
        if authority.host().is_empty() || !port.is_some_and(is_port) {
            return Err(BadLocation::NotAUrl);
        }
        let location = Self { uri, authorities };
        match location.uri.scheme_str() {
            Some("https") => Ok(location),
            Some("http") if location.is_loopback() => Ok(location),
            Some("http") => Err(BadLocation::Insecure),
            _ => Err(BadLocation::NotAUrl),
        }
    }

    /// Whether both are one place, whoever vouches for the server.
    pub fn is_at(&self, other: &Self) -> bool {
        self.uri == other.uri
    }

    fn is_loopback(&self) -> bool {
        let host = self.host();
        let address: Result<IpAddr, _> = host.parse();
        address.map_or(host == "localhost", |address| address.is_loopback())
    }

    pub(super) fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// A name or an address, without brackets.
    pub(super) fn host(&self) -> &str {
        let host = self.uri.host().unwrap_or_default();
        let inner = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        inner.unwrap_or(host)
    }

    pub(super) fn port(&self) -> u16 {
        let usual = if self.is_tls() { 443 } else { 80 };
        self.uri.port_u16().unwrap_or(usual)
    }

    pub(super) fn authority(&self) -> &str {
        self.uri
            .authority()
            .map_or("", |authority| authority.as_str())
    }

    pub(super) fn target(&self) -> &str {
        self.uri
            .path_and_query()
            .map_or("/", |target| target.as_str())
    }

    pub(super) fn authorities(&self) -> &Authorities {
        &self.authorities
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.uri.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Location, BadLocation> {
        Location::parse(url, Authorities::OfMachine)
    }

    #[test]
    fn a_location_is_where_its_url_says() {
        for (url, host, port, target) in [
            (
                "https://id.example.com/jwks",
                "id.example.com",
                443,
                "/jwks",
            ),
            ("https://id.example.com", "id.example.com", 443, "/"),
            (
                "https://id.example.com:8443/a?b=c",
                "id.example.com",
                8443,
                "/a?b=c",
            ),
            ("https://[2001:db8::1]/k", "2001:db8::1", 443, "/k"),
            ("http://127.0.0.1:9000/k", "127.0.0.1", 9000, "/k"),
            ("http://[::1]/k", "::1", 80, "/k"),
            ("http://localhost/k", "localhost", 80, "/k"),
        ] {
            let location = parse(url).unwrap();
            let found = (location.host(), location.port(), location.target());
            assert_eq!(found, (host, port, target), "{url}");
            assert_eq!(location.is_tls(), url.starts_with("https"));
        }
    }

    #[test]
    fn keys_are_fetched_from_elsewhere_over_tls_alone() {
        for url in [
            "http://id.example.com/jwks",
            "http://10.0.0.1/jwks",
            "http://localhost.example/",
        ] {
            assert_eq!(parse(url), Err(BadLocation::Insecure), "{url}");
        }
        for url in [
            "",
            "jwks.json",
            "/jwks",
            "ftp://h/k",
            "https://",
            "https:///k",
            "https://h:x/",
            "https://h:/",
            "https://h:0/",
            "https://h:99999/",
        ] {
            assert_eq!(parse(url), Err(BadLocation::NotAUrl), "{url}");
        }
        assert_eq!(parse("https://ada:pw@h/k"), Err(BadLocation::User));
    }
}
