//! Date-times by the grammar of RFC 3339 §5.6, and no others.

use jiff::civil::{Date, Time};
use jiff::tz::Offset;

use crate::rules::time::Timestamp;

/// Reads `full-date "T" full-time`, its `T` and `Z` in either case.
///
/// None where a field is out of range or the time is one that [`Timestamp`] has not (before 1970,
/// after 2554). A leap second is the first second after it. What a fraction has beyond nine
/// digits is dropped.
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date_time, rest) = text.as_bytes().split_first_chunk::<19>()?;
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        m1,
        m2,
        b'-',
        d1,
        d2,
        b'T' | b't', //
        h1,
        h2,
        b':',
        n1,
        n2,
        b':',
        s1,
        s2,
    ] = *date_time
    else {
        return None;
    };
    let year = number([y1, y2, y3, y4])?;
    let [month, day] = [number([m1, m2])?, number([d1, d2])?];
    let [hour, minute, second] = [number([h1, h2])?, number([n1, n2])?, number([s1, s2])?];
    let (fraction, zone) = fraction(rest)?;
    let offset = offset(zone)?;

    let date = Date::new(year, narrow(month)?, narrow(day)?).ok()?;
    let time = Time::new(narrow(hour)?, narrow(minute)?, narrow(second.min(59))?, 0).ok()?;
    let local = Offset::UTC.to_timestamp(date.to_datetime(time)).ok()?;
    let mut seconds = local.as_second() - offset;
    if second > 59 {
        if second > 60 || !may_leap_after(seconds) {
            return None;
        }
        seconds += 1;
    }
    u64::try_from(seconds)
        .ok()?
        .checked_mul(1_000_000_000)?
        .checked_add(fraction)
        .map(Timestamp::from_nanoseconds)
}

/// Writes a time in UTC, with as much of a fraction as it has.
pub(super) fn print(time: Timestamp) -> String {
    // Cannot fall back: a timestamp's year is at most 2554, and jiff's calendar ends in 9999.
    jiff::Timestamp::from_nanosecond(time.nanoseconds().into())
        .unwrap_or_default()
        .to_string()
}

/// Splits `[ "." 1*DIGIT ]`, in nanoseconds, from the offset.
fn fraction(text: &[u8]) -> Option<(u64, &[u8])> {
    let Some(digits) = text.strip_prefix(b".") else {
        return Some((0, text));
    };
    let length = digits
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let (digits, zone) = digits.split_at(length);
    let mut nine = [b'0'; 9];
    for (place, digit) in nine.iter_mut().zip(digits) {
        *place = *digit;
    }
    let nanoseconds = nine
        .iter()
        .fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
    (length > 0).then_some((nanoseconds, zone))
}

