//! The names in a caller's certificate.

use std::net::IpAddr;

use crate::rules::certificate::names;

/// A certificate in DER.
///
/// Each name that is told is of one kind by its form, and the list has one reading.
pub fn certificates(data: &[u8]) {
    let Some(names) = names(data) else {
        return;
    };
    assert!(names.bytes().all(|byte| matches!(byte, b' '..=b'~')));
    for name in names.split(", ") {
        assert!(!name.is_empty() && !name.contains([',', ' ']), "{names}");
        let is_address = name.parse::<IpAddr>().is_ok();
        let is_uri = !is_address
            && name
                .split_once(':')
                .is_some_and(|(scheme, _)| is_scheme(scheme));
        let is_mailbox = name.contains('@') && !name.contains(':');
        let is_host = !is_address
            && name
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-._*".contains(&byte));
        let kinds = [is_address, is_uri, is_mailbox, is_host];
        assert_eq!(kinds.iter().filter(|is| **is).count(), 1, "{name}");
    }
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
}
