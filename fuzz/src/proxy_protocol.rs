//! What a trusted proxy says before its caller's first byte.

use crate::rules::proxy_protocol::{LONGEST, Parsed, parse};

/// How many beginnings of a header are read, at its start and at its end.
const BEGINNINGS: usize = 120;

/// What a connection begins with.
///
/// A header is whole at one byte: what comes behind it changes nothing, and what is short of it is a
/// beginning. What is none stays none.
pub fn proxy_protocol(data: &[u8]) {
    let data = &data[..data.len().min(LONGEST)];
    let parsed = parse(data);
    let whole = match parsed {
        Parsed::Malformed => {
            let longer = [data, b"x"].concat();
            assert_eq!(parse(&longer[..longer.len().min(LONGEST)]), parsed);
            return;
        }
        Parsed::Incomplete => {
            assert!(data.len() < LONGEST);
            data.len()
        }
        Parsed::Done { source, length } => {
            assert!(length <= data.len());
            assert_eq!(parse(&data[..length]), parsed);
            if let Some(source) = source {
                assert_eq!(source.ip(), source.ip().to_canonical());
            }
            length
        }
    };
    let first = 0..whole.min(BEGINNINGS);
    let last = whole.saturating_sub(BEGINNINGS)..whole;
    for length in first.chain(last) {
        assert_eq!(parse(&data[..length]), Parsed::Incomplete, "{length}");
    }
}