/// Reads `"Z" / ( "+" / "-" ) time-hour ":" time-minute`, in seconds to take off.
fn offset(text: &[u8]) -> Option<i64> {
    match *text {
        [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2] => {
            let [hours, minutes] = [number([h1, h2])?, number([m1, m2])?];
            if hours > 23 || minutes > 59 {
                return None;
            }
            let seconds = i64::from(hours) * 3600 + i64::from(minutes) * 60;
            Some(if sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

/// Whether a leap second may follow this one: the last of a June or a December in UTC
/// (RFC 3339 §5.7). Which years have one is known half a year ahead at most, and not asked.
fn may_leap_after(seconds: i64) -> bool {
    jiff::Timestamp::from_second(seconds).is_ok_and(|time| {
        let time = Offset::UTC.to_datetime(time);
        matches!((time.month(), time.day()), (6, 30) | (12, 31))
            && (time.hour(), time.minute(), time.second()) == (23, 59, 59)
    })
}

fn number<const DIGITS: usize>(digits: [u8; DIGITS]) -> Option<i16> {
    digits.iter().try_fold(0_i16, |sum, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        Some(sum * 10 + i16::try_from(digit).ok()?)
    })
}

fn narrow(number: i16) -> Option<i8> {
    i8::try_from(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn date_times_are_read() {
        for (text, nanoseconds) in [
            // The examples of RFC 3339 §5.8; the one of 1937 is before the epoch.
            ("1985-04-12T23:20:50.52Z", 482_196_050_520_000_000),
            ("1996-12-19T16:39:57-08:00", 851_042_397_000_000_000),
            ("1990-12-31T23:59:60Z", 662_688_000_000_000_000),
            ("1990-12-31T15:59:60-08:00", 662_688_000_000_000_000),
            // Every alternative of the grammar.
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01t00:00:00z", 0),
            ("1970-01-01T00:00:00+00:00", 0),
            ("1970-01-01T00:00:00-00:00", 0),
            ("1970-01-01T23:59:00+23:59", 0),
            ("1969-12-31T00:01:00-23:59", 0),
            ("1970-01-01T00:00:00.0Z", 0),
            ("1970-01-01T00:00:00.1Z", 100_000_000),
            ("1970-01-01T00:00:00.000000001Z", 1),
            ("1970-01-01T00:00:00.0000000019999999999999999999999Z", 1),
            ("1970-01-01T00:00:00.25+00:00", 250_000_000),
            ("2016-12-31T23:59:60.5Z", 1_483_228_800_500_000_000),
            ("2015-06-30T23:59:60Z", 1_435_708_800_000_000_000),
            ("2015-07-01T01:59:60+02:00", 1_435_708_800_000_000_000),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000_000_000),
            ("2000-02-29T00:00:00Z", 951_782_400_000_000_000),
            ("2554-07-21T23:34:33.709551615Z", u64::MAX),
        ] {
            assert_eq!(
                parse(text).map(Timestamp::nanoseconds),
                Some(nanoseconds),
                "{text}"
            );
        }
    }

    #[test]
    fn what_is_no_date_time_is_refused() {
        for text in [
            "",
            "1970-01-01",
            "1970-01-01T00:00Z",
            "1970-01-01T00:00:00",
            "1970-01-01 00:00:00Z",
            "1970-01-01T00:00:00 Z",
            "1970-01-01T00:00:00Z ",
            " 1970-01-01T00:00:00Z",
            "1970-01-01T00:00:00ZZ",
            "1970-01-01T00:00:00Z[UTC]",
            "1970-01-01T00:00:00.Z",
            "1970-01-01T00:00:00,5Z",
            "1970-01-01T00:00:00+0000",
            "1970-01-01T00:00:00+00",
            "1970-01-01T00:00:00+24:00",
            "1970-01-01T00:00:00+00:60",
            "1970-01-01T00:00:00\u{2212}00:00",
            "1970-01-01T00:00:00+1:000",
            "1970-1-01T00:00:00Z",
            "+970-01-01T00:00:00Z",
            "-001970-01-01T00:00:00Z",
            "12970-01-01T00:00:00Z",
            "19700101T000000Z",
            "1970-00-01T00:00:00Z",
            "1970-13-01T00:00:00Z",
            "1970-01-00T00:00:00Z",
            "1970-01-32T00:00:00Z",
            "1970-04-31T00:00:00Z",
            "2023-02-29T00:00:00Z",
            "2100-02-29T00:00:00Z",
            "1970-01-01T24:00:00Z",
            "1970-01-01T00:60:00Z",
            "1970-01-01T00:00:61Z",
            // Leap seconds where none can be.
            "1970-01-01T00:00:60Z",
            "1990-12-31T23:58:60Z",
            "1990-12-31T23:59:60-08:00",
            "1990-11-30T23:59:60Z",
            // Times that a timestamp has not.
            "1969-12-31T23:59:59Z",
            "1970-01-01T00:00:00+00:01",
            "1937-01-01T12:00:27.87+00:20",
            "2554-07-21T23:34:33.709551616Z",
            "9999-12-31T23:59:59Z",
            "0000-01-01T00:00:00Z",
        ] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn times_print_and_read_back(nanoseconds: u64) {
            let time = Timestamp::from_nanoseconds(nanoseconds);
            prop_assert_eq!(parse(&print(time)), Some(time));
        }

        /// But for offsets, which jiff takes up to 25:59.
        #[test]
        fn what_is_read_is_what_jiff_reads(
            text in "20[0-9]{2}-[0-1][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,9})?(Z|[+-](0[0-9]|1[0-9]|2[0-3]):[0-5][0-9])",
        ) {
            let jiff = text.parse::<jiff::Timestamp>();
            let nanoseconds = jiff.ok().map(jiff::Timestamp::as_nanosecond);
            prop_assert_eq!(parse(&text).map(|time| time.nanoseconds().into()), nanoseconds);
        }

        #[test]
        fn reading_never_panics(text in ".{0,40}") {
            let _ = parse(&text);
        }
    }
}
