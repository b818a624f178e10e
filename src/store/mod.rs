//! Records that outlive the process: load, swap, events.
//!
//! Knows no rules: it loads a record with its version, swaps records against their versions
//! together with an event, and lists the events since an id.

use std::path::PathBuf;

/// Which store, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// A SQLite file in this folder.
    Embedded {
        /// The folder; made, with mode 0700, where it is missing.
        path: PathBuf,
    },
}
