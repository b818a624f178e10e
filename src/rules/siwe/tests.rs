//! Messages as wholes. Their lines one by one are in `grammar`, and the vectors that the standard's
//! implementations share in `vectors`.

mod grammar;
mod vectors;

use super::*;
use proptest::prelude::*;

/// The standard's own examples.
const EXAMPLES: [&str; 3] = [
    "example.com wants you to sign in with your Ethereum account:\n0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2\n\nI accept the ExampleOrg Terms of Service: https://example.com/tos\n\nURI: https://example.com/login\nVersion: 1\nChain ID: 1\nNonce: 32891756\nIssued At: 2021-09-30T16:25:24Z\nResources:\n- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/\n- https://example.com/my-web2-claim.json",
    "example.com:3388 wants you to sign in with your Ethereum account:\n0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2\n\nI accept the ExampleOrg Terms of Service: https://example.com/tos\n\nURI: https://example.com/login\nVersion: 1\nChain ID: 1\nNonce: 32891756\nIssued At: 2021-09-30T16:25:24Z\nResources:\n- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/\n- https://example.com/my-web2-claim.json",
    "https://example.com wants you to sign in with your Ethereum account:\n0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2\n\nI accept the ExampleOrg Terms of Service: https://example.com/tos\n\nURI: https://example.com/login\nVersion: 1\nChain ID: 1\nNonce: 32891756\nIssued At: 2021-09-30T16:25:24Z\nResources:\n- ipfs://bafybeiemxf5abjwjbikoz4mc3a3dla6ual3jsgpdr4cjr3oz3evfyavhwq/\n- https://example.com/my-web2-claim.json",
];

/// Written and signed by viem 2.57 with a key that is known to everyone.
const FROM_VIEM: [(&str, &str); 2] = [
    (
        "https://app.example:8443 wants you to sign in with your Ethereum account:\n0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n\nI accept the Terms: https://app.example/tos\n\nURI: https://app.example:8443/login?next=%2F#top\nVersion: 1\nChain ID: 8453\nNonce: fMzpyQLNdTnVWGLuH\nIssued At: 2026-01-02T03:04:05.678Z\nExpiration Time: 2026-01-02T03:14:05.678Z\nNot Before: 2026-01-02T03:04:05.678Z\nRequest ID: request-1\nResources:\n- https://app.example/a\n- urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "0xc7b8d3c82294465d88abfd3df9a8bc2a49bdc2af79cfb0a1f56f9eb1c1aa77da011556f8a6f69fc472d29f3cb0c5cbdaadc917d5a17f16fa9d7cffdd9e76b94c1b",
    ),
    (
        "app.example wants you to sign in with your Ethereum account:\n0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266\n\n\nURI: https://app.example\nVersion: 1\nChain ID: 1\nNonce: abcdefgh12345678\nIssued At: 2026-01-02T03:04:05.000Z",
        "0x87efbf39f2e857cd70a06af9f51f81b6e0fa77028911c37755c64e9c5b84cd730fff199ce2bd7f888934dd364d3de9a3b54641c5a1fdf32590a30a0fa33a115b1b",
    ),
];

/// A message that has every part; each test changes one.
const FULL: &str = FROM_VIEM[0].0;

/// What is wrong with the full message once `from`, which it has once, is `to`.
fn changed(from: &str, to: &str) -> Option<&'static str> {
    assert_eq!(FULL.matches(from).count(), 1, "{from:?}");
    let text = FULL.replacen(from, to, 1);
    Message::parse(text.as_bytes())
        .err()
        .map(|Malformed(why)| why)
}

