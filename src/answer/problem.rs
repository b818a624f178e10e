//! Refusals in words: problem details as JSON (RFC 9457).
//!
//! Every text here is read by strangers. None says more than what its sender can change: an
//! unknown, an expired and a revoked key have one text, and a breakage is not explained.

use http::StatusCode;

use super::Detail;
use crate::rules::credential::Kind;
use crate::rules::decision::{Fault, Refusal, Reject};
use crate::rules::fields::text;
use crate::rules::forwarded::RequestId;

pub(super) const MEDIA_TYPE: &str = "application/problem+json";

/// What every `type` begins with; the code follows. A name, not an address: nothing to fetch.
const TYPE_PREFIX: &str = "urn:gatelet:problem:";

/// A short text for the kind of refusal, always the same.
fn title(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Reject(reject) => match reject {
            Reject::RequestMalformed(_) => "Malformed request",
            Reject::CredentialAmbiguous(_) | Reject::RefreshAmbiguous => "Ambiguous credentials",
            Reject::CredentialMissing(_) => "Credential missing",
            Reject::ApiKeyInvalid => "Invalid API key",
            Reject::TokenInvalid => "Invalid token",
            Reject::ScopeMissing(_) => "Scope missing",
            Reject::RouteNotFound => "Route not found",
            Reject::MethodNotAllowed(_) => "Method not allowed",
            Reject::RequestTimeout => "Request timeout",
            Reject::BodyTooLarge => "Body too large",
            Reject::UriTooLong => "Request target too long",
            Reject::HeadTooLarge => "Request head too large",
            Reject::RateLimited { .. } => "Rate limit reached",
            Reject::SessionExpired => "Session expired",
            Reject::SessionRevoked => "Session revoked",
            Reject::TokenExpired => "Access token expired",
            Reject::MessageInvalid(_) => "Invalid sign-in message",
            Reject::NonceInvalid => "Invalid nonce",
            Reject::SignatureInvalid => "Invalid signature",
            Reject::WalletUnsupported => "Wallet not supported",
            Reject::RefreshInvalid => "Invalid refresh token",
            Reject::RefreshReused => "Refresh token reused",
            Reject::OriginForbidden => "Origin forbidden",
            Reject::CredentialMismatch => "Credentials do not belong together",
            Reject::NotFound => "Not found",
            Reject::MediaTypeUnsupported(_) => "Unsupported media type",
        },
        Refusal::Fault(fault) => match fault {
            Fault::UpstreamUnreachable => "Upstream unreachable",
            Fault::UpstreamProtocol => "Invalid upstream answer",
            Fault::StoreUnavailable => "Credential store unavailable",
            Fault::Overloaded => "Overloaded",
            Fault::UpstreamTimeout => "Upstream timeout",
            Fault::IssuerUnavailable => "Token issuer unavailable",
        },
    }
}

