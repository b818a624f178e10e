//! When the keys that an issuer publishes are fetched, and for how long they are believed.
//!
//! Pure. They are fetched in `authn::issuers`.

use std::time::Duration;

/// How often keys are fetched ahead of need, give or take a tenth.
const AHEAD: Duration = Duration::from_secs(300);

/// The wait after the first fetch that failed; doubled with each further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);

/// The longest wait while fetches fail.
const LAST_RETRY: Duration = Duration::from_secs(60);

/// How long apart two fetches are of which a token is the reason.
pub const SPACING: Duration = Duration::from_secs(10);

/// How long the last good set is believed while fetches fail.
const KEPT: Duration = Duration::from_secs(24 * 3600);

/// How long to wait before the next fetch, after so many `failures` in a row.
///
/// `jitter` spreads the replicas of one deployment: 0 is the shortest wait, 255 the longest.
pub fn wait(failures: u32, jitter: u8) -> Duration {
    let share = |whole: Duration| whole * u32::from(jitter) / u32::from(u8::MAX);
    let Some(doublings) = failures.checked_sub(1) else {
        return AHEAD * 9 / 10 + share(AHEAD / 5);
    };
    let whole = (FIRST_RETRY * 2_u32.pow(doublings.min(6))).min(LAST_RETRY);
    whole / 2 + share(whole / 2)
}

/// Whether a token with an unknown key may cause a fetch, so long after the last one ended.
pub fn may_ask(since_last: Duration) -> bool {
    since_last >= SPACING
}

/// Whether a set that was fetched so long ago is still believed.
pub fn is_believed(age: Duration) -> bool {
    age <= KEPT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fetched_every_five_minutes_or_so() {
        assert_eq!(wait(0, 0), Duration::from_secs(270));
        assert_eq!(wait(0, 255), Duration::from_secs(330));
        assert!(wait(0, 128) > wait(0, 127));
    }

    #[test]
    fn failures_are_backed_off_up_to_a_minute() {
        for (failures, seconds) in [
            (1, 1),
            (2, 2),
            (3, 4),
            (4, 8),
            (5, 16),
            (6, 32),
            (7, 60),
            (8, 60),
            (u32::MAX, 60),
        ] {
            let longest = Duration::from_secs(seconds);
            assert_eq!(wait(failures, 255), longest, "{failures}");
            assert_eq!(wait(failures, 0), longest / 2, "{failures}");
        }
    }

    #[test]
    fn tokens_cause_a_fetch_in_ten_seconds_and_a_set_is_good_for_a_day() {
        let nanosecond = Duration::from_nanos(1);
        let ten_seconds = Duration::from_secs(10);
        assert!(may_ask(ten_seconds));
        assert!(!may_ask(ten_seconds.saturating_sub(nanosecond)));
        let day = Duration::from_secs(24 * 3600);
        assert!(is_believed(day));
        assert!(!is_believed(day + nanosecond));
    }
}
