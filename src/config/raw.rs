//! The configuration in the user's words: what the TOML may say, and what it says by default.
//!
//! The schema, the reference and the deserializer come from these types and from nothing else.
//! Whether the words make sense together is not judged here; see `validate`.

mod edges;
mod tokens;

pub(super) use edges::{HealthCheck, Listen, ListenTls, Protocol, Upstream, Urls};
pub(super) use tokens::{
    AccessToken, Algorithm, Auth, RefreshCookie, RefreshToken, SameSite, SessionToken, Trusted,
    VerifyingAlgorithm, Wallet,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::values::{Moment, Network, Period, Rate, Sha256, Size, SizeBound};
use crate::rules::credential::Kind;

/// The whole file.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(title = "gatelet configuration")]
pub(super) struct Raw {
    /// Where gatelet listens. Port 0 picks a free port. Fixed until restart.
    pub(super) listen: Listen,
    /// How the process uses the machine. Fixed until restart.
    pub(super) runtime: Runtime,
    /// The APIs behind gatelet; at least one.
    pub(super) upstreams: Vec<Upstream>,
    /// How paths are matched.
    pub(super) routing: Routing,
    /// What each path needs; at least one route. What matches no route is answered 404 and never
    /// forwarded. A host beats no host, an exact path beats a prefix, a longer prefix beats a
    /// shorter; then named methods beat any. The order in the file never matters, and two routes
    /// that tie are an error.
    pub(super) routes: Vec<Route>,
    /// The routes that gatelet answers itself, and what callers are told when they are refused.
    pub(super) auth: Auth,
    /// Cross-origin requests. Without this section, OPTIONS is a request like any other.
    pub(super) cors: Option<Cors>,
    /// API keys: how they are presented, and those that are configured rather than stored.
    pub(super) api_keys: ApiKeys,
    /// Access tokens that are issued here. With this section or `[wallet]` they are taken.
    pub(super) access_token: Option<AccessToken>,
    /// Refresh tokens, which a sign-in begins.
    pub(super) refresh_token: RefreshToken,
    /// Sign-in with a wallet (EIP-4361). Needs a store.
    pub(super) wallet: Option<Wallet>,
    /// Client session tokens, which a server issues for its users through `POST /sessions`.
    pub(super) session_token: SessionToken,
    /// Where minted keys are kept. Without this section nothing is kept, and only static and
    /// directory keys work. Fixed until restart.
    pub(super) store: Option<Store>,
    /// What is remembered of the store.
    pub(super) cache: Cache,
    /// Limits on requests, connections and the end of the process.
    pub(super) limits: Limits,
    /// The headers that tell the upstream who is calling.
    pub(super) identity: Identity,
    /// The proxies before gatelet.
    pub(super) forwarded: Forwarded,
    /// Diagnostics and the access log.
    pub(super) log: Log,
}

/// `[runtime]`
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Runtime {
    /// How many threads carry requests; absent: the CPUs the container may use, at most 4.
    #[schemars(range(min = 1, max = 256), example = 2)]
    pub(super) workers: Option<usize>,
}

/// `[routing]`
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Routing {
    /// Whether the case of ASCII letters in a path matters.
    pub(super) match_case: MatchCase,
    /// Whether a path is the same with and without a slash at its end.
    pub(super) trailing_slash: TrailingSlash,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum MatchCase {
    #[default]
    Exact,
    Ignore,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TrailingSlash {
    #[default]
    Ignore,
    Exact,
}

/// `[[routes]]`
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["require"]))]
pub(super) struct Route {
    /// Its name in metrics and logs; absent: its host and path.
    #[schemars(example = &"portfolio")]
    pub(super) name: Option<String>,
    /// Covers exactly this path, written without percent escapes. Either this or `prefix`.
    #[schemars(example = &"/api/v1/health")]
    pub(super) path: Option<String>,
    /// Covers this path and everything below it, by whole segments.
    #[schemars(example = &"/api/v1/portfolio")]
    pub(super) prefix: Option<String>,
    /// Covers only this host; absent: every host.
    #[schemars(example = &"api.example.com")]
    pub(super) host: Option<String>,
    /// The methods it takes; absent: every one. `GET` implies `HEAD`, unless another
    /// route of the same path names that.
    #[schemars(example = ["GET"])]
    pub(super) methods: Option<Vec<String>>,
    /// The credentials a caller must show: a list of which each is needed,
    /// `{ all = […], any = […], optional = […] }`, or `"nothing"`.
    #[schemars(example = ["api_key"])]
    pub(super) require: Option<Require>,
    /// The scopes that each credential must carry, or a table with a list a credential:
    /// `{ api_key = ["portfolio:read"] }`.
    #[schemars(example = ["portfolio:read"])]
    pub(super) scopes: Option<RouteScopes>,
    /// The name of its upstream; may be left out where there is one upstream.
    #[schemars(example = &"api")]
    pub(super) upstream: Option<String>,
    /// The rate each caller may reach: `"50/s"`, or `{ rate = "50/s", burst = 100 }`.
    #[schemars(example = &"50/s")]
    pub(super) rate_limit: Option<Rate>,
    /// The largest request body, or `"unlimited"`; absent: `limits.request_body`.
    #[schemars(example = &"1MiB")]
    pub(super) request_body: Option<SizeBound>,
    /// The longest until the response head; absent: the upstream's.
    #[schemars(example = &"5s")]
    pub(super) response_timeout: Option<Period>,
    /// The credentials that the upstream may see; the rest are removed.
    pub(super) forward: Vec<Credential>,
    /// Whether `%2f` may stand in a path below it, as in npm's `/@scope%2fname`.
    pub(super) encoded_slash: EncodedSlash,
}

