//! gatelet: a reverse proxy that stands before an HTTP API and lets in the requests that prove
//! who they are.
//!
//! The modules in reading order, from the outside in. `ARCHITECTURE.md` is the map.

pub mod answer;
pub mod app;
pub mod authn;
pub mod cache;
pub mod cli;
pub mod config;
pub mod fetch;
pub mod gateway;
pub mod limits;
pub mod listener;
pub mod platform;
pub mod rules;
pub mod store;
pub mod telemetry;
pub mod tokens;
pub mod upstream;
pub mod wire;
