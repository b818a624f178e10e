//! What a 401 or 403 asks for (RFC 9110 §11.6.1, RFC 6750 §3).

use http::HeaderValue;

/// The realm of every challenge, with the challenges that never change already written.
#[derive(Clone, Debug)]
pub struct Realm {
    bearer: HeaderValue,
    invalid_token: HeaderValue,
    api_key: HeaderValue,
}

impl Realm {
    /// The realm of this name. Characters that a quoted string cannot carry become `?`.
    pub fn new(name: &str) -> Self {
        let realm = quoted(name);
        Self {
            bearer: visible(format!("Bearer realm={realm}")),
            invalid_token: visible(format!("Bearer realm={realm}, error=\"invalid_token\"")),
            api_key: visible(format!("ApiKey realm={realm}")),
        }
    }

    /// Asks for a bearer; none was shown.
    pub(super) fn bearer(&self) -> HeaderValue {
        self.bearer.clone()
    }

    /// Asks for another bearer than the one shown.
    pub(super) fn invalid_token(&self) -> HeaderValue {
        self.invalid_token.clone()
    }

    /// Asks for an API key.
    pub(super) fn api_key(&self) -> HeaderValue {
        self.api_key.clone()
    }

    /// Asks for a bearer that carries these scopes too.
    pub(super) fn insufficient_scope(&self, scopes: &str) -> HeaderValue {
        let bearer = self.bearer.to_str().unwrap_or("Bearer");
        let scopes = quoted(scopes);
        visible(format!(
            "{bearer}, error=\"insufficient_scope\", scope={scopes}"
        ))
    }
}

/// The text as a quoted string (RFC 9110 §5.6.4).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            ' '..='~' => quoted.push(character),
            _ => quoted.push('?'),
        }
    }
    quoted.push('"');
    quoted
}

/// A header of nothing but visible ASCII and spaces, which is what [`quoted`] leaves.
fn visible(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_realm_ends_its_own_string() {
        let realm = Realm::new("a \"b\" \\c\r\nx: é");
        assert_eq!(realm.bearer(), r#"Bearer realm="a \"b\" \\c??x: ?""#);
        assert_eq!(realm.api_key(), r#"ApiKey realm="a \"b\" \\c??x: ?""#);
    }
}
