//! Diagnostics and the access log.

/// How gatelet logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Config {
    /// The form of each line.
    pub format: Format,
    /// The least severe level that is written.
    pub level: tracing::Level,
    /// Whether each request is logged.
    pub access: bool,
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Text on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
