//!
//! Nothing here decides anything about a request, and nothing here makes one wait.

pub mod log;
pub mod metrics;
