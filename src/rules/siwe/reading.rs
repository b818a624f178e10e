//! Reading a message, line by line, by the grammar of EIP-4361.

use std::fmt;
use std::iter::Peekable;
use std::str::Split;

use super::label::{
    CHAIN_ID, EXPIRATION_TIME, ISSUED_AT, NONCE, NOT_BEFORE, PREAMBLE, REQUEST_ID, RESOURCE,
    RESOURCES, URI, VERSION,
};
use super::uri::{self, Uri};
use super::{Message, date_time};
use crate::rules::time::Timestamp;
use crate::rules::wallet::Address;

/// The longest message that is read, in bytes.
pub const LONGEST: usize = 4096;

/// Why bytes are no sign-in message. Never repeats them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for Malformed {}

impl<'a> Message<'a> {
    /// Reads a message, all of it.
    ///
    /// Refuses besides what the grammar does: an address without its EIP-55 checksum, an empty
    /// domain, a chain id with a leading zero or past 64 bits, and a time before 1970 or after 2554.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut lines = Lines::of(bytes)?;
        let (scheme, domain) = lines.origin()?;
        let address = lines.address()?;
        let statement = lines.statement()?;
        let uri = lines.field(URI, "the URI is missing or out of place")?;
        let version = lines.field(VERSION, "the version is missing or out of place")?;
        let chain_id = lines.field(CHAIN_ID, "the chain id is missing or out of place")?;
        let nonce = lines.field(NONCE, "the nonce is missing or out of place")?;
        let issued_at = lines.field(ISSUED_AT, "the issued-at time is missing or out of place")?;
        let expiration_time = lines.option(EXPIRATION_TIME);
        let not_before = lines.option(NOT_BEFORE);
        let request_id = lines.option(REQUEST_ID);
        let resources = lines.resources()?;
        lines.end()?;

        check(is_uri(uri), "the URI is not a URI")?;
        check(version == "1", "the version is not 1")?;
        check(
            is_nonce(nonce),
            "the nonce is not eight letters and digits or more",
        )?;
        check(
            request_id.is_none_or(uri::is_segment),
            "the request id holds a character that EIP-4361 does not allow there",
        )?;
        let chain_id = number(chain_id).ok_or(Malformed(
            "the chain id is not a number of 64 bits without leading zeros",
        ))?;
        let issued_at = time(
            issued_at,
            "the issued-at time is not an RFC 3339 time from 1970 to 2554",
        )?;
        let expiration_time = optional_time(
            expiration_time,
            "the expiration time is not an RFC 3339 time from 1970 to 2554",
        )?;
        let not_before = optional_time(
            not_before,
            "the not-before time is not an RFC 3339 time from 1970 to 2554",
        )?;
        Ok(Self {
            scheme,
            domain,
            address,
            statement,
            uri,
            chain_id,
            nonce,
            issued_at,
            expiration_time,
            not_before,
            request_id,
            resources,
        })
    }
}

/// The lines of a message that were not read yet.
struct Lines<'a>(Peekable<Split<'a, char>>);

