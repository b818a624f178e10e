//! Refresh tokens under load and under the axe: whoever races, and whenever a process is killed,
//! there is one successor, and nobody is logged out.

mod kills;
pub(crate) mod races;
