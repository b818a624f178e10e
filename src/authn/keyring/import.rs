//! Takes over keys that another system issued: all of them or none.
//!
//! One JSON object a line. What is wrong is told for every wrong line at once, and never with
//! what the line holds: it may be a key, in whatever field it was put by mistake.

use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use super::{Keyring, KeyringError, NewKey, change, creation};
use crate::rules::api_key::{Digest, Label, Record, checked_import};
use crate::rules::principal::{Scopes, is_scope_token};
use crate::rules::time::Timestamp;
use crate::rules::units;
use crate::store::{StoreFault, Swapped};

/// The fields of a line.
const FIELDS: [&str; 6] = ["name", "key", "sha256", "owner", "scopes", "expiresAt"];

/// Past this many seconds (the year 5138) a time was probably meant in milliseconds.
const MILLISECONDS: u64 = 100_000_000_000;

/// What is wrong with a line; never holds any of the line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrongLine {
    /// The line's number, from 1.
    pub line: usize,
    /// What is wrong with it, and the way out.
    pub problem: String,
}

/// Why nothing was imported.
#[derive(Debug)]
pub enum ImportError {
    /// These lines are wrong.
    Lines(Vec<WrongLine>),
    /// The lines were good and could not be kept.
    Keyring(KeyringError),
}

impl From<KeyringError> for ImportError {
    fn from(error: KeyringError) -> Self {
        Self::Keyring(error)
    }
}

impl From<StoreFault> for ImportError {
    fn from(fault: StoreFault) -> Self {
        Self::Keyring(fault.into())
    }
}

/// A line that was understood, with the digest under which the store will know it.
struct Line {
    number: usize,
    record: Record,
    digest: Digest,
}

impl Keyring {
    /// Takes over the keys that `text` lists, one JSON object a line, in one transaction.
    ///
    /// Answers with the new records. If the future is dropped, all were taken over or none.
    pub async fn import(&self, text: &str) -> Result<Vec<Record>, ImportError> {
        let lines = self.understood(text)?;
        if lines.is_empty() {
            return Ok(Vec::new());
        }
        let writes = lines.iter().flat_map(|line| creation(&line.record));
        let payloads = lines.iter().map(|line| change(&line.record, &[]));
        let outcome = self
            .store
            .swap(writes.collect(), payloads.collect())
            .await?;
        if outcome == Swapped::Conflict {
            // Looked for only now: most imports meet no key that is there already.
            return Err(self.held_already(&lines).await?);
        }
        Ok(lines.into_iter().map(|line| line.record).collect())
    }

    fn understood(&self, text: &str) -> Result<Vec<Line>, ImportError> {
        let mut lines: Vec<Line> = Vec::new();
        let mut wrong = Vec::new();
        let mut first_lines: HashMap<Digest, usize> = HashMap::new();
        // A byte order mark is not part of the first line.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (place, content) in text.lines().enumerate() {
            if content.trim().is_empty() {
                continue;
            }
            let number = place + 1;
            let outcome = self.line(number, content)?.and_then(|line| {
                match first_lines.insert(line.digest, number) {
                    Some(first) => Err(format!("the same key is on line {first}")),
                    None => Ok(line),
                }
            });
            match outcome {
                Ok(line) => lines.push(line),
                Err(problem) => wrong.push(WrongLine {
                    line: number,
                    problem,
                }),
            }
        }
        if wrong.is_empty() {
            Ok(lines)
        } else {
            Err(ImportError::Lines(wrong))
        }
    }

    fn line(&self, number: usize, content: &str) -> Result<Result<Line, String>, KeyringError> {
        let entry = match Entry::parse(&self.prefix, content) {
            Ok(entry) => entry,
            Err(problem) => return Ok(Err(problem)),
        };
        let digest = entry.sha256.keyed(self.pepper.as_ref());
        let record = self.record(entry.key, digest)?;
        Ok(Ok(Line {
            number,
            record,
            digest,
        }))
    }

    /// Says which lines' keys the store holds.
    async fn held_already(&self, lines: &[Line]) -> Result<ImportError, StoreFault> {
        let mut wrong = Vec::new();
        for line in lines {
            if let Some(id) = self.holder(&line.digest).await? {
                wrong.push(WrongLine {
                    line: line.number,
                    problem: format!("the store has this key already, as {id}"),
                });
            }
        }
        if wrong.is_empty() {
            // Only an id can have collided, or someone took the key back meanwhile.
            return Ok(KeyringError::Contended.into());
        }
        Ok(ImportError::Lines(wrong))
    }
}

