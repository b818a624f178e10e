//! When a connection over HTTP/2 has been still for too long, or has grown old.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::unconstrained;
use tokio::time::Sleep;

use crate::listener::Limits;
use crate::listener::accept::UNREAD;
use crate::listener::connection::LOOKS;
use crate::platform::{Clock, Monotonic};

use super::io::Activity;

/// How long a caller over HTTP/2 may take to acknowledge that its resting connection ends.
const FAREWELL: Duration = Duration::from_secs(1);

/// When a connection has been still for too long.
///
/// No timer is touched for a request: the one timer of a connection fires early, looks, and
/// is set again.
pub(super) struct Deadlines {
    activity: Arc<Activity>,
    clock: Arc<dyn Clock>,
    head_timeout: Duration,
    idle_timeout: Duration,
    still: Option<Still>,
    happened: Happened,
    timer: Pin<Box<Sleep>>,
    /// The timer has this task's waker.
    waits: bool,
    fires: Monotonic,
    /// It has rested for too long, and its caller is told so; what had happened on it by then.
    leaving: Option<Happened>,
    pub(super) age: Age,
}

/// When a connection grows old, where a timer has to see to it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Age {
    /// At this time.
    Grows(Monotonic),
    /// It is, and the caller was not told yet.
    Reached,
    /// The caller was told, or will be with an answer.
    Settled,
}

/// What counts as something happening on a connection.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Happened {
    requests: u32,
    /// Pieces of answers that were written.
    taken: u32,
}

/// What a connection without a request in flight waits for.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Still {
    in_head: bool,
    /// Since when, once that was looked at; a request's end is not worth reading the clock for.
    since: Option<Monotonic>,
}

impl Deadlines {
    pub(super) fn new(activity: Arc<Activity>, limits: &Limits, clock: Arc<dyn Clock>) -> Self {
        let look = limits.idle_timeout / LOOKS;
        let fires = Monotonic(clock.monotonic().0 + look);
        Self {
            activity,
            clock,
            head_timeout: limits.head_timeout,
            idle_timeout: limits.idle_timeout,
            still: None,
            happened: Happened::default(),
            timer: Box::pin(tokio::time::sleep(look)),
            waits: false,
            fires,
            leaving: None,
            age: Age::Settled,
        }
    }

    pub(super) fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(passes) = self.passes(None)
                && passes < self.fires
            {
                self.arm(passes, self.clock.monotonic());
            }
            if self.waits && !self.timer.is_elapsed() {
                return Poll::Pending;
            }
            // As with the drain: out of its budget, the timer would wait for nothing.
            let timer = Pin::new(&mut unconstrained(self.timer.as_mut())).poll(cx);
            self.waits = timer.is_pending();
            if self.waits {
                return Poll::Pending;
            }
            let now = self.clock.monotonic();
            if matches!(self.age, Age::Grows(old) if old <= now) {
                self.age = Age::Reached;
            }
            let look = Monotonic(now.0 + self.idle_timeout / LOOKS);
            match self.passes(Some(now)) {
                Some(passes) if passes <= now => {
                    if self.is_in_head() || self.leaving.is_some() {
                        return Poll::Ready(());
                    }
                    // Its caller may be asking for something just now: told first, it knows whether
                    // that was heard (RFC 9113 §6.8).
                    self.leaving = Some(self.happened);
                    self.age = Age::Reached;
                    self.still = Some(Still {
                        in_head: false,
                        since: Some(now),
                    });
                }
                Some(passes) => self.arm(passes.min(look), now),
                None => self.arm(look, now),
            }
        }
    }

    /// When the present stillness has lasted too long, if that is known; `None` while a request
    /// is in flight. The beginning of a rest is only noted with a `now` at hand.
    fn passes(&mut self, now: Option<Monotonic>) -> Option<Monotonic> {
        let in_flight = self.activity.in_flight.load(Ordering::Relaxed) != 0
            || self.activity.blocked.load(Ordering::Relaxed);
        let in_head = self.activity.in_head.load(Ordering::Relaxed);
        // Over HTTP/2 other requests may be in flight; and nothing of them can arrive within a head.
        if in_flight && !in_head {
            self.still = None;
            return None;
        }
        let happened = Happened {
            requests: self.activity.requests.load(Ordering::Relaxed),
            taken: self.activity.taken.load(Ordering::Relaxed),
        };
        let as_before = happened.requests == self.happened.requests
            && (in_head || happened.taken == self.happened.taken);
        let since = match self.still {
            Some(still) if still.in_head == in_head && as_before => still.since,
            _ => None,
        };
        // Part of a head arrived: rare, and its deadline is short.
        let begins = || in_head.then(|| self.clock.monotonic());
        let since = since.or(now).or_else(begins);
        self.happened = happened;
        self.still = Some(Still { in_head, since });
        let allowed = if in_head {
            self.head_timeout
        } else if self.activity.unsent.load(Ordering::Relaxed) != 0
            && self.leaving != Some(happened)
        {
            // No rest yet; but a caller that never makes room would keep the connection for ever.
            self.idle_timeout.max(UNREAD)
        } else if self.leaving.is_some() {
            FAREWELL
        } else {
            self.idle_timeout
        };
        Some(Monotonic(since?.0 + allowed))
    }

    /// Whether it is the rest of a head that it waits for.
    pub(super) fn is_in_head(&self) -> bool {
        self.still.is_some_and(|still| still.in_head)
    }

    fn arm(&mut self, fires: Monotonic, now: Monotonic) {
        self.timer.set(tokio::time::sleep(fires.since(now)));
        self.waits = false;
        self.fires = fires;
    }
}
