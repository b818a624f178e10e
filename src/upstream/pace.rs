//! Whether the readers of answers keep up, and when one counts as stalled.
//!
//! A caller that opens no window would keep its answer for ever, and nothing of its own is polled
//! meanwhile that could notice: somebody else has to look.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// How long it is from one look at a reader to the next.
pub(super) const LOOK: Duration = Duration::from_secs(15);

/// At how many looks after the first one a reader may still hold the same part of an answer: a minute.
const LOOKS: u32 = 4;

/// Whether the reader of an answer keeps up, for whoever watches over it.
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

    /// What the reader holds.
    fn held(&self) -> Option<u32> {
        let taken = self.0.load(Ordering::Relaxed);
        (taken & 1 == 0).then_some(taken)
    }
}

/// What was seen of one reader.
#[derive(Debug, Default)]
pub(super) struct Looks {
    held: Option<u32>,
    same: u32,
}

impl Looks {
    /// Looks at the reader, each [`LOOK`]; true once it has taken nothing of what is there for a minute.
    pub(super) fn find_stalled(&mut self, reader: &Pace) -> bool {
        let held = reader.held();
        let is_same = held.is_some() && held == self.held;
        self.same = if is_same { self.same + 1 } else { 0 };
        self.held = held;
        self.same >= LOOKS
    }
}
