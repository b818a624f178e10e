//! One health check: a request of gatelet's own on a connection of its own.

use std::future::poll_fn;

use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Method, Request, StatusCode};
use hyper::client::conn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::timeout;

use crate::upstream::body::Outbound;
use crate::upstream::connection::Connection;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::head::Outgoing;
use crate::upstream::stream::Socket;
use crate::upstream::{Config, HealthCheck, request};

const AGENT: &str = concat!("gatelet/", env!("CARGO_PKG_VERSION"));

/// Whether an address of this upstream answers with 2xx in time; why not, where it does not. Cancel
/// safe.
pub(super) async fn check(
    endpoint: &Endpoint,
    upstream: &Config,
    check: &HealthCheck,
) -> Result<(), String> {
    let status = match timeout(check.timeout, ask(endpoint, upstream, check)).await {
        Ok(answered) => answered?,
        Err(_) => return Err("no answer in time".to_owned()),
    };
    if status.is_success() {
        Ok(())
    } else {
        Err(format!("its answer is {status}"))
    }
}

async fn ask(
    endpoint: &Endpoint,
    upstream: &Config,
    check: &HealthCheck,
) -> Result<StatusCode, String> {
    let socket = Socket::connect(endpoint, upstream.tls.as_ref()).await;
    let socket = socket.map_err(|error| error.to_string())?;
    match request(endpoint, upstream, check) {
        Outgoing::Http1(request) => ask_http1(socket, request).await,
        Outgoing::Http2(request) => ask_http2(socket, *request)
            .await
            .map_err(|error| error.to_string()),
    }
}

async fn ask_http1(socket: Socket, request: request::Request) -> Result<StatusCode, String> {
    let mut connection = Connection::new(socket, None);
    connection.submit(request);
    match poll_fn(|cx| connection.poll_answer(cx)).await {
        Ok(answer) => Ok(answer.response.status),
        Err(_) => Err("the connection broke before an answer".to_owned()),
    }
}

async fn ask_http2(socket: Socket, request: Request<Outbound>) -> hyper::Result<StatusCode> {
    let speaking = conn::http2::handshake(TokioExecutor::new(), TokioIo::new(socket));
    let (mut sender, connection) = speaking.await?;
    // It ends with its sender.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?.status())
}

fn request(endpoint: &Endpoint, upstream: &Config, check: &HealthCheck) -> Outgoing {
    let mut head = upstream.head(&Method::GET, &check.path);
    head.line(&HOST, endpoint.authority().as_bytes());
    head.line(&USER_AGENT, AGENT.as_bytes());
    head.line(&CONNECTION, b"close");
    head.without_body(false)
}
