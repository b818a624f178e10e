//! An answer's body as it comes over HTTP/2, and an end for those that nobody reads.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use ahash::RandomState;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::rules::headers;
use crate::upstream::body::Pace;
use crate::upstream::response::Broken;

use super::pool::{State, Stream};

/// How long the reader of an answer may take nothing of it before the answer is given up.
const STALLED: Duration = Duration::from_secs(60);

/// How often that is looked at meanwhile.
const LOOKS: u32 = 4;

/// An answer's body.
pub struct Answer {
    reading: Arc<Reading>,
    number: u64,
    size: SizeHint,
    stream: Stream,
}

/// An answer that is being read.
struct Reading {
    /// `None` once it was given up.
    incoming: Mutex<Option<Incoming>>,
    reader: Pace,
}

/// The answers of one connection that are being read.
#[derive(Default)]
pub(super) struct Watched(Mutex<Reads>);

#[derive(Default)]
struct Reads {
    next: u64,
    reading: HashMap<u64, Arc<Reading>, RandomState>,
}

impl Watched {
    fn reads(&self) -> MutexGuard<'_, Reads> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Reading {
    fn incoming(&self) -> MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Answer {
    pub(super) fn new(incoming: Incoming, stream: Stream) -> Self {
        let reader = Pace::default();
        reader.holds();
        let size = incoming.size_hint();
        let reading = Arc::new(Reading {
            incoming: Mutex::new(Some(incoming)),
            reader,
        });
        let mut reads = stream.state.watched.reads();
        let number = reads.next;
        reads.next += 1;
        reads.reading.insert(number, Arc::clone(&reading));
        drop(reads);
        Self {
            reading,
            number,
            size,
            stream,
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        let watched = &self.stream.state.watched;
        watched.reads().reading.remove(&self.number);
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
        let mut incoming = this.reading.incoming();
        let Some(body) = &mut *incoming else {
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
                *incoming = None;
                Some(Err(Broken::Stream(error)))
            }
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        let incoming = self.reading.incoming();
        incoming.as_ref().is_some_and(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

/// Gives up each answer whose reader has taken nothing of what is there for [`STALLED`], so that it does
/// not hold its place for ever. Ends with the connection.
pub(super) async fn end_stalled(connection: Weak<State>) {
    let mut held: HashMap<u64, (u32, u32), RandomState> = HashMap::default();
    loop {
        tokio::time::sleep(STALLED / LOOKS).await;
        let Some(connection) = connection.upgrade() else {
            return;
        };
        let reads = connection.watched.reads();
        held.retain(|number, _| reads.reading.contains_key(number));
        for (number, reading) in &reads.reading {
            let Some(holds) = reading.reader.held() else {
                held.remove(number);
                continue;
            };
            let looks = match held.get(number) {
                Some((before, looks)) if *before == holds => looks + 1,
                _ => 0,
            };
            held.insert(*number, (holds, looks));
            if looks >= LOOKS && reading.incoming().take().is_some() {
                tracing::debug!("gave up an answer over HTTP/2 that nobody reads");
            }
        }
    }
}
