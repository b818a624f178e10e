//! Sign-in messages (EIP-4361): what one says, and whether it is meant for here and now.
//!
//! Pure. A message is taken by the whole grammar of the standard and nothing besides it, because
//! a wallet has judged the same bytes by the same grammar before it showed them to its owner:
//! what it would read otherwise is refused. Who signed a message is `rules::wallet`'s matter, and
//! whether its nonce was given out here is not judged here either.

mod date_time;
mod judgement;
mod label;
mod reading;
#[cfg(test)]
mod tests;
mod uri;

pub use judgement::{Expected, Mismatch, judge};
pub use reading::{LONGEST, Malformed, is_domain, is_statement, is_uri};

use std::fmt;

use crate::rules::time::Timestamp;
use crate::rules::wallet::Address;
use label::{
    CHAIN_ID, EXPIRATION_TIME, ISSUED_AT, NONCE, NOT_BEFORE, PREAMBLE, REQUEST_ID, RESOURCE,
    RESOURCES, URI, VERSION,
};

/// A sign-in message.
///
/// [`Message::parse`] reads one. [`Display`](fmt::Display) writes one in the standard's form, which
/// need not be the bytes that were read, since times come in UTC: signatures are judged over what
/// was read. A message whose parts are well formed is read from what was written of it as itself.
/// Nothing checks the parts of a message that was put together; parsing what was written does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// The scheme of the origin that asks, if it is said.
    pub scheme: Option<&'a str>,
    /// The authority that asks (RFC 3986 §3.2); not empty.
    pub domain: &'a str,
    /// The account that signs.
    pub address: Address,
    /// What the account's owner reads and agrees to.
    pub statement: Option<&'a str>,
    /// What the sign-in is for.
    pub uri: &'a str,
    /// The chain that the session is bound to (EIP-155).
    pub chain_id: u64,
    /// At least eight letters and digits.
    pub nonce: &'a str,
    /// When the message was made.
    pub issued_at: Timestamp,
    /// From when the message is worth nothing.
    pub expiration_time: Option<Timestamp>,
    /// Until when the message is worth nothing yet.
    pub not_before: Option<Timestamp>,
    /// A name for the request that asked.
    pub request_id: Option<&'a str>,
    /// What else the owner wishes to show. A list that is empty and none are the same.
    pub resources: Vec<&'a str>,
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(scheme) = self.scheme {
            write!(f, "{scheme}://")?;
        }
        writeln!(f, "{}{PREAMBLE}", self.domain)?;
        writeln!(f, "{}\n", self.address)?;
        if let Some(statement) = self.statement {
            writeln!(f, "{statement}")?;
        }
        writeln!(f, "\n{URI}{}", self.uri)?;
        writeln!(f, "{VERSION}1")?;
        writeln!(f, "{CHAIN_ID}{}", self.chain_id)?;
        writeln!(f, "{NONCE}{}", self.nonce)?;
        write!(f, "{ISSUED_AT}{}", date_time::print(self.issued_at))?;
        if let Some(time) = self.expiration_time {
            write!(f, "\n{EXPIRATION_TIME}{}", date_time::print(time))?;
        }
        if let Some(time) = self.not_before {
            write!(f, "\n{NOT_BEFORE}{}", date_time::print(time))?;
        }
        if let Some(id) = self.request_id {
            write!(f, "\n{REQUEST_ID}{id}")?;
        }
        if !self.resources.is_empty() {
            write!(f, "\n{RESOURCES}")?;
        }
        for resource in &self.resources {
            write!(f, "\n{RESOURCE}{resource}")?;
        }
        Ok(())
    }
}