impl<'a> Lines<'a> {
    /// Splits a message at its line feeds.
    fn of(bytes: &'a [u8]) -> Result<Self, Malformed> {
        check(
            bytes.len() <= LONGEST,
            "the message is longer than 4096 bytes",
        )?;
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed("the message is not UTF-8"))?;
        // No production has one; told by itself, because some platforms write it unasked.
        check(!text.contains('\r'), "the message holds a carriage return")?;
        Ok(Self(text.split('\n').peekable()))
    }

    /// Reads `[ scheme "://" ] domain` and the words that follow them in every message.
    fn origin(&mut self) -> Result<(Option<&'a str>, &'a str), Malformed> {
        let origin = self
            .0
            .next()
            .and_then(|line| line.strip_suffix(PREAMBLE))
            .ok_or(Malformed("the first line is not that of a sign-in message"))?;
        // No authority holds a slash, so that the first `://` ends a scheme.
        let (scheme, domain) = match origin.split_once("://") {
            Some((scheme, domain)) => (Some(scheme), domain),
            None => (None, origin),
        };
        check(
            scheme.is_none_or(uri::is_scheme),
            "the scheme is not a scheme",
        )?;
        check(is_domain(domain), "the domain is not a domain")?;
        Ok((scheme, domain))
    }

    /// Reads `address LF LF`. The address of a contract has its checksum here as well.
    fn address(&mut self) -> Result<Address, Malformed> {
        let line = self.0.next().unwrap_or_default();
        let address = Address::parse_checksummed(line).map_err(|bad| Malformed(bad.reason()))?;
        self.empty("no empty line follows the address")?;
        Ok(address)
    }

    /// Reads `[ statement LF ] LF`.
    ///
    /// Two empty lines after the address are no statement, and three an empty one.
    fn statement(&mut self) -> Result<Option<&'a str>, Malformed> {
        let statement = self
            .0
            .next()
            .ok_or(Malformed("the message ends after its address"))?;
        if statement.is_empty() {
            return Ok(self.0.next_if_eq(&"").map(|_| ""));
        }
        // Told before the characters: who leaves one empty line, and no statement, has the URI
        // taken for it.
        self.empty("no empty line follows the statement")?;
        check(
            is_statement(statement),
            "the statement holds a character that EIP-4361 does not allow there",
        )?;
        Ok(Some(statement))
    }

    fn resources(&mut self) -> Result<Vec<&'a str>, Malformed> {
        let mut resources = Vec::new();
        if self.0.next_if_eq(&RESOURCES).is_some() {
            while let Some(resource) = self.option(RESOURCE) {
                check(is_uri(resource), "a resource is not a URI")?;
                resources.push(resource);
            }
        }
        Ok(resources)
    }

    fn empty(&mut self, problem: &'static str) -> Result<(), Malformed> {
        check(self.0.next() == Some(""), problem)
    }

    /// Takes the next line, which has to begin with `label`.
    fn field(&mut self, label: &str, problem: &'static str) -> Result<&'a str, Malformed> {
        self.option(label).ok_or(Malformed(problem))
    }

    /// Takes the next line if it begins with `label`.
    fn option(&mut self, label: &str) -> Option<&'a str> {
        let rest = self.0.peek()?.strip_prefix(label)?;
        self.0.next();
        Some(rest)
    }

    fn end(&mut self) -> Result<(), Malformed> {
        check(
            self.0.next().is_none(),
            "a line is out of place, or no line of a message",
        )
    }
}

fn check(holds: bool, problem: &'static str) -> Result<(), Malformed> {
    if holds {
        Ok(())
    } else {
        Err(Malformed(problem))
    }
}

/// Whether a message can be for `text`: an authority (RFC 3986 §3.2), and not an empty one.
///
/// The grammar of RFC 3986 lets an authority be empty; a sign-in for nobody in particular is none.
pub fn is_domain(text: &str) -> bool {
    !text.is_empty() && uri::is_authority(text)
}

/// Whether a message can state `text`: `*( reserved / unreserved / " " )`.
pub fn is_statement(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte == b' ' || uri::is_reserved(byte) || uri::is_unreserved(byte))
}

/// Whether `text` is a URI (RFC 3986 §3), and no mere reference to one.
pub fn is_uri(text: &str) -> bool {
    Uri::parse(text).is_some()
}

/// `8*( ALPHA / DIGIT )`.
fn is_nonce(text: &str) -> bool {
    text.len() >= 8 && text.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

fn time(text: &str, problem: &'static str) -> Result<Timestamp, Malformed> {
    date_time::parse(text).ok_or(Malformed(problem))
}

fn optional_time(
    text: Option<&str>,
    problem: &'static str,
) -> Result<Option<Timestamp>, Malformed> {
    text.map(|text| time(text, problem)).transpose()
}

/// Reads `1*DIGIT`, of which there is one form a number here.
fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let plain = text.len() == 1 || !text.starts_with('0');
    (digits && plain).then(|| text.parse().ok()).flatten()
}
