//! Connections, from the listener's first look at them to their end.
//!
//! Time is virtual: it passes at once where nothing else can happen, so that deadlines are part of what
//! is tried and no input takes long.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use gatelet::listener::{Arrival, Census, Config, Desk, Exit, Service, Shares, Socket, Trouble};
use gatelet::platform::{Clock, Monotonic, alive};
use gatelet::wire::incoming::Incoming;
use gatelet::wire::message::{Request, Response};
use http::HeaderValue;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::rules::fields::Fields;
use crate::rules::form::{self, Lines};
use crate::rules::time::Timestamp;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The most that an HTTP/2 frame holds by default (RFC 9113 §4.2).
const LONGEST_FRAME: usize = 16 * 1024;

const SETTINGS: u8 = 4;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const GOAWAY: u8 = 7;

/// The longest that any caller can keep a connection without sending anything.
const LONGEST_CONNECTION: Duration = Duration::from_secs(600);

/// The first byte says whether the caller closes its side; the rest is what it sends.
///
/// Requests are the same, and so are their answers, whether they arrive at once or byte by byte. A head
/// that is never whole may be refused at sight or once its time is up.
pub fn http1(data: &[u8]) {
    let Some((flags, wire)) = data.split_first() else {
        return;
    };
    let closes = flags & 1 != 0;
    let at_once = talk([wire], closes);
    // Frames are not answers in a row.
    if !closes && !wire.starts_with(PREFACE) {
        let step = wire.len() / 1024 + 1;
        let by_bytes = talk(wire.chunks(step), false);
        assert_eq!(by_bytes.seen, at_once.seen);
        assert_eq!(accepted(&by_bytes.answers), accepted(&at_once.answers),);
    }
}

/// The first byte says how the caller speaks; what follows HTTP/2's preface is frames, or the bytes
/// as they are.
///
/// A frame is its type, its flags, its stream and its length, a byte each, and its payload. What is
/// answered is frames, and for streams that the caller has opened.
pub fn http2(data: &[u8]) {
    let Some((flags, data)) = data.split_first() else {
        return;
    };
    let closes = flags & 1 != 0;
    let frames = if flags & 2 != 0 {
        vec![data.to_vec()]
    } else {
        frames(data)
    };
    let is_cut = frames.iter().any(|frame| {
        frame
            .get(3)
            .is_none_or(|kind| matches!(*kind, RST_STREAM | GOAWAY))
            || flags & 2 != 0
    });
    let sent = [&[PREFACE.to_vec()], &*frames].concat();
    let whole = sent.concat();
    let at_once = talk([&*whole], closes);
    check_frames(&at_once);
    let step = if flags & 4 != 0 { 1 } else { 13 };
    let by_bytes = talk(whole.chunks(step + whole.len() / 1024), closes);
    check_frames(&by_bytes);
    // What ends a connection or a stream may overtake what came before it.
    if !is_cut && !closes && at_once.ended.is_ok() && by_bytes.ended.is_ok() {
        assert_eq!(sorted(by_bytes.seen), sorted(at_once.seen));
    }
}

/// The answers before the one that refuses what comes next.
///
/// Nobody is told to go on who has done so already (RFC 9110 §10.1.1), which depends on how it arrives.
fn accepted(answers: &[u8]) -> String {
    let refusal = |window: &[u8]| window.starts_with(b"HTTP/1.") && window.ends_with(b" 4");
    let end = answers.windows(10).position(refusal);
    let accepted = answers[..end.unwrap_or(answers.len())].escape_ascii();
    let go_on = b"HTTP/1.1 100 Continue\r\n\r\n".escape_ascii();
    accepted.to_string().replace(&go_on.to_string(), "")
}

fn sorted(mut seen: Vec<String>) -> Vec<String> {
    seen.sort();
    seen
}

fn frames(mut data: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let [kind, flags, stream, length, rest @ ..] = data {
        let length = usize::from(*length).min(rest.len());
        let (payload, rest) = rest.split_at(length);
        data = rest;
        let length = u32::try_from(length).unwrap_or_default().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([*kind, *flags, 0, 0, 0, *stream]);
        frame.extend(payload);
        frames.push(frame);
    }
    frames
}

fn check_frames(told: &Told) {
    let mut rest = &told.answers[..];
    let mut first = true;
    let mut answered = Vec::new();
    while !rest.is_empty() {
        let [l1, l2, l3, kind, _, s1, s2, s3, s4, payload @ ..] = rest else {
            panic!("half a frame is answered");
        };
        let length = u32::from_be_bytes([0, *l1, *l2, *l3]) as usize;
        assert!(length <= LONGEST_FRAME && length <= payload.len());
        assert!(
            !first || *kind == SETTINGS,
            "the first frame is of type {kind}"
        );
        first = false;
        if *kind == HEADERS {
            let stream = u32::from_be_bytes([*s1, *s2, *s3, *s4]);
            assert!(stream % 2 == 1 && !answered.contains(&stream), "{stream}");
            answered.push(stream);
        }
        rest = &payload[length..];
    }
    assert!(answered.len() <= told.seen.len());
}

