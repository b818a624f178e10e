//! Cookies: those that are read, those that no upstream sees, and the one that is written.

use std::time::Duration;

use http::header::{self, HeaderValue};

use crate::rules::cookie::{self, Cookie, SameSite};
use crate::rules::fields::Fields;
use crate::rules::form::Lines;
use crate::rules::headers::HeaderRules;
use crate::rules::refresh;

/// The first line is a cookie's name, the second its path, the third its domain, and every other
/// one a `Cookie` line.
///
/// A private cookie is gone after the scrub and every other one still there, in its place; a
/// cookie that has no problem is read from its `Set-Cookie` as it was meant.
pub fn cookies(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let mut text = || str::from_utf8(lines.next().unwrap_or_default()).unwrap_or_default();
    let [name, path, domain] = [text(), text(), text()];
    check_read(name, lines);
    check_written(name, path, domain, data.len());
}

fn check_read<'d>(name: &str, lines: impl Iterator<Item = &'d [u8]>) {
    let values = lines.filter_map(|line| HeaderValue::from_bytes(line).ok());
    let fields: Fields = values.map(|line| (header::COOKIE, line)).collect();
    let pairs = |fields: &Fields| -> Vec<(Vec<u8>, Vec<u8>)> {
        let lines = fields.get_all(&header::COOKIE);
        lines
            .flat_map(|line| line.split(|byte| *byte == b';'))
            .filter_map(|pair| {
                let at = pair.iter().position(|byte| *byte == b'=')?;
                let (name, value) = (&pair[..at], &pair[at + 1..]);
                Some((name.trim_ascii().to_vec(), value.trim_ascii().to_vec()))
            })
            .collect()
    };
    let unquoted = |value: &[u8]| {
        let quoted = value.len() >= 2 && value.starts_with(b"\"") && value.ends_with(b"\"");
        value[usize::from(quoted)..value.len() - usize::from(quoted)].to_vec()
    };
    let expected: Vec<Vec<u8>> = pairs(&fields)
        .into_iter()
        .filter(|(own, _)| own == name.as_bytes())
        .map(|(_, value)| unquoted(&value))
        .collect();
    let read: Vec<&[u8]> = cookie::values(&fields, name).collect();
    assert_eq!(read, expected);

    let rules = HeaderRules::new("x-auth-", &[], &[name.into()]);
    let kept = rules.cookies(&fields, Lines::of(&fields));
    let kept: Fields = kept
        .filter_map(|line| Some((header::COOKIE, HeaderValue::from_bytes(&line).ok()?)))
        .collect();
    assert_eq!(cookie::values(&kept, name).count(), 0);
    let mut expected = pairs(&fields);
    expected.retain(|(own, value)| own != name.as_bytes() && !refresh::is_minted(&unquoted(value)));
    assert_eq!(pairs(&kept), expected);
}

fn check_written(name: &str, path: &str, domain: &str, bits: usize) {
    let cookie = Cookie {
        name: name.into(),
        path: path.into(),
        domain: (!domain.is_empty()).then(|| domain.into()),
        secure: bits & 1 == 0,
        same_site: [SameSite::Strict, SameSite::Lax, SameSite::None][bits % 3],
        partitioned: bits & 2 != 0,
    };
    if !cookie.problems().is_empty() {
        return;
    }
    for (line, value) in [
        (cookie.set("gr_0123", Duration::from_secs(60)), "gr_0123"),
        (cookie.clear(), ""),
    ] {
        assert!(HeaderValue::from_str(&line).is_ok(), "{line:?}");
        // RFC 6265bis §5.6: the pair, then attributes, each trimmed.
        let mut parts = line.split(';').map(str::trim);
        assert_eq!(parts.next(), Some(&*format!("{name}={value}")));
        let attributes: Vec<(&str, &str)> = parts
            .map(|part| part.split_once('=').unwrap_or((part, "")))
            .collect();
        let has = |name: &str| attributes.iter().any(|(own, _)| *own == name);
        assert!(attributes.contains(&("Path", path)), "{line:?}");
        assert_eq!(has("Domain"), cookie.domain.is_some());
        assert_eq!(has("Secure"), cookie.secure);
        assert_eq!(has("Partitioned"), cookie.partitioned);
        assert!(has("HttpOnly") && has("SameSite") && has("Max-Age"));
        for prefix in ["__host-", "__secure-", "__http-"] {
            if name.to_ascii_lowercase().starts_with(prefix) {
                assert!(cookie.secure);
                assert!(prefix != "__host-" || (path == "/" && domain.is_empty()));
            }
        }
    }
}
