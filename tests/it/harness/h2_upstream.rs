//! An API that speaks HTTP/2: records each request, and answers by a script.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::sync::oneshot;

use super::h2::Body;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct H2Received {
    pub(crate) method: String,
    /// As its pseudo-header fields say it.
    pub(crate) uri: String,
    pub(crate) headers: HeaderMap,
}

type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;
type Script = dyn Fn(Request<Incoming>) -> Answer + Send + Sync;

/// A server on a free port that knows beforehand that HTTP/2 is spoken.
pub(crate) struct H2Upstream {
    address: SocketAddr,
    shared: Arc<Shared>,
    _stop: oneshot::Sender<()>,
}

struct Shared {
    script: Box<Script>,
    received: Mutex<Vec<H2Received>>,
    accepted: AtomicUsize,
    /// Requests whose answer was not given yet when their caller left.
    abandoned: AtomicUsize,
    settings: Settings,
}

/// What the server says of itself.
#[derive(Clone, Copy, Default)]
pub(crate) struct Settings {
    pub(crate) max_streams: Option<u32>,
    pub(crate) opens_websockets: bool,
}

impl H2Upstream {
    /// Reads each request whole and answers 200 with its length.
    pub(crate) fn echo() -> Self {
        Self::scripted(Settings::default(), |request| async {
            let body = request.into_body().collect().await;
            let length = body.map_or(0, |body| body.to_bytes().len());
            Response::new(text(&length.to_string()))
        })
    }

    /// Answers every request by `script`.
    pub(crate) fn scripted<F>(
        settings: Settings,
        script: impl Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let shared = Arc::new(Shared {
            script: Box::new(move |request| Box::pin(script(request))),
            received: Mutex::default(),
            accepted: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            settings,
        });
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = Arc::clone(&shared);
        std::thread::spawn(move || {
            runtime.block_on(async {
                let accepting = async {
                    while let Ok((socket, _)) = listener.accept().await {
                        tokio::spawn(Arc::clone(&serving).serve(socket));
                    }
                };
                tokio::select! {
                    () = accepting => {}
                    _ = stopped => {}
                }
            });
        });
        Self {
            address,
            shared,
            _stop: stop,
        }
    }

    /// The `url` of the configuration, and what is to be said beside it.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn socket_address(&self) -> SocketAddr {
        self.address
    }

    /// Every request so far.
    pub(crate) fn received(&self) -> Vec<H2Received> {
        self.shared.received.lock().unwrap().clone()
    }

    /// The newest request.
    pub(crate) fn last(&self) -> H2Received {
        self.received().pop().unwrap()
    }

    /// Connections accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Requests whose answer was not begun when they were cancelled.
    pub(crate) fn abandoned(&self) -> usize {
        self.shared.abandoned.load(Ordering::SeqCst)
    }
}

impl Shared {
    async fn serve(self: Arc<Self>, socket: tokio::net::TcpStream) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&self);
        let service = service_fn(move |request: Request<Incoming>| {
            let shared = Arc::clone(&shared);
            async move {
                shared.received.lock().unwrap().push(H2Received {
                    method: request.method().to_string(),
                    uri: request.uri().to_string(),
                    headers: request.headers().clone(),
                });
                let mut pending = Pending(Some(&shared.abandoned));
                let answer = (shared.script)(request).await;
                pending.0 = None;
                Ok::<_, Infallible>(answer)
            }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        if let Some(most) = self.settings.max_streams {
            builder.max_concurrent_streams(most);
        }
        if self.settings.opens_websockets {
            builder.enable_connect_protocol();
        }
        let _ = builder
            .serve_connection(TokioIo::new(socket), service)
            .await;
    }
}

/// Counts a request as abandoned when it is dropped before its answer.
struct Pending<'a>(Option<&'a AtomicUsize>);

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        if let Some(abandoned) = self.0 {
            abandoned.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// A body that is this text.
pub(crate) fn text(text: &str) -> Body {
    http_body_util::Full::new(Bytes::from(text.to_owned())).boxed()
}
