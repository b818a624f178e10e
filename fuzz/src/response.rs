//! What an upstream answers, hostile or not.

#[expect(dead_code, reason = "the upstream's side of gatelet uses all of it")]
#[path = "../../src/upstream/response.rs"]
mod response;

use bytes::Bytes;
use gatelet::wire::framing::{Framing, Piece};
use http::header::{self, HeaderMap, HeaderValue};
use response::{Broken, Head, parse};

/// The first byte says whether a HEAD is answered; the rest is what the upstream writes.
///
/// How it arrives makes no difference: the head that is read and the body behind it are the same
/// whether they come at once or byte by byte.
pub fn response(data: &[u8]) {
    let Some((flags, wire)) = data.split_first() else {
        return;
    };
    let to_head = flags & 1 != 0;
    let whole = Bytes::copy_from_slice(wire);
    let parsed = parse(&whole, to_head);
    let ends = match &parsed {
        Ok(Some((_, ends))) => *ends,
        _ => wire.len(),
    };
    // Never earlier, and what was refused once is refused for good.
    let mut refused = false;
    for length in (0..ends.min(wire.len())).rev().take(512) {
        match parse(&whole.slice(..length), to_head) {
            Ok(None) => {}
            Ok(Some(_)) => panic!("a head ends at {length} and at {ends}"),
            Err(_) => refused = true,
        }
    }
    match parsed {
        Err(_) => {}
        Ok(None) => assert!(!refused),
        Ok(Some((head, _))) => {
            assert!(!refused);
            let Ok(Some((alone, length))) = parse(&whole.slice(..ends), to_head) else {
                panic!("what follows a head changes it");
            };
            assert_eq!(
                (alone.framing, alone.persists),
                (head.framing, head.persists)
            );
            let (alone, fields) = (&alone.response.fields, &head.response.fields);
            assert!(alone.iter().eq(fields.iter()), "{alone:?}, {fields:?}");
            assert_eq!(length, ends);
            check_head(&head);
            check_body(head.framing, &wire[ends..]);
        }
    }
}

fn check_head(head: &Head) {
    let fields = &head.response.fields;
    for (name, value) in fields.iter() {
        assert!(HeaderValue::from_bytes(value).is_ok(), "{name}");
    }
    assert!(!fields.contains(&header::TRANSFER_ENCODING));
    assert!(fields.get_all(&header::CONTENT_LENGTH).count() <= 1);
    assert!(!head.persists || head.framing != Framing::Close);
    if let Framing::Length(length) = head.framing
        && length > 0
    {
        let said = fields.get(&header::CONTENT_LENGTH);
        let said = said.and_then(|said| str::from_utf8(said).ok());
        assert_eq!(said.and_then(|said| said.parse().ok()), Some(length));
    }
    if matches!(head.framing, Framing::Chunked(_)) {
        assert!(!fields.contains(&header::CONTENT_LENGTH));
    }
}

/// What is read of a body: its content, its trailers, whether it is over, and what is left behind it.
#[derive(Debug, PartialEq)]
struct Read {
    content: Vec<u8>,
    trailers: HeaderMap,
    over: bool,
    left: usize,
}

fn check_body(framing: Framing, wire: &[u8]) {
    let whole = read(framing, wire, wire.len().max(1));
    for step in [1, 7] {
        match (&whole, read(framing, wire, step)) {
            (Ok(whole), Ok(pieces)) => assert_eq!(pieces, *whole),
            (Err(_), Err(_)) => {}
            (whole, pieces) => panic!("at once {whole:?}, by {step} {pieces:?}"),
        }
    }
}

fn read(mut framing: Framing, wire: &[u8], step: usize) -> Result<Read, Broken> {
    let mut bytes = Bytes::new();
    let (mut content, mut trailers) = (Vec::new(), HeaderMap::new());
    let mut taken = 0;
    for next in wire.chunks(step) {
        if framing.is_over() {
            break;
        }
        taken += next.len();
        bytes = [&bytes, next].concat().into();
        while let Some(piece) = framing.take(&mut bytes)? {
            match piece {
                Piece::Data(data) => content.extend_from_slice(&data),
                Piece::Trailers(lines) => trailers = lines,
            }
        }
    }
    Ok(Read {
        content,
        trailers,
        over: framing.is_over(),
        left: wire.len() - taken + bytes.len(),
    })
}
