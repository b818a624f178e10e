//! The user's words, checked and turned into what each room is built from.
//!
//! `raw` mirrors the TOML; `layers` puts environment and flags over it; `shape` and `validate`
//! find everything that is wrong, each with its place; `reload` tells when to read it again. The
//! only room that reads the environment. No room imports this one: each owns its Config type.

mod file;
mod layers;
mod problems;
mod raw;
mod reference;
mod reload;
mod schema;
mod secret;
mod shape;
mod validate;
mod values;
mod warnings;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use figment::value::Dict;

pub use layers::Overrides;
pub use problems::{Place, Problem, Problems};
pub use reference::reference;
pub use reload::{Watch, fixed_changes};

use problems::{Dated, Findings, Origins};
use raw::Raw;
use schema::schema_of;

use crate::rules::time::Timestamp;
use crate::{authn, cache, gateway, limits, listener, store, telemetry, upstream};

/// A valid configuration: one part a room.
#[derive(Clone, Debug)]
pub struct Config {
    /// The listeners.
    pub listen: listener::Config,
    /// How many workers carry requests.
    pub workers: usize,
    /// The upstreams, by their place.
    pub upstreams: Vec<upstream::Config>,
    /// The request path.
    pub gateway: gateway::Config,
    /// Credentials.
    pub authn: authn::Config,
    /// The store; `None` keeps nothing.
    pub store: Option<store::Config>,
    /// What is remembered of it.
    pub cache: cache::Config,
    /// Limits.
    pub limits: limits::Config,
    /// Logs.
    pub log: telemetry::log::Config,
}

impl Config {
    /// How many files and sockets may be open when every connection allowed is.
    pub fn open_files(&self) -> u64 {
        let upstreams = self.upstreams.iter();
        let connections = upstreams.fold(self.listen.connections, |sum, upstream| {
            sum.saturating_add(upstream.max_connections)
        });
        u64::try_from(connections.saturating_add(OTHER_FILES)).unwrap_or(u64::MAX)
    }
}

/// What is open besides connections, generously: listeners, event loops, the store, logs, the
/// telemetry listener's own.
const OTHER_FILES: usize = 128;

/// A valid configuration, as it was read.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What the rooms are built from.
    pub config: Config,
    /// What is allowed and most likely not meant, whatever the time is.
    warnings: Vec<Problem>,
    certificates: Vec<Dated>,
    /// What it was read from.
    pub watch: Watch,
}

impl Loaded {
    /// What is allowed and most likely not meant; a certificate, among others, that is not good `now`.
    pub fn warnings(&self, now: Timestamp) -> Vec<Problem> {
        let dated = self.certificates.iter();
        let outdated = dated.filter_map(|certificate| certificate.warning(now));
        self.warnings.iter().cloned().chain(outdated).collect()
    }
}

/// Reads the configuration at `path` and everything it points to, with `overrides` over it.
///
/// Fails with every problem there is, not with the first. Blocks on the file system.
pub fn load(path: &Path, overrides: &Overrides) -> Result<Loaded, Problems> {
    let mut watch = Watch::default();
    let (file, origins) = match read(path, &mut watch) {
        Ok(read) => read,
        Err(problem) => return Err(alone(problem, watch)),
    };
    let mut findings = Findings::new(origins);
    let schema = schema_of::<Raw>();
    let mut merged = layers::merge(file, overrides, schema.as_value(), &mut findings);
    shape::check(&mut merged.values, schema.as_value(), &mut findings);
    let config = if let Ok(raw) = figment::value::Value::from(merged.values).deserialize() {
        let secrets = &merged.secrets;
        Some(validate::validate(&raw, secrets, &mut watch, &mut findings))
    } else {
        // The shape check let something pass that the types refuse. Its error could quote a
        // secret, so it says no more than that.
        findings.add(whole_file(path, "a value has the wrong type", None));
        None
    };

    let clean = findings.is_clean();
    let certificates = findings.certificates();
    let (list, warnings) = findings.into_parts();
    match config.filter(|_| clean) {
        Some(config) => Ok(Loaded {
            config,
            warnings,
            certificates,
            watch,
        }),
        None => Err(Problems { list, watch }),
    }
}

/// The store that the file at `path` names, whatever else stands in it. Neither the environment nor
/// flags have a say: they are another configuration's.
pub fn load_store(path: &Path) -> Result<Option<store::Config>, Problems> {
    let mut watch = Watch::default();
    let (mut file, origins) = match read(path, &mut watch) {
        Ok(read) => read,
        Err(mut problem) => {
            // The way out is the one of the configuration that the command runs with.
            problem.suggestion = None;
            return Err(alone(problem, watch));
        }
    };
    file.retain(|section, _| section == "store");
    let mut findings = Findings::new(origins);
    let schema = schema_of::<Raw>();
    shape::check(&mut file, schema.as_value(), &mut findings);
    let store = if let Ok(raw) = figment::value::Value::from(file).deserialize::<Raw>() {
        let section = raw.store.as_ref();
        section.map(|section| validate::store(section, &BTreeMap::new(), &mut watch, &mut findings))
    } else {
        findings.add(whole_file(path, "a value has the wrong type", None));
        None
    };
    if findings.is_clean() {
        return Ok(store);
    }
    let (list, _) = findings.into_parts();
    Err(Problems { list, watch })
}

/// The JSON Schema of the file, for editors.
pub fn schema() -> String {
    format!("{:#}\n", schema_of::<Raw>().as_value())
}

/// The values of the file at `path`, and where they stand.
fn read(path: &Path, watch: &mut Watch) -> Result<(Dict, Origins), Problem> {
    let content = watch.file(path).map_err(|error| unreadable(path, &error))?;
    let text = std::str::from_utf8(&content).map_err(|_| whole_file(path, "not UTF-8", None))?;
    let mut origins = Origins::default();
    let file = file::parse(path, text, &mut origins)?;
    Ok((file, origins))
}

fn alone(problem: Problem, watch: Watch) -> Problems {
    let list = vec![problem];
    Problems { list, watch }
}

fn whole_file(path: &Path, message: &str, suggestion: Option<&str>) -> Problem {
    Problem {
        place: Place::File {
            path: path.to_owned(),
            line: None,
        },
        key: String::new(),
        message: message.to_owned(),
        suggestion: suggestion.map(str::to_owned),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    let suggestion = (error.kind() == io::ErrorKind::NotFound)
        .then_some("name the file with --config, or try `gatelet demo`, which needs none");
    whole_file(path, &format!("cannot be read: {error}"), suggestion)
}
