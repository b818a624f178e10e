//! One request to an upstream and the head of its answer.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Sleep;

use crate::platform::{Clock, Monotonic};
use crate::rules::policy::Admitted;
use crate::upstream::body::{CutShort, Inbound, Meter};
use crate::upstream::connection::Unanswered;
use crate::upstream::head::Outgoing;
use crate::upstream::pool::{ATTEMPTS, Pool, Unavailable};
use crate::upstream::request::Request;
use crate::upstream::response::Broken;
use crate::upstream::{self, http2};
use crate::wire::message::Response;
use crate::wire::soon::{SOON, is_looked_after};

/// Why no answer came.
#[derive(Debug)]
pub enum Failure {
    /// No connection could be made.
    Unreachable(Arc<std::io::Error>),
    /// Connecting took longer than `connect_timeout`.
    ConnectTimeout,
    /// Every connection stayed busy for as long as one may be waited for.
    Busy,
    /// The connection ended before an answer came.
    Closed(Broken),
    /// What came was not HTTP.
    Protocol(Broken),
    /// The answer's head did not come in time.
    ResponseTimeout,
    /// The rest of the request's body did not come in time.
    BodyStalled,
    /// The request's body was cut off.
    BodyCut(CutShort),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable(_) => "no connection could be made",
            Self::ConnectTimeout => "connecting took too long",
            Self::Busy => "every connection is busy",
            Self::Closed(_) => "the connection ended before an answer came",
            Self::Protocol(_) => "the answer is not HTTP",
            Self::ResponseTimeout => "the answer did not begin in time",
            Self::BodyStalled => "the request's body did not come in time",
            Self::BodyCut(_) => "the request's body was cut off",
        })
    }
}

impl std::error::Error for Failure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Unreachable(error) => Some(&**error),
            Self::Closed(error) | Self::Protocol(error) => Some(error),
            Self::ConnectTimeout
            | Self::Busy
            | Self::ResponseTimeout
            | Self::BodyStalled
            | Self::BodyCut(_) => None,
        }
    }
}

impl From<Unavailable> for Failure {
    fn from(unavailable: Unavailable) -> Self {
        match unavailable {
            Unavailable::Connect(error) => Self::Unreachable(error),
            Unavailable::ConnectTimeout => Self::ConnectTimeout,
            Unavailable::Busy => Self::Busy,
        }
    }
}

/// Sends an admitted request at `now`, and waits for the head of its answer.
///
/// The time allowed begins anew while the request's body still arrives: it bounds the upstream's
/// silence, not the caller's upload. Only what was certainly not sent is sent again: a connection
/// that the upstream closed at rest gives the request back unread, and so does a new one that it
/// closed at once, where another address may do better. Dropping the future closes the
/// connection, so that the upstream sees the caller leave.
pub async fn forward(
    _: &Admitted,
    pool: &upstream::Pool,
    request: Outgoing,
    now: Monotonic,
    timeout: Duration,
    meter: Option<&Meter>,
) -> Result<Response<Inbound>, Failure> {
    match (pool, request) {
        (upstream::Pool::Http1(pool), Outgoing::Http1(request)) => {
            forward_http1(pool, request, now, timeout, meter).await
        }
        // Large, and kept out of the future that every other request carries.
        (upstream::Pool::Http2(pool), Outgoing::Http2(request)) => {
            Box::pin(http2::forward(pool, *request, timeout, meter)).await
        }
        (upstream::Pool::Http1(_), Outgoing::Http2(_))
        | (upstream::Pool::Http2(_), Outgoing::Http1(_)) => {
            let why = "the request is written for another protocol than the upstream's";
            Err(Failure::Protocol(Broken::Protocol(why)))
        }
    }
}

async fn forward_http1(
    pool: &Arc<Pool>,
    mut request: Request,
    mut now: Monotonic,
    timeout: Duration,
    meter: Option<&Meter>,
) -> Result<Response<Inbound>, Failure> {
    let mut lease = if let Some(lease) = pool.lease_idle(now) {
        lease
    } else {
        // Rare, and large: kept out of the future that every request carries.
        let lease = Box::pin(pool.lease_new()).await?;
        now = pool.clock().monotonic();
        lease
    };
    let mut refused = 0;
    loop {
        let (connection, timer) = lease.parts();
        let mut deadline = Deadline {
            clock: pool.clock(),
            timer,
            timeout,
            meter,
        };
        connection.submit(request);
        let answered = deadline.bound(now, |cx| connection.poll_answer(cx)).await;
        if matches!(answered, Err(Failure::ResponseTimeout)) {
            lease.late(now);
        }
        let broken = match answered? {
            Ok(answer) => {
                lease.answered();
                return Ok(Inbound::http1(answer, lease));
            }
            Err(Unanswered::Unsent(unsent)) => {
                refused += usize::from(!lease.reused);
                if lease.reused || lease.refused() && refused < ATTEMPTS {
                    request = *unsent;
                    drop(lease);
                    lease = Box::pin(pool.lease_new()).await?;
                    now = pool.clock().monotonic();
                    continue;
                }
                Broken::Closed
            }
            Err(Unanswered::Broken(broken)) => {
                if matches!(broken, Broken::Closed | Broken::Io(_)) {
                    lease.broke();
                }
                broken
            }
        };
        return Err(failure(broken, meter));
    }
}

