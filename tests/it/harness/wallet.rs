//! A wallet: signs messages as EIP-191 says.

use k256::ecdsa::SigningKey;
use sha3::{Digest, Keccak256};

pub(crate) struct Wallet(SigningKey);

impl Wallet {
    /// The same wallet for the same number.
    pub(crate) fn numbered(number: u8) -> Self {
        Self(SigningKey::from_slice(&[number; 32]).unwrap())
    }

    /// Its address in lower case.
    pub(crate) fn address(&self) -> String {
        let point = self.0.verifying_key().to_sec1_point(false);
        let hash = Keccak256::digest(&point.as_bytes()[1..]);
        format!("0x{}", hex(&hash[12..]))
    }

    pub(crate) fn sign(&self, message: &str) -> String {
        let prefix = format!("\x19Ethereum Signed Message:\n{}", message.len());
        let hash = Keccak256::new()
            .chain_update(prefix)
            .chain_update(message)
            .finalize();
        let (signature, recovery) = self.0.sign_prehash_recoverable(&hash);
        let v = 27 + recovery.to_byte();
        format!("0x{}{v:02x}", hex(&signature.to_bytes()))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;

    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}
