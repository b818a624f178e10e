//! What is presented as a credential: bearers, keys, refresh tokens, nonces, addresses, signatures.

use std::time::Duration;

use http::HeaderValue;
use zeroize::Zeroizing;

use crate::rules::api_key::{Shape, checked_import, key_id, mint, shape};
use crate::rules::credential::bearer;
use crate::rules::nonce::{self, Seal};
use crate::rules::refresh::{Token, is_minted};
use crate::rules::time::Timestamp;
use crate::rules::units;
use crate::rules::wallet::{Address, Signature, recover};

/// The bytes that are presented, as whatever they could be.
///
/// What is minted is known by its form and nothing else is; no secret is printed; every text that is
/// taken has one meaning.
pub fn credentials(data: &[u8]) {
    check_bearer(data);
    check_key(data);
    check_refresh(data);
    let Ok(text) = str::from_utf8(data) else {
        return;
    };
    check_nonce(text);
    check_wallet(text);
    check_units(text);
}

fn check_bearer(value: &[u8]) {
    if let Some(token) = bearer(value) {
        assert!(value[..6].eq_ignore_ascii_case(b"bearer"));
        assert_eq!(token.trim_ascii(), token);
        assert_eq!(bearer(&[b"Bearer ", token].concat()), Some(token));
    }
}

fn check_key(presented: &[u8]) {
    let random: [u8; 32] = drawn(presented);
    let key = mint("gk", &random);
    assert_eq!(shape("gk", key.as_bytes()), Shape::Minted);
    assert_eq!(checked_import("gk", &key), Ok(()));
    if let Some(place) = presented.first() {
        let mut other = key.as_bytes().to_vec();
        let place = usize::from(*place) % other.len();
        other[place] = *presented.last().unwrap_or(&0);
        let is_same = other == key.as_bytes();
        assert_eq!(shape("gk", &other) == Shape::Minted, is_same);
    }
    match shape("gk", presented) {
        Shape::Minted => {
            assert!(presented.len() == 52 && presented.starts_with(b"gk_"));
            assert!(presented[3..].iter().all(u8::is_ascii_alphanumeric));
        }
        Shape::Garbled => assert!(presented.starts_with(b"gk_")),
        Shape::Other => assert!(!presented.starts_with(b"gk_")),
    }
    if let Ok(text) = str::from_utf8(presented)
        && checked_import("gk", text).is_ok()
    {
        assert!(HeaderValue::from_str(text).is_ok());
        assert!(shape("gk", presented) != Shape::Garbled);
    }
    assert_eq!(key_id(&drawn(presented)).len(), 20);
}

fn check_refresh(presented: &[u8]) {
    let Ok(token) = Token::parse(presented) else {
        assert!(!is_minted(presented));
        return;
    };
    assert_eq!(token.as_str().as_bytes(), presented);
    assert!(!format!("{token:?}").contains(token.as_str()));
    assert_eq!(token.family_id().is_some(), is_minted(presented));
    if let Some(family) = token.family_id() {
        assert!(presented.len() == 96 && family.len() == 22);
        assert!(token.as_str()[3..].starts_with(family));
    } else {
        assert!(!presented.starts_with(b"gr_"));
    }
    assert_eq!(token.digest(None), token.clone().digest(None));
}

fn check_nonce(text: &str) {
    let seal = Seal(Zeroizing::new([7; 32]));
    assert_eq!(nonce::read(&seal, text, "key_1", "app.example"), None);
    let issued_at = Timestamp::from_nanoseconds(u64::from_be_bytes(drawn(text.as_bytes())));
    let (written, said) = nonce::write(
        &seal,
        &drawn(text.as_bytes()),
        u64::from_le_bytes(drawn(text.as_bytes())),
        issued_at,
        Duration::from_secs(text.len() as u64),
        text,
        "app.example",
    );
    assert_eq!(
        nonce::read(&seal, &written, text, "APP.example"),
        Some(said)
    );
    assert_eq!(nonce::read(&seal, &written, text, "app.example."), None);
}

fn check_wallet(text: &str) {
    if let Ok(address) = Address::parse(text) {
        assert_eq!(
            Address::parse_checksummed(&address.to_string()),
            Ok(address)
        );
        assert!(text.eq_ignore_ascii_case(&address.to_string()));
    }
    if let Ok(address) = Address::parse_checksummed(text) {
        assert_eq!(address.to_string(), text);
    }
    if let Ok(signature) = Signature::parse(text) {
        assert_eq!(text.len(), 132);
        if let Some(address) = recover(text.as_bytes(), &signature) {
            assert_eq!(Address::parse(&address.to_string()), Ok(address));
        }
    }
}

fn check_units(text: &str) {
    if let Ok(duration) = units::duration(text) {
        assert_eq!(
            units::duration(&units::print_duration(duration)),
            Ok(duration)
        );
    }
    if let Ok(rate) = units::rate(text) {
        assert_eq!(units::rate(&units::print_rate(rate)), Ok(rate));
    }
    if let Ok(time) = units::time(text) {
        assert_eq!(units::time(&units::print_time(time)), Ok(time));
    }
}

/// So many bytes, those of the input and zeros behind them.
fn drawn<const N: usize>(data: &[u8]) -> [u8; N] {
    let mut drawn = [0; N];
    for (to, from) in drawn.iter_mut().zip(data) {
        *to = *from;
    }
    drawn
}
