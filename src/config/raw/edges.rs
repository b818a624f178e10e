//! What the TOML may say of the two edges: where gatelet listens, and the upstreams behind it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::values::{Address, Period};
use super::seconds;

/// `[listen]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(in crate::config) struct Listen {
    /// Where guarded traffic arrives: HTTP/1.1 and HTTP/2 on one port.
    pub(in crate::config) proxy: Address,
    /// Where `/metrics`, `/livez`, `/readyz` and `/healthz` are served.
    pub(in crate::config) telemetry: Address,
    /// Whether connections from `forwarded.trusted_proxies` begin with who is calling (PROXY protocol,
    /// version 1 or 2). They must then; connections from others are served without, and what they
    /// say of themselves is not believed. Unlike the addresses, it holds for new connections at once.
    pub(in crate::config) proxy_protocol: bool,
    /// TLS on `proxy`. Without this section it is plaintext. Whether there is TLS is fixed until
    /// restart; the files are read again when they change.
    pub(in crate::config) tls: Option<ListenTls>,
}

/// `[listen.tls]`
#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["certificate", "private_key"]))]
pub(in crate::config) struct ListenTls {
    /// A file with the certificate and the chain behind it, in PEM.
    #[schemars(example = &"tls/tls.crt")]
    pub(in crate::config) certificate: Option<String>,
    /// A file with the certificate's private key, in PEM.
    #[schemars(example = &"tls/tls.key")]
    pub(in crate::config) private_key: Option<String>,
    /// A file with the certificates of those who vouch for callers, in PEM. With it, callers must
    /// show a certificate that one of them signed; the upstream is told the names in it. Sessions are
    /// not resumed then.
    #[schemars(example = &"tls/ca.crt")]
    pub(in crate::config) client_ca: Option<String>,
}

impl Default for Listen {
    fn default() -> Self {
        Self {
            proxy: Address(([127, 0, 0, 1], 8080).into()),
            telemetry: Address(([127, 0, 0, 1], 9464).into()),
            tls: None,
            proxy_protocol: false,
        }
    }
}

/// `[[upstreams]]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["name", "url"]))]
pub(in crate::config) struct Upstream {
    /// What routes, metrics and logs call it.
    #[schemars(example = &"api")]
    pub(in crate::config) name: Option<String>,
    /// Where it listens: `http://host:port`, `https://host:port` or `unix:/path`; or a list of such,
    /// all of one scheme: `["http://10.0.0.1:3000", "http://10.0.0.2:3000"]`. A name stands for all
    /// the addresses that it has, and is looked up again every few seconds. Each request goes to the
    /// address with the fewest in flight; one that cannot be reached, or that breaks three
    /// connections in a row, is left out until it is back. It is back once it can be reached and
    /// answers one request in time.
    #[schemars(example = &"http://127.0.0.1:3000")]
    pub(in crate::config) url: Option<Urls>,
    /// What it speaks. `http2` without TLS is spoken with prior knowledge; gRPC needs it.
    pub(in crate::config) protocol: Protocol,
    /// Of an `https` upstream: a file with the certificates of those who vouch for it, in PEM;
    /// absent: whom the machine trusts.
    #[schemars(example = &"tls/ca.crt")]
    pub(in crate::config) ca_file: Option<String>,
    /// The name that its certificate is for; absent: the host of the URL.
    #[schemars(example = &"api.internal")]
    pub(in crate::config) server_name: Option<String>,
    /// A file with the certificate that is shown to it, and the chain behind it, in PEM.
    #[schemars(example = &"tls/client.crt")]
    pub(in crate::config) client_certificate: Option<String>,
    /// A file with the private key of `client_certificate`, in PEM.
    #[schemars(example = &"tls/client.key")]
    pub(in crate::config) client_key: Option<String>,
    /// The longest a connect may take, TLS included, and a wait for a free connection. Where an
    /// address cannot be reached, up to two others are tried, and all together take at most twice as
    /// long. So may a wait over HTTP/2, because it may be for another request's connect.
    pub(in crate::config) connect_timeout: Period,
    /// The longest until the response head, once the request was sent; and the longest that its body
    /// may pause until then.
    pub(in crate::config) response_timeout: Period,
    /// How long a pooled connection may rest before it is closed. Keep it below the upstream's own
    /// (Node closes at 5 s).
    pub(in crate::config) idle_timeout: Period,
    /// The most connections open at once, over all addresses and workers. Each worker has its share,
    /// rounded up, and so at least one. Over HTTP/2, one that is given up for a better address may
    /// finish its requests beside them.
    #[schemars(range(min = 1))]
    pub(in crate::config) max_connections: usize,
    /// Asks each address whether it is well, beside the requests. One that fails gets none until it
    /// passes again, as long as there is any other. Without this section only requests tell.
    pub(in crate::config) health_check: Option<HealthCheck>,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            name: None,
            url: None,
            protocol: Protocol::Http1,
            ca_file: None,
            server_name: None,
            client_certificate: None,
            client_key: None,
            connect_timeout: seconds(1),
            response_timeout: seconds(30),
            idle_timeout: seconds(4),
            max_connections: 1024,
            health_check: None,
        }
    }
}

/// Where an upstream listens.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(untagged)]
pub(in crate::config) enum Urls {
    /// At one address, or at those of one name.
    One(String),
    /// At each of these.
    Several(Vec<String>),
}

impl Urls {
    pub(in crate::config) fn all(&self) -> &[String] {
        match self {
            Self::One(url) => std::slice::from_ref(url),
            Self::Several(urls) => urls,
        }
    }
}

/// `[upstreams.health_check]`
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["path"]))]
pub(in crate::config) struct HealthCheck {
    /// What is asked for, with GET and the host of its URL. 2xx is well; anything else is not.
    #[schemars(example = &"/healthz")]
    pub(in crate::config) path: Option<String>,
    /// From one check to the next.
    pub(in crate::config) interval: Period,
    /// The longest until the answer begins, connecting included.
    pub(in crate::config) timeout: Period,
    /// How many checks in a row have to pass until an unhealthy address is healthy.
    #[schemars(range(min = 1))]
    pub(in crate::config) healthy_threshold: u32,
    /// How many checks in a row have to fail until a healthy address is unhealthy.
    #[schemars(range(min = 1))]
    pub(in crate::config) unhealthy_threshold: u32,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            path: None,
            interval: seconds(5),
            timeout: seconds(1),
            healthy_threshold: 1,
            unhealthy_threshold: 2,
        }
    }
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(extend("title" = "protocol"))]
pub(in crate::config) enum Protocol {
    Http1,
    Http2,
}
