use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::header::HOST;
use http::uri::{PathAndQuery, Scheme};
use http_body::Body;
use http_body_util::Empty;
use http_body_util::channel::Channel;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::AsyncWriteExt;
use tokio::net::UnixListener;
use tokio::sync::oneshot;

use super::*;
use crate::platform::Platform;
use crate::rules::headers::HeaderRules;
use crate::telemetry::metrics::Metrics;
use crate::upstream::directory::Tended;
use crate::upstream::{Address, Config, Protocol};

/// Longer than an answer that nobody reads is kept.
const LONG: Duration = Duration::from_secs(200);

/// Requests that a connection takes at once.
const STREAMS: u32 = 2;

/// A pool of one connection to an upstream whose answers never end, and how many of these it was told to
/// end.
fn before_endless_answers() -> (Arc<Pool>, Arc<AtomicUsize>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("upstream");
    let listener = UnixListener::bind(&path).unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&ended);
    tokio::spawn(async move {
        // The socket's file is there as long as it is listened to.
        let _folder = folder;
        while let Ok((socket, _)) = listener.accept().await {
            let counted = Arc::clone(&counted);
            let service = service_fn(move |_| {
                let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    let piece = Bytes::from_static(&[0; 1024]);
                    while sender.send_data(piece.clone()).await.is_ok() {}
                    counted.fetch_add(1, Ordering::SeqCst);
                });
                std::future::ready(Ok::<_, Infallible>(http::Response::new(body)))
            });
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.max_concurrent_streams(STREAMS);
            tokio::spawn(builder.serve_connection(TokioIo::new(socket), service));
        }
    });
    let config = Config {
        name: "api".into(),
        addresses: vec![Address::Unix(path)],
        protocol: Protocol::Http2,
        tls: None,
        connect_timeout: Duration::from_secs(5),
        response_timeout: LONG,
        idle_timeout: Duration::from_secs(5),
        max_connections: 1,
        health_check: None,
    };
    let platform = Platform::system();
    let tended = Tended::start(&config, &platform, &Metrics::new(1));
    let pool = Pool::start(Arc::clone(tended.directory()), 1, 0, platform.clock);
    (pool, ended)
}

async fn ask(pool: &Arc<Pool>, body: Outbound) -> Result<Inbound, Failure> {
    let root = PathAndQuery::from_static("/");
    let mut head = Head::new(&Method::POST, &root, Scheme::HTTP);
    head.line(&HOST, b"api.test");
    let request = head.complete(body, None);
    let answer = forward(pool, request, 10 * LONG, None).await?;
    Ok(answer.body)
}

/// A body that never ends, of a caller who stays.
async fn endless_body() -> Outbound {
    let (mut caller, served) = tokio::io::duplex(1024);
    let (sender, receiver) = oneshot::channel();
    let sender = Arc::new(Mutex::new(Some(sender)));
    tokio::spawn(async move {
        let service = service_fn(move |request: Request<Incoming>| {
            let sender = sender.lock().unwrap().take().unwrap();
            sender.send(request.into_body()).unwrap();
            pending::<Result<http::Response<Empty<Bytes>>, Infallible>>()
        });
        let connection = http1::Builder::new().serve_connection(TokioIo::new(served), service);
        connection.await
    });
    let head = b"POST / HTTP/1.1\r\nhost: api.test\r\ncontent-length: 9\r\n\r\nx";
    caller.write_all(head).await.unwrap();
    tokio::spawn(async move {
        let _caller = caller;
        pending::<()>().await;
    });
    let rules = Arc::new(HeaderRules::new("x-auth-", &[], &[]));
    Outbound::new(
        crate::wire::incoming::Incoming::Http2(receiver.await.unwrap()),
        None,
        &rules,
        || None,
    )
    .0
}

/// Fills a connection with answers that nobody reads, to requests with these bodies.
async fn stall(bodies: [Outbound; STREAMS as usize]) {
    let (pool, ended) = before_endless_answers();
    let mut stalled = Vec::new();
    for body in bodies {
        stalled.push(ask(&pool, body).await.unwrap());
    }
    let full = ask(&pool, Outbound::Empty).await;
    assert!(matches!(full, Err(Failure::Busy)));

    tokio::time::sleep(LONG).await;
    assert_eq!(ended.load(Ordering::SeqCst), stalled.len());
    let mut read = ask(&pool, Outbound::Empty).await.expect("there is room");
    let frame = poll_fn(|cx| Pin::new(&mut read).poll_frame(cx)).await;
    assert!(frame.unwrap().is_ok());
    for mut answer in stalled {
        let frame = poll_fn(|cx| Pin::new(&mut answer).poll_frame(cx)).await;
        assert!(matches!(frame, Some(Err(Broken::Closed))), "it was cut");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_loses_its_place() {
    stall([Outbound::Empty, Outbound::Empty]).await;
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_nobody_reads_ends_what_is_sent_for_it() {
    stall([endless_body().await, endless_body().await]).await;
}
