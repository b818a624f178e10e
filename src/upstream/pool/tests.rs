use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Weak;

use http::Method;
use http_body::Body;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::{UnixListener, UnixStream};

use super::*;
use crate::platform::Platform;
use crate::telemetry::metrics::Metrics;
use crate::upstream::body::Inbound;
use crate::upstream::connection::Answer;
use crate::upstream::directory::Tended;
use crate::upstream::endpoint::Target;
use crate::upstream::request::Head;
use crate::upstream::{Address, Protocol};

/// How long a reader may take nothing.
const STALLED: Duration = Duration::from_secs(60);

fn config(addresses: Vec<Address>) -> Config {
    Config {
        name: "api".into(),
        addresses,
        protocol: Protocol::Http1,
        tls: None,
        connect_timeout: Duration::from_secs(5),
        response_timeout: Duration::from_secs(5),
        idle_timeout: Duration::from_secs(5),
        max_connections: 1,
        health_check: None,
    }
}

/// A pool of one connection, and the other end of that connection.
async fn connected() -> (Arc<Pool>, Lease, UnixStream) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("upstream");
    let listener = UnixListener::bind(&path).unwrap();
    let config = config(vec![Address::Unix(path)]);
    let platform = Platform::system();
    let tended = Tended::start(&config, &platform, &Metrics::new(1));
    let pool = Pool::start(Arc::clone(tended.directory()), 1, 0, platform.clock);
    let (lease, accepted) = tokio::join!(pool.lease_new(), listener.accept());
    (pool, lease.unwrap(), accepted.unwrap().0)
}

/// A pool of so many connections to two addresses, where these are, and what keeps them there.
fn before_two(limit: usize) -> (Arc<Pool>, [PathBuf; 2], (TempDir, [UnixListener; 2])) {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["one", "other"].map(|name| folder.path().join(name));
    let listeners = paths
        .each_ref()
        .map(|path| UnixListener::bind(path).unwrap());
    let config = config(paths.clone().map(Address::Unix).to_vec());
    let platform = Platform::system();
    let tended = Tended::start(&config, &platform, &Metrics::new(1));
    let pool = Pool::start(Arc::clone(tended.directory()), limit, 0, platform.clock);
    (pool, paths, (folder, listeners))
}

async fn answered(lease: &mut Lease) -> Answer {
    let (connection, _) = lease.parts();
    connection.submit(Head::new(&Method::GET, "/").without_body(false));
    poll_fn(|cx| connection.poll_answer(cx)).await.ok().unwrap()
}

#[tokio::test]
async fn a_tunnel_keeps_its_place_from_the_moment_it_opens() {
    let (pool, mut lease, mut upstream) = connected().await;
    let wire = b"HTTP/1.1 101 Switching Protocols\r\n\r\n";
    upstream.write_all(wire).await.unwrap();
    let answer = answered(&mut lease).await;
    tokio::task::yield_now().await;
    assert!(pool.reserve().is_none());
    let body = Inbound::http1(answer, lease).body;
    let tunnel = body.into_tunnel().unwrap();
    tokio::task::yield_now().await;
    assert!(pool.reserve().is_none());
    drop(tunnel);
    assert!(pool.reserve().is_some());
}

#[tokio::test]
async fn small_pieces_of_an_answer_hold_no_more_memory_than_they_have_bytes() {
    let (_pool, mut lease, mut upstream) = connected().await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\n\r\n")
        .await
        .unwrap();
    let mut body = Inbound::http1(answered(&mut lease).await, lease).body;
    for _ in 0..20 {
        upstream.write_all(b"small").await.unwrap();
        let frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await;
        let data = frame.unwrap().unwrap().into_data().unwrap();
        assert_eq!(&*data, b"small");
        assert!(data.is_unique(), "it holds the block that more is read to");
    }
}

#[tokio::test]
async fn connections_move_to_the_address_that_has_less_to_do() {
    let (pool, paths, _kept) = before_two(3);
    let other = Arc::clone(&pool.directory.endpoints()[1]);
    let leads_to =
        |lease: &Lease, path: &Path| *lease.endpoint().target() == Target::Unix(path.into());

    pool.directory.refused(&other, &"test");
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(pool.lease_new().await.unwrap());
    }
    assert!(leases.iter().all(|lease| leads_to(lease, &paths[0])));
    pool.directory.connected(&other);
    pool.directory.answered(&other);

    let now = pool.clock.monotonic();
    leases.remove(0).give_back(true, now);
    let moved = pool.lease_new().await.unwrap();
    assert!(!moved.reused && leads_to(&moved, &paths[1]));
    leases.remove(0).give_back(true, now);
    let kept = pool.lease_new().await.unwrap();
    assert!(
        kept.reused && leads_to(&kept, &paths[0]),
        "it is as well there"
    );
    drop((leases, moved, kept));
    tokio::task::yield_now().await;
    assert!(pool.lease_idle(now).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_is_no_load_any_more() {
    let (pool, _, _kept) = before_two(2);
    let other = Arc::clone(&pool.directory.endpoints()[1]);
    pool.directory.refused(&other, &"test");
    let stalled = [
        pool.lease_new().await.unwrap(),
        pool.lease_new().await.unwrap(),
    ];
    for lease in &stalled {
        lease.reader().holds();
    }
    pool.directory.connected(&other);
    pool.directory.answered(&other);

    tokio::time::sleep(Duration::from_secs(200)).await;
    let mut shelves = pool.shelves();
    let seats = [(); 2].map(|()| shelves.seat(&[]).unwrap());
    assert!(
        !Arc::ptr_eq(seats[0].site(), seats[1].site()),
        "both addresses have as little to do"
    );
    drop((shelves, stalled));
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_ends_its_connection() {
    let (ours, _theirs) = UnixStream::pair().unwrap();
    let connection = Connection::new(Socket::Unix(ours), None);
    let shared = connection.shared();
    let watch = close_when_stalled(Arc::downgrade(shared), Weak::new());
    let quiet = tokio::time::timeout(4 * STALLED, watch).await;
    assert!(quiet.is_err(), "a reader that waits is not late");

    let watch = tokio::spawn(close_when_stalled(Arc::downgrade(shared), Weak::new()));
    for _ in 0..20 {
        shared.reader.holds();
        tokio::time::sleep(STALLED / 2).await;
    }
    assert!(!watch.is_finished(), "a slow reader is not a stalled one");
    tokio::time::sleep(2 * STALLED).await;
    assert!(watch.is_finished());
    assert!(connection.into_socket().is_none(), "it was closed");
}