/// A line's content, checked.
struct Entry {
    key: NewKey,
    sha256: Digest,
}

impl Entry {
    fn parse(prefix: &str, content: &str) -> Result<Self, String> {
        let Fields(fields) = serde_json::from_str(content).map_err(|error| {
            if error.is_data() {
                // Serde's own words would repeat the value.
                "must be a JSON object".to_owned()
            } else {
                format!("is not JSON, from column {}", error.column())
            }
        })?;
        check_names(&fields)?;
        let field = |name: &str| {
            let (_, value) = fields.iter().find(|(field, _)| field == name)?;
            // An exporter writes null for what it does not have.
            (!value.is_null()).then_some(value)
        };
        let key = NewKey {
            name: label("name", field("name").ok_or("name is missing")?)?,
            owner: field("owner")
                .map(|value| label("owner", value))
                .transpose()?,
            scopes: field("scopes").map(scopes).transpose()?.unwrap_or_default(),
            expires_at: field("expiresAt").map(expires_at).transpose()?,
            rate_limit: None,
        };
        let sha256 = digest(prefix, field("key"), field("sha256"))?;
        Ok(Self { key, sha256 })
    }
}

fn check_names(fields: &[(String, Value)]) -> Result<(), String> {
    for (place, (name, _)) in fields.iter().enumerate() {
        if !FIELDS.contains(&name.as_str()) {
            let hint = match meant(name) {
                Some(meant) => format!("did you mean \"{meant}\"?"),
                None => format!("a line may have {}", FIELDS.join(", ")),
            };
            return Err(format!("field {} is unknown; {hint}", place + 1));
        }
        if fields[..place].iter().any(|(earlier, _)| earlier == name) {
            return Err(format!("{name} is given twice"));
        }
    }
    Ok(())
}

/// The field that a name was probably meant to be, such as `expires_at` for `expiresAt`.
fn meant(name: &str) -> Option<&'static str> {
    let bare = |name: &str| name.replace(['_', '-', ' '], "").to_lowercase();
    let name = bare(name);
    FIELDS
        .into_iter()
        .find(|known| strsim::osa_distance(&bare(known), &name) <= known.len() / 3)
}

fn label(field: &str, value: &Value) -> Result<Label, String> {
    let text = value
        .as_str()
        .ok_or_else(|| format!("{field} must be a string"))?;
    Label::parse(text).map_err(|problem| format!("{field} {problem}"))
}

fn digest(prefix: &str, key: Option<&Value>, sha256: Option<&Value>) -> Result<Digest, String> {
    match (key, sha256) {
        (Some(key), None) => {
            let key = key.as_str().ok_or("key must be a string")?;
            checked_import(prefix, key)?;
            Ok(Digest::of(key.as_bytes()))
        }
        (None, Some(sha256)) => {
            let sha256 = sha256.as_str().ok_or("sha256 must be a string")?;
            sha256
                .parse()
                .map_err(|problem| format!("sha256 {problem}"))
        }
        (Some(_), Some(_)) => Err("give key or sha256, not both".to_owned()),
        (None, None) => Err("key is missing; sha256 would do, too".to_owned()),
    }
}

fn scopes(value: &Value) -> Result<Scopes, String> {
    const PROBLEM: &str =
        "scopes must be a list of strings of visible ASCII without quotes and backslashes";
    let names = value.as_array().ok_or(PROBLEM)?;
    let names: Option<Vec<&str>> = names
        .iter()
        .map(|name| name.as_str().filter(|name| is_scope_token(name)))
        .collect();
    Ok(Scopes::new(names.ok_or(PROBLEM)?))
}

fn expires_at(value: &Value) -> Result<Timestamp, String> {
    let time = match value {
        Value::Number(seconds) => match seconds.as_u64() {
            Some(seconds) if seconds >= MILLISECONDS => {
                return Err("expiresAt must be in seconds; this looks like milliseconds".to_owned());
            }
            seconds => seconds.map(Timestamp::from_seconds),
        },
        Value::String(text) => units::time(text).ok(),
        _ => None,
    };
    time.ok_or_else(|| {
        "expiresAt must be whole Unix seconds, or a time such as \"2027-01-31T00:00:00Z\""
            .to_owned()
    })
}

/// An object's fields in their order, doubled ones included: a map would keep the last of them.
struct Fields(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder;

        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(InOrder)
    }
}
