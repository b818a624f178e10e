//! The program as a process: its log, its signals, its end.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::wait::{eventually, within};

/// The program's file: the one that was built with the tests, unless the environment names another.
fn program() -> PathBuf {
    let built = || env!("CARGO_BIN_EXE_gatelet").into();
    std::env::var_os("GATELET_PROGRAM").map_or_else(built, |named| {
        let found = std::fs::canonicalize(&named);
        found.unwrap_or_else(|error| panic!("GATELET_PROGRAM: {error}"))
    })
}

/// A running gatelet; killed when dropped.
pub(crate) struct Process {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
    unread: Arc<AtomicBool>,
}

/// The program with nothing of the tests' environment in its own, and with the soft limit on open
/// files that most systems start programs with.
pub(crate) fn command() -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", r#"ulimit -S -n 1024; exec "$0" "$@""#]);
    command.arg(program());
    command.env_clear();
    command
}

impl Process {
    /// Runs the command; what it writes on either stream is its log.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let unread = Arc::new(AtomicBool::new(false));
        follow(child.stdout.take().unwrap(), &lines, &unread);
        follow(child.stderr.take().unwrap(), &lines, &unread);
        Self {
            child,
            lines,
            unread,
        }
    }

    /// Leaves what the program writes from here on in its pipes, but for a line that is read already.
    pub(crate) fn stop_reading(&mut self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// The log so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a log line that holds each of these pieces, and returns it.
    pub(crate) fn log_line(&mut self, pieces: &[&str]) -> String {
        let mut found = None;
        eventually(&format!("a log line with {pieces:?}"), || {
            found = self
                .log()
                .into_iter()
                .find(|line| pieces.iter().all(|piece| line.contains(piece)));
            let ended = found.is_none() && self.child.try_wait().unwrap().is_some();
            assert!(!ended, "gatelet ended: {:#?}", self.log());
            found.is_some()
        });
        found.unwrap()
    }

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.child.id().to_string())
            .status()
            .unwrap();
        assert!(status.success());
    }

    /// Waits for the program to end.
    pub(crate) fn ends_within(&mut self, bound: Duration) -> ExitStatus {
        let mut status = None;
        within(bound, "gatelet ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }

    /// What `/proc` says of the process in one of its files.
    pub(crate) fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap()
    }

    /// The most memory that was ever resident, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = self.proc("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            for line in self.log() {
                eprintln!("gatelet: {line}");
            }
        }
    }
}

/// A field of a JSON log line, wherever the line keeps its fields.
pub(crate) fn field<'a>(line: &'a Value, name: &str) -> &'a Value {
    match &line[name] {
        Value::Null => &line["fields"][name],
        found => found,
    }
}

fn follow(
    stream: impl Read + Send + 'static,
    lines: &Arc<Mutex<Vec<String>>>,
    unread: &Arc<AtomicBool>,
) {
    // Weak, so that a thread that no longer reads ends with its process.
    let (lines, unread) = (Arc::clone(lines), Arc::downgrade(unread));
    std::thread::spawn(move || {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        while let Ok(1..) = stream.read_line(&mut line) {
            lines.lock().unwrap().push(line.trim_end().to_owned());
            line.clear();
            while unread
                .upgrade()
                .is_some_and(|unread| unread.load(Ordering::Relaxed))
            {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    });
}
