//! Refresh tokens under load and under the axe: whoever races, and whenever a process is killed,
//! there is one successor, and nobody is logged out.

mod kills;
mod races;

/// How many rounds a test takes, unless the environment asks for another number.
fn rounds(variable: &str, few: usize) -> usize {
    std::env::var(variable)
        .ok()
        .and_then(|rounds| rounds.parse().ok())
        .unwrap_or(few)
}
