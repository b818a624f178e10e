//! Judging a path's form: everything that an upstream may take it for.
//!
//! Pure. gatelet matches a path under one reading (percent escapes decoded once, segment by
//! segment) and forwards it unchanged, so an upstream that reads it otherwise could serve what
//! another route guards. Here every other reading is made, in any combination and any order, and
//! a path is refused unless all of them choose the same route. How a reading chooses is not here:
//! see [`route`](super::route).

use crate::rules::decision::Reject;

mod step;
#[cfg(test)]
mod tests;

use step::{Marks, Step};

/// The longest path that is judged, in bytes.
pub const MAX_PATH: usize = 8 * 1024;

/// The most readings that are made of one path. Paths met in practice have fewer than ten.
const MAX_READINGS: usize = 128;

/// The most bytes that are read while one path is judged, so that a long path that is also
/// strange costs no more than a short one.
const MAX_WORK: usize = 256 * 1024;

/// How often an upstream may decode escapes.
const DECODINGS: u8 = 2;

/// Why a path is not matched at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadPath {
    /// It is longer than [`MAX_PATH`].
    TooLong,
    /// It means different things to different readers, or nothing; this is the reason.
    Malformed(&'static str),
}

impl From<BadPath> for Reject {
    fn from(bad: BadPath) -> Self {
        match bad {
            BadPath::TooLong => Self::UriTooLong,
            BadPath::Malformed(reason) => Self::RequestMalformed(reason),
        }
    }
}

/// What one look at a path's bytes tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// It has one reading but for its case and a trailing slash.
    Plain {
        /// A letter is upper case, so that folding changes it.
        upper: bool,
    },
    /// It has more than one reading.
    Strange,
}

const PLAIN: u8 = 0;
const UPPER: u8 = 1;
const STRANGE: u8 = 2;
const REFUSED: u8 = 4;

const CLASS: [u8; 256] = {
    let mut class = [PLAIN; 256];
    let mut byte = 0;
    while byte < 256 {
        class[byte] = match byte {
            0x41..=0x5a => UPPER,
            0x25 | 0x3b | 0x5c => STRANGE,
            // Controls, space, `#`, `?` (the query is split off before), and what is not ASCII.
            0x00..=0x20 | 0x23 | 0x3f | 0x7f..=0xff => REFUSED,
            _ => PLAIN,
        };
        byte += 1;
    }
    class
};

/// Sorts a raw path, without its query, by what its bytes can mean.
pub(super) fn scan(raw: &[u8]) -> Result<Form, BadPath> {
    if raw.len() > MAX_PATH {
        return Err(BadPath::TooLong);
    }
    if raw.first() != Some(&b'/') {
        return Err(BadPath::Malformed("the path does not begin with a slash"));
    }
    let mut seen = PLAIN;
    let mut after_slash = false;
    for (at, &byte) in raw.iter().enumerate() {
        seen |= CLASS[usize::from(byte)];
        if after_slash && (byte == b'/' || (byte == b'.' && step::begins_with_dots(&raw[at..]))) {
            seen |= STRANGE;
        }
        after_slash = byte == b'/';
    }
    if seen & REFUSED != 0 {
        return Err(BadPath::Malformed(
            "the path holds a byte that no path may hold",
        ));
    }
    if seen & STRANGE != 0 {
        return Ok(Form::Strange);
    }
    Ok(Form::Plain {
        upper: seen & UPPER != 0,
    })
}

/// A segment of a path that was judged, its escapes decoded once; `None` if that is not UTF-8.
pub(super) fn decoded(segment: &[u8]) -> Option<String> {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment;
    while let [first, after @ ..] = rest {
        rest = after;
        let mut byte = *first;
        if byte == b'%' {
            let (escaped, after) = rest.split_at_checked(2)?;
            let digits = std::str::from_utf8(escaped).ok()?;
            byte = u8::from_str_radix(digits, 16).ok()?;
            rest = after;
        }
        bytes.push(byte);
    }
    String::from_utf8(bytes).ok()
}

/// Whether a raw path holds an escaped slash.
pub(super) fn has_encoded_slash(raw: &[u8]) -> bool {
    raw.windows(3)
        .any(|three| three.eq_ignore_ascii_case(b"%2f"))
}

