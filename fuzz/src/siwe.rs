//! Sign-in messages.

use crate::rules::siwe::{Expected, LONGEST, Message, judge};
use crate::rules::time::Timestamp;

/// A message as a wallet signed it.
///
/// What is read is read from what is written of it, and a message that is for here says so in its
/// first line and in its URI.
pub fn siwe(data: &[u8]) {
    let message = match Message::parse(data) {
        Ok(message) => message,
        Err(malformed) => {
            assert!(!malformed.0.is_empty());
            return;
        }
    };
    assert!(data.len() <= LONGEST);
    let text = String::from_utf8_lossy(data);
    assert!(!text.contains('\r'));
    let printed = message.to_string();
    assert_eq!(Message::parse(printed.as_bytes()), Ok(message.clone()));
    check_lines(&text, &message);

    let domains = [message.domain.into(), "app.example".into()];
    let now = message.issued_at;
    for now in [
        now,
        Timestamp::EPOCH,
        message.expiration_time.unwrap_or(now),
    ] {
        let expected = Expected {
            domains: &domains,
            chains: &[message.chain_id],
            now,
        };
        if judge(&message, &expected).is_err() {
            continue;
        }
        assert!(message.expiration_time.is_none_or(|end| end > now));
        assert!(message.not_before.is_none_or(|begin| begin <= now));
        let uri = message.uri.to_ascii_lowercase();
        let rest = ["http://", "https://"].iter().find_map(|scheme| {
            let named = message
                .scheme
                .is_none_or(|own| scheme[..scheme.len() - 3] == own.to_ascii_lowercase());
            named.then(|| uri.strip_prefix(scheme)).flatten()
        });
        let rest = rest.and_then(|rest| rest.strip_prefix(&*message.domain.to_ascii_lowercase()));
        assert!(
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#'])),
            "{uri} is not of {}",
            message.domain
        );
        let elsewhere = Expected {
            domains: &domains[1..],
            ..expected
        };
        if !message.domain.eq_ignore_ascii_case("app.example") {
            assert!(judge(&message, &elsewhere).is_err());
        }
    }
}

/// What was read, found again by whoever only splits lines.
fn check_lines(text: &str, message: &Message<'_>) {
    let lines: Vec<&str> = text.split('\n').collect();
    let origin = match message.scheme {
        Some(scheme) => format!("{scheme}://{}", message.domain),
        None => message.domain.to_owned(),
    };
    assert_eq!(
        lines[0],
        format!("{origin} wants you to sign in with your Ethereum account:")
    );
    assert_eq!(lines[1], message.address.to_string());
    let fields = lines
        .iter()
        .position(|line| *line == format!("URI: {}", message.uri));
    let fields = fields.unwrap_or_else(|| panic!("the URI is not there"));
    assert!(fields >= 4);
    for (line, label) in
        lines[fields..]
            .iter()
            .zip(["URI", "Version", "Chain ID", "Nonce", "Issued At"])
    {
        assert!(line.starts_with(&format!("{label}: ")), "{line}");
    }
    let listed = lines.iter().filter(|line| line.starts_with("- ")).count();
    assert!(listed >= message.resources.len());
}
