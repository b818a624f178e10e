//! The names that a verified certificate holds, as an upstream is told them.
//!
//! Whether the certificate is good was decided before, by the TLS library.

use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::time::ASN1Time;

use super::time::Timestamp;

/// The subject alternative names of a certificate in DER, in their order, with `, ` between them
/// (RFC 5280 §4.2.1.6); `None` if it has none.
///
/// URIs, DNS names, e-mail addresses and IP addresses. Each says by its form what it is: a name that
/// could be taken for one of another kind is left out. A comma, `%`, and whatever is not visible
/// ASCII, stands as a percent escape.
pub fn names(der: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let alternative = certificate.subject_alternative_name().ok()??;
    let mut names = String::new();
    for name in &alternative.value.general_names {
        let address;
        let name = match name {
            GeneralName::URI(uri) if is_uri(uri) => *uri,
            GeneralName::DNSName(name) if is_dns_name(name) => *name,
            GeneralName::RFC822Name(mailbox) if is_mailbox(mailbox) => *mailbox,
            GeneralName::IPAddress(bytes) => match ip_address(bytes) {
                Some(ip) => {
                    address = ip.to_string();
                    &address
                }
                None => continue,
            },
            _ => continue,
        };
        if !names.is_empty() {
            names.push_str(", ");
        }
        for byte in name.bytes() {
            match byte {
                b'!'..=b'~' if !matches!(byte, b',' | b'%') => names.push(char::from(byte)),
                _ => {
                    // Writing to a string cannot fail.
                    let _ = write!(names, "%{byte:02X}");
                }
            }
        }
    }
    (!names.is_empty()).then_some(names)
}

/// From when until when a certificate in DER is good (RFC 5280 §4.1.2.5); `None` if it cannot be read.
pub fn validity(der: &[u8]) -> Option<(Timestamp, Timestamp)> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let validity = certificate.validity();
    let moment = |time: ASN1Time| {
        // Before 1970 is as good as then.
        Timestamp::from_seconds(u64::try_from(time.timestamp()).unwrap_or_default())
    };
    Some((moment(validity.not_before), moment(validity.not_after)))
}

/// It begins with a scheme (RFC 3986 §3.1), and is no IPv6 address.
fn is_uri(uri: &str) -> bool {
    let Some((scheme, _)) = uri.split_once(':') else {
        return false;
    };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        && uri.parse::<IpAddr>().is_err()
}

fn is_dns_name(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte))
        && name.parse::<IpAddr>().is_err()
}

fn is_mailbox(mailbox: &str) -> bool {
    mailbox.contains('@') && !mailbox.contains(':')
}

fn ip_address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes)
            .ok()
            .map(|ip| Ipv4Addr::from(ip).into()),
        16 => <[u8; 16]>::try_from(bytes)
            .ok()
            .map(|ip| Ipv6Addr::from(ip).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn names_of(alternatives: Vec<SanType>) -> Option<String> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = alternatives;
        let key = KeyPair::generate().unwrap();
        names(params.self_signed(&key).unwrap().der())
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn dns(text: &str) -> SanType {
        SanType::DnsName(text.try_into().unwrap())
    }

    fn mail(text: &str) -> SanType {
        SanType::Rfc822Name(text.try_into().unwrap())
    }

    #[test]
    fn every_kind_of_name_is_told_in_its_order() {
        let alternatives = vec![
            uri("spiffe://cluster.local/ns/default/sa/api"),
            dns("client.example.com"),
            mail("ada@example.com"),
            SanType::IpAddress([192, 0, 2, 1].into()),
            SanType::IpAddress([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()),
        ];
        assert_eq!(
            names_of(alternatives).unwrap(),
            "spiffe://cluster.local/ns/default/sa/api, client.example.com, ada@example.com, 192.0.2.1, 2001:db8::1"
        );
    }

    #[test]
    fn a_certificate_says_when_it_is_good() {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.not_before = rcgen::date_time_ymd(2024, 2, 29);
        params.not_after = rcgen::date_time_ymd(2026, 1, 1);
        let key = KeyPair::generate().unwrap();
        let found = validity(params.self_signed(&key).unwrap().der());
        let [from, until] = [1_709_164_800, 1_767_225_600].map(Timestamp::from_seconds);
        assert_eq!(found, Some((from, until)));
        assert_eq!(validity(b"!"), None);
    }

    #[test]
    fn a_certificate_without_names_tells_none() {
        assert_eq!(names_of(Vec::new()), None);
        assert_eq!(names(b""), None);
        assert_eq!(names(b"\x30\x03\x02\x01\x01"), None);
    }

    #[test]
    fn no_name_can_be_taken_for_two_or_for_one_of_another_kind() {
        let escaped = names_of(vec![uri("urn:a, admin.example.com")]);
        assert_eq!(escaped.unwrap(), "urn:a%2C%20admin.example.com");
        let already = names_of(vec![uri("urn:a%2C%20admin.example.com")]);
        assert_eq!(already.unwrap(), "urn:a%252C%2520admin.example.com");
        let other_kinds = vec![
            dns("192.0.2.1"),
            dns("spiffe://a/b"),
            dns("ada@example.com"),
            dns("a b"),
            uri("client.example.com"),
            uri("fe80::1"),
            mail("client.example.com"),
            mail("spiffe://a@b"),
        ];
        assert_eq!(names_of(other_kinds), None);
    }
}
