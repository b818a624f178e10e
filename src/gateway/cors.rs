//! Cross-origin answers (Fetch §3.2), where `[cors]` asks gatelet for them.

use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Response, StatusCode};

use super::{Cors, CorsMode};

/// What scripts of a listed origin may read besides the safelisted headers.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-session-expires-at, x-session-max-expires-at, x-request-id, retry-after",
);

/// What gatelet owns on every answer when it answers.
const FAMILY: &str = "access-control-";

/// Whether this is a browser's question before a request, and not an ordinary OPTIONS.
pub(super) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    *method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    /// Whether gatelet answers, rather than the upstream.
    pub(super) fn answers(&self) -> bool {
        self.mode == CorsMode::Answer
    }

    /// The one listed origin that this request names.
    fn origin(&self, request: &HeaderMap) -> Option<&HeaderValue> {
        let mut origins = request.get_all(header::ORIGIN).iter();
        let origin = origins.next()?;
        if origins.next().is_some() {
            return None;
        }
        self.origins.iter().find(|listed| *listed == origin)
    }

    /// Answers a preflight: 204, and what is allowed if its origin is listed.
    pub(super) fn preflight(&self, request: &HeaderMap) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        if self.origin(request).is_some() {
            if let Some(method) = request.get(header::ACCESS_CONTROL_REQUEST_METHOD) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method.clone());
            }
            if let Some(names) = request.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names.clone());
            }
            headers.insert(
                header::ACCESS_CONTROL_MAX_AGE,
                HeaderValue::from(self.max_age.as_secs()),
            );
        }
        headers.insert(
            header::VARY,
            HeaderValue::from_static(
                "Access-Control-Request-Method, Access-Control-Request-Headers",
            ),
        );
        response
    }

    /// What an answer to this request will say, decided before the request is given away.
    pub(super) fn grant(&self, request: &HeaderMap) -> Grant {
        Grant {
            origin: self.origin(request).cloned(),
        }
    }
}

/// What one answer says of its origin.
#[derive(Debug)]
pub(super) struct Grant {
    origin: Option<HeaderValue>,
}

impl Grant {
    /// Writes it, over whatever the upstream said.
    pub(super) fn write(self, headers: &mut HeaderMap, is_preflight: bool) {
        if !is_preflight {
            while let Some(theirs) = headers
                .keys()
                .find(|name| name.as_str().starts_with(FAMILY))
                .cloned()
            {
                headers.remove(theirs);
            }
        }
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.origin {
            headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
            if !is_preflight {
                headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            }
        }
    }
}
