//! The only place where a [`Reject`] or a [`Fault`] becomes HTTP, gRPC or problem+json.
//!
//! Pure: what goes into an answer is handed in. That an answer is given, counted and logged is the
//! request path's affair; CORS headers and `x-request-id` are added there too.

mod challenge;
mod grpc;
mod problem;

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE,
};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

pub use challenge::Realm;
pub use grpc::{ends_in_trailers, is_grpc};

use crate::rules::decision::{Fault, Refusal, Reject, Wanted};

/// What an answer needs to know of the request it answers.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Whose credentials are asked for.
    pub realm: &'a Realm,
    /// The request's `x-request-id`.
    pub request_id: &'a HeaderValue,
    /// Which credentials the route takes, for the challenge of a 401.
    pub wanted: Wanted,
    /// The caller speaks gRPC; see [`is_grpc`].
    pub grpc: bool,
    /// The method is HEAD: the answer has no body, and the length that the body would have.
    pub head: bool,
}

/// The answer that says no.
pub fn refusal(refusal: &Refusal, context: &Context<'_>) -> Response<Bytes> {
    let status = status(refusal);
    let detail = problem::detail(refusal);
    let mut headers = HeaderMap::with_capacity(8);
    explain(refusal, context, &mut headers);
    if context.grpc {
        grpc::write(status, &detail, &mut headers);
        return response(StatusCode::OK, headers, Bytes::new());
    }
    let body = problem::body(refusal, status, &detail, context.request_id);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let body = if context.head {
        Bytes::new()
    } else {
        body.into()
    };
    response(status, headers, body)
}

/// What ends a gRPC answer that had already begun: its trailers, which say why.
pub fn grpc_end(refusal: &Refusal) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(2);
    grpc::write_status(status(refusal), &problem::detail(refusal), &mut trailers);
    trailers
}

/// The HTTP status of a refusal. A gRPC caller is told it as a `grpc-status` inside a 200.
pub fn status(refusal: &Refusal) -> StatusCode {
    match refusal {
        Refusal::Reject(reject) => match reject {
            Reject::RequestMalformed(_)
            | Reject::CredentialAmbiguous(_)
            | Reject::RefreshAmbiguous
            | Reject::MessageInvalid(_) => StatusCode::BAD_REQUEST,
            Reject::CredentialMissing(_)
            | Reject::ApiKeyInvalid
            | Reject::TokenInvalid
            | Reject::SessionExpired
            | Reject::SessionRevoked
            | Reject::TokenExpired
            | Reject::NonceInvalid
            | Reject::SignatureInvalid
            | Reject::WalletUnsupported
            | Reject::RefreshInvalid
            | Reject::RefreshReused => StatusCode::UNAUTHORIZED,
            Reject::ScopeMissing(_) | Reject::CredentialMismatch | Reject::OriginForbidden => {
                StatusCode::FORBIDDEN
            }
            Reject::RouteNotFound | Reject::NotFound => StatusCode::NOT_FOUND,
            Reject::MediaTypeUnsupported(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Reject::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Reject::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Reject::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Reject::UriTooLong => StatusCode::URI_TOO_LONG,
            Reject::HeadTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Reject::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
        },
        Refusal::Fault(fault) => match fault {
            Fault::UpstreamUnreachable | Fault::UpstreamProtocol => StatusCode::BAD_GATEWAY,
            Fault::StoreUnavailable | Fault::IssuerUnavailable | Fault::Overloaded => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Fault::UpstreamTimeout => StatusCode::GATEWAY_TIMEOUT,
        },
    }
}

/// Adds the headers that tell a program what would have been right, or when.
fn explain(refusal: &Refusal, context: &Context<'_>, headers: &mut HeaderMap) {
    let realm = context.realm;
    match refusal {
        // RFC 6750 §3.1: no error code where no credential was shown.
        Refusal::Reject(Reject::CredentialMissing(wanted)) => {
            challenge(realm.bearer(), realm, *wanted, headers);
        }
        Refusal::Reject(
            Reject::ApiKeyInvalid
            | Reject::TokenInvalid
            | Reject::SessionExpired
            | Reject::SessionRevoked
            | Reject::TokenExpired
            | Reject::NonceInvalid
            | Reject::SignatureInvalid
            | Reject::WalletUnsupported
            | Reject::RefreshInvalid
            | Reject::RefreshReused,
        ) => {
            challenge(realm.invalid_token(), realm, context.wanted, headers);
        }
        Refusal::Reject(Reject::ScopeMissing(scopes)) => {
            headers.insert(WWW_AUTHENTICATE, realm.insufficient_scope(scopes));
        }
        Refusal::Reject(Reject::MethodNotAllowed(methods)) => {
            if let Ok(methods) = HeaderValue::from_str(methods) {
                headers.insert(ALLOW, methods);
            }
        }
        Refusal::Reject(Reject::RateLimited { retry_after }) => {
            headers.insert(RETRY_AFTER, HeaderValue::from(*retry_after));
        }
        Refusal::Fault(Fault::StoreUnavailable | Fault::IssuerUnavailable | Fault::Overloaded) => {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        Refusal::Reject(
            Reject::RequestMalformed(_)
            | Reject::CredentialAmbiguous(_)
            | Reject::RouteNotFound
            | Reject::NotFound
            | Reject::CredentialMismatch
            | Reject::OriginForbidden
            | Reject::RefreshAmbiguous
            | Reject::MessageInvalid(_)
            | Reject::MediaTypeUnsupported(_)
            | Reject::RequestTimeout
            | Reject::BodyTooLarge
            | Reject::UriTooLong
            | Reject::HeadTooLarge,
        )
        | Refusal::Fault(
            Fault::UpstreamUnreachable | Fault::UpstreamProtocol | Fault::UpstreamTimeout,
        ) => {}
    }
}

/// Writes the challenges of a 401: `Bearer` always and first, since npm reads no other.
fn challenge(bearer: HeaderValue, realm: &Realm, wanted: Wanted, headers: &mut HeaderMap) {
    headers.insert(WWW_AUTHENTICATE, bearer);
    if wanted.api_key {
        headers.append(WWW_AUTHENTICATE, realm.api_key());
    }
}

fn response(status: StatusCode, headers: HeaderMap, body: Bytes) -> Response<Bytes> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response
}

/// What a refusal says to people; borrowed wherever it says nothing of the request at hand.
type Detail = Cow<'static, str>;

#[cfg(test)]
mod tests;
