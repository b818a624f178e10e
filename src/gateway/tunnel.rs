//! The tunnels that upgrades open: until either side ends, or the credential does.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use crate::platform::Hold;
use crate::rules::fields::Fields;
use crate::upstream::body::Ending;
use crate::upstream::tunnel::{self, Upgrade, UpstreamEnd};
use crate::wire::message::Response;
use crate::wire::upgraded::CallersEnd;

use super::serve::Walk;

/// What a tunnel is made of.
pub(super) struct Tunnel {
    pub(super) upgrade: Upgrade,
    pub(super) callers_end: CallersEnd,
    pub(super) upstreams_end: UpstreamEnd,
    /// The caller's connection, for the count and the drain.
    pub(super) hold: Option<Hold>,
    pub(super) ending: Option<Ending>,
    /// What answers the caller's key, where it is not the upstream's answer that does.
    pub(super) accept: Option<HeaderValue>,
}

impl Walk<'_> {
    /// Accepts the upstream's 101 and lets bytes pass until either side or the credential ends.
    pub(super) fn open_tunnel(&self, tunnel: Tunnel, mut fields: Fields) -> Response<Bytes> {
        let Tunnel {
            upgrade,
            callers_end,
            upstreams_end,
            hold,
            ending,
            accept,
        } = tunnel;
        tokio::spawn(async move {
            let passing = tunnel::relay(callers_end, upstreams_end);
            let ended = async {
                match ending {
                    Some(ending) => ending.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                passed = passing => {
                    if let Err(error) = passed {
                        tracing::debug!(%error, "a tunnel broke");
                    }
                }
                refusal = ended => tracing::debug!(?refusal, "a tunnel was closed"),
            }
            drop(hold);
        });
        self.snapshot.headers.scrub_response(&mut fields);
        let mut status = StatusCode::SWITCHING_PROTOCOLS;
        upgrade.accept(accept, &mut status, &mut fields);
        Response {
            status,
            reason: None,
            fields,
            body: Bytes::new(),
        }
    }

    /// What gatelet asks an upstream with on behalf of a caller over HTTP/2, who has none (RFC 6455 §4.1).
    pub(super) fn websocket_key(&self) -> io::Result<HeaderValue> {
        let mut nonce = [0; 16];
        self.core.platform.entropy.fill(&mut nonce)?;
        HeaderValue::try_from(STANDARD.encode(nonce)).map_err(io::Error::other)
    }
}
