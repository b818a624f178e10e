//! Cross-origin answers (Fetch §3.2), where `[cors]` asks gatelet for them.

use http::header::{self, HeaderValue};
use http::{Method, Response, StatusCode};

use crate::rules::fields::Fields;

use super::{Cors, CorsMode};

/// What scripts of a listed origin may read besides the safelisted headers.
const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-session-expires-at, x-session-max-expires-at, x-request-id, retry-after",
);

/// What gatelet owns on every answer when it answers.
const FAMILY: &str = "access-control-";

/// Whether this is a browser's question before a request, and not an ordinary OPTIONS.
pub(super) fn is_preflight(method: &Method, fields: &Fields) -> bool {
    *method == Method::OPTIONS
        && fields.contains(&header::ORIGIN)
        && fields.contains(&header::ACCESS_CONTROL_REQUEST_METHOD)
}

impl Cors {
    /// Whether gatelet answers, rather than the upstream.
    pub(super) fn answers(&self) -> bool {
        self.mode == CorsMode::Answer
    }

    /// The one listed origin that this request names.
    fn origin(&self, request: &Fields) -> Option<&HeaderValue> {
        let mut origins = request.get_all(&header::ORIGIN);
        let origin = origins.next()?;
        if origins.next().is_some() {
            return None;
        }
        self.origins.iter().find(|listed| *listed == origin)
    }

    /// Answers a preflight: 204, and what is allowed if its origin is listed.
    pub(super) fn preflight(&self, request: &Fields) -> Response<()> {
        let mut response = Response::new(());
        *response.status_mut() = StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        if self.origin(request).is_some() {
            let asked = |name| HeaderValue::from_bytes(request.get(name)?).ok();
            if let Some(method) = asked(&header::ACCESS_CONTROL_REQUEST_METHOD) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, method);
            }
            if let Some(names) = asked(&header::ACCESS_CONTROL_REQUEST_HEADERS) {
                headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, names);
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
    pub(super) fn grant(&self, request: &Fields) -> Grant {
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
    pub(super) fn write(self, fields: &mut Fields, is_preflight: bool) {
        if !is_preflight {
            fields.retain(|name, _| !name.as_str().starts_with(FAMILY));
        }
        fields.append(header::VARY, HeaderValue::from_static("Origin"));
        if let Some(origin) = self.origin {
            fields.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            fields.insert(
                header::ACCESS_CONTROL_ALLOW_CREDENTIALS,
                HeaderValue::from_static("true"),
            );
            if !is_preflight {
                fields.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
            }
        }
    }
}
