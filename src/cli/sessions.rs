//! `gatelet sessions`: lists, ends and takes over client sessions in the configured store.
//!
//! Opens the store itself, so it works whether or not a server runs on it.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde_json::json;

use super::terminal::{Terminal, print_chain, read};
use crate::authn;
use crate::authn::sessions::{ImportError, Sessions};
use crate::platform::Platform;
use crate::rules::session::Record;
use crate::rules::time::Timestamp;
use crate::rules::units;
use crate::store::{self, Store};

use super::{DONE, FAILED, WRONG};

/// What `gatelet sessions` is told.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the sessions in the store
    List {
        /// Only those of this subject
        #[arg(long, value_name = "SUBJECT")]
        subject: Option<String>,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
    },
    /// End a session, or all of a subject; running servers honour it within a second
    #[command(group = clap::ArgGroup::new("which").required(true))]
    Revoke {
        /// The session's id, as `sessions list` shows it
        #[arg(group = "which")]
        id: Option<String>,
        /// Every session of this subject
        #[arg(long, value_name = "SUBJECT", group = "which")]
        subject: Option<String>,
    },
    /// Take over live sessions, all or none
    ///
    /// The file has one JSON object a line: "kind" ("session"), "sha256" (the SHA-256 of the
    /// token's bytes, in hexadecimal), "subject", "createdAt" and "expiresAt" (Unix seconds);
    /// "owner", "keyId" and "scopes" may be left out.
    Import {
        /// The file, or - for standard input
        file: PathBuf,
    },
}

/// Runs the command and returns its exit status.
pub(super) fn run(
    command: Command,
    store: Option<&store::Config>,
    authn: &authn::Config,
    platform: &Platform,
    terminal: &mut Terminal<'_>,
) -> u8 {
    let Some(store) = store else {
        let _ = writeln!(
            terminal.err,
            "error: the configuration has no [store], so there are no sessions; add\n\n[store]\nkind = \"embedded\"\npath = \"gatelet-data\""
        );
        return WRONG;
    };
    match attempt(command.action, store, authn, platform, terminal) {
        Ok(status) => status,
        Err(error) => {
            // Where even this cannot be written, the status still tells.
            let _ = print_chain(terminal.err, &*error);
            FAILED
        }
    }
}

fn attempt(
    action: Action,
    store: &store::Config,
    authn: &authn::Config,
    platform: &Platform,
    terminal: &mut Terminal<'_>,
) -> Result<u8, Box<dyn Error>> {
    // Read before the store is opened: a file that is missing should not leave a store behind.
    let import = match &action {
        Action::Import { file } => Some(read(file, terminal.input)?),
        _ => None,
    };
    if import.is_none() && !Store::is_there(store) {
        let store::Config::Embedded { path } = store;
        writeln!(
            terminal.err,
            "there is no store in {}; if there should be one, run the command in the folder that the server runs in, or give store.path in full",
            std::path::absolute(path)?.display()
        )?;
        return match action {
            Action::List { json, .. } => {
                list(terminal.out, &[], platform.clock.now(), json)?;
                Ok(DONE)
            }
            Action::Revoke { .. } | Action::Import { .. } => Ok(FAILED),
        };
    }
    let store = Store::open(store, Arc::clone(&platform.clock), Arc::new(|_, _, _| {}))?;
    let sessions = Sessions::new(Arc::new(store), authn.pepper.clone(), platform.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()?;
    let out = &mut *terminal.out;
    match action {
        Action::List { subject, json } => {
            let records = match subject {
                Some(subject) => runtime
                    .block_on(sessions.of_subject(&subject))?
                    .into_iter()
                    .map(|(_, record)| record)
                    .collect(),
                None => runtime.block_on(sessions.list())?,
            };
            list(out, &records, platform.clock.now(), json)?;
        }
        Action::Revoke { id: Some(id), .. } => {
            let Some((digest, _)) = runtime.block_on(sessions.find(&id))? else {
                writeln!(
                    terminal.err,
                    "error: no session has the id {id:?}; `gatelet sessions list` shows the ids"
                )?;
                return Ok(FAILED);
            };
            runtime.block_on(sessions.revoke(&digest))?;
            writeln!(out, "revoked {id}")?;
        }
        Action::Revoke { subject, .. } => {
            let found = runtime.block_on(sessions.of_subject(&subject.unwrap_or_default()))?;
            for (digest, record) in &found {
                runtime.block_on(sessions.revoke(digest))?;
                writeln!(out, "revoked {}", record.id)?;
            }
            if found.is_empty() {
                writeln!(terminal.err, "the subject has no session")?;
            }
        }
        Action::Import { .. } => {
            let (from, text) = import.unwrap_or_default();
            match runtime.block_on(sessions.import(&text, authn.session_lifetime)) {
                Ok(count) => writeln!(out, "imported {count} {}", plural(count))?,
                Err(ImportError::Lines(lines)) => {
                    for (line, problem) in lines {
                        match line {
                            0 => writeln!(terminal.err, "{from}: {problem}")?,
                            _ => writeln!(terminal.err, "{from}:{line}: {problem}")?,
                        }
                    }
                    writeln!(terminal.err, "error: nothing was imported")?;
                    return Ok(FAILED);
                }
                Err(ImportError::Sessions(error)) => return Err(error.into()),
            }
        }
    }
    terminal.out.flush()?;
    Ok(DONE)
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "session" } else { "sessions" }
}

fn list(out: &mut dyn Write, records: &[Record], now: Timestamp, json: bool) -> io::Result<()> {
    if json {
        let views: Vec<_> = records.iter().map(|record| view(record, now)).collect();
        return writeln!(out, "{:#}", serde_json::Value::Array(views));
    }
    if records.is_empty() {
        return writeln!(out, "there are no sessions");
    }
    for record in records {
        writeln!(
            out,
            "{}  {}  {}  until {}",
            record.id,
            state(record, now),
            record.subject,
            units::print_time(record.expires_at)
        )?;
    }
    Ok(())
}

/// A session as programs see it; times are Unix seconds.
fn view(record: &Record, now: Timestamp) -> serde_json::Value {
    json!({
        "id": record.id,
        "subject": record.subject,
        "keyId": record.key_id,
        "owner": record.key_owner,
        "scopes": record.scopes.iter().collect::<Vec<_>>(),
        "state": state(record, now),
        "createdAt": record.created_at.seconds(),
        "expiresAt": record.expires_at.seconds(),
        "maxExpiresAt": record.max_expires_at.seconds(),
        "revokedAt": record.revoked_at.map(Timestamp::seconds),
    })
}

fn state(record: &Record, now: Timestamp) -> &'static str {
    match record.judge(record.expires_at, now) {
        Ok(()) => "active",
        Err(crate::rules::session::Refused::Expired) => "expired",
        Err(crate::rules::session::Refused::Revoked) => "revoked",
    }
}
