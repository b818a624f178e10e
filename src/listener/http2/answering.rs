//! A request until its answer is written: what keeps its connection from counting as at rest.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};

use super::io::Activity;

/// A request that was taken up and not yet answered whole.
pub(super) struct InFlight(Arc<Activity>);

impl InFlight {
    pub(super) fn begin(activity: Arc<Activity>) -> Self {
        activity.requests.fetch_add(1, Ordering::Relaxed);
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(activity)
    }

    /// The same request, in flight until both have ended.
    pub(super) fn again(&self) -> Self {
        self.0.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// An answer's body, which keeps its request in flight.
pub(super) struct Answering<B> {
    pub(super) body: B,
    pub(super) in_flight: InFlight,
}

impl<B: Body<Data = Bytes> + Unpin> Body for Answering<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// An answer's body over HTTP/2.
pub(super) struct Tracked<B>(pub(super) Answering<B>);

impl<B: Body<Data = Bytes> + Unpin> Body for Tracked<B> {
    type Data = Piece;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, B::Error>>> {
        let polled = Pin::new(&mut self.0).poll_frame(cx);
        polled.map_ok(|frame| frame.map_data(|bytes| Piece::new(bytes, &self.0.in_flight.0)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.size_hint()
    }
}

/// A piece of an answer's body, known of until all of it was written.
///
/// The library takes the last piece before its caller has a window for it, and is done with the body.
pub(super) struct Piece {
    bytes: Bytes,
    activity: Arc<Activity>,
}

impl Piece {
    fn new(bytes: Bytes, activity: &Arc<Activity>) -> Self {
        activity.unsent.fetch_add(1, Ordering::Relaxed);
        Self {
            bytes,
            activity: Arc::clone(activity),
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.activity.unsent.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
        self.activity.taken.fetch_add(1, Ordering::Relaxed);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.activity.taken.fetch_add(1, Ordering::Relaxed);
        self.bytes.copy_to_bytes(length)
    }
}
