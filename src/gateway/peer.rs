//! Who is calling: the peer on the socket, and what trusted proxies say of whoever is behind it.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request;
use http::uri::Authority;
use ipnet::IpNet;

use crate::upstream::head::Head;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// The name of the header that carries a request's id both ways.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken over from a trusted proxy.
const LONGEST_REQUEST_ID: usize = 128;

/// The other side of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address; an IPv4-mapped one as the IPv4 address it is.
    address: IpAddr,
    address_value: HeaderValue,
    /// `http`, or `https` where the connection is encrypted.
    scheme: &'static str,
    /// The names in the certificate that it showed.
    certificate: Option<HeaderValue>,
}

/// The caller of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Where the request comes from, as far back as it is believed.
    pub(super) address: IpAddr,
    /// The peer's forwarding headers are believed.
    pub(super) through_trusted: bool,
}

/// What the lines that pass say of how a request was forwarded to here.
#[derive(Default)]
pub(super) struct Forwarded<'a> {
    pub(super) host: Option<&'a HeaderValue>,
    /// The chain so far, where it is believed.
    chain: Vec<&'a HeaderValue>,
    says_proto: bool,
    says_host: bool,
}

impl<'a> Forwarded<'a> {
    /// Takes a line of a believed peer; true if gatelet writes it anew.
    pub(super) fn takes(&mut self, name: &HeaderName, value: &'a HeaderValue) -> bool {
        self.says_proto |= *name == X_FORWARDED_PROTO;
        self.says_host |= *name == X_FORWARDED_HOST;
        if *name == X_FORWARDED_FOR {
            self.chain.push(value);
        }
        *name == X_FORWARDED_FOR || *name == X_REQUEST_ID
    }
}

impl Peer {
    /// The peer at the other end of a connection, which may be encrypted, and the names in the
    /// certificate that it showed.
    pub fn new(remote: SocketAddr, over_tls: bool, certificate: Option<&str>) -> Self {
        let address = remote.ip().to_canonical();
        let address_value = HeaderValue::try_from(address.to_string())
            .unwrap_or_else(|_| HeaderValue::from_static("unknown"));
        // The names are visible ASCII.
        let certificate = certificate.and_then(|names| HeaderValue::from_str(names).ok());
        Self {
            address,
            address_value,
            scheme: if over_tls { "https" } else { "http" },
            certificate,
        }
    }

    /// The names in the certificate that it showed, as the upstream is told them.
    pub(super) fn certificate(&self) -> Option<&HeaderValue> {
        self.certificate.as_ref()
    }

    /// Who is calling through this peer.
    ///
    /// `X-Forwarded-For` is read from its end: each address that a trusted proxy added is
    /// believed, the first one that is not itself trusted is the caller.
    pub(super) fn caller(&self, headers: &HeaderMap, trusted: &[IpNet]) -> Caller {
        if trusted.is_empty() || !is_trusted(self.address, trusted) {
            return Caller {
                address: self.address,
                through_trusted: false,
            };
        }
        let mut address = self.address;
        let lines: Vec<&HeaderValue> = headers.get_all(X_FORWARDED_FOR).iter().collect();
        let hops = lines
            .iter()
            .rev()
            .flat_map(|line| line.as_bytes().rsplit(|byte| *byte == b','));
        for hop in hops {
            let Some(hop) = parse_hop(hop) else { break };
            address = hop;
            if !is_trusted(hop, trusted) {
                break;
            }
        }
        Caller {
            address,
            through_trusted: true,
        }
    }

    /// Writes the forwarding headers that the lines that pass do not say.
    pub(super) fn write_forwarded(&self, head: &mut Head, told: &Forwarded<'_>) {
        // As one line: some readers look at the first line alone.
        let chain = told.chain.iter().copied().chain([&self.address_value]);
        head.joined(&X_FORWARDED_FOR, ", ", chain);
        if !told.says_proto {
            head.line(&X_FORWARDED_PROTO, &HeaderValue::from_static(self.scheme));
        }
        if let Some(host) = told.host
            && !told.says_host
        {
            head.line(&X_FORWARDED_HOST, host);
        }
    }
}

/// The id that a trusted proxy gave the request, if it is fit to be logged and repeated.
pub(super) fn believed_request_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let id = headers.get(X_REQUEST_ID)?;
    let fit = !id.is_empty()
        && id.len() <= LONGEST_REQUEST_ID
        && id.as_bytes().iter().all(u8::is_ascii_graphic);
    // Copied: the value is a slice of the connection's buffer, and an answer outlives that.
    fit.then(|| HeaderValue::from_bytes(id.as_bytes()).ok())
        .flatten()
}

/// The scheme and the host that the caller used, as far as they are known.
pub(super) fn address_used<'p>(
    parts: &'p request::Parts,
    peer: &Peer,
    caller: Caller,
) -> (&'p str, &'p str) {
    let believed = |name| {
        let value = parts.headers.get(name).filter(|_| caller.through_trusted);
        value.and_then(|value| value.to_str().ok())
    };
    let own = parts.headers.get(header::HOST);
    let own = own.and_then(|host| host.to_str().ok());
    let own = parts.uri.authority().map(Authority::as_str).or(own);
    (
        believed(X_FORWARDED_PROTO).unwrap_or(peer.scheme),
        believed(X_FORWARDED_HOST).or(own).unwrap_or_default(),
    )
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// An address of `X-Forwarded-For`, with or without a port.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop).ok()?.trim();
    let address = match hop.parse::<SocketAddr>() {
        Ok(socket) => socket.ip(),
        Err(_) => hop
            .trim_start_matches('[')
            .trim_end_matches(']')
            .parse()
            .ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(peer: &str, lines: &[&'static str], trusted: &[&str]) -> (String, bool) {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let peer = Peer::new(SocketAddr::new(peer.parse().unwrap(), 1), false, None);
        let caller = peer.caller(&headers, &trusted);
        (caller.address.to_string(), caller.through_trusted)
    }

    #[test]
    fn a_stranger_is_who_its_socket_says() {
        let said = caller("9.9.9.9", &["1.1.1.1"], &["10.0.0.0/8"]);
        assert_eq!(said, ("9.9.9.9".to_owned(), false));
        let mapped = caller("::ffff:9.9.9.9", &[], &[]);
        assert_eq!(mapped, ("9.9.9.9".to_owned(), false));
    }

    #[test]
    fn trusted_hops_are_followed_back_to_the_first_stranger() {
        let net = ["10.0.0.0/8", "fd00::/8"];
        for (lines, expected) in [
            (&["6.6.6.6, 1.1.1.1"][..], "1.1.1.1"),
            (&["6.6.6.6", "1.1.1.1, 10.1.1.1"], "1.1.1.1"),
            (&["1.1.1.1:8080, [fd00::1]:99"], "1.1.1.1"),
            (&["6.6.6.6, nonsense, 10.1.1.1"], "10.1.1.1"),
            (&["10.2.2.2"], "10.2.2.2"),
            (&[], "10.0.0.1"),
        ] {
            assert_eq!(
                caller("10.0.0.1", lines, &net),
                (expected.to_owned(), true),
                "{lines:?}"
            );
        }
    }
}
