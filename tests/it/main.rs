//! The integration tests, one binary.

mod config;
mod crash;
mod keys_cli;
mod store;