/// What the sender can do about it.
pub(super) fn detail(refusal: &Refusal) -> Detail {
    match refusal {
        Refusal::Reject(reject) => match reject {
            Reject::RequestMalformed(reason) => {
                format!("The request is malformed: {reason}.").into()
            }
            Reject::RefreshAmbiguous => "More than one refresh token was sent; send one.".into(),
            Reject::CredentialAmbiguous(kind) => match kind {
                Kind::ApiKey => "More than one API key was sent; send exactly one.",
                Kind::SessionToken => "More than one session token was sent; send exactly one.",
                Kind::AccessToken => "More than one access token was sent; send exactly one.",
            }
            .into(),
            Reject::CredentialMissing(wanted) => match (wanted.api_key, wanted.token) {
                (true, false) => "This route needs an API key; send one with the request.",
                (false, true) => "This route needs a bearer token; send one with the request.",
                (true, true) => {
                    "A credential that this route needs was not sent; it takes API keys and bearer \
                     tokens."
                }
                (false, false) => "A credential that this route needs was not sent.",
            }
            .into(),
            Reject::ApiKeyInvalid => {
                "The API key is not valid; check that it is complete and in use, or ask for a new \
                 one."
                    .into()
            }
            Reject::TokenInvalid => {
                "The bearer token is not valid here; send a credential that this route takes."
                    .into()
            }
            Reject::ScopeMissing(scopes) => {
                format!("The credential lacks what this route needs: {scopes}.").into()
            }
            Reject::RouteNotFound => "Nothing is served at this path.".into(),
            Reject::SessionExpired => {
                "The session has expired; ask the server that issued it for a new one.".into()
            }
            Reject::SessionRevoked => {
                "The session was ended; sign in again, or ask the server that issued it for a new one."
                    .into()
            }
            Reject::TokenExpired => "The access token has expired; refresh it.".into(),
            Reject::MessageInvalid(reason) => {
                format!("The sign-in message cannot be taken: {reason}.").into()
            }
            Reject::NonceInvalid => {
                "The nonce is unknown, expired or spent, or is another key's; ask for a new one."
                    .into()
            }
            Reject::SignatureInvalid => "The signature is not the wallet's; sign again.".into(),
            Reject::WalletUnsupported => {
                "Signatures of wallets that are contracts are not supported.".into()
            }
            Reject::RefreshInvalid => "The refresh token is not valid; sign in again.".into(),
            Reject::RefreshReused => {
                "The refresh token was used before, and its session was ended; sign in again."
                    .into()
            }
            Reject::OriginForbidden => "This origin may not use the refresh cookie.".into(),
            Reject::CredentialMismatch => {
                "The token was not issued through the API key that came with it; send the key of \
                 the same owner, or none."
                    .into()
            }
            Reject::NotFound => "There is nothing of this name for this caller.".into(),
            Reject::MediaTypeUnsupported(wanted) => {
                format!("The body must be {wanted}; say so in Content-Type.").into()
            }
            Reject::MethodNotAllowed(methods) => {
                format!("This path does not take the method; it takes {methods}.").into()
            }
            Reject::RequestTimeout => "The request took too long to arrive; send it again.".into(),
            Reject::BodyTooLarge => "The request body is larger than this route takes.".into(),
            Reject::UriTooLong => {
                "The request target is too long; shorten the path or the query.".into()
            }
            Reject::HeadTooLarge => {
                "The request head is too large; send fewer or shorter headers.".into()
            }
            Reject::RateLimited { retry_after } => {
                let unit = if *retry_after == 1 {
                    "second"
                } else {
                    "seconds"
                };
                format!("Too many requests; try again in {retry_after} {unit}.").into()
            }
        },
        Refusal::Fault(fault) => what_broke(*fault).into(),
    }
}

fn what_broke(fault: Fault) -> &'static str {
    match fault {
        Fault::UpstreamUnreachable => "The API cannot be reached; try again later.",
        Fault::UpstreamProtocol => "The API sent an answer that is not valid HTTP.",
        Fault::StoreUnavailable => {
            "The credential cannot be verified right now; it may well be good. Try again in a \
             moment."
        }
        Fault::Overloaded => "Too many requests are being served; try again in a moment.",
        Fault::UpstreamTimeout => "The API did not answer in time.",
        Fault::IssuerUnavailable => {
            "The token cannot be verified right now, since its issuer's keys are not at hand; it \
             may well be good. Try again in a moment."
        }
    }
}

/// The JSON object: `error` repeats `code`, and `message` repeats `detail`.
///
/// Written piece by piece: a refused request is answered as often as strangers like.
pub(super) fn body(
    refusal: &Refusal,
    status: StatusCode,
    detail: &str,
    request_id: &RequestId,
) -> Vec<u8> {
    let code = refusal.code();
    let mut body = Vec::with_capacity(512);
    // Codes and titles need no escapes, which a test holds.
    for piece in [
        "{\"type\":\"",
        TYPE_PREFIX,
        code,
        "\",\"title\":\"",
        title(refusal),
        "\",\"status\":",
        status.as_str(),
        ",\"code\":\"",
        code,
        "\",\"detail\":",
    ] {
        body.extend_from_slice(piece.as_bytes());
    }
    let start = body.len();
    push_string(detail, &mut body);
    let written = start..body.len();
    body.extend_from_slice(b",\"requestId\":");
    push_string(text(request_id.as_bytes()).unwrap_or_default(), &mut body);
    for piece in [",\"error\":\"", code, "\",\"message\":"] {
        body.extend_from_slice(piece.as_bytes());
    }
    body.extend_from_within(written);
    body.push(b'}');
    body
}

/// Appends the text as a JSON string.
fn push_string(text: &str, body: &mut Vec<u8>) {
    // Neither a string's form nor a vector's growth can fail.
    let _ = serde_json::to_writer(body, text);
}
