//! Step 8 of a request's life: the head that the upstream sees.

use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::uri::PathAndQuery;
use http::{Uri, Version, request};

use crate::rules::credential::Kind;
use crate::rules::form::{Line, Lines};
use crate::rules::headers::{self, Scrub};

use super::admission::Entrant;
use super::peer::{Caller, Peer, X_REQUEST_ID};
use super::snapshot::{Identity, Route, Snapshot};

/// How many lines are written to an ordinary head.
const WRITTEN: usize = 9;

/// What is written, besides what the request says itself.
pub(super) struct Rewrite<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) route: &'a Route,
    pub(super) peer: &'a Peer,
    pub(super) caller: Caller,
    pub(super) request_id: &'a HeaderValue,
    /// The host that the request was judged by, where its target names it.
    pub(super) host: Option<HeaderValue>,
    /// A browser's question on behalf of nobody: no credential of any kind goes with it.
    pub(super) bare: bool,
    pub(super) lines: Lines,
}

impl Rewrite<'_> {
    /// Turns a caller's head into the upstream's.
    pub(super) fn apply(self, parts: &mut request::Parts, entrant: &Entrant, has_body: bool) {
        let trailers = self.lines.has(Line::Te) && headers::accepts_trailers(&parts.headers);
        let scrub = Scrub {
            trusted_peer: self.caller.through_trusted,
            keep_api_key: !self.bare && self.route.config.forward.contains(Kind::ApiKey),
            take_authorization: self.bare || entrant.take_authorization,
        };
        self.snapshot
            .headers
            .scrub_request(&mut parts.headers, scrub);
        if self.bare {
            parts.headers.remove(header::COOKIE);
        }
        if parts.version == Version::HTTP_2 {
            join_cookies(&mut parts.headers);
        }
        parts.version = Version::HTTP_11;
        // Room for all that is written, made once.
        parts.headers.reserve(WRITTEN);
        if let Some(host) = self.host {
            parts.headers.insert(header::HOST, host);
        }
        if trailers {
            parts
                .headers
                .insert(header::TE, HeaderValue::from_static("trailers"));
            parts
                .headers
                .insert(header::CONNECTION, HeaderValue::from_static("te"));
        }
        // Trailers announced over HTTP/2 need chunks in HTTP/1.1, whatever length is declared.
        if has_body && (self.lines.has(Line::Trailer) || !self.lines.has(Line::ContentLength)) {
            parts.headers.remove(header::CONTENT_LENGTH);
            // Said here, because the HTTP library expects no body of some methods.
            parts.headers.insert(
                header::TRANSFER_ENCODING,
                HeaderValue::from_static("chunked"),
            );
        }
        if has_body && let Some(length) = declared_length(&parts.headers) {
            // One line, as a number is written, whatever stood there.
            parts
                .headers
                .insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        }
        self.peer
            .write_forwarded(&mut parts.headers, self.caller.through_trusted);
        parts.headers.insert(X_REQUEST_ID, self.request_id.clone());
        if !self.bare {
            write_identity(&self.snapshot.identity, &mut parts.headers, entrant);
        }
        make_origin_form(&mut parts.uri);
    }
}

/// How long the body is said to be.
pub(super) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    let length = headers.get(header::CONTENT_LENGTH)?;
    length.to_str().ok()?.parse().ok()
}

fn write_identity(names: &Identity, headers: &mut HeaderMap, entrant: &Entrant) {
    let Some(key) = &entrant.key else { return };
    let mut write = |name: &HeaderName, value: &HeaderValue| {
        headers.insert(name.clone(), value.clone());
    };
    write(&names.subject, &key.subject_value);
    write(
        &names.methods,
        &HeaderValue::from_static(Kind::ApiKey.name()),
    );
    write(&names.key_id, &key.id_value);
    if let Some(owner) = &key.owner_value {
        write(&names.key_owner, owner);
    }
    if let Some(scopes) = &key.scopes_value {
        write(&names.scopes, scopes);
    }
}

/// HTTP/2 splits a Cookie into crumbs; HTTP/1.1 has one line (RFC 9113 §8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut crumbs = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return;
    };
    let mut joined = BytesMut::from(first.as_bytes());
    for crumb in std::iter::once(second).chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_maybe_shared(joined.freeze()) {
        headers.insert(header::COOKIE, joined);
    }
}

/// The target that an origin server expects: path and query as they came (RFC 9112 §3.2.1).
fn make_origin_form(uri: &mut Uri) {
    if uri.authority().is_none() {
        return;
    }
    let target = uri
        .path_and_query()
        .cloned()
        .unwrap_or_else(|| PathAndQuery::from_static("/"));
    *uri = Uri::from(target);
}
