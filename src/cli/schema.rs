//! `gatelet config schema` and `gatelet config reference`: what a configuration may say, for
//! editors and for people.

use std::io::{self, Write};

use crate::config;

/// Prints the JSON Schema of the configuration file.
pub fn schema(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(config::schema().as_bytes())
}

/// Prints every key with its default and meaning, the text of `docs/configuration.md`.
pub fn reference(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(config::reference().as_bytes())
}
