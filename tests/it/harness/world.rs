//! A running gatelet with its folder, its configuration and its commands.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Output};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::client::{Client, Response, request};
use super::process::{Process, command, field};
use super::upstream::Upstream;
use super::wait::{eventually, within};

/// The static key `ci` of every world: owner `platform`, scope `portfolio:read`.
pub(crate) const KEY: &str = "imported-key-of-the-platform-team-0001";
/// The static key `narrow` of every world: no owner, no scope.
pub(crate) const NARROW_KEY: &str = "imported-key-without-any-scope-0002";

/// A running gatelet.
pub(crate) struct World {
    // Before the folder: the process is gone when the folder is removed.
    process: Process,
    folder: Arc<TempDir>,
    proxy: SocketAddr,
    telemetry: SocketAddr,
}

impl World {
    /// Runs gatelet before `upstream`.
    ///
    /// `toml` continues a file that begins with the listeners and the one upstream: keys before its
    /// first table are the upstream's. It ends with the two static keys, so a table `[api_keys]` may
    /// stand in it. `{folder}` is replaced by the world's folder.
    pub(crate) fn start(upstream: &Upstream, toml: &str) -> Self {
        Self::start_at(&upstream.url(), toml)
    }

    /// The same before several addresses of one upstream.
    pub(crate) fn before(upstreams: &[&Upstream], toml: &str) -> Self {
        let urls: Vec<String> = upstreams.iter().map(|upstream| upstream.url()).collect();
        Self::start_at(&format!("{urls:?}"), toml)
    }

    /// The same before an address, or before a list of them as TOML writes it.
    pub(crate) fn start_at(url: &str, toml: &str) -> Self {
        Self::start_before(url, toml, &[])
    }

    /// The same with these files in the world's folder, which is the working directory.
    pub(crate) fn start_with(upstream: &Upstream, toml: &str, files: &[(&str, String)]) -> Self {
        Self::start_before(&upstream.url(), toml, files)
    }

    /// The same before an address.
    pub(crate) fn start_before(url: &str, toml: &str, files: &[(&str, String)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            fs::write(folder.path().join(name), text).unwrap();
        }
        let text = configuration(folder.path(), url, toml);
        fs::write(folder.path().join("config.toml"), text).unwrap();
        let (process, proxy, telemetry) = run(folder.path());
        Self {
            process,
            folder: Arc::new(folder),
            proxy,
            telemetry,
        }
    }

    /// Runs gatelet before `upstream`, and waits no longer than until it listens.
    pub(crate) fn start_unready(upstream: &Upstream, toml: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = configuration(folder.path(), &upstream.url(), toml);
        fs::write(folder.path().join("config.toml"), text).unwrap();
        let (process, proxy, telemetry) = run_unready(folder.path());
        Self {
            process,
            folder: Arc::new(folder),
            proxy,
            telemetry,
        }
    }

    /// Runs another gatelet on the same configuration, and so on the same store.
    pub(crate) fn another(&self) -> Self {
        let (process, proxy, telemetry) = run(self.folder());
        Self {
            process,
            folder: Arc::clone(&self.folder),
            proxy,
            telemetry,
        }
    }

    /// The same, and what gatelet writes is read no further than until it is ready.
    pub(crate) fn start_unread(url: &str, toml: &str) -> Self {
        let mut world = Self::start_at(url, toml);
        world.process.stop_reading();
        world
    }

    /// Replaces the configuration; the caller says when it is to be read.
    pub(crate) fn write_config(&self, upstream: &Upstream, toml: &str) {
        let text = configuration(self.folder(), &upstream.url(), toml);
        self.write("config.toml", &text);
    }

