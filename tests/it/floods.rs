//! HTTP/2 frames that carry nothing, by the thousand: they end their connection, and what honest
//! callers send by the thousand does not.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::thread;

use crate::harness::{Frames, KEY, RawAnswer, Upstream, World, block, eventually, frame};

const ROUTES: &str = r#"
[[routes]]
prefix = "/public"
require = "nothing"

[[routes]]
prefix = "/admin"
require = ["api_key"]
"#;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const PRIORITY_UPDATE: u8 = 16;

/// The error code `ENHANCE_YOUR_CALM` (RFC 9113 §7).
const CALM: u32 = 11;

/// A stream that none of the floods uses.
const LAST: u32 = 1_000_001;

fn head(method: &'static str, path: &'static str) -> [(&'static str, &'static str); 4] {
    [
        (":method", method),
        (":scheme", "http"),
        (":path", path),
        (":authority", "api.test"),
    ]
}

/// What became of a connection.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// It was served to its last request.
    Served,
    /// It was ended, with this error if any came through.
    Ended(Option<u32>),
}

/// A connection that is read along while it is written to.
struct Caller {
    frames: Frames,
    /// What may be sent on the connection, and on stream 1.
    windows: Arc<[AtomicI64; 2]>,
    reader: Option<thread::JoinHandle<End>>,
}

impl Caller {
    fn connect(world: &World) -> Self {
        let frames = Frames::connect(world.proxy());
        let windows = Arc::new([AtomicI64::new(65_535), AtomicI64::new(65_535)]);
        let (mut reader, granted) = (frames.reader(), Arc::clone(&windows));
        let reader = thread::spawn(move || {
            let mut error = None;
            while let Some((kind, _, stream, payload)) = reader.read_frame() {
                let number =
                    |at: usize| u32::from_be_bytes(payload[at..at + 4].try_into().unwrap());
                match kind {
                    HEADERS if stream == LAST => return End::Served,
                    WINDOW_UPDATE if stream < 2 => {
                        let granted = &granted[stream as usize];
                        granted.fetch_add(i64::from(number(0)), Ordering::SeqCst);
                    }
                    GOAWAY => error = Some(number(4)),
                    _ => {}
                }
            }
            End::Ended(error)
        });
        Self {
            frames,
            windows,
            reader: Some(reader),
        }
    }

    /// Writes until the other side has had enough; false if it had.
    fn write(&mut self, bytes: &[u8]) -> bool {
        self.frames.write(bytes).is_ok()
    }

    /// Sends DATA on stream 1 when there is room for it.
    fn send(&mut self, length: usize, with: &[u8]) -> bool {
        let wanted = i64::try_from(length).unwrap();
        let room = || {
            self.windows
                .iter()
                .all(|window| window.load(Ordering::SeqCst) >= wanted)
        };
        while !room() {
            if self.reader.as_ref().unwrap().is_finished() {
                return false;
            }
            thread::yield_now();
        }
        for window in &*self.windows {
            window.fetch_sub(wanted, Ordering::SeqCst);
        }
        self.write(&[frame(DATA, 0, 1, &vec![b'x'; length]), with.to_vec()].concat())
    }

    /// Asks for one thing more and says what became of it.
    fn end(&mut self) -> End {
        let _ = self.frames.headers(LAST, &head("GET", "/public"), true);
        self.reader.take().unwrap().join().unwrap()
    }
}

/// Floods a connection with what is begun and then sent so often; others are served meanwhile.
fn flooded(world: &World, begin: &[u8], unit: &[u8], times: usize) -> End {
    let many = unit.repeat(100);
    let flood = || {
        let mut caller = Caller::connect(world);
        caller.write(begin);
        for _ in 0..times / 100 {
            if !caller.write(&many) {
                break;
            }
        }
        caller.end()
    };
    thread::scope(|scope| {
        let flood = scope.spawn(flood);
        loop {
            assert_eq!(world.status_with("/admin", KEY), 200, "others are served");
            if flood.is_finished() {
                return flood.join().unwrap();
            }
        }
    })
}

fn open(method: &'static str, end_stream: u8) -> Vec<u8> {
    frame(HEADERS, 4 | end_stream, 1, &block(&head(method, "/public")))
}

