use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

fn greeted() -> Frames {
    let mut frames = Frames::default();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(frames.arrived(preface, || 0), Ok(()));
    frames
}

/// How many times `unit` passes at once, if not for ever.
fn burst(unit: &[u8]) -> Option<usize> {
    let mut frames = greeted();
    (0..1_000_000).find(|_| frames.arrived(unit, || 0).is_err())
}

/// Whether `unit` passes for an hour, so often a second.
fn sustained(unit: &[u8], rate: u64, wrote: usize) -> bool {
    let mut frames = greeted();
    (0..rate.saturating_mul(3_600).min(2_000_000)).all(|n| {
        frames.wrote(wrote);
        frames.arrived(unit, || n * SECOND / rate).is_ok()
    })
}

fn headers(stream: u32) -> Vec<u8> {
    frame(HEADERS, 5, stream, &[0x82; 20])
}

fn cancelled() -> Vec<u8> {
    [headers(1), frame(RST_STREAM, 0, 1, &[0; 4])].concat()
}

#[test]
fn a_header_block_is_unfinished_until_its_last_byte() {
    let mut frames = greeted();
    let mut see = |bytes: &[u8]| {
        assert_eq!(frames.arrived(bytes, || 0), Ok(()));
        frames.unfinished()
    };
    let whole = headers(1);
    assert_eq!(see(&whole[..9]), Some(0));
    assert_eq!(see(&whole[9..28]), Some(0));
    assert_eq!(see(&whole[28..]), None);
    let large = frame(HEADERS, END_HEADERS, 1, &[0x82; 10_000]);
    assert_eq!(see(&large[..9]), Some(0), "what is announced is not there");
    assert_eq!(see(&large[9..9 + 5_000]), Some(5_000 - SPARED));
    assert_eq!(see(&large[9 + 5_000..9 + 9_999]), Some(9_999 - SPARED));
    assert_eq!(see(&large[9 + 9_999..]), None);
    assert_eq!(see(&frame(DATA, 0, 1, &[0; 100])[..50]), None);
    assert_eq!(see(&[0; 59]), None);
    let first = frame(HEADERS, 0, 3, &[0x82; 30]);
    assert_eq!(see(&first[..9]), Some(WHOLE_FRAME), "it will be unpacked");
    assert_eq!(see(&first[9..]), Some(WHOLE_FRAME));
    let second = frame(CONTINUATION, 0, 3, &[0x82; 16_384]);
    assert_eq!(see(&second), Some(16_414));
    let last = frame(CONTINUATION, END_HEADERS, 3, &[0; 5]);
    assert_eq!(see(&last[..1]), Some(16_414));
    assert_eq!(see(&last[1..9]), Some(16_414));
    assert_eq!(see(&last[9..12]), Some(16_417));
    assert_eq!(see(&last[12..]), None);
    assert_eq!(see(&frame(HEADERS, 0, 5, &[])), Some(WHOLE_FRAME));
    assert_eq!(see(&frame(CONTINUATION, END_HEADERS, 5, &[])), None);
}

#[test]
fn floods_are_told_from_bursts() {
    for (case, unit, most) in [
        ("pings", frame(PING, 0, 0, &[0; 8]), 256),
        ("pongs", frame(PING, ACK, 0, &[0; 8]), 256),
        ("settings", frame(SETTINGS, 0, 0, &[0; 6]), 16),
        ("acknowledgements", frame(SETTINGS, ACK, 0, &[]), 256),
        ("priorities", frame(PRIORITY, 0, 1, &[0; 5]), 512),
        ("updates", frame(PRIORITY_UPDATE, 0, 0, b"xxxxu=1"), 512),
        ("windows", frame(WINDOW_UPDATE, 0, 0, &[0; 4]), 256),
        ("continuations", frame(CONTINUATION, 0, 1, &[]), 512),
        ("unknown", frame(0xbe, 0, 0, &[]), 512),
        ("unknown and long", frame(0xbe, 0, 0, &[0; 8_176]), 1),
        ("empty data", frame(DATA, 0, 1, &[]), 1_638),
        ("bytes", frame(DATA, 0, 1, b"x"), 2_048),
        ("padding", frame(DATA, PADDED, 1, &[99; 100]), 1_638),
        (
            "a byte, padded",
            frame(DATA, PADDED, 1, &[2, 1, 0, 0]),
            2_048,
        ),
        ("cancelled requests", cancelled(), 4_094),
    ] {
        assert_eq!(burst(&unit), Some(most), "{case}");
    }
}

