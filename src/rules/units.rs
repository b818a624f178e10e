//! Durations, rates and times as people write them: `90d`, `1h30m`, `100/s`, RFC 3339.

use std::fmt;
use std::time::Duration;

use crate::rules::bucket::Rate;
use crate::rules::time::Timestamp;

/// Why a text is not a duration, a rate or a time; says what one looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadUnit {
    /// Not a duration.
    Duration,
    /// A duration without a unit, such as `30`.
    DurationUnit,
    /// A duration of more than 500 years.
    DurationTooLong,
    /// Not a rate.
    Rate,
    /// A rate of nothing, or of more than one a nanosecond.
    RateRange,
    /// Not a time.
    Time,
}

impl fmt::Display for BadUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Duration => {
                "not a duration; write numbers with units, largest first, such as 90d, 1h30m or 250ms"
            }
            Self::DurationUnit => "a duration needs a unit: one of w, d, h, m, s, ms",
            Self::DurationTooLong => "a duration may be at most 500 years",
            Self::Rate => "not a rate; write a number, a slash and one of s, m, h, d, such as 100/s",
            Self::RateRange => "a rate must be at least 1 and at most 1000000000 a second",
            Self::Time => {
                "not a time; write it as RFC 3339 does, such as 2027-01-31T00:00:00Z"
            }
        })
    }
}

impl std::error::Error for BadUnit {}

const SECOND: u64 = 1_000_000_000;

/// The units of a duration, largest first.
const UNITS: [(&str, Duration); 6] = [
    ("w", Duration::from_secs(7 * 24 * 3600)),
    ("d", Duration::from_secs(24 * 3600)),
    ("h", Duration::from_secs(3600)),
    ("m", Duration::from_secs(60)),
    ("s", Duration::from_secs(1)),
    ("ms", Duration::from_millis(1)),
];

/// What a rate may be counted over, shortest first.
const PERIODS: [(&str, u64); 4] = [
    ("s", SECOND),
    ("m", 60 * SECOND),
    ("h", 3600 * SECOND),
    ("d", 24 * 3600 * SECOND),
];

/// Reads a duration: whole numbers, each with a unit, each unit smaller than the one before it.
///
/// What fits nanoseconds in 64 bits is taken, about 500 years. `0s` is a duration.
pub fn duration(text: &str) -> Result<Duration, BadUnit> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(BadUnit::Duration);
    }
    let mut total = Duration::ZERO;
    let mut smaller = &UNITS[..];
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.bytes().take_while(u8::is_ascii_lowercase).count();
        let (unit, tail) = tail.split_at(letters);
        if digits == 0 {
            return Err(BadUnit::Duration);
        }
        if unit.is_empty() && tail.is_empty() {
            return Err(BadUnit::DurationUnit);
        }
        let place = smaller
            .iter()
            .position(|(name, _)| *name == unit)
            .ok_or(BadUnit::Duration)?;
        let number: u32 = number.parse().map_err(|_| BadUnit::DurationTooLong)?;
        total = smaller[place]
            .1
            .checked_mul(number)
            .and_then(|part| total.checked_add(part))
            .filter(|total| total.as_nanos() < u128::from(u64::MAX))
            .ok_or(BadUnit::DurationTooLong)?;
        smaller = &smaller[place + 1..];
        rest = tail;
    }
    Ok(total)
}

/// Writes a duration as [`duration`] reads it, to the millisecond.
pub fn print_duration(duration: Duration) -> String {
    let mut left = duration.as_millis();
    if left == 0 {
        return "0s".to_owned();
    }
    let mut text = String::new();
    // Weeks are read but not written: "14d" says more at a glance than "2w".
    for (name, unit) in &UNITS[1..] {
        let count = left / unit.as_millis();
        left %= unit.as_millis();
        if count > 0 {
            text.push_str(&count.to_string());
            text.push_str(name);
        }
    }
    text
}

/// Reads a rate such as `100/s` or `60/m`; its burst is one second's worth, at least 1.
pub fn rate(text: &str) -> Result<Rate, BadUnit> {
    let (count, period) = text.trim().split_once('/').ok_or(BadUnit::Rate)?;
    let period = PERIODS
        .iter()
        .find(|(name, _)| *name == period)
        .ok_or(BadUnit::Rate)?
        .1;
    if count.is_empty() || !count.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(BadUnit::Rate);
    }
    let count: u64 = count.parse().map_err(|_| BadUnit::RateRange)?;
    let interval = period
        .checked_div(count)
        .filter(|interval| *interval > 0)
        .ok_or(BadUnit::RateRange)?;
    let burst = u32::try_from(SECOND / interval).unwrap_or(u32::MAX).max(1);
    Ok(Rate { interval, burst })
}

/// Writes the sustained part of a rate, in the shortest period that tells it exactly.
///
/// Every rate that [`rate`] reads is read back as itself.
pub fn print_rate(rate: Rate) -> String {
    let interval = rate.interval.max(1);
    let exact = PERIODS.iter().find_map(|(name, period)| {
        let count = period / interval;
        (count > 0 && period / count == interval).then_some((count, name))
    });
    match exact {
        Some((count, name)) => format!("{count}/{name}"),
        None => format!("1 in {}", print_duration(Duration::from_nanos(interval))),
    }
}

