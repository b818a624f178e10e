//! Bodies on their way through: a request's to the upstream, an answer's back.
//!
//! Nothing is buffered here: a frame is asked of one side when the other wants it.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::task::unconstrained;
use tokio::time::Sleep;

use crate::platform::Monotonic;
use crate::rules::decision::Refusal;
use crate::rules::headers::{self, HeaderRules};
use crate::upstream::connection::Answer;
use crate::upstream::http2;
use crate::upstream::pool::Lease;
use crate::upstream::response::Broken;
use crate::upstream::tunnel::UpstreamEnd;
use crate::wire::framing::{Framing, Piece};
use crate::wire::incoming::{self, Incoming};
use crate::wire::message::Response;

/// How much of an answer's body is read at once, at first.
const STEP: usize = 8 * 1024;

/// How much of it is read at once where as much is there.
const LARGEST_STEP: usize = 64 * 1024;

/// How much of a request's body may follow what was read before it is asked whether its caller may still send.
const UNWATCHED: u64 = 64 * 1024;

/// Ends when the caller may no longer send or receive, and says why.
pub type Ending = Pin<Box<dyn Future<Output = Refusal> + Send>>;

/// A request's body on its way to the upstream.
pub enum Outbound {
    /// There is none.
    Empty,
    /// As the caller sends it.
    Streaming(Box<Upload>),
}

/// A body that is being sent.
pub struct Upload {
    /// What was waited for before the upstream was asked.
    gathered: Bytes,
    /// What came after that, as the end of the body.
    trailers: Option<HeaderMap>,
    incoming: Incoming,
    /// How many more bytes the route allows.
    remaining: Option<u64>,
    rules: Arc<HeaderRules>,
    ending: Option<Ending>,
    /// How much went through since `ending` was last asked.
    unwatched: u64,
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CutShort {
    /// The caller went away or broke the framing.
    Broken,
    /// It is larger than the route allows.
    TooLarge,
    /// The caller's credential is refused by now.
    Ended(Refusal),
}

impl Meter {
    /// Bytes that arrived so far.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// So many more bytes arrived.
    pub fn arrived(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
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
        self.cut.get().cloned()
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
    Downstream(incoming::Broken),
    /// It is larger than the route allows.
    TooLarge,
    /// The caller's credential expired or was revoked.
    Ended,
    /// The answer was given up: its caller took nothing of it.
    Unwanted,
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Downstream(_) => "the caller's body broke off",
            Self::TooLarge => "the body is larger than the route allows",
            Self::Ended => "the caller's credential ended",
            Self::Unwanted => "the answer was given up",
        })
    }
}

impl std::error::Error for Cut {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Downstream(error) => Some(error),
            Self::TooLarge | Self::Ended | Self::Unwanted => None,
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
            gathered: Bytes::new(),
            trailers: None,
            incoming,
            remaining: limit,
            rules: Arc::clone(rules),
            ending: ending(),
            unwatched: 0,
            meter: Arc::clone(&meter),
        };
        (Self::Streaming(Box::new(upload)), Some(meter))
    }

    /// Waits for all of a body that is said to be small; it may pause for no longer than `patience`.
    ///
    /// So a caller that sends it byte by byte holds no connection to the upstream meanwhile. Not cancel
    /// safe: what arrived is gone with it.
    pub async fn gather(&mut self, patience: Duration) -> Result<(), Ungathered> {
        let Self::Streaming(upload) = self else {
            return Ok(());
        };
        let mut pause: Option<Pin<Box<Sleep>>> = None;
        // A piece keeps all of what it was read into: of a body in pieces, a copy is kept.
        let mut pieces = BytesMut::new();
        poll_fn(|cx| {
            while !upload.incoming.is_end_stream() {
                match upload.poll_incoming(cx) {
                    Poll::Ready(Some(Ok(frame))) => {
                        pause = None;
                        match frame.into_data() {
                            Ok(whole) if pieces.is_empty() && upload.incoming.is_end_stream() => {
                                upload.gathered = whole;
                            }
                            Ok(piece) => pieces.extend_from_slice(&piece),
                            Err(frame) => upload.trailers = frame.into_trailers().ok(),
                        }
                    }
                    Poll::Ready(Some(Err(_))) => {
                        let cut = upload.meter.cut().unwrap_or(CutShort::Broken);
                        return Poll::Ready(Err(Ungathered::Cut(cut)));
                    }
                    Poll::Ready(None) => break,
                    Poll::Pending => {
                        let pause =
                            pause.get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
                        ready!(pause.as_mut().poll(cx));
                        return Poll::Ready(Err(Ungathered::Stalled));
                    }
                }
            }
            Poll::Ready(Ok(()))
        })
        .await?;
        if !pieces.is_empty() {
            upload.gathered = pieces.freeze();
        }
        Ok(())
    }
}

