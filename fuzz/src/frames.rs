//! The frames of an HTTP/2 connection, for what they are worth.

use crate::rules::frames::{Flood, Frames};

/// What stands before the frames.
const PREFACE: [u8; 24] = *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The first byte says in which pieces the rest arrives, behind the preface.
///
/// It is the same flood, or none, at the same frame, however the bytes are cut.
pub fn frames(data: &[u8]) {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let bytes = [&PREFACE, rest].concat();
    let walked = |piece: usize| -> (Result<(), Flood>, u32, Option<u32>) {
        let mut frames = Frames::default();
        for bytes in bytes.chunks(piece) {
            if frames.arrived(bytes, || 0).is_err() {
                return (Err(Flood), frames.last_stream(), None);
            }
        }
        (Ok(()), frames.last_stream(), frames.unfinished())
    };
    let whole = walked(bytes.len());
    assert_eq!(walked(usize::from(first) + 1), whole);
    assert_eq!(walked(1), whole);
}