    /// Writes a file of the world's folder, whole or not at all.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.folder().join(name);
        let new = path.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, path).unwrap();
    }

    /// Kills gatelet without a warning and starts it again.
    pub(crate) fn crash(&mut self) {
        self.process.signal("KILL");
        self.process.ends_within(Duration::from_secs(5));
        (self.process, self.proxy, self.telemetry) = run(self.folder.path());
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.folder().join("config.toml")
    }

    pub(crate) fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// Opens a connection to the proxy.
    pub(crate) fn connect(&self) -> Client {
        Client::connect(self.proxy)
    }

    /// Writes these bytes on a fresh connection and reads one answer.
    pub(crate) fn send(&self, bytes: impl AsRef<[u8]>) -> Response {
        self.connect().send(bytes).response()
    }

    /// One `GET` on a fresh connection.
    pub(crate) fn get(&self, target: &str, headers: &[(&str, &str)]) -> Response {
        self.send(request("GET", target, headers))
    }

    /// The status of one `GET` with this key.
    pub(crate) fn status_with(&self, target: &str, key: &str) -> u16 {
        self.get(target, &[("x-api-key", key)]).status
    }

    /// One `GET` to the telemetry listener.
    pub(crate) fn probe(&self, target: &str) -> Response {
        Client::connect(self.telemetry)
            .send(request("GET", target, &[("connection", "close")]))
            .response()
    }

    /// A scrape.
    pub(crate) fn metrics(&self) -> Metrics {
        let response = self.probe("/metrics");
        assert_eq!(response.status, 200);
        Metrics::parse(&response.text())
    }

    /// Waits until the matching series add up to `value`, and no longer than the bound.
    pub(crate) fn metric_becomes(&self, name: &str, labels: &[(&str, &str)], value: f64) {
        let mut last = f64::NAN;
        let reached = |last: &mut f64| {
            *last = self.metrics().sum(name, labels);
            (*last - value).abs() < f64::EPSILON
        };
        eventually(&format!("{name}{labels:?} is {value}"), || {
            reached(&mut last)
        });
    }

    /// Runs a command of the program beside the server, with this world's configuration.
    pub(crate) fn command(&self, arguments: &[&str]) -> Output {
        command()
            .args(arguments)
            .arg("--config")
            .arg(self.config_file())
            .current_dir(self.folder())
            .output()
            .unwrap()
    }

    /// Begins a command of the program beside the server; it is killed when dropped.
    pub(crate) fn begin(&self, arguments: &[&str]) -> Process {
        Process::start(
            command()
                .args(arguments)
                .arg("--config")
                .arg(self.config_file())
                .current_dir(self.folder()),
        )
    }

    /// Runs a command that must succeed and whose answer is JSON.
    pub(crate) fn command_json(&self, arguments: &[&str]) -> Value {
        let output = self.command(arguments);
        let (out, error) = (
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
        );
        assert!(output.status.success(), "{arguments:?}: {out}{error}");
        serde_json::from_str(&out).unwrap_or_else(|why| panic!("{why}: {out}"))
    }

    /// Mints a key; its id and its secret.
    pub(crate) fn create_key(&self, name: &str, more: &[&str]) -> (String, String) {
        let arguments = [&["keys", "create", "--json", "--name", name], more].concat();
        let made = self.command_json(&arguments);
        let text = |field: &str| made[field].as_str().unwrap().to_owned();
        (text("id"), text("key"))
    }

    /// Revokes a key.
    pub(crate) fn revoke_key(&self, id: &str) {
        let output = self.command(&["keys", "revoke", id]);
        assert!(output.status.success(), "{output:?}");
    }

    /// Waits until this key is answered with `status`; the contract's second, and the time that a
    /// crowded machine takes to ask.
    pub(crate) fn within_a_second(&self, target: &str, key: &str, status: u16) {
        within(
            Duration::from_millis(1500),
            &format!("{target} is answered {status}"),
            || self.status_with(target, key) == status,
        );
    }

    /// Sends a signal, by its name without `SIG`.
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for gatelet to end.
    pub(crate) fn ends_within(&mut self, bound: Duration) -> ExitStatus {
        self.process.ends_within(bound)
    }

    /// Everything logged so far.
    pub(crate) fn log(&self) -> Vec<String> {
        self.process.log()
    }

    /// Waits for a log line that holds each of these pieces.
    pub(crate) fn log_line(&mut self, pieces: &[&str]) -> String {
        self.process.log_line(pieces)
    }

    /// Waits for the access log's line about this path.
    pub(crate) fn access(&mut self, path: &str) -> AccessLine {
        let piece = format!("\"path\":\"{path}\"");
        let line = self.log_line(&[&piece, "\"duration_ms\""]);
        AccessLine(serde_json::from_str(&line).unwrap())
    }

    /// What `/proc` says of the process in one of its files.
    pub(crate) fn proc(&self, file: &str) -> String {
        self.process.proc(file)
    }

    /// The most memory that was ever resident, in KiB.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.process.peak_memory()
    }
}