/// Why a body did not come whole.
#[derive(Debug)]
pub enum Ungathered {
    /// It was cut off.
    Cut(CutShort),
    /// Nothing of it came for too long.
    Stalled,
}

impl Upload {
    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if !self.gathered.is_empty() {
            let gathered = std::mem::take(&mut self.gathered);
            return Poll::Ready(Some(Ok(Frame::data(gathered))));
        }
        if let Some(trailers) = self.trailers.take() {
            return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
        }
        if self.incoming.is_end_stream() {
            return Poll::Ready(None);
        }
        self.poll_incoming(cx)
    }

    /// Whether what the request was let in for is refused by now.
    fn has_ended(&mut self, cx: &mut Context<'_>) -> bool {
        self.unwatched = 0;
        // Out of its task's budget it would say that it has not.
        if let Some(ending) = &mut self.ending
            && let Poll::Ready(refusal) = pin!(unconstrained(ending.as_mut())).poll(cx)
        {
            self.ending = None;
            self.meter.cut_short(CutShort::Ended(refusal));
            return true;
        }
        false
    }

    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        // A caller who is always ahead of the upstream is never waited for.
        if self.unwatched > UNWATCHED && self.has_ended(cx) {
            return Poll::Ready(Some(Err(Cut::Ended)));
        }
        let Poll::Ready(frame) = Pin::new(&mut self.incoming).poll_frame(cx) else {
            if self.has_ended(cx) {
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
            self.unwatched = self.unwatched.saturating_add(length);
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
            Self::Streaming(upload) => {
                upload.gathered.is_empty()
                    && upload.trailers.is_none()
                    && upload.incoming.is_end_stream()
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(upload) => {
                let mut size = upload.incoming.size_hint();
                if let Some(left) = size.exact() {
                    size.set_exact(left + upload.gathered.len() as u64);
                }
                size
            }
        }
    }
}

/// An answer's body on its way back.
pub enum Inbound {
    /// Over HTTP/1.1.
    Http1(Http1Answer),
    /// Over HTTP/2.
    Http2(http2::Answer),
    /// There is none: the connection was upgraded.
    Tunnel(UpstreamEnd),
}

/// An answer's body over HTTP/1.1, and the connection that it comes on.
pub struct Http1Answer {
    framing: Framing,
    /// What was read and is not yet passed on.
    read: Bytes,
    /// Where more is read to.
    room: BytesMut,
    /// How much is read at once.
    step: usize,
    /// The connection can carry another request.
    persists: bool,
    rests: bool,
    lease: Option<Lease>,
}

impl Inbound {
    /// An answer over HTTP/1.1 that came on `lease`.
    pub(super) fn http1(answer: Answer, lease: Lease) -> Response<Self> {
        lease.reader().holds();
        let body = Http1Answer {
            framing: answer.framing,
            read: answer.read,
            room: BytesMut::new(),
            step: STEP,
            persists: answer.persists,
            rests: answer.rests,
            lease: Some(lease),
        };
        answer.response.map(|()| Self::Http1(body))
    }

    /// Gives the connection back: the body was read whole, `now`.
    ///
    /// Without this a connection that carries one request at a time is closed when the body is
    /// dropped.
    pub fn settle(&mut self, now: Monotonic) {
        if let Self::Http1(answer) = self {
            answer.settle(now);
        }
    }

    /// The connection, after the answer upgraded it.
    pub fn into_tunnel(self) -> Option<UpstreamEnd> {
        match self {
            Self::Http1(answer) => answer.into_tunnel(),
            Self::Http2(_) => None,
            Self::Tunnel(end) => Some(end),
        }
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self.get_mut() {
            Self::Http1(answer) => answer.poll_frame(cx),
            Self::Http2(answer) => Pin::new(answer).poll_frame(cx),
            Self::Tunnel(_) => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(answer) => answer.framing.is_over(),
            Self::Http2(answer) => answer.is_end_stream(),
            Self::Tunnel(_) => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(answer) => answer
                .framing
                .length()
                .map_or_else(SizeHint::new, SizeHint::with_exact),
            Self::Http2(answer) => answer.size_hint(),
            Self::Tunnel(_) => SizeHint::with_exact(0),
        }
    }
}

