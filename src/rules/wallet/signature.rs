//! An account's signature over a message (EIP-191), and whose it is.

use std::fmt;

use k256::ecdsa::{self, RecoveryId, VerifyingKey};
use sha3::{Digest, Keccak256};

use super::Address;

/// A signature of secp256k1 with what it takes to find the key that made it.
///
/// `r` and `s` lie between 0 and the group's order, and `s` in the lower half of that (EIP-2), so
/// that nobody can make a second signature out of one that they saw.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    signature: ecdsa::Signature,
    recovery: RecoveryId,
}

/// `r`, `s` and `v`, 32, 32 and 1 byte long.
const LENGTH: usize = 65;

/// The length of a compact signature (EIP-2098).
const COMPACT: usize = 64;

/// What the signature of a contract that may not exist yet ends with (EIP-6492): `6492`, 16 times.
const UNDEPLOYED: &str = "6492649264926492649264926492649264926492649264926492649264926492";

impl Signature {
    /// Reads `0x` and 130 hexadecimal digits.
    ///
    /// What no account without code can have signed is [`BadSignature::Contract`]: what is longer,
    /// and nothing at all, with which some contracts say that they approved of a message before.
    /// Compact signatures (EIP-2098) are refused: a signature would have two forms.
    pub fn parse(text: &str) -> Result<Self, BadSignature> {
        let digits = text.strip_prefix("0x").ok_or(BadSignature::Malformed(
            "the signature does not begin with 0x",
        ))?;
        let (pairs, []) = digits.as_bytes().as_chunks::<2>() else {
            return Err(NOT_HEX);
        };
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NOT_HEX);
        }
        if digits.ends_with(UNDEPLOYED) {
            return Err(BadSignature::Contract);
        }
        match pairs.len() {
            COMPACT => return Err(BadSignature::Malformed("the signature is a compact one")),
            1..LENGTH => return Err(BadSignature::Malformed("the signature is too short")),
            _ => {}
        }
        let pairs: &[[u8; 2]; LENGTH] = pairs.try_into().map_err(|_| BadSignature::Contract)?;
        let mut bytes = [0; LENGTH];
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            *byte = super::byte(*pair).ok_or(NOT_HEX)?;
        }
        Self::from_bytes(&bytes)
    }

    /// `v` is 27 or 28 as signatures of messages have it, or 0 or 1 as some wallets write it.
    fn from_bytes(bytes: &[u8; LENGTH]) -> Result<Self, BadSignature> {
        let [scalars @ .., v] = bytes;
        let is_y_odd = match v {
            0 | 27 => false,
            1 | 28 => true,
            _ => {
                return Err(BadSignature::Malformed(
                    "the signature's last byte is none of 0, 1, 27 and 28",
                ));
            }
        };
        let signature = ecdsa::Signature::from_slice(scalars)
            .map_err(|_| BadSignature::Malformed("the signature's r or s is out of range"))?;
        if signature.normalize_s() != signature {
            return Err(BadSignature::Malformed(
                "the signature's s is in the upper half (EIP-2)",
            ));
        }
        Ok(Self {
            signature,
            // The other two, for an `r` that was reduced, have no `v` here: nobody meets one.
            recovery: RecoveryId::new(is_y_odd, false),
        })
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // With its message a signature is a credential until the nonce is spent.
        f.write_str("Signature")
    }
}

const NOT_HEX: BadSignature =
    BadSignature::Malformed("the signature is not made of hexadecimal bytes");

/// Why a signature is not looked at. Never repeats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadSignature {
    /// It has not the form that is taken; this is the reason.
    Malformed(&'static str),
    /// It is the signature of an account that is a contract (ERC-1271, ERC-6492), which is not
    /// supported.
    Contract,
}

impl fmt::Display for BadSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed(why) => why,
            Self::Contract => "wallets that are contracts are not supported",
        })
    }
}

impl std::error::Error for BadSignature {}

