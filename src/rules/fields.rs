//! The fields of a message's head, in the order of its lines (RFC 9110 §5).

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use http::header::{HeaderMap, HeaderName, HeaderValue};

/// The fields of a head.
///
/// There are few of them: to look through them all costs less than to fill a table that is asked a few times. What was
/// read stays where it was read, in one piece.
#[derive(Clone, Default)]
pub struct Fields {
    read: Bytes,
    lines: Vec<(HeaderName, Value)>,
}

#[derive(Clone)]
enum Value {
    /// Here in what was read.
    Read(Range<u32>),
    /// There as well, on a line that begins so far before it and is written as gatelet would write it.
    Plain(u32, Range<u32>),
    /// A word of this length, in place.
    Word([u8; 32]),
    /// Said by gatelet, or over HTTP/2.
    Written(HeaderValue),
}

impl Value {
    fn bytes<'f>(&'f self, read: &'f [u8]) -> &'f [u8] {
        match self {
            Self::Read(place) | Self::Plain(_, place) => read
                .get(place.start as usize..place.end as usize)
                .unwrap_or_default(),
            Self::Word(word) => word,
            Self::Written(value) => value.as_bytes(),
        }
    }
}

/// How long the end of a line is.
const LINE_END: u32 = 2;

/// A place in a head: none is so long that one would not fit.
fn at(place: usize) -> u32 {
    u32::try_from(place).unwrap_or(u32::MAX)
}

fn short(place: &Range<usize>) -> Range<u32> {
    at(place.start)..at(place.end)
}

impl Fields {
    /// No fields, and room for so many.
    pub fn with_capacity(lines: usize) -> Self {
        Self {
            read: Bytes::new(),
            lines: Vec::with_capacity(lines),
        }
    }

    /// Forgets what there was, and begins anew with so many lines in what was `read`.
    pub fn begin(&mut self, read: Bytes, lines: usize) {
        self.lines.clear();
        self.lines.reserve(lines);
        self.read = read;
    }

    /// What was `read` is this, in which the lines that were added have their places.
    pub fn lie_in(&mut self, read: Bytes) {
        self.read = read;
    }

    /// Forgets what there was, and keeps the room for as much.
    pub fn clear(&mut self) {
        self.lines.clear();
        self.read = Bytes::new();
    }

    /// For how many lines there is room.
    pub fn capacity(&self) -> usize {
        self.lines.capacity()
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is no line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// Adds a line whose value has this place in what was read, and is what a [`HeaderValue`] may be.
    pub fn append_read(&mut self, name: HeaderName, place: Range<usize>) {
        self.lines.push((name, Value::Read(short(&place))));
    }

    /// As [`Self::append_read`], where its line `begins` there with its name, a colon and one space before the value,
    /// and ends behind that with CR LF.
    pub fn append_plain(&mut self, name: HeaderName, begins: usize, place: Range<usize>) {
        let place = short(&place);
        let before = place.start.saturating_sub(at(begins));
        self.lines.push((name, Value::Plain(before, place)));
    }

    /// Adds a line.
    pub fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.lines.push((name, Value::Written(value)));
    }

