//! Access tokens of other issuers, whose keys the tests publish.

use std::io::{self, Read};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatelet::authn::jwt::signing::SigningKey;
use gatelet::rules::jwt::SigningAlgorithm;
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};

use crate::harness::{
    Authority, Flavour, KEY, Response, Server, Upstream, World, eventually, request, within,
};

const ISSUER: &str = "https://id.example.com";

const ROUTES: &str = r#"
[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["access_token"]
scopes = ["portfolio:read"]

[[routes]]
name = "both"
prefix = "/both"
require = ["api_key", "access_token"]

[[routes]]
name = "seen"
prefix = "/seen"
require = ["access_token"]
forward = ["access_token"]

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"
"#;

/// Somebody who issues tokens and publishes the keys that they are signed with.
struct Issuer {
    site: Upstream,
}

impl Issuer {
    fn publishing(keys: &[&SigningKey]) -> Self {
        let document = set(keys);
        let site = Upstream::scripted(move |exchange| {
            exchange.answer("200 OK", "content-type: application/json\r\n", &document)
        });
        Self { site }
    }

    /// The configuration that trusts it.
    fn trusted(&self) -> String {
        trusted(&format!("jwks_url = \"{}/jwks.json\"", self.site.url()))
    }
}

fn set(keys: &[&SigningKey]) -> String {
    let keys: Vec<Value> = keys.iter().map(|key| key.public_jwk()).collect();
    json!({ "keys": keys }).to_string()
}

fn trusted(keys: &str) -> String {
    format!(
        "{ROUTES}\n[[access_token.trusted]]\nissuer = \"{ISSUER}\"\naudience = [\"api\"]\n{keys}\n"
    )
}

fn key(algorithm: SigningAlgorithm) -> SigningKey {
    SigningKey::generate(algorithm).unwrap()
}

fn es256() -> SigningKey {
    key(SigningAlgorithm::Es256)
}

/// What an issuer says of ada, for an hour.
fn claims() -> Value {
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    json!({
        "iss": ISSUER, "aud": "api", "sub": "ada", "exp": now + 3600,
        "scope": "portfolio:read portfolio:write",
    })
}

/// The claims, signed with a key that `header` names.
fn token(signing: &SigningKey, claims: &Value) -> String {
    let header = json!({"alg": signing.algorithm().name(), "kid": signing.kid(), "typ": "JWT"});
    let covered = covered(&header, claims);
    let der = signing.as_pkcs8();
    let key = match signing.algorithm() {
        SigningAlgorithm::Es256 => jsonwebtoken::EncodingKey::from_ec_der(der),
        SigningAlgorithm::EdDsa => jsonwebtoken::EncodingKey::from_ed_der(der),
        // PKCS#8 wraps what the library wants.
        SigningAlgorithm::Rs256 => jsonwebtoken::EncodingKey::from_rsa_der(&der[26..]),
    };
    let algorithm = match signing.algorithm() {
        SigningAlgorithm::Es256 => jsonwebtoken::Algorithm::ES256,
        SigningAlgorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        SigningAlgorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
    };
    let signature = jsonwebtoken::crypto::sign(covered.as_bytes(), &key, algorithm).unwrap();
    format!("{covered}.{signature}")
}

fn secret_token(secret: &[u8], claims: &Value) -> String {
    let covered = covered(&json!({"alg": "HS256", "typ": "JWT"}), claims);
    let key = jsonwebtoken::EncodingKey::from_secret(secret);
    let algorithm = jsonwebtoken::Algorithm::HS256;
    let signature = jsonwebtoken::crypto::sign(covered.as_bytes(), &key, algorithm).unwrap();
    format!("{covered}.{signature}")
}

fn covered(header: &Value, claims: &Value) -> String {
    let [header, claims] =
        [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string().as_bytes()));
    format!("{header}.{claims}")
}

fn visit(world: &World, path: &str, token: &str) -> Response {
    world.get(path, &[("authorization", &format!("Bearer {token}"))])
}

