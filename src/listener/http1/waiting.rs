//! What a connection waits for between its requests, and for how long.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::unconstrained;
use tokio::time::Sleep;

use crate::listener::connection::{LOOKS, Seat};
use crate::listener::{Limits, Stage, Stages};
use crate::platform::{Clock, Monotonic};

use super::caller::{Caller, Looked, NoHead};
use super::head::{Bad, Head};

/// What comes next on a connection.
pub(super) enum Next {
    Request(Head),
    /// Not so soon, as it seems: it has rested for a while.
    Rests,
    /// Nothing: it has rested for too long, or has to end, or its caller left.
    End,
    /// The caller left amid a head.
    Broken,
    /// What came is no request.
    Bad(Bad),
    /// The head did not come in time.
    Late,
}

/// Waits for requests.
pub(super) struct Waiting {
    limits: Limits,
    stages: Stages,
    /// Ends when the connection has to.
    closing: Pin<Box<dyn Future<Output = ()> + Send>>,
    /// It has this task's waker.
    closing_waits: bool,
    rest: Rest,
    /// Runs while a head is not whole.
    late: Option<Pin<Box<Sleep>>>,
}

impl Waiting {
    pub(super) fn new<V>(seat: &Seat<V>) -> Self {
        let stages = seat.stages.clone();
        Self {
            limits: seat.limits,
            closing: Box::pin(async move { stages.reach(Stage::Closing).await }),
            closing_waits: false,
            stages: seat.stages.clone(),
            rest: Rest::new(seat.limits.idle_timeout, Arc::clone(&seat.clock)),
            late: None,
        }
    }

    /// The next request.
    pub(super) async fn next<S>(&mut self, caller: &Caller<S>) -> Next
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let next = poll_fn(|cx| {
            Poll::Ready(match caller.look_for_head(cx, self.limits.request_head) {
                Looked::Head(head) => Next::Request(head),
                Looked::Never(NoHead::End) => Next::End,
                Looked::Never(NoHead::Io) => Next::Broken,
                Looked::Never(NoHead::Bad(bad)) => Next::Bad(bad),
                Looked::Nothing => return self.poll_end(cx),
                Looked::Begun => {
                    if self.poll_closing(cx).is_ready() {
                        return Poll::Ready(Next::End);
                    }
                    let allowed = self.limits.head_timeout;
                    let late = self
                        .late
                        .get_or_insert_with(|| Box::pin(tokio::time::sleep(allowed)));
                    return late.as_mut().poll(cx).map(|()| Next::Late);
                }
            })
        })
        .await;
        if !matches!(next, Next::Rests) {
            self.late = None;
            self.rest.ended();
        }
        next
    }

    /// Ready when a connection at rest has to end, and once before that.
    fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        if self.poll_closing(cx).is_ready() {
            return Poll::Ready(Next::End);
        }
        self.rest.poll_over(cx)
    }

    /// Ready once nothing new is taken up.
    fn poll_closing(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // From its first poll on it has this task's waker, until it is woken: and nobody is before the
        // stage moves.
        if !(self.closing_waits && self.stages.current() == Stage::Serving) {
            self.closing_waits = true;
            // Out of its budget, the task would be told to come back.
            return Pin::new(&mut unconstrained(self.closing.as_mut())).poll(cx);
        }
        Poll::Pending
    }
}

/// How long a connection has been at rest.
///
/// No timer is touched for a request: the one timer of a connection fires early, looks, and is set
/// again.
struct Rest {
    clock: Arc<dyn Clock>,
    allowed: Duration,
    timer: Pin<Box<Sleep>>,
    /// The timer has this task's waker.
    waits: bool,
    /// Since when, once that was looked at; a request's end is not worth reading the clock for.
    since: Option<Monotonic>,
}

impl Rest {
    fn new(allowed: Duration, clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            allowed,
            timer: Box::pin(tokio::time::sleep(allowed / LOOKS)),
            waits: false,
            since: None,
        }
    }

    /// A request came.
    fn ended(&mut self) {
        self.since = None;
    }

    /// Ready when it was looked at first, and once it has lasted for too long.
    fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<Next> {
        loop {
            if self.waits && !self.timer.is_elapsed() {
                return Poll::Pending;
            }
            let timer = Pin::new(&mut unconstrained(self.timer.as_mut())).poll(cx);
            self.waits = timer.is_pending();
            if self.waits {
                return Poll::Pending;
            }
            let now = self.clock.monotonic();
            let left = match self.since {
                Some(since) => (since.0 + self.allowed).saturating_sub(now.0),
                None => self.allowed,
            };
            if left.is_zero() {
                return Poll::Ready(Next::End);
            }
            let look = left.min(self.allowed / LOOKS);
            self.timer.set(tokio::time::sleep(look));
            if self.since.is_none() {
                self.since = Some(now);
                return Poll::Ready(Next::Rests);
            }
        }
    }
}
