//! `kill -9` at any moment loses nothing that was answered.
//!
//! This binary runs itself again as the process that is killed: it makes and revokes keys and
//! prints each one that the keyring has answered for.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking, in the functions it calls too"
)]

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use gatelet::authn::keyring::{Keyring, NewKey};
use gatelet::platform::Platform;
use gatelet::rules::api_key::{Digest, Label, Refused, judge};
use gatelet::rules::principal::Scopes;
use gatelet::store::{Config, Store};
use tempfile::TempDir;

/// How often the process is killed.
const ROUNDS: u64 = 100;

/// Names the store's folder to the process that is going to be killed.
const FOLDER: &str = "GATELET_CRASH_TEST_FOLDER";

/// The test that is that process.
const WRITER: &str = "crash::writes_until_killed";

/// How many changes the writer has under way at once, so that commits are shared.
const WRITERS: usize = 4;

fn keyring(folder: &Path) -> Keyring {
    let platform = Platform::system();
    let config = Config::Embedded {
        path: folder.into(),
    };
    let observer = Arc::new(|_, _, _| {});
    let store = Store::open(&config, &platform, observer).unwrap();
    Keyring::new(Arc::new(store), "gk".into(), None, platform)
}

#[tokio::test]
#[expect(
    clippy::disallowed_methods,
    reason = "the test harness leaves its own processes no other way to be told something"
)]
async fn writes_until_killed() {
    // Run by hand or by the harness, there is nothing to write to.
    let Some(folder) = std::env::var_os(FOLDER) else {
        return;
    };
    let keyring = keyring(Path::new(&folder));
    let writers = (0..WRITERS).map(|_| {
        let keyring = keyring.clone();
        tokio::spawn(async move {
            loop {
                let new = NewKey {
                    name: Label::parse("crash").unwrap(),
                    owner: None,
                    scopes: Scopes::default(),
                    expires_at: None,
                    rate_limit: None,
                };
                let created = keyring.create(new).await.unwrap();
                answer("created", &created.record.id, &created.secret);
                keyring.revoke(&created.record.id).await.unwrap();
                answer("revoked", &created.record.id, &created.secret);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        let () = writer.await.unwrap();
    }
}

/// Prints past the harness, which would keep it until the end.
fn answer(what: &str, id: &str, secret: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nanswered {what} {id} {secret}").unwrap();
    out.flush().unwrap();
}

/// What the writer said it was answered, before it was killed.
struct Answered {
    revoked: bool,
    id: String,
    secret: String,
}

impl Answered {
    /// `None` for whatever else the harness prints, and for a line that the kill cut short.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.strip_suffix('\n')?.split(' ');
        if words.next()? != "answered" {
            return None;
        }
        Some(Self {
            revoked: words.next()? == "revoked",
            id: words.next()?.to_owned(),
            secret: words.next()?.to_owned(),
        })
    }
}

/// When the writer is killed.
#[derive(Clone, Copy, Debug)]
enum Kill {
    /// So long after it was started: perhaps while it opens the store.
    AfterStart(Duration),
    /// So long after its first answer: while it writes.
    AfterAnswer(Duration),
}

/// Starts the writer, kills it, and returns what it was answered.
fn killed_writer(folder: &Path, kill: Kill) -> Vec<Answered> {
    let mut writer = Command::new(std::env::current_exe().unwrap())
        .args([WRITER, "--exact", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(writer.stdout.take().unwrap());
    let mut answered = Vec::new();
    let after = match kill {
        Kill::AfterStart(after) => after,
        Kill::AfterAnswer(after) => {
            while answered.is_empty() {
                let line = next_line(&mut lines).expect("the writer goes on until it is killed");
                answered.extend(Answered::parse(&line));
            }
            after
        }
    };
    std::thread::sleep(after);
    // SIGKILL: the process has no say.
    writer.kill().unwrap();
    assert_eq!(writer.wait().unwrap().signal(), Some(9));
    while let Some(line) = next_line(&mut lines) {
        answered.extend(Answered::parse(&line));
    }
    answered
}

fn next_line(lines: &mut impl BufRead) -> Option<String> {
    let mut line = String::new();
    (lines.read_line(&mut line).unwrap() > 0).then_some(line)
}

async fn check(keyring: &Keyring, answered: &[Answered], kill: &impl std::fmt::Debug) {
    let now = Platform::system().clock.now();
    for Answered {
        revoked,
        id,
        secret,
    } in answered
    {
        let digest = Digest::of(secret.as_bytes());
        let Some(record) = keyring.lookup(&digest).await.unwrap() else {
            panic!("{kill:?}: {id} was answered and is lost");
        };
        assert_eq!(*record.id, **id);
        let judged = judge(&record, &digest, now);
        if *revoked {
            assert_eq!(judged, Err(Refused::Revoked), "{kill:?}: {id} is back");
        } else {
            // Its revocation may have been made and not answered.
            assert_ne!(judged, Err(Refused::Unknown), "{kill:?}: {id}");
        }
    }
}

#[tokio::test]
async fn nothing_that_was_answered_is_lost() {
    let scratch = TempDir::new().unwrap();
    let folder = scratch.path().join("data");
    let mut all = Vec::new();
    for round in 0..ROUNDS {
        // A fixed walk over 30 ms, in steps that share no factor with it.
        let after = Duration::from_micros(round * 7_919 % 30_000);
        let kill = match round % 4 {
            0 => Kill::AfterStart(after),
            _ => Kill::AfterAnswer(after),
        };
        let answered = killed_writer(&folder, kill);
        let keyring = keyring(&folder);
        check(&keyring, &answered, &kill).await;
        // What was not answered was made whole or not at all: every record can be read.
        keyring.list().await.unwrap();
        all.extend(answered);
    }
    check(&keyring(&folder), &all, &"at the end").await;
    let revoked = all.iter().filter(|answered| answered.revoked).count();
    assert!(
        revoked > 0,
        "none of {} keys was revoked in time",
        all.len()
    );
}
