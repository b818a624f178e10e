//! The JSON Schema of the raw types, in the form that editors, the shape check and the reference read.

use schemars::generate::SchemaSettings;
use schemars::transform::{RecursiveTransform, Transform};
use schemars::{JsonSchema, Schema};
use serde_json::Value;

/// The JSON Schema of `T`, without references and without `null`, which TOML does not have.
pub(super) fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .with_transform(RecursiveTransform(WithoutNull))
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Takes back the `null` that an `Option` adds to its schema.
#[derive(Clone)]
struct WithoutNull;

impl Transform for WithoutNull {
    fn transform(&mut self, schema: &mut Schema) {
        let Some(object) = schema.as_object_mut() else {
            return;
        };
        if let Some(Value::Array(types)) = object.get_mut("type") {
            types.retain(|name| name != "null");
            if let [only] = types.as_slice() {
                let only = only.clone();
                object.insert("type".to_owned(), only);
            }
        }
        match object.get_mut("default") {
            Some(Value::Null) => drop(object.remove("default")),
            Some(Value::Object(defaults)) => defaults.retain(|_, value| !value.is_null()),
            _ => {}
        }
        if let Some(Value::Array(branches)) = object.get_mut("anyOf") {
            branches.retain(|branch| branch.get("type").is_none_or(|name| name != "null"));
            if branches.len() == 1
                && let Some(Value::Object(only)) = branches.pop()
            {
                object.remove("anyOf");
                for (key, value) in only {
                    object.entry(key).or_insert(value);
                }
            }
        }
        // The widths of Rust's integers say nothing to someone who writes TOML.
        if object
            .get("format")
            .and_then(Value::as_str)
            .is_some_and(|format| format.starts_with("uint"))
        {
            object.remove("format");
        }
    }
}
