//! What every suite stands on: a [`World`] runs the real program, a [`Timed`] does in time that stands still, an [`Upstream`] records the raw
//! bytes it is sent, a [`Client`] writes raw bytes and reads what comes back.
//!
//! Nothing here judges. Every wait has a bound; nothing sleeps for luck.

mod client;
mod clock;
mod forwarder;
mod h2;
mod h2_upstream;
mod in_process;
mod process;
mod random;
mod redis;
mod rounds;
mod timed;
mod tls;
mod upstream;
mod wait;
mod wallet;
mod wire;
mod world;

pub(crate) use client::{Client, Response, request, socket_from};
pub(crate) use clock::HandClock;
pub(crate) use forwarder::{Forwarder, Way};
pub(crate) use h2::{Body, Frames, H2, RawAnswer, block, empty, frame, with_trailers};
pub(crate) use h2_upstream::{H2Received, H2Upstream, Settings, text};
pub(crate) use random::Random;
pub(crate) use redis::{AT_ONCE, Cluster, Flavour, Sentinel, Server};
pub(crate) use rounds::rounds;
pub(crate) use timed::{BEGAN, Serve, Timed};
pub(crate) use tls::{Authority, Identity, Terminator, TlsCaller, pem};
pub(crate) use upstream::{Exchange, Received, Upstream};
pub(crate) use wait::{BOUND, eventually, within};
pub(crate) use wallet::Wallet;
pub(crate) use wire::Headers;
pub(crate) use world::{KEY, NARROW_KEY, World, sha256_hex};
