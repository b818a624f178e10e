//! The reference of every key, written from the schema.
//!
//! `docs/configuration.md` is this text; a test holds them together.

use std::fmt::Write;

use serde_json::{Map, Value as Json};

use super::raw::Raw;
use super::schema::schema_of;
use super::shape::{branches, type_of};

const INTRODUCTION: &str = "\
# Configuration

Every key, what it means and what it is when it is left out. This page is written by
`gatelet config reference` from the types that read the file; `gatelet config schema` prints the
same as JSON Schema for editors.

gatelet reads `./config.toml`, or the file named by `--config`. Over it goes the environment: the
key path in capitals behind `GATELET__`, its parts joined by `__`, as in
`GATELET__LISTEN__PROXY=0.0.0.0:8080`. A list of words is written with commas; lists of tables
(`[[upstreams]]`, `[[routes]]`, `[[api_keys.static]]`, `[[access_token.trusted]]`) come from the file
alone. Flags go over both.

Durations are written `\"500ms\"`, `\"10s\"`, `\"1h30m\"` or `\"7d\"`; sizes `\"32KiB\"`, `\"10MiB\"`, `\"1MB\"` or
a number of bytes; rates `\"100/s\"`, `\"60/m\"`, `\"1000/h\"`, or `{ rate = \"100/s\", burst = 200 }`. Without
a burst, one second's worth may come at once, and at least one request.

A secret is never written in the file: a key that ends in `_file` names a file that holds it, and the
same key without `_file` is read from the environment (`GATELET__API_KEYS__PEPPER`), which wins. One
newline at the end of such a file is not part of the secret.

`gatelet check` prints every problem with its line. A running server reads the file, and what it
points to, again on SIGHUP and when their content changes; an invalid one is logged and ignored.

In the blocks below, a line with a value shows the default; a line that is commented out has no
default and shows an example.
";

/// The reference, in Markdown.
pub fn reference() -> String {
    let schema = schema_of::<Raw>();
    let mut text = INTRODUCTION.to_owned();
    sections(&mut text, schema.as_value(), "");
    text
}

/// Writes the tables below `parent`, each with its keys.
fn sections(text: &mut String, schema: &Json, parent: &str) {
    for (name, section) in properties(schema) {
        let path = if parent.is_empty() {
            name.clone()
        } else {
            format!("{parent}.{name}")
        };
        let (header, table) = match (type_of(section), section.get("items")) {
            ("object", _) => (format!("[{path}]"), section),
            ("array", Some(items)) if type_of(items) == "object" => (format!("[[{path}]]"), items),
            _ => continue,
        };
        let description = described(section);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "\n## `{header}`\n\n{description}\n\n```toml\n{header}\n"
        );
        let keys = properties(table).filter(|(_, key)| !is_table(key));
        for (place, (name, key)) in keys.enumerate() {
            if place > 0 {
                text.push('\n');
            }
            let required = table
                .get("required")
                .and_then(Json::as_array)
                .is_some_and(|required| required.iter().any(|word| word == name));
            let default = section
                .get("items")
                .is_none()
                .then(|| section.get("default"));
            let default = default.flatten().and_then(|default| default.get(name));
            write_key(text, name, key, required, default);
        }
        text.push_str("```\n");
        sections(text, table, &path);
    }
}

fn write_key(text: &mut String, name: &str, key: &Json, required: bool, default: Option<&Json>) {
    for line in described(key).lines() {
        let _ = writeln!(text, "# {line}");
    }
    let words = branches(key)
        .into_iter()
        .filter_map(|branch| branch.get("enum").and_then(Json::as_array))
        .flatten()
        .map(Json::to_string)
        .collect::<Vec<_>>();
    if words.len() > 1 {
        let _ = writeln!(text, "# One of {}.", words.join(", "));
    }
    if required {
        text.push_str("# Required.\n");
    }
    let default = key.get("default").or(default);
    match (
        default,
        key.get("examples").and_then(|examples| examples.get(0)),
    ) {
        (Some(Json::Array(items)), Some(example)) if items.is_empty() && required => {
            let _ = writeln!(text, "# {name} = {}", toml(example));
        }
        (Some(Json::Array(items)), Some(example)) if items.is_empty() => {
            let _ = writeln!(text, "# For example {}.\n{name} = []", toml(example));
        }
        (Some(default), _) => {
            let _ = writeln!(text, "{name} = {}", toml(default));
        }
        (None, Some(example)) => {
            let _ = writeln!(text, "# {name} = {}", toml(example));
        }
        (None, None) => {
            let _ = writeln!(text, "# {name} =");
        }
    }
}

fn properties(schema: &Json) -> impl Iterator<Item = (&String, &Json)> {
    let properties = schema.get("properties").and_then(Json::as_object);
    properties.into_iter().flat_map(Map::iter)
}

/// Whether a key has a section of its own.
fn is_table(schema: &Json) -> bool {
    type_of(schema) == "object"
        || schema
            .get("items")
            .is_some_and(|items| type_of(items) == "object")
}

fn described(schema: &Json) -> &str {
    schema
        .get("description")
        .and_then(Json::as_str)
        .unwrap_or_default()
}

/// Scalars and lists of them are written alike in JSON and in TOML, but for large numbers.
fn toml(value: &Json) -> String {
    let Some(number) = value.as_u64().filter(|number| *number >= 10_000) else {
        return value.to_string();
    };
    format!("{}_{:03}", number / 1000, number % 1000)
}
