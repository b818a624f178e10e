//! JSON objects that mean one thing.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// A JSON object in which no object, at any depth, names a member twice.
///
/// Of two members with one name some readers take the first and some the last: such an object
/// is refused (RFC 7515 §4, RFC 7519 §4, RFC 8725 §2.6).
#[derive(Clone, Debug, PartialEq)]
pub struct Object(Map<String, Value>);

impl Object {
    /// Reads an object; `None` for whatever is not one, or holds more than one.
    pub fn parse(json: &[u8]) -> Option<Self> {
        match serde_json::from_slice(json) {
            Ok(Unambiguous(Value::Object(members))) => Some(Self(members)),
            _ => None,
        }
    }

    /// The member with this name.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

/// A JSON value without objects that name a member twice.
struct Unambiguous(Value);

impl<'de> Deserialize<'de> for Unambiguous {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader).map(Self)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Unambiguous(value)) = items.next_element()? {
            values.push(value);
        }
        Ok(values.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Unambiguous(value))) = entries.next_entry::<String, _>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom("a member is named twice"));
            }
        }
        Ok(members.into())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_json_can_say() {
        let text = br#" {"a":null,"b":[true,1,-2,1.5,"\u0041",{}],"c":{"a":{"a":1}}} "#;
        let object = Object::parse(text).unwrap();
        assert_eq!(object.member("a"), Some(&Value::Null));
        let list = json!([true, 1, -2, 1.5, "A", {}]);
        assert_eq!(object.member("b"), Some(&list));
        assert_eq!(object.member("c"), Some(&json!({"a": {"a": 1}})));
        assert_eq!(object.member("d"), None);
    }

    #[test]
    fn refuses_a_name_that_comes_twice_at_any_depth() {
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"b":{"a":1,"a":2}}"#,
            r#"{"b":[[{"a":1,"a":2}]]}"#,
            r#"{"":1,"":2}"#,
        ] {
            assert_eq!(Object::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_single_object() {
        for text in [
            &b""[..],
            b"null",
            b"[]",
            b"\"{}\"",
            b"1",
            b"{}{}",
            b"{} x",
            b"{}\0",
            b"{",
            b"{\"a\":1,}",
            b"{'a':1}",
            b"{\"a\":NaN}",
            b"{\"a\":1e999}",
            b"{\"a\":01}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"a\":\"\xff\"}",
            b"\xef\xbb\xbf{}",
            b"// {}\n{}",
        ] {
            assert_eq!(Object::parse(text), None, "{}", text.escape_ascii());
        }
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(4000), "]".repeat(4000));
        assert_eq!(Object::parse(deep.as_bytes()), None);
    }
}
