//! How long a test goes on.

/// How many rounds a test takes, unless the environment asks for another number.
pub(crate) fn rounds(variable: &str, few: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(few)
}
