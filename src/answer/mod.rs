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
use http::{HeaderMap, HeaderValue, StatusCode};

pub use challenge::Realm;
pub use grpc::{ends_in_trailers, is_grpc};

use crate::rules::decision::{Fault, Refusal, Reject, Wanted};
use crate::rules::fields::Fields;
use crate::rules::forwarded::RequestId;

/// How many fields an answer has room for, with those that the request path adds.
const FIELDS: usize = 8;

/// What an answer needs to know of the request it answers.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Whose credentials are asked for.
    pub realm: &'a Realm,
    /// The request's `x-request-id`.
    pub request_id: &'a RequestId,
    /// Which credentials the route takes, for the challenge of a 401.
    pub wanted: Wanted,
    /// The caller speaks gRPC; see [`is_grpc`].
    pub grpc: bool,
    /// The method is HEAD: the answer has no body, and the length that the body would have.
    pub head: bool,
}

/// An answer that says no.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// What is said besides.
    pub fields: Fields,
    /// What it says to people and programs.
    pub body: Bytes,
}

/// The answer that says no.
pub fn refusal(refusal: &Refusal, context: &Context<'_>) -> Answer {
    let status = status(refusal);
    let detail = problem::detail(refusal);
    let mut fields = Fields::with_capacity(FIELDS);
    explain(refusal, context, &mut fields);
    if context.grpc {
        grpc::write(status, &detail, &mut fields);
        return Answer {
            status: StatusCode::OK,
            fields,
            body: Bytes::new(),
        };
    }
    let body = problem::body(refusal, status, &detail, context.request_id);
    fields.append(CONTENT_TYPE, HeaderValue::from_static(problem::MEDIA_TYPE));
    fields.append(CONTENT_LENGTH, HeaderValue::from(body.len()));
    fields.append(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let body = if context.head {
        Bytes::new()
    } else {
        body.into()
    };
    Answer {
        status,
        fields,
        body,
    }
}

/// What ends a gRPC answer that had already begun: its trailers, which say why.
pub fn grpc_end(refusal: &Refusal) -> HeaderMap {
    grpc::end(status(refusal), &problem::detail(refusal)).collect()
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
fn explain(refusal: &Refusal, context: &Context<'_>, fields: &mut Fields) {
    let realm = context.realm;
    match refusal {
        // RFC 6750 §3.1: no error code where no credential was shown.
        Refusal::Reject(Reject::CredentialMissing(wanted)) => {
            challenge(realm.bearer(), realm, *wanted, fields);
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
            challenge(realm.invalid_token(), realm, context.wanted, fields);
        }
        Refusal::Reject(Reject::ScopeMissing(scopes)) => {
            fields.append(WWW_AUTHENTICATE, realm.insufficient_scope(scopes));
        }
        Refusal::Reject(Reject::MethodNotAllowed(methods)) => {
            if let Ok(methods) = HeaderValue::from_str(methods) {
                fields.append(ALLOW, methods);
            }
        }
        Refusal::Reject(Reject::RateLimited { retry_after }) => {
            fields.append(RETRY_AFTER, HeaderValue::from(*retry_after));
        }
        Refusal::Fault(Fault::StoreUnavailable | Fault::IssuerUnavailable | Fault::Overloaded) => {
            fields.append(RETRY_AFTER, HeaderValue::from_static("1"));
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
fn challenge(bearer: HeaderValue, realm: &Realm, wanted: Wanted, fields: &mut Fields) {
    fields.append(WWW_AUTHENTICATE, bearer);
    if wanted.api_key {
        fields.append(WWW_AUTHENTICATE, realm.api_key());
    }
}

/// What a refusal says to people; borrowed wherever it says nothing of the request at hand.
type Detail = Cow<'static, str>;

#[cfg(test)]
mod tests;
