//! `gatelet store`: copies everything that one store holds into another.
//!
//! Says what is done and how it went; what is copied, and what is left as it is, is judged in
//! `copying`.

mod copying;

use std::error::Error;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::terminal::{Terminal, print_chain};
use super::{DONE, FAILED, WRONG};
use crate::config;
use crate::platform::signal::Signals;
use crate::platform::{Clock, Monotonic, Platform};
use crate::store::{Config, Store};
use copying::{Copying, Tally};

/// How often it is told how far a copy has come.
const TELL: Duration = Duration::from_secs(1);

/// What `gatelet store` is told.
#[derive(Debug, Args)]
pub(super) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Copy every record into another store: keys, sessions, sign-ins, signing keys
    ///
    /// The source is the store of the configuration (--config); the target is the one that the
    /// [store] section of another file names. Nothing else in that file matters, and neither the
    /// environment nor --set changes it: a password has to be in a file that it names.
    ///
    /// What the target holds already is left as it is. A record that differs there is named, and
    /// the status is then 1. An interrupted copy goes on when the command is given again.
    ///
    /// What changes in the source meanwhile may be missing: stop the servers that use it before
    /// the copy that counts, and start them on the target after it. Where an earlier copy was made
    /// while they ran, give the last one --replace.
    Copy {
        /// The file whose [store] is the target
        #[arg(long, value_name = "FILE")]
        to: PathBuf,
        /// Make the target equal to the source: change what differs, and remove what the source
        /// does not have
        ///
        /// For a target that no server uses yet. It is refused where anybody else than a copy has
        /// changed a key or ended a session.
        #[arg(long)]
        replace: bool,
    },
}

/// Runs the command and returns its exit status.
pub(super) fn run(
    command: Command,
    source: Option<&Config>,
    platform: &Platform,
    terminal: &mut Terminal<'_>,
) -> u8 {
    let Action::Copy { to, replace } = command.action;
    let Some(source) = source else {
        let _ = writeln!(
            terminal.err,
            "error: the configuration has no [store], so there is nothing to copy"
        );
        return WRONG;
    };
    let target = match config::load_store(&to) {
        Ok(Some(target)) => target,
        Ok(None) => {
            let _ = writeln!(
                terminal.err,
                "error: {} has no [store] to copy to",
                to.display()
            );
            return WRONG;
        }
        Err(problems) => {
            let _ = writeln!(terminal.err, "{problems}");
            return WRONG;
        }
    };
    match copy(source, &target, replace, platform, terminal) {
        Ok(status) => status,
        Err(error) => {
            // Where even this cannot be written, the status still tells.
            let _ = print_chain(terminal.err, &*error);
            FAILED
        }
    }
}

fn copy(
    source: &Config,
    target: &Config,
    replace: bool,
    platform: &Platform,
    terminal: &mut Terminal<'_>,
) -> Result<u8, Box<dyn Error>> {
    if let Some(path) = Store::missing_from(source) {
        let path = std::path::absolute(path)?;
        writeln!(
            terminal.err,
            "error: there is no store in {}",
            path.display()
        )?;
        return Ok(FAILED);
    }
    if is_one(source, target) {
        writeln!(
            terminal.err,
            "error: both are the same store; name another one in the file of --to"
        )?;
        return Ok(WRONG);
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let open = |config| Store::open(config, platform, Arc::new(|_, _, _| {}));
        let source = open(source)?;
        if copying::is_empty(&source).await? {
            // A wrong name is likelier than a store that nobody has used.
            writeln!(
                terminal.err,
                "error: the source holds nothing; see that its [store] is the right one"
            )?;
            return Ok(FAILED);
        }
        let target = open(target)?;
        if replace && copying::is_in_use(&target).await? {
            writeln!(
                terminal.err,
                "error: the target is in use: somebody has changed keys or ended sessions there, \
                 which --replace would undo; copy to a fresh store"
            )?;
            return Ok(FAILED);
        }
        let mut progress = Progress::new(&*platform.clock, terminal.err);
        let mut copying = Copying::new(&source, &target, replace);
        let ended = tokio::select! {
            _ = signals.next() => None,
            copied = copying.run(|tally| progress.tell(tally)) => Some(copied),
        };
        let tally = copying.into_tally();
        report(&tally, matches!(ended, Some(Ok(()))), replace, terminal)?;
        match ended {
            Some(Ok(())) if tally.differing == 0 => Ok(DONE),
            Some(Ok(())) => Ok(FAILED),
            Some(Err(fault)) => Err(fault.into()),
            None => {
                writeln!(
                    terminal.err,
                    "error: interrupted; give the command again to go on"
                )?;
                Ok(FAILED)
            }
        }
    })
}

/// Says what was done, and names what was not.
fn report(
    tally: &Tally,
    is_whole: bool,
    replace: bool,
    terminal: &mut Terminal<'_>,
) -> io::Result<()> {
    let Tally { copied, there, .. } = tally;
    write!(terminal.out, "copied {copied}, there already {there}")?;
    if replace {
        let Tally {
            replaced, removed, ..
        } = tally;
        write!(terminal.out, ", replaced {replaced}, removed {removed}")?;
    }
    writeln!(terminal.out)?;
    terminal.out.flush()?;
    for name in &tally.names {
        writeln!(terminal.err, "differs in the target: {name}")?;
    }
    let unnamed = tally.differing - tally.names.len();
    if unnamed > 0 {
        writeln!(terminal.err, "and {unnamed} more")?;
    }
    if is_whole && tally.alone > 0 {
        writeln!(
            terminal.err,
            "note: {} in the target alone: made there, or gone from the source since an earlier \
             copy, which --replace would follow",
            tally.alone
        )?;
    }
    if tally.differing > 0 {
        writeln!(
            terminal.err,
            "error: {} in the target and left as they were; copy to a fresh store, or where no \
             server uses this one, make it equal with --replace",
            match tally.differing {
                1 => "1 record differs".to_owned(),
                count => format!("{count} records differ"),
            }
        )?;
    }
    Ok(())
}

/// Whether both configurations name one store, as far as that can be told without asking it; a copy
/// onto itself would find everything there already.
fn is_one(source: &Config, target: &Config) -> bool {
    match (source, target) {
        (Config::Embedded { path: one }, Config::Embedded { path: other }) => {
            let real = |path: &Path| fs::canonicalize(path).ok();
            real(one).is_some_and(|one| real(other) == Some(one))
        }
        (Config::Redis(one), Config::Redis(other)) => {
            let shared = |address| other.addresses.contains(address);
            one.key_prefix == other.key_prefix
                && one.topology == other.topology
                && one.addresses.iter().any(shared)
        }
        _ => false,
    }
}

/// Tells now and then how far a copy has come.
struct Progress<'a> {
    clock: &'a dyn Clock,
    err: &'a mut dyn Write,
    began: Monotonic,
    told: Monotonic,
}

impl<'a> Progress<'a> {
    fn new(clock: &'a dyn Clock, err: &'a mut dyn Write) -> Self {
        let now = clock.monotonic();
        Self {
            clock,
            err,
            began: now,
            told: now,
        }
    }

    fn tell(&mut self, tally: &Tally) {
        let now = self.clock.monotonic();
        if now.since(self.told) < TELL {
            return;
        }
        self.told = now;
        let milliseconds = now.since(self.began).as_millis().max(1);
        let rate = u128::from(tally.seen) * 1000 / milliseconds;
        // The copy goes on where nobody can be told of it.
        let _ = writeln!(
            self.err,
            "{} records read, {} copied, {rate}/s",
            tally.seen, tally.copied
        );
    }
}
