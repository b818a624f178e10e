//! Credentials become principals here.

pub mod access;
pub mod access_token;
pub mod api_key;
pub mod authenticators;
pub mod families;
pub mod identity;
pub mod issuers;
pub mod jwt;
pub mod keyring;
pub mod nonces;
pub mod proven;
pub mod session_token;
pub mod sessions;
pub mod signers;
pub mod standing;
pub mod sweep;

use std::sync::Arc;

use http::HeaderName;

use crate::authn::signers::Ring;

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
    /// The `iss` of access tokens that are issued here.
    pub own_issuer: Box<str>,
    /// Access tokens, where they are issued.
    pub access_token: Option<access_token::Config>,
    /// The keys that sign them, where they come from files.
    pub signing_keys: Option<Arc<Ring>>,
    /// The other issuers whose access tokens are taken.
    pub trusted: Vec<issuers::Config>,
}
