//! The commands: what each is told, and which function does it.

pub mod check;
mod demo;
pub mod keys;
pub mod schema;
mod serve;
mod sessions;
mod store;
mod terminal;

use std::error::Error;
use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};

pub use terminal::Terminal;

use crate::authn::sessions::Fresh;
use crate::config::{self, Config, Overrides};
use crate::platform::Platform;

/// Done.
const DONE: u8 = 0;
/// Failed while running.
const FAILED: u8 = 1;
/// Wrong usage, or an invalid configuration.
const WRONG: u8 = 2;

/// An authentication sidecar: lets in the requests that prove who they are.
#[derive(Debug, Parser)]
#[command(name = "gatelet", version, arg_required_else_help = false)]
struct Gatelet {
    #[command(flatten)]
    sources: Sources,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Where the configuration comes from.
#[derive(Debug, Args)]
struct Sources {
    /// The configuration file
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        default_value = "config.toml"
    )]
    config: PathBuf,
    /// Set one key over the file and the environment, such as listen.proxy=127.0.0.1:8080
    #[arg(long, global = true, value_name = "KEY=VALUE", value_parser = assignment)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the sidecar (also without a command)
    Serve,
    /// Validate the configuration, print every problem, start nothing
    Check,
    /// Run the sidecar before a sample API, with a key to try it, and leave nothing behind
    Demo,
    /// Make, list and revoke API keys
    Keys(keys::Keys),
    /// List, end and take over client sessions
    Sessions(sessions::Command),
    /// Move what is kept from one store to another
    Store(store::Command),
    /// Print what a configuration can hold
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

#[derive(Clone, Copy, Debug, Subcommand)]
enum ConfigCommand {
    /// Print the JSON Schema of the configuration
    Schema,
    /// Print every key with its default and meaning, in Markdown
    Reference,
}

/// Runs the command line and returns the exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let gatelet = match Gatelet::try_parse_from(arguments) {
        Ok(gatelet) => gatelet,
        Err(error) => {
            // A closed pipe takes the text with it; the status still tells.
            let _ = error.print();
            let asked = matches!(
                error.kind(),
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
            );
            return if asked { DONE } else { WRONG };
        }
    };
    let Gatelet { sources, command } = gatelet;
    let (mut out, mut err) = (io::stdout(), io::stderr());
    let written = match command.unwrap_or(Command::Serve) {
        Command::Serve => return serve::run(&sources.config, sources.overrides()),
        Command::Demo => return demo::run(),
        Command::Keys(keys) => return manage(keys, &sources),
        Command::Sessions(command) => return manage_sessions(command, &sources),
        Command::Store(command) => return move_store(command, &sources),
        Command::Check => check::run(&sources.config, &sources.overrides(), &mut out, &mut err),
        Command::Config(ConfigCommand::Schema) => schema::schema(&mut out).map(|()| DONE),
        Command::Config(ConfigCommand::Reference) => schema::reference(&mut out).map(|()| DONE),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Gatelet::command(), "gatelet", &mut out);
            out.flush().map(|()| DONE)
        }
    };
    written.unwrap_or(FAILED)
}

impl Sources {
    fn overrides(&self) -> Overrides {
        self.set
            .iter()
            .fold(Overrides::from_process(), |overrides, (key, value)| {
                overrides.set(key, value)
            })
    }
}

fn manage(keys: keys::Keys, sources: &Sources) -> u8 {
    let Some(config) = load(&sources.config, &sources.overrides()) else {
        return WRONG;
    };
    keys::run(
        keys,
        config.store.as_ref(),
        &config.authn,
        &Platform::system(),
        &mut Terminal {
            input: &mut io::stdin(),
            out: &mut io::stdout(),
            err: &mut io::stderr(),
        },
    )
}

fn manage_sessions(command: sessions::Command, sources: &Sources) -> u8 {
    let Some(config) = load(&sources.config, &sources.overrides()) else {
        return WRONG;
    };
    let tokens = &config.gateway.tokens;
    let access = config.authn.access_token.as_ref();
    let fresh = Fresh {
        session: config.authn.session_lifetime,
        session_scopes: tokens.session_scopes.clone(),
        refresh: tokens.refresh,
        access_scopes: access
            .map(|access| access.scopes.clone())
            .unwrap_or_default(),
    };
    sessions::run(
        command,
        config.store.as_ref(),
        &config.authn,
        &fresh,
        &Platform::system(),
        &mut Terminal {
            input: &mut io::stdin(),
            out: &mut io::stdout(),
            err: &mut io::stderr(),
        },
    )
}

fn move_store(command: store::Command, sources: &Sources) -> u8 {
    let Some(config) = load(&sources.config, &sources.overrides()) else {
        return WRONG;
    };
    store::run(
        command,
        config.store.as_ref(),
        &Platform::system(),
        &mut Terminal {
            input: &mut io::stdin(),
            out: &mut io::stdout(),
            err: &mut io::stderr(),
        },
    )
}

/// The configuration, or `None` after its problems were told.
fn load(path: &Path, overrides: &Overrides) -> Option<Config> {
    match config::load(path, overrides) {
        Ok(loaded) => Some(loaded.config),
        Err(problems) => {
            tell_problems(path, &problems);
            None
        }
    }
}

/// Tells every problem, and a newcomer without a file the way in.
fn tell_problems(path: &Path, problems: &config::Problems) {
    let mut err = io::stderr();
    // Where nothing can be written, the status still tells.
    let _ = writeln!(err, "{problems}");
    if !path.exists() {
        let _ = writeln!(
            err,
            "To see gatelet at work without a configuration, run: gatelet demo"
        );
    }
}

/// Tells why a command failed while it ran, and returns the exit status.
///
/// Diagnostics have to be set up already.
fn failed(error: &(dyn Error + 'static)) -> u8 {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    tracing::error!("{text}");
    FAILED
}

fn assignment(text: &str) -> Result<(String, String), &'static str> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE, such as listen.proxy=127.0.0.1:8080"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Gatelet::command().debug_assert();
    }
}
