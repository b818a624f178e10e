//! Whether a caller that was let in may stay, while its stream or tunnel is open.

use std::sync::Arc;
use std::time::Duration;

use crate::authn::authenticators::Authenticators;
use crate::authn::proven::Proven;
use crate::cache::feed::Pulse;
use crate::platform::Platform;
use crate::rules::decision::{Fault, Refusal};

/// The longest wait between two looks: the wall clock may step meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The wait after an end that has come and was none.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);

/// Waits until something of what was `proven` is refused, and says why: it expired, was revoked, or
/// nobody vouches for it any more.
///
/// `authenticators` is asked for those in force at each look, since a reload replaces them. Cancel
/// safe.
pub async fn ended(
    proven: Proven,
    authenticators: impl Fn() -> Arc<Authenticators> + Send,
    pulse: Pulse,
    platform: Platform,
) -> Refusal {
    let mut beats = pulse.listen();
    loop {
        let wall = platform.clock.now();
        let in_force = authenticators();
        let now = platform.clock.monotonic();
        let certain = match in_force.still_stands(&proven, wall, now).await {
            Ok(certain) => certain,
            Err(refusal) => return refusal,
        };
        let left = proven
            .good_until()
            .map_or(LONGEST_WAIT, |end| end.since(wall).min(LONGEST_WAIT));
        // It stands although its end, as it was known when it was let in, has come: a session was
        // prolonged elsewhere.
        let left = if left.is_zero() || !certain {
            SHORTEST_WAIT
        } else {
            left
        };
        tokio::select! {
            () = tokio::time::sleep(left) => {}
            heard = beats.changed() => {
                if heard.is_err() {
                    // Nobody can tell of a revocation any more.
                    return Fault::StoreUnavailable.into();
                }
            }
        }
    }
}
