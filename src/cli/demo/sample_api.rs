//! The sample portfolio API that the demo guards: three answers, a page, and no idea of
//! authentication.
//!
//! It believes the `x-auth-` headers, as an API behind gatelet may, because it listens on loopback
//! alone.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Map, Value, json};
use tokio::net::TcpListener;

use super::page::Page;

/// The API, bound and not yet serving.
#[derive(Debug)]
pub(super) struct SampleApi {
    listener: TcpListener,
    address: SocketAddr,
}

impl SampleApi {
    /// Binds a free loopback port.
    pub(super) async fn bind() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves, with this page, until the future is dropped; connections end with the runtime.
    pub(super) async fn serve(self, page: Page) -> Infallible {
        let page = Arc::new(page);
        loop {
            let Ok((stream, _)) = self.listener.accept().await else {
                // A connection that vanished concerns nobody else; for want of descriptors, asking
                // again at once would only burn a processor.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let page = Arc::clone(&page);
            let connection = http1::Builder::new().serve_connection(
                TokioIo::new(stream),
                service_fn(move |request| ready(Ok::<_, Infallible>(answer(&page, &request)))),
            );
            tokio::spawn(async move {
                // What breaks here was broken by a caller that left; the demo has no log for it.
                let _ = connection.await;
            });
        }
    }
}

/// Answers one request from what it says.
fn answer<B>(page: &Page, request: &Request<B>) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let file = page.find(path);
    let is_there = matches!(
        path,
        "/api/v1/health" | "/api/v1/portfolio" | "/api/v1/whoami"
    );
    if file.is_none() && !is_there {
        return reply(StatusCode::NOT_FOUND, &json!({"error": "no such page"}));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = reply(
            StatusCode::METHOD_NOT_ALLOWED,
            &json!({"error": "read only"}),
        );
        response
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    if let Some(file) = file {
        return file;
    }
    match path {
        "/api/v1/health" => reply(StatusCode::OK, &json!({"status": "ok"})),
        "/api/v1/portfolio" => portfolio(request),
        _ => reply(StatusCode::OK, &Value::Object(identity(request))),
    }
}

/// The positions on the network that the query names; on all of them without one.
fn portfolio<B>(request: &Request<B>) -> Response<Full<Bytes>> {
    const POSITIONS: [(&str, &str, &str, &str); 4] = [
        ("ethereum", "ETH", "3.5", "11620.00"),
        ("ethereum", "USDC", "2500", "2500.00"),
        ("arbitrum", "ARB", "1200", "648.00"),
        ("arbitrum", "ETH", "1.25", "4150.00"),
    ];
    let network = request
        .uri()
        .query()
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("network="));
    let positions: Vec<Value> = POSITIONS
        .iter()
        .filter(|(on, ..)| network.is_none_or(|network| network == *on))
        .map(|(on, asset, quantity, value)| {
            json!({"network": on, "asset": asset, "quantity": quantity, "valueUsd": value})
        })
        .collect();
    if positions.is_empty() {
        return reply(
            StatusCode::NOT_FOUND,
            &json!({"error": "no such network", "networks": ["arbitrum", "ethereum"]}),
        );
    }
    let owner = identity(request).remove("x-auth-subject");
    reply(
        StatusCode::OK,
        &json!({"owner": owner, "positions": positions}),
    )
}

/// What gatelet said about the caller: every `x-auth-` header, by name.
fn identity<B>(request: &Request<B>) -> Map<String, Value> {
    request
        .headers()
        .iter()
        .filter(|(name, _)| name.as_str().starts_with("x-auth-"))
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            (name.as_str().to_owned(), Value::String(value))
        })
        .collect()
}

fn reply(status: StatusCode, body: &Value) -> Response<Full<Bytes>> {
    // The line end is for whoever reads the answer on a terminal.
    let mut response = Response::new(Full::from(format!("{body}\n")));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    fn ask(method: Method, target: &str, headers: &[(&str, &str)]) -> (StatusCode, Value) {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = answer(&Page::new("gk_1"), &request.body(()).unwrap());
        let status = response.status();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let body = runtime.block_on(response.into_body().collect()).unwrap();
        (status, serde_json::from_slice(&body.to_bytes()).unwrap())
    }

    #[test]
    fn filters_positions_by_network_and_names_their_owner() {
        let (status, body) = ask(
            Method::GET,
            "/api/v1/portfolio?network=arbitrum",
            &[("x-auth-subject", "ada")],
        );

        assert_eq!(status, StatusCode::OK);
        assert_eq!(body["owner"], "ada");
        let networks: Vec<&Value> = body["positions"]
            .as_array()
            .unwrap()
            .iter()
            .map(|position| &position["network"])
            .collect();
        assert_eq!(networks, ["arbitrum", "arbitrum"]);
    }

    #[test]
    fn says_which_networks_there_are() {
        let (status, body) = ask(Method::GET, "/api/v1/portfolio?network=moon", &[]);

        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(body["networks"], json!(["arbitrum", "ethereum"]));
    }

    #[test]
    fn echoes_identity_and_nothing_else() {
        let (status, body) = ask(
            Method::GET,
            "/api/v1/whoami",
            &[
                ("x-auth-subject", "ada"),
                ("x-auth-methods", "api_key"),
                ("x-api-key", "secret"),
            ],
        );

        assert_eq!(status, StatusCode::OK);
        assert_eq!(
            body,
            json!({"x-auth-subject": "ada", "x-auth-methods": "api_key"})
        );
    }

    #[test]
    fn refuses_other_pages_and_methods() {
        assert_eq!(ask(Method::GET, "/nowhere", &[]).0, StatusCode::NOT_FOUND);
        for path in ["/", "/page/app.js", "/api/v1/health"] {
            let (status, _) = ask(Method::POST, path, &[]);
            assert_eq!(status, StatusCode::METHOD_NOT_ALLOWED, "{path}");
        }
    }
}