/// What a route requires.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Require {
    /// Anyone may pass.
    Word(Nothing),
    /// Each of these.
    All(Vec<Credential>),
    /// By kind of need.
    Table(RequireTable),
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("title" = "requirement"))]
pub(super) enum Nothing {
    Nothing,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RequireTable {
    /// Each of these must be shown and good.
    pub(super) all: Vec<Credential>,
    /// At least one of these must be shown.
    pub(super) any: Vec<Credential>,
    /// These may be shown; shown, they must be good.
    pub(super) optional: Vec<Credential>,
}

/// The scopes of a route.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum RouteScopes {
    /// Of every credential it lists.
    Each(Vec<String>),
    /// Of each kind.
    Table(ScopesTable),
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ScopesTable {
    /// The scopes that an API key must carry.
    pub(super) api_key: Vec<String>,
    /// The scopes that a session token must carry.
    pub(super) session_token: Vec<String>,
    /// The scopes that an access token must carry.
    pub(super) access_token: Vec<String>,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("title" = "credential"))]
pub(super) enum Credential {
    ApiKey,
    SessionToken,
    AccessToken,
}

impl Credential {
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::ApiKey => Kind::ApiKey,
            Self::SessionToken => Kind::SessionToken,
            Self::AccessToken => Kind::AccessToken,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum EncodedSlash {
    #[default]
    Refuse,
    Allow,
}

/// `[cors]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cors {
    /// `answer`: gatelet owns `Access-Control-*` on every answer. `forward`: real preflights go
    /// upstream, bare of credentials and identity.
    pub(super) mode: CorsMode,
    /// The origins that may read answers, exactly as browsers send them.
    #[schemars(example = ["https://app.example.com"])]
    pub(super) origins: Vec<String>,
    /// How long a browser may remember a preflight.
    pub(super) max_age: Period,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            mode: CorsMode::Answer,
            origins: Vec::new(),
            max_age: seconds(600),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum CorsMode {
    Answer,
    Forward,
}

/// `[api_keys]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ApiKeys {
    /// The headers that carry a key.
    pub(super) headers: Vec<String>,
    /// Whether `Authorization: Bearer` carries one too.
    pub(super) bearer: bool,
    /// How minted keys begin.
    pub(super) prefix: String,
    /// A directory with one TOML file a key, holding the fields of a static key, such as a mounted
    /// Kubernetes Secret. Entries whose name begins with a dot are skipped.
    #[schemars(example = &"/etc/gatelet/keys")]
    pub(super) directory: Option<String>,
    /// A file with the secret that stored digests are keyed with; or set
    /// `GATELET__API_KEYS__PEPPER`. Changing it invalidates every stored key.
    #[schemars(example = &"/etc/gatelet/pepper", extend("x-gatelet-secret" = true))]
    pub(super) pepper_file: Option<String>,
    /// Keys that work without a store.
    #[serde(rename = "static")]
    pub(super) statics: Vec<StaticKey>,
}

impl Default for ApiKeys {
    fn default() -> Self {
        Self {
            headers: vec!["x-api-key".to_owned()],
            bearer: true,
            prefix: "gk".to_owned(),
            directory: None,
            pepper_file: None,
            statics: Vec::new(),
        }
    }
}

/// `[[api_keys.static]]`, and a file of the key directory.
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "sha256"]))]
pub(super) struct StaticKey {
    /// Its name; its id is `static:` and the name.
    #[schemars(example = &"ci")]
    pub(super) name: Option<String>,
    /// Who it belongs to.
    #[schemars(example = &"platform")]
    pub(super) owner: Option<String>,
    /// SHA-256 of the key: `printf %s "$KEY" | sha256sum`. The key itself is written nowhere.
    #[schemars(example = &"2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae")]
    pub(super) sha256: Option<Sha256>,
    /// What it may do.
    #[schemars(example = ["portfolio:read"])]
    pub(super) scopes: Vec<String>,
    /// The rate its holder may reach, over all routes.
    #[schemars(example = &"100/s")]
    pub(super) rate_limit: Option<Rate>,
    /// From when it is refused (RFC 3339).
    #[schemars(example = &"2027-01-01T00:00:00Z")]
    pub(super) expires_at: Option<Moment>,
}

