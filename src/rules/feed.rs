//! What changed: the payload of the events that replicas follow.

pub mod following;

use serde::{Deserialize, Serialize};

use crate::rules::api_key::Digest;

/// A change to what the store holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// An API key was made, changed or revoked.
    ApiKey {
        /// Its id.
        id: Box<str>,
        /// The digest of every secret that knows it, those just dropped included.
        digests: Vec<Digest>,
    },
    /// A client session was taken over or revoked.
    Session {
        /// Its id.
        id: Box<str>,
        /// The digest of its token.
        digests: Vec<Digest>,
    },
    /// A family of refresh tokens was ended.
    Family {
        /// Its id.
        id: Box<str>,
    },
    /// A change that this version has no word for. Whoever follows forgets everything: a newer
    /// replica may have revoked something that is remembered here.
    #[serde(other)]
    Unknown,
}

impl Change {
    /// The change as a payload.
    #[expect(clippy::missing_panics_doc, reason = "it cannot")]
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and lists of strings are always JSON")
    }

    /// The change that a payload tells; [`Change::Unknown`] for whatever cannot be read.
    pub fn decode(payload: &[u8]) -> Self {
        serde_json::from_slice(payload).unwrap_or(Self::Unknown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_reads_back() {
        let change = Change::ApiKey {
            id: "key_1".into(),
            digests: vec![Digest::of(b"one"), Digest::of(b"two")],
        };
        assert_eq!(Change::decode(&change.encode()), change);
    }

    #[test]
    fn the_payload_is_stable() {
        let payload = br#"{"kind":"api_key","id":"k","digests":["ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"]}"#;
        let change = Change::ApiKey {
            id: "k".into(),
            digests: vec![Digest::of(b"abc")],
        };
        assert_eq!(Change::decode(payload), change);
        assert_eq!(change.encode(), payload);
    }

    #[test]
    fn what_is_not_understood_is_unknown() {
        for payload in [
            &br#"{"kind":"wallet","address":"0x0"}"#[..],
            br#"{"kind":"api_key"}"#,
            br#"{"kind":"api_key","id":"k","digests":["short"]}"#,
            b"",
            b"\xff",
        ] {
            assert_eq!(Change::decode(payload), Change::Unknown);
        }
    }
}
