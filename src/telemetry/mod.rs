//! Metrics, probes and logs.

pub mod log;
