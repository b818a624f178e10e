//! Proven callers: who stands behind a credential once it was judged good.

/// A set of scopes, kept sorted and without duplicates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scopes(Box<[Box<str>]>);

impl Scopes {
    /// The set of the given names.
    pub fn new(names: impl IntoIterator<Item = impl Into<Box<str>>>) -> Self {
        let mut names: Vec<Box<str>> = names.into_iter().map(Into::into).collect();
        names.sort_unstable();
        names.dedup();
        Self(names.into())
    }

    /// Whether the set holds `name`.
    pub fn contains(&self, name: &str) -> bool {
        self.0.binary_search_by(|held| (**held).cmp(name)).is_ok()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The names, sorted.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|name| &**name)
    }

    /// The names that `self` holds and `other` lacks.
    pub fn missing_from<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = &'a str> {
        self.iter().filter(|name| !other.contains(name))
    }

    /// The set as OAuth writes it (RFC 6749 §3.3): the names, each followed by a space but the last.
    pub fn joined(&self) -> String {
        self.0.join(" ")
    }
}

/// Whether a token may be granted this scope: those by which a key acts on tokens are no token's own.
pub fn is_grantable(name: &str) -> bool {
    !name.starts_with("sessions:") && !name.starts_with("tokens:")
}

/// Whether `name` can be a scope: RFC 6749 §3.3's `scope-token`, visible ASCII but `"` and `\`.
pub fn is_scope_token(name: &str) -> bool {
    !name.is_empty()
        && name
            .bytes()
            .all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
