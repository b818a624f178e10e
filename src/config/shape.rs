//! Whether the merged values have the schema's shape: keys, types, words and forms.
//!
//! Serde stops at the first mistake; this walk finds all of them, and takes what is broken out of
//! the values, so that the rest can be deserialized and judged too.

use figment::value::{Dict, Value};
use serde_json::Value as Json;

use super::problems::{Findings, below, closest, did_you_mean, is_secret, one_of, quoted};
use super::values::{example, misfit};

/// Reports what does not fit `schema`, and removes it from `values`.
pub(super) fn check(values: &mut Dict, schema: &Json, findings: &mut Findings) {
    Walk { findings }.table(values, schema, "");
}

/// Keys of gatelet's that this version does not have, without list places, and what they are about.
const LATER_KEYS: [(&str, &str); 1] = [("listen.admin", "the admin listener")];

/// What to say about a key that `schema` does not know below `parent`, and the way out.
pub(super) fn unknown_key(schema: &Json, parent: &str, name: &str) -> (String, Option<String>) {
    let path = without_places(&below(parent, name));
    if let Some((_, what)) = LATER_KEYS.iter().find(|(key, _)| *key == path) {
        return (format!("{what}: not available in this version"), None);
    }
    let known = properties(schema).map(|(name, _)| name.as_str());
    let suggestion = match closest(name, known.clone()) {
        Some(meant) => did_you_mean(meant),
        None => format!("known here: {}", known.collect::<Vec<_>>().join(", ")),
    };
    (format!("unknown key {}", quoted(name)), Some(suggestion))
}

/// The key that names the file of the secret `name`, where `schema` has such a one.
pub(super) fn secret_file(schema: &Json, name: &str) -> Option<String> {
    let file = format!("{name}_file");
    let (_, child) = properties(schema).find(|(known, _)| **known == file)?;
    child.get("x-gatelet-secret").map(|_| file)
}

/// The alternatives of `schema`: what its `anyOf` lists, or itself.
pub(super) fn branches(schema: &Json) -> Vec<&Json> {
    match schema.get("anyOf").and_then(Json::as_array) {
        Some(branches) => branches.iter().flat_map(self::branches).collect(),
        None => vec![schema],
    }
}

/// The `type` of a schema without alternatives.
pub(super) fn type_of(schema: &Json) -> &str {
    schema
        .get("type")
        .and_then(Json::as_str)
        .unwrap_or_default()
}

fn properties(schema: &Json) -> impl Iterator<Item = (&String, &Json)> + Clone {
    let properties = schema.get("properties").and_then(Json::as_object);
    properties.into_iter().flatten()
}

fn words(schema: &Json) -> Option<Vec<&str>> {
    let words = schema.get("enum")?.as_array()?;
    Some(words.iter().filter_map(Json::as_str).collect())
}

/// `routes[2].require` as `routes.require`.
fn without_places(key: &str) -> String {
    let mut path = String::new();
    let mut inside = false;
    for c in key.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            _ if !inside => path.push(c),
            _ => {}
        }
    }
    path
}

struct Walk<'a> {
    findings: &'a mut Findings,
}

