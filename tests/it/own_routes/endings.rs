//! Whose word ends a session, and how much of a subject's ends with it.

use serde_json::{Value, json};

use crate::harness::{Response, Serve, Timed, Wallet, request};
use crate::sign_in::site::{AUTH, REST, ROUTES, Site, cookie, static_key, text};

const SERVER: &str = "the-key-that-issues-for-acme";
const SIBLING: &str = "another-key-of-acme-without-scopes";
const STRANGER: &str = "a-key-of-globex-that-issues";
const NOBODYS: &str = "a-key-without-an-owner-that-issues";
const NOBODYS_OTHER: &str = "another-key-without-an-owner";

const CLIENT: &str = "\n[[routes]]\nprefix = \"/client\"\nrequire = [\"session_token\"]\n";

fn site(more: &str) -> Site<Timed> {
    let keys = [
        static_key(SERVER, "acme", &["sessions:issue"]),
        static_key(SIBLING, "acme", &[]),
        static_key(STRANGER, "globex", &["sessions:issue"]),
        static_key(NOBODYS, "", &["sessions:issue"]),
        static_key(NOBODYS_OTHER, "", &["sessions:issue"]),
    ];
    Site::timed_by(&format!("{ROUTES}{REST}{CLIENT}{}{more}", keys.concat()))
}

fn issue(site: &Site<Timed>, key: &str, subject: &str) -> Value {
    let body = json!({"subject": subject});
    let answer = site.post("/sessions", &[("x-api-key", key)], &body);
    assert_eq!(answer.status, 201, "{}", answer.text());
    answer.json()
}

fn shown(site: &Site<Timed>, issued: &Value) -> Response {
    let bearer = format!("Bearer {}", issued["clientSessionToken"].as_str().unwrap());
    site.world.get("/client", &[("authorization", &bearer)])
}

fn delete(site: &Site<Timed>, target: &str, headers: &[(&str, &str)]) -> Response {
    site.world.send(request("DELETE", target, headers))
}

fn at(issued: &Value) -> String {
    format!("{AUTH}/sessions/{}", issued["sessionId"].as_str().unwrap())
}

#[test]
fn a_session_is_ended_by_any_key_of_its_owner_and_seen_by_no_other() {
    let site = site("");
    for (issuer, strangers, ender) in [
        (SERVER, &[STRANGER, NOBODYS][..], SIBLING),
        (NOBODYS, &[NOBODYS_OTHER, SERVER], NOBODYS),
    ] {
        let issued = issue(&site, issuer, "user-7");
        for stranger in strangers {
            let unseen = delete(&site, &at(&issued), &[("x-api-key", stranger)]);
            let unknown = format!("{AUTH}/sessions/session_0");
            let unknown = delete(&site, &unknown, &[("x-api-key", stranger)]);
            for answer in [&unseen, &unknown] {
                assert_eq!((answer.status, &*answer.code()), (404, "not_found"));
            }
            assert_eq!(unseen.json()["detail"], unknown.json()["detail"]);
        }
        let bearer = format!("Bearer {}", issued["clientSessionToken"].as_str().unwrap());
        for headers in [&[][..], &[("authorization", &*bearer)]] {
            assert_eq!(delete(&site, &at(&issued), headers).status, 401);
        }
        assert_eq!(shown(&site, &issued).status, 200);
        site.upstream.take();
        for _ in 0..2 {
            let ended = delete(&site, &at(&issued), &[("x-api-key", ender)]);
            assert_eq!((ended.status, ended.body.len()), (204, 0));
        }
        let refused = shown(&site, &issued);
        assert_eq!((refused.status, &*refused.code()), (401, "session_revoked"));
        site.upstream.assert_untouched("it is over");
    }
}

#[test]
fn below_one_subjects_path_no_other_subjects_session_is_found() {
    let paths = "\n[auth.paths]\nsessions = \"//clients/{subject}/sessions\"\n";
    let site = site(paths);
    let head = format!(
        "POST /clients/user%2D7/sessions HTTP/1.1\r\nhost: api.test\r\nx-api-key: {SERVER}\r\n\
         content-length: 0\r\n\r\n"
    );
    let issued = site.world.send(head);
    assert_eq!(issued.status, 201, "{}", issued.text());
    let issued = issued.json();
    assert_eq!(issued["id"], "user-7");
    let id = issued["sessionId"].as_str().unwrap();
    let key = [("x-api-key", SERVER)];
    let elsewhere = delete(&site, &format!("/clients/user-8/sessions/{id}"), &key);
    assert_eq!((elsewhere.status, &*elsewhere.code()), (404, "not_found"));
    assert_eq!(shown(&site, &issued).status, 200);
    let ended = delete(&site, &format!("/clients/user%2d7/sessions/{id}"), &key);
    assert_eq!(ended.status, 204);
    assert_eq!(shown(&site, &issued).code(), "session_revoked");
}