/// One line of the access log.
pub(crate) struct AccessLine(Value);

impl AccessLine {
    /// A field of it.
    pub(crate) fn field(&self, name: &str) -> &Value {
        field(&self.0, name)
    }
}

/// One scrape.
pub(crate) struct Metrics {
    series: BTreeMap<String, f64>,
    /// The scrape as it came.
    pub(crate) text: String,
}

impl Metrics {
    fn parse(text: &str) -> Self {
        let series = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(series, value)| (series.to_owned(), value.parse().unwrap()))
            .collect();
        Self {
            series,
            text: text.to_owned(),
        }
    }

    /// The sum of the series of this name that carry these labels; panics when there are none.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let values: Vec<f64> = self
            .series
            .iter()
            .filter(|(series, _)| {
                series.split('{').next() == Some(name)
                    && labels
                        .iter()
                        .all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")))
            })
            .map(|(_, value)| *value)
            .collect();
        assert!(!values.is_empty(), "no series {name}{labels:?}");
        values.iter().sum()
    }

    /// The series of this name with their values, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<(String, f64)> {
        self.series
            .iter()
            .filter(|(series, _)| series.split('{').next() == Some(name))
            .map(|(series, value)| (series.clone(), *value))
            .collect()
    }

    /// Every series' name and labels.
    pub(crate) fn names(&self) -> Vec<String> {
        self.series.keys().cloned().collect()
    }

    /// Whether a series of this name and these labels is there.
    pub(crate) fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.series.keys().any(|series| {
            series.split('{').next() == Some(name)
                && labels
                    .iter()
                    .all(|(label, value)| series.contains(&format!("{label}=\"{value}\"")))
        })
    }
}

/// SHA-256 in hexadecimal, as the configuration wants it.
pub(crate) fn sha256_hex(secret: &str) -> String {
    Sha256::digest(secret.as_bytes())
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .concat()
}

pub(super) fn configuration(folder: &Path, url: &str, toml: &str) -> String {
    let toml = toml.replace("{folder}", folder.to_str().unwrap());
    let (key, narrow) = (sha256_hex(KEY), sha256_hex(NARROW_KEY));
    let url = match url {
        list if list.starts_with('[') => list.to_owned(),
        one => format!("{one:?}"),
    };
    format!(
        r#"
[listen]
proxy = "127.0.0.1:0"
telemetry = "127.0.0.1:0"

[runtime]
workers = 2

[[upstreams]]
name = "api"
url = {url}
{toml}

[[api_keys.static]]
name = "ci"
owner = "platform"
sha256 = "{key}"
scopes = ["portfolio:read"]

[[api_keys.static]]
name = "narrow"
sha256 = "{narrow}"
"#
    )
}

/// Starts the program and waits until it is ready.
fn run(folder: &Path) -> (Process, SocketAddr, SocketAddr) {
    let (process, proxy, telemetry) = run_unready(folder);
    eventually("gatelet is ready", || {
        Client::connect(telemetry)
            .send(request("GET", "/readyz", &[("connection", "close")]))
            .response()
            .status
            == 200
    });
    (process, proxy, telemetry)
}

/// Starts the program and waits until it listens.
fn run_unready(folder: &Path) -> (Process, SocketAddr, SocketAddr) {
    let mut process = Process::start(
        command()
            .arg("serve")
            .arg("--config")
            .arg(folder.join("config.toml"))
            .current_dir(folder),
    );
    let mut address = |listener: &str| {
        let line = process.log_line(&["listening", listener]);
        bound_address(&line).unwrap_or_else(|| panic!("no address: {line}"))
    };
    let (proxy, telemetry) = (address("proxy"), address("telemetry"));
    (process, proxy, telemetry)
}

/// The address in a log line of either form.
fn bound_address(line: &str) -> Option<SocketAddr> {
    let start = line.find("127.0.0.1:")?;
    let rest = &line[start..];
    let end = rest
        .find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))
        .unwrap_or(rest.len());
    rest[..end].parse().ok()
}
