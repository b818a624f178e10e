//! When each replica had its store, and for how long the machine kept everybody waiting.

use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use super::REPLICAS;

/// A replica serves again so long after its store is back.
pub(super) const RECOVERY: Duration = Duration::from_secs(2);

/// How often the watchdog wakes, and what it takes for a delay.
const WAKES: Duration = Duration::from_millis(5);
const DELAY: Duration = Duration::from_millis(10);

/// A time when something was wrong.
#[derive(Clone, Copy)]
struct Span {
    begin: Instant,
    end: Option<Instant>,
}

/// What was wrong with each replica's store, and with the machine.
#[derive(Default)]
pub(super) struct Weather {
    disturbed: [Mutex<Vec<Span>>; REPLICAS],
    /// When the watchdog overslept, and by how much.
    delays: Mutex<Vec<(Instant, Duration)>>,
}

impl Weather {
    /// From now on this replica may be without its store.
    pub(super) fn disturb(&self, replica: usize) {
        self.disturbed[replica].lock().unwrap().push(Span {
            begin: Instant::now(),
            end: None,
        });
    }

    /// Since `at` this replica has its store again.
    pub(super) fn clear(&self, replica: usize, at: Instant) {
        let mut spans = self.disturbed[replica].lock().unwrap();
        spans.last_mut().unwrap().end = Some(at);
    }

    /// Whether the replica had its store from `from` to `to`, and had had it long enough before.
    pub(super) fn is_fair(&self, replica: usize, from: Instant, to: Instant) -> bool {
        let spans = self.disturbed[replica].lock().unwrap();
        // Only the last few can reach up to now.
        spans.iter().rev().take(8).all(|span| {
            let before = span
                .end
                .is_some_and(|end| end + RECOVERY + self.lost(end, to) < from);
            before || span.begin > to
        })
    }

    /// How long a thread that only sleeps was kept from running between these times.
    pub(super) fn lost(&self, from: Instant, to: Instant) -> Duration {
        let delays = self.delays.lock().unwrap();
        let during = delays
            .iter()
            .rev()
            .take_while(|(at, delay)| *at + *delay >= from)
            .filter(|(at, _)| *at <= to);
        during.map(|(_, delay)| *delay).sum()
    }

    /// Sleeps and wakes for as long as `goes_on`, and notes each time that it wakes too late.
    pub(super) fn watch(&self, goes_on: impl Fn() -> bool) {
        while goes_on() {
            let slept = Instant::now();
            thread::sleep(WAKES);
            let delay = slept.elapsed().saturating_sub(WAKES);
            if delay > DELAY {
                self.delays.lock().unwrap().push((slept + WAKES, delay));
            }
        }
    }
}
