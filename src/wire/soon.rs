//! What need not be set up for an answer that comes soon: its caller looks once more anyway.

use std::cell::Cell;
use std::time::Duration;

/// How soon a task that was polled within [`looked_after`] is polled again, whatever happens.
pub const SOON: Duration = Duration::from_millis(100);

thread_local! {
    static LOOKED_AFTER: Cell<bool> = const { Cell::new(false) };
}

/// Polls what is waited for. Whoever calls this sees to it that the task is polled again within [`SOON`].
pub fn looked_after<T>(poll: impl FnOnce() -> T) -> T {
    LOOKED_AFTER.set(true);
    let polled = poll();
    LOOKED_AFTER.set(false);
    polled
}

/// Whether what is being polled is polled again within [`SOON`]: no timer that runs for longer has to be set now.
pub fn is_looked_after() -> bool {
    LOOKED_AFTER.get()
}
