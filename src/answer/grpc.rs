//! Refusals for gRPC callers: trailers alone, inside a 200.

use std::fmt::Write;
use std::iter;

use http::header::CONTENT_TYPE;
use http::{HeaderName, HeaderValue, StatusCode};

use crate::rules::fields::Fields;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
const MEDIA_TYPE: &str = "application/grpc";

/// Whether a request with these fields comes from a gRPC client.
pub fn is_grpc(fields: &Fields) -> bool {
    fields.get(&CONTENT_TYPE).is_some_and(|value| {
        value
            .get(..MEDIA_TYPE.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(MEDIA_TYPE.as_bytes()))
    })
}

/// Whether an answer with these fields ends in gRPC's trailers. gRPC-Web has them in its body.
pub fn ends_in_trailers(fields: &Fields) -> bool {
    is_grpc(fields)
        && fields
            .get(&CONTENT_TYPE)
            .is_some_and(|value| value.get(MEDIA_TYPE.len()) != Some(&b'-'))
}

/// Writes a trailers-only answer.
pub(super) fn write(status: StatusCode, detail: &str, fields: &mut Fields) {
    fields.append(CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    for (name, value) in end(status, detail) {
        fields.append(name, value);
    }
}

/// What the call came to, as it stands in trailers.
pub(super) fn end(
    status: StatusCode,
    detail: &str,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    let message = HeaderValue::try_from(percent_encoded(detail)).ok();
    let message = message.map(|message| (GRPC_MESSAGE, message));
    let status = HeaderValue::from_static(code(status));
    iter::once((GRPC_STATUS, status)).chain(message)
}

/// The gRPC status of an HTTP one.
///
/// gRPC's own table for answers of proxies makes 400 `INTERNAL` and 429 `UNAVAILABLE`, since there
/// it knows nothing but the number. Here it is known who misbehaved and why.
fn code(status: StatusCode) -> &'static str {
    match status {
        // INVALID_ARGUMENT
        StatusCode::BAD_REQUEST | StatusCode::UNSUPPORTED_MEDIA_TYPE => "3",
        // UNAUTHENTICATED
        StatusCode::UNAUTHORIZED => "16",
        // PERMISSION_DENIED
        StatusCode::FORBIDDEN => "7",
        // UNIMPLEMENTED
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => "12",
        // DEADLINE_EXCEEDED
        StatusCode::REQUEST_TIMEOUT => "4",
        // RESOURCE_EXHAUSTED
        StatusCode::PAYLOAD_TOO_LARGE
        | StatusCode::URI_TOO_LONG
        | StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE
        | StatusCode::TOO_MANY_REQUESTS => "8",
        // UNAVAILABLE
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            "14"
        }
        // UNKNOWN
        _ => "2",
    }
}

/// The text as `grpc-message` carries it: all but visible ASCII and the space, and `%` itself, as
/// percent escapes (gRPC over HTTP/2, "Responses").
fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("100 % of é\n"), "100 %25 of %C3%A9%0A");
    }

    #[test]
    fn grpc_is_told_by_its_media_type() {
        let asks = |value: &'static str| {
            let fields = Fields::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            is_grpc(&fields)
        };
        assert!(asks("application/grpc"));
        assert!(asks("Application/gRPC+proto"));
        assert!(asks("application/grpc; charset=utf-8"));
        assert!(!asks("application/json"));
        assert!(!asks("application/grp"));
        assert!(!is_grpc(&Fields::default()));
    }

    #[test]
    fn an_answer_of_grpc_web_ends_in_its_body() {
        let ends = |value: &'static str| {
            let fields = Fields::from_iter([(CONTENT_TYPE, HeaderValue::from_static(value))]);
            ends_in_trailers(&fields)
        };
        assert!(ends("application/grpc"));
        assert!(ends("application/grpc+proto"));
        assert!(!ends("application/grpc-web+proto"));
        assert!(!ends("application/json"));
    }
}
