//! The alphabet of everything minted here, and the checksum it ends with.

use zeroize::Zeroizing;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// How many digits hold 128 bits: 62^22 is the first power of 62 past 2^128.
pub(super) const BITS_128: usize = 22;

/// How many digits hold 256 bits: 62^43 is the first power of 62 past 2^256.
pub(super) const BITS_256: usize = 43;

/// How many digits a checksum has: 62^6 is the first power of 62 past 2^32.
pub(super) const CHECKSUM: usize = 6;

/// Appends a big-endian number, or as much of its end as `WIDTH` digits hold.
///
/// Text that is to be kept secret needs room for them: a buffer that grows leaves a copy behind.
pub(super) fn push<const WIDTH: usize>(text: &mut String, number: &[u8]) {
    let mut number = Zeroizing::new(number.to_vec());
    let digits = Zeroizing::new(digits::<WIDTH>(&mut number));
    for digit in digits.iter() {
        text.push(char::from(*digit));
    }
}

/// Appends the CRC-32 of all of the text.
pub(super) fn push_checksum(text: &mut String) {
    for digit in checksum(text.as_bytes()) {
        text.push(char::from(digit));
    }
}

/// Whether the text ends with the checksum of what stands before it.
pub(super) fn is_checked(text: &[u8]) -> bool {
    text.split_last_chunk()
        .is_some_and(|(signed, shown)| checksum(signed) == *shown)
}

fn checksum(signed: &[u8]) -> [u8; CHECKSUM] {
    digits(&mut crc32fast::hash(signed).to_be_bytes())
}

/// The last digits of a number, which is used up.
fn digits<const WIDTH: usize>(number: &mut [u8]) -> [u8; WIDTH] {
    let mut digits = [0; WIDTH];
    for digit in digits.iter_mut().rev() {
        *digit = divide_by_62(number);
    }
    digits
}

/// Divides a big-endian number in place; the remainder comes back as a base62 digit.
fn divide_by_62(number: &mut [u8]) -> u8 {
    let mut remainder: u16 = 0;
    for byte in number.iter_mut() {
        let dividend = remainder << 8 | u16::from(*byte);
        // remainder < 62, so the quotient is at most (61 * 256 + 255) / 62 = 255.
        *byte = u8::try_from(dividend / 62).unwrap_or(u8::MAX);
        remainder = dividend % 62;
    }
    ALPHABET[usize::from(remainder)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_with_their_last_digits() {
        let written = |number: &[u8]| {
            let mut text = String::new();
            push::<2>(&mut text, number);
            text
        };
        assert_eq!(written(&[0]), "00");
        assert_eq!(written(&[61]), "0z");
        assert_eq!(written(&[62]), "10");
        assert_eq!(written(&[1, 0]), "48");
        assert_eq!(written(&[]), "00");
    }

    #[test]
    fn the_widths_hold_the_largest_numbers() {
        let mut text = String::new();
        push::<{ BITS_128 + 1 }>(&mut text, &[255; 16]);
        assert_eq!(text, "07n42DGM5Tflk9n8mt7Fhc7");
        text.clear();
        push::<{ BITS_256 + 1 }>(&mut text, &[255; 32]);
        assert_eq!(&text[..2], "0y");
    }

    #[test]
    fn a_checksum_is_known_by_its_text() {
        let mut text = "gk_0".to_owned();
        push_checksum(&mut text);
        assert!(is_checked(text.as_bytes()));
        assert!(!is_checked(&text.as_bytes()[1..]));
        assert!(!is_checked(b"gk_0"));
    }
}