/// `[store]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Store {
    /// `embedded` is a SQLite file on this machine. `redis` is a Redis or Valkey server, which any
    /// number of replicas share.
    pub(super) kind: StoreKind,
    /// The folder an embedded store is kept in, made where it is missing. Relative to the working
    /// directory, as every path here.
    pub(super) path: String,
    /// The servers: `redis://host:port`, or `rediss://` for TLS. Of a Sentinel or a Cluster, some of
    /// those that know the others.
    #[schemars(example = ["redis://127.0.0.1:6379"])]
    pub(super) urls: Vec<String>,
    /// Whether the servers are nodes of a Cluster. All that is kept shares one hash slot: a Cluster
    /// takes over when a node fails, and adds no room.
    pub(super) cluster: bool,
    /// The name by which the Sentinels at `urls` know the master; empty: there are none.
    #[schemars(example = &"mymaster")]
    pub(super) sentinel_master: String,
    /// Who to be at the server (Redis 6 and later); empty: the default user.
    pub(super) username: String,
    /// A file with the password; or set `GATELET__STORE__PASSWORD`.
    #[schemars(example = &"/etc/gatelet/redis-password", extend("x-gatelet-secret" = true))]
    pub(super) password_file: Option<String>,
    /// The certificate authorities in PEM that vouch for the server; otherwise the machine's.
    #[schemars(example = &"/etc/gatelet/redis-ca.pem")]
    pub(super) ca_file: Option<String>,
    /// How every key on the server begins, between braces.
    pub(super) key_prefix: String,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            kind: StoreKind::Embedded,
            path: "gatelet-data".to_owned(),
            urls: Vec::new(),
            cluster: false,
            sentinel_master: String::new(),
            username: String::new(),
            password_file: None,
            ca_file: None,
            key_prefix: "gatelet".to_owned(),
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("title" = "store"))]
pub(super) enum StoreKind {
    Embedded,
    Redis,
}

/// `[cache]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Cache {
    /// The most credentials of a kind that are remembered at once. Each worker has copies of up to 8,192
    /// of them. Fixed until restart.
    #[schemars(range(min = 1))]
    pub(super) capacity: u64,
    /// The longest that a verdict from the store is believed without having heard from the store.
    pub(super) max_staleness: Period,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            capacity: 100_000,
            max_staleness: seconds(30),
        }
    }
}

/// `[limits]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Limits {
    /// The largest request head; from 8KiB to 1MiB.
    pub(super) request_head: Size,
    /// The largest request body, or `"unlimited"`.
    pub(super) request_body: SizeBound,
    /// The longest a request head may take to arrive.
    pub(super) head_timeout: Period,
    /// The longest a connection may rest between requests; never inside a stream. Where an HTTP/2
    /// caller has no window for the end of an answer, it is waited for as long, and for a minute at
    /// least, from when it last took some.
    pub(super) idle_timeout: Period,
    /// How old a connection may grow before its caller is asked to make another: `Connection: close`,
    /// or GOAWAY over HTTP/2. A tenth less for some, so that not all come back at once. What runs
    /// goes on, streams and tunnels too.
    pub(super) connection_age: Period,
    /// The most connections open at once; one more is answered 503, or closed without a word where
    /// there is TLS. One client address (an IPv6 client is its /64) may hold four times as many as are
    /// free, unless it is in `forwarded.trusted_proxies`; with `listen.proxy_protocol`, the address is
    /// the one that the proxy says.
    #[schemars(range(min = 1))]
    pub(super) connections: usize,
    /// After SIGTERM: how long to serve on while unready (Kubernetes: 5s).
    pub(super) drain_delay: Period,
    /// How long running requests may take to finish after that.
    pub(super) shutdown_grace: Period,
    /// Unknown credentials a client address (an IPv6 client is its /64): 429 past it, judged before
    /// any look-up in the store. Good credentials are unaffected.
    pub(super) failed_authentications: Rate,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_head: Size(32 << 10),
            request_body: SizeBound(Some(10 << 20)),
            head_timeout: seconds(10),
            idle_timeout: seconds(75),
            connection_age: seconds(3600),
            connections: 10_000,
            drain_delay: seconds(0),
            shutdown_grace: seconds(25),
            failed_authentications: Rate::per_second(200),
        }
    }
}

/// `[identity]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Identity {
    /// How these headers begin. Whatever a caller sends below it is removed on every route.
    pub(super) prefix: String,
}

impl Default for Identity {
    fn default() -> Self {
        Self {
            prefix: "x-auth-".to_owned(),
        }
    }
}

/// `[forwarded]`
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Forwarded {
    /// Networks whose `X-Forwarded-*`, `Forwarded` and `X-Request-Id` are believed.
    #[schemars(example = ["10.0.0.0/8"])]
    pub(super) trusted_proxies: Vec<Network>,
}

/// `[log]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Log {
    /// `auto` is text on a terminal and JSON otherwise. Fixed until restart.
    pub(super) format: LogFormat,
    /// The least severe level that is written.
    pub(super) level: LogLevel,
    /// Whether each request is logged. Fixed until restart.
    pub(super) access: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Auto,
            level: LogLevel::Info,
            access: true,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("title" = "format"))]
pub(super) enum LogFormat {
    Auto,
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("title" = "level"))]
pub(super) enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

fn seconds(count: u64) -> Period {
    Period(std::time::Duration::from_secs(count))
}
