//! `gatelet check`: says everything that is wrong with a configuration, and starts nothing.

use std::io::{self, Write};
use std::path::Path;

use crate::config::{self, Loaded, Overrides};
use crate::platform::{Clock, SystemClock};

/// Judges the configuration at `path`; the exit status is 0 where it is valid and 2 where not.
///
/// Problems and warnings go to `err`, one a line; the verdict on a valid one goes to `out`.
pub fn run(
    path: &Path,
    overrides: &Overrides,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    match config::load(path, overrides) {
        Ok(loaded) => {
            for warning in loaded.warnings(SystemClock::new().now()) {
                writeln!(err, "warning: {warning}")?;
            }
            let Loaded { config, .. } = loaded;
            writeln!(
                out,
                "{}: valid: {}, {}",
                path.display(),
                counted(config.gateway.routes.len(), "route"),
                counted(config.upstreams.len(), "upstream"),
            )?;
            Ok(0)
        }
        Err(problems) => {
            writeln!(err, "{problems}")?;
            Ok(2)
        }
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}