impl Http1Answer {
    fn settle(&mut self, now: Monotonic) {
        let Some(lease) = self.lease.take() else {
            return;
        };
        lease.reader().waits();
        // What is left over answers nothing that was asked.
        if self.persists && self.read.is_empty() {
            lease.give_back(self.rests, now);
        }
    }

    fn into_tunnel(mut self) -> Option<UpstreamEnd> {
        let (socket, place) = self.lease.take()?.into_socket()?;
        let read = std::mem::take(&mut self.read);
        Some(UpstreamEnd::connection(read, socket, place))
    }

    /// Reads more behind what is there; false at the end of the connection.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Broken>> {
        let Some(lease) = &self.lease else {
            return Poll::Ready(Err(Broken::Closed));
        };
        self.room.reserve(self.step);
        let Poll::Ready(count) = lease.poll_read(cx, &mut self.room) else {
            lease.reader().waits();
            return Poll::Pending;
        };
        let count = count.map_err(Broken::Io)?;
        let fresh = if count < self.step / 2 {
            // What is read slowly must not hold more memory than it has bytes.
            self.step = (self.step / 2).max(STEP);
            let copied = Bytes::copy_from_slice(&self.room);
            self.room.clear();
            copied
        } else {
            self.step = (2 * self.step).min(LARGEST_STEP);
            self.room.split().freeze()
        };
        self.read = if self.read.is_empty() {
            fresh
        } else {
            [&*self.read, &*fresh].concat().into()
        };
        Poll::Ready(Ok(count > 0))
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Broken>> {
        loop {
            let piece = self.framing.take(&mut self.read)?;
            if piece.is_some() || self.framing.is_over() {
                return Poll::Ready(Ok(piece));
            }
            if ready!(self.poll_more(cx))? {
                continue;
            }
            if self.framing != Framing::Close {
                return Poll::Ready(Err(Broken::Closed));
            }
            self.framing = Framing::Length(0);
        }
    }
}

impl Http1Answer {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let piece = ready!(self.poll_piece(cx));
        if let Some(lease) = &self.lease {
            lease.reader().holds();
        }
        Poll::Ready(match piece {
            Ok(Some(Piece::Data(data))) => Some(Ok(Frame::data(data))),
            Ok(Some(Piece::Trailers(mut trailers))) => {
                headers::scrub_response_trailers(&mut trailers);
                Some(Ok(Frame::trailers(trailers)))
            }
            Ok(None) => None,
            Err(broken) => {
                self.lease = None;
                Some(Err(broken))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use crate::rules::decision::Reject;
    use crate::wire::incoming::{Broken as Interrupted, Source};

    use super::*;

    /// A body whose caller is always ahead.
    struct Endless;

    impl Source for Endless {
        fn poll_frame(
            &self,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Interrupted>>> {
            let piece = Bytes::from_static(&[0; 16 * 1024]);
            Poll::Ready(Some(Ok(Frame::data(piece))))
        }

        fn framing(&self) -> Framing {
            Framing::Close
        }
    }

    /// How much goes through at once, up to a limit.
    fn passed(ending: Ending) -> u64 {
        const MOST: u64 = 1024 * 1024;
        let rules = Arc::new(HeaderRules::new("x-auth-", &[], &[]));
        let incoming = Incoming::Http1(Box::new(Endless));
        let (mut body, meter) = Outbound::new(incoming, None, &rules, || Some(ending));
        let meter = meter.unwrap();
        let mut cx = Context::from_waker(Waker::noop());
        while meter.bytes() < MOST {
            match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(_))) => assert!(meter.cut().is_none()),
                Poll::Ready(Some(Err(Cut::Ended))) => {
                    assert!(matches!(meter.cut(), Some(CutShort::Ended(_))));
                    break;
                }
                other => panic!("{other:?}"),
            }
        }
        meter.bytes()
    }

    #[test]
    fn a_caller_who_is_always_ahead_is_cut_off_too() {
        let ended: Refusal = Reject::TokenInvalid.into();
        assert!(passed(Box::pin(std::future::ready(ended))) < 2 * UNWATCHED);
        assert_eq!(passed(Box::pin(std::future::pending())), 1024 * 1024);
    }
}
