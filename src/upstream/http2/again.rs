//! A request that can be sent again: what a server took notice of without looking at it.
//!
//! A server that lets a connection go says up to which request it looked (RFC 9113 §6.8), and may refuse
//! a single one as well (§8.7); many let a connection go after so many requests as a habit. What came
//! later was certainly not acted upon, and its caller has nothing to do with that.

use std::error::Error;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Request};
use http_body::{Body, Frame, SizeHint};

use crate::upstream::body::{Cut, Outbound};

use super::pool::Stream;

/// The most of a body that is kept until its answer begins. Of a request with a longer one that much is
/// sent once.
const KEPT: usize = 64 * 1024;

/// What a request is made of once more.
pub(super) struct Again<B = Outbound> {
    parts: Parts,
    sent: Arc<Mutex<Sent<B>>>,
}

/// A body that is being sent, not always for the first time.
pub(super) struct Repeatable<B = Outbound> {
    sent: Arc<Mutex<Sent<B>>>,
    /// Which attempt this is: none but the last may go on.
    attempt: usize,
    /// Its place, as long as there may be something to send.
    place: Option<Arc<Stream>>,
}

/// What is being sent, for whoever has to end it.
pub(super) struct Upload<B = Outbound>(Arc<Mutex<Sent<B>>>);

struct Sent<B> {
    body: B,
    /// What came of it so far, unless that was too much.
    kept: Vec<Piece>,
    /// How much room that takes.
    taken: usize,
    /// How many of these this attempt has sent.
    at: usize,
    /// Whether the body can be sent from its beginning.
    is_whole: bool,
    attempt: usize,
    /// Nobody wants the answer.
    is_unwanted: bool,
    /// Who waits for more.
    waits: Option<Waker>,
}

#[derive(Clone)]
enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

impl<B> Again<B> {
    /// The request as it is sent first, and what is kept of it.
    pub(super) fn keep(request: Request<B>) -> (Request<Repeatable<B>>, Self) {
        let (parts, body) = request.into_parts();
        let sent = Arc::new(Mutex::new(Sent {
            body,
            kept: Vec::new(),
            taken: 0,
            at: 0,
            is_whole: true,
            attempt: 0,
            is_unwanted: false,
            waits: None,
        }));
        let body = Repeatable {
            sent: Arc::clone(&sent),
            attempt: 0,
            place: None,
        };
        let again = Self {
            parts: parts.clone(),
            sent,
        };
        (Request::from_parts(parts, body), again)
    }

    /// The request once more; `None` if too much of its body is gone.
    pub(super) fn repeat(&self) -> Option<Request<Repeatable<B>>> {
        let mut sent = lock(&self.sent);
        if !sent.is_whole {
            return None;
        }
        sent.at = 0;
        sent.attempt += 1;
        let body = Repeatable {
            sent: Arc::clone(&self.sent),
            attempt: sent.attempt,
            place: None,
        };
        Some(Request::from_parts(self.parts.clone(), body))
    }

    /// What is being sent.
    pub(super) fn upload(&self) -> Upload<B> {
        Upload(Arc::clone(&self.sent))
    }
}

impl<B> Upload<B> {
    /// Ends it: nobody wants the answer.
    pub(super) fn end(&self) {
        let mut sent = lock(&self.0);
        sent.is_unwanted = true;
        if let Some(waits) = sent.waits.take() {
            waits.wake();
        }
    }
}

impl Repeatable {
    /// Takes its place, and keeps it until it was sent.
    pub(super) fn takes(&mut self, place: &Arc<Stream>) {
        self.place = (!self.is_end_stream()).then(|| Arc::clone(place));
    }

    /// Gives its place back: it was not sent.
    pub(super) fn leaves(&mut self) {
        self.place = None;
    }
}

impl<B> Drop for Again<B> {
    /// The answer has begun: what is sent from here on is not kept.
    fn drop(&mut self) {
        let mut sent = lock(&self.sent);
        sent.is_whole = false;
        sent.forget();
    }
}

impl<B> Sent<B> {
    /// Forgets what was kept, unless some of it is to be sent yet.
    fn forget(&mut self) {
        if self.at == self.kept.len() {
            self.kept = Vec::new();
            self.at = 0;
        }
    }

    fn keep(&mut self, frame: &Frame<Bytes>) {
        let piece = match (frame.data_ref(), frame.trailers_ref()) {
            // A copy: a piece keeps all of what it was read into, however short it is.
            (Some(data), _) => Piece::Data(Bytes::copy_from_slice(data)),
            (None, Some(trailers)) => Piece::Trailers(trailers.clone()),
            (None, None) => return,
        };
        // Each takes room by itself.
        self.taken += size_of::<Piece>() + piece.length();
        self.kept.push(piece);
        self.at = self.kept.len();
        if self.taken > KEPT {
            self.is_whole = false;
            self.forget();
        }
    }
}

impl Piece {
    fn length(&self) -> usize {
        match self {
            Self::Data(data) => data.len(),
            Self::Trailers(_) => 0,
        }
    }

    fn frame(self) -> Frame<Bytes> {
        match self {
            Self::Data(data) => Frame::data(data),
            Self::Trailers(trailers) => Frame::trailers(trailers),
        }
    }
}

