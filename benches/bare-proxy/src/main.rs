//! A reverse proxy on hyper that checks, logs and counts nothing: what gatelet's work is measured against.
//!
//! It has gatelet's shape (one `current_thread` runtime, a pool of upstream connections of its own, the same
//! allocator) and forwards every request and answer as it came. Whatever gatelet costs above it is the price of
//! judging, rewriting and counting. It is no proxy to deploy: it keeps hop-by-hop headers and trusts everybody.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::process::ExitCode;
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self as client, SendRequest};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Connection = SendRequest<Incoming>;

thread_local! {
    /// Idle upstream connections; the one used last is the one used next.
    static POOL: RefCell<Vec<Connection>> = const { RefCell::new(Vec::new()) };
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(Ok(listen)), Some(Ok(upstream)), 2) = (
        arguments.first().map(|a| a.parse()),
        arguments.get(1).map(|a| a.parse()),
        arguments.len(),
    ) else {
        eprintln!("usage: bare-proxy LISTEN_ADDRESS UPSTREAM_ADDRESS");
        return ExitCode::from(2);
    };
    match run(listen, upstream) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("bare-proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(listen: SocketAddr, upstream: SocketAddr) -> Result<Infallible, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen).await?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let service = service_fn(move |request| forward(request, upstream));
            // Without a timer hyper has no deadline for a request's head.
            let connection = server::Builder::new().serve_connection(TokioIo::new(stream), service);
            tokio::spawn(async move {
                // A caller that breaks off is nobody's concern here.
                let _ = connection.await;
            });
        }
    })
}

/// Sends the request to the upstream as it came, and answers with the upstream's answer.
///
/// A failure closes the caller's connection.
async fn forward(
    request: Request<Incoming>,
    upstream: SocketAddr,
) -> Result<Response<Relayed>, Error> {
    let mut connection = match pooled() {
        Some(connection) => connection,
        None => dial(upstream).await?,
    };
    let response = connection.send_request(request).await?;
    // A short answer's body has often arrived with its head: then the connection is free already.
    let held = if connection.is_ready() {
        give_back(connection);
        None
    } else {
        Some(connection)
    };
    Ok(response.map(|body| Relayed { body, held }))
}

fn pooled() -> Option<Connection> {
    POOL.with_borrow_mut(|pool| {
        std::iter::from_fn(|| pool.pop()).find(|connection| connection.is_ready())
    })
}

fn give_back(connection: Connection) {
    POOL.with_borrow_mut(|pool| pool.push(connection));
}

async fn dial(upstream: SocketAddr) -> Result<Connection, Error> {
    let stream = TcpStream::connect(upstream).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = client::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(async move {
        // The sender's next use meets the failure, if there is one.
        let _ = connection.await;
    });
    Ok(sender)
}

/// An answer's body, which gives its connection back to the pool at its end.
struct Relayed {
    body: Incoming,
    held: Option<Connection>,
}

impl Body for Relayed {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        // One that is not ready at its answer's end was closed, or broken off by the caller.
        if let Some(connection) = self.held.take().filter(SendRequest::is_ready) {
            give_back(connection);
        }
    }
}
