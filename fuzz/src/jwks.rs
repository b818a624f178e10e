//! Sets of published keys.

use serde_json::{Value, json};

use crate::rules::jwk::{self, LONGEST_SET, MOST_KEYS};

/// A set of keys.
///
/// What is used of it is the same key, by the same name, when it is published again.
pub fn jwks(data: &[u8]) {
    let keys = match jwk::read_set(data) {
        Ok(keys) => keys,
        Err(bad) => {
            assert!(!bad.to_string().is_empty());
            return;
        }
    };
    assert!(keys.len() <= MOST_KEYS && data.len() <= LONGEST_SET);
    let set: Value = serde_json::from_slice(data).unwrap_or_default();
    assert_eq!(set["keys"].as_array().map(Vec::len), Some(keys.len()));
    for key in keys {
        let Ok(key) = key else {
            continue;
        };
        let thumbprint = key.key.thumbprint();
        assert_eq!(thumbprint.len(), 43);
        let kid = key.kid.as_deref().unwrap_or(&thumbprint);
        let published = json!({"keys": [key.key.to_jwk(kid)]});
        let read = jwk::read_set(published.to_string().as_bytes());
        let Ok([Ok(again)]) = read.as_deref() else {
            panic!("{published} is read as {read:?}");
        };
        assert_eq!(again.key, key.key);
        assert_eq!(again.kid.as_deref(), Some(kid));
        assert_eq!(again.key.thumbprint(), thumbprint);
    }
}