impl<B: Body<Data = Bytes, Error = Cut> + Unpin> Body for Repeatable<B> {
    type Data = Bytes;
    type Error = Cut;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        let mut guard = lock(&self.sent);
        let sent = &mut *guard;
        if self.attempt != sent.attempt {
            // Its stream is gone, and it will be dropped with that.
            return Poll::Pending;
        }
        if sent.is_unwanted {
            return Poll::Ready(Some(Err(Cut::Unwanted)));
        }
        if let Some(piece) = sent.kept.get(sent.at).cloned() {
            sent.at += 1;
            if !sent.is_whole {
                sent.forget();
            }
            return Poll::Ready(Some(Ok(piece.frame())));
        }
        let polled = Pin::new(&mut sent.body).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled
            && sent.is_whole
        {
            sent.keep(frame);
        }
        if polled.is_pending() {
            sent.waits = Some(cx.waker().clone());
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let sent = lock(&self.sent);
        sent.at == sent.kept.len() && sent.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let sent = lock(&self.sent);
        let ahead = sent.kept[sent.at..]
            .iter()
            .map(Piece::length)
            .sum::<usize>() as u64;
        let left = sent.body.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = left.upper() {
            hint.set_upper(upper.saturating_add(ahead));
        }
        hint.set_lower(left.lower().saturating_add(ahead));
        hint
    }
}

/// Whether the upstream said that it never looked at the request this is the end of.
pub(super) fn is_unprocessed(error: &hyper::Error) -> bool {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(error) = cause.downcast_ref::<h2::Error>() {
            let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
            return error.is_remote() && (error.is_go_away() || error.is_reset() && refused);
        }
        source = cause.source();
    }
    false
}

fn lock<B>(sent: &Mutex<Sent<B>>) -> MutexGuard<'_, Sent<B>> {
    sent.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use http_body_util::BodyExt;

    use super::*;

    /// A body in pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Pieces {
        fn of(pieces: &[&str]) -> Self {
            let pieces = pieces.iter();
            Self(pieces.map(|piece| piece.to_string().into()).collect())
        }
    }

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Cut;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::with_exact(self.0.iter().map(|piece| piece.len() as u64).sum())
        }
    }

    /// What comes of the next frame.
    async fn next(body: &mut Repeatable<Pieces>) -> Option<Bytes> {
        let frame = body.frame().await?.unwrap();
        Some(frame.into_data().unwrap())
    }

    #[tokio::test]
    async fn a_request_is_repeated_from_its_beginning() {
        let body = Pieces::of(&["one", "two", "three"]);
        let (request, again) = Again::keep(Request::post("/a").body(body).unwrap());
        let mut first = request.into_body();
        assert_eq!(next(&mut first).await.unwrap(), "one");
        assert_eq!(next(&mut first).await.unwrap(), "two");

        let repeated = again.repeat().unwrap();
        assert_eq!(repeated.uri().path(), "/a");
        let mut second = repeated.into_body();
        assert_eq!(second.size_hint().exact(), Some(11));
        assert_eq!(next(&mut second).await.unwrap(), "one");
        // The answer begins before all of it is sent.
        drop(again);
        assert_eq!(next(&mut second).await.unwrap(), "two");
        assert!(lock(&second.sent).kept.is_empty());
        assert_eq!(next(&mut second).await.unwrap(), "three");
        assert_eq!(next(&mut second).await, None);
        assert!(lock(&second.sent).kept.is_empty());
    }

    #[tokio::test]
    async fn what_is_kept_holds_nothing_of_what_it_was_read_into() {
        struct Read(Arc<[u8; 8192]>);
        impl AsRef<[u8]> for Read {
            fn as_ref(&self) -> &[u8] {
                &*self.0
            }
        }
        let read = Arc::new([b'x'; 8192]);
        let piece = Bytes::from_owner(Read(Arc::clone(&read))).slice(..1);
        let (request, again) = Again::keep(Request::new(Pieces(VecDeque::from([piece]))));
        drop(next(&mut request.into_body()).await);
        assert_eq!(Arc::strong_count(&read), 1);
        let mut second = again.repeat().unwrap().into_body();
        assert_eq!(next(&mut second).await.unwrap(), "x");
    }

    #[tokio::test]
    async fn too_much_is_sent_once() {
        let large = "x".repeat(KEPT);
        let (request, again) = Again::keep(Request::new(Pieces::of(&["one", &large, "three"])));
        let mut body = request.into_body();
        for expected in ["one", &large, "three"] {
            assert_eq!(next(&mut body).await.unwrap(), expected);
        }
        assert!(again.repeat().is_none());
        assert!(lock(&body.sent).kept.is_empty());
    }

    #[tokio::test]
    async fn a_request_without_a_body_ends_at_once_each_time() {
        let (request, again) = Again::keep(Request::new(Pieces::of(&[])));
        for request in [request, again.repeat().unwrap(), again.repeat().unwrap()] {
            assert!(request.body().is_end_stream());
            assert_eq!(request.body().size_hint().exact(), Some(0));
        }
    }
}
