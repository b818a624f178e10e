//! What trusted proxies say of whoever is behind them.
//!
//! Pure. Which lines cross the gateway is `rules::headers`' matter; what gatelet itself writes of how
//! a request was forwarded is written in `gateway::peer`.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderName, HeaderValue};
use ipnet::IpNet;

use crate::rules::fields::Fields;

/// The chain of callers, the farthest first.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The name of the header that carries a request's id both ways.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The longest request id that is taken over from a trusted proxy.
const LONGEST_REQUEST_ID: usize = 128;

/// The caller of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Where the request comes from, as far back as it is believed.
    pub address: IpAddr,
    /// The peer's forwarding headers are believed.
    pub through_trusted: bool,
}

impl Caller {
    /// Who is calling through the peer at `peer`.
    ///
    /// `X-Forwarded-For` is read from its end: each address that a trusted proxy added is
    /// believed, the first one that is not itself trusted is the caller.
    pub fn through(peer: IpAddr, fields: &Fields, trusted: &[IpNet]) -> Self {
        if trusted.is_empty() || !is_trusted(peer, trusted) {
            return Self {
                address: peer,
                through_trusted: false,
            };
        }
        let mut address = peer;
        let name = X_FORWARDED_FOR;
        let hops = fields
            .get_all(&name)
            .rev()
            .flat_map(|line| line.rsplit(|byte| *byte == b','));
        for hop in hops {
            let Some(hop) = parse_hop(hop) else { break };
            address = hop;
            if !is_trusted(hop, trusted) {
                break;
            }
        }
        Self {
            address,
            through_trusted: true,
        }
    }
}

/// A request's id: what log lines and answers can be found by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestId {
    /// Made here: hexadecimal digits. In place, since every request has one in several places.
    Made([u8; 32]),
    /// Given by a trusted proxy.
    Believed(HeaderValue),
}

impl RequestId {
    /// The id as it is written.
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Made(digits) => digits,
            Self::Believed(value) => value.as_bytes(),
        }
    }

    /// Says it in an answer, in place of any other.
    pub fn write(self, fields: &mut Fields) {
        match self {
            Self::Made(digits) => fields.insert_word(X_REQUEST_ID, digits),
            Self::Believed(value) => fields.insert(X_REQUEST_ID, value),
        }
    }
}

/// The id that a trusted proxy gave the request, if it is fit to be logged and repeated.
pub fn believed_request_id(fields: &Fields) -> Option<RequestId> {
    let id = fields.get(&X_REQUEST_ID)?;
    let fit =
        !id.is_empty() && id.len() <= LONGEST_REQUEST_ID && id.iter().all(u8::is_ascii_graphic);
    let value = fit.then(|| HeaderValue::from_bytes(id).ok()).flatten();
    value.map(RequestId::Believed)
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|network| network.contains(&address))
}

/// An address of `X-Forwarded-For`, with or without a port; one of IPv6 may stand in brackets.
fn parse_hop(hop: &[u8]) -> Option<IpAddr> {
    let hop = std::str::from_utf8(hop.trim_ascii()).ok()?;
    if let Ok(socket) = hop.parse::<SocketAddr>() {
        return Some(socket.ip().to_canonical());
    }
    let bracketed = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = match bracketed {
        Some(inner) => IpAddr::V6(inner.parse().ok()?),
        None => hop.parse().ok()?,
    };
    Some(address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(peer: &str, lines: &[&'static str], trusted: &[&str]) -> (String, bool) {
        let mut fields = Fields::default();
        for line in lines {
            fields.append(X_FORWARDED_FOR, HeaderValue::from_static(line));
        }
        let trusted: Vec<IpNet> = trusted.iter().map(|net| net.parse().unwrap()).collect();
        let caller = Caller::through(peer.parse().unwrap(), &fields, &trusted);
        (caller.address.to_string(), caller.through_trusted)
    }

    #[test]
    fn a_stranger_is_who_its_socket_says() {
        let said = caller("9.9.9.9", &["1.1.1.1"], &["10.0.0.0/8"]);
        assert_eq!(said, ("9.9.9.9".to_owned(), false));
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
            (&["[fd00::1],[fd00::2]:1, fd00::3"], "fd00::1"),
            // What is not quite an address is none.
            (&["[fd00::1"], "10.0.0.1"),
            (&["fd00::1]"], "10.0.0.1"),
            (&["[[fd00::1]]"], "10.0.0.1"),
            (&["[1.1.1.1]"], "10.0.0.1"),
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
