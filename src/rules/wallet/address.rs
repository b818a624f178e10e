//! An account's address and its checksum (EIP-55).

use std::fmt;

use sha3::{Digest, Keccak256};

/// The address of an account: the last 20 bytes of the hash of its public key.
///
/// Written in EIP-55's form, which is the one form that a wallet's subject has.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address(pub [u8; 20]);

impl Address {
    /// Reads an address that may have its checksum or none: all its letters of one case, or each
    /// of the case that EIP-55 gives it.
    pub fn parse(text: &str) -> Result<Self, BadAddress> {
        let (address, digits) = split(text)?;
        let has_lower = digits.iter().any(u8::is_ascii_lowercase);
        let has_upper = digits.iter().any(u8::is_ascii_uppercase);
        if has_lower && has_upper && address.digits() != *digits {
            return Err(BadAddress::Checksum);
        }
        Ok(address)
    }

    /// Reads an address whose every letter has the case that EIP-55 gives it.
    pub fn parse_checksummed(text: &str) -> Result<Self, BadAddress> {
        let (address, digits) = split(text)?;
        if address.digits() != *digits {
            return Err(BadAddress::Checksum);
        }
        Ok(address)
    }

    /// The 40 digits, a letter in upper case where the same place of the hash of all of them in
    /// lower case holds 8 or more (EIP-55).
    fn digits(self) -> [u8; 40] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let nibble_of = |bytes: &[u8], place: usize| {
            let byte = bytes[place / 2];
            if place.is_multiple_of(2) {
                byte >> 4
            } else {
                byte & 15
            }
        };
        let lower: [u8; 40] =
            std::array::from_fn(|place| DIGITS[usize::from(nibble_of(&self.0, place))]);
        let hash = Keccak256::digest(lower);
        std::array::from_fn(|place| match nibble_of(&hash, place) {
            8.. => lower[place].to_ascii_uppercase(),
            _ => lower[place],
        })
    }
}

/// Takes `0x` and 40 digits apart, whatever their case.
fn split(text: &str) -> Result<(Address, &[u8; 40]), BadAddress> {
    let digits = text.strip_prefix("0x").ok_or(BadAddress::Malformed)?;
    let digits: &[u8; 40] = digits
        .as_bytes()
        .try_into()
        .map_err(|_| BadAddress::Malformed)?;
    let (pairs, _) = digits.as_chunks::<2>();
    let mut address = [0; 20];
    for (byte, pair) in address.iter_mut().zip(pairs) {
        *byte = super::byte(*pair).ok_or(BadAddress::Malformed)?;
    }
    Ok((Address(address), digits))
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("0x")?;
        self.digits()
            .iter()
            .try_for_each(|digit| write!(f, "{}", char::from(*digit)))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Why a text is not an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadAddress {
    /// Not `0x` and 40 hexadecimal digits.
    Malformed,
    /// Its letters are not of the case that the checksum gives them: it was mistyped, or written
    /// by something that knows no checksum.
    Checksum,
}

impl BadAddress {
    /// The reason, as a caller is told it.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Malformed => "the address is not 0x and 40 hexadecimal digits",
            Self::Checksum => "the address does not have its EIP-55 checksum",
        }
    }
}

impl fmt::Display for BadAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.reason())
    }
}

impl std::error::Error for BadAddress {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The test cases of EIP-55.
    const CHECKSUMMED: [&str; 8] = [
        "0x52908400098527886E0F7030069857D2E4169EE7",
        "0x8617E340B3D01FA5F11F306F4090FD50E238070D",
        "0xde709f2102306220921060314715629080e2fb77",
        "0x27b1fdb04752bbc536007a920d24acb045561c26",
        "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
        "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
        "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
        "0xD1220A0cf47c7B9Be7A2E6BA89F429762e7b9aDb",
    ];

    #[test]
    fn checksums_are_those_of_the_standard() {
        for text in CHECKSUMMED {
            let address = Address::parse_checksummed(text).unwrap();
            assert_eq!(address.to_string(), text);
            assert_eq!(Address::parse(text), Ok(address));
        }
        let zero = "0x0000000000000000000000000000000000000000";
        assert_eq!(Address::parse_checksummed(zero), Ok(Address([0; 20])));
    }

    #[test]
    fn one_case_is_no_checksum() {
        // The first four of the standard's cases are of one case by their checksum.
        for text in &CHECKSUMMED[4..] {
            let address = Address::parse(text).unwrap();
            for plain in [
                text.to_lowercase(),
                format!("0x{}", text[2..].to_uppercase()),
            ] {
                assert_eq!(Address::parse(&plain), Ok(address), "{plain}");
                assert_eq!(
                    Address::parse_checksummed(&plain),
                    Err(BadAddress::Checksum),
                    "{plain}"
                );
            }
        }
    }

    #[test]
    fn a_letter_of_the_wrong_case_is_noticed() {
        for text in &CHECKSUMMED[4..] {
            for place in 2..42 {
                let mut wrong = text.as_bytes().to_vec();
                wrong[place] ^= 0x20;
                if !wrong[place].is_ascii_alphabetic() {
                    continue;
                }
                let wrong = String::from_utf8(wrong).unwrap();
                assert_eq!(Address::parse(&wrong), Err(BadAddress::Checksum), "{wrong}");
            }
        }
    }

    #[test]
    fn other_texts_are_no_addresses() {
        let good = CHECKSUMMED[4];
        for text in [
            "",
            "0x",
            &good[2..],
            &good[..41],
            &format!("{good}0"),
            &format!(" {good}"),
            &format!("{good}\n"),
            &good.replacen("0x", "0X", 1),
            &good.replacen('5', "g", 1),
            &good.replacen('5', "+", 1),
            &good.replacen("5a", "é", 1),
        ] {
            assert_eq!(Address::parse(text), Err(BadAddress::Malformed), "{text:?}");
            assert_eq!(
                Address::parse_checksummed(text),
                Err(BadAddress::Malformed),
                "{text:?}"
            );
        }
    }

    proptest! {
        #[test]
        fn addresses_print_and_read_back(bytes: [u8; 20]) {
            let address = Address(bytes);
            prop_assert_eq!(Address::parse_checksummed(&address.to_string()), Ok(address));
        }

        #[test]
        fn reading_never_panics(text in ".{0,60}") {
            let _ = (Address::parse(&text), Address::parse_checksummed(&text));
        }
    }
}