/// Bounds the wait for an answer's head.
pub(super) struct Deadline<'a> {
    pub(super) clock: &'a dyn Clock,
    pub(super) timer: Pin<&'a mut Sleep>,
    pub(super) timeout: Duration,
    pub(super) meter: Option<&'a Meter>,
}

impl Deadline<'_> {
    /// Waits for an answer from `now`; its time begins anew while the request's body still arrives.
    pub(super) async fn bound<T>(
        &mut self,
        mut now: Monotonic,
        mut poll_answer: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Failure> {
        let mut arrived = 0;
        loop {
            let mut runs = false;
            let answered = poll_fn(|cx| {
                if let Poll::Ready(answer) = poll_answer(cx) {
                    return Poll::Ready(Some(answer));
                }
                // Most answers are there when it is looked again, and cost no timer.
                if !runs && self.timeout >= SOON && is_looked_after() {
                    return Poll::Pending;
                }
                if !runs {
                    runs = true;
                    let end = self.clock.timer(now, self.timeout);
                    self.timer.as_mut().reset(end);
                }
                self.timer.as_mut().poll(cx).map(|()| None)
            });
            if let Some(answer) = answered.await {
                return Ok(answer);
            }
            match self.meter {
                Some(meter) if !meter.finished() && meter.bytes() > arrived => {
                    arrived = meter.bytes();
                }
                Some(meter) if !meter.finished() && meter.waiting() => {
                    return Err(Failure::BodyStalled);
                }
                _ => return Err(Failure::ResponseTimeout),
            }
            now = self.clock.monotonic();
        }
    }
}

fn failure(broken: Broken, meter: Option<&Meter>) -> Failure {
    match meter.and_then(Meter::cut) {
        Some(cut) => Failure::BodyCut(cut),
        None if matches!(broken, Broken::Protocol(_)) => Failure::Protocol(broken),
        None => Failure::Closed(broken),
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use tokio::time::{sleep, timeout};

    use super::*;
    use crate::platform::SystemClock;
    use crate::wire::soon::looked_after;

    /// Whether the wait for an answer that never comes ends within so long of a second look.
    async fn ends(allowed: Duration, within: Duration) -> bool {
        let clock = SystemClock::new();
        let mut deadline = Deadline {
            clock: &clock,
            timer: pin!(sleep(Duration::ZERO)),
            timeout: allowed,
            meter: None,
        };
        let now = clock.monotonic();
        let mut bound = pin!(deadline.bound(now, |_| Poll::<()>::Pending));
        let first =
            poll_fn(|cx| Poll::Ready(looked_after(|| bound.as_mut().poll(cx)).is_pending()));
        assert!(first.await);
        sleep(SOON).await;
        let ended = timeout(within, bound).await;
        matches!(ended, Ok(Err(Failure::ResponseTimeout)))
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_has_no_more_time_because_its_timer_is_set_late() {
        let allowed = Duration::from_secs(5);
        assert!(ends(allowed, allowed).await);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_has_no_less_time_because_its_timer_is_set_late() {
        let allowed = Duration::from_secs(5);
        assert!(!ends(allowed, allowed.saturating_sub(2 * SOON)).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_time_runs_at_once() {
        let clock = SystemClock::new();
        let mut deadline = Deadline {
            clock: &clock,
            timer: pin!(sleep(Duration::ZERO)),
            timeout: SOON / 2,
            meter: None,
        };
        let mut bound = pin!(deadline.bound(clock.monotonic(), |_| Poll::<()>::Pending));
        // Nobody looks again but for this timer.
        let looking = poll_fn(|cx| looked_after(|| bound.as_mut().poll(cx)));
        let ended = timeout(SOON, looking).await;
        assert!(matches!(ended, Ok(Err(Failure::ResponseTimeout))));
    }
}
