//! The keys that access tokens are verified with, for everyone (RFC 7517 §5).

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Response};

use crate::rules::decision::Refusal;

use super::Tokens;

impl Tokens {
    /// The set, to be kept for five minutes: half as long as a key is published before it signs.
    pub(super) fn keys(&self) -> Result<Response<Bytes>, Refusal> {
        let ring = self.access()?.ring()?;
        let mut response = Response::new(Bytes::from(ring.published.to_string()));
        let headers = response.headers_mut();
        let media_type = HeaderValue::from_static("application/jwk-set+json");
        headers.insert(CONTENT_TYPE, media_type);
        let kept = HeaderValue::from_static("public, max-age=300");
        headers.insert(CACHE_CONTROL, kept);
        Ok(response)
    }
}