/// What every reading of a path chooses, if they all choose the same.
///
/// `raw` has passed [`scan`]. `choose` is asked for each distinct reading, the one that gatelet
/// itself goes by first; case and trailing slash are its affair. A reading begins with `/`, and
/// the byte 0x01 in it is a slash that belongs to its segment.
pub(super) fn agree<C: Copy + PartialEq>(
    raw: &[u8],
    mut choose: impl FnMut(&[u8]) -> Result<C, BadPath>,
) -> Result<C, BadPath> {
    check_escapes(raw).map_err(BadPath::Malformed)?;
    let mut readings = Readings::of(raw);
    let mut agreed = None;
    let mut at = 0;
    while at < readings.made.len() {
        if readings.made[at].is_decoded() {
            readings.spend(at)?;
            let choice = choose(readings.text(at))?;
            if *agreed.get_or_insert(choice) != choice {
                return Err(BadPath::Malformed(
                    "the path can be read as another route's",
                ));
            }
        }
        readings.derive(at)?;
        at += 1;
    }
    agreed.ok_or(BadPath::Malformed("the path has no reading"))
}

/// Refuses a `%` that does not begin an escape.
fn check_escapes(raw: &[u8]) -> Result<(), &'static str> {
    let broken = |at: usize| raw[at] == b'%' && step::escape_at(raw, at).is_none();
    if (0..raw.len()).any(broken) {
        return Err("the path holds an invalid percent escape");
    }
    Ok(())
}

/// The readings of one path made so far, each written once behind the other.
struct Readings {
    written: Vec<u8>,
    made: Vec<Reading>,
    scratch: Vec<u8>,
    work: usize,
}

/// One reading: where it is written, and how often it may still be decoded.
#[derive(Clone, Copy)]
struct Reading {
    start: usize,
    end: usize,
    decodings: u8,
}

impl Reading {
    /// Whether an upstream may match this as it stands: it was decoded, or has no escapes.
    fn is_decoded(self) -> bool {
        self.decodings < DECODINGS
    }
}

impl Readings {
    fn of(raw: &[u8]) -> Self {
        let mut written = Vec::with_capacity(raw.len() * 4);
        written.extend_from_slice(raw);
        let mut made = Vec::with_capacity(16);
        made.push(Reading {
            start: 0,
            end: raw.len(),
            decodings: if raw.contains(&b'%') { DECODINGS } else { 0 },
        });
        Self {
            written,
            made,
            scratch: Vec::with_capacity(raw.len()),
            work: MAX_WORK,
        }
    }

    fn text(&self, at: usize) -> &[u8] {
        let Reading { start, end, .. } = self.made[at];
        &self.written[start..end]
    }

    /// Accounts for one pass over the reading.
    fn spend(&mut self, at: usize) -> Result<(), BadPath> {
        let length = self.made[at].end - self.made[at].start;
        match self.work.checked_sub(length) {
            Some(left) => self.work = left,
            None => return Err(TOO_MANY),
        }
        Ok(())
    }

    /// Makes the readings that are one step away from the given one.
    fn derive(&mut self, at: usize) -> Result<(), BadPath> {
        self.spend(at)?;
        let marks = Marks::of(self.text(at));
        let Reading { decodings, .. } = self.made[at];
        // Decoding comes first: the first decoded reading is then the one gatelet goes by.
        if marks.has(Step::DecodeOnce) && decodings > 0 {
            let decode = if decodings == DECODINGS {
                Step::DecodeOnce
            } else {
                Step::DecodeAgain
            };
            self.step(at, decode, decodings - 1)?;
        }
        for step in Step::UNDECODED {
            if marks.has(step) {
                self.step(at, step, decodings)?;
            }
        }
        Ok(())
    }

    /// Applies one step, and keeps the outcome if it is new.
    fn step(&mut self, at: usize, step: Step, decodings: u8) -> Result<(), BadPath> {
        self.spend(at)?;
        let Reading { start, end, .. } = self.made[at];
        self.scratch.clear();
        step.apply(&self.written[start..end], &mut self.scratch)
            .map_err(BadPath::Malformed)?;
        // Without escapes it makes no difference how often they were decoded.
        let decodings = if self.scratch.contains(&b'%') {
            decodings
        } else {
            0
        };
        // From a reading that may be decoded more often, everything is made that could be made
        // from this one; but one that is not decoded yet is not itself matched.
        let known = self.made.iter().any(|reading| {
            reading.end - reading.start == self.scratch.len()
                && (reading.decodings == decodings
                    || (reading.is_decoded() && reading.decodings > decodings))
                && self.written[reading.start..reading.end] == self.scratch
        });
        if known {
            return Ok(());
        }
        if self.made.len() == MAX_READINGS {
            return Err(TOO_MANY);
        }
        let start = self.written.len();
        self.written.extend_from_slice(&self.scratch);
        self.made.push(Reading {
            start,
            end: self.written.len(),
            decodings,
        });
        Ok(())
    }
}

const TOO_MANY: BadPath = BadPath::Malformed("the path has too many readings");
