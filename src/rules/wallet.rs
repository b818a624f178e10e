//! Ethereum accounts: how their addresses are written, and who signed a message.
//!
//! Pure. What a sign-in message says is `rules::siwe`'s matter. Accounts that are contracts sign
//! by rules of their own (ERC-1271), which only their chain knows; their signatures are told apart
//! here and not judged.

mod address;
mod signature;

pub use address::{Address, BadAddress};
pub use signature::{BadSignature, Signature, recover};

/// The byte that two hexadecimal digits stand for.
fn byte([high, low]: [u8; 2]) -> Option<u8> {
    let digit = |digit: u8| char::from(digit).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}
