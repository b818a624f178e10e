//! Load with everything changing under it: no admitted request fails for gatelet's fault.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{H2, KEY, Response, Upstream, World, eventually, request};

const ROUTES: &str = r#"
[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]

[store]
kind = "embedded"
path = "{folder}/data"

[log]
access = false
"#;

/// `scripts/test` asks for a minute; by hand, a glimpse is enough.
fn duration() -> Duration {
    let seconds = std::env::var("GATELET_SOAK_SECONDS")
        .ok()
        .and_then(|seconds| seconds.parse().ok());
    Duration::from_secs(seconds.unwrap_or(8))
}

/// What the threads share.
#[derive(Default)]
struct Run {
    over: AtomicBool,
    /// Odd while the upstream is away.
    outages: AtomicUsize,
    sent: AtomicUsize,
    served: AtomicUsize,
}

impl Run {
    /// Judges one answer to an admitted request, which began when `outages` stood at `before`.
    fn judge(&self, before: usize, status: u16, body: &str) {
        self.sent.fetch_add(1, Ordering::Relaxed);
        if status == 200 {
            self.served.fetch_add(1, Ordering::Relaxed);
            return;
        }
        let after = self.outages.load(Ordering::SeqCst);
        let excused = before != after || before % 2 == 1;
        let told = status == 502 && body.contains("upstream_");
        assert!(
            excused && told,
            "{status} while the upstream was there ({before}, {after}): {body}"
        );
    }

    fn goes_on(&self) -> bool {
        // A thread that panicked must not leave the others waiting for the end.
        !self.over.load(Ordering::SeqCst)
    }
}

/// Ends the run when its thread does, whatever ended that.
struct EndsRun<'a>(&'a Run);

impl Drop for EndsRun<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.over.store(true, Ordering::SeqCst);
        }
    }
}

/// Keep-alive load over HTTP/1.1 with this key.
fn load(run: &Run, world: &World, key: &str) {
    let _guard = EndsRun(run);
    let bytes = request("GET", "/guarded/h1", &[("x-api-key", key)]);
    let mut client = world.connect();
    while run.goes_on() {
        let before = run.outages.load(Ordering::SeqCst);
        let Response {
            status,
            headers,
            body,
            ..
        } = client.send(&bytes).response();
        run.judge(before, status, &String::from_utf8_lossy(&body));
        if headers.has("connection") {
            client = world.connect();
        }
    }
}

/// The same over HTTP/2.
fn load_h2(run: &Run, world: &World, key: &str) {
    let _guard = EndsRun(run);
    let mut h2 = H2::connect(world.proxy());
    while run.goes_on() {
        let before = run.outages.load(Ordering::SeqCst);
        let response = h2.get("/guarded/h2", &[("x-api-key", key)]);
        run.judge(
            before,
            response.status,
            &String::from_utf8_lossy(&response.body),
        );
    }
}

/// Strangers, who never get in; fewer a second than the limit on guessing.
fn knock(run: &Run, world: &World) {
    let _guard = EndsRun(run);
    let mut client = world.connect();
    let mut knocks = 0_usize;
    while run.goes_on() {
        knocks += 1;
        let key = format!("a-made-up-key-for-knocking-{knocks}");
        let status = client
            .send(request("GET", "/guarded/stranger", &[("x-api-key", &key)]))
            .response()
            .status;
        assert!(matches!(status, 401 | 429), "{status}");
        run.sent.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Changes everything, over and over, until the time is up.
fn disturb(run: &Run, world: &World, upstream: &mut Upstream) {
    let _guard = EndsRun(run);
    let begun = Instant::now();
    let mut round = 0_usize;
    while begun.elapsed() < duration() && run.goes_on() {
        round += 1;
        let extra =
            format!("{ROUTES}\n[[routes]]\npath = \"/round-{round}\"\nrequire = \"nothing\"\n");
        world.write_config(upstream, &extra);
        world.signal("HUP");
        let (id, key) = world.create_key(&format!("round-{round}"), &[]);
        eventually("the key works", || judged(run, world, &key) == 200);
        world.revoke_key(&id);
        eventually("the key is refused", || judged(run, world, &key) == 401);
        for seen in upstream.received() {
            assert!(!seen.target.contains("stranger"), "{seen:#?}");
        }
        upstream.take();
        run.outages.fetch_add(1, Ordering::SeqCst);
        upstream.stop();
        upstream.start_again();
        run.outages.fetch_add(1, Ordering::SeqCst);
        let served = run.served.load(Ordering::Relaxed);
        eventually("requests are served again", || {
            run.served.load(Ordering::Relaxed) > served + 20 || !run.goes_on()
        });
    }
    run.over.store(true, Ordering::SeqCst);
}

fn judged(run: &Run, world: &World, key: &str) -> u16 {
    run.sent.fetch_add(1, Ordering::Relaxed);
    world.status_with("/guarded/round", key)
}

#[test]
fn nothing_admitted_fails_while_everything_changes() {
    let mut upstream = Upstream::echo();
    let mut world = World::start(&upstream, ROUTES);
    let (_, minted) = world.create_key("steady", &[]);
    let run = Run::default();
    eventually("the key works", || judged(&run, &world, &minted) == 200);
    std::thread::scope(|scope| {
        let (run, world, minted) = (&run, &world, &minted);
        scope.spawn(move || load(run, world, KEY));
        scope.spawn(move || load(run, world, minted));
        scope.spawn(move || load_h2(run, world, minted));
        scope.spawn(move || knock(run, world));
        disturb(run, world, &mut upstream);
    });
    let served = run.served.load(Ordering::Relaxed);
    assert!(served > 500, "only {served} were served");
    #[expect(
        clippy::cast_precision_loss,
        reason = "a soak sends fewer than 2^52 requests"
    )]
    let sent = run.sent.load(Ordering::Relaxed) as f64;
    world.metric_becomes("gatelet_requests_total", &[], sent);
    upstream.assert_sane();
    world.signal("TERM");
    let status = world.ends_within(Duration::from_secs(10));
    assert_eq!(status.code(), Some(0), "{:#?}", world.log());
}
