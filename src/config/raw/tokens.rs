//! What the TOML may say of tokens: how they are issued, taken and ended.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::Period;
use super::seconds;

/// `[auth]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Auth {
    /// Below which gatelet answers by itself; other paths below it fall to the routes.
    pub(in crate::config) prefix: String,
    /// The `realm` of the challenges in a 401.
    pub(in crate::config) realm: String,
    /// The member that own answers are wrapped in: `"data"` makes them `{"data":{…}}`. Empty: none.
    pub(in crate::config) envelope: String,
    /// The origins, besides a request's own, from which a browser may refresh and log out by
    /// cookie, exactly as browsers send them.
    #[schemars(example = ["https://app.example.com"])]
    pub(in crate::config) csrf_origins: Vec<String>,
    /// Whether a refresh needs an API key too; one that is shown is judged in any case.
    pub(in crate::config) refresh_needs_key: bool,
    /// Where the own routes are.
    pub(in crate::config) paths: AuthPaths,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            prefix: "/api/v1/auth".to_owned(),
            realm: "gatelet".to_owned(),
            envelope: String::new(),
            csrf_origins: Vec::new(),
            refresh_needs_key: false,
            paths: AuthPaths::default(),
        }
    }
}

/// `[auth.paths]`: below `auth.prefix`; a path that begins `//` is from the root.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct AuthPaths {
    /// `POST` issues a nonce to sign in with.
    pub(in crate::config) nonce: String,
    /// `POST` signs a wallet in.
    #[schemars(example = &"/sign-in")]
    pub(in crate::config) verify: String,
    /// `POST` exchanges a refresh token.
    pub(in crate::config) refresh: String,
    /// `POST` ends a sign-in.
    pub(in crate::config) logout: String,
    /// `POST` issues a client session, `DELETE` of `/{sessionId}` below it ends one. A segment
    /// `{subject}` names whose it is.
    #[schemars(example = &"//api/v3/custodians/me/clients/{subject}/sessions")]
    pub(in crate::config) sessions: String,
    /// `GET` tells a token's bearer who it is.
    pub(in crate::config) session: String,
    /// `POST` tells a server what a token is worth (RFC 7662).
    pub(in crate::config) introspect: String,
    /// `GET` publishes the keys that access tokens are signed with.
    pub(in crate::config) jwks: String,
}

impl AuthPaths {
    /// The path of this name, as it is written.
    pub(in crate::config) fn written(&self, name: &str) -> &str {
        match name {
            "nonce" => &self.nonce,
            "verify" => &self.verify,
            "refresh" => &self.refresh,
            "logout" => &self.logout,
            "sessions" => &self.sessions,
            "session" => &self.session,
            "introspect" => &self.introspect,
            _ => &self.jwks,
        }
    }
}

impl Default for AuthPaths {
    fn default() -> Self {
        Self {
            nonce: "/nonce".to_owned(),
            verify: "/verify".to_owned(),
            refresh: "/refresh".to_owned(),
            logout: "/logout".to_owned(),
            jwks: "//.well-known/jwks.json".to_owned(),
            sessions: "/sessions".to_owned(),
            session: "/session".to_owned(),
            introspect: "/introspect".to_owned(),
        }
    }
}

/// `[access_token]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct AccessToken {
    /// Its `iss`.
    pub(in crate::config) issuer: String,
    /// Its `aud`.
    pub(in crate::config) audience: Vec<String>,
    /// How long one lives; at most 24h.
    pub(in crate::config) ttl: Period,
    /// What the keys sign with that are made and kept in the store.
    pub(in crate::config) algorithm: Algorithm,
    /// What a sign-in grants; no more than the key that was used may do.
    #[schemars(example = ["portfolio:read"])]
    pub(in crate::config) scopes: Vec<String>,
    /// Private keys in PEM; the first signs, all are published. Empty: made and kept in the store.
    #[schemars(example = ["/etc/gatelet/signing.pem"])]
    pub(in crate::config) signing_key_files: Vec<String>,
    /// Other issuers, whose tokens are taken, each with its keys in one of `jwks_url`, `jwks_file` and
    /// `secret_file`. Beside them, tokens are issued here only with `[wallet]`.
    pub(in crate::config) trusted: Vec<Trusted>,
}

impl Default for AccessToken {
    fn default() -> Self {
        Self {
            issuer: "http://127.0.0.1:8080".to_owned(),
            audience: vec!["api".to_owned()],
            ttl: seconds(15 * 60),
            algorithm: Algorithm::Es256,
            scopes: Vec::new(),
            signing_key_files: Vec::new(),
            trusted: Vec::new(),
        }
    }
}

