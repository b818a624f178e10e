//! The words of a message that the grammar fixes.

pub(super) const PREAMBLE: &str = " wants you to sign in with your Ethereum account:";
pub(super) const URI: &str = "URI: ";
pub(super) const VERSION: &str = "Version: ";
pub(super) const CHAIN_ID: &str = "Chain ID: ";
pub(super) const NONCE: &str = "Nonce: ";
pub(super) const ISSUED_AT: &str = "Issued At: ";
pub(super) const EXPIRATION_TIME: &str = "Expiration Time: ";
pub(super) const NOT_BEFORE: &str = "Not Before: ";
pub(super) const REQUEST_ID: &str = "Request ID: ";
pub(super) const RESOURCES: &str = "Resources:";
pub(super) const RESOURCE: &str = "- ";
