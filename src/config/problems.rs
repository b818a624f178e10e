//! What is wrong with a configuration, where, and the way out; collected, never stopped at.
//!
//! No value of a secret is ever part of a problem.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

use super::reload::Watch;
use super::values::Moment;
use crate::rules::certificate::validity;
use crate::rules::time::Timestamp;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file, which has no line for what is missing from it altogether.
    File {
        /// The file, as the user named it.
        path: PathBuf,
        /// The line, counted from 1.
        line: Option<usize>,
    },
    /// In the environment variable of this name.
    Environment(String),
    /// In `--set`.
    Flag,
    /// Nowhere: something is missing.
    Nowhere,
}

/// One thing that is wrong, or that is unwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where it was written.
    pub place: Place,
    /// The path of the key, such as `routes[2].require`, counted from 0; empty for a whole file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// The way out.
    pub suggestion: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::File { path, line: None } => write!(f, "{}: ", path.display())?,
            Place::File {
                path,
                line: Some(line),
            } => write!(f, "{}:{line}: ", path.display())?,
            Place::Environment(name) => write!(f, "{name}: ")?,
            Place::Flag => f.write_str("--set: ")?,
            Place::Nowhere => {}
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        match &self.suggestion {
            Some(suggestion) => write!(f, "; {suggestion}"),
            None => Ok(()),
        }
    }
}

/// Every reason why a configuration is refused; at least one.
#[derive(Debug)]
pub struct Problems {
    /// The reasons, those of the file in its order.
    pub list: Vec<Problem>,
    /// What was read: a change of it may heal the configuration.
    pub watch: Watch,
}

impl fmt::Display for Problems {
    /// One problem a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.list.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Where each key of the merged configuration was written.
#[derive(Debug, Default)]
pub(super) struct Origins {
    written: BTreeMap<String, Origin>,
}

#[derive(Debug)]
struct Origin {
    place: Place,
    /// TOML writes times without quotes; elsewhere they are text.
    datetime: bool,
}

impl Origins {
    /// Notes that `key` stands on `line` of the file at `path`.
    pub(super) fn in_file(&mut self, path: &Path, key: String, line: usize, datetime: bool) {
        let place = Place::File {
            path: path.to_owned(),
            line: Some(line),
        };
        self.written.insert(key, Origin { place, datetime });
    }

    /// Notes that `place` gives `key` anew, whatever the layers below wrote there.
    pub(super) fn replace(&mut self, key: &str, place: Place) {
        self.written.retain(|written, _| {
            written
                .strip_prefix(key)
                .is_none_or(|rest| !rest.is_empty() && !rest.starts_with(['.', '[']))
        });
        let datetime = false;
        self.written
            .insert(key.to_owned(), Origin { place, datetime });
    }

    /// Whether the value at `key` is a TOML date or time.
    pub(super) fn is_datetime(&self, key: &str) -> bool {
        self.written.get(key).is_some_and(|origin| origin.datetime)
    }

    /// Where `key` was written, or the nearest key above it that was.
    fn place(&self, mut key: &str) -> Place {
        loop {
            if let Some(origin) = self.written.get(key) {
                return origin.place.clone();
            }
            match key.rfind(['.', '[']) {
                Some(end) => key = &key[..end],
                None => return Place::Nowhere,
            }
        }
    }
}

/// A certificate that was read, and the time in which it is good.
#[derive(Clone, Debug)]
pub(super) struct Dated {
    place: Place,
    key: String,
    path: String,
    from: Timestamp,
    until: Timestamp,
}

impl Dated {
    /// The warning that it is not good `now`.
    pub(super) fn warning(&self, now: Timestamp) -> Option<Problem> {
        let Self { path, .. } = self;
        let message = if now < self.from {
            let from = Moment(self.from);
            format!("{path} is not good before {from}, and refused by the other side until then")
        } else if now > self.until {
            let until = Moment(self.until);
            format!("{path} was good until {until}, and is refused by the other side")
        } else {
            return None;
        };
        Some(Problem {
            place: self.place.clone(),
            key: self.key.clone(),
            message,
            suggestion: None,
        })
    }
}

/// Collects problems and warnings while a configuration is judged.
#[derive(Debug, Default)]
pub(super) struct Findings {
    origins: Origins,
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    certificates: Vec<Dated>,
    /// Keys that are not also called missing: something was said about them already.
    excused: BTreeSet<String>,
}

impl Findings {
    /// Nothing found yet, about values written at `origins`.
    pub(super) fn new(origins: Origins) -> Self {
        Self {
            origins,
            ..Self::default()
        }
    }

    /// Where values were written.
    pub(super) fn origins(&mut self) -> &mut Origins {
        &mut self.origins
    }

    /// Notes a problem at `key`.
    pub(super) fn problem(&mut self, key: &str, message: impl Into<String>) {
        self.report(key, message.into(), None);
    }

