//! A connection while one request has it, and its place among those that a pool may have open.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use bytes::BytesMut;
use tokio::time::Sleep;

use super::Pool;
use crate::platform::Monotonic;
use crate::upstream::connection::Connection;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::pace::Pace;
use crate::upstream::shelves::{Line, Seat};
use crate::upstream::stream::Socket;

/// A connection in use. Given back when its answer was read whole; otherwise dropped and closed.
pub struct Lease {
    line: Box<Line>,
    pool: Arc<Pool>,
    /// The connection carried a request before this one.
    pub(in crate::upstream) reused: bool,
}

impl Lease {
    pub(super) fn new(line: Box<Line>, pool: &Arc<Pool>, reused: bool) -> Self {
        Self {
            line,
            pool: Arc::clone(pool),
            reused,
        }
    }

    /// How the reader of the answer keeps up.
    pub(in crate::upstream) fn reader(&self) -> &Pace {
        &self.line.connection.shared().reader
    }

    /// What a request is sent on, and what bounds the wait for its answer.
    pub(in crate::upstream) fn parts(&mut self) -> (&mut Connection, Pin<&mut Sleep>) {
        let Line {
            connection, timer, ..
        } = &mut *self.line;
        (connection, timer.as_mut())
    }

    /// Reads more of the answer's body behind `bytes`; nothing once the upstream has closed.
    pub(in crate::upstream) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        self.line.connection.poll_read(cx, bytes)
    }

    /// The socket, for what is not HTTP, with its place in the pool.
    pub(in crate::upstream) fn into_socket(self) -> Option<(Socket, Option<Place>)> {
        let Line {
            connection, seat, ..
        } = *self.line;
        let (socket, place) = connection.into_socket()?;
        let place = place.map(|mut place| {
            place.seat = Some(seat);
            place
        });
        Some((socket, place))
    }

    /// Where the connection leads.
    pub(super) fn endpoint(&self) -> &Endpoint {
        self.line.seat.endpoint()
    }

    /// An answer began.
    pub(in crate::upstream) fn answered(&self) {
        self.pool.directory.answered(self.endpoint());
    }

    /// The answer to what was `asked` then did not begin in time.
    pub(in crate::upstream) fn late(&self, asked: Monotonic) {
        self.pool.directory.late(self.endpoint(), asked);
    }

    /// The connection broke before an answer.
    pub(in crate::upstream) fn broke(&self) {
        self.pool.directory.broke(self.endpoint());
    }

    /// The new connection was closed before anything was sent on it, which is as good as refused;
    /// whether there is another address.
    pub(in crate::upstream) fn refused(&self) -> bool {
        let directory = &self.pool.directory;
        directory.refused(self.endpoint(), &"closed at once");
        self.pool.shelves().len() > 1
    }

    /// Leaves the connection, from `now`, to the next request; `rests` says that it is at rest.
    ///
    /// An answer can end before its request was sent whole; such a connection is closed.
    pub(in crate::upstream) fn give_back(self, rests: bool, now: Monotonic) {
        let Self { line, pool, .. } = self;
        if !rests && !line.connection.is_sent() {
            return;
        }
        pool.rest(line, now);
    }
}

/// One of the connections that a pool may have open; freed when dropped.
pub struct Place {
    pool: Arc<Pool>,
    /// Of a tunnel, which is part of its address's load until it ends.
    seat: Option<Arc<Seat>>,
}

impl Place {
    pub(super) fn new(pool: &Arc<Pool>) -> Self {
        Self {
            pool: Arc::clone(pool),
            seat: None,
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.pool.open.fetch_sub(1, Ordering::Relaxed);
        self.pool.freed.notify_one();
    }
}
