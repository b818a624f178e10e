//! The integration tests, one binary.

mod keys_cli;
mod store;