/// Reads an RFC 3339 time, with any offset.
pub fn time(text: &str) -> Result<Timestamp, BadUnit> {
    let time: jiff::Timestamp = text.trim().parse().map_err(|_| BadUnit::Time)?;
    // Before the epoch is long ago in any case.
    let nanoseconds = u64::try_from(time.as_nanosecond().max(0)).map_err(|_| BadUnit::Time)?;
    Ok(Timestamp::from_nanoseconds(nanoseconds))
}

/// Writes a time to the second, as RFC 3339 in UTC.
pub fn print_time(time: Timestamp) -> String {
    i64::try_from(time.seconds())
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok())
        .map_or_else(|| time.seconds().to_string(), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_are_read() {
        for (text, seconds) in [
            ("90d", 90 * 86_400),
            ("24h", 86_400),
            ("1h30m", 5_400),
            ("2w1d", 15 * 86_400),
            ("0s", 0),
            (" 5m ", 300),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(duration("1s250ms"), Ok(Duration::from_millis(1250)));
    }

    #[test]
    fn what_is_no_duration_says_why() {
        for (text, problem) in [
            ("", BadUnit::Duration),
            ("h", BadUnit::Duration),
            ("-1h", BadUnit::Duration),
            ("1.5h", BadUnit::Duration),
            ("1h 30m", BadUnit::Duration),
            ("30m1h", BadUnit::Duration),
            ("1h1h", BadUnit::Duration),
            ("1H", BadUnit::Duration),
            ("1y", BadUnit::Duration),
            ("30", BadUnit::DurationUnit),
            ("1h30", BadUnit::DurationUnit),
            ("99999999999s", BadUnit::DurationTooLong),
            ("4294967295w", BadUnit::DurationTooLong),
            ("\u{661}h", BadUnit::Duration),
        ] {
            assert_eq!(duration(text), Err(problem), "{text:?}");
        }
    }

    #[test]
    fn rates_are_read() {
        for (text, interval, burst) in [
            ("100/s", 10_000_000, 100),
            ("1/s", SECOND, 1),
            ("60/m", SECOND, 1),
            ("6000/m", SECOND / 100, 100),
            ("3/s", 333_333_333, 3),
            ("1/d", 86_400 * SECOND, 1),
            ("1000000000/s", 1, 1_000_000_000),
        ] {
            assert_eq!(rate(text), Ok(Rate { interval, burst }), "{text}");
        }
        for text in [
            "", "100", "/s", "100/", "100/y", "+1/s", "-1/s", "1.5/s", "1 /s",
        ] {
            assert_eq!(rate(text), Err(BadUnit::Rate), "{text:?}");
        }
        for text in ["0/s", "1000000001/s", "99999999999999999999/s"] {
            assert_eq!(rate(text), Err(BadUnit::RateRange), "{text:?}");
        }
    }

    #[test]
    fn rates_are_written() {
        for text in ["100/s", "1/s", "3/s", "7/m", "1/d"] {
            assert_eq!(rate(text).map(print_rate).as_deref(), Ok(text));
        }
        assert_eq!(rate("60/m").map(print_rate).as_deref(), Ok("1/s"));
        let slow = Rate {
            interval: 2 * 86_400 * SECOND,
            burst: 1,
        };
        assert_eq!(print_rate(slow), "1 in 2d");
    }

    #[test]
    fn times_are_read_and_written() {
        for (text, seconds) in [
            ("2027-01-01T00:00:00Z", 1_798_761_600),
            ("2027-01-01T02:00:00+02:00", 1_798_761_600),
            ("1960-01-01T00:00:00Z", 0),
        ] {
            assert_eq!(time(text).map(Timestamp::seconds), Ok(seconds), "{text}");
        }
        for text in [
            "",
            "2027-01-01",
            "tomorrow",
            "1798761600",
            "9000-01-01T00:00:00Z",
        ] {
            assert_eq!(time(text), Err(BadUnit::Time), "{text:?}");
        }
        let time = Timestamp::from_seconds(1_798_761_600);
        assert_eq!(print_time(time), "2027-01-01T00:00:00Z");
    }

    proptest! {
        #[test]
        fn durations_print_and_read_back(milliseconds in 0..1_000_000_000_000_u64) {
            let printed = print_duration(Duration::from_millis(milliseconds));
            prop_assert_eq!(duration(&printed), Ok(Duration::from_millis(milliseconds)));
        }

        #[test]
        fn rates_print_and_read_back(count in 1..2_000_000_000_u64, period in 0..4_usize) {
            if let Ok(read) = rate(&format!("{count}/{}", PERIODS[period].0)) {
                prop_assert_eq!(rate(&print_rate(read)), Ok(read));
            }
        }

        #[test]
        fn reading_never_panics(text in ".{0,24}") {
            let _ = (duration(&text), rate(&text), time(&text));
        }
    }
}