#[test]
fn a_steady_trickle_is_no_flood() {
    let ping = frame(PING, 0, 0, &[0; 8]);
    assert!(sustained(&ping, 16, 0));
    assert!(!sustained(&ping, 32, 0));
    assert!(!sustained(&ping, 32, 17), "its answers do not pay for it");
    assert!(sustained(&frame(DATA, 0, 1, b"x"), 125, 0));
    assert!(sustained(&cancelled(), 256, 0));
    assert!(
        !sustained(&cancelled(), 512, 100_000),
        "nor does a download"
    );
    assert!(sustained(&frame(SETTINGS, 0, 0, &[0; 6]), 1, 0));
}

#[test]
fn what_honest_peers_send_passes_at_any_rate() {
    let ping = || frame(PING, 0, 0, &[0; 8]);
    let window = |stream| frame(WINDOW_UPDATE, 0, stream, &[0, 0, 0, 25]);
    let message = || frame(DATA, 0, 1, &[0; 25]);
    let chunk = || frame(DATA, 0, 1, &[0; 16_384]);
    for (case, unit, wrote) in [
        (
            "small messages both ways",
            vec![message(), window(1), ping()],
            34 + 17,
        ),
        ("small messages, upwards", vec![message()], 0),
        (
            "small messages, downwards",
            vec![window(0), window(1), ping()],
            34 + 17,
        ),
        ("empty messages", vec![frame(DATA, 0, 1, &[0; 5])], 0),
        ("small requests", vec![headers(1), window(1)], 60),
        (
            "requests with priorities",
            vec![headers(1), frame(PRIORITY, 0, 1, &[0; 5]), window(1)],
            60,
        ),
        (
            "posts of nothing",
            vec![headers(1), frame(DATA, END_STREAM, 1, &[])],
            60,
        ),
        ("an upload", vec![chunk()], 0),
        ("a download", vec![window(0), window(1)], 4_096),
        ("half of all cancelled", vec![headers(1), cancelled()], 20),
    ] {
        assert!(sustained(&unit.concat(), 1_000_000, wrote), "{case}");
    }
}

#[test]
fn the_last_stream_is_known() {
    let mut frames = greeted();
    for stream in [1, 7 | 1 << 31, 5] {
        assert_eq!(frames.arrived(&headers(stream), || 0), Ok(()));
    }
    assert_eq!(frames.last_stream(), 7);
}

/// Some frames, with what they are cut by.
fn traffic() -> impl Strategy<Value = Vec<u8>> {
    let one = (0..12_u8, any::<u8>(), 0..600_usize)
        .prop_map(|(kind, flags, length)| frame(kind, flags, 1, &vec![flags; length]));
    let flood = (one, 1..300_usize).prop_map(|(frame, times)| frame.repeat(times));
    prop::collection::vec(flood, 1..40).prop_map(|floods| floods.concat())
}

proptest! {
    #[test]
    fn pieces_do_not_matter(traffic in traffic(), pieces in prop::collection::vec(1..5_000_usize, 1..50)) {
        let mut whole = greeted();
        let at_once = whole.arrived(&traffic, || SECOND);
        let mut frames = greeted();
        let mut left = &traffic[..];
        let mut outcome = Ok(());
        for piece in pieces.iter().cycle() {
            let (bytes, rest) = left.split_at((*piece).min(left.len()));
            outcome = outcome.and(frames.arrived(bytes, || SECOND));
            left = rest;
            if left.is_empty() || outcome.is_err() {
                break;
            }
        }
        prop_assert_eq!(outcome, at_once);
        prop_assert_eq!(frames.spent, whole.spent);
    }

    #[test]
    fn no_bytes_are_too_strange(bytes: Vec<u8>, wrote: usize, now: u64) {
        let mut frames = Frames::default();
        frames.wrote(wrote);
        let _ = frames.arrived(&bytes, || now);
        let _ = frames.arrived(&bytes, || now);
    }
}