#[test]
fn floods_end_their_connection_alone() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut floods = 0.0;
    for (case, begin, unit) in [
        ("pings", vec![], frame(PING, 0, 0, &[0; 8])),
        ("pongs", vec![], frame(PING, 1, 0, &[0; 8])),
        (
            "settings",
            vec![],
            frame(SETTINGS, 0, 0, &[0, 4, 0, 1, 0, 0]),
        ),
        (
            "priorities",
            vec![],
            frame(PRIORITY, 0, 3, &[0, 0, 0, 0, 9]),
        ),
        (
            "updates",
            vec![],
            frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1"),
        ),
        ("windows", vec![], frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
        ("unknown", vec![], frame(0xbe, 0, 0, b"nothing")),
        ("empty data", open("POST", 0), frame(DATA, 0, 1, b"")),
        ("padding", open("POST", 0), frame(DATA, 8, 1, &[9; 10])),
        ("crumbs", open("POST", 0), frame(DATA, 0, 1, b"x")),
        (
            "continuations",
            frame(HEADERS, 1, 1, &block(&head("GET", "/public"))),
            frame(CONTINUATION, 0, 1, b""),
        ),
    ] {
        let end = flooded(&world, &begin, &unit, 100_000);
        assert!(
            matches!(end, End::Ended(None | Some(CALM))),
            "{case}: {end:?}"
        );
        floods += 1.0;
        world.metric_becomes(
            "gatelet_connection_errors_total",
            &[("reason", "flood")],
            floods,
        );
    }
}

/// Slowly enough that each is taken up before it is cancelled.
#[test]
fn requests_cancelled_one_by_one_are_a_flood() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut frames = Frames::connect(world.proxy());
    let began = std::time::Instant::now();
    let mut stream = 1;
    let ended = (0..2_000).find(|_| {
        let mut batch = Vec::new();
        for _ in 0..10 {
            batch.extend(frame(HEADERS, 5, stream, &block(&head("GET", "/admin"))));
            batch.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
            stream += 2;
        }
        batch.extend(frame(PING, 0, 0, b"together"));
        let pong = |frames: &mut Frames| loop {
            match frames.read_frame() {
                Some((PING, 1, ..)) => return true,
                Some(_) => {}
                None => return false,
            }
        };
        frames.write(&batch).is_err() || !pong(&mut frames)
    });
    let cancelled = ended.expect("twenty thousand requests were cancelled") * 10;
    assert!(cancelled > 3_000, "an honest burst is none: {cancelled}");
    // What time has refilled is a purse more at the most, and what it refills meanwhile.
    let refilled = 300 * (began.elapsed().as_secs() + 1);
    assert!(cancelled < 8_200 + refilled, "{cancelled}");
    world.metric_becomes(
        "gatelet_connection_errors_total",
        &[("reason", "flood")],
        1.0,
    );
    assert_eq!(world.status_with("/admin", KEY), 200, "others are served");
}

#[test]
fn small_messages_with_all_that_comes_with_them_are_no_flood() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut caller = Caller::connect(&world);
    caller.write(&open("POST", 0));
    let with = [
        frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 25]),
        frame(PING, 0, 0, &[0; 8]),
    ];
    for n in 0..50_000 {
        assert!(caller.send(25, &with.concat()), "after {n} messages");
    }
    assert_eq!(caller.end(), End::Served);
    eventually("all messages arrived", || {
        upstream.received()[0].length == 1_250_000
    });
}

#[test]
fn small_requests_with_all_that_comes_with_them_are_no_flood() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut frames = Frames::connect(world.proxy());
    let mut stream = 1;
    for _ in 0..60 {
        let mut batch = Vec::new();
        let first = stream;
        for _ in 0..100 {
            batch.extend(frame(HEADERS, 5, stream, &block(&head("GET", "/admin"))));
            batch.extend(frame(WINDOW_UPDATE, 0, stream, &[0, 1, 0, 0]));
            batch.extend(frame(WINDOW_UPDATE, 0, 0, &[0, 0, 4, 0]));
            batch.extend(frame(PRIORITY, 0, stream, &[0, 0, 0, 0, 9]));
            batch.extend(frame(PRIORITY_UPDATE, 0, 0, b"\0\0\0\x01u=1"));
            stream += 2;
        }
        frames.write(&batch).unwrap();
        let mut answered = 0;
        while answered < 100 {
            let (kind, _, of, _) = frames.read_frame().expect("no flood");
            answered += usize::from(kind == HEADERS && of >= first);
        }
    }
}

#[test]
fn a_download_that_is_acknowledged_bit_by_bit_is_no_flood() {
    let upstream = Upstream::scripted(|exchange| {
        let body = "x".repeat(64 << 20);
        exchange.answer("200 OK", "", &body)
    });
    let world = World::start(&upstream, ROUTES);
    let mut frames = Frames::connect(world.proxy());
    frames.write(&open("GET", 1)).unwrap();
    let mut left: usize = 64 << 20;
    while left > 0 {
        let (kind, _, _, payload) = frames.read_frame().expect("no flood");
        if kind != DATA {
            continue;
        }
        left -= payload.len();
        let mut acknowledged = Vec::new();
        for piece in payload.chunks(1_024) {
            let length = u32::try_from(piece.len()).unwrap().to_be_bytes();
            for stream in [0, 1] {
                acknowledged.extend(frame(WINDOW_UPDATE, 0, stream, &length));
            }
        }
        if left > 0 {
            frames.write(&acknowledged).unwrap();
        }
    }
}

