//! Sign-in nonces: values that carry all that is known of them, under a seal.
//!
//! Pure. Nothing is kept of a nonce that was given out, so that a flood of them fills no store; a
//! spent one is recorded by its id until it expires, which is `store`'s matter. Whether the message
//! that holds one is for here is judged in `rules::siwe`.
//!
//! A nonce is 62 letters and digits (EIP-4361 asks for eight or more), base62 of big-endian
//! numbers in fields of fixed width:
//!
//! | characters | bits | holds |
//! |---|---|---|
//! | 17 | 96 | what is random: its id |
//! | 11 | 64 | the chain |
//! | 6 | 35 | when it was issued, in Unix seconds |
//! | 6 | 35 | when it expires, in Unix seconds |
//! | 22 | 128 | the seal over all before it, the key and the domain |
//!
//! There is one text a nonce. The seal is over the characters themselves, so that another spelling
//! of the same numbers is not sealed, and the seal is read from 22 digits as a number that has to
//! fit, so that it has no second spelling either. A spent nonce therefore cannot come back as a
//! text that reads alike.

use std::fmt;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::rules::time::Timestamp;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// 62^17 is the first power of 62 past 2^96.
const ID: usize = 17;

/// 62^11 is the first power of 62 past 2^64.
const CHAIN: usize = 11;

/// 62^6 is the first power of 62 past the seconds that a [`Timestamp`] can be.
const TIME: usize = 6;

/// 62^22 is the first power of 62 past 2^128.
const MAC: usize = 22;

const SEALED: usize = ID + CHAIN + TIME + TIME;

/// What the key seals here, so that nothing else that it may come to seal is ever a nonce.
const PURPOSE: &[u8] = b"gatelet sign-in nonce 1";

/// How far ahead of the clock here the one of another replica may be.
const MOST_AHEAD: Duration = Duration::from_secs(5);

/// The key that nonces are sealed with; wiped when dropped, never printed.
#[derive(Clone)]
pub struct Seal(pub Zeroizing<[u8; 32]>);

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

/// What a nonce says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce {
    /// Its name among the spent ones, in base62.
    pub id: Box<str>,
    /// The chain that it was asked for.
    pub chain_id: u64,
    /// When it was issued, in whole seconds.
    pub issued_at: Timestamp,
    /// From when it is refused, in whole seconds.
    pub expires_at: Timestamp,
}

impl Nonce {
    /// Whether the nonce may be spent now, if it was not spent before.
    pub fn is_good(&self, now: Timestamp) -> bool {
        now < self.expires_at && self.issued_at <= now.plus(MOST_AHEAD)
    }
}

/// Writes a nonce that is good for `ttl` from `issued_at` on, up to the next whole second.
///
/// It is bound to the key and the domain, neither of which it holds: who asked for it cannot be
/// read from it. Domains are compared without regard to case.
pub fn write(
    seal: &Seal,
    random: &[u8; 12],
    chain_id: u64,
    issued_at: Timestamp,
    ttl: Duration,
    key_id: &str,
    domain: &str,
) -> (String, Nonce) {
    let expires_at = issued_at.plus(ttl).ceiled();
    let random = random
        .iter()
        .fold(0, |number, byte| number << 8 | u128::from(*byte));

    let mut text = String::with_capacity(SEALED + MAC);
    push(&mut text, digits::<ID>(random));
    push(&mut text, digits::<CHAIN>(chain_id.into()));
    push(&mut text, digits::<TIME>(issued_at.seconds().into()));
    push(&mut text, digits::<TIME>(expires_at.seconds().into()));
    let nonce = Nonce {
        id: text[..ID].into(),
        chain_id,
        issued_at: Timestamp::from_seconds(issued_at.seconds()),
        // Once more, for what saturated lies between two seconds.
        expires_at: Timestamp::from_seconds(expires_at.seconds()),
    };
    let mac = mac(seal, &text, key_id, domain);
    push(&mut text, digits::<MAC>(u128::from_be_bytes(mac)));
    (text, nonce)
}

/// Reads a nonce that [`write()`] wrote for this key and this domain; `None` for every other text.
///
/// The time that it takes does not tell where a forged seal is wrong. Whether the nonce is still
/// good, and whether it was spent, is for the caller to ask.
pub fn read(seal: &Seal, text: &str, key_id: &str, domain: &str) -> Option<Nonce> {
    let is_of_digits = text.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if text.len() != SEALED + MAC || !is_of_digits {
        return None;
    }
    let (sealed, shown) = text.split_at(SEALED);
    let shown = number(shown)?.to_be_bytes();
    if !bool::from(mac(seal, sealed, key_id, domain).ct_eq(&shown)) {
        return None;
    }
    let (id, rest) = sealed.split_at(ID);
    let (chain_id, rest) = rest.split_at(CHAIN);
    let (issued_at, expires_at) = rest.split_at(TIME);
    Some(Nonce {
        id: id.into(),
        chain_id: number(chain_id)?.try_into().ok()?,
        issued_at: time(issued_at)?,
        expires_at: time(expires_at)?,
    })
}

