//! Bodies on their way through: a request's to the upstream, an answer's back.
//!
//! Nothing is buffered here: a frame is asked of one side when the other wants it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::platform::Monotonic;
use crate::rules::headers::{self, HeaderRules};
use crate::upstream::pool::Lease;

/// Ends when the caller may no longer send or receive.
pub type Ending = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A request's body on its way to the upstream.
pub enum Outbound {
    /// There is none.
    Empty,
    /// As the caller sends it.
    Streaming(Box<Upload>),
}

/// A body that is being sent.
pub struct Upload {
    incoming: Incoming,
    /// How many more bytes the route allows.
    remaining: Option<u64>,
    rules: Arc<HeaderRules>,
    ending: Option<Ending>,
    meter: Arc<Meter>,
}

/// What became of a request's body, for the side that waits for the answer.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicU64,
    finished: AtomicBool,
    waiting: AtomicBool,
    cut: OnceLock<CutShort>,
}

/// Why a body was cut off, without its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutShort {
    /// The caller went away or broke the framing.
    Broken,
    /// It is larger than the route allows.
    TooLarge,
    /// The caller's credential expired or was revoked.
    Ended,
}

impl Meter {
    /// Bytes that arrived so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// The body arrived whole.
    pub fn finished(&self) -> bool {
        self.finished.load(Ordering::Relaxed)
    }

    /// The next bytes have to come from the caller, and have not come.
    pub fn waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Why the body was cut off, if it was.
    pub fn cut(&self) -> Option<CutShort> {
        self.cut.get().copied()
    }

    fn cut_short(&self, why: CutShort) {
        // The first reason is the one that counts; a body ends only once.
        let _ = self.cut.set(why);
    }
}

/// Why a request's body was cut off.
#[derive(Debug)]
pub enum Cut {
    /// The caller went away or broke the framing.
    Downstream(hyper::Error),
    /// It is larger than the route allows.
    TooLarge,
    /// The caller's credential expired or was revoked.
    Ended,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Downstream(_) => "the caller's body broke off",
            Self::TooLarge => "the body is larger than the route allows",
            Self::Ended => "the caller's credential ended",
        })
    }
}

impl std::error::Error for Cut {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Downstream(error) => Some(error),
            Self::TooLarge | Self::Ended => None,
        }
    }
}

impl Outbound {
    /// The body of a request, cut off past `limit` bytes or when `ending` ends.
    pub fn new(
        incoming: Incoming,
        limit: Option<u64>,
        rules: &Arc<HeaderRules>,
        ending: impl FnOnce() -> Option<Ending>,
    ) -> (Self, Option<Arc<Meter>>) {
        if incoming.is_end_stream() {
            return (Self::Empty, None);
        }
        let meter = Arc::new(Meter::default());
        let upload = Upload {
            incoming,
            remaining: limit,
            rules: Arc::clone(rules),
            ending: ending(),
            meter: Arc::clone(&meter),
        };
        (Self::Streaming(Box::new(upload)), Some(meter))
    }
}

impl Upload {
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            if let Some(ending) = &mut self.ending
                && ending.as_mut().poll(cx).is_ready()
            {
                self.ending = None;
                self.meter.cut_short(CutShort::Ended);
                return Poll::Ready(Some(Err(Cut::Ended)));
            }
            self.meter.waiting.store(true, Ordering::Relaxed);
            return Poll::Pending;
        };
        self.meter.waiting.store(false, Ordering::Relaxed);
        let mut frame = match frame {
            Some(Ok(frame)) => frame,
            Some(Err(error)) => {
                self.meter.cut_short(CutShort::Broken);
                return Poll::Ready(Some(Err(Cut::Downstream(error))));
            }
            None => {
                self.meter.finished.store(true, Ordering::Relaxed);
                return Poll::Ready(None);
            }
        };
        if let Some(data) = frame.data_ref() {
            let length = data.len() as u64;
            self.meter.bytes.fetch_add(length, Ordering::Relaxed);
            if let Some(remaining) = &mut self.remaining {
                let Some(left) = remaining.checked_sub(length) else {
                    self.meter.cut_short(CutShort::TooLarge);
                    return Poll::Ready(Some(Err(Cut::TooLarge)));
                };
                *remaining = left;
            }
        } else if let Some(trailers) = frame.trailers_mut() {
            self.rules.scrub_trailers(trailers);
        }
        if self.incoming.is_end_stream() {
            self.meter.finished.store(true, Ordering::Relaxed);
        }
        Poll::Ready(Some(Ok(frame)))
    }
}

impl Body for Outbound {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        match &mut *self {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(upload) => upload.poll_upload(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(upload) => upload.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(upload) => upload.incoming.size_hint(),
        }
    }
}

/// An answer's body on its way back, and the connection that it comes on.
pub struct Inbound {
    incoming: Incoming,
    lease: Option<Lease>,
}

/// Whether the reader of an answer keeps up, for whoever watches over its connection.
///
/// Counts frames: even while the reader holds one, odd while the upstream is awaited.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicU32);

impl Pace {
    /// The reader was given a part of the answer.
    pub(super) fn holds(&self) {
        let taken = self.0.load(Ordering::Relaxed);
        self.0.store((taken | 1).wrapping_add(1), Ordering::Relaxed);
    }

    /// The reader waits for the upstream, or is done.
    pub(super) fn waits(&self) {
        let taken = self.0.load(Ordering::Relaxed);
        self.0.store(taken | 1, Ordering::Relaxed);
    }

    /// What the reader held at the last look and still holds.
    pub(super) fn held(&self) -> Option<u32> {
        let taken = self.0.load(Ordering::Relaxed);
        (taken & 1 == 0).then_some(taken)
    }
}

impl Inbound {
    /// `lease` is `None` where the connection is a tunnel's from here on.
    pub(super) fn new(incoming: Incoming, lease: Option<Lease>) -> Self {
        if let Some(lease) = &lease {
            lease.reader().holds();
        }
        Self { incoming, lease }
    }

    /// Gives the connection back: the body was read whole, `now`.
    ///
    /// Without this the connection is closed when the body is dropped.
    pub fn settle(&mut self, now: Monotonic) {
        if let Some(lease) = self.lease.take() {
            lease.reader().waits();
            lease.give_back(now);
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        if let Some(lease) = &self.lease {
            match polled {
                Poll::Pending => lease.reader().waits(),
                Poll::Ready(_) => lease.reader().holds(),
            }
        }
        match ready!(polled) {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::scrub_response_trailers(trailers);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.lease = None;
                Poll::Ready(Some(Err(error)))
            }
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}
