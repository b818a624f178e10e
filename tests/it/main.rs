//! The integration tests, one binary: the real program before a real upstream.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test that meets the unexpected stops there, and measures real time"
)]

mod harness;

mod advised;
mod answers;
mod architecture;
mod balance;
mod chaos;
mod config;
mod cors;
mod crash;
mod credentials;
mod drain;
mod expiries;
mod floods;
mod http2;
mod http2_upstream;
mod imports;
mod issuers;
mod keys_cli;
mod limits;
mod managed_redis;
mod outage;
mod own_routes;
mod proxy_protocol;
mod proxying;
mod refresh;
mod reload;
mod replicas;
mod revocation;
mod sessions;
mod sign_in;
mod sliding;
mod soak;
mod store;
mod store_copy;
mod strangers;
mod sweeps;
mod telemetry;
mod timed;
mod tls;
mod upstream_tls;
mod websocket;
