//! Who is calling through trusted proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::header::HeaderValue;
use ipnet::IpNet;

use crate::rules::fields::Fields;
use crate::rules::forwarded::{Caller, X_FORWARDED_FOR, X_REQUEST_ID, believed_request_id};

const PEER: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Each line is one of `X-Forwarded-For`.
///
/// Nobody is believed but through an unbroken chain of trusted proxies from the peer on, and how the
/// chain is broken into lines makes no difference.
pub fn forwarded(data: &[u8]) {
    let trusted: [IpNet; 3] = ["10.0.0.0/8", "fd00::/8", "::1/128"]
        .map(|network| network.parse().unwrap_or_else(|_| panic!("{network}")));
    let lines: Vec<HeaderValue> = data
        .split(|byte| *byte == b'\n')
        .filter_map(|line| HeaderValue::from_bytes(line).ok())
        .collect();
    let read = |lines: &[HeaderValue]| {
        let pairs = lines.iter().map(|line| (X_FORWARDED_FOR, line.clone()));
        let fields: Fields = pairs.collect();
        Caller::through(PEER, &fields, &trusted)
    };
    let caller = read(&lines);
    assert!(caller.through_trusted);

    let chain: Vec<&[u8]> = lines.iter().map(HeaderValue::as_bytes).collect();
    let chain = chain.join(&b',');
    let joined = HeaderValue::from_bytes(&chain).unwrap_or_else(|_| panic!("{chain:?}"));
    assert_eq!(read(&[joined]), caller);

    let mut expected = PEER;
    for hop in chain.split(|byte| *byte == b',').rev() {
        let is_trusted = trusted.iter().any(|network| network.contains(&expected));
        match address(hop).filter(|_| is_trusted) {
            Some(hop) => expected = hop,
            None => break,
        }
    }
    assert_eq!(caller.address, expected);

    let stranger = Caller::through([9, 9, 9, 9].into(), &Fields::default(), &trusted);
    assert!(!stranger.through_trusted);

    for line in lines {
        let fields = Fields::from_iter([(X_REQUEST_ID, line.clone())]);
        if let Some(id) = believed_request_id(&fields) {
            let said = id.as_bytes();
            assert_eq!(said, line.as_bytes());
            assert!(matches!(said.len(), 1..=128) && said.iter().all(u8::is_ascii_graphic));
        }
    }
}

/// An address in the forms that proxies write: bare, with a port, in brackets, and with both.
fn address(hop: &[u8]) -> Option<IpAddr> {
    let hop = str::from_utf8(hop).ok()?.trim_matches([' ', '\t']);
    let bare = match hop.strip_prefix('[') {
        Some(rest) => rest
            .strip_suffix("]")
            .and_then(|inner| inner.parse::<Ipv6Addr>().ok())
            .map(IpAddr::V6),
        None => hop.parse::<IpAddr>().ok(),
    };
    let address = bare.or_else(|| Some(hop.parse::<SocketAddr>().ok()?.ip()))?;
    Some(address.to_canonical())
}
