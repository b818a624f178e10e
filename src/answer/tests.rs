//! Every refusal, and what of it is seen outside.

use http::Response;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use serde_json::Value;

use super::*;
use crate::rules::credential::Kind;

const KEY: Wanted = Wanted {
    api_key: true,
    token: false,
};
const TOKEN: Wanted = Wanted {
    api_key: false,
    token: true,
};
const EITHER: Wanted = Wanted {
    api_key: true,
    token: true,
};

const BEARER: &str = "Bearer realm=\"gatelet\"";
const INVALID: &str = "Bearer realm=\"gatelet\", error=\"invalid_token\"";
const API_KEY: &str = "ApiKey realm=\"gatelet\"";

/// Every refusal, at least once.
fn all() -> Vec<Refusal> {
    let rejects = [
        Reject::RequestMalformed("the path climbs above its root"),
        Reject::CredentialAmbiguous(Kind::ApiKey),
        Reject::CredentialAmbiguous(Kind::SessionToken),
        Reject::CredentialAmbiguous(Kind::AccessToken),
        Reject::RefreshAmbiguous,
        Reject::CredentialMissing(Wanted::default()),
        Reject::CredentialMissing(KEY),
        Reject::CredentialMissing(TOKEN),
        Reject::CredentialMissing(EITHER),
        Reject::ApiKeyInvalid,
        Reject::TokenInvalid,
        Reject::ScopeMissing("portfolio:read portfolio:write".into()),
        Reject::RouteNotFound,
        Reject::MethodNotAllowed("GET, HEAD".into()),
        Reject::RequestTimeout,
        Reject::BodyTooLarge,
        Reject::UriTooLong,
        Reject::HeadTooLarge,
        Reject::RateLimited { retry_after: 7 },
        Reject::SessionExpired,
        Reject::SessionRevoked,
        Reject::CredentialMismatch,
        Reject::NotFound,
        Reject::MediaTypeUnsupported("application/json"),
        Reject::TokenExpired,
        Reject::MessageInvalid("the URI is not a URI"),
        Reject::NonceInvalid,
        Reject::SignatureInvalid,
        Reject::WalletUnsupported,
        Reject::RefreshInvalid,
        Reject::RefreshReused,
        Reject::OriginForbidden,
    ];
    let faults = [
        Fault::UpstreamUnreachable,
        Fault::UpstreamProtocol,
        Fault::StoreUnavailable,
        Fault::Overloaded,
        Fault::UpstreamTimeout,
        Fault::IssuerUnavailable,
    ];
    let rejects = rejects.into_iter().map(Refusal::from);
    rejects.chain(faults.map(Refusal::from)).collect()
}

/// What the contract says of one refusal, on a route that takes API keys.
struct Row {
    status: u16,
    code: &'static str,
    challenges: &'static [&'static str],
    grpc: &'static str,
}

/// The contract's table. No `_` arm: whoever adds a refusal says here what it looks like.
fn contract(refusal: &Refusal) -> Row {
    let row = |status, code, challenges, grpc| Row {
        status,
        code,
        challenges,
        grpc,
    };
    match refusal {
        Refusal::Reject(reject) => match reject {
            Reject::RequestMalformed(_) => row(400, "request_malformed", &[], "3"),
            Reject::CredentialAmbiguous(_) | Reject::RefreshAmbiguous => {
                row(400, "credential_ambiguous", &[], "3")
            }
            Reject::CredentialMissing(Wanted { api_key: true, .. }) => {
                row(401, "credential_missing", &[BEARER, API_KEY], "16")
            }
            Reject::CredentialMissing(Wanted { api_key: false, .. }) => {
                row(401, "credential_missing", &[BEARER], "16")
            }
            Reject::ApiKeyInvalid => row(401, "api_key_invalid", &[INVALID, API_KEY], "16"),
            Reject::TokenInvalid => row(401, "token_invalid", &[INVALID, API_KEY], "16"),
            Reject::ScopeMissing(_) => row(
                403,
                "scope_missing",
                &["Bearer realm=\"gatelet\", error=\"insufficient_scope\", \
                   scope=\"portfolio:read portfolio:write\""],
                "7",
            ),
            Reject::RouteNotFound => row(404, "route_not_found", &[], "12"),
            Reject::MethodNotAllowed(_) => row(405, "method_not_allowed", &[], "12"),
            Reject::RequestTimeout => row(408, "request_timeout", &[], "4"),
            Reject::BodyTooLarge => row(413, "body_too_large", &[], "8"),
            Reject::UriTooLong => row(414, "uri_too_long", &[], "8"),
            Reject::HeadTooLarge => row(431, "head_too_large", &[], "8"),
            Reject::RateLimited { .. } => row(429, "rate_limited", &[], "8"),
            Reject::SessionExpired => row(401, "session_expired", &[INVALID, API_KEY], "16"),
            Reject::SessionRevoked => row(401, "session_revoked", &[INVALID, API_KEY], "16"),
            Reject::CredentialMismatch => row(403, "credential_mismatch", &[], "7"),
            Reject::NotFound => row(404, "not_found", &[], "12"),
            Reject::TokenExpired => row(401, "token_expired", &[INVALID, API_KEY], "16"),
            Reject::MessageInvalid(_) => row(400, "message_invalid", &[], "3"),
            Reject::NonceInvalid => row(401, "nonce_invalid", &[INVALID, API_KEY], "16"),
            Reject::SignatureInvalid => row(401, "signature_invalid", &[INVALID, API_KEY], "16"),
            Reject::WalletUnsupported => row(401, "wallet_unsupported", &[INVALID, API_KEY], "16"),
            Reject::RefreshInvalid => row(401, "refresh_invalid", &[INVALID, API_KEY], "16"),
            Reject::RefreshReused => row(401, "refresh_reused", &[INVALID, API_KEY], "16"),
            Reject::OriginForbidden => row(403, "origin_forbidden", &[], "7"),
            Reject::MediaTypeUnsupported(_) => row(415, "media_type_unsupported", &[], "3"),
        },
        Refusal::Fault(fault) => match fault {
            Fault::UpstreamUnreachable => row(502, "upstream_unreachable", &[], "14"),
            Fault::UpstreamProtocol => row(502, "upstream_protocol", &[], "14"),
            Fault::StoreUnavailable => row(503, "store_unavailable", &[], "14"),
            Fault::Overloaded => row(503, "overloaded", &[], "14"),
            Fault::UpstreamTimeout => row(504, "upstream_timeout", &[], "14"),
            Fault::IssuerUnavailable => row(503, "issuer_unavailable", &[], "14"),
        },
    }
}

