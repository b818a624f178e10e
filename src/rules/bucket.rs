//! Token buckets as a single point of time: the generic cell rate algorithm.
//!
//! A bucket is one number, the *theoretical arrival time* (TAT): when the requests admitted so far
//! would have come, had they come evenly. It costs eight bytes a caller and no timer refills it.
//! Times are nanoseconds on whatever clock the caller reads; where TATs are kept is not decided here.

use std::time::Duration;

/// A rate with its burst.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between two requests at the sustained rate; at least 1.
    pub interval: u64,
    /// How many requests may come at once; at least 1.
    pub burst: u32,
}

impl Rate {
    /// The rate of `count` requests a `period`, of which `burst` may come at once.
    ///
    /// The interval is rounded up, so that what does not divide evenly is never exceeded. `None` if
    /// any of the three is zero.
    pub fn per(count: u32, period: Duration, burst: u32) -> Option<Self> {
        if count == 0 || burst == 0 || period.is_zero() {
            return None;
        }
        let interval = period.as_nanos().div_ceil(u128::from(count));
        Some(Self {
            interval: u64::try_from(interval).unwrap_or(u64::MAX),
            burst,
        })
    }

    /// Admits one request at `now` into the bucket `tat`; 0 is a bucket that was never used.
    ///
    /// `Ok` holds the bucket's new value. `Err` holds how long until one request is admitted, if no
    /// other comes first; a refused request leaves the bucket as it was, so that knocking on does not
    /// keep the door shut.
    ///
    /// A `now` that lies before an earlier one admits no more than that earlier one did: at most
    /// `burst` requests, and one an interval of the time between the first `now` and the latest.
    pub fn admit(self, tat: u64, now: u64) -> Result<u64, Duration> {
        self.peek(tat, now)?;
        Ok(tat.max(now).saturating_add(self.interval))
    }

    /// Whether [`Rate::admit`] would let a request in, changing nothing.
    pub fn peek(self, tat: u64, now: u64) -> Result<(), Duration> {
        match tat.saturating_sub(now.saturating_add(self.tolerance())) {
            0 => Ok(()),
            early => Err(Duration::from_nanos(early)),
        }
    }

    /// The bucket `tat` as if one of the requests it admitted had not come.
    #[must_use]
    pub fn refund(self, tat: u64) -> u64 {
        tat.saturating_sub(self.interval)
    }

    /// How far ahead of now a bucket may lie: what the burst beyond its first request takes up.
    fn tolerance(self) -> u64 {
        self.interval
            .saturating_mul(u64::from(self.burst.saturating_sub(1)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn rate() -> impl Strategy<Value = Rate> {
        (1..=2 * SECOND, 1..=50_u32).prop_map(|(interval, burst)| Rate { interval, burst })
    }

    /// Clock readings that mostly go on, stand still now and then, and sometimes step back.
    fn readings() -> impl Strategy<Value = Vec<u64>> {
        let step = prop_oneof![
            6 => 0..1_000_000_000_i64,
            2 => Just(0),
            1 => -3_000_000_000_i64..0,
        ];
        prop::collection::vec(step, 1..200).prop_map(|steps| {
            let mut now = 10 * SECOND;
            steps
                .into_iter()
                .map(|step| {
                    now = now.saturating_add_signed(step);
                    now
                })
                .collect()
        })
    }

    #[test]
    fn burst_is_admitted_at_once_and_then_one_an_interval() {
        let rate = Rate::per(100, Duration::from_secs(1), 3).unwrap();
        assert_eq!(rate.interval, 10_000_000);
        let now = 5 * SECOND;
        let mut tat = 0;
        for _ in 0..3 {
            tat = rate.admit(tat, now).unwrap();
        }
        assert_eq!(rate.admit(tat, now), Err(Duration::from_millis(10)));
        tat = rate.admit(tat, now + 10_000_000).unwrap();
        assert_eq!(
            rate.admit(tat, now + 10_000_001),
            Err(Duration::from_nanos(9_999_999))
        );
    }

    #[test]
    fn rates_that_mean_nothing_are_refused() {
        assert_eq!(Rate::per(0, Duration::from_secs(1), 1), None);
        assert_eq!(Rate::per(1, Duration::ZERO, 1), None);
        assert_eq!(Rate::per(1, Duration::from_secs(1), 0), None);
    }

    #[test]
    fn uneven_rates_round_towards_fewer() {
        let third = Rate::per(3, Duration::from_secs(1), 1).unwrap();
        assert_eq!(third.interval, 333_333_334);
        let faster_than_the_clock = Rate::per(u32::MAX, Duration::from_nanos(5), 1).unwrap();
        assert_eq!(faster_than_the_clock.interval, 1);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_times_window(rate in rate(), readings in readings()) {
            let mut tat = 0;
            let mut admitted = Vec::new();
            for now in readings {
                if let Ok(next) = rate.admit(tat, now) {
                    prop_assert!(next > tat);
                    tat = next;
                    admitted.push(now);
                }
            }
            for first in 0..admitted.len() {
                let mut latest = admitted[first];
                for (count, now) in admitted[first..].iter().enumerate() {
                    latest = latest.max(*now);
                    let allowed = u64::from(rate.burst) + (latest - admitted[first]) / rate.interval;
                    prop_assert!((count as u64) < allowed);
                }
            }
        }

        #[test]
        fn retry_after_is_the_first_moment_that_admits(
            rate in rate(),
            ahead in 0..500 * SECOND,
            now in 0..1_000 * SECOND,
        ) {
            let tat = now + ahead;
            if let Err(wait) = rate.admit(tat, now) {
                let wait = u64::try_from(wait.as_nanos()).unwrap();
                prop_assert!(rate.admit(tat, now + wait).is_ok());
                prop_assert!(rate.admit(tat, now + wait - 1).is_err());
            }
        }

        #[test]
        fn refund_undoes_an_admission_into_a_bucket_in_use(
            rate in rate(),
            now in 0..1_000 * SECOND,
            ahead in 0..500 * SECOND,
        ) {
            let tat = now + ahead;
            if let Ok(charged) = rate.admit(tat, now) {
                prop_assert_eq!(rate.refund(charged), tat);
            }
        }

        #[test]
        fn extremes_do_not_overflow(
            interval in 1..=u64::MAX,
            burst in 1..=u32::MAX,
            tat: u64,
            now: u64,
        ) {
            let rate = Rate { interval, burst };
            prop_assert_eq!(rate.admit(tat, now).is_ok(), rate.peek(tat, now).is_ok());
            prop_assert!(rate.refund(tat) <= tat);
        }
    }
}
