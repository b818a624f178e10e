//! Connections in the runtime's paused time, which their deadlines go by.

mod spreading;

use std::cell::RefCell;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use arc_swap::ArcSwap;
use http_body::{Frame, SizeHint};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::*;
use crate::platform::{Clock, alive};
use crate::rules::time::Timestamp;

const IDLE: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const ACK: u8 = 1;

struct PausedClock(Instant);

#[expect(
    clippy::disallowed_methods,
    reason = "the runtime's time is the tests' own"
)]
fn now() -> Instant {
    Instant::now()
}

impl Clock for PausedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic(now() - self.0)
    }

    fn timer(&self, now: Monotonic, wait: Duration) -> Instant {
        self.0 + now.0 + wait
    }
}

/// Answers with as many bytes as the path says; what has a query is not told how many.
struct Bytefuls;

struct Answered {
    bytes: Full<Bytes>,
    is_sized: bool,
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Pin::new(&mut self.bytes).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_sized {
            self.bytes.size_hint()
        } else {
            SizeHint::default()
        }
    }
}

impl Service for Bytefuls {
    type Peer = ();
    type Body = Answered;

    fn peer(&self, _: Arrival) {}

    async fn call(
        &self,
        _: &Arc<()>,
        _: Monotonic,
        request: Box<Request>,
        body: Incoming,
    ) -> Response<Answered> {
        let length = request.uri.path()[1..].parse();
        let Ok(length) = length else {
            // What is no number is never answered.
            return std::future::pending().await;
        };
        let is_sized = request.uri.query().is_none();
        let _ = body.collect().await;
        let bytes = Full::from(vec![b'x'; length]);
        http::Response::new(Answered { bytes, is_sized }).into()
    }
}

struct Nobody;

impl Census for Nobody {
    type Open = ();

    fn open(&self) {}

    fn trouble(&self, _: Trouble) {}
}

fn config() -> Config {
    Config {
        proxy: SocketAddr::from(([127, 0, 0, 1], 0)),
        telemetry: SocketAddr::from(([127, 0, 0, 1], 0)),
        tls: None,
        proxy_protocol: false,
        request_head: 32 << 10,
        head_timeout: Duration::from_secs(10),
        idle_timeout: IDLE,
        connection_age: Duration::from_secs(1_000),
        connections: 10_000,
        trusted_proxies: Vec::new(),
        drain_delay: Duration::ZERO,
        shutdown_grace: Duration::from_secs(25),
    }
}

fn desk(stages: Stages) -> Desk<Bytefuls, Nobody> {
    Desk {
        service: Arc::new(Bytefuls),
        config: Arc::new(ArcSwap::from_pointee(config())),
        shares: Shares::default(),
        is_edge: false,
        clock: Arc::new(PausedClock(now())),
        census: Arc::new(Nobody),
        stages,
        alive: alive().0,
    }
}

thread_local! {
    /// What a test's sockets were told of how they end.
    static BREAKS_OFF: RefCell<Vec<bool>> = const { RefCell::new(Vec::new()) };
}

impl Socket for BufWriter<DuplexStream> {
    const HOLDS_BACK: bool = true;

    fn has_left(&self) -> bool {
        false
    }

    fn breaks_off(&self, breaks_off: bool) -> std::io::Result<()> {
        BREAKS_OFF.with_borrow_mut(|told| told.push(breaks_off));
        Ok(())
    }
}

/// The caller's side of a connection; what serves it takes as much in as TLS does before the caller
/// does.
fn caller() -> DuplexStream {
    let (caller, served) = duplex(4_096);
    let served = BufWriter::with_capacity(64 * 1024, served);
    tokio::spawn(async move {
        let (_exit, stages) = Exit::new();
        desk(stages)
            .serve(served, SocketAddr::from(([127, 0, 0, 1], 1)))
            .await
    });
    caller
}

/// A caller that reads and writes bare HTTP/2 frames.
struct Frames {
    stream: DuplexStream,
    /// It answers a PING.
    answers: bool,
}