fn answer(refused: &Refusal, change: impl FnOnce(&mut Context<'_>)) -> Response<Bytes> {
    let realm = Realm::new("gatelet");
    let request_id = RequestId::Believed(HeaderValue::from_static("id-\"1\""));
    let mut context = Context {
        realm: &realm,
        request_id: &request_id,
        wanted: EITHER,
        grpc: false,
        head: false,
    };
    change(&mut context);
    let answer = refusal(refused, &context);
    let mut response = Response::new(answer.body);
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.fields.into();
    response
}

fn challenges(response: &Response<Bytes>) -> Vec<&HeaderValue> {
    response
        .headers()
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .collect()
}

#[test]
fn every_refusal_is_what_the_contract_says() {
    for refused in all() {
        let row = contract(&refused);
        let response = answer(&refused, |_| {});
        assert_eq!(response.status(), row.status, "{refused:?}");
        assert_eq!(challenges(&response), row.challenges, "{refused:?}");
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        assert_eq!(response.headers()[CACHE_CONTROL], "no-store");
        assert_eq!(
            response.headers()[CONTENT_LENGTH],
            response.body().len().to_string()
        );
        let problem: Value = serde_json::from_slice(response.body()).unwrap();
        let problem = problem.as_object().unwrap();
        let names: Vec<&str> = problem.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "type",
                "title",
                "status",
                "code",
                "detail",
                "requestId",
                "error",
                "message"
            ]
        );
        assert_eq!(problem["type"], format!("urn:gatelet:problem:{}", row.code));
        assert_eq!(problem["status"], row.status);
        assert_eq!(problem["code"], row.code);
        assert_eq!(problem["error"], row.code);
        assert_eq!(problem["requestId"], "id-\"1\"");
        assert_eq!(problem["message"], problem["detail"]);
        for text in ["title", "detail"] {
            assert!(problem[text].as_str().unwrap().len() > 5, "{refused:?}");
        }
    }
}

#[test]
fn every_code_is_in_the_table() {
    let all = all();
    let codes = all.iter().map(|refused| contract(refused).code);
    let mut codes: Vec<&str> = codes.collect();
    codes.dedup();
    let declared: Vec<&str> = Reject::CODES.into_iter().chain(Fault::CODES).collect();
    assert_eq!(codes, declared);
}

#[test]
fn grpc_callers_get_trailers_alone() {
    for refused in all() {
        let row = contract(&refused);
        let response = answer(&refused, |context| context.grpc = true);
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/grpc");
        assert_eq!(response.headers()["grpc-status"], row.grpc, "{refused:?}");
        assert!(!response.headers()["grpc-message"].is_empty());
        assert_eq!(challenges(&response), row.challenges, "{refused:?}");
        assert!(response.body().is_empty());
        assert!(!response.headers().contains_key(CONTENT_LENGTH));
    }
}

#[test]
fn a_key_is_asked_for_only_where_one_would_do() {
    for reject in [Reject::ApiKeyInvalid, Reject::TokenInvalid] {
        let response = answer(&reject.into(), |context| context.wanted = TOKEN);
        assert_eq!(challenges(&response), [INVALID]);
    }
}

#[test]
fn headers_say_what_would_have_been_right() {
    for refused in all() {
        let response = answer(&refused, |_| {});
        let headers = response.headers();
        let allow = matches!(refused, Refusal::Reject(Reject::MethodNotAllowed(_)));
        let allowed = headers.get(ALLOW).map(|value| value.to_str().unwrap());
        assert_eq!(allowed, allow.then_some("GET, HEAD"));
        let wait = match response.status().as_u16() {
            429 => Some("7"),
            503 => Some("1"),
            _ => None,
        };
        let told = headers
            .get(RETRY_AFTER)
            .map(|value| value.to_str().unwrap());
        assert_eq!(told, wait, "{refused:?}");
    }
}

#[test]
fn head_is_answered_with_the_length_alone() {
    let refused = Refusal::from(Reject::ApiKeyInvalid);
    let full = answer(&refused, |_| {});
    let head = answer(&refused, |context| context.head = true);
    assert!(head.body().is_empty());
    assert_eq!(head.status(), full.status());
    assert_eq!(head.headers(), full.headers());
}

#[test]
fn a_request_id_that_is_not_text_breaks_nothing() {
    let odd = RequestId::Believed(HeaderValue::from_bytes(b"\xff\xfe").unwrap());
    let realm = Realm::new("gatelet");
    let context = Context {
        realm: &realm,
        request_id: &odd,
        wanted: KEY,
        grpc: false,
        head: false,
    };
    let answer = refusal(&Fault::Overloaded.into(), &context);
    let problem: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(problem["requestId"], "");
}