/// `[[access_token.trusted]]`
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["issuer", "audience"]))]
pub(in crate::config) struct Trusted {
    /// The `iss` of its tokens, letter for letter.
    #[schemars(example = &"https://id.example.com")]
    pub(in crate::config) issuer: Option<String>,
    /// The `aud` of its tokens: one of these.
    #[schemars(example = ["api"])]
    pub(in crate::config) audience: Vec<String>,
    /// What its tokens may be signed with. Empty: HS256 with a secret, otherwise all others.
    #[schemars(example = ["RS256"])]
    pub(in crate::config) algorithms: Vec<VerifyingAlgorithm>,
    /// Where it publishes its keys (RFC 7517). They are fetched ahead of need and when a token names
    /// an unknown one; redirects are not followed.
    #[schemars(example = &"https://id.example.com/.well-known/jwks.json")]
    pub(in crate::config) jwks_url: Option<String>,
    /// The certificate authorities in PEM that vouch for that server; otherwise the machine's.
    #[schemars(example = &"/etc/gatelet/ca.pem")]
    pub(in crate::config) ca_file: Option<String>,
    /// A file with its keys (RFC 7517).
    #[schemars(example = &"/etc/gatelet/jwks.json")]
    pub(in crate::config) jwks_file: Option<String>,
    /// A file with the secret that is shared with it, for HS256; at least 32 bytes.
    #[schemars(example = &"/etc/gatelet/issuer-secret")]
    pub(in crate::config) secret_file: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[schemars(extend("title" = "algorithm"))]
pub(in crate::config) enum VerifyingAlgorithm {
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "RS256")]
    Rs256,
    #[serde(rename = "HS256")]
    Hs256,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[schemars(extend("title" = "algorithm"))]
pub(in crate::config) enum Algorithm {
    #[serde(rename = "ES256")]
    Es256,
    #[serde(rename = "EdDSA")]
    EdDsa,
    #[serde(rename = "RS256")]
    Rs256,
}

/// `[refresh_token]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RefreshToken {
    /// How long one lives, counted from the sign-in: then the wallet signs again.
    pub(in crate::config) ttl: Period,
    /// How long a token is still answered, with its successor, after it was rotated away.
    pub(in crate::config) grace: Period,
    /// The cookie that it travels in.
    pub(in crate::config) cookie: RefreshCookie,
}

impl Default for RefreshToken {
    fn default() -> Self {
        Self {
            ttl: seconds(7 * 24 * 3600),
            grace: seconds(10),
            cookie: RefreshCookie::default(),
        }
    }
}

/// `[refresh_token.cookie]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct RefreshCookie {
    /// Its name. With `__Host-` it needs `secure`, the path `/` and no domain.
    pub(in crate::config) name: String,
    /// From where browsers send it.
    pub(in crate::config) same_site: SameSite,
    /// Below which path browsers send it.
    pub(in crate::config) path: String,
    /// To which host, and those below it, browsers send it; empty: to this one alone.
    pub(in crate::config) domain: String,
    /// Whether browsers send it over TLS alone.
    pub(in crate::config) secure: bool,
    /// Whether browsers keep it apart for each site that embeds this one.
    pub(in crate::config) partitioned: bool,
    /// Names that are read and never written: for a cut-over.
    pub(in crate::config) legacy_names: Vec<String>,
}

impl Default for RefreshCookie {
    fn default() -> Self {
        Self {
            name: "__Host-refresh".to_owned(),
            same_site: SameSite::Strict,
            path: "/".to_owned(),
            domain: String::new(),
            secure: true,
            partitioned: false,
            legacy_names: Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::config) enum SameSite {
    Strict,
    Lax,
    None,
}

/// `[wallet]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["domains"]))]
pub(in crate::config) struct Wallet {
    /// The domains that are signed in to, with a port where there is one; the first is offered.
    #[schemars(example = ["app.example.com"])]
    pub(in crate::config) domains: Vec<String>,
    /// The chains that are signed in on; the first is offered.
    pub(in crate::config) chains: Vec<u64>,
    /// What the message says, where it is written here.
    #[schemars(example = &"Sign in to your portfolio.")]
    pub(in crate::config) statement: Option<String>,
    /// How long a nonce is good.
    pub(in crate::config) nonce_ttl: Period,
}

impl Default for Wallet {
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            chains: vec![1],
            statement: None,
            nonce_ttl: seconds(300),
        }
    }
}

/// `[session_token]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct SessionToken {
    /// How long one lives past its last use.
    pub(in crate::config) idle: Period,
    /// How long one lives in all, however it is used.
    pub(in crate::config) max: Period,
    /// What one may do, where its issuer does not say; no more than the issuing key may.
    pub(in crate::config) scopes: Vec<String>,
}

impl Default for SessionToken {
    fn default() -> Self {
        Self {
            idle: seconds(24 * 3600),
            max: seconds(7 * 24 * 3600),
            scopes: Vec::new(),
        }
    }
}
