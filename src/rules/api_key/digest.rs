//! What is kept of a key in place of the key.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, KeyInit, Mac};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// What is kept of a key: SHA-256 of its bytes, or with a pepper HMAC-SHA-256 of that.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// SHA-256 of the secret's bytes.
    pub fn of(secret: &[u8]) -> Self {
        Self(Sha256::digest(secret).into())
    }

    /// The digest under which the store knows the secret: HMAC-SHA-256 of this one where there
    /// is a pepper, so that a stolen store cannot be searched for guessed keys.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "it cannot")]
    pub fn keyed(self, pepper: Option<&Pepper>) -> Self {
        let Some(Pepper(key)) = pepper else {
            return self;
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(&self.0);
        Self(mac.finalize().into_bytes().into())
    }

    /// Whether two digests are the same, in a time that does not tell where they differ.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }

    /// The digest as 64 lower-case hexadecimal digits.
    pub fn hex(&self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        self.0
            .iter()
            .flat_map(|byte| [byte >> 4, byte & 15])
            .map(|nibble| char::from(DIGITS[usize::from(nibble)]))
            .collect()
    }
}

/// The text is not 64 hexadecimal digits. Does not repeat the text, which may be a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadDigest;

impl fmt::Display for BadDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be 64 hexadecimal digits: the SHA-256 of the key's bytes")
    }
}

impl std::error::Error for BadDigest {}

impl FromStr for Digest {
    type Err = BadDigest;

    /// Reads 64 hexadecimal digits, in either case.
    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let (pairs, []) = text.as_bytes().as_chunks::<2>() else {
            return Err(BadDigest);
        };
        let pairs: &[[u8; 2]; 32] = pairs.try_into().map_err(|_| BadDigest)?;
        let mut bytes = [0; 32];
        for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
            *byte = nibble(*high)? << 4 | nibble(*low)?;
        }
        Ok(Self(bytes))
    }
}

fn nibble(digit: u8) -> Result<u8, BadDigest> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(BadDigest),
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A digest in a log would let its reader recognise a guessed key.
        f.write_str("Digest(…)")
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.hex())
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Box::<str>::deserialize(deserializer)?;
        text.parse().map_err(D::Error::custom)
    }
}

/// The secret that digests are keyed with; wiped when dropped, never printed.
#[derive(Clone)]
pub struct Pepper(pub Zeroizing<Vec<u8>>);

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pepper(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn is_sha256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(Digest::of(b"abc").hex(), ABC);
    }

    #[test]
    fn is_keyed_with_hmac_of_the_plain_digest() {
        let pepper = Pepper(Zeroizing::new(b"pepper".to_vec()));
        let digest = Digest::of(b"abc");
        // printf abc | openssl sha256 -binary | openssl sha256 -hmac pepper
        assert_eq!(
            digest.keyed(Some(&pepper)).hex(),
            "b12400da6894f717f507b6acede14a1ff5f6b6ec56c96150ab1968c0b4bf3239"
        );
        assert_eq!(digest.keyed(None), digest);
    }

    #[test]
    fn reads_what_it_prints_in_either_case() {
        let digest = Digest::of(b"abc");
        assert_eq!(ABC.parse(), Ok(digest));
        assert_eq!(ABC.to_uppercase().parse(), Ok(digest));
        assert!(digest.matches(&Digest::of(b"abc")));
        assert!(!digest.matches(&Digest::of(b"abd")));
    }

    #[test]
    fn refuses_what_is_no_digest() {
        let short = &ABC[1..];
        let long = format!("{ABC}0");
        let foreign = ABC.replace('b', "g");
        let sign = format!("+{short}");
        for text in ["", short, &long, &foreign, &sign] {
            assert_eq!(text.parse::<Digest>(), Err(BadDigest), "{text}");
        }
    }

    #[test]
    fn is_never_shown() {
        let digest = Digest::of(b"abc");
        assert_eq!(format!("{digest:?}"), "Digest(…)");
        let pepper = Pepper(Zeroizing::new(b"pepper".to_vec()));
        assert_eq!(format!("{pepper:?}"), "Pepper(…)");
    }
}