/// Cancelled before any was taken up, as when a page is left.
#[test]
fn all_streams_may_be_cancelled_at_once() {
    let upstream = Upstream::echo();
    let world = World::start(&upstream, ROUTES);
    let mut frames = Frames::connect(world.proxy());
    let streams = || (0..99).map(|n| 2 * n + 1);
    let opened = streams().map(|s| frame(HEADERS, 5, s, &block(&head("GET", "/admin"))));
    let cancelled = streams().map(|s| frame(RST_STREAM, 0, s, &[0, 0, 0, 8]));
    let batch: Vec<u8> = opened.chain(cancelled).flatten().collect();
    frames.write(&batch).unwrap();
    frames.headers(LAST, &head("GET", "/public"), true).unwrap();
    assert_eq!(frames.answer(LAST), RawAnswer::Status(200));
}

/// Four uploads that nobody reads, and a fifth that is read.
#[test]
fn uploads_that_stall_do_not_stall_others() {
    let upstream = Upstream::scripted(|exchange| {
        if exchange.request().target == "/public/stalled" {
            exchange.peer_closes();
            return Ok(());
        }
        let read = exchange.read_body()?.length;
        exchange.answer("200 OK", "", &read.to_string())
    });
    let world = World::start(&upstream, ROUTES);
    let mut frames = Frames::connect(world.proxy());
    while !matches!(frames.read_frame(), Some((WINDOW_UPDATE, _, 0, _))) {}
    for n in 0..40 {
        let stream = 2 * n + 1;
        frames
            .headers(stream, &head("POST", "/public/stalled"), false)
            .unwrap();
        for _ in 0..3 {
            frames.data(stream, &[b'x'; 16_384], false).unwrap();
        }
    }
    frames
        .headers(LAST, &head("POST", "/public/read"), false)
        .unwrap();
    for _ in 0..3 {
        frames.data(LAST, &[b'x'; 16_384], false).unwrap();
    }
    frames.data(LAST, b"last", true).unwrap();
    assert_eq!(frames.answer(LAST), RawAnswer::Status(200));
}

/// A request is in flight beside it, which keeps other deadlines from passing.
#[test]
fn a_head_that_is_never_finished_ends_its_connection() {
    let upstream = Upstream::scripted(|exchange| {
        let _ = exchange.peer_closes();
        Ok(())
    });
    let toml = format!("{ROUTES}\n[limits]\nhead_timeout = \"300ms\"\n");
    let world = World::start(&upstream, &toml);
    let mut frames = Frames::connect(world.proxy());
    // Settings are acknowledged meanwhile, which they cannot be within a head.
    frames.headers(1, &head("GET", "/admin"), true).unwrap();
    assert_eq!(frames.answer(1), RawAnswer::Status(401));
    frames.headers(3, &head("GET", "/public"), true).unwrap();
    eventually("a request is in flight", || upstream.received().len() == 1);
    frames
        .unfinished_headers(5, &head("GET", "/public"))
        .unwrap();
    assert_eq!(frames.answer(5), RawAnswer::Closed);
    world.metric_becomes(
        "gatelet_connection_errors_total",
        &[("reason", "head_timeout")],
        1.0,
    );
}

#[test]
fn unfinished_heads_are_bounded_all_together() {
    let upstream = Upstream::echo();
    let toml = format!("{ROUTES}\n[limits]\nrequest_head = \"1MiB\"\n");
    let world = World::start(&upstream, &toml);
    let filler = "x".repeat(15_000);
    let mut held = Vec::new();
    for _ in 0..80 {
        let mut frames = Frames::connect(world.proxy());
        let mut taken = frames
            .unfinished_headers(1, &head("GET", "/public"))
            .is_ok();
        for _ in 0..55 {
            taken &= frames.continuation(1, &[("x-more", &filler)]).is_ok();
        }
        held.push((frames, taken));
    }
    let flood = [("reason", "flood")];
    eventually("those past the bound are ended", || {
        let errors = world.metrics();
        errors.sum("gatelet_connection_errors_total", &flood) >= 30.0
    });
    assert_eq!(world.status_with("/admin", KEY), 200);
    let mut frames = Frames::connect(world.proxy());
    frames.headers(1, &head("GET", "/public"), true).unwrap();
    assert_eq!(frames.answer(1), RawAnswer::Status(200));
}
