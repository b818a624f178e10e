//! Where commands read and write, and how they tell what went wrong.

use std::error::Error;
use std::fs;
use std::io::{self, Read, Write};
use std::path::Path;

/// Where a command reads and writes.
pub struct Terminal<'a> {
    /// Standard input.
    pub input: &'a mut dyn Read,
    /// Standard output: what was asked for.
    pub out: &'a mut dyn Write,
    /// Standard error: what went wrong.
    pub err: &'a mut dyn Write,
}

/// Writes an error with its causes, on one line.
pub(super) fn print_chain(err: &mut dyn Write, error: &dyn Error) -> io::Result<()> {
    write!(err, "error: {error}")?;
    let mut source = error.source();
    while let Some(error) = source {
        write!(err, ": {error}")?;
        source = error.source();
    }
    writeln!(err)
}

/// The name of `file` for messages, and its text; `-` is `input`.
pub(super) fn read(file: &Path, input: &mut dyn Read) -> io::Result<(String, String)> {
    if file == Path::new("-") {
        let text = io::read_to_string(input)?;
        return Ok(("stdin".to_owned(), text));
    }
    let name = file.display().to_string();
    match fs::read_to_string(file) {
        Ok(text) => Ok((name, text)),
        Err(error) => Err(io::Error::new(error.kind(), format!("{name}: {error}"))),
    }
}
