//! API keys: their shape, their digests, their records, and whether one is good now.
//!
//! Pure. Where records are kept is `store`'s matter; drawing randomness and writing records is
//! `authn::keyring`'s.

mod digest;
mod record;
mod shape;

pub use digest::{BadDigest, Digest, Pepper};
pub use record::{NotRotated, Record, Refused, Rotated, Secret, judge, revoke, rotate};
pub use shape::{Shape, checked_import, identifier, key_id, mint, shape};

use std::fmt;

use crate::rules::bucket::Rate;
use crate::rules::principal::Scopes;
use crate::rules::time::Timestamp;

/// A key from the configuration: known by the plain SHA-256 of its bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StaticKey {
    /// Its name; its id is `static:` and the name.
    pub name: Box<str>,
    /// Who it belongs to.
    pub owner: Option<Box<str>>,
    /// SHA-256 of its bytes.
    pub sha256: Digest,
    /// What it may do.
    pub scopes: Scopes,
    /// The rate its holder may reach, over all routes.
    pub rate_limit: Option<Rate>,
    /// From when it is refused.
    pub expires_at: Option<Timestamp>,
}

/// A name or an owner: what upstreams, logs and terminals may be shown.
///
/// Not empty, at most [`Label::LONGEST`] bytes, and without control characters, which would let
/// a name forge a log line or a header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(Box<str>);

impl Label {
    /// The longest a label may be, in bytes.
    pub const LONGEST: usize = 256;

    /// Takes `text` as a label.
    pub fn parse(text: &str) -> Result<Self, BadLabel> {
        if text.trim().is_empty() {
            Err(BadLabel::Empty)
        } else if text.len() > Self::LONGEST {
            Err(BadLabel::TooLong)
        } else if text.chars().any(char::is_control) {
            Err(BadLabel::Control)
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl From<Label> for Box<str> {
    fn from(label: Label) -> Self {
        label.0
    }
}

/// Why a text cannot be a name or an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadLabel {
    /// Nothing but white space.
    Empty,
    /// More than [`Label::LONGEST`] bytes.
    TooLong,
    /// It holds a control character.
    Control,
}

impl fmt::Display for BadLabel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("must not be empty"),
            Self::TooLong => write!(f, "must be at most {} bytes long", Label::LONGEST),
            Self::Control => f.write_str("must not hold control characters"),
        }
    }
}

impl std::error::Error for BadLabel {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_checked() {
        let long = "é".repeat(129);
        for (text, problem) in [
            ("", BadLabel::Empty),
            (" \u{a0}", BadLabel::Empty),
            ("a\nb", BadLabel::Control),
            ("a\0", BadLabel::Control),
            ("\u{7f}", BadLabel::Control),
            ("a\u{85}b", BadLabel::Control),
            (&long, BadLabel::TooLong),
        ] {
            assert_eq!(Label::parse(text), Err(problem), "{text:?}");
        }
        for text in ["ci", "Zoë's laptop", &"n".repeat(256)] {
            assert_eq!(
                Label::parse(text).map(Box::<str>::from).as_deref(),
                Ok(text)
            );
        }
    }
}
