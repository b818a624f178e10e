//! Own routes at paths of the operator's choice, in an envelope, with a cookie of its own.

use serde_json::{Value, json};

use crate::harness::{KEY, NARROW_KEY, Response, Serve, Timed, Wallet, request};
use crate::sign_in::site::{REST, ROUTES, Site, static_key, text};

const SERVER: &str = "a-key-that-issues-and-introspects";

/// The configuration with these keys in `[auth]`, and these sections.
fn with(auth: &str, more: &str) -> Site<Timed> {
    let routes = ROUTES.replace("[auth]\n", &format!("[auth]\n{auth}"));
    let key = static_key(SERVER, "acme", &["sessions:issue", "tokens:introspect"]);
    Site::timed_by(&format!("{routes}{more}{REST}{key}"))
}

fn post(site: &Site<Timed>, target: &str, key: &str, body: &Value) -> Response {
    let body = body.to_string();
    site.world.send(format!(
        "POST {target} HTTP/1.1\r\nhost: api.test\r\nx-api-key: {key}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn introspect(site: &Site<Timed>, target: &str, token: &str) -> Response {
    let form = format!("token={token}");
    site.world.send(format!(
        "POST {target} HTTP/1.1\r\nhost: api.test\r\nx-api-key: {SERVER}\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    ))
}

/// Signs in through these routes; what each answered.
fn walk(site: &Site<Timed>, nonce: &str, verify: &str) -> (Response, Response) {
    let wallet = Wallet::numbered(60);
    let offered = post(site, nonce, KEY, &json!({"address": wallet.address()}));
    assert_eq!(offered.status, 201, "{}", offered.text());
    let told = offered.json();
    let told = told.get("data").unwrap_or(&told);
    let message = told["message"].as_str().unwrap();
    let body = json!({"message": message, "signature": wallet.sign(message), "mode": "body"});
    let signed_in = post(site, verify, KEY, &body);
    assert_eq!(signed_in.status, 201, "{}", signed_in.text());
    (offered, signed_in)
}

#[test]
fn every_route_is_where_it_was_moved_and_nowhere_else() {
    let paths = "\n[auth.paths]\nnonce = \"/challenge\"\nverify = \"/sign-in\"\nrefresh = \"//renew\"\n\
                 logout = \"/sign-out\"\nsessions = \"//clients/{subject}/sessions\"\n\
                 session = \"/me\"\nintrospect = \"//oauth/introspect\"\njwks = \"/keys.json\"\n";
    let site = with("prefix = \"/auth\"\n", paths);
    let (_, signed_in) = walk(&site, "/auth/challenge", "/auth/sign-in");
    let refresh = json!({"refreshToken": text(&signed_in, "refreshToken")});
    assert_eq!(post(&site, "/renew", KEY, &refresh).status, 200);
    let access = text(&signed_in, "accessToken");
    let bearer = format!("Bearer {access}");
    let me = site.world.get("/auth/me", &[("authorization", &bearer)]);
    assert_eq!(me.json()["subject"], text(&signed_in, "subject"));
    let told = introspect(&site, "/oauth/introspect", &access);
    assert_eq!(told.json()["active"], true);
    assert_eq!(site.world.get("/auth/keys.json", &[]).status, 200);
    let issued = post(&site, "/clients/a%20b/sessions", SERVER, &json!({}));
    assert_eq!(issued.status, 201, "{}", issued.text());
    assert_eq!(issued.json()["id"], "a b");
    let id = text(&issued, "sessionId");
    let target = format!("/clients/a%20b/sessions/{id}");
    let key = [("x-api-key", SERVER)];
    let ended = site.world.send(request("DELETE", &target, &key));
    assert_eq!(ended.status, 204);
    assert_eq!(post(&site, "/auth/sign-out", KEY, &refresh).status, 204);

    for prefix in ["/auth", "/api/v1/auth"] {
        for old in [
            "/nonce",
            "/verify",
            "/refresh",
            "/logout",
            "/sessions",
            "/introspect",
        ] {
            let answer = post(&site, &format!("{prefix}{old}"), KEY, &json!({}));
            let told = (answer.status, answer.code());
            assert_eq!(told, (404, "route_not_found".to_owned()), "{prefix}{old}");
        }
    }
    for old in ["/auth/session", "/.well-known/jwks.json"] {
        assert_eq!(site.world.get(old, &[]).code(), "route_not_found", "{old}");
    }
    site.upstream.assert_untouched("own routes, and none");
}

#[test]
fn an_envelope_holds_what_is_gatelets_own_to_say() {
    let site = with("envelope = \"data\"\n", "");
    let auth = "/api/v1/auth";
    let (offered, signed_in) = walk(&site, &format!("{auth}/nonce"), &format!("{auth}/verify"));
    let inside = |answer: &Response, member: &str| {
        let json = answer.json();
        let names: Vec<&String> = json.as_object().unwrap().keys().collect();
        assert_eq!(names, ["data"], "{json}");
        assert!(!json["data"][member].is_null(), "{json}");
        json["data"][member].clone()
    };
    inside(&offered, "nonce");
    let token = inside(&signed_in, "refreshToken");
    let refreshed = site.post("/refresh", &[], &json!({"refreshToken": token}));
    let access = inside(&refreshed, "accessToken");
    let access = access.as_str().unwrap();
    let bearer = format!("Bearer {access}");
    let who = [("authorization", &*bearer)];
    inside(&site.world.get(&format!("{auth}/session"), &who), "subject");
    let body = json!({"subject": "user-7"});
    let issued = post(&site, &format!("{auth}/sessions"), SERVER, &body);
    inside(&issued, "clientSessionToken");
    // What others have given a form keeps it.
    let told = introspect(&site, &format!("{auth}/introspect"), access);
    assert_eq!(told.json()["active"], true);
    let keys = site.world.get("/.well-known/jwks.json", &[]);
    assert!(keys.json()["keys"].is_array());
    let refused = site.refresh("nobodys");
    assert_eq!(refused.code(), "refresh_invalid");
    let media_type = refused.headers.one("content-type");
    assert_eq!(media_type, Some("application/problem+json"));
}

#[test]
fn a_refresh_may_need_a_key_and_a_key_that_is_shown_is_judged_in_any_case() {
    for needed in [true, false] {
        let site = with(&format!("refresh_needs_key = {needed}\n"), "");
        let signed_in = site.sign_in(&Wallet::numbered(61), "body");
        let body = json!({"refreshToken": text(&signed_in, "refreshToken")});
        let refresh = |headers: &[(&str, &str)]| site.post("/refresh", headers, &body);
        let unknown = refresh(&[("x-api-key", "nobodys-key-of-some-length")]);
        assert_eq!((unknown.status, &*unknown.code()), (401, "api_key_invalid"));
        for other in [SERVER, NARROW_KEY] {
            let other = refresh(&[("x-api-key", other)]);
            assert_eq!((other.status, &*other.code()), (403, "credential_mismatch"));
        }
        let without = refresh(&[]);
        if needed {
            assert_eq!(
                (without.status, &*without.code()),
                (401, "credential_missing")
            );
            let challenges = without.headers.all("www-authenticate");
            assert!(
                challenges.contains(&r#"ApiKey realm="gatelet""#),
                "{challenges:?}"
            );
        } else {
            assert_eq!(without.status, 200, "{}", without.text());
        }
        let bearer = format!("Bearer {KEY}");
        for shown in [("x-api-key", KEY), ("authorization", &*bearer)] {
            assert_eq!(refresh(&[shown]).status, 200, "{shown:?}");
        }
    }
}

#[test]
fn the_cookie_is_as_it_was_configured_and_is_cleared_so() {
    let cookie = "\n[refresh_token.cookie]\nname = \"renew\"\npath = \"/api/v1/auth\"\n\
                  domain = \"example.com\"\nsame_site = \"none\"\npartitioned = true\n\
                  legacy_names = [\"old\"]\n";
    let site = with("", cookie);
    let signed_in = site.sign_in(&Wallet::numbered(62), "cookie");
    let set = signed_in.headers.all("set-cookie");
    assert_eq!(set.len(), 1, "{set:?}");
    let (pair, attributes) = set[0].split_once("; ").unwrap();
    assert_eq!(
        attributes,
        "Path=/api/v1/auth; Domain=example.com; Max-Age=604800; Secure; HttpOnly; \
         SameSite=None; Partitioned"
    );
    let line = [("cookie", pair)];
    let old = format!("old={}", pair.split_once('=').unwrap().1);
    assert_eq!(site.world.get("/open", &line).status, 200);
    assert!(!site.upstream.take().unwrap().headers.has("cookie"));
    // Read under its old name, it is written under the present one alone.
    let renewed = site.post("/refresh", &[("cookie", &old)], &Value::Null);
    let set = renewed.headers.one("set-cookie").unwrap();
    assert!(set.starts_with("renew=gr_"), "{set}");
    let ended = site.post(
        "/logout",
        &[("cookie", set.split(';').next().unwrap())],
        &Value::Null,
    );
    let cleared = ended.headers.all("set-cookie");
    let names: Vec<&str> = cleared
        .iter()
        .map(|line| line.split(';').next().unwrap())
        .collect();
    assert_eq!(names, ["renew=", "old="]);
    for line in cleared {
        assert!(
            line.contains("; Path=/api/v1/auth; Domain=example.com; Max-Age=0; "),
            "{line}"
        );
    }
}
