//! What upstreams do to a path, one step at a time.
//!
//! Each step takes a reading that begins with `/` and writes another that does. In which order
//! they come is decided by [`agree`](super::agree).

/// An escaped slash that was decoded into its segment. It is data until a reading takes it for a
/// separator; control bytes are refused, so that no path holds this byte itself.
const KEPT_SLASH: u8 = 0x01;

/// White space that is no control character: a space, and what Node's `url.parse` takes for one, as
/// it stands in UTF-8 and in Latin-1.
const SPACES: [&[u8]; 4] = [b" ", b"\xc2\xa0", b"\xa0", b"\xef\xbb\xbf"];

/// Something that upstreams do to a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Decodes the escapes that the caller wrote.
    DecodeOnce,
    /// Decodes what decoding left.
    DecodeAgain,
    /// Takes a slash that was escaped for a separator.
    SplitAtKeptSlashes,
    /// Takes a backslash for a separator, as Windows and browsers do.
    SplitAtBackslashes,
    /// Drops what follows a `;` in each segment, as servlet containers do.
    StripParameters,
    /// Drops empty segments but for the last.
    CollapseSlashes,
    /// Resolves dot segments (RFC 3986 §5.2.4), which here may not climb above the root.
    ResolveDots,
    /// Ends the path at a `#`, as whoever parses a decoded path as a URL does.
    CutAtHash,
    /// Ends the path at a `?`.
    CutAtQuestion,
    /// Takes `//name/…` for a reference to another host, as `new URL(path, base)` does
    /// (RFC 3986 §4.2).
    DropAuthority,
    /// Drops white space at the end of each segment: of the last, as whoever writes a decoded path
    /// into a request's first line, or has it read by Node's `url.parse`; of any, as file systems.
    TrimSpace,
}

impl Step {
    /// Every step but decoding.
    pub(super) const UNDECODED: [Self; 9] = [
        Self::SplitAtKeptSlashes,
        Self::SplitAtBackslashes,
        Self::StripParameters,
        Self::CollapseSlashes,
        Self::ResolveDots,
        Self::CutAtHash,
        Self::CutAtQuestion,
        Self::DropAuthority,
        Self::TrimSpace,
    ];

    /// Writes what the step makes of `text`; says why where only an attack would come to that.
    pub(super) fn apply(self, text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
        match self {
            Self::DecodeOnce => decode_once(text, out)?,
            Self::DecodeAgain => decode_again(text, out)?,
            Self::SplitAtKeptSlashes => replace(text, KEPT_SLASH, out),
            Self::SplitAtBackslashes => replace(text, b'\\', out),
            Self::StripParameters => strip_parameters(text, out),
            Self::CollapseSlashes => collapse_slashes(text, out),
            Self::ResolveDots => resolve_dots(text, out)?,
            Self::CutAtHash => cut(text, b'#', out),
            Self::CutAtQuestion => cut(text, b'?', out),
            Self::DropAuthority => drop_authority(text, out),
            Self::TrimSpace => trim_space(text, out),
        }
        Ok(())
    }

    fn mark(self) -> u16 {
        1 << self as u16
    }
}

/// The steps that would change a reading.
#[derive(Clone, Copy)]
pub(super) struct Marks(u16);

impl Marks {
    /// Looks for what each step works on.
    pub(super) fn of(text: &[u8]) -> Self {
        let mut marks = 0;
        let mut after_slash = false;
        for (at, &byte) in text.iter().enumerate() {
            let step = match byte {
                b'%' => Some(Step::DecodeOnce),
                KEPT_SLASH => Some(Step::SplitAtKeptSlashes),
                b'\\' => Some(Step::SplitAtBackslashes),
                b';' => Some(Step::StripParameters),
                b'#' => Some(Step::CutAtHash),
                b'?' => Some(Step::CutAtQuestion),
                b'/' if after_slash => Some(Step::CollapseSlashes),
                b'/' if ends_in_space(&text[..at]) => Some(Step::TrimSpace),
                b'.' if after_slash && begins_with_dots(&text[at..]) => Some(Step::ResolveDots),
                _ => None,
            };
            marks |= step.map_or(0, Step::mark);
            after_slash = byte == b'/';
        }
        if text.starts_with(b"//") {
            marks |= Step::DropAuthority.mark();
        }
        if ends_in_space(text) {
            marks |= Step::TrimSpace.mark();
        }
        Self(marks)
    }

    /// Whether the step would change the reading.
    pub(super) fn has(self, step: Step) -> bool {
        self.0 & step.mark() != 0
    }
}

