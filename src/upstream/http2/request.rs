//! A request as it goes to an upstream over HTTP/2 (RFC 9113 §8.3).

use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Method, Request, Uri};
use http_body::Body;
use hyper::ext::Protocol;

use crate::upstream::body::Outbound;
use crate::upstream::head::expects_body;
use crate::wire::scratch;

/// Room for an ordinary head.
const LINES: usize = 24;

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    method: Method,
    target: PathAndQuery,
    scheme: Scheme,
    authority: Option<HeaderValue>,
    headers: HeaderMap,
    opens_websocket: bool,
}

impl Head {
    /// A head that asks for `target`, path and query as they are.
    pub(in crate::upstream) fn new(method: &Method, target: &PathAndQuery, scheme: Scheme) -> Self {
        Self {
            method: method.clone(),
            target: target.clone(),
            scheme,
            authority: None,
            headers: HeaderMap::with_capacity(LINES),
            opens_websocket: false,
        }
    }

    /// Adds a line. The host is not one here (§8.3.1), and nothing is said of the connection (§8.2.2).
    ///
    /// The value is one that was read as a value: it holds nothing that none may hold.
    pub(in crate::upstream) fn line(&mut self, name: &HeaderName, value: &[u8]) {
        if *name == header::CONNECTION {
            return;
        }
        let Ok(value) = HeaderValue::from_maybe_shared(scratch::copied(value)) else {
            return;
        };
        if *name == header::HOST {
            self.authority = Some(value);
        } else {
            self.headers.append(name, value);
        }
    }

    /// Adds a line with one value of several parts, with `separator` between them.
    pub(in crate::upstream) fn joined(
        &mut self,
        name: &HeaderName,
        separator: &str,
        parts: impl IntoIterator<Item: AsRef<[u8]>>,
    ) {
        let mut value = Vec::new();
        for (at, part) in parts.into_iter().enumerate() {
            if at > 0 {
                value.extend_from_slice(separator.as_bytes());
            }
            value.extend_from_slice(part.as_ref());
        }
        // The parts are of values that were header values.
        if let Ok(value) = HeaderValue::from_maybe_shared(bytes::Bytes::from(value)) {
            self.headers.append(name, value);
        }
    }

    /// Asks for a WebSocket (RFC 8441 §4), with `key` where the caller has said none.
    ///
    /// HTTP/2 itself has no use for it (§5), but a proxy that goes on over HTTP/1.1 may make none.
    pub(in crate::upstream) fn open_websocket(&mut self, key: Option<HeaderValue>) {
        self.method = Method::CONNECT;
        self.opens_websocket = true;
        if let Some(key) = key {
            self.headers.insert(header::SEC_WEBSOCKET_KEY, key);
        }
    }

    /// The request with this body; `length` is what is said of how long it is.
    pub(in crate::upstream) fn complete(
        mut self,
        body: Outbound,
        length: Option<u64>,
    ) -> Request<Outbound> {
        let expected = (expects_body(&self.method) && body.is_end_stream()).then_some(0);
        if let Some(length) = length.or(expected) {
            self.headers.insert(header::CONTENT_LENGTH, length.into());
        }
        let mut request = Request::new(body);
        *request.uri_mut() = uri(self.scheme, self.authority.as_ref(), self.target);
        *request.method_mut() = self.method;
        *request.headers_mut() = self.headers;
        if self.opens_websocket {
            let protocol = Protocol::from_static("websocket");
            request.extensions_mut().insert(protocol);
        }
        request
    }
}

/// What `:scheme`, `:authority` and `:path` are made of.
fn uri(scheme: Scheme, host: Option<&HeaderValue>, target: PathAndQuery) -> Uri {
    // A host that was judged is an authority.
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut parts = http::uri::Parts::default();
    parts.scheme = authority.is_some().then_some(scheme);
    parts.authority = authority;
    parts.path_and_query = Some(rooted(target));
    Uri::from_parts(parts).unwrap_or_default()
}

/// Nothing but a query is asked of the root, and was judged as that.
fn rooted(target: PathAndQuery) -> PathAndQuery {
    if target.as_str().starts_with('/') {
        return target;
    }
    PathAndQuery::try_from(format!("/{}", target.as_str())).unwrap_or(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(method: &Method, target: &str) -> Head {
        let mut head = Head::new(method, &target.parse().unwrap(), Scheme::HTTP);
        head.line(&header::HOST, b"api.test:8080");
        head
    }

    #[test]
    fn the_host_is_the_authority_and_the_path_is_as_it_came() {
        let mut head = head(&Method::GET, "/a%2Fb/?q=%20;x");
        head.line(&header::ACCEPT, b"a");
        head.line(&header::ACCEPT, b"b");
        head.line(&header::CONNECTION, b"te");
        head.joined(&header::COOKIE, "; ", [&b"a=1"[..], b"b=2"]);
        let request = head.complete(Outbound::Empty, None);
        let uri = request.uri();
        assert_eq!(uri.to_string(), "http://api.test:8080/a%2Fb/?q=%20;x");
        let lines: Vec<_> = request.headers().iter().collect();
        let line = |name: &'static str, value: &'static str| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        let expected = [
            line("accept", "a"),
            line("accept", "b"),
            line("cookie", "a=1; b=2"),
        ];
        assert!(
            lines
                .into_iter()
                .eq(expected.iter().map(|(name, value)| (name, value)))
        );
    }

    #[test]
    fn a_query_alone_is_asked_of_the_root() {
        let request = head(&Method::GET, "?a=b").complete(Outbound::Empty, Some(0));
        assert_eq!(request.uri().path_and_query().unwrap().as_str(), "/?a=b");
        assert_eq!(request.headers()[header::CONTENT_LENGTH], "0");
    }

    #[test]
    fn a_websocket_is_asked_for_with_connect() {
        let mut head = head(&Method::GET, "/chat");
        head.open_websocket(Some(HeaderValue::from_static("k")));
        let request = head.complete(Outbound::Empty, None);
        assert_eq!(request.method(), Method::CONNECT);
        assert_eq!(request.uri().path(), "/chat");
        assert_eq!(request.headers().len(), 1);
        assert_eq!(request.headers()[header::SEC_WEBSOCKET_KEY], "k");
        let protocol = request.extensions().get::<Protocol>().unwrap();
        assert_eq!(protocol.as_str(), "websocket");
    }
}
