//! The integration tests, one binary.

mod crash;
mod keys_cli;
mod store;
