//! The peer on the socket, and what an upstream is told of how a request came.
//!
//! Who is calling through a trusted proxy is judged in `rules::forwarded`.

use std::net::{IpAddr, SocketAddr};

use http::header::{self, HeaderName, HeaderValue};
use http::uri::Authority;
use ipnet::IpNet;

use crate::rules::fields::{Fields, text};
use crate::rules::forwarded::{Caller, X_FORWARDED_FOR, X_REQUEST_ID};
use crate::upstream::head::Head;
use crate::wire::message::Request;

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// The other side of a connection.
#[derive(Debug)]
pub struct Peer {
    /// Its address; an IPv4-mapped one as the IPv4 address it is.
    address: IpAddr,
    address_value: HeaderValue,
    /// `http`, or `https` where the connection is encrypted.
    scheme: &'static str,
    /// What an upstream is told of it, where no other proxy has told anything, as lines.
    lines: Box<[u8]>,
    /// The names in the certificate that it showed.
    certificate: Option<HeaderValue>,
}

/// What the lines that pass say of how a request was forwarded to here.
#[derive(Default)]
pub(super) struct Forwarded<'a> {
    pub(super) host: Option<&'a [u8]>,
    /// The chain so far, where it is believed.
    chain: Vec<&'a [u8]>,
    says_proto: bool,
    says_host: bool,
}

impl<'a> Forwarded<'a> {
    /// Takes a line of a believed peer; true if gatelet writes it anew.
    pub(super) fn takes(&mut self, name: &HeaderName, value: &'a [u8]) -> bool {
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
        let scheme = if over_tls { "https" } else { "http" };
        let lines = format!("{X_FORWARDED_FOR}: {address}\r\n{X_FORWARDED_PROTO}: {scheme}\r\n");
        Self {
            address,
            address_value,
            scheme,
            lines: lines.into_bytes().into(),
            certificate,
        }
    }

    /// The names in the certificate that it showed, as the upstream is told them.
    pub(super) fn certificate(&self) -> Option<&HeaderValue> {
        self.certificate.as_ref()
    }

    /// Who is calling through this peer.
    pub(super) fn caller(&self, fields: &Fields, trusted: &[IpNet]) -> Caller {
        Caller::through(self.address, fields, trusted)
    }

    /// Writes the forwarding headers that the lines that pass do not say.
    pub(super) fn write_forwarded(&self, head: &mut Head, told: &Forwarded<'_>) {
        match head {
            Head::Http1(head) if told.chain.is_empty() && !told.says_proto => {
                head.written(&self.lines);
            }
            _ => {
                // As one line: some readers look at the first line alone.
                let own = [self.address_value.as_bytes()];
                let chain = told.chain.iter().copied().chain(own);
                head.joined(&X_FORWARDED_FOR, ", ", chain);
                if !told.says_proto {
                    head.line(&X_FORWARDED_PROTO, self.scheme.as_bytes());
                }
            }
        }
        if let Some(host) = told.host
            && !told.says_host
        {
            head.line(&X_FORWARDED_HOST, host);
        }
    }
}

/// The scheme and the host that the caller used, as far as they are known.
pub(super) fn address_used<'p>(
    request: &'p Request,
    peer: &Peer,
    caller: Caller,
) -> (&'p str, &'p str) {
    let believed = |name| {
        let value = request.fields.get(name).filter(|_| caller.through_trusted);
        value.and_then(text)
    };
    let own = request.fields.get(&header::HOST).and_then(text);
    let own = request.uri.authority().map(Authority::as_str).or(own);
    (
        believed(&X_FORWARDED_PROTO).unwrap_or(peer.scheme),
        believed(&X_FORWARDED_HOST).or(own).unwrap_or_default(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapped_address_is_the_one_it_maps() {
        let peer = Peer::new("[::ffff:9.9.9.9]:1".parse().unwrap(), false, None);
        let caller = peer.caller(&Fields::default(), &[]);
        assert_eq!(caller.address.to_string(), "9.9.9.9");
    }
}