impl Frames {
    /// Greets, with a window of 100 bytes for each stream.
    async fn greet() -> Self {
        let mut frames = Self {
            stream: caller(),
            answers: true,
        };
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        frames.stream.write_all(preface).await.unwrap();
        frames.write(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 100]).await;
        frames
    }

    async fn write(&mut self, kind: u8, flags: u8, stream: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![0, 0, length, kind, flags, 0, 0, 0, stream];
        frame.extend_from_slice(payload);
        // Whoever has closed is found out by reading.
        let _ = self.stream.write_all(&frame).await;
    }

    /// Asks for so many bytes.
    async fn ask(&mut self, stream: u8, bytes: u32) {
        let path = format!("/{bytes}");
        // Static and literal fields (RFC 7541 §6.1, §6.2.2).
        let mut block = b"\x82\x86\x01\x08api.test\x04".to_vec();
        block.push(u8::try_from(path.len()).unwrap());
        block.extend_from_slice(path.as_bytes());
        self.write(HEADERS, 5, stream, &block).await;
    }

    /// The next frame: its kind and payload; `None` at the end.
    async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.stream.read_exact(&mut payload).await.ok()?;
        if self.answers && kind == PING && flags & ACK == 0 {
            self.write(PING, ACK, 0, &payload).await;
        }
        Some((kind, payload))
    }

    /// The next frame of this kind.
    async fn until(&mut self, wanted: u8) -> Option<Vec<u8>> {
        loop {
            let (kind, payload) = self.next().await?;
            if kind == wanted {
                return Some(payload);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_tls_holds_of_an_answer_is_waited_for() {
    let mut caller = caller();
    let request = b"GET /60000 HTTP/1.1\r\nhost: api.test\r\n\r\n";
    caller.write_all(request).await.unwrap();
    tokio::time::sleep(10 * IDLE).await;
    let mut answer = Vec::new();
    let began = now();
    caller.read_to_end(&mut answer).await.unwrap();
    assert!(answer.len() > 60_000, "{}", answer.len());
    let rested = now() - began;
    assert!((IDLE..IDLE + SECOND).contains(&rested), "{rested:?}");
}

/// What comes back until the connection ends.
async fn answers(mut caller: DuplexStream) -> String {
    let mut answers = Vec::new();
    caller.read_to_end(&mut answers).await.unwrap();
    String::from_utf8(answers).unwrap()
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_at_once_are_answered_in_turn() {
    let mut caller = caller();
    let ask = |length| format!("PUT /{length} HTTP/1.1\r\nhost: h\r\ncontent-length: 3\r\n\r\nabc");
    let last = "GET /3 HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\nGET /4 HTTP/1.1\r\n\r\n";
    let sent = ask(1) + &ask(2) + last;
    caller.write_all(sent.as_bytes()).await.unwrap();
    let answers = answers(caller).await;
    let bodies: Vec<_> = answers
        .split("HTTP/1.1 200 OK\r\n")
        .map(|answer| answer.split("\r\n\r\n").nth(1))
        .collect();
    assert_eq!(bodies, [None, Some("x"), Some("xx"), Some("xxx")]);
    assert_eq!(answers.matches("connection: close").count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_head_may_come_in_pieces_and_has_to_come_in_time() {
    let mut caller = caller();
    let head = b"GET /1 HTTP/1.1\r\nhost: h\r\n\r\n";
    for byte in head {
        caller.write_all(&[*byte]).await.unwrap();
        tokio::time::sleep(SECOND / 10).await;
    }
    caller.write_all(&head[..20]).await.unwrap();
    let began = now();
    let answers = answers(caller).await;
    let waited = (now() - began).as_secs();
    assert!((10..12).contains(&waited), "{waited}");
    assert!(answers.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(
        answers.matches("HTTP/1.1 408 Request Timeout\r\n").count(),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_no_request_is_told_so_at_once() {
    let many = format!("GET / HTTP/1.1\r\n{}", "a: b\r\n".repeat(101));
    let large = format!("GET / HTTP/1.1\r\na: {}", "b".repeat(40 << 10));
    let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(66_000));
    for (sent, status, code) in [
        ("\x16\x03\x01\x02", 400, "request_malformed"),
        ("GET /\r\n\r\n", 400, "request_malformed"),
        (
            "PUT / HTTP/1.1\r\ncontent-length: x\r\n\r\n",
            400,
            "request_malformed",
        ),
        (&many, 431, "head_too_large"),
        (&large, 431, "head_too_large"),
        (&long, 431, "head_too_large"),
    ] {
        let mut caller = caller();
        let began = now();
        // What is too large may be refused before all of it is sent.
        let _ = caller.write_all(sent.as_bytes()).await;
        let answers = answers(caller).await;
        assert!(
            answers.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answers}"
        );
        let (head, body) = answers.split_once("\r\n\r\n").unwrap();
        assert!(
            head.ends_with(&format!("content-length: {}", body.len())),
            "{head}"
        );
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["code"], code);
        assert_eq!(problem["status"], status);
        assert!(now() - began < 2 * SECOND);
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_waits_to_be_told_to_go_on_is_told() {
    let mut caller = caller();
    let head = b"PUT /1 HTTP/1.1\r\nhost: h\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n";
    caller.write_all(head).await.unwrap();
    let mut told = [0; 25];
    caller.read_exact(&mut told).await.unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
    caller.write_all(b"abc").await.unwrap();
    let answer = answers(caller).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn what_has_no_window_yet_is_waited_for() {
    let mut frames = Frames::greet().await;
    frames.ask(1, 1_000).await;
    assert_eq!(frames.until(DATA).await.unwrap().len(), 100);
    for left in (0..900).step_by(300).rev() {
        let quiet = tokio::time::timeout(50 * SECOND, frames.until(DATA));
        assert!(quiet.await.is_err(), "it is open, and nothing comes");
        frames.write(WINDOW_UPDATE, 0, 1, &[0, 0, 1, 44]).await;
        assert_eq!(frames.until(DATA).await.unwrap().len(), 300, "{left} left");
    }
    let began = now();
    while frames.next().await.is_some() {}
    let rested = now() - began;
    assert!((IDLE..IDLE + SECOND).contains(&rested), "{rested:?}");
}

#[tokio::test(start_paused = true)]
async fn a_window_that_never_opens_is_waited_for_a_minute() {
    let mut frames = Frames::greet().await;
    frames.ask(1, 1_000).await;
    assert!(frames.until(DATA).await.is_some());
    let began = now();
    while frames.next().await.is_some() {}
    let waited = (now() - began).as_secs();
    assert!((60..63).contains(&waited), "{waited}");
}

/// Nothing else can arrive within a head, whatever is written meanwhile.
#[tokio::test(start_paused = true)]
async fn an_answer_that_is_taken_gives_a_head_no_time() {
    let mut frames = Frames::greet().await;
    let room = [0, 16, 0, 0];
    frames.write(WINDOW_UPDATE, 0, 0, &room).await;
    frames.ask(1, 1_000_000).await;
    frames.write(WINDOW_UPDATE, 0, 1, &room).await;
    frames.stream.write_all(&[0, 0, 9, HEADERS]).await.unwrap();
    frames.stream.write_all(&[4, 0, 0, 0, 3]).await.unwrap();
    let began = now();
    let mut bytes = [0; 4_096];
    while frames.stream.read_exact(&mut bytes).await.is_ok() {
        tokio::time::sleep(SECOND / 5).await;
    }
    let stayed = (now() - began).as_secs();
    assert!((10..13).contains(&stayed), "{stayed}");
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_told_before_its_resting_connection_is_closed() {
    for answers in [true, false] {
        let mut frames = Frames::greet().await;
        frames.answers = answers;
        let began = now();
        let goaway = frames.until(GOAWAY).await.unwrap();
        assert_eq!(goaway[4..8], [0; 4], "no error");
        let told = now();
        let rested = told - began;
        assert!((IDLE..IDLE + SECOND).contains(&rested), "{rested:?}");
        while frames.next().await.is_some() {}
        let stayed = now() - told;
        assert_eq!(stayed < SECOND, answers, "{stayed:?}");
        assert!(stayed < 2 * SECOND, "{stayed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_meets_the_farewell_is_answered() {
    let mut frames = Frames::greet().await;
    frames.answers = false;
    assert!(frames.until(GOAWAY).await.is_some());
    frames.ask(1, 1_000).await;
    assert!(frames.until(HEADERS).await.is_some());
    frames.write(WINDOW_UPDATE, 0, 1, &[0, 0, 4, 0]).await;
    let mut length = 0;
    while length < 1_000 {
        length += frames.until(DATA).await.unwrap().len();
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_after_the_farewell_waits_for_its_window_as_any_other() {
    let mut frames = Frames::greet().await;
    assert!(frames.until(GOAWAY).await.is_some());
    frames.ask(1, 1_000).await;
    assert_eq!(frames.until(DATA).await.unwrap().len(), 100);
    let began = now();
    while frames.next().await.is_some() {}
    let waited = (now() - began).as_secs();
    assert!((60..63).contains(&waited), "{waited}");
}

#[test]
fn connections_of_one_moment_end_apart_from_each_other() {
    let config = config();
    let mut ages: Vec<Duration> = (0..100)
        .map(|nth| Limits::new(&config, 1, nth).age)
        .collect();
    assert_eq!(ages[0], config.connection_age);
    ages.sort();
    assert!(ages[0] >= Duration::from_secs(900));
    for pair in ages.windows(2) {
        let apart = pair[1].abs_diff(pair[0]);
        assert!(apart <= Duration::from_secs(3), "{apart:?}");
        assert!(apart >= Duration::from_millis(300), "{apart:?}");
    }
    let streams = |open| Limits::new(&config, open, 0).http2_streams;
    assert_eq!(
        [0, 1, 40, 64, 512, 5_000].map(streams),
        [100, 100, 100, 64, 8, 6]
    );
}

#[tokio::test]
async fn the_last_answer_reaches_a_caller_who_has_sent_more() {
    let (exit, stages) = Exit::new();
    exit.enter(Stage::Draining);
    let (mut caller, serving) = tcp(stages).await;
    let request = b"GET /5 HTTP/1.1\r\n\r\n";
    caller.write_all(&request.repeat(5_000)).await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n\r\nxxxxx"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    // What is closed with something unread is reset, and some systems forget what came before that.
    caller.write_all(request).await.expect("it was not reset");
    drop(caller);
    assert_eq!(serving.await.unwrap(), Ok(()));
}

#[tokio::test(start_paused = true)]
async fn what_only_the_end_tells_is_whole_breaks_off_until_it_is() {
    for (request, told) in [
        ("GET /5?x HTTP/1.0\r\n\r\n", &[true, false][..]),
        ("GET /5 HTTP/1.0\r\n\r\n", &[]),
        ("GET /0?x HTTP/1.0\r\n\r\n", &[]),
        ("HEAD /5?x HTTP/1.0\r\n\r\n", &[]),
        ("GET /5?x HTTP/1.1\r\nconnection: close\r\n\r\n", &[]),
    ] {
        let mut caller = caller();
        caller.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        caller.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1."), "{answer}");
        let breaks_off = BREAKS_OFF.with_borrow_mut(std::mem::take);
        assert_eq!(breaks_off, told, "{request}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_caller_slow_with_its_head_may_still_send_when_it_is_told_so() {
    let mut caller = caller();
    caller.write_all(b"GET /5 HT").await.unwrap();
    let mut answer = String::new();
    caller.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    caller.write_all(b"TP").await.expect("somebody reads it");
}

/// A connection over TCP that is served, and its caller's end.
async fn tcp(stages: Stages) -> (TcpStream, JoinHandle<Result<(), Trouble>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let caller = TcpStream::connect(address).await.unwrap();
    let (served, remote) = listener.accept().await.unwrap();
    let serving = tokio::spawn(async move { desk(stages).serve(served, remote).await });
    (caller, serving)
}

#[tokio::test(start_paused = true)]
async fn a_caller_is_seen_to_leave_behind_more_than_is_read_of_it() {
    for breaks_off in [false, true] {
        let (_exit, stages) = Exit::new();
        let (mut caller, serving) = tcp(stages).await;
        let request = b"GET /never HTTP/1.1\r\n\r\n";
        caller.write_all(&request.repeat(4_000)).await.unwrap();
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!serving.is_finished());
        caller.breaks_off(breaks_off).unwrap();
        drop(caller);
        let ended = tokio::time::timeout(60 * SECOND, serving).await;
        assert_eq!(ended.expect("it is seen").unwrap(), Err(Trouble::Io));
    }
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_no_head() {
    for sent in ["GET /5 HT", "GET /5 HTTP/1.1\r\n\r\n\r\n"] {
        let (exit, stages) = Exit::new();
        let (mut caller, serving) = tcp(stages).await;
        caller.write_all(sent.as_bytes()).await.unwrap();
        let mut answer = [0; 16];
        if sent.ends_with('\n') {
            caller.read_exact(&mut answer).await.unwrap();
        }
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let began = now();
        exit.enter(Stage::Closing);
        assert_eq!(serving.await.unwrap(), Ok(()));
        assert_eq!(now() - began, Duration::ZERO, "{sent}");
    }
}