#[test]
fn the_upstream_learns_who_somebody_else_says_it_is() {
    let signing = es256();
    let issuer = Issuer::publishing(&[&signing]);
    let upstream = Upstream::echo();
    let world = World::start(&upstream, &issuer.trusted());
    let token = token(&signing, &claims());
    let bearer = format!("Bearer {token}");
    let forged = [
        ("authorization", &*bearer),
        ("X-Auth-Issuer", "https://evil.example"),
    ];
    for target in ["/guarded/a", "/guarded/b"] {
        assert_eq!(world.get(target, &forged).status, 200);
        let seen = upstream.take().unwrap();
        let one = |name: &str| seen.headers.one(name).map(str::to_owned);
        assert_eq!(one("x-auth-subject").as_deref(), Some("ada"));
        assert_eq!(one("x-auth-issuer").as_deref(), Some(ISSUER));
        assert_eq!(one("x-auth-methods").as_deref(), Some("access_token"));
        assert_eq!(
            one("x-auth-scopes").as_deref(),
            Some("portfolio:read portfolio:write")
        );
        assert_eq!(one("x-auth-session-id"), None);
        assert_eq!(one("authorization"), None);
    }
    let metrics = world.metrics();
    let cache = |result| {
        let labels = [("cache", "access_token"), ("result", result)];
        metrics.sum("gatelet_cache_requests_total", &labels)
    };
    assert_eq!((cache("miss"), cache("hit")), (1.0, 1.0));
    world.metric_becomes(
        "gatelet_issuer_fetches_total",
        &[("outcome", "succeeded")],
        1.0,
    );

    // Where the API verifies it once more, it may have it.
    assert_eq!(visit(&world, "/seen", &token).status, 200);
    let seen = upstream.take().unwrap();
    assert_eq!(seen.headers.one("authorization"), Some(&*bearer));
    // On a route that asks for nothing it is nobody's business.
    assert_eq!(visit(&world, "/open", &token).status, 200);
    let seen = upstream.take().unwrap();
    assert!(!seen.headers.has("authorization") && !seen.headers.has("x-auth-subject"));
    // Nobody's token but this issuer's: the API may know it.
    let foreign = json!({"iss": "https://elsewhere.example", "sub": "bob"});
    let foreign = self::token(&signing, &foreign);
    assert_eq!(visit(&world, "/open", &foreign).status, 200);
    assert!(upstream.take().unwrap().headers.has("authorization"));
    assert_eq!(visit(&world, "/guarded", &foreign).code(), "token_invalid");
    // Any good key goes with it: it was issued through none of them.
    let both = [("authorization", &*bearer), ("x-api-key", KEY)];
    assert_eq!(world.get("/both", &both).status, 200);
    let seen = upstream.take().unwrap();
    assert_eq!(
        seen.headers.one("x-auth-methods"),
        Some("api_key access_token")
    );
    assert_eq!(seen.headers.one("x-auth-subject"), Some("ada"));
    upstream.assert_untouched("all that came was taken");
}

#[test]
fn every_claim_is_required_and_judged() {
    let signing = es256();
    let issuer = Issuer::publishing(&[&signing]);
    let upstream = Upstream::echo();
    let world = World::start(&upstream, &issuer.trusted());
    for (change, code) in [
        (json!({"aud": "other"}), "token_invalid"),
        (json!({"aud": null}), "token_invalid"),
        (json!({"aud": 7}), "token_invalid"),
        (json!({"sub": null}), "token_invalid"),
        (json!({"sub": ""}), "token_invalid"),
        (json!({"exp": null}), "token_invalid"),
        (json!({"exp": "2100"}), "token_invalid"),
        (json!({"exp": 1}), "token_expired"),
        (json!({"nbf": 4_000_000_000_u64}), "token_invalid"),
        (json!({"iss": "https://id.example.com/"}), "token_invalid"),
        (json!({"scope": "portfolio:write"}), "scope_missing"),
    ] {
        let mut claims = claims();
        for (name, value) in change.as_object().unwrap() {
            match value {
                Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
                value => claims[name] = value.clone(),
            }
        }
        let answer = visit(&world, "/guarded", &token(&signing, &claims));
        assert_eq!(answer.code(), code, "{change}");
    }
    let mut several = claims();
    several["aud"] = json!(["other", "api"]);
    assert_eq!(
        visit(&world, "/guarded", &token(&signing, &several)).status,
        200
    );
    upstream.take();
    // Whoever knows the public key has no secret by it.
    let public = signing.public_jwk().to_string();
    for secret in [public.as_bytes(), public.as_bytes().trim_ascii(), b""] {
        let confused = secret_token(secret, &claims());
        assert_eq!(visit(&world, "/guarded", &confused).code(), "token_invalid");
    }
    upstream.assert_untouched("none of them was good");
}

