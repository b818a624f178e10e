//! What the telemetry listener serves: metrics for Prometheus, probes for Kubernetes.
//!
//! A function from a request's line to its answer. Sockets are the listener's; when gatelet is ready
//! is decided by whoever starts and drains it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use super::metrics::Metrics;

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// How far along its life the process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// Configuration, keys or store are not loaded yet.
    Starting,
    /// Traffic is welcome. A store lost from here on is a metric: were it unreadiness, all replicas
    /// would go at once.
    Ready,
    /// Asked to stop: what runs is finished, and new traffic should go elsewhere.
    Draining,
}

/// The stage, told by whoever starts and drains the process. Clones tell of the same process.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicU8>);

impl Readiness {
    /// A process that is starting.
    pub fn starting() -> Self {
        Self(Arc::new(AtomicU8::new(Stage::Starting as u8)))
    }

    /// Everything was loaded. Does nothing once the drain has begun.
    pub fn ready(&self) {
        // A signal may come before the start is over; the drain it began must not be forgotten.
        let _ = self.0.compare_exchange(
            Stage::Starting as u8,
            Stage::Ready as u8,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
    }

    /// The process was asked to stop; there is no way back.
    pub fn draining(&self) {
        self.0.store(Stage::Draining as u8, Ordering::Relaxed);
    }

    /// The stage now.
    pub fn stage(&self) -> Stage {
        match self.0.load(Ordering::Relaxed) {
            starting if starting == Stage::Starting as u8 => Stage::Starting,
            ready if ready == Stage::Ready as u8 => Stage::Ready,
            _ => Stage::Draining,
        }
    }
}

/// Answers one request to the telemetry listener.
pub fn respond(
    method: &Method,
    path: &str,
    metrics: &Metrics,
    readiness: &Readiness,
) -> Response<Full<Bytes>> {
    let known = matches!(path, "/metrics" | "/livez" | "/readyz" | "/healthz");
    let (status, kind, text): (_, _, Bytes) = if !known {
        (StatusCode::NOT_FOUND, TEXT, "not found\n".into())
    } else if method != Method::GET && method != Method::HEAD {
        (
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "method not allowed\n".into(),
        )
    } else if path == "/metrics" {
        (StatusCode::OK, METRICS, metrics.text().into())
    } else if path == "/readyz" {
        match readiness.stage() {
            Stage::Starting => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "starting\n".into()),
            Stage::Ready => (StatusCode::OK, TEXT, "ready\n".into()),
            Stage::Draining => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "draining\n".into()),
        }
    } else {
        (StatusCode::OK, TEXT, "alive\n".into())
    };
    let length = HeaderValue::from(text.len());
    let body = if method == Method::HEAD {
        Bytes::new()
    } else {
        text
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_LENGTH, length);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if status == StatusCode::METHOD_NOT_ALLOWED {
        headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
    }
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    fn ask(method: &Method, path: &str, readiness: &Readiness) -> (u16, Response<Full<Bytes>>) {
        let response = respond(method, path, &Metrics::new(1), readiness);
        (response.status().as_u16(), response)
    }

    fn text(response: Response<Full<Bytes>>) -> String {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .unwrap();
        let body = runtime.block_on(response.into_body().collect()).unwrap();
        String::from_utf8(body.to_bytes().into()).unwrap()
    }

    #[test]
    fn readiness_follows_the_life_of_the_process() {
        let readiness = Readiness::starting();
        let mut seen = Vec::new();
        let mut look = |readiness: &Readiness| {
            let (status, response) = ask(&Method::GET, "/readyz", readiness);
            seen.push((status, text(response)));
            for path in ["/livez", "/healthz"] {
                assert_eq!(ask(&Method::GET, path, readiness).0, 200);
            }
        };
        look(&readiness);
        readiness.ready();
        look(&readiness);
        readiness.clone().draining();
        look(&readiness);
        readiness.ready();
        look(&readiness);
        assert_eq!(
            seen,
            [
                (503, "starting\n".into()),
                (200, "ready\n".into()),
                (503, "draining\n".into()),
                (503, "draining\n".into()),
            ]
        );
    }

    #[test]
    fn metrics_are_served_as_prometheus_reads_them() {
        let (status, response) = ask(&Method::GET, "/metrics", &Readiness::starting());
        assert_eq!(status, 200);
        assert_eq!(response.headers()[CONTENT_TYPE], METRICS);
        assert!(text(response).contains("\ngatelet_build_info{"));
    }

    #[test]
    fn head_has_the_length_and_no_body() {
        let (status, response) = ask(&Method::HEAD, "/livez", &Readiness::starting());
        assert_eq!(status, 200);
        assert_eq!(response.headers()[CONTENT_LENGTH], "6");
        assert_eq!(text(response), "");
    }

    #[test]
    fn nothing_else_is_served() {
        let readiness = Readiness::starting();
        assert_eq!(ask(&Method::GET, "/", &readiness).0, 404);
        assert_eq!(ask(&Method::GET, "/metrics/", &readiness).0, 404);
        let (status, response) = ask(&Method::POST, "/metrics", &readiness);
        assert_eq!(status, 405);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
    }
}