/// Whether the first segment of `rest` is `.` or `..`.
pub(super) fn begins_with_dots(rest: &[u8]) -> bool {
    matches!(
        rest,
        [b'.'] | [b'.', b'/', ..] | [b'.', b'.'] | [b'.', b'.', b'/', ..]
    )
}

/// The byte that the escape at `at` stands for.
pub(super) fn escape_at(text: &[u8], at: usize) -> Option<u8> {
    let [b'%', high, low] = *text.get(at..at + 3)? else {
        return None;
    };
    let digit = |byte: u8| char::from(byte).to_digit(16);
    u8::try_from(digit(high)? << 4 | digit(low)?).ok()
}

/// Decodes the escapes that the caller wrote; what they stand for must be UTF-8.
fn decode_once(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    decode(text, out)?;
    if std::str::from_utf8(out).is_err() {
        return Err("the path's escapes are not UTF-8");
    }
    Ok(())
}

/// Decodes what decoding left.
///
/// Names such as `100%effective` come by here, so that other bytes than UTF-8 are let be, unless
/// a lenient decoder makes ASCII of them (RFC 3629 §10).
fn decode_again(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    decode(text, out)?;
    let overlong = |two: &[u8]| {
        matches!(
            two,
            [0xc0 | 0xc1, 0x80..=0xbf] | [0xe0, 0x80..=0x9f] | [0xf0, 0x80..=0x8f]
        )
    };
    if out.windows(2).any(overlong) {
        return Err("the path holds an overlong encoding");
    }
    Ok(())
}

/// Decodes each escape once; slashes stay in their segment, and a `%` without digits as it is.
fn decode(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut after_separator = false;
    let mut at = 0;
    while at < text.len() {
        let escape = escape_at(text, at);
        let byte = escape.unwrap_or(text[at]);
        if escape.is_some() && byte.is_ascii_control() {
            return Err("the path holds a control character");
        }
        let separator = byte == KEPT_SLASH || (escape.is_some() && matches!(byte, b'/' | b'\\'));
        if (separator && out.last() == Some(&b'.')) || (after_separator && byte == b'.') {
            return Err("the path holds an encoded slash next to a dot");
        }
        out.push(if separator && byte == b'/' {
            KEPT_SLASH
        } else {
            byte
        });
        after_separator = separator;
        at += if escape.is_some() { 3 } else { 1 };
    }
    Ok(())
}

fn replace(text: &[u8], separator: u8, out: &mut Vec<u8>) {
    out.extend(
        text.iter()
            .map(|&byte| if byte == separator { b'/' } else { byte }),
    );
}

fn strip_parameters(text: &[u8], out: &mut Vec<u8>) {
    let mut inside = false;
    for &byte in text {
        inside = byte != b'/' && (inside || byte == b';');
        if !inside {
            out.push(byte);
        }
    }
}

fn collapse_slashes(text: &[u8], out: &mut Vec<u8>) {
    for &byte in text {
        if byte != b'/' || out.last() != Some(&b'/') {
            out.push(byte);
        }
    }
}

fn resolve_dots(text: &[u8], out: &mut Vec<u8>) -> Result<(), &'static str> {
    let mut ends_in_dots = false;
    for segment in segments(text) {
        ends_in_dots = matches!(segment, b"." | b"..");
        if segment == b".." {
            let Some(parent) = out.iter().rposition(|&byte| byte == b'/') else {
                return Err("the path climbs above its root");
            };
            out.truncate(parent);
        } else if !ends_in_dots {
            out.push(b'/');
            out.extend_from_slice(segment);
        }
    }
    if ends_in_dots {
        out.push(b'/');
    }
    Ok(())
}

fn cut(text: &[u8], end: u8, out: &mut Vec<u8>) {
    out.extend(text.iter().copied().take_while(|&byte| byte != end));
}

fn drop_authority(text: &[u8], out: &mut Vec<u8>) {
    let mut path = text.iter().copied().skip_while(|&byte| byte == b'/');
    out.push(b'/');
    if path.any(|byte| byte == b'/') {
        out.extend(path);
    }
}

fn trim_space(text: &[u8], out: &mut Vec<u8>) {
    for mut segment in segments(text) {
        while let Some(rest) = without_space(segment) {
            segment = rest;
        }
        out.push(b'/');
        out.extend_from_slice(segment);
    }
}

fn ends_in_space(text: &[u8]) -> bool {
    without_space(text).is_some()
}

/// The text without the space that it ends in, if it does.
fn without_space(text: &[u8]) -> Option<&[u8]> {
    SPACES.iter().find_map(|space| text.strip_suffix(*space))
}

fn segments(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|&byte| byte == b'/').skip(1)
}
