use proptest::prelude::*;

use super::*;

fn done(source: Option<&str>, length: usize) -> Parsed {
    let source = source.map(|source| source.parse().unwrap());
    Parsed::Done { source, length }
}

fn line(source: SocketAddr) -> Vec<u8> {
    let (family, address) = match source.ip() {
        IpAddr::V4(address) => ("TCP4", address.to_string()),
        IpAddr::V6(address) => ("TCP6", address.to_string()),
    };
    format!(
        "PROXY {family} {address} {address} {} 443\r\n",
        source.port()
    )
    .into_bytes()
}

fn block(command: u8, family: u8, said: &[u8]) -> Vec<u8> {
    let mut bytes = SIGNATURE.to_vec();
    bytes.extend([command, family]);
    bytes.extend(u16::try_from(said.len()).unwrap().to_be_bytes());
    bytes.extend(said);
    bytes
}

fn proxied(source: SocketAddr, besides: &[u8]) -> Vec<u8> {
    let (family, address) = match source.ip() {
        IpAddr::V4(address) => (0x11, address.octets().to_vec()),
        IpAddr::V6(address) => (0x21, address.octets().to_vec()),
    };
    let ports = [source.port().to_be_bytes(), [1, 187]].concat();
    block(
        0x21,
        family,
        &[&address, &address, &ports, besides].concat(),
    )
}

#[test]
fn lines_are_read() {
    for (text, expected) in [
        (
            "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
            done(Some("255.255.255.255:65535"), 56),
        ),
        (
            "PROXY TCP6 2001:db8::1 ::1 0 80\r\nGET /",
            done(Some("[2001:db8::1]:0"), 33),
        ),
        (
            "PROXY TCP6 ::ffff:192.0.2.7 ::1 9 80\r\n",
            done(Some("192.0.2.7:9"), 38),
        ),
        ("PROXY UNKNOWN\r\nGET /", done(None, 15)),
        ("PROXY UNKNOWN ffff:f...f:ffff 65535\r\n", done(None, 37)),
        ("", Parsed::Incomplete),
        ("PROX", Parsed::Incomplete),
        ("PROXY TCP4 192.0.2.1", Parsed::Incomplete),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r", Parsed::Incomplete),
        ("GET / HTTP/1.1\r\n", Parsed::Malformed),
        ("proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n", Parsed::Malformed),
        ("PROXY\r\n", Parsed::Malformed),
        ("PROXY \r\n", Parsed::Malformed),
        ("PROXY UDP4 192.0.2.1 192.0.2.2 1 2\r\n", Parsed::Malformed),
        ("PROXY TCP4 ::1 ::1 1 2\r\n", Parsed::Malformed),
        ("PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.1 nowhere 1 2\r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n", Parsed::Malformed),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 3\r\n",
            Parsed::Malformed,
        ),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n", Parsed::Malformed),
        ("PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n", Parsed::Malformed),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
            Parsed::Malformed,
        ),
        ("PROXY TCP4  192.0.2.1 192.0.2.2 1 2\r\n", Parsed::Malformed),
        (
            "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n\r\n",
            Parsed::Malformed,
        ),
    ] {
        assert_eq!(parse(text.as_bytes()), expected, "{text:?}");
    }
}

#[test]
fn a_line_has_an_end_in_time() {
    let unknown = |length: usize| {
        let mut line = b"PROXY UNKNOWN ".to_vec();
        line.resize(length, b'x');
        line
    };
    assert_eq!(parse(&unknown(106)), Parsed::Incomplete);
    assert_eq!(parse(&unknown(107)), Parsed::Malformed);
    let longest = [unknown(105), b"\r\n".to_vec()].concat();
    assert_eq!(parse(&longest), done(None, 107));
    let longer = [unknown(106), b"\r\n".to_vec()].concat();
    assert_eq!(parse(&longer), Parsed::Malformed);
}

