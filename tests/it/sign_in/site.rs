//! A program that wallets sign in to.

use serde_json::{Value, json};

use crate::harness::{KEY, Response, Serve, Timed, Upstream, Wallet, World, request, sha256_hex};

/// The routes, and the beginning of `[access_token]`.
pub(crate) const ROUTES: &str = r#"
[[routes]]
name = "portfolio"
path = "/api/v1/portfolio"
methods = ["GET"]
require = ["api_key", "access_token"]
scopes = { access_token = ["portfolio:read"] }

[[routes]]
name = "token"
prefix = "/token"
require = ["access_token"]

[[routes]]
name = "keys"
prefix = "/keys"
require = ["api_key"]

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"

[auth]
csrf_origins = ["https://app.example.com"]

[access_token]
scopes = ["portfolio:read", "portfolio:write"]
"#;

/// What has to follow.
pub(crate) const REST: &str = r#"
[wallet]
domains = ["app.example.com", "localhost:3000"]
chains = [42161, 1]
statement = "Sign in to your portfolio."

[store]
kind = "embedded"
path = "{folder}/data"
"#;

/// The same on another store.
pub(crate) fn rest_on(store: &str) -> String {
    let (before, _) = REST.split_once("[store]").unwrap();
    format!("{before}{store}")
}

/// Where the own routes are.
pub(crate) const AUTH: &str = "/api/v1/auth";

/// A program that wallets sign in to, and a key to do it with.
pub(crate) struct Site<W = World> {
    pub(crate) upstream: Upstream,
    pub(crate) world: W,
    pub(crate) key: String,
}

impl Site {
    pub(crate) fn open() -> Self {
        Self::with("")
    }

    /// `more` stands at the end of `[access_token]`, with whole sections behind it.
    pub(crate) fn with(more: &str) -> Self {
        Self::before(Upstream::echo(), more)
    }

    /// The same before this upstream.
    pub(crate) fn before(upstream: Upstream, more: &str) -> Self {
        let world = World::start(&upstream, &format!("{ROUTES}{more}{REST}"));
        let (_, key) = world.create_key("web", &["--owner", "acme"]);
        world.within_a_second("/keys", &key, 200);
        upstream.take();
        Self {
            upstream,
            world,
            key,
        }
    }
}

impl Site<Timed> {
    /// In time that stands still; its key is the static one, of `platform` with `portfolio:read`.
    pub(crate) fn timed(more: &str) -> Self {
        Self::timed_by(&format!("{ROUTES}{more}{REST}"))
    }

    /// The same with a configuration of its own.
    pub(crate) fn timed_by(toml: &str) -> Self {
        let upstream = Upstream::echo();
        Self {
            world: Timed::start(&upstream, toml),
            upstream,
            key: KEY.to_owned(),
        }
    }
}

/// A static key, as the configuration has it. One without a name for its owner has none.
pub(crate) fn static_key(secret: &str, owner: &str, scopes: &[&str]) -> String {
    let owner = match owner {
        "" => String::new(),
        owner => format!("owner = \"{owner}\"\n"),
    };
    let digest = sha256_hex(secret);
    format!(
        "\n[[api_keys.static]]\nname = \"{secret}\"\n{owner}sha256 = \"{digest}\"\n\
         scopes = {scopes:?}\n"
    )
}

impl<W: Serve> Site<W> {
    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Response {
        use std::fmt::Write;

        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let mut head = format!("POST {AUTH}{path} HTTP/1.1\r\nhost: api.test\r\n");
        for (name, value) in headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        let length = body.len();
        self.world.send(format!(
            "{head}content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    }

    pub(crate) fn with_key(&self, path: &str, body: &Value) -> Response {
        self.post(path, &[("x-api-key", &self.key)], body)
    }

    pub(crate) fn nonce(&self, wallet: &Wallet) -> Value {
        let answer = self.with_key("/nonce", &json!({"address": wallet.address()}));
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer.json()
    }

    pub(crate) fn sign_in(&self, wallet: &Wallet, mode: &str) -> Response {
        let message = self.nonce(wallet)["message"].as_str().unwrap().to_owned();
        let signature = wallet.sign(&message);
        let answer = self.with_key(
            "/verify",
            &json!({"message": message, "signature": signature, "mode": mode}),
        );
        assert_eq!(answer.status, 201, "{}", answer.text());
        answer
    }

    pub(crate) fn portfolio(&self, token: &str) -> Response {
        let bearer = format!("Bearer {token}");
        let headers = [("x-api-key", &*self.key), ("authorization", &bearer)];
        let target = "/api/v1/portfolio?network=arbitrum";
        self.world.send(request("GET", target, &headers))
    }

    pub(crate) fn refresh(&self, token: &str) -> Response {
        self.post("/refresh", &[], &json!({"refreshToken": token}))
    }
}

/// A member of an answer.
pub(crate) fn text(answer: &Response, member: &str) -> String {
    answer.json()[member].as_str().unwrap().to_owned()
}

/// The value of the refresh cookie that an answer sets.
pub(crate) fn cookie(answer: &Response) -> String {
    let set = answer.headers.one("set-cookie").unwrap();
    let (pair, rest) = set.split_once(';').unwrap();
    assert!(
        rest.contains("HttpOnly") && rest.contains("Secure"),
        "{set}"
    );
    assert!(rest.contains("SameSite=Strict") && rest.contains("Path=/"));
    pair.strip_prefix("__Host-refresh=").unwrap().to_owned()
}
