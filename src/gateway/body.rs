//! An answer's body on its way to the caller, and the exchange that ends with it.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::answer;
use crate::rules::decision::{Fault, Refusal};
use crate::upstream::body::{Ending, Inbound};
use crate::upstream::response::Broken;

use super::exchange::Exchange;
use super::serve::cut_short;

/// A stream longer than this is asked about even where it never has to wait.
const UNWATCHED: u64 = 64 * 1024;

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
        watch: Watch,
        /// It is told in trailers when it is cut off.
        grpc: bool,
    },
}

/// Whether the caller may still receive what a stream sends.
enum Watch {
    /// Nobody asked yet. Most answers are whole at once.
    Unasked,
    /// What ends the stream with its credential, if anything does.
    Asked(Option<Ending>),
}

impl Watch {
    /// Ready when a stream of which so much was sent has to end. It is asked from the first time on that the
    /// stream `waits` or is long: an upstream that is always ahead of its caller is never waited for.
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        waits: bool,
        sent: u64,
        ending: impl FnOnce() -> Option<Ending>,
    ) -> Poll<Refusal> {
        let begins = matches!(self, Self::Unasked) && (waits || sent > UNWATCHED);
        if begins {
            *self = Self::Asked(ending());
        } else if waits {
            // It was asked before the stream was read.
            return Poll::Pending;
        }
        let Self::Asked(ending) = self else {
            return Poll::Pending;
        };
        let Some(ended) = ending else {
            return Poll::Pending;
        };
        let refusal = ready!(ended.as_mut().poll(cx));
        *ending = None;
        Poll::Ready(refusal)
    }
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
                watch: Watch::Unasked,
                grpc,
            },
            exchange,
        }
    }

    /// Ends an answer before its end.
    fn cut(&mut self, cut: Cut) -> Result<Frame<Bytes>, Cut> {
        let refusal = match &cut {
            Cut::Ended(refusal) => refusal.clone(),
            // With its request cut off, an upstream breaks off its answer, and is not to blame.
            Cut::Upstream(_) => match self.exchange.body_cut() {
                Some(cut) => cut_short(&cut),
                None => Fault::UpstreamUnreachable.into(),
            },
        };
        self.exchange.cut(&refusal);
        if !matches!(self.kind, Kind::Relayed { grpc: true, .. }) {
            return Err(cut);
        }
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
        let (inbound, watch) = match &mut this.kind {
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
            Kind::Relayed { inbound, watch, .. } => (inbound, watch),
        };
        // An ordinary answer that began in time may end, although an access token expires meanwhile, and is
        // not asked about any more: what goes on and on is cut, and what is revoked before it expires.
        let is_sized = inbound.size_hint().exact().is_some();
        let exchange = &this.exchange;
        let mut poll_ended = |cx: &mut Context<'_>, waits| {
            let ended = watch.poll(cx, waits, exchange.bytes_out(), || exchange.ending());
            match ended {
                Poll::Ready(refusal) if !(is_sized && exchange.has_expired()) => Some(refusal),
                _ => None,
            }
        };
        if let Some(refusal) = poll_ended(cx, false) {
            return Poll::Ready(Some(this.cut(Cut::Ended(refusal))));
        }
        match Pin::new(&mut *inbound).poll_frame(cx) {
            Poll::Pending => match poll_ended(cx, true) {
                Some(refusal) => Poll::Ready(Some(this.cut(Cut::Ended(refusal)))),
                None => Poll::Pending,
            },
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

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use crate::rules::decision::Reject;

    use super::*;

    /// Whether a stream that has sent so much is ended by what has ended already.
    fn is_ended(waits: bool, sent: u64) -> bool {
        let refusal: Refusal = Reject::TokenInvalid.into();
        let ending: Ending = Box::pin(std::future::ready(refusal));
        let mut cx = Context::from_waker(Waker::noop());
        let ended = Watch::Unasked.poll(&mut cx, waits, sent, || Some(ending));
        ended.is_ready()
    }

    #[test]
    fn a_stream_is_asked_about_once_it_waits_or_is_long() {
        assert!(!is_ended(false, UNWATCHED), "whole at once");
        assert!(is_ended(true, 0), "it waits");
        assert!(is_ended(false, UNWATCHED + 1), "always ahead of its caller");
    }
}
