//! Answers as JSON.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

/// An answer with a body, inside `envelope` where there is one.
///
/// It says something of a caller, so that nobody may keep it (RFC 6749 §5.1).
pub(super) fn json(
    status: StatusCode,
    envelope: Option<&str>,
    body: &impl Serialize,
) -> Response<Bytes> {
    let body = serde_json::to_value(body).unwrap_or(Value::Null);
    let body = match envelope {
        Some(member) => json!({ member: body }),
        None => body,
    };
    let mut response = Response::new(Bytes::from(body.to_string()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// An answer without one.
pub(super) fn nothing() -> Response<Bytes> {
    let mut response = Response::new(Bytes::new());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