#[test]
fn every_part_is_found() {
    let message = Message::parse(FULL.as_bytes()).unwrap();
    let made = Timestamp::from_nanoseconds(1_767_323_045_678_000_000);
    let expected = Message {
        scheme: Some("https"),
        domain: "app.example:8443",
        address: Address::parse("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266").unwrap(),
        statement: Some("I accept the Terms: https://app.example/tos"),
        uri: "https://app.example:8443/login?next=%2F#top",
        chain_id: 8453,
        nonce: "fMzpyQLNdTnVWGLuH",
        issued_at: made,
        expiration_time: Some(made.plus(std::time::Duration::from_secs(600))),
        not_before: Some(made),
        request_id: Some("request-1"),
        resources: vec![
            "https://app.example/a",
            "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        ],
    };
    assert_eq!(message, expected);
}

#[test]
fn the_standards_examples_are_read_and_written() {
    for text in EXAMPLES.into_iter().chain([FULL]) {
        let message = Message::parse(text.as_bytes()).unwrap();
        assert_eq!(message.to_string(), text);
    }
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    for bytes in [&[0xff][..], &[0xc0, 0x80], &[0xed, 0xa0, 0x80]] {
        let text = [FULL.as_bytes(), bytes].concat();
        assert_eq!(
            Message::parse(&text),
            Err(Malformed("the message is not UTF-8"))
        );
    }
    assert!(Message::parse(b"").is_err());
}

#[test]
fn a_message_has_its_longest() {
    let of_length = |length: usize| {
        let mut text = FULL.to_owned();
        text.push_str(&"x".repeat(length - FULL.len()));
        Message::parse(text.as_bytes())
            .map(|_| ())
            .map_err(|Malformed(why)| why)
    };
    assert_eq!(of_length(LONGEST), Ok(()));
    let problem = of_length(LONGEST + 1).unwrap_err();
    assert!(problem.contains(&LONGEST.to_string()), "{problem}");
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_nanoseconds)
}

proptest! {
    #[test]
    fn messages_print_and_read_back(
        scheme in proptest::option::of("[a-zA-Z][a-zA-Z0-9+.-]{0,8}"),
        domain in "([a-z:]{0,4}(%41)?@)?([a-zA-Z0-9._~!-]{1,12}|\\[::[0-9a-f]{1,4}\\])(:[0-9]{0,5})?",
        address: [u8; 20],
        statement in proptest::option::of("[:/?#\\[\\]@!$&'()*+,;= a-zA-Z0-9._~-]{0,40}"),
        uri in "[a-z]{1,5}:(//[a-z0-9.]{0,8}(:[0-9]{0,4})?/)?[a-z0-9]{0,8}(\\?[a-z/?]{0,4})?(#[a-z/?]{0,4})?",
        chain_id: u64,
        nonce in "[a-zA-Z0-9]{8,24}",
        times in (time(), proptest::option::of(time()), proptest::option::of(time())),
        request_id in proptest::option::of("([a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2}){0,12}"),
        resources in proptest::collection::vec("[a-z]{1,5}:[a-z0-9/]{0,12}", 0..4),
    ) {
        // A path that begins with two slashes is an authority, which the pattern may have spoilt.
        let resources: Vec<&str> = resources.iter().map(|uri| &**uri).filter(|uri| is_uri(uri)).collect();
        let (issued_at, expiration_time, not_before) = times;
        let message = Message {
            scheme: scheme.as_deref(),
            domain: &domain,
            address: Address(address),
            statement: statement.as_deref(),
            uri: &uri,
            chain_id,
            nonce: &nonce,
            issued_at,
            expiration_time,
            not_before,
            request_id: request_id.as_deref(),
            resources,
        };
        let text = message.to_string();
        let read = Message::parse(text.as_bytes());
        prop_assert_eq!(read.as_ref(), Ok(&message), "{}", text);
        prop_assert_eq!(read.unwrap().to_string(), text);
    }

    /// What is read is what was written, wherever a byte of it was changed.
    #[test]
    fn a_changed_byte_is_refused_or_read_back(place in 0..FULL.len(), byte: u8) {
        let mut bytes = FULL.as_bytes().to_vec();
        // The letters of a date and time have no case (RFC 3339 §5.6): it is the same time.
        let is_of_time = matches!(bytes[place], b'T' | b'Z');
        prop_assume!(bytes[place] != byte);
        prop_assume!(!(is_of_time && bytes[place].eq_ignore_ascii_case(&byte)));
        bytes[place] = byte;
        if let Ok(message) = Message::parse(&bytes) {
            let text = message.to_string();
            let again = Message::parse(text.as_bytes());
            prop_assert_eq!(again.as_ref(), Ok(&message));
            prop_assert_ne!(&message, &Message::parse(FULL.as_bytes()).unwrap());
        }
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = Message::parse(&bytes);
    }

    #[test]
    fn arbitrary_lines_never_panic(
        places in proptest::collection::vec((0..40_usize, "[ -~\\n\\r\u{e9}]{0,6}"), 1..6),
    ) {
        let mut lines: Vec<&str> = FULL.split('\n').collect();
        for (place, text) in &places {
            let at = place % lines.len();
            lines[at] = text;
        }
        let _ = Message::parse(lines.join("\n").as_bytes());
    }
}