    /// Adds a line in place of those of that name.
    pub fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        self.remove(&name);
        self.append(name, value);
    }

    /// Adds a line in place of those of that name; its value is a word of visible ASCII.
    pub fn insert_word(&mut self, name: HeaderName, word: [u8; 32]) {
        self.remove(&name);
        self.lines.push((name, Value::Word(word)));
    }

    /// Takes the lines of that name away.
    pub fn remove(&mut self, name: &HeaderName) {
        if self.contains(name) {
            self.lines.retain(|(other, _)| other != name);
        }
    }

    /// Takes the lines away that are not to be kept.
    pub fn retain(&mut self, mut is_kept: impl FnMut(&HeaderName, &[u8]) -> bool) {
        let read = &self.read;
        self.lines
            .retain(|(name, value)| is_kept(name, value.bytes(read)));
    }

    /// Whether there is a line of that name.
    pub fn contains(&self, name: &HeaderName) -> bool {
        self.names().any(|other| other == name)
    }

    /// The value of the first line of that name.
    pub fn get(&self, name: &HeaderName) -> Option<&[u8]> {
        self.get_all(name).next()
    }

    /// The values of all lines of that name.
    pub fn get_all(&self, name: &HeaderName) -> impl DoubleEndedIterator<Item = &[u8]> {
        let of_name = self.lines.iter().filter(move |(other, _)| other == name);
        of_name.map(|(_, value)| value.bytes(&self.read))
    }

    /// The name of each line.
    pub fn names(&self) -> impl Iterator<Item = &HeaderName> {
        self.lines.iter().map(|(name, _)| name)
    }

    /// The value of each line.
    pub fn values(&self) -> impl Iterator<Item = &[u8]> {
        self.iter().map(|(_, value)| value)
    }

    /// Writes those lines that `is_written` says as HTTP/1.1 has them; it is asked for each in turn.
    pub fn write<'f>(
        &'f self,
        bytes: &mut Vec<u8>,
        mut is_written: impl FnMut(&'f HeaderName, &'f [u8]) -> bool,
    ) {
        // Plain lines that were read one behind the other are written at once.
        let mut run = 0..0;
        let written = |run: &Range<u32>| self.read.get(run.start as usize..run.end as usize);
        for (name, value) in &self.lines {
            let text = value.bytes(&self.read);
            if !is_written(name, text) {
                continue;
            }
            if let Value::Plain(before, place) = value {
                let (begins, ends) = (place.start - before, place.end + LINE_END);
                if run.end != begins {
                    bytes.extend_from_slice(written(&run).unwrap_or_default());
                    run.start = begins;
                }
                run.end = ends;
                continue;
            }
            bytes.extend_from_slice(written(&run).unwrap_or_default());
            run = 0..0;
            bytes.extend_from_slice(name.as_str().as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(text);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(written(&run).unwrap_or_default());
    }

    /// Each line.
    pub fn iter(&self) -> impl Iterator<Item = (&HeaderName, &[u8])> {
        let read = &self.read;
        self.lines
            .iter()
            .map(move |(name, value)| (name, value.bytes(read)))
    }
}

/// The lines, wherever they are kept.
impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.iter();
        let lines = lines.map(|(name, value)| (name, value.escape_ascii().to_string()));
        f.debug_list().entries(lines).finish()
    }
}

impl FromIterator<(HeaderName, HeaderValue)> for Fields {
    fn from_iter<I: IntoIterator<Item = (HeaderName, HeaderValue)>>(lines: I) -> Self {
        let lines = lines.into_iter();
        Self {
            read: Bytes::new(),
            lines: lines
                .map(|(name, value)| (name, Value::Written(value)))
                .collect(),
        }
    }
}

impl From<HeaderMap> for Fields {
    fn from(headers: HeaderMap) -> Self {
        let mut fields = Self::with_capacity(headers.len());
        let mut last = None;
        for (name, value) in headers {
            // A name is said once for all of its values.
            if name.is_some() {
                last = name;
            }
            if let Some(name) = &last {
                fields.append(name.clone(), value);
            }
        }
        fields
    }
}

impl From<Fields> for HeaderMap {
    fn from(fields: Fields) -> Self {
        let mut headers = Self::with_capacity(fields.len());
        for (name, value) in fields.lines {
            let value = match value {
                Value::Written(value) => Ok(value),
                Value::Word(word) => HeaderValue::from_bytes(&word),
                Value::Read(_) | Value::Plain(..) => {
                    let value = fields.read.slice_ref(value.bytes(&fields.read));
                    HeaderValue::from_maybe_shared(value)
                }
            };
            // What was read is a value: whoever read it has seen to that.
            if let Ok(value) = value {
                headers.append(name, value);
            }
        }
        headers
    }
}

/// A value as text, where it is visible ASCII.
pub fn text(value: &[u8]) -> Option<&str> {
    let is_visible = |byte: &u8| matches!(byte, b' '..=b'~' | b'\t');
    let value = value.iter().all(is_visible).then_some(value)?;
    std::str::from_utf8(value).ok()
}

/// A value as a number, where it is digits alone (RFC 9110 §8.6).
pub fn number(value: &[u8]) -> Option<u64> {
    let (first, rest) = value.split_first()?;
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    rest.iter().try_fold(digit(first)?, |number, byte| {
        number.checked_mul(10)?.checked_add(digit(byte)?)
    })
}

#[cfg(test)]
mod tests {
    use http::header::{ACCEPT, AGE, DATE, HOST, VIA};

    use super::*;

    const HEAD: &[u8] = b"host: h\r\naccept: a\r\naccept: \r\n";

