//! The names of fields as they are read.

use http::header::{self, HeaderName, InvalidHeaderName};

/// Where keys are shown unless it is configured otherwise.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");

/// A field's name, whatever its case.
///
/// Those that most messages have, in the spellings of most of their senders, are compared; any other one is
/// looked up, or copied.
pub fn name(bytes: &[u8]) -> Result<HeaderName, InvalidHeaderName> {
    Ok(match bytes {
        b"Host" | b"host" => header::HOST,
        b"Date" | b"date" => header::DATE,
        b"Accept" | b"accept" => header::ACCEPT,
        b"Server" | b"server" => header::SERVER,
        b"Connection" | b"connection" => header::CONNECTION,
        b"User-Agent" | b"user-agent" => header::USER_AGENT,
        b"Content-Type" | b"content-type" => header::CONTENT_TYPE,
        b"Authorization" | b"authorization" => header::AUTHORIZATION,
        b"Cache-Control" | b"cache-control" => header::CACHE_CONTROL,
        b"Content-Length" | b"content-length" => header::CONTENT_LENGTH,
        b"Accept-Encoding" | b"accept-encoding" => header::ACCEPT_ENCODING,
        b"x-api-key" | b"X-Api-Key" | b"X-API-Key" | b"X-API-KEY" => X_API_KEY,
        _ => return HeaderName::from_bytes(bytes),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_one_that_the_library_reads() {
        for written in [
            "Host",
            "Date",
            "Accept",
            "Server",
            "Connection",
            "User-Agent",
            "Content-Type",
            "Authorization",
            "Cache-Control",
            "Content-Length",
            "Accept-Encoding",
            "X-API-Key",
            "X-Api-Key",
            "Cookie",
            "X-Request-Id",
            "Hosts",
        ] {
            for spelled in [
                written.to_owned(),
                written.to_lowercase(),
                written.to_uppercase(),
            ] {
                let read = HeaderName::from_bytes(spelled.as_bytes()).unwrap();
                assert_eq!(name(spelled.as_bytes()).unwrap(), read, "{spelled}");
            }
        }
        assert!(name(b"a b").is_err());
        assert!(name(b"").is_err());
    }
}