#[test]
fn a_path_that_names_its_subject_names_one_in_every_spelling() {
    let site = site("\n[auth.paths]\nsessions = \"//clients/{subject}/sessions\"\n");
    let begin = |target: &str, body: &Value| {
        let body = body.to_string();
        site.world.send(format!(
            "POST {target} HTTP/1.1\r\nhost: api.test\r\nx-api-key: {SERVER}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ))
    };
    let issued = begin("/clients/user-7/sessions/", &json!({"subject": "user-7"}));
    assert_eq!(issued.status, 201, "{}", issued.text());
    let issued = issued.json();
    let id = issued["sessionId"].as_str().unwrap();
    for (path, status) in [
        ("/clients/%FF", 400),
        ("/clients/%00", 400),
        ("/clients/", 404),
        ("/clients/.", 400),
        ("/clients/%2e", 400),
        ("/clients/user-8/../user-7", 400),
        ("/clients/a%2Fb", 400),
        ("//clients/user-8", 400),
        ("/clients//user-8", 400),
    ] {
        let answer = begin(&format!("{path}/sessions"), &json!({"subject": "user-7"}));
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        let target = format!("{path}/sessions/{id}");
        let ended = delete(&site, &target, &[("x-api-key", SERVER)]);
        assert_eq!(ended.status, status, "{path}: {}", ended.text());
    }
    assert_eq!(shown(&site, &issued).status, 200, "nobody ended it");
}

#[test]
fn logout_everywhere_ends_every_session_of_the_subject_of_either_kind() {
    let site = site("");
    let (wallet, stranger) = (Wallet::numbered(40), Wallet::numbered(41));
    for by_body in [true, false] {
        let [first, second] = [(); 2].map(|()| site.sign_in(&wallet, "body"));
        let subject = text(&first, "subject");
        let session = issue(&site, SERVER, &subject);
        let others = site.sign_in(&stranger, "body");
        let others_session = issue(&site, SERVER, &text(&others, "subject"));
        let bearer = format!("Bearer {}", text(&first, "accessToken"));
        let log_out = |query: &str| {
            let target = format!("/logout{query}");
            if by_body {
                let body = json!({"refreshToken": text(&first, "refreshToken")});
                site.post(&target, &[], &body)
            } else {
                site.post(&target, &[("authorization", &bearer)], &Value::Null)
            }
        };
        // Nothing but the word itself reaches further than the session that is shown.
        for query in ["?all=false", "?all", "?ALL=true", ""] {
            let out = log_out(query);
            assert_eq!((out.status, out.body.len()), (204, 0), "{query}");
            let over = site.portfolio(&text(&first, "accessToken"));
            assert_eq!(over.code(), "session_revoked", "{query}");
            assert_eq!(site.portfolio(&text(&second, "accessToken")).status, 200);
            assert_eq!(shown(&site, &session).status, 200, "{query}");
        }
        // What was ended already still tells whose sessions they are.
        assert_eq!(log_out("?all=true").status, 204);
        site.upstream.take();
        let over = site.portfolio(&text(&second, "accessToken"));
        assert_eq!(over.code(), "session_revoked");
        let refused = site.refresh(&text(&second, "refreshToken"));
        assert_eq!(refused.code(), "refresh_invalid");
        assert_eq!(shown(&site, &session).code(), "session_revoked");
        site.upstream.assert_untouched("all of it is over");
        assert_eq!(site.portfolio(&text(&others, "accessToken")).status, 200);
        assert_eq!(shown(&site, &others_session).status, 200);
    }
}

#[test]
fn a_logout_ends_what_is_shown_and_picks_from_nothing() {
    let site = site("");
    let [by_cookie, by_bearer, by_body, other] =
        [("cookie", 42), ("body", 43), ("body", 44), ("body", 45)]
            .map(|(mode, number)| site.sign_in(&Wallet::numbered(number), mode));
    let line = format!("__Host-refresh={}", cookie(&by_cookie));
    let bearer = format!("Bearer {}", text(&by_bearer, "accessToken"));
    let body = json!({"refreshToken": text(&by_body, "refreshToken")});
    let signed_in = |answer: &Response| site.portfolio(&text(answer, "accessToken")).status == 200;

    let both = site.post("/logout", &[("cookie", &line)], &body);
    assert_eq!((both.status, &*both.code()), (400, "credential_ambiguous"));
    assert!(!both.headers.has("set-cookie"));
    assert!(signed_in(&by_cookie) && signed_in(&by_body));
    // An application in a browser sends both, and after another sign-in they are of two sessions.
    let shown = [("cookie", &*line), ("authorization", &*bearer)];
    assert_eq!(site.post("/logout", &shown, &Value::Null).status, 204);
    assert!(!signed_in(&by_cookie) && !signed_in(&by_bearer));
    let out = site.post("/logout", &[], &body);
    assert_eq!(out.status, 204);
    assert!(!out.headers.has("set-cookie"), "it speaks by body");
    assert!(!signed_in(&by_body));
    assert!(signed_in(&other));
}
