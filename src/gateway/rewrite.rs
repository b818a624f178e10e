//! Step 8 of a request's life: the head that the upstream sees.

use http::Method;
use http::header::{self, HeaderName, HeaderValue};
use http::uri::PathAndQuery;

use crate::authn::proven::Proven;
use crate::rules::credential::Kind;
use crate::rules::fields::{Fields, number};
use crate::rules::form::{Line, Lines};
use crate::rules::forwarded::{Caller, RequestId, X_REQUEST_ID};
use crate::rules::headers::{self, Scrub};
use crate::upstream::head::Head;
use crate::upstream::tunnel::Upgrade;
use crate::wire::message::Request;

use super::admission::Entrant;
use super::peer::{Forwarded, Peer};
use super::snapshot::{Identity, Route, Snapshot};

/// What is written, besides what the request says itself.
pub(super) struct Rewrite<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) route: &'a Route,
    pub(super) peer: &'a Peer,
    pub(super) caller: Caller,
    pub(super) request_id: &'a RequestId,
    /// The host that the request was judged by, where its target names it.
    pub(super) host: Option<HeaderValue>,
    /// A browser's question on behalf of nobody: no credential of any kind goes with it.
    pub(super) bare: bool,
    pub(super) upgrade: Option<Upgrade>,
    pub(super) lines: Lines,
}

impl Rewrite<'_> {
    /// The upstream's head, made of a caller's.
    pub(super) fn head(&self, request: &Request, entrant: &Entrant) -> Head {
        let method = match self.upgrade {
            // A WebSocket is a GET in HTTP/1.1 (RFC 8441 §5).
            Some(_) => &Method::GET,
            None => &request.method,
        };
        // The target that an origin server expects (RFC 9112 §3.2.1).
        let root;
        let target = if let Some(target) = request.uri.path_and_query() {
            target
        } else {
            root = PathAndQuery::from_static("/");
            &root
        };
        let mut head = self.route.pool.config().head(method, target);
        let told = self.pass(&mut head, &request.fields, entrant);
        if self.lines.has(Line::Cookie) && !self.bare {
            // HTTP/2 splits a Cookie into crumbs; HTTP/1.1 has one line (RFC 9113 §8.2.3).
            let cookies = self.snapshot.headers.cookies(&request.fields, self.lines);
            let mut cookies = cookies.peekable();
            if cookies.peek().is_some() {
                head.joined(&header::COOKIE, "; ", cookies);
            }
        }
        let trailers = self.lines.has(Line::Te) && headers::accepts_trailers(&request.fields);
        if trailers && self.upgrade.is_none() {
            head.line(&header::TE, b"trailers");
            head.line(&header::CONNECTION, b"te");
        }
        self.peer.write_forwarded(&mut head, &told);
        head.line(&X_REQUEST_ID, self.request_id.as_bytes());
        if !self.bare {
            if let Some(names) = self.peer.certificate() {
                head.line(&self.snapshot.identity.certificate, names.as_bytes());
            }
            write_identity(&self.snapshot.identity, &mut head, &entrant.proven);
        }
        head
    }

    /// Writes what passes as it came, but for what gatelet writes anew.
    fn pass<'f>(&'f self, head: &mut Head, fields: &'f Fields, entrant: &Entrant) -> Forwarded<'f> {
        let scrub = Scrub {
            trusted_peer: self.caller.through_trusted,
            keep_api_key: !self.bare && self.route.config.forward.contains(Kind::ApiKey),
            take_authorization: self.bare || entrant.take_authorization,
        };
        let mut told = Forwarded::default();
        if let Some(host) = &self.host {
            head.line(&header::HOST, host.as_bytes());
            told.host = Some(host.as_bytes());
        }
        let passes = self.snapshot.headers.passing(fields, self.lines, scrub);
        head.pass(fields, |name, value| {
            if !passes(name) {
                return false;
            }
            if *name == header::HOST {
                let is_first = told.host.is_none();
                told.host = told.host.or(Some(value));
                return is_first;
            }
            let is_told = self.caller.through_trusted && told.takes(name, value);
            !is_told && !self.is_written_anew(name)
        });
        told
    }

    fn is_written_anew(&self, name: &HeaderName) -> bool {
        match self.upgrade {
            None => *name == header::CONTENT_LENGTH,
            // No body goes with it, so that nothing may announce one.
            Some(upgrade) => {
                *name == header::CONTENT_LENGTH
                    || *name == header::TRAILER
                    || (upgrade == Upgrade::Http2 && *name == header::SEC_WEBSOCKET_KEY)
            }
        }
    }
}

/// How long the body is said to be.
pub(super) fn declared_length(fields: &Fields) -> Option<u64> {
    number(fields.get(&header::CONTENT_LENGTH)?)
}

fn write_identity(names: &Identity, head: &mut Head, proven: &Proven) {
    let (Some(identity), Some(methods)) = (proven.identity(), proven.methods()) else {
        return;
    };
    head.line(&names.subject, identity.subject_value.as_bytes());
    head.line(&names.methods, methods.as_bytes());
    let mut write = |name, value: Option<&HeaderValue>| {
        if let Some(value) = value {
            head.line(name, value.as_bytes());
        }
    };
    write(&names.scopes, identity.scopes_value.as_ref());
    if let Some(key) = &proven.key {
        write(&names.key_id, Some(&key.id_value));
        write(&names.key_owner, key.owner_value.as_ref());
    }
    write(&names.session_id, identity.session_value.as_ref());
    write(&names.issuer, identity.issuer_value.as_ref());
}
