//! A request's head, from text.

use http::header::{HeaderName, HeaderValue};
use http::{Method, Uri};

use crate::rules::fields::Fields;

/// A request's head as a server's library has read it.
pub(crate) struct Head {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) fields: Fields,
}

/// Reads the head of an HTTP/1 request; `None` for what the library would have refused.
pub(crate) fn head(data: &[u8]) -> Option<Head> {
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut request = httparse::Request::new(&mut lines);
    request.parse(data).ok()?.is_complete().then_some(())?;
    Some(Head {
        method: request.method?.parse().ok()?,
        uri: request.path?.parse().ok()?,
        fields: request
            .headers
            .iter()
            .map(|line| pair(line.name.as_bytes(), line.value))
            .collect::<Option<_>>()?,
    })
}

/// Reads lines such as `name: value`; what no header can be is left out.
pub(crate) fn lines(data: &[u8]) -> Fields {
    data.split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let colon = line.iter().position(|byte| *byte == b':')?;
            pair(&line[..colon], line[colon + 1..].trim_ascii())
        })
        .take(256)
        .collect()
}

fn pair(name: &[u8], value: &[u8]) -> Option<(HeaderName, HeaderValue)> {
    let name = HeaderName::from_bytes(name).ok()?;
    Some((name, HeaderValue::from_bytes(value).ok()?))
}