#[test]
fn an_issuer_that_is_down_is_a_breakage_until_it_is_back() {
    let signing = key(SigningAlgorithm::EdDsa);
    let mut issuer = Issuer::publishing(&[&signing]);
    issuer.site.stop();
    let upstream = Upstream::echo();
    let world = World::start(&upstream, &issuer.trusted());
    let answer = visit(&world, "/guarded", &token(&signing, &claims()));
    assert_eq!(
        (answer.status, &*answer.code()),
        (503, "issuer_unavailable")
    );
    assert_eq!(answer.headers.one("retry-after"), Some("1"));
    upstream.assert_untouched("nobody could say who it is");
    // What does not depend on it goes on.
    assert_eq!(world.status_with("/open", KEY), 200);
    upstream.take();

    issuer.site.start_again();
    eventually("its tokens are taken", || {
        visit(&world, "/guarded", &token(&signing, &claims())).status == 200
    });
}

#[test]
fn keys_come_from_files_as_well() {
    let (rsa, other) = (key(SigningAlgorithm::Rs256), es256());
    let secret = "0123456789abcdef0123456789abcdef";
    let upstream = Upstream::echo();
    let folder = tempfile::tempdir().unwrap();
    let [jwks, shared] = ["jwks.json", "secret"].map(|name| folder.path().join(name));
    std::fs::write(&jwks, set(&[&rsa])).unwrap();
    std::fs::write(&shared, format!("{secret}\n")).unwrap();
    let config = |audience: &str| {
        let file = trusted(&format!(
            "jwks_file = \"{}\"\nalgorithms = [\"RS256\"]",
            jwks.display()
        ));
        format!(
            "{file}\n[[access_token.trusted]]\nissuer = \"https://shared.example.com\"\n\
             audience = [\"{audience}\"]\nsecret_file = \"{}\"\n",
            shared.display()
        )
    };
    let world = World::start(&upstream, &config("api"));
    let status = |token: &str| visit(&world, "/guarded", token).status;
    let mut by_secret = claims();
    by_secret["iss"] = "https://shared.example.com".into();
    let by_secret = secret_token(secret.as_bytes(), &by_secret);
    let by_file = token(&rsa, &claims());
    assert_eq!((status(&by_file), status(&by_secret)), (200, 200));
    assert_eq!(status(&token(&other, &claims())), 401);
    assert_eq!(status(&secret_token(secret.as_bytes(), &claims())), 401);

    // Another key in the file, and the first one is trusted no more.
    std::fs::write(&jwks, set(&[&key(SigningAlgorithm::Rs256)])).unwrap();
    eventually("the old key is gone", || status(&by_file) == 401);
    world.write_config(&upstream, &config("others"));
    eventually("its tokens are for others", || status(&by_secret) == 401);
}

#[test]
fn who_shows_such_a_token_is_told_of_it() {
    let signing = es256();
    let issuer = Issuer::publishing(&[&signing]);
    let upstream = Upstream::echo();
    let asking = "\n[api_keys]\n[[api_keys.static]]\nname = \"asking\"\n\
                  scopes = [\"tokens:introspect\"]\nsha256 = \"";
    let digest = crate::harness::sha256_hex("asking-secret-asking");
    let config = format!("{}{asking}{digest}\"\n", issuer.trusted());
    let world = World::start(&upstream, &config);
    let claims = claims();
    let token = token(&signing, &claims);
    let shown = visit(&world, "/api/v1/auth/session", &token);
    let told = json!({
        "subject": "ada", "scopes": ["portfolio:read", "portfolio:write"],
        "expiresAt": claims["exp"], "issuer": ISSUER,
    });
    assert_eq!((shown.status, shown.json()), (200, told));

    let introspect = |token: &str| {
        let form = format!("token={token}");
        let length = form.len();
        world
            .send(format!(
                "POST /api/v1/auth/introspect HTTP/1.1\r\nhost: api.test\r\n\
                 x-api-key: asking-secret-asking\r\n\
                 content-type: application/x-www-form-urlencoded\r\n\
                 content-length: {length}\r\n\r\n{form}"
            ))
            .json()
    };
    let told = json!({
        "active": true, "token_type": "access_token", "sub": "ada",
        "scope": "portfolio:read portfolio:write", "exp": claims["exp"], "iss": ISSUER,
    });
    assert_eq!(introspect(&token), told);
    let unknown = self::token(&es256(), &claims);
    assert_eq!(introspect(&unknown), json!({"active": false}));
    upstream.assert_untouched("these are gatelet's own routes");
}

