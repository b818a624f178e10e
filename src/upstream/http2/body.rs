//! An answer's body as it comes over HTTP/2, and an end for those that nobody reads.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};

use ahash::RandomState;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::rules::headers;
use crate::upstream::pace::{LOOK, Looks, Pace};
use crate::upstream::response::Broken;

use super::again::Upload;
use super::pool::{State, Stream};

/// An answer's body.
pub struct Answer {
    reading: Arc<Reading>,
    number: u64,
    size: SizeHint,
    state: Arc<State>,
}

/// An answer that is being read.
struct Reading {
    /// `None` once it was given up, and its place with it: whoever reads it may keep it for ever.
    arriving: Mutex<Option<Arriving>>,
    reader: Pace,
    /// What may still be sent of the request.
    upload: Upload,
}

type Arriving = (Incoming, Arc<Stream>);

/// The answers of one connection that are being read.
#[derive(Default)]
pub(super) struct Answers(Mutex<Numbered>);

#[derive(Default)]
struct Numbered {
    next: u64,
    reading: HashMap<u64, (Arc<Reading>, Looks), RandomState>,
}

impl Answers {
    fn numbered(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn arriving(&self) -> MutexGuard<'_, Option<Arriving>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    pub(super) fn new(incoming: Incoming, stream: Arc<Stream>, upload: Upload) -> Self {
        let reader = Pace::default();
        reader.holds();
        let size = incoming.size_hint();
        let state = Arc::clone(&stream.state);
        let reading = Arc::new(Reading {
            arriving: Mutex::new(Some((incoming, stream))),
            reader,
            upload,
        });
        let mut answers = state.answers.numbered();
        let number = answers.next;
        answers.next += 1;
        let watched = (Arc::clone(&reading), Looks::default());
        answers.reading.insert(number, watched);
        drop(answers);
        Self {
            reading,
            number,
            size,
            state,
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Nobody waits for what may still be sent, and its stream would stay open for that.
        self.reading.upload.end();
        let mut answers = self.state.answers.numbered();
        answers.reading.remove(&self.number);
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let this = self.get_mut();
        let mut arriving = this.reading.arriving();
        let Some((body, _)) = &mut *arriving else {
            return Poll::Ready(Some(Err(Broken::Closed)));
        };
        let Poll::Ready(frame) = Pin::new(&mut *body).poll_frame(cx) else {
            this.reading.reader.waits();
            return Poll::Pending;
        };
        this.reading.reader.holds();
        this.size = body.size_hint();
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    headers::scrub_response_trailers(trailers);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => {
                *arriving = None;
                Some(Err(Broken::Stream(error)))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        let arriving = self.reading.arriving();
        arriving
            .as_ref()
            .is_some_and(|(incoming, _)| incoming.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

/// Gives up each answer whose reader has stalled, so that it does not hold its place for ever. Ends with
/// the connection.
pub(super) async fn end_stalled(connection: Weak<State>) {
    loop {
        tokio::time::sleep(LOOK).await;
        let Some(connection) = connection.upgrade() else {
            return;
        };
        let mut answers = connection.answers.numbered();
        for (reading, looks) in answers.reading.values_mut() {
            if looks.find_stalled(&reading.reader) && reading.arriving().take().is_some() {
                // Its stream would stay open for that.
                reading.upload.end();
                tracing::debug!("gave up an answer over HTTP/2 that nobody reads");
            }
        }
    }
}
