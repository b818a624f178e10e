//! The layers of a configuration: the file, over it the environment, over that the flags.
//!
//! What a layer says is brought into the schema's types here, as far as text can be; whether it is
//! good is judged on the merged whole by `shape`. Defaults are not a layer: they stand in `raw`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use figment::value::{Dict, Map, Num, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};
use serde_json::Value as Json;
use zeroize::Zeroizing;

use super::problems::{Findings, Place, Problem, below, quoted};
use super::shape;

/// The names gatelet reads from the environment begin so, clear of the `GATELET_SERVICE_HOST` that
/// Kubernetes sets for a service called gatelet.
const PREFIX: &str = "GATELET__";

/// What is said besides the file: the environment, and flags, which beat it.
///
/// Without `Debug`, since the environment may hold the pepper.
#[derive(Clone, Default)]
pub struct Overrides {
    environment: Vec<(OsString, OsString)>,
    flags: Vec<(String, String)>,
}

impl Overrides {
    /// What the environment of this process says.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that reads the environment"
    )]
    pub fn from_process() -> Self {
        Self::from_environment(std::env::vars_os())
    }

    /// What the given environment says. Names that are not gatelet's are passed over.
    pub fn from_environment(variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let environment = variables
            .into_iter()
            .filter(|(name, _)| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
            .collect();
        Self {
            environment,
            flags: Vec::new(),
        }
    }

    /// Sets `key`, such as `listen.proxy`, over the file and the environment.
    #[must_use]
    pub fn set(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.flags.push((key.into(), value.into()));
        self
    }
}

/// The merged layers.
pub(super) struct Merged {
    /// Every value, in the schema's type where that could be told from text.
    pub(super) values: Dict,
    /// Secrets from the environment, by the key that would name their file.
    pub(super) secrets: BTreeMap<String, Zeroizing<String>>,
}

/// Merges the file's values with what `overrides` says over them.
pub(super) fn merge(
    file: Dict,
    overrides: &Overrides,
    schema: &Json,
    findings: &mut Findings,
) -> Merged {
    let mut reader = Reader {
        schema,
        findings,
        secrets: BTreeMap::new(),
    };
    let environment = reader.environment(&overrides.environment);
    let flags = reader.flags(&overrides.flags);
    let secrets = reader.secrets;
    let figment = Figment::from(Layer("file", file))
        .merge(Layer("environment", environment))
        .merge(Layer("flags", flags));
    // Layers never fail: each holds values that were built before.
    let mut profiles = figment.data().unwrap_or_default();
    Merged {
        values: profiles.remove(&Profile::Default).unwrap_or_default(),
        secrets,
    }
}

struct Layer(&'static str, Dict);

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.0)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.1.clone()))
    }
}

struct Reader<'a> {
    schema: &'a Json,
    findings: &'a mut Findings,
    secrets: BTreeMap<String, Zeroizing<String>>,
}

impl Reader<'_> {
    fn environment(&mut self, variables: &[(OsString, OsString)]) -> Dict {
        let mut layer = Dict::new();
        for (name, value) in variables {
            let place = Place::Environment(name.to_string_lossy().into_owned());
            let Some(path) = name.to_str().and_then(|name| name.strip_prefix(PREFIX)) else {
                self.refuse(place, String::new(), "the name is not UTF-8".into(), None);
                continue;
            };
            let path: Vec<String> = path.split("__").map(str::to_lowercase).collect();
            if let Some(value) = value.to_str() {
                self.assign(&mut layer, &place, &path, value);
            } else {
                let key = path
                    .iter()
                    .fold(String::new(), |key, name| below(&key, name));
                self.refuse(place, key, "the value is not UTF-8".into(), None);
            }
        }
        layer
    }

    fn flags(&mut self, flags: &[(String, String)]) -> Dict {
        let mut layer = Dict::new();
        for (key, value) in flags {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            self.assign(&mut layer, &Place::Flag, &path, value);
        }
        layer
    }

    /// Puts `text` at `path` of `layer`, in the type that the schema asks for there.
    fn assign(&mut self, layer: &mut Dict, place: &Place, path: &[String], text: &str) {
        let mut node = self.schema;
        let mut key = String::new();
        for (depth, name) in path.iter().enumerate() {
            if node.get("items").is_some() {
                let message = "lists of tables come from the file".to_owned();
                return self.refuse(place.clone(), key, message, None);
            }
            let is_last = depth + 1 == path.len();
            if is_last && shape::secret_file(node, name).is_some() {
                return self.secret(place, below(&key, &format!("{name}_file")), text);
            }
            if let Some(child) = node.get("properties").and_then(|known| known.get(name)) {
                node = child;
            } else {
                let (message, suggestion) = shape::unknown_key(node, &key, name);
                return self.refuse(place.clone(), below(&key, name), message, suggestion);
            }
            key = below(&key, name);
        }
        match coerce(node, text) {
            Ok(value) => {
                self.findings.origins().replace(&key, place.clone());
                insert(layer, path, value);
            }
            Err(message) => self.refuse(place.clone(), key, message, None),
        }
    }

    fn secret(&mut self, place: &Place, key: String, text: &str) {
        if *place == Place::Flag {
            let message = "a secret does not belong on a command line, which others can read";
            return self.refuse(place.clone(), key, message.into(), None);
        }
        self.findings.origins().replace(&key, place.clone());
        self.secrets.insert(key, Zeroizing::new(text.to_owned()));
    }

    fn refuse(&mut self, place: Place, key: String, message: String, suggestion: Option<String>) {
        self.findings.add(Problem {
            place,
            key,
            message,
            suggestion,
        });
    }
}

/// `text` in the type that `schema` asks for. What only looks like a number stays text where text
/// is asked for.
fn coerce(schema: &Json, text: &str) -> Result<Value, String> {
    let branches = shape::branches(schema);
    let of_type = |name: &str| {
        branches
            .iter()
            .find(|branch| shape::type_of(branch) == name)
    };
    if of_type("string").is_some() {
        return Ok(string(text));
    }
    if of_type("boolean").is_some() {
        return match text.parse() {
            Ok(truth) => Ok(Value::Bool(Tag::Default, truth)),
            Err(_) => Err(format!("expected true or false, found {}", quoted(text))),
        };
    }
    if of_type("integer").is_some() {
        return match text.parse() {
            Ok(number) => Ok(Value::Num(Tag::Default, Num::I64(number))),
            Err(_) => Err(format!("expected a whole number, found {}", quoted(text))),
        };
    }
    match of_type("array").and_then(|list| list.get("items")) {
        Some(items) if shape::type_of(items) == "string" => {
            let words = text.split(',').map(str::trim);
            let list = words.filter(|word| !word.is_empty()).map(string).collect();
            Ok(Value::Array(Tag::Default, list))
        }
        Some(_) => Err("lists of tables come from the file".to_owned()),
        None => Err("this is a section; name one of its keys".to_owned()),
    }
}

fn string(text: &str) -> Value {
    Value::String(Tag::Default, text.to_owned())
}

fn insert(layer: &mut Dict, path: &[String], value: Value) {
    let Some((name, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        layer.insert(name.clone(), value);
        return;
    }
    let section = layer
        .entry(name.clone())
        .or_insert_with(|| Value::Dict(Tag::Default, Dict::new()));
    if let Value::Dict(_, section) = section {
        insert(section, rest, value);
    }
}