    /// Notes a problem at `key`, with a way out.
    pub(super) fn problem_with(
        &mut self,
        key: &str,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        self.report(key, message.into(), Some(suggestion.into()));
    }

    /// Notes that `key` is missing, unless what was found before explains that.
    pub(super) fn missing(
        &mut self,
        key: &str,
        message: impl Into<String>,
        suggestion: impl Into<String>,
    ) {
        let explained = self.excused.iter().any(|excused| {
            let rest = excused.strip_prefix(key);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        if !explained {
            self.problem_with(key, message, suggestion);
        }
    }

    /// Notes a problem whose place is known already.
    pub(super) fn add(&mut self, problem: Problem) {
        self.excused.insert(problem.key.clone());
        self.problems.push(problem);
    }

    /// Notes a problem at `key`, with a way out where there is one.
    pub(super) fn report(&mut self, key: &str, message: String, suggestion: Option<String>) {
        let place = self.origins.place(key);
        self.add(Problem {
            place,
            key: key.to_owned(),
            message,
            suggestion,
        });
    }

    /// Notes something unwise at `key`.
    pub(super) fn warn(&mut self, key: &str, message: impl Into<String>) {
        self.warnings.push(Problem {
            place: self.origins.place(key),
            key: key.to_owned(),
            message: message.into(),
            suggestion: None,
        });
    }

    /// Notes when the certificate in DER is good that the file at `path` holds, which `key` names.
    pub(super) fn dated(&mut self, key: &str, path: &str, der: &[u8]) {
        if let Some((from, until)) = validity(der) {
            self.certificates.push(Dated {
                place: self.origins.place(key),
                key: key.to_owned(),
                path: path.to_owned(),
                from,
                until,
            });
        }
    }

    /// Keeps `key` from being called missing: it was most likely meant by another word.
    pub(super) fn excuse(&mut self, key: String) {
        self.excused.insert(key);
    }

    /// Takes over what was found in another file.
    pub(super) fn absorb(&mut self, other: Self) {
        self.problems.extend(other.problems);
        self.warnings.extend(other.warnings);
        self.certificates.extend(other.certificates);
    }

    /// Whether nothing is wrong so far.
    pub(super) fn is_clean(&self) -> bool {
        self.problems.is_empty()
    }

    /// The certificates that were read.
    pub(super) fn certificates(&mut self) -> Vec<Dated> {
        std::mem::take(&mut self.certificates)
    }

    /// The problems and the warnings, each in the order of the file.
    pub(super) fn into_parts(mut self) -> (Vec<Problem>, Vec<Problem>) {
        self.problems.sort_by(|a, b| a.place.cmp(&b.place));
        self.warnings.sort_by(|a, b| a.place.cmp(&b.place));
        (self.problems, self.warnings)
    }
}

/// The path of `name` below `parent`.
pub(super) fn below(parent: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    let name = if bare {
        name.to_owned()
    } else {
        format!("{name:?}")
    };
    if parent.is_empty() {
        name
    } else {
        format!("{parent}.{name}")
    }
}

/// `text` as a problem may show it: escaped, cut short, and not at all where it looks like a secret.
pub(super) fn quoted(text: &str) -> String {
    // No key, token or digest is shorter than 20 characters, and none has a dot or a space early on.
    let unbroken = text
        .bytes()
        .take_while(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+' | b'=')
        })
        .count();
    if unbroken >= 20 {
        return "\"…\"".to_owned();
    }
    if text.chars().count() > 60 {
        let head: String = text.chars().take(60).collect();
        return format!("{:?}", format!("{head}…"));
    }
    format!("{text:?}")
}

/// Whether a value at `key` is never shown.
pub(super) fn is_secret(key: &str) -> bool {
    let name = key.rsplit(['.', '[']).next().unwrap_or(key);
    ["pepper", "secret", "password", "token", "sha256"]
        .iter()
        .any(|word| name.contains(word))
}

/// The one of `known` that was most likely meant by `written`.
pub(super) fn closest<'a>(
    written: &str,
    known: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let written = written.to_ascii_lowercase().replace('-', "_");
    known
        .into_iter()
        .map(|name| {
            (
                strsim::damerau_levenshtein(&written, &name.to_ascii_lowercase()),
                name,
            )
        })
        .filter(|(distance, name)| *distance <= (name.len() / 3).max(1))
        .min()
        .map(|(_, name)| name)
}

/// `did you mean "…"?`
pub(super) fn did_you_mean(name: &str) -> String {
    format!("did you mean {name:?}?")
}

/// `"a", "b" or "c"`
pub(super) fn one_of<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| format!("{name:?}")).collect();
    match names.as_slice() {
        [] => String::new(),
        [only] => only.clone(),
        [init @ .., last] => format!("{} or {last}", init.join(", ")),
    }
}