    fn read() -> Fields {
        let mut fields = Fields::default();
        fields.append(DATE, HeaderValue::from_static("forgotten"));
        fields.begin(Bytes::from_static(HEAD), 3);
        fields.append_plain(HOST, 0, 6..7);
        fields.append_read(ACCEPT, 17..18);
        fields.append_read(ACCEPT, 28..28);
        fields
    }

    fn lines(fields: &Fields) -> Vec<(&str, &str)> {
        let lines = fields.iter();
        lines
            .map(|(name, value)| (name.as_str(), std::str::from_utf8(value).unwrap()))
            .collect()
    }

    #[test]
    fn lines_keep_their_order_wherever_their_values_are() {
        let mut fields = read();
        fields.append(VIA, HeaderValue::from_static("v"));
        let all = [("host", "h"), ("accept", "a"), ("accept", ""), ("via", "v")];
        assert_eq!(lines(&fields), all);
        assert_eq!(fields.get(&HOST), Some(&b"h"[..]));
        assert_eq!(fields.get(&DATE), None);
        let accept: Vec<_> = fields.get_all(&ACCEPT).collect();
        assert_eq!(accept, [&b"a"[..], b""]);
        fields.insert(ACCEPT, HeaderValue::from_static("b"));
        assert_eq!(
            lines(&fields),
            [("host", "h"), ("via", "v"), ("accept", "b")]
        );
        fields.remove(&HOST);
        fields.retain(|name, value| *name != VIA && value == b"b");
        assert_eq!(lines(&fields), [("accept", "b")]);
        fields.clear();
        assert!(fields.is_empty());
    }

    #[test]
    fn plain_lines_are_written_as_they_were_read() {
        let mut fields = Fields::default();
        let head = b"x\r\nHost: h\r\nDATE: d\r\nACCEPT:  a\r\nAge: 9\r\nAge: 8\r\n";
        fields.begin(Bytes::from_static(head), 2);
        fields.append_plain(HOST, 3, 9..10);
        fields.append_plain(DATE, 12, 18..19);
        fields.append_read(ACCEPT, 30..31);
        fields.append_plain(AGE, 33, 38..39);
        fields.append(VIA, HeaderValue::from_static("v"));
        fields.append_plain(AGE, 41, 46..47);
        let written = |but: Option<HeaderName>| {
            let mut bytes = b"before ".to_vec();
            fields.write(&mut bytes, |name, _| Some(name) != but.as_ref());
            String::from_utf8(bytes).unwrap()
        };
        let (host, date) = ("Host: h\r\n", "DATE: d\r\n");
        let (accept, ages) = ("accept: a\r\n", ["Age: 9\r\n", "Age: 8\r\n"]);
        let via = "via: v\r\n";
        for (but, lines) in [
            (None, vec![host, date, accept, ages[0], via, ages[1]]),
            (Some(HOST), vec![date, accept, ages[0], via, ages[1]]),
            (Some(DATE), vec![host, accept, ages[0], via, ages[1]]),
            (Some(ACCEPT), vec![host, date, ages[0], via, ages[1]]),
            (Some(VIA), vec![host, date, accept, ages[0], ages[1]]),
            (Some(AGE), vec![host, date, accept, via]),
        ] {
            assert_eq!(written(but), format!("before {}", lines.concat()));
        }
    }

    #[test]
    fn they_are_what_the_library_has() {
        let mut fields = read();
        fields.append(VIA, HeaderValue::from_static("v"));
        fields.insert_word(AGE, [b'9'; 32]);
        let headers = HeaderMap::from(fields.clone());
        assert_eq!(headers.len(), 5);
        assert_eq!(headers[AGE].as_bytes(), [b'9'; 32]);
        assert_eq!(headers[HOST], "h");
        assert_eq!(headers.get_all(ACCEPT).iter().count(), 2);
        assert_eq!(lines(&Fields::from(headers)), lines(&fields));
    }

    #[test]
    fn a_number_is_digits_alone() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"0012"), Some(12));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            &b""[..],
            b"+5",
            b"-1",
            b"5 ",
            b"5,5",
            b"0x5",
            b"18446744073709551616",
        ] {
            assert_eq!(number(bad), None);
        }
    }

    #[test]
    fn text_is_visible() {
        assert_eq!(text(b"a \t~"), Some("a \t~"));
        for bad in [&b"\x7f"[..], b"\xc3\xa9", b"\0"] {
            assert_eq!(text(bad), None);
            let library = HeaderValue::from_bytes(bad);
            assert!(library.is_err() || library.unwrap().to_str().is_err());
        }
    }
}
