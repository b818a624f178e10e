//! The PROXY protocol, versions 1 and 2: who is really calling, as a proxy says it before the
//! first byte of its caller's.
//!
//! After <https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>, whose sections are named below.
//! Pure: whether the peer is believed at all is not judged here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// What version 2 begins with (§2.2); no request of HTTP or TLS does.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with (§2.1).
const PREFIX: &[u8; 6] = b"PROXY ";

/// The longest line of version 1, its end included (§2.1).
const LONGEST_LINE: usize = 107;

/// The signature, version and command, family and protocol, length.
const FIXED: usize = 16;

/// How long the addresses and what is said besides may be. The specification lets it be 64 KiB; what
/// load balancers say is some hundred bytes.
const LONGEST_SAID: usize = 4_096;

/// The longest that a header may be.
pub const LONGEST: usize = FIXED + LONGEST_SAID;

/// What the bytes that a connection begins with are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// The beginning of a header.
    Incomplete,
    /// A header.
    Done {
        /// Who is calling; `None` where the proxy speaks for itself, as for its health checks, or of a
        /// caller without an address.
        source: Option<SocketAddr>,
        /// How many bytes the header has.
        length: usize,
    },
    /// No header.
    Malformed,
}

/// Reads a header of either version from the beginning of `bytes`.
///
/// Fewer than [`LONGEST`] bytes are [`Parsed::Incomplete`].
pub fn parse(bytes: &[u8]) -> Parsed {
    if begins(bytes, SIGNATURE) {
        return version_2(bytes);
    }
    if begins(bytes, PREFIX) {
        return version_1(bytes);
    }
    Parsed::Malformed
}

/// Whether `bytes` begin with `prefix`, as far as either goes.
fn begins(bytes: &[u8], prefix: &[u8]) -> bool {
    bytes.iter().zip(prefix).all(|(byte, due)| byte == due)
}

/// A line: `PROXY TCP4 192.0.2.1 192.0.2.2 1234 80` (§2.1).
fn version_1(bytes: &[u8]) -> Parsed {
    let line = &bytes[..bytes.len().min(LONGEST_LINE)];
    let Some(end) = line.windows(2).position(|pair| pair == b"\r\n") else {
        return match bytes.len() {
            0..LONGEST_LINE => Parsed::Incomplete,
            _ => Parsed::Malformed,
        };
    };
    let length = end + 2;
    let text = std::str::from_utf8(&line[..end]).unwrap_or_default();
    // What follows it must be ignored.
    if text.split(' ').nth(1) == Some("UNKNOWN") {
        return Parsed::Done {
            source: None,
            length,
        };
    }
    match line_source(text) {
        source @ Some(_) => Parsed::Done { source, length },
        None => Parsed::Malformed,
    }
}

/// Who is calling after a line without its end; `None` for no such line.
fn line_source(line: &str) -> Option<SocketAddr> {
    let mut words = line.split(' ');
    words.next()?;
    let family = words.next()?;
    let (source, destination) = (words.next()?, words.next()?);
    let own_port = port(words.next()?)?;
    port(words.next()?)?;
    let address: IpAddr = match family {
        "TCP4" => {
            destination.parse::<Ipv4Addr>().ok()?;
            source.parse::<Ipv4Addr>().ok()?.into()
        }
        "TCP6" => {
            destination.parse::<Ipv6Addr>().ok()?;
            source.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    let whole = words.next().is_none();
    whole.then(|| SocketAddr::new(address.to_canonical(), own_port))
}

/// A port in decimal, without leading zeroes (§2.1).
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let leading = text.len() > 1 && text.starts_with('0');
    (plain && !leading).then(|| text.parse().ok()).flatten()
}

/// A block of a known length: addresses by family, and what is said besides (§2.2).
fn version_2(bytes: &[u8]) -> Parsed {
    // What is wrong with it is told from the first byte that is.
    if bytes
        .get(12)
        .is_some_and(|byte| !matches!(byte, 0x20 | 0x21))
    {
        return Parsed::Malformed;
    }
    if bytes
        .get(13)
        .is_some_and(|byte| byte >> 4 > 3 || byte & 15 > 2)
    {
        return Parsed::Malformed;
    }
    let Some(fixed) = bytes.first_chunk::<FIXED>() else {
        return Parsed::Incomplete;
    };
    let [.., command, family, high, low] = *fixed;
    let rest = usize::from(u16::from_be_bytes([high, low]));
    let speaks_for_another = command == 0x21;
    let addresses = match family >> 4 {
        1 if speaks_for_another => 12,
        2 if speaks_for_another => 36,
        3 if speaks_for_another => 216,
        _ => 0,
    };
    if rest > LONGEST_SAID || rest < addresses {
        return Parsed::Malformed;
    }
    let length = FIXED + rest;
    let Some(said) = bytes.get(FIXED..length) else {
        return Parsed::Incomplete;
    };
    // A unix socket has no address that would mean anything here.
    let source = match family >> 4 {
        1 if speaks_for_another => block_source::<4>(said, 8),
        2 if speaks_for_another => block_source::<16>(said, 32),
        _ => None,
    };
    Parsed::Done { source, length }
}

/// The address at the beginning of a block, with the port that stands at `port`.
fn block_source<const LENGTH: usize>(said: &[u8], port: usize) -> Option<SocketAddr>
where
    IpAddr: From<[u8; LENGTH]>,
{
    let address = IpAddr::from(*said.first_chunk::<LENGTH>()?);
    let port = u16::from_be_bytes(*said.get(port..)?.first_chunk()?);
    Some(SocketAddr::new(address.to_canonical(), port))
}

#[cfg(test)]
mod tests;