#[test]
fn badly_signed_tokens_are_counted_against_their_sender() {
    let signing = es256();
    let issuer = Issuer::publishing(&[&signing]);
    let upstream = Upstream::echo();
    let limits = "\n[limits]\nfailed_authentications = { rate = \"1/h\", burst = 3 }\n";
    let world = World::start(&upstream, &format!("{}{limits}", issuer.trusted()));
    let good = token(&signing, &claims());
    assert_eq!(visit(&world, "/guarded", &good).status, 200);
    upstream.take();
    let mut expired = claims();
    expired["exp"] = 1.into();
    let expired = token(&signing, &expired);
    for _ in 0..5 {
        assert_eq!(visit(&world, "/guarded", &expired).code(), "token_expired");
    }
    for _ in 0..3 {
        let bad = token(&es256(), &claims());
        assert_eq!(visit(&world, "/guarded", &bad).code(), "token_invalid");
    }
    let bad = token(&es256(), &claims());
    assert_eq!(visit(&world, "/guarded", &bad).status, 429);
    assert_eq!(
        visit(&world, "/guarded", &good).status,
        200,
        "it is remembered"
    );
}

/// A certificate authority, and a server that one vouches for.
struct Secure {
    authority: String,
    address: SocketAddr,
}

impl Secure {
    /// Answers each request with `document`, over TLS.
    fn serving(document: String) -> Self {
        let authority = Authority::new();
        let (certificate, own) = authority.vouch_for("localhost");
        let private = PrivateKeyDer::try_from(own.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], private)
            .unwrap();
        let config = Arc::new(config);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                let connection = rustls::ServerConnection::new(Arc::clone(&config)).unwrap();
                let stream = rustls::StreamOwned::new(connection, stream);
                // A caller that does not trust it goes away.
                let _ = serve(stream, &document);
            }
        });
        Self {
            authority: authority.pem(),
            address,
        }
    }
}

fn serve(mut stream: impl Read + io::Write, document: &str) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let length = document.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{document}"
    )?;
    stream.flush()
}

#[test]
fn keys_are_fetched_from_a_server_that_somebody_trusted_vouches_for() {
    let signing = es256();
    let secure = Secure::serving(set(&[&signing]));
    let stranger = Secure::serving(set(&[&signing]));
    let upstream = Upstream::echo();
    let folder = tempfile::tempdir().unwrap();
    let authority = folder.path().join("ca.pem");
    std::fs::write(&authority, &stranger.authority).unwrap();
    let port = secure.address.port();
    let world = World::start(
        &upstream,
        &trusted(&format!(
            "jwks_url = \"https://localhost:{port}/jwks\"\nca_file = \"{}\"",
            authority.display()
        )),
    );
    let token = token(&signing, &claims());
    assert_eq!(
        visit(&world, "/guarded", &token).code(),
        "issuer_unavailable"
    );
    upstream.assert_untouched("nobody trusted vouches for those keys");
    std::fs::write(&authority, &secure.authority).unwrap();
    eventually("the file is read again", || {
        visit(&world, "/guarded", &token).status == 200
    });
}

#[test]
fn subjects_of_different_issuers_are_different_callers() {
    let (one, two) = (es256(), es256());
    let (here, there) = (Issuer::publishing(&[&one]), Issuer::publishing(&[&two]));
    let upstream = Upstream::echo();
    let limited = "[[routes]]\nprefix = \"/limited\"\nrequire = { any = [\"access_token\", \"api_key\"] }\n\
                   rate_limit = { rate = \"1/h\", burst = 1 }\n";
    let config = format!(
        "{limited}{}\n[[access_token.trusted]]\nissuer = \"https://other.example.com\"\n\
         audience = [\"api\"]\njwks_url = \"{}/jwks\"\n",
        here.trusted(),
        there.site.url()
    );
    let world = World::start(&upstream, &config);
    let by = |signing: &SigningKey, issuer: &str, subject: &str| {
        let mut claims = claims();
        claims["iss"] = issuer.into();
        claims["sub"] = subject.into();
        visit(&world, "/limited", &token(signing, &claims)).status
    };
    assert_eq!(by(&one, ISSUER, "alice"), 200);
    assert_eq!(by(&one, ISSUER, "alice"), 429);
    assert_eq!(by(&two, "https://other.example.com", "alice"), 200);
    assert_eq!(by(&two, "https://other.example.com", "static:ci"), 200);
    assert_eq!(
        world.status_with("/limited", KEY),
        200,
        "the key of that id"
    );
}