/// The first 128 bits of HMAC-SHA-256 (RFC 2104 §5), over parts that their lengths keep apart.
fn mac(seal: &Seal, sealed: &str, key_id: &str, domain: &str) -> [u8; 16] {
    let mut mac = Hmac::<Sha256>::new_from_slice(&*seal.0).expect("HMAC takes keys of any length");
    let domain = domain.to_ascii_lowercase();
    for part in [
        PURPOSE,
        sealed.as_bytes(),
        key_id.as_bytes(),
        domain.as_bytes(),
    ] {
        // A usize is at most 64 bits wide.
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        mac.update(&length.to_be_bytes());
        mac.update(part);
    }
    let whole: [u8; 32] = mac.finalize().into_bytes().into();
    let mut truncated = [0; 16];
    truncated.copy_from_slice(&whole[..16]);
    truncated
}

/// Writes a number that `N` digits have room for.
fn digits<const N: usize>(mut number: u128) -> [u8; N] {
    let mut digits = [b'0'; N];
    for digit in digits.iter_mut().rev() {
        *digit = ALPHABET[usize::try_from(number % 62).unwrap_or_default()];
        number /= 62;
    }
    digits
}

/// Reads letters and digits as a number; `None` if 128 bits do not hold it.
fn number(digits: &str) -> Option<u128> {
    digits.bytes().try_fold(0_u128, |number, digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            b'A'..=b'Z' => digit - b'A' + 10,
            b'a'..=b'z' => digit - b'a' + 36,
            _ => return None,
        };
        number.checked_mul(62)?.checked_add(value.into())
    })
}

fn time(digits: &str) -> Option<Timestamp> {
    let seconds = number(digits)?.try_into().ok()?;
    Some(Timestamp::from_seconds(seconds))
}

