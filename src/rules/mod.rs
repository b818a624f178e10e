//! The judgements: pure functions and values without sockets, clocks, randomness or logging.
//!
//! Whoever reviews what gatelet lets in reads this folder. Every function here takes what it
//! judges, and `now` where time matters, and answers with a value. Nothing here imports another
//! module of this crate, waits, or remembers anything between calls.

pub mod api_key;
mod base62;
pub mod bucket;
pub mod certificate;
pub mod client;
pub mod cookie;
pub mod credential;
pub mod decision;
pub mod feed;
pub mod fields;
pub mod form;
pub mod forwarded;
pub mod frames;
pub mod headers;
pub mod health;
pub mod issuer;
pub mod jwk;
pub mod jwt;
pub mod nonce;
pub mod origin;
pub mod path;
pub mod policy;
pub mod principal;
pub mod proxy_protocol;
pub mod refresh;
pub mod route;
pub mod session;
pub mod signing_keys;
pub mod siwe;
pub mod time;
pub mod units;
pub mod wallet;
