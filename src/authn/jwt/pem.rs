//! The textual form of keys (RFC 7468): finds the one private key of a file.
//!
//! Nothing that a file holds is repeated in an error.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use super::signing::BadSigningKey;

/// What a private key is written as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `PRIVATE KEY`: any kind of key (RFC 5208, RFC 5958).
    Pkcs8,
    /// `EC PRIVATE KEY` (RFC 5915).
    Sec1,
    /// `RSA PRIVATE KEY` (RFC 8017 §A.1.2).
    Pkcs1,
}

/// A private key as it was found; what it is worth is not known.
pub(super) struct PrivateKey {
    pub(super) form: Form,
    pub(super) der: Zeroizing<Vec<u8>>,
}

/// Finds the private key in `text`.
///
/// Passes over what else may stand beside it: prose, certificates, and the curve's parameters that
/// `openssl ecparam -genkey` writes.
pub(super) fn private_key(text: &[u8]) -> Result<PrivateKey, BadSigningKey> {
    let blocks = blocks(text)?;
    let mut private = blocks
        .iter()
        .filter(|block| block.label.ends_with(b"PRIVATE KEY"));
    let Some(block) = private.next() else {
        return Err(if blocks.is_empty() {
            BadSigningKey::NotPem
        } else {
            BadSigningKey::NotPrivate
        });
    };
    if private.next().is_some() {
        return Err(BadSigningKey::Several);
    }
    let form = match block.label {
        b"PRIVATE KEY" => Form::Pkcs8,
        b"EC PRIVATE KEY" => Form::Sec1,
        b"RSA PRIVATE KEY" => Form::Pkcs1,
        b"ENCRYPTED PRIVATE KEY" => return Err(BadSigningKey::Encrypted),
        _ => return Err(BadSigningKey::Unsupported),
    };
    if block.encrypted {
        return Err(BadSigningKey::Encrypted);
    }
    let der = STANDARD
        .decode(&*block.base64)
        .map_err(|_| BadSigningKey::Malformed)?;
    Ok(PrivateKey {
        form,
        der: Zeroizing::new(der),
    })
}

struct Block<'a> {
    label: &'a [u8],
    base64: Zeroizing<Vec<u8>>,
    /// It has the header by which OpenSSL marks its old form of encryption (RFC 1421 §4.6.1.1).
    encrypted: bool,
}

fn blocks(text: &[u8]) -> Result<Vec<Block<'_>>, BadSigningKey> {
    let mut lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut blocks = Vec::new();
    while let Some(line) = lines.next() {
        let Some(label) = boundary(line, b"-----BEGIN ") else {
            continue;
        };
        let mut block = Block {
            label,
            // Long enough from the start: a buffer that grew would leave copies of the key behind.
            base64: Zeroizing::new(Vec::with_capacity(text.len())),
            encrypted: false,
        };
        loop {
            let line = lines.next().ok_or(BadSigningKey::Malformed)?;
            match boundary(line, b"-----END ") {
                Some(end) if end == label => break,
                Some(_) => return Err(BadSigningKey::Malformed),
                None if line.starts_with(b"Proc-Type:") => block.encrypted = true,
                None => block.base64.extend_from_slice(line),
            }
        }
        blocks.push(block);
    }
    Ok(blocks)
}

/// The label of a line that begins or ends a block.
fn boundary<'a>(line: &'a [u8], opening: &[u8]) -> Option<&'a [u8]> {
    line.strip_prefix(opening)?.strip_suffix(b"-----")
}
