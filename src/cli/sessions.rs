//! `gatelet sessions`: lists, ends and takes over sessions in the configured store: client sessions,
//! and the sign-ins that refresh tokens are of.
//!
//! Opens the store itself, so it works whether or not a server runs on it.

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};
use serde::Serialize;

use super::terminal::{Terminal, print_chain, read};
use crate::authn;
use crate::authn::families::Families;
use crate::authn::sessions::{Fresh, ImportError, Sessions};
use crate::platform::Platform;
use crate::rules::refresh::{self, Family, Reason};
use crate::rules::session::{Record, Refused};
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
    /// The file has one JSON object a line: "kind" ("session" or "refresh"), "sha256" (the SHA-256
    /// of the token's bytes, in hexadecimal), "subject", "createdAt" and "expiresAt" (Unix
    /// seconds); "owner", "keyId", "scopes" and, of a refresh token, "mode" ("cookie" or "body")
    /// may be left out.
    ///
    /// A digest does not tell what its token looks like. One that is shorter than 20 bytes, or that
    /// begins like a token of gatelet's own ("gs_", "gr_") without being one, is refused unread when
    /// it is presented; so is a refresh token longer than 512 bytes. Its holder has to sign in anew.
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
    fresh: &Fresh,
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
    match attempt(command.action, store, authn, fresh, platform, terminal) {
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
    fresh: &Fresh,
    platform: &Platform,
    terminal: &mut Terminal<'_>,
) -> Result<u8, Box<dyn Error>> {
    // Read before the store is opened: a file that is missing should not leave a store behind.
    let import = match &action {
        Action::Import { file } => Some(read(file, terminal.input)?),
        _ => None,
    };
    if import.is_none()
        && let Some(path) = Store::missing_from(store)
    {
        writeln!(
            terminal.err,
            "there is no store in {}; if there should be one, run the command in the folder that the server runs in, or give store.path in full",
            std::path::absolute(path)?.display()
        )?;
        return match action {
            Action::List { json, .. } => {
                list(terminal.out, &[], json)?;
                Ok(DONE)
            }
            Action::Revoke { .. } | Action::Import { .. } => Ok(FAILED),
        };
    }
    let store = Store::open(store, platform, Arc::new(|_, _, _| {}))?;
    let store = Arc::new(store);
    let pepper = &authn.pepper;
    let sessions = Sessions::new(Arc::clone(&store), pepper.clone(), platform.clone());
    let families = Families::new(store, pepper.clone(), platform.clone());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let now = platform.clock.now();
    let out = &mut *terminal.out;
    match action {
        Action::List { subject, json } => {
            let (records, begun) = match &subject {
                Some(subject) => {
                    let found = runtime.block_on(sessions.of_subject(subject))?;
                    let records = found.into_iter().map(|(_, record)| record).collect();
                    (records, runtime.block_on(families.of_subject(subject))?)
                }
                None => (
                    runtime.block_on(sessions.list())?,
                    runtime.block_on(families.list())?,
                ),
            };
            let views = records.iter().map(|record| View::of_session(record, now));
            let begun = begun.iter().map(|family| View::of_family(family, now));
            list(out, &views.chain(begun).collect::<Vec<_>>(), json)?;
        }
        Action::Revoke { id: Some(id), .. } => {
            let found = runtime.block_on(sessions.find(&id))?;
            if let Some((digest, _)) = found {
                runtime.block_on(sessions.revoke(&digest))?;
            } else if runtime.block_on(families.lookup(&id))?.is_some() {
                runtime.block_on(families.revoke(&id, Reason::Operator))?;
            } else {
                writeln!(
                    terminal.err,
                    "error: no session has the id {id:?}; `gatelet sessions list` shows the ids"
                )?;
                return Ok(FAILED);
            }
            writeln!(out, "revoked {id}")?;
        }
        Action::Revoke { subject, .. } => {
            let subject = subject.unwrap_or_default();
            let found = runtime.block_on(sessions.of_subject(&subject))?;
            let begun = runtime.block_on(families.of_subject(&subject))?;
            for (digest, record) in &found {
                runtime.block_on(sessions.revoke(digest))?;
                writeln!(out, "revoked {}", record.id)?;
            }
            for family in &begun {
                runtime.block_on(families.revoke(&family.id, Reason::Operator))?;
                writeln!(out, "revoked {}", family.id)?;
            }
            if found.is_empty() && begun.is_empty() {
                writeln!(terminal.err, "the subject has no session")?;
            }
        }
        Action::Import { .. } => {
            let (from, text) = import.unwrap_or_default();
            match runtime.block_on(sessions.import(&text, fresh)) {
                Ok(count) => writeln!(out, "imported {count}")?,
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

/// A session as it is shown; times are Unix seconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct View<'a> {
    id: &'a str,
    kind: &'static str,
    subject: &'a str,
    key_id: Option<&'a str>,
    owner: Option<&'a str>,
    scopes: Vec<&'a str>,
    state: &'static str,
    created_at: u64,
    expires_at: u64,
    max_expires_at: u64,
    revoked_at: Option<u64>,
}

impl<'a> View<'a> {
    fn of_session(record: &'a Record, now: Timestamp) -> Self {
        Self {
            id: &record.id,
            kind: "session",
            subject: &record.subject,
            key_id: record.key_id.as_deref(),
            owner: record.key_owner.as_deref(),
            scopes: record.scopes.iter().collect(),
            state: match record.judge(record.expires_at, now) {
                Ok(()) => "active",
                Err(Refused::Expired) => "expired",
                Err(Refused::Revoked) => "revoked",
            },
            created_at: record.created_at.seconds(),
            expires_at: record.expires_at.seconds(),
            max_expires_at: record.max_expires_at.seconds(),
            revoked_at: record.revoked_at.map(Timestamp::seconds),
        }
    }

    fn of_family(family: &'a Family, now: Timestamp) -> Self {
        let grant = &family.grant;
        Self {
            id: &family.id,
            kind: "refresh",
            subject: &grant.subject,
            key_id: grant.key_id.as_deref(),
            owner: grant.key_owner.as_deref(),
            scopes: grant.scopes.iter().collect(),
            state: match &family.revoked {
                Some(_) => "revoked",
                None if refresh::is_good(family, now) => "active",
                None => "expired",
            },
            created_at: family.created_at.seconds(),
            expires_at: family.expires_at.seconds(),
            max_expires_at: family.expires_at.seconds(),
            revoked_at: family.revoked.as_ref().map(|revoked| revoked.at.seconds()),
        }
    }
}

fn list(out: &mut dyn Write, views: &[View<'_>], json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{:#}", serde_json::json!(views));
    }
    if views.is_empty() {
        return writeln!(out, "there are no sessions");
    }
    for view in views {
        let until = units::print_time(Timestamp::from_seconds(view.expires_at));
        let View {
            id,
            kind,
            subject,
            state,
            ..
        } = view;
        writeln!(out, "{id}  {kind}  {state}  {subject}  until {until}")?;
    }
    Ok(())
}
