//! Credentials become principals here.

pub mod api_key;
pub mod authenticators;
pub mod jwt;
pub mod keyring;
pub mod proven;
pub mod session_token;
pub mod sessions;
pub mod standing;

use http::HeaderName;

use crate::rules::api_key::{Pepper, StaticKey};
use crate::rules::session::Lifetime;

/// How credentials are read and judged.
#[derive(Clone, Debug)]
pub struct Config {
    /// The headers that carry a key.
    pub headers: Vec<HeaderName>,
    /// Whether `Authorization: Bearer` carries one too.
    pub bearer: bool,
    /// How minted keys begin, without the underscore.
    pub prefix: Box<str>,
    /// The secret that digests are keyed with.
    pub pepper: Option<Pepper>,
    /// Keys from the file and from the key directory.
    pub statics: Vec<StaticKey>,
    /// How long client sessions live.
    pub session_lifetime: Lifetime,
}
