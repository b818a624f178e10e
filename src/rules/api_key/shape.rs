//! How minted keys look, and what a key taken over from elsewhere may look like.

use zeroize::Zeroizing;

use crate::rules::base62;

/// What a presented key looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A minted key's form, its checksum included.
    Minted,
    /// It begins like a minted key and is none: refused without a look-up.
    Garbled,
    /// Another form: perhaps a key that was taken over from elsewhere.
    Other,
}

/// Writes a key: `prefix_`, 256 random bits in base62, and a checksum of all before it.
pub fn mint(prefix: &str, random: &[u8; 32]) -> Zeroizing<String> {
    // The capacity is exact: a buffer that grew would leave copies of the secret behind.
    let length = prefix.len() + 1 + base62::BITS_256 + base62::CHECKSUM;
    let mut key = Zeroizing::new(String::with_capacity(length));
    key.push_str(prefix);
    key.push('_');
    base62::push::<{ base62::BITS_256 }>(&mut key, random);
    base62::push_checksum(&mut key);
    key
}

/// Tells minted keys from garbled ones and from everything else.
pub fn shape(prefix: &str, presented: &[u8]) -> Shape {
    let Some(rest) = presented
        .strip_prefix(prefix.as_bytes())
        .and_then(|rest| rest.strip_prefix(b"_"))
    else {
        return Shape::Other;
    };
    let formed = rest.len() == base62::BITS_256 + base62::CHECKSUM
        && rest.iter().all(u8::is_ascii_alphanumeric);
    if formed && base62::is_checked(presented) {
        Shape::Minted
    } else {
        Shape::Garbled
    }
}

/// Writes a key's id: `key_` and 16 base62 characters. Ids are not secret.
pub fn key_id(random: &[u8; 16]) -> Box<str> {
    identifier("key", random)
}

/// Writes an id: `kind_` and 16 base62 characters.
pub fn identifier(kind: &str, random: &[u8; 16]) -> Box<str> {
    let mut id = format!("{kind}_");
    base62::push::<16>(&mut id, random);
    id.into()
}

/// Says what keeps a foreign key from being taken over; never repeats the key.
///
/// It has to be long enough not to be guessed, able to stand in a header, and, where it begins
/// like a minted key, be one: a garbled key would be refused before it is looked up.
pub fn checked_import(prefix: &str, key: &str) -> Result<(), &'static str> {
    if key.len() < 20 {
        Err("the key must be at least 20 characters long")
    } else if key.len() > 4096 {
        Err("the key must be at most 4096 characters long")
    } else if !key.bytes().all(|byte| matches!(byte, b' '..=b'~')) || key.trim() != key {
        Err("the key must be printable ASCII without spaces around it, or no header can carry it")
    } else if shape(prefix, key.as_bytes()) == Shape::Garbled {
        Err("the key begins like a minted key and its checksum is wrong; part of it may be missing")
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_look_as_promised() {
        let counting: [u8; 32] = std::array::from_fn(|place| u8::try_from(place).unwrap());
        for (random, key) in [
            (
                [0; 32],
                "gk_00000000000000000000000000000000000000000001cDRIp",
            ),
            (
                [255; 32],
                "gk_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp14SoQ8R",
            ),
            (
                counting,
                "gk_003aUlTJC7tjlCTQj2uNU3MFagCXG9LRKRcwGkBIDlf29AaFX",
            ),
        ] {
            let minted = mint("gk", &random);
            assert_eq!(*minted, key);
            assert_eq!(minted.len(), minted.capacity());
        }
    }

    #[test]
    fn ids_look_as_promised() {
        let counting: [u8; 16] = std::array::from_fn(|place| u8::try_from(place).unwrap());
        assert_eq!(&*key_id(&counting), "key_7RiJxkEgOGusQGwp");
        assert_eq!(&*key_id(&[0; 16]), "key_0000000000000000");
    }

    #[test]
    fn what_begins_like_a_key_must_be_one() {
        let key = mint("gk", &[7; 32]);
        for garbled in ["gk_", "gk_x", &key[..51], &format!("{}0", *key), "gk_é"] {
            assert_eq!(shape("gk", garbled.as_bytes()), Shape::Garbled, "{garbled}");
        }
        for other in ["", "gk", "gkx", "GK_x", "sk_live_51H8xK2eZvKYlo2C", "é"] {
            assert_eq!(shape("gk", other.as_bytes()), Shape::Other, "{other}");
        }
        // Another installation's keys are foreign keys here.
        assert_eq!(shape("acme", key.as_bytes()), Shape::Other);
    }

    #[test]
    fn foreign_keys_are_checked() {
        let minted = mint("gk", &[7; 32]);
        for key in ["sk_live_51H8xK2eZvKYlo2C", "twenty characters ok", &minted] {
            assert_eq!(checked_import("gk", key), Ok(()), "{key}");
        }
        let long = "k".repeat(4097);
        for (key, word) in [
            ("nineteen-characters", "at least 20"),
            (&long, "at most 4096"),
            (" twenty characters ok", "spaces around"),
            ("twenty characters\tno!", "printable"),
            ("twenty characters nö!", "printable"),
            (&minted[..50], "checksum"),
        ] {
            let problem = checked_import("gk", key).unwrap_err();
            assert!(problem.contains(word), "{key}: {problem}");
        }
    }

    proptest! {
        #[test]
        fn minted_keys_have_the_minted_shape(random: [u8; 32], prefix in "[a-z0-9_]{1,12}") {
            let key = mint(&prefix, &random);
            prop_assert_eq!(shape(&prefix, key.as_bytes()), Shape::Minted);
        }

        #[test]
        fn any_one_changed_byte_is_noticed(random: [u8; 32], place in 0..52_usize, byte: u8) {
            let mut key = mint("gk", &random).as_bytes().to_vec();
            prop_assume!(key[place] != byte);
            key[place] = byte;
            prop_assert_ne!(shape("gk", &key), Shape::Minted);
        }

        #[test]
        fn different_randomness_makes_different_keys(one: [u8; 32], two: [u8; 32]) {
            prop_assume!(one != two);
            prop_assert_ne!(mint("gk", &one), mint("gk", &two));
        }

        #[test]
        fn judging_never_panics(presented: Vec<u8>) {
            let _ = shape("gk", &presented);
        }
    }
}