fn push<const N: usize>(text: &mut String, digits: [u8; N]) {
    text.extend(digits.map(char::from));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "key_0000000000000001";
    const DOMAIN: &str = "app.example";
    const TTL: Duration = Duration::from_secs(300);

    fn seal() -> Seal {
        Seal(Zeroizing::new([7; 32]))
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    fn written() -> (String, Nonce) {
        write(&seal(), &[5; 12], 8453, at(0), TTL, KEY, DOMAIN)
    }

    fn read_here(text: &str) -> Option<Nonce> {
        read(&seal(), text, KEY, DOMAIN)
    }

    /// `text` with the character at `place` replaced.
    fn changed(text: &str, place: usize, character: char) -> String {
        text.chars()
            .enumerate()
            .map(|(at, old)| if at == place { character } else { old })
            .collect()
    }

    #[test]
    fn looks_as_promised() {
        let (text, nonce) = written();
        assert_eq!(
            text,
            "021GMEm0Nb8QFxTwj000000002CL1xocE41xocIu6O4IPnkQEcfz6SzT5L0kol"
        );
        assert_eq!(text.len(), text.capacity());
        assert_eq!(&*nonce.id, &text[..ID]);
        assert_eq!(nonce.chain_id, 8453);
        assert_eq!(nonce.issued_at, at(0));
        assert_eq!(nonce.expires_at, at(300));
        assert_eq!(read_here(&text), Some(nonce));
    }

    #[test]
    fn is_one_that_a_sign_in_message_can_hold() {
        for random in [[0; 12], [255; 12]] {
            let (text, nonce) = write(&seal(), &random, u64::MAX, at(0), TTL, KEY, DOMAIN);
            assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric()));
            assert_eq!(text.len(), SEALED + MAC);
            assert_eq!(read_here(&text), Some(nonce));
        }
    }

    #[test]
    fn is_bound_to_its_key_its_domain_and_its_seal() {
        let (text, _) = written();
        let other = Seal(Zeroizing::new([8; 32]));
        assert_eq!(read(&other, &text, KEY, DOMAIN), None);
        for key_id in ["", "key_0000000000000002", "KEY_0000000000000001"] {
            assert_eq!(read(&seal(), &text, key_id, DOMAIN), None, "{key_id}");
        }
        for domain in ["", "app.example:443", "evil.example", "app.example."] {
            assert_eq!(read(&seal(), &text, KEY, domain), None, "{domain}");
        }
        // A message's domain is compared without regard to case as well.
        assert!(read(&seal(), &text, KEY, "App.Example").is_some());
    }

    #[test]
    fn what_belongs_to_the_key_is_not_taken_for_the_domains() {
        let (text, _) = write(&seal(), &[5; 12], 1, at(0), TTL, "ab", "c");
        for (key_id, domain) in [("a", "bc"), ("abc", ""), ("", "abc")] {
            assert_eq!(read(&seal(), &text, key_id, domain), None);
        }
    }

    #[test]
    fn has_no_second_spelling() {
        let (text, _) = written();
        for other in [
            format!("0{text}"),
            format!("{text}0"),
            format!(" {text}"),
            text[1..].to_owned(),
            text.to_ascii_lowercase(),
            text.to_ascii_uppercase(),
            String::new(),
        ] {
            assert_eq!(read_here(&other), None, "{other}");
        }
        let most = String::from_utf8(digits::<MAC>(u128::MAX).into()).unwrap();
        assert_eq!(number(&most), Some(u128::MAX));
        // One more, which is 0 where 128 bits overflow, and the most that the digits can say.
        for past in [changed(&most, MAC - 1, '8'), "z".repeat(MAC)] {
            assert_eq!(number(&past), None, "{past}");
        }
        for digit in ALPHABET {
            let other = changed(&text, SEALED, char::from(*digit));
            assert_eq!(read_here(&other).is_some(), other == text, "{other}");
        }
    }

    #[test]
    fn the_fields_have_room_for_all_that_they_can_hold() {
        let room = |digits: u32| 62_u128.pow(digits);
        assert!(room(17) > 1 << 96 && room(16) < 1 << 96);
        assert!(room(11) > 1 << 64 && room(10) < 1 << 64);
        let last = Timestamp::from_nanoseconds(u64::MAX).seconds();
        assert!(room(6) > u128::from(last) && room(5) < u128::from(last));
        assert!(room(21) < u128::MAX);
    }

    #[test]
    fn expires_to_the_nanosecond() {
        let (_, nonce) = written();
        let before = Timestamp::from_nanoseconds(at(300).nanoseconds() - 1);
        assert!(nonce.is_good(before));
        assert!(!nonce.is_good(at(300)));
        assert!(!nonce.is_good(Timestamp::from_nanoseconds(u64::MAX)));
    }

    #[test]
    fn clocks_may_differ_by_5_seconds() {
        let (_, nonce) = write(&seal(), &[5; 12], 1, at(10), TTL, KEY, DOMAIN);
        assert!(nonce.is_good(at(10)));
        assert!(nonce.is_good(at(5)));
        let before = Timestamp::from_nanoseconds(at(5).nanoseconds() - 1);
        assert!(!nonce.is_good(before));
        assert!(!nonce.is_good(Timestamp::EPOCH));
    }

    #[test]
    fn says_whole_seconds_and_lives_no_shorter_than_it_should() {
        let between = at(0).plus(Duration::from_millis(900));
        let (text, nonce) = write(&seal(), &[5; 12], 1, between, TTL, KEY, DOMAIN);
        assert_eq!(nonce.issued_at, at(0));
        assert_eq!(nonce.expires_at, at(301));
        assert_eq!(read_here(&text), Some(nonce));
    }

    #[test]
    fn the_seal_is_never_shown() {
        assert_eq!(format!("{:?}", seal()), "Seal(…)");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            random: [u8; 12],
            chain_id: u64,
            issued_at: u64,
            ttl: u64,
            key_id in "\\PC{0,24}",
            domain in "\\PC{0,24}",
        ) {
            let issued_at = Timestamp::from_nanoseconds(issued_at);
            let ttl = Duration::from_nanos(ttl);
            let (text, nonce) = write(&seal(), &random, chain_id, issued_at, ttl, &key_id, &domain);
            prop_assert_eq!(nonce.chain_id, chain_id);
            prop_assert_eq!(nonce.issued_at.seconds(), issued_at.seconds());
            prop_assert_eq!(nonce.issued_at.nanoseconds() % 1_000_000_000, 0);
            prop_assert_eq!(nonce.expires_at.nanoseconds() % 1_000_000_000, 0);
            prop_assert_eq!(read(&seal(), &text, &key_id, &domain), Some(nonce));
        }

        #[test]
        fn any_one_changed_character_is_noticed(
            random: [u8; 12],
            place in 0..SEALED + MAC,
            character in "[0-9A-Za-z]|\\PC",
        ) {
            let (text, _) = write(&seal(), &random, 1, at(0), TTL, KEY, DOMAIN);
            let other = changed(&text, place, character.chars().next().unwrap());
            prop_assume!(other != text);
            prop_assert_eq!(read_here(&other), None);
        }

        #[test]
        fn another_key_or_domain_is_noticed(key_id in "[a-z:_]{0,8}", domain in "[a-z:.]{0,8}", other in "[a-z:._]{0,8}") {
            let (text, _) = write(&seal(), &[5; 12], 1, at(0), TTL, &key_id, &domain);
            if other != key_id {
                prop_assert_eq!(read(&seal(), &text, &other, &domain), None);
            }
            if other != domain {
                prop_assert_eq!(read(&seal(), &text, &key_id, &other), None);
            }
        }

        #[test]
        fn different_randomness_makes_different_ids(one: [u8; 12], two: [u8; 12]) {
            prop_assume!(one != two);
            let id = |random| write(&seal(), random, 1, at(0), TTL, KEY, DOMAIN).1.id;
            prop_assert_ne!(id(&one), id(&two));
        }

        #[test]
        fn reading_never_panics(text: String, near in "[0-9A-Za-z]{62}|\\PC{60,64}") {
            prop_assert_eq!(read_here(&text), None);
            prop_assert_eq!(read_here(&near), None);
        }
    }
}
