//! An answer's body on its way to the caller, and the exchange that ends with it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::answer;
use crate::rules::decision::{Fault, Refusal};
use crate::upstream::body::{Ending, Inbound};
use crate::upstream::response::Broken;

use super::exchange::Exchange;
use super::serve::cut_short;

/// The body of an answer.
pub struct AnswerBody {
    kind: Kind,
    exchange: Box<Exchange>,
}

enum Kind {
    /// One of gatelet's own; empty when it was sent.
    Own(Bytes),
    /// The upstream's.
    Relayed {
        inbound: Inbound,
        /// Whether the stream had to wait already. Most answers are whole at once.
        waited: bool,
        /// What ends the stream with its credential; made when it first has to wait.
        ending: Option<Ending>,
        /// It is told in trailers when it is cut off.
        grpc: bool,
    },
}

/// Why an answer was cut off.
#[derive(Debug)]
pub enum Cut {
    /// The upstream broke off.
    Upstream(Broken),
    /// The caller's credential expired or was revoked.
    Ended(Refusal),
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Upstream(_) => "the upstream broke off its answer",
            Self::Ended(_) => "the caller's credential ended",
        })
    }
}

impl std::error::Error for Cut {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Upstream(error) => Some(error),
            Self::Ended(_) => None,
        }
    }
}

impl AnswerBody {
    /// A body of gatelet's own.
    pub(super) fn own(bytes: Bytes, exchange: Box<Exchange>) -> Self {
        Self {
            kind: Kind::Own(bytes),
            exchange,
        }
    }

    /// The upstream's, cut off when the exchange's credential is refused. Where it is `grpc`, its end
    /// tells why.
    pub(super) fn relayed(mut inbound: Inbound, mut exchange: Box<Exchange>, grpc: bool) -> Self {
        if inbound.is_end_stream() {
            inbound.settle(exchange.finish());
        }
        Self {
            kind: Kind::Relayed {
                inbound,
                waited: false,
                ending: None,
                grpc,
            },
            exchange,
        }
    }

    /// Ends an answer before its end.
    fn cut(&mut self, cut: Cut) -> Result<Frame<Bytes>, Cut> {
        self.exchange.finish();
        if !matches!(self.kind, Kind::Relayed { grpc: true, .. }) {
            return Err(cut);
        }
        let refusal = match cut {
            Cut::Ended(refusal) => refusal,
            // With its request cut off, an upstream breaks off its answer, and is not to blame.
            Cut::Upstream(_) => match self.exchange.body_cut() {
                Some(cut) => cut_short(&cut),
                None => Fault::UpstreamUnreachable.into(),
            },
        };
        // Nothing follows.
        self.kind = Kind::Own(Bytes::new());
        Ok(Frame::trailers(answer::grpc_end(&refusal)))
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let this = &mut *self;
        let (inbound, waited, ending) = match &mut this.kind {
            Kind::Own(bytes) => {
                let bytes = std::mem::take(bytes);
                if bytes.is_empty() {
                    this.exchange.finish();
                    return Poll::Ready(None);
                }
                this.exchange.sent(bytes.len());
                this.exchange.finish();
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Kind::Relayed {
                inbound,
                waited,
                ending,
                ..
            } => (inbound, waited, ending),
        };
        // An ordinary answer that began in time may end, although an access token expires meanwhile:
        // what goes on and on is cut, and everything that was revoked.
        let is_sized = inbound.size_hint().exact().is_some();
        if let Some(ended) = ending
            && let Poll::Ready(refusal) = ended.as_mut().poll(cx)
        {
            *ending = None;
            if !(is_sized && this.exchange.has_expired()) {
                return Poll::Ready(Some(this.cut(Cut::Ended(refusal))));
            }
        }
        match Pin::new(&mut *inbound).poll_frame(cx) {
            Poll::Pending => {
                if !std::mem::replace(waited, true)
                    && let Some(mut ended) = this.exchange.ending()
                {
                    match ended.as_mut().poll(cx) {
                        Poll::Pending => *ending = Some(ended),
                        Poll::Ready(_) if is_sized && this.exchange.has_expired() => {}
                        Poll::Ready(refusal) => {
                            return Poll::Ready(Some(this.cut(Cut::Ended(refusal))));
                        }
                    }
                }
                Poll::Pending
            }
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    this.exchange.sent(data.len());
                }
                if inbound.is_end_stream() {
                    inbound.settle(this.exchange.finish());
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(this.cut(Cut::Upstream(error)))),
            Poll::Ready(None) => {
                inbound.settle(this.exchange.finish());
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Own(bytes) => bytes.is_empty(),
            Kind::Relayed { inbound, .. } => inbound.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Own(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::Relayed { inbound, .. } => inbound.size_hint(),
        }
    }
}