/// The account that signed a message, by EIP-191's version 0x45.
///
/// Some account is found for nearly every signature: what proves anything is that it is the one
/// that the message names. None is found where `r` is no point's coordinate.
pub fn recover(message: &[u8], signature: &Signature) -> Option<Address> {
    let hash = Keccak256::new()
        .chain_update("\x19Ethereum Signed Message:\n")
        .chain_update(message.len().to_string())
        .chain_update(message)
        .finalize();
    let key =
        VerifyingKey::recover_from_prehash(&hash, &signature.signature, signature.recovery).ok()?;
    let point = key.to_sec1_point(false);
    // The first byte says only that both coordinates follow.
    let (_, coordinates) = point.as_bytes().split_first()?;
    let hash: [u8; 32] = Keccak256::digest(coordinates).into();
    let (_, address) = hash.split_last_chunk()?;
    Some(Address(*address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use k256::ecdsa::SigningKey;
    use proptest::prelude::*;

    /// Signed alike by ethers 6.17 and viem 2.57, with keys that are known to everyone.
    const SIGNED: [(&str, &str, &str); 7] = [
        // The example of web3.js's documentation as well.
        (
            "0x2c7536E3605D9C16a7a3D7b1898e529396a65c23",
            "Some data",
            "0xb91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a0291c",
        ),
        (
            "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
            "hello world",
            "0xa461f509887bd19e312c0c58467ce8ff8e300d3c1a90b608a760c5b80318eaf15fe57c96f9175d6cd4daad4663763baa7e78836e067d0163e9a2ccf2ff753f5b1b",
        ),
        (
            "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            "",
            "0xc18322a726b4f865da04323fe77b713df8286e67ae6f50fe10aa54519fddaa236c14dadd6b82cedfd527bf3c20dac250a004e3a614095f85c106068f46b3ad431c",
        ),
        // The length is that in bytes.
        (
            "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            "Zoë ☃\n",
            "0xf4ae555ef473d783a7b3e187bb7f72b56264627da63c48e55e25d614f93bc77e47a3793085224aea24851ae7317ec5e4f7b07e5b059b822c1a505cd82710d6031b",
        ),
        // The keys 1 and n - 1, whose points mirror each other.
        (
            "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf",
            "Some data",
            "0x150de368c3035ffaa61247930604b5887348002c05a271cb11550ac6c6361cc6316fa67c5fa356af9e8f9ab947dac048a7235291ea6c9b84d9aaad6feedf78fd1b",
        ),
        (
            "0x80C0dbf239224071c59dD8970ab9d542E3414aB2",
            "Some data",
            "0xe1d54e23e866c77815fef9fcfaae8fe100171f9f969b32da9e8590ed3a3713140c61fcc39bad02f145764f1e8a936807ff3a69ec8d5b2dd897726e1d3cb0d8e31c",
        ),
        (
            "0x80C0dbf239224071c59dD8970ab9d542E3414aB2",
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
            "0xfe0f9cad79a809f0045f9d3fe1d6ec889504eb87ab36f2950fe0933e83d61abc4c2843cdcfaf4ffbf54da9383679a12267eda14dfde352929c526e0892e181c21c",
        ),
    ];

    const R: &str = "b91467e570a6466aa9e9876cbcd013baba02900b8979d43fe208a4a4f339f5fd";
    const S: &str = "6007e74cd82e037b800186422fc2da167c747ef045e5d18a5f5d4300f8e1a029";
    const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";
    const ONE: &str = "0000000000000000000000000000000000000000000000000000000000000001";
    /// The group's order, and one less.
    const N: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141";
    const LAST: &str = "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364140";
    /// The largest `s` of the lower half, and the smallest of the upper.
    const HALF: &str = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0";
    const PAST_HALF: &str = "7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a1";
    /// The order less [`S`].
    const MIRRORED: &str = "9ff818b327d1fc847ffe79bdd03d25e83e3a5df66962ceb160751b8bd754a118";

    fn signer(message: &str, signature: &str) -> Option<String> {
        let signature = Signature::parse(signature).unwrap();
        recover(message.as_bytes(), &signature).map(|address| address.to_string())
    }

    fn problem(signature: &str) -> BadSignature {
        Signature::parse(signature).unwrap_err()
    }

    #[test]
    fn signers_are_those_that_other_libraries_signed_for() {
        for (address, message, signature) in SIGNED {
            assert_eq!(signer(message, signature).as_deref(), Some(address));
            // `v` as some wallets write it, and digits in upper case.
            let v = if signature.ends_with("1b") {
                "00"
            } else {
                "01"
            };
            let ledger = format!("{}{v}", &signature[..130]);
            assert_eq!(signer(message, &ledger).as_deref(), Some(address));
            let upper = format!("0x{}", signature[2..].to_uppercase());
            assert_eq!(signer(message, &upper).as_deref(), Some(address));
            // Any other message and the other `v` are somebody else's.
            assert_ne!(signer("Some date", signature).as_deref(), Some(address));
            let other = if signature.ends_with("1b") {
                "1c"
            } else {
                "1b"
            };
            let other = format!("{}{other}", &signature[..130]);
            assert_ne!(signer(message, &other).as_deref(), Some(address));
        }
    }

    #[test]
    fn only_four_values_of_v_are_taken() {
        for v in 0..=255_u8 {
            let signature = Signature::parse(&format!("0x{R}{S}{v:02x}"));
            if [0, 1, 27, 28].contains(&v) {
                assert!(signature.is_ok(), "{v}");
            } else {
                let problem = signature.unwrap_err().to_string();
                assert!(problem.contains("last byte"), "{v}: {problem}");
            }
        }
    }

    #[test]
    fn scalars_lie_in_their_range() {
        for (r, s) in [(R, ONE), (R, HALF), (ONE, S), (LAST, S)] {
            assert!(Signature::parse(&format!("0x{r}{s}1b")).is_ok(), "{r} {s}");
        }
        let ones = "f".repeat(64);
        for (r, s, word) in [
            (ZERO, S, "out of range"),
            (R, ZERO, "out of range"),
            (ZERO, ZERO, "out of range"),
            (N, S, "out of range"),
            (R, N, "out of range"),
            (&*ones, S, "out of range"),
            (R, &*ones, "out of range"),
            (R, PAST_HALF, "upper half"),
            (R, LAST, "upper half"),
            // The signature that anybody can make of the first one above.
            (R, MIRRORED, "upper half"),
        ] {
            for v in ["00", "01", "1b", "1c"] {
                let problem = problem(&format!("0x{r}{s}{v}")).to_string();
                assert!(problem.contains(word), "{r} {s} {v}: {problem}");
            }
        }
    }

    #[test]
    fn an_r_of_no_point_is_nobodys() {
        let five = ONE.replace('1', "5");
        for v in ["1b", "1c"] {
            assert_eq!(signer("Some data", &format!("0x{five}{S}{v}")), None);
        }
    }

    #[test]
    fn what_is_no_signature_is_malformed() {
        for text in [
            String::new(),
            "0".into(),
            format!("{R}{S}1b"),
            format!("0X{R}{S}1b"),
            format!(" 0x{R}{S}1b"),
            format!("0x{R}{S}1b\n"),
            format!("0x{R}{S}1"),
            format!("0x{R}{S}1b0"),
            format!("0x{R}{S}1g"),
            format!("0x{R}{S}+1"),
            format!("0x{R}{S}é"),
            format!("0x{R}{S} 1b"),
            format!("0x{R} {S}1b"),
            // Compact (EIP-2098): `v` is the highest bit of `s`.
            format!("0x{R}{S}"),
            format!("0x{R}e{}", &S[1..]),
            "0x12".to_owned(),
            format!("0x{R}{}", &S[2..]),
        ] {
            let problem = problem(&text);
            assert!(matches!(problem, BadSignature::Malformed(_)), "{text:?}");
        }
    }

    #[test]
    fn contracts_are_told_apart() {
        let undeployed = format!("0x{}{R}{S}1b{UNDEPLOYED}", "00".repeat(160));
        let of_two = format!("0x{R}{S}1b{R}{S}1c");
        // The suffix tells, whatever the length.
        let as_long = format!("0x{}{UNDEPLOYED}", "00".repeat(33));
        let compact = format!("0x{R}{UNDEPLOYED}");
        for text in [
            "0x",
            &of_two,
            &format!("0x{R}{S}1b00"),
            &undeployed,
            &as_long,
            &compact,
        ] {
            assert_eq!(problem(text), BadSignature::Contract, "{text}");
        }
    }

    #[test]
    fn nothing_is_repeated() {
        let signature = Signature::parse(&format!("0x{R}{S}1b")).unwrap();
        assert_eq!(format!("{signature:?}"), "Signature");
    }

    proptest! {
        #[test]
        fn signers_are_found(key: [u8; 32], message: Vec<u8>) {
            let Ok(key) = SigningKey::from_slice(&key) else {
                return Ok(());
            };
            let prefixed = [
                format!("\x19Ethereum Signed Message:\n{}", message.len()).as_bytes(),
                &message,
            ]
            .concat();
            let (signature, recovery) = key.sign_prehash_recoverable(&Keccak256::digest(prefixed));
            let point = key.verifying_key().to_sec1_point(false);
            let hash = Keccak256::digest(&point.as_bytes()[1..]);
            let address = Address(hash[12..].try_into().unwrap());

            let mut bytes = [0; LENGTH];
            bytes[..64].copy_from_slice(&signature.to_bytes());
            bytes[64] = 27 + recovery.to_byte();
            let signature = Signature::from_bytes(&bytes).unwrap();
            prop_assert_eq!(recover(&message, &signature), Some(address));
        }

        #[test]
        fn any_one_changed_byte_is_another_signer(place in 0..65_usize, byte: u8) {
            let (address, message, signature) = SIGNED[0];
            let mut changed: Vec<u8> = signature.as_bytes()[2..]
                .as_chunks::<2>()
                .0
                .iter()
                .map(|pair| crate::rules::wallet::byte(*pair).unwrap())
                .collect();
            // 28 and 1 mean the same.
            prop_assume!(changed[place] != byte && (place, byte) != (64, 1));
            changed[place] = byte;
            let changed: &[u8; LENGTH] = changed.as_slice().try_into().unwrap();
            if let Ok(signature) = Signature::from_bytes(changed) {
                let signer = recover(message.as_bytes(), &signature);
                prop_assert_ne!(signer.map(|signer| signer.to_string()), Some(address.into()));
            }
        }

        #[test]
        fn reading_never_panics(text in "(0x)?([0-9a-f]{2}){0,70}.{0,3}") {
            let _ = Signature::parse(&text);
        }
    }
}
