//! Connections in the runtime's paused time, which their deadlines go by.

use arc_swap::ArcSwap;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufWriter, DuplexStream, duplex};
use tokio::time::Instant;

use super::*;
use crate::platform::{Clock, alive};
use crate::rules::time::Timestamp;

const IDLE: Duration = Duration::from_secs(5);
const SECOND: Duration = Duration::from_secs(1);

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

/// Answers with as many bytes as the path says.
struct Bytefuls;

impl Service for Bytefuls {
    type Peer = ();
    type Body = Full<Bytes>;

    fn peer(&self, _: Arrival) {}

    async fn call(
        &self,
        _: &Arc<()>,
        _: Monotonic,
        request: Request<Incoming>,
    ) -> Response<Full<Bytes>> {
        let length = request.uri().path()[1..].parse().unwrap();
        let _ = request.into_body().collect().await;
        Response::new(Full::from(vec![b'x'; length]))
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

/// The caller's side of a connection; what serves it takes as much in as TLS does before the caller
/// does.
fn caller() -> DuplexStream {
    let (caller, served) = duplex(4_096);
    let served = BufWriter::with_capacity(64 * 1024, served);
    tokio::spawn(async move {
        let (_exit, stages) = Exit::new();
        let desk = Desk {
            service: Arc::new(Bytefuls),
            config: Arc::new(ArcSwap::from_pointee(config())),
            is_edge: false,
            clock: Arc::new(PausedClock(now())),
            census: Arc::new(Nobody),
            stages,
            alive: alive().0,
        };
        desk.serve(served, SocketAddr::from(([127, 0, 0, 1], 1)))
            .await
    });
    caller
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