impl Walk<'_> {
    /// Judges each key of a table, removes the broken ones, and reports what is missing; whether
    /// every required key is left.
    fn table(&mut self, table: &mut Dict, schema: &Json, key: &str) -> bool {
        table.retain(|name, value| {
            let path = below(key, name);
            if let Some(child) = schema.get("properties").and_then(|known| known.get(name)) {
                let good = self.value(value, child, &path);
                if !good {
                    self.findings.excuse(path);
                }
                good
            } else {
                self.unknown(schema, key, name, &path);
                false
            }
        });
        let required = schema.get("required").and_then(Json::as_array);
        let mut complete = true;
        for name in required.into_iter().flatten().filter_map(Json::as_str) {
            if !table.contains_key(name) {
                complete = false;
                let example = schema.get("properties").and_then(|known| known.get(name));
                let suggestion = format!("write {}", shown_example(name, example));
                self.findings
                    .missing(&below(key, name), "missing", suggestion);
            }
        }
        complete
    }

    fn unknown(&mut self, schema: &Json, parent: &str, name: &str, path: &str) {
        if let Some(file) = secret_file(schema, name) {
            let variable = path.to_uppercase().replace('.', "__");
            let suggestion =
                format!("write it to a file named by {file}, or set GATELET__{variable}");
            return self.findings.problem_with(
                path,
                "a secret does not belong in this file",
                suggestion,
            );
        }
        let (message, suggestion) = unknown_key(schema, parent, name);
        if let Some(meant) = closest(name, properties(schema).map(|(name, _)| name.as_str())) {
            self.findings.excuse(below(parent, meant));
        }
        self.findings.report(path, message, suggestion);
    }

    /// Whether the value can be kept; what is wrong with it was reported.
    fn value(&mut self, value: &mut Value, schema: &Json, key: &str) -> bool {
        let branches = branches(schema);
        let found = if self.findings.origins().is_datetime(key) {
            "date"
        } else {
            type_name(value)
        };
        let fitting = branches.iter().find(|branch| match type_of(branch) {
            "string" if found == "date" => branch
                .get("format")
                .is_some_and(|format| format == "date-time"),
            expected => expected == found,
        });
        let Some(branch) = fitting else {
            self.mistyped(schema, found, key);
            return false;
        };
        match value {
            // A section is kept for its other keys; a value that is written as a table is not.
            Value::Dict(_, table) => self.table(table, branch, key) || branches.len() == 1,
            Value::Array(_, items) => self.list(items, branch, key),
            Value::String(_, text) => self.text(text, branch, &branches, key),
            Value::Num(_, number) => self.number(number.to_i128(), branch, key),
            _ => true,
        }
    }

    /// Judges a list. Tables keep their places, so that later problems still count them right; a
    /// list of plain values is dropped with its first bad one.
    fn list(&mut self, items: &mut [Value], schema: &Json, key: &str) -> bool {
        let Some(of) = schema.get("items") else {
            return true;
        };
        let tables = type_of(of) == "object";
        let mut good = true;
        for (index, item) in items.iter_mut().enumerate() {
            let place = format!("{key}[{index}]");
            // Plain values are reported at their list: `require = ["apikey"]` is about `require`.
            good &= self.value(item, of, if tables { &place } else { key });
        }
        good
    }

    fn text(&mut self, text: &str, schema: &Json, branches: &[&Json], key: &str) -> bool {
        if let Some(words) = words(schema) {
            if words.contains(&text) {
                return true;
            }
            self.unknown_word(text, schema, &words, branches, key);
            return false;
        }
        let format = schema.get("format").and_then(Json::as_str);
        match format.and_then(|format| misfit(format, text)) {
            None => true,
            Some((name, example)) => {
                let message = if is_secret(key) {
                    format!("not {name}")
                } else {
                    format!("{} is not {name}", quoted(text))
                };
                let suggestion = format!("write it like {example}");
                self.findings.problem_with(key, message, suggestion);
                false
            }
        }
    }

    fn unknown_word(
        &mut self,
        text: &str,
        schema: &Json,
        words: &[&str],
        branches: &[&Json],
        key: &str,
    ) {
        let title = schema.get("title").and_then(Json::as_str);
        let title = title.unwrap_or("value");
        let listed = branches.iter().filter_map(|branch| branch.get("items"));
        let in_a_list = listed
            .filter_map(self::words)
            .any(|words| words.contains(&text));
        let suggestion = if in_a_list {
            format!("write [{text:?}]")
        } else {
            match closest(text, words.iter().copied()) {
                Some(meant) => did_you_mean(meant),
                None => format!("write {}", one_of(words.iter().copied())),
            }
        };
        let message = format!("unknown {title} {}", quoted(text));
        self.findings.problem_with(key, message, suggestion);
    }

    fn number(&mut self, number: Option<i128>, schema: &Json, key: &str) -> bool {
        let bound = |name| schema.get(name).and_then(Json::as_i64).map(i128::from);
        let (minimum, maximum) = (bound("minimum"), bound("maximum"));
        let maximum = maximum.unwrap_or_else(|| i128::from(u32::MAX));
        let message = match (number, minimum) {
            (Some(number), Some(minimum)) if number < minimum => {
                format!("{number} is too small; the least is {minimum}")
            }
            (Some(number), _) if number > maximum => {
                format!("too large; the most is {maximum}")
            }
            _ => return true,
        };
        self.findings.problem(key, message);
        false
    }

    fn mistyped(&mut self, schema: &Json, found: &str, key: &str) {
        let branches = branches(schema);
        let mut expected: Vec<&str> = branches
            .iter()
            .map(|branch| called(type_of(branch)))
            .collect();
        expected.dedup();
        let message = format!(
            "expected {}, found {}",
            expected.join(" or "),
            called(found)
        );
        let format = branches.iter().find_map(|branch| branch.get("format"));
        let suggestion = match format.and_then(Json::as_str).and_then(example) {
            Some(example) => Some(example.to_owned()),
            None => shown_value(schema).map(Json::to_string),
        };
        let suggestion = suggestion.map(|value| format!("write it like {value}"));
        self.findings.report(key, message, suggestion);
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::String(..) | Value::Char(..) => "string",
        Value::Bool(..) => "boolean",
        Value::Num(_, number) if number.to_i128().is_some() => "integer",
        Value::Num(..) => "number",
        Value::Empty(..) => "null",
        Value::Dict(..) => "object",
        Value::Array(..) => "array",
    }
}

fn called(type_name: &str) -> &'static str {
    match type_name {
        "string" => "a string",
        "boolean" => "true or false",
        "integer" => "a whole number",
        "number" => "a fraction",
        "object" => "a table",
        "array" => "a list",
        "date" => "a date",
        _ => "nothing",
    }
}

/// A value that would do: the schema's own example, or the default where it is one plain value.
fn shown_value(schema: &Json) -> Option<&Json> {
    let example = schema.get("examples").and_then(|examples| examples.get(0));
    let default = schema.get("default");
    example.or(default.filter(|value| !value.is_object() && !value.is_array()))
}

/// `name = value`, with the schema's own example.
fn shown_example(name: &str, schema: Option<&Json>) -> String {
    match schema.and_then(shown_value) {
        Some(value) => format!("{name} = {value}"),
        None => format!("{name} = …"),
    }
}
