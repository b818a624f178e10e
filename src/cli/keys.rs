//! `gatelet keys`: makes, lists, changes and imports API keys in the configured store.
//!
//! Says what is done and how it went; how keys are made and kept is `authn::keyring`'s. Opens the
//! store itself, so it works whether or not a server runs on it.

mod output;

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::terminal::{Terminal, print_chain, read};
use crate::authn;
use crate::authn::keyring::{ImportError, Keyring, NewKey};
use crate::platform::Platform;
use crate::rules::api_key::Label;
use crate::rules::bucket::Rate;
use crate::rules::principal::{Scopes, is_scope_token};
use crate::rules::units;
use crate::store::{self, Store};

/// Done.
const DONE: u8 = 0;
/// Failed while running.
const FAILED: u8 = 1;
/// Wrong usage, or an invalid configuration.
const WRONG: u8 = 2;

/// What `gatelet keys` is told.
#[derive(Debug, Args)]
pub struct Keys {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a key and show its secret, this once
    Create(Create),
    /// List the keys in the store; those from the configuration are not among them
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// Show one key, without its secret
    Show {
        /// The key's id, as `keys list` shows it
        id: String,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// End a key for good; running servers honour it within a second
    Revoke {
        /// The key's id
        id: String,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Give a key a new secret and show it, this once
    Rotate {
        /// The key's id
        id: String,
        /// How long the old secret works on, such as 24h
        #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = units::duration)]
        overlap: Duration,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Take over existing keys, all or none
    ///
    /// The file has one JSON object a line: "name", and "key" or "sha256" (the SHA-256 of the
    /// key's bytes, in hexadecimal); "owner", "scopes" and "expiresAt" (Unix seconds, or a time
    /// such as 2027-01-31T00:00:00Z) may be left out.
    Import {
        /// The file, or - for standard input
        file: PathBuf,
    },
}

#[derive(Debug, Args)]
struct Create {
    /// What to call it, such as the program that will use it
    #[arg(long, value_parser = Label::parse)]
    name: Label,
    /// Who it belongs to
    #[arg(long, value_parser = Label::parse)]
    owner: Option<Label>,
    /// What it may do; may be given more than once
    #[arg(long = "scope", value_name = "SCOPE", value_parser = scope)]
    scopes: Vec<String>,
    /// When it stops working, such as 90d; never, unless given
    #[arg(long, value_name = "DURATION", value_parser = lifetime)]
    expires_in: Option<Duration>,
    /// How often it may be used over all routes, such as 100/s
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    rate_limit: Option<Rate>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command and returns its exit status.
pub fn run(
    keys: Keys,
    store: Option<&store::Config>,
    api_keys: &authn::Config,
    platform: &Platform,
    terminal: &mut Terminal<'_>,
) -> u8 {
    match attempt(keys.command, store, api_keys, platform, terminal) {
        Ok(()) => DONE,
        Err(failure) => {
            // Where even this cannot be written, the status still tells.
            let _ = failure.print(terminal.err);
            failure.status()
        }
    }
}

/// Why a command was not done.
enum Failure {
    /// The configuration names no store.
    NoStore,
    /// There is no store yet, and the command is about keys that are there.
    Nowhere(PathBuf),
    /// What was imported is wrong.
    Import { from: String, error: ImportError },
    /// Anything else.
    Other(Box<dyn Error>),
}

impl<E: Error + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Other(Box::new(error))
    }
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Self::NoStore => WRONG,
            Self::Nowhere(_) | Self::Import { .. } | Self::Other(_) => FAILED,
        }
    }

    fn print(&self, err: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::NoStore => writeln!(
                err,
                "error: the configuration has no [store], so there is nowhere to keep keys; add\n\n[store]\nkind = \"embedded\"\npath = \"gatelet-data\""
            ),
            Self::Nowhere(path) => writeln!(
                err,
                "there is no store in {}; if there should be one, run the command in the folder that the server runs in, or give store.path in full",
                path.display()
            ),
            Self::Import {
                from,
                error: ImportError::Lines(lines),
            } => {
                for line in lines {
                    writeln!(err, "{from}:{}: {}", line.line, line.problem)?;
                }
                writeln!(err, "error: nothing was imported")
            }
            Self::Import {
                error: ImportError::Keyring(error),
                ..
            } => print_chain(err, error),
            Self::Other(error) => print_chain(err, &**error),
        }
    }
}

fn attempt(
    command: Command,
    store: Option<&store::Config>,
    api_keys: &authn::Config,
    platform: &Platform,
    terminal: &mut Terminal<'_>,
) -> Result<(), Failure> {
    let Some(store) = store else {
        return Err(Failure::NoStore);
    };
    // Read before the store is opened: a file that is missing should not leave a store behind.
    let import = match &command {
        Command::Import { file } => Some(read(file, terminal.input)?),
        _ => None,
    };
    if let Some(path) = Store::missing_from(store) {
        let nowhere = Failure::Nowhere(std::path::absolute(path)?);
        match &command {
            Command::Create(_) | Command::Import { .. } => {}
            Command::List { json } => {
                nowhere.print(terminal.err)?;
                output::list(terminal.out, &[], platform.clock.now(), *json)?;
                return Ok(terminal.out.flush()?);
            }
            Command::Show { .. } | Command::Revoke { .. } | Command::Rotate { .. } => {
                return Err(nowhere);
            }
        }
    }
    let store = Store::open(store, platform, Arc::new(|_, _, _| {}))?;
    let keyring = Keyring::new(
        Arc::new(store),
        api_keys.prefix.clone(),
        api_keys.pepper.clone(),
        platform.clone(),
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let now = platform.clock.now();
    let out = &mut *terminal.out;
    match command {
        Command::Create(create) => {
            let json = create.json;
            let new = NewKey {
                name: create.name,
                owner: create.owner,
                scopes: Scopes::new(create.scopes),
                expires_at: create.expires_in.map(|lifetime| now.plus(lifetime)),
                rate_limit: create.rate_limit,
            };
            let created = runtime.block_on(keyring.create(new))?;
            output::created(out, &created, now, json)?;
        }
        Command::List { json } => {
            let records = runtime.block_on(keyring.list())?;
            output::list(out, &records, now, json)?;
        }
        Command::Show { id, json } => {
            let record = runtime.block_on(keyring.show(&id))?;
            output::show(out, &record, now, json)?;
        }
        Command::Revoke { id, json } => {
            let record = runtime.block_on(keyring.revoke(&id))?;
            output::revoked(out, &record, now, json)?;
        }
        Command::Rotate { id, overlap, json } => {
            let rotated = runtime.block_on(keyring.rotate(&id, overlap))?;
            output::rotated(out, &rotated, now, json)?;
        }
        Command::Import { .. } => {
            let (from, text) = import.unwrap_or_default();
            let records = runtime
                .block_on(keyring.import(&text))
                .map_err(|error| Failure::Import { from, error })?;
            output::imported(out, records.len())?;
        }
    }
    Ok(out.flush()?)
}

fn scope(text: &str) -> Result<String, &'static str> {
    if is_scope_token(text) {
        Ok(text.to_owned())
    } else {
        Err("a scope is visible ASCII without spaces, quotes and backslashes")
    }
}

fn lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = units::duration(text).map_err(|problem| problem.to_string())?;
    if lifetime < Duration::from_secs(1) {
        return Err("a key has to work for a second at least".to_owned());
    }
    Ok(lifetime)
}
