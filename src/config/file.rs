//! A TOML file as values, and the line on which each of its keys stands.
//!
//! Knows nothing of what the keys mean.

use std::path::Path;

use figment::value::{Dict, Num, Tag, Value};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problems::{Origins, Place, Problem, below};

/// Reads `text` as the TOML file at `path`, noting in `origins` where each key stands.
///
/// A syntax error is a single problem: what follows it cannot be trusted to mean what it says. It
/// never quotes the file, whose broken line may hold a secret.
pub(super) fn parse(path: &Path, text: &str, origins: &mut Origins) -> Result<Dict, Problem> {
    let lines = Lines::new(text);
    let (table, errors) = DeTable::parse_recoverable(text);
    // The parser lists errors as it recovers; the first in the file is the one that caused them.
    let offset = |error: &toml::de::Error| error.span().map(|span| span.start);
    if let Some(error) = errors.iter().min_by_key(|error| offset(error)) {
        return Err(Problem {
            place: Place::File {
                path: path.to_owned(),
                line: offset(error).map(|offset| lines.line(offset)),
            },
            key: String::new(),
            message: format!("not TOML: {}", error.message().trim().replace('\n', ", ")),
            suggestion: None,
        });
    }
    let mut reader = Reader {
        path,
        lines,
        origins,
    };
    Ok(reader.table(table.get_ref(), ""))
}

struct Reader<'a> {
    path: &'a Path,
    lines: Lines,
    origins: &'a mut Origins,
}

impl Reader<'_> {
    fn table(&mut self, table: &DeTable<'_>, key: &str) -> Dict {
        let mut dict = Dict::new();
        for (name, value) in table {
            let key = below(key, name.get_ref());
            let value = self.value(value, name.span().start, key);
            dict.insert(name.get_ref().to_string(), value);
        }
        dict
    }

    fn value(&mut self, value: &Spanned<DeValue<'_>>, offset: usize, key: String) -> Value {
        let built = match value.get_ref() {
            DeValue::String(text) => text_value(text),
            DeValue::Integer(integer) => integer_value(integer.as_str(), integer.radix()),
            DeValue::Float(float) => Value::Num(
                Tag::Default,
                Num::F64(float.as_str().parse().unwrap_or(f64::NAN)),
            ),
            DeValue::Boolean(truth) => Value::Bool(Tag::Default, *truth),
            DeValue::Datetime(time) => text_value(&time.to_string()),
            DeValue::Array(items) => {
                let mut list = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    let key = format!("{key}[{index}]");
                    list.push(self.value(item, item.span().start, key));
                }
                Value::Array(Tag::Default, list)
            }
            DeValue::Table(table) => Value::Dict(Tag::Default, self.table(table, &key)),
        };
        let line = self.lines.line(offset);
        let datetime = value.get_ref().is_datetime();
        self.origins.in_file(self.path, key, line, datetime);
        built
    }
}

fn text_value(text: &str) -> Value {
    Value::String(Tag::Default, text.to_owned())
}

fn integer_value(digits: &str, radix: u32) -> Value {
    match i64::from_str_radix(digits, radix) {
        Ok(number) => Value::Num(Tag::Default, Num::I64(number)),
        // Too large for every key there is; the shape check says so.
        Err(_) => Value::Num(Tag::Default, Num::I128(i128::MAX)),
    }
}

/// Where each line begins.
struct Lines(Vec<usize>);

impl Lines {
    fn new(text: &str) -> Self {
        Self(memchr::memchr_iter(b'\n', text.as_bytes()).collect())
    }

    /// The line, counted from 1, of the byte at `offset`.
    fn line(&self, offset: usize) -> usize {
        self.0.partition_point(|newline| *newline < offset) + 1
    }
}
