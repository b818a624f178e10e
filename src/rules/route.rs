//! Which route a request's path, host and method choose.

/// How paths are matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MatchOptions {
    /// ASCII case does not matter.
    pub ignore_case: bool,
    /// A path is the same with and without a trailing slash.
    pub ignore_trailing_slash: bool,
}

/// What a route covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// The host, lower case and without a port; `None` is any.
    pub host: Option<Box<str>>,
    /// The path, or the path and everything below it.
    pub path: PathPattern,
}

/// The paths that a route covers. Patterns are written decoded, and begin with `/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathPattern {
    /// Exactly this path.
    Exact(Box<str>),
    /// This path and everything below it, by whole segments.
    Prefix(Box<str>),
}