/// What came of a connection.
struct Told {
    seen: Vec<String>,
    answers: Vec<u8>,
    ended: Result<(), Trouble>,
}

fn talk<'w>(pieces: impl IntoIterator<Item = &'w [u8]>, closes: bool) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap_or_else(|error| panic!("{error}"));
    let answers = Arc::new(Mutex::new(Vec::new()));
    let wire = Wire {
        pieces: pieces.into_iter().map(Bytes::copy_from_slice).collect(),
        closes,
        breathes: false,
        answers: Arc::clone(&answers),
    };
    let (ended, seen) = runtime.block_on(async {
        let desk = desk();
        let remote = SocketAddr::from((Ipv4Addr::LOCALHOST, 1));
        let serving = desk.serve(wire, remote);
        let Ok(ended) = tokio::time::timeout(LONGEST_CONNECTION, serving).await else {
            panic!("the connection does not end");
        };
        let mut seen = desk
            .service
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        (ended, std::mem::take(&mut *seen))
    });
    drop(runtime);
    let answers = std::mem::take(&mut *answers.lock().unwrap_or_else(PoisonError::into_inner));
    Told {
        seen,
        answers,
        ended,
    }
}

fn desk() -> Desk<Notes, Nobody> {
    let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let config = Config {
        proxy: nowhere,
        telemetry: nowhere,
        tls: None,
        proxy_protocol: false,
        trusted_proxies: Vec::new(),
        request_head: 16 * 1024,
        head_timeout: Duration::from_secs(10),
        idle_timeout: Duration::from_secs(75),
        connection_age: Duration::from_secs(3_600),
        connections: 1,
        drain_delay: Duration::ZERO,
        shutdown_grace: Duration::ZERO,
    };
    let (_, stages) = Exit::new();
    Desk {
        service: Arc::default(),
        config: Arc::new(ArcSwap::from_pointee(config)),
        shares: Shares::default(),
        is_edge: false,
        clock: Arc::new(Virtual(Instant::now())),
        census: Arc::new(Nobody),
        stages,
        alive: alive().0,
    }
}

/// Notes every request that it is asked, and says yes.
#[derive(Default)]
struct Notes(Mutex<Vec<String>>);

impl Service for Notes {
    type Peer = ();
    type Body = Full<Bytes>;

    fn peer(&self, _: Arrival) {}

    async fn call(
        &self,
        _: &Arc<()>,
        _: Monotonic,
        head: Box<Request>,
        body: Incoming,
    ) -> Response<Full<Bytes>> {
        let lines = Lines::of(&head.fields);
        let form = form::judge(
            &head.method,
            &head.uri,
            head.version,
            &head.fields,
            lines,
            true,
        );
        let said = said(&head.fields);
        let mut note = format!("{} {} {said:?} {form:?}", head.method, head.uri);
        // Whoever is served has its body read under a deadline as well.
        let body = tokio::time::timeout(Duration::from_secs(30), body.collect()).await;
        match body {
            Ok(Ok(body)) => {
                let trailers = body.trailers().cloned();
                note.push_str(&format!(" {:?} {trailers:?}", body.to_bytes()));
            }
            Ok(Err(_)) | Err(_) => note.push_str(" and no more"),
        }
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(note);
        http::Response::new(Full::from("yes\n")).into()
    }
}

/// The lines as they are said, wherever their values are.
fn said(fields: &Fields) -> Vec<(&str, String)> {
    let lines = fields.iter();
    lines
        .map(|(name, value)| {
            assert!(HeaderValue::from_bytes(value).is_ok(), "{name}");
            (name.as_str(), value.escape_ascii().to_string())
        })
        .collect()
}

struct Nobody;

impl Census for Nobody {
    type Open = ();

    fn open(&self) {}

    fn trouble(&self, _: Trouble) {}
}

/// The runtime's clock.
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(self.0.elapsed())
    }

    fn timer(&self, now: Monotonic, wait: Duration) -> Instant {
        self.0 + now.0 + wait
    }
}

/// A caller's side that was written down before.
struct Wire {
    pieces: VecDeque<Bytes>,
    closes: bool,
    /// Whoever reads has had a turn since the last piece.
    breathes: bool,
    answers: Arc<Mutex<Vec<u8>>>,
}

impl Socket for Wire {
    const HOLDS_BACK: bool = true;

    fn breaks_off(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn has_left(&self) -> bool {
        self.closes && self.pieces.is_empty()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Some(piece) = self.pieces.front_mut() else {
            return if self.closes {
                Poll::Ready(Ok(()))
            } else {
                // It stays, and says nothing.
                Poll::Pending
            };
        };
        if piece.is_empty() {
            self.pieces.pop_front();
            return self.poll_read(cx, buffer);
        }
        let length = piece.len().min(buffer.remaining());
        if !self.breathes {
            self.breathes = true;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(piece) = self.pieces.front_mut() {
            buffer.put_slice(&piece.split_to(length));
        }
        self.breathes = self.pieces.front().is_some_and(|piece| !piece.is_empty());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        answers.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
