//! Metrics, probes and logs: what gatelet tells about itself.
//!
//! Nothing here decides anything about a request, and nothing here makes one wait.

pub mod access_log;
pub mod log;
pub mod metrics;
pub mod probes;