#[test]
fn what_is_held_open_ends_with_its_key() {
    let signing = es256();
    let published = Arc::new(Mutex::new(set(&[&signing])));
    let document = Arc::clone(&published);
    let site = Upstream::scripted(move |exchange| {
        let document = document.lock().unwrap().clone();
        exchange.answer("200 OK", "", &document)
    });
    let upstream = Upstream::scripted(|exchange| {
        if !exchange.request().target.ends_with("/stream") {
            return exchange.answer("200 OK", "", "");
        }
        exchange.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nbegun\r\n")?;
        exchange.peer_closes();
        Ok(())
    });
    let config = trusted(&format!("jwks_url = \"{}/jwks.json\"", site.url()));
    let world = World::start(&upstream, &config);
    let bearer = format!("Bearer {}", token(&signing, &claims()));
    let mut stream = world.connect();
    stream.send(request(
        "GET",
        "/guarded/stream",
        &[("authorization", &bearer)],
    ));
    stream.until("begun");
    // Whoever asks about another key has the set fetched, once ten seconds have gone by.
    *published.lock().unwrap() = set(&[&es256()]);
    assert_eq!(
        visit(&world, "/guarded", &token(&es256(), &claims())).status,
        401
    );
    within(Duration::from_secs(15), "the key is withdrawn", || {
        visit(&world, "/guarded", &token(&signing, &claims())).status == 401
    });
    assert!(!stream.rest().ends_with("0\r\n\r\n"), "cut, and not ended");
}

#[test]
fn a_logout_does_not_wait_for_other_peoples_issuers() {
    let signing = es256();
    let mut issuer = Issuer::publishing(&[&signing]);
    issuer.site.stop();
    let upstream = Upstream::echo();
    let wallet = "\n[wallet]\ndomains = [\"localhost\"]\n[store]\npath = \"{folder}/data\"\n";
    let world = World::start(&upstream, &format!("{}{wallet}", issuer.trusted()));
    let bearer = token(&signing, &claims());
    assert_eq!(visit(&world, "/guarded", &bearer).status, 503);
    let answer = world.send(format!(
        "POST /api/v1/auth/logout HTTP/1.1\r\nhost: api.test\r\nauthorization: Bearer {bearer}\r\n\
         content-length: 0\r\n\r\n"
    ));
    assert_eq!(answer.status, 204);
}

/// Whose word does not come from the store is believed without it, for as long as it is away.
#[test]
fn other_peoples_tokens_need_no_store() {
    let signing = es256();
    let issuer = Issuer::publishing(&[&signing]);
    let mut server = Server::start(Flavour::Redis);
    let upstream = Upstream::echo();
    let store = format!(
        "\n[store]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{}\"]\n[cache]\nmax_staleness = \"1s\"\n",
        server.port()
    );
    let world = World::start(&upstream, &format!("{}{store}", issuer.trusted()));
    let seen = token(&signing, &claims());
    assert_eq!(visit(&world, "/guarded", &seen).status, 200);
    server.kill();
    world.metric_becomes("gatelet_store_connected", &[], 0.0);
    let stale = Instant::now() + Duration::from_millis(1_200);
    let mut visits = 0;
    while Instant::now() < stale || visits < 2 {
        let mut claims = claims();
        claims["visit"] = visits.into();
        let new = token(&signing, &claims);
        for token in [&seen, &new] {
            assert_eq!(visit(&world, "/guarded", token).status, 200);
        }
        visits += 1;
    }
}

/// However a token's header is written, it is one of somebody who is trusted.
#[test]
fn an_oddly_written_token_is_a_token() {
    let signing = es256();
    let issuer = Issuer::publishing(&[&signing]);
    let upstream = Upstream::echo();
    let world = World::start(&upstream, &issuer.trusted());
    let mut long = claims();
    long["padding"] = "x".repeat(9_000).into();
    let good = token(&signing, &claims());
    let (_, rest) = good.split_once('.').unwrap();
    let spaced = URL_SAFE_NO_PAD.encode(format!(
        "{{ \"alg\": \"ES256\", \"kid\": \"{}\"}}",
        signing.kid()
    ));
    for odd in [
        token(&signing, &long),
        format!("{spaced}.{rest}"),
        format!("x.{rest}"),
    ] {
        assert_eq!(visit(&world, "/guarded", &odd).status, 401);
        assert_eq!(visit(&world, "/open", &odd).status, 200);
        let seen = upstream.take().unwrap();
        assert!(!seen.headers.has("authorization"), "no upstream sees it");
    }
}
