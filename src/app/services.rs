//! The services that the listeners call, and what counts their connections.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;

use crate::gateway::{AnswerBody, Core, Peer};
use crate::listener::{Arrival, Census, Service, Trouble};
use crate::platform::Monotonic;
use crate::store::{Observer, Operation};
use crate::telemetry::metrics::{
    ConnectionError, Listener, Metrics, NO_WORKER, OpenConnection, StoreOperation,
};
use crate::telemetry::probes::{self, Readiness};
use crate::wire::incoming::Incoming;
use crate::wire::message::{Request, Response};

/// Guarded traffic.
pub(super) struct Guard(pub(super) Arc<Core>);

impl Service for Guard {
    type Peer = Peer;
    type Body = AnswerBody;

    fn peer(&self, arrival: Arrival) -> Peer {
        let certificate = arrival.certificate.as_deref();
        Peer::new(arrival.remote, arrival.over_tls, certificate)
    }

    fn call(
        &self,
        peer: &Arc<Peer>,
        began: Monotonic,
        request: Box<Request>,
        body: Incoming,
    ) -> impl Future<Output = Response<AnswerBody>> + Send {
        self.0.answer(peer, began, request, body)
    }
}

/// Metrics and probes.
pub(super) struct Observe {
    pub(super) metrics: Metrics,
    pub(super) readiness: Readiness,
}

impl Service for Observe {
    type Peer = ();
    type Body = Full<Bytes>;

    fn peer(&self, _: Arrival) {}

    async fn call(
        &self,
        _: &Arc<()>,
        _: Monotonic,
        request: Box<Request>,
        _: Incoming,
    ) -> Response<Full<Bytes>> {
        let path = request.uri.path();
        probes::respond(&request.method, path, &self.metrics, &self.readiness).into()
    }
}

/// Counts the connections of one worker.
pub(super) struct Connections {
    metrics: Metrics,
    worker: usize,
    listener: Listener,
}

impl Connections {
    pub(super) fn proxy(metrics: Metrics, worker: usize) -> Self {
        Self {
            metrics,
            worker,
            listener: Listener::Proxy,
        }
    }

    pub(super) fn telemetry(metrics: Metrics) -> Self {
        Self {
            metrics,
            worker: NO_WORKER,
            listener: Listener::Telemetry,
        }
    }
}

impl Census for Connections {
    type Open = OpenConnection;

    fn open(&self) -> OpenConnection {
        self.metrics.connection(self.worker, self.listener)
    }

    fn trouble(&self, trouble: Trouble) {
        let reason = match trouble {
            Trouble::HeadTimeout => ConnectionError::HeadTimeout,
            Trouble::Protocol => ConnectionError::Protocol,
            Trouble::Tls => ConnectionError::Tls,
            Trouble::Flood => ConnectionError::Flood,
            Trouble::ProxyProtocol => ConnectionError::ProxyProtocol,
            Trouble::Overloaded => ConnectionError::Overloaded,
            Trouble::Io => ConnectionError::Io,
        };
        self.metrics.worker(self.worker).connection_error(reason);
    }
}

/// Measures the store.
pub(super) fn observer(metrics: &Metrics) -> Observer {
    let metrics = metrics.clone();
    Arc::new(move |operation, duration, succeeded| {
        let operation = match operation {
            Operation::Load => Some(StoreOperation::Load),
            Operation::Swap => Some(StoreOperation::Swap),
            Operation::Events => Some(StoreOperation::Events),
            // Only commands list.
            Operation::List => None,
        };
        if let Some(operation) = operation {
            metrics.store_operation(operation, duration);
        }
        if !succeeded {
            metrics.store_error();
        }
    })
}
