//! Requests and answers as they pass through gatelet, over whatever protocol they came.

use http::{Extensions, HeaderMap, Method, StatusCode, Uri, Version, request, response};
use hyper::ext::ReasonPhrase;

use crate::rules::fields::Fields;

/// A request's head.
#[derive(Debug)]
pub struct Request {
    /// What is asked for.
    pub method: Method,
    /// Of what.
    pub uri: Uri,
    /// Over which version of HTTP.
    pub version: Version,
    /// What is said besides.
    pub fields: Fields,
    /// What may become of its connection.
    pub extensions: Extensions,
}

impl From<request::Parts> for Request {
    fn from(parts: request::Parts) -> Self {
        Self {
            method: parts.method,
            uri: parts.uri,
            version: parts.version,
            fields: parts.headers.into(),
            extensions: parts.extensions,
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Response<B> {
    /// How it went.
    pub status: StatusCode,
    /// What the status is called, where it is not by its usual name.
    pub reason: Option<ReasonPhrase>,
    /// What is said besides.
    pub fields: Fields,
    /// What follows the head.
    pub body: B,
}

impl<B> Response<B> {
    /// The answer with another body.
    pub fn map<C>(self, map: impl FnOnce(B) -> C) -> Response<C> {
        Response {
            status: self.status,
            reason: self.reason,
            fields: self.fields,
            body: map(self.body),
        }
    }
}

impl<B> From<http::Response<B>> for Response<B> {
    fn from(response: http::Response<B>) -> Self {
        let (
            response::Parts {
                status, headers, ..
            },
            body,
        ) = response.into_parts();
        Self {
            status,
            reason: None,
            fields: headers.into(),
            body,
        }
    }
}

impl<B> From<Response<B>> for http::Response<B> {
    /// Without the name of its status: HTTP/2 has none.
    fn from(response: Response<B>) -> Self {
        let mut converted = Self::new(response.body);
        *converted.status_mut() = response.status;
        *converted.headers_mut() = HeaderMap::from(response.fields);
        converted
    }
}