#[test]
fn blocks_are_read() {
    let v4 = [192, 0, 2, 7, 192, 0, 2, 1, 0x12, 0x34, 0, 80];
    let mut v6 = [0; 36];
    v6[..16].copy_from_slice(&"2001:db8::7".parse::<Ipv6Addr>().unwrap().octets());
    v6[33] = 9;
    let mut mapped = v6;
    mapped[..16].copy_from_slice(&"::ffff:192.0.2.7".parse::<Ipv6Addr>().unwrap().octets());
    for (case, bytes, expected) in [
        (
            "TCP over IPv4",
            block(0x21, 0x11, &v4),
            done(Some("192.0.2.7:4660"), 28),
        ),
        (
            "UDP over IPv4",
            block(0x21, 0x12, &v4),
            done(Some("192.0.2.7:4660"), 28),
        ),
        (
            "IPv6",
            block(0x21, 0x21, &v6),
            done(Some("[2001:db8::7]:9"), 52),
        ),
        (
            "mapped",
            block(0x21, 0x21, &mapped),
            done(Some("192.0.2.7:9"), 52),
        ),
        (
            "more besides",
            block(0x21, 0x11, &[&v4[..], &[4; 100]].concat()),
            done(Some("192.0.2.7:4660"), 128),
        ),
        (
            "a unix socket",
            block(0x21, 0x31, &[b'/'; 216]),
            done(None, 232),
        ),
        ("unspecified", block(0x21, 0, &[]), done(None, 16)),
        ("its own", block(0x20, 0, &[]), done(None, 16)),
        (
            "its own, with an address",
            block(0x20, 0x11, &v4),
            done(None, 28),
        ),
        (
            "the longest",
            block(0x20, 0, &[0; 4_096]),
            done(None, 4_112),
        ),
        ("longer", block(0x20, 0, &[0; 4_097]), Parsed::Malformed),
        ("another version", block(0x11, 0x11, &v4), Parsed::Malformed),
        ("another command", block(0x22, 0x11, &v4), Parsed::Malformed),
        ("another family", block(0x21, 0x41, &v4), Parsed::Malformed),
        (
            "another protocol",
            block(0x21, 0x13, &v4),
            Parsed::Malformed,
        ),
        (
            "too short for IPv4",
            block(0x21, 0x11, &v4[..11]),
            Parsed::Malformed,
        ),
        (
            "too short for IPv6",
            block(0x21, 0x21, &v6[..35]),
            Parsed::Malformed,
        ),
        (
            "too short for a path",
            block(0x21, 0x31, &[0; 215]),
            Parsed::Malformed,
        ),
    ] {
        assert_eq!(parse(&bytes), expected, "{case}");
    }
}

fn source() -> impl Strategy<Value = SocketAddr> {
    (any::<IpAddr>(), any::<u16>()).prop_map(|(address, port)| (address, port).into())
}

proptest! {
    #[test]
    fn what_is_written_is_read(source in source(), besides in prop::collection::vec(any::<u8>(), 0..200), after: Vec<u8>) {
        let canonical = SocketAddr::new(source.ip().to_canonical(), source.port());
        for header in [line(source), proxied(source, &besides)] {
            let bytes = [&header[..], &after].concat();
            let expected = Parsed::Done { source: Some(canonical), length: header.len() };
            prop_assert_eq!(parse(&bytes), expected);
            for end in 0..header.len() {
                prop_assert_eq!(parse(&header[..end]), Parsed::Incomplete);
            }
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes: Vec<u8>, command: u8, family: u8) {
        for bytes in [bytes.clone(), block(command, family, &bytes), [&PREFIX[..], &bytes].concat()] {
            match parse(&bytes) {
                Parsed::Done { length, .. } => prop_assert!(length <= bytes.len()),
                Parsed::Incomplete => prop_assert!(bytes.len() < LONGEST),
                Parsed::Malformed => {}
            }
        }
    }

    #[test]
    fn a_byte_more_never_takes_back_what_was_judged(source in source(), at in 0..60_usize, byte: u8) {
        for mut header in [line(source), proxied(source, &[])] {
            let at = at % header.len();
            header[at] = byte;
            let mut judged = Parsed::Incomplete;
            for end in 0..=header.len() {
                let now = parse(&header[..end]);
                prop_assert!(judged == Parsed::Incomplete || now == judged);
                judged = now;
            }
        }
    }
}
