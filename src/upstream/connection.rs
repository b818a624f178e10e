//! One connection to an upstream, which carries one request at a time.
//!
//! Whoever asks writes the request and reads the answer itself, without a task in between. Only what is
//! left of a request when its answer begins is sent by a task of its own, so that it goes on however the
//! answer is read.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use spin::{Mutex, MutexGuard};

use crate::upstream::pace::Pace;
use crate::upstream::pool::Place;
use crate::upstream::request::Request;
use crate::upstream::response::{self, Broken, Head};
use crate::upstream::stream::Socket;
use crate::wire::framing::Framing;
use crate::wire::message::Response;
use crate::wire::outgoing::Unsent;
use crate::wire::scratch;

/// The longest head of an answer.
const LONGEST_HEAD: usize = 64 * 1024;

/// An answer's head, and the beginning of its body.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) response: Response<()>,
    pub(super) framing: Framing,
    /// What came with the head.
    pub(super) read: Bytes,
    /// The connection can carry another request once the body was read.
    pub(super) persists: bool,
    /// It rests already: nothing is left to be read or sent.
    pub(super) rests: bool,
}

/// Why there is no answer.
pub(super) enum Unanswered {
    /// The connection was closed before a byte of the request was sent.
    Unsent(Box<Request>),
    /// The connection broke.
    Broken(Broken),
}

/// A connection that requests can be sent on, one at a time. Dropped, it is closed.
pub(super) struct Connection {
    shared: Arc<Shared>,
    current: Option<Current>,
    /// What came of a head that is not whole.
    begun: Vec<u8>,
    /// The present request was sent whole before its answer began.
    sent: bool,
}

/// A request whose answer is awaited.
struct Current {
    request: Request,
    begun: bool,
    /// All of the request has gone out.
    sent: bool,
    /// Why the rest of the request cannot be sent; the answer may still come.
    unsendable: Option<io::Error>,
}

/// What those who use a connection have in common.
///
/// All are on one worker, so its locks are never contended.
pub(super) struct Shared {
    /// `None` once it is closed.
    open: Mutex<Option<Open>>,
    upload: Mutex<Upload>,
    pub(super) reader: Pace,
}

struct Open {
    socket: Socket,
    /// The connection's place in its pool.
    place: Option<Place>,
}

/// What is sent after the answer has begun.
#[derive(Default)]
struct Upload {
    /// There is some.
    goes_on: bool,
    /// It was sent whole.
    sent: bool,
    uploader: Option<Waker>,
    /// Whoever waits for more of the answer.
    reader: Option<Waker>,
}

impl Shared {
    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock()
    }

    fn upload(&self) -> MutexGuard<'_, Upload> {
        self.upload.lock()
    }

    /// Closes the socket, whoever uses it.
    pub(super) fn close(&self) {
        let open = self.open().take();
        drop(open);
        let mut upload = self.upload();
        // Who waits at the socket is forgotten with it, and has to be woken from here.
        let waiting = [upload.uploader.take(), upload.reader.take()];
        drop(upload);
        for waker in waiting.into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Connection {
    /// A connection on `socket`. `place` is given up when the connection ends.
    pub(super) fn new(socket: Socket, place: Option<Place>) -> Self {
        let shared = Arc::new(Shared {
            open: Mutex::new(Some(Open { socket, place })),
            upload: Mutex::default(),
            reader: Pace::default(),
        });
        shared.reader.waits();
        Self {
            shared,
            current: None,
            begun: Vec::new(),
            sent: false,
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// It was not closed here.
    pub(super) fn is_open(&self) -> bool {
        self.shared.open().is_some()
    }

    /// Whether the connection still rests: the upstream neither closed it nor spoke out of turn.
    ///
    /// Asks the kernel, because nobody looks at a connection at rest.
    pub(super) fn rests(&self) -> bool {
        let mut open = self.shared.open();
        open.as_mut().is_some_and(|open| open.socket.rests())
    }

    /// Gives the connection a request; it has none at present.
    pub(super) fn submit(&mut self, request: Request) {
        if !self.sent {
            *self.shared.upload() = Upload::default();
        }
        self.sent = false;
        self.current = Some(Current {
            request,
            begun: false,
            sent: false,
            unsendable: None,
        });
    }

    /// Sends the request, and waits for its answer. Without one the connection is of no more use.
    pub(super) fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer, Unanswered>> {
        let Some(current) = &mut self.current else {
            return Poll::Ready(Err(Unanswered::Broken(Broken::Closed)));
        };
        let mut open = self.shared.open();
        let Some(Open { socket, .. }) = &mut *open else {
            drop(open);
            return Poll::Ready(Err(self.closed()));
        };
        if !current.begun {
            current.begun = true;
            if socket.poll_disturbed(cx).is_ready() {
                drop(open);
                return Poll::Ready(Err(self.closed()));
            }
        }
        if current.unsendable.is_none()
            && !current.sent
            && let Poll::Ready(sent) = current.request.poll_send(cx, socket)
        {
            match sent {
                Ok(()) => current.sent = true,
                Err(Unsent::Body(_)) => {
                    return Poll::Ready(Err(Unanswered::Broken(Broken::Body)));
                }
                Err(Unsent::Io(_)) if current.request.is_untouched() => {
                    drop(open);
                    return Poll::Ready(Err(self.closed()));
                }
                Err(Unsent::Io(error)) => current.unsendable = Some(error),
            }
        }
        let to_head = current.request.to_head;
        let arrived = ready!(poll_head(cx, socket, &mut self.begun, to_head));
        drop(open);
        let (head, read) = match (arrived, current.unsendable.take()) {
            (Ok(arrived), _) => arrived,
            // What came first is the reason.
            (Err(_), Some(error)) => {
                return Poll::Ready(Err(Unanswered::Broken(Broken::Io(error))));
            }
            (Err(broken), None) => return Poll::Ready(Err(Unanswered::Broken(broken))),
        };
        Poll::Ready(Ok(self.answered(head, read)))
    }

    /// What came of the request when the connection was found to be closed.
    fn closed(&mut self) -> Unanswered {
        match self.current.take() {
            Some(Current { request, .. }) if request.is_untouched() => {
                Unanswered::Unsent(Box::new(request))
            }
            _ => Unanswered::Broken(Broken::Closed),
        }
    }

    /// The answer began; what is left of its request is sent from here on by a task.
    fn answered(&mut self, head: Head, read: Bytes) -> Answer {
        let left = head.framing.length();
        let excess = left.is_some_and(|left| left < read.len() as u64);
        let persists = head.persists && !excess;
        let current = self.current.take();
        self.sent = current.as_ref().is_some_and(|current| current.sent);
        if let Some(current) = current
            && !current.sent
            && current.unsendable.is_none()
            && head.response.status != StatusCode::SWITCHING_PROTOCOLS
        {
            self.shared.upload().goes_on = true;
            tokio::spawn(Uploading {
                shared: Arc::clone(&self.shared),
                request: current.request,
            });
        }
        Answer {
            response: head.response,
            framing: head.framing,
            rests: persists && self.sent && left == Some(read.len() as u64),
            read,
            persists,
        }
    }

    /// Reads more of an answer's body behind `bytes`; nothing once the upstream has closed.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let read = match &mut *self.shared.open() {
            Some(open) => open.socket.poll_read_buf(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        if read.is_pending() && !self.sent {
            self.shared.upload().reader = Some(cx.waker().clone());
        }
        read
    }

    /// The present request was sent whole.
    pub(super) fn is_sent(&self) -> bool {
        self.sent || self.shared.upload().sent
    }

    /// The socket, after it was upgraded, with its place in the pool.
    pub(super) fn into_socket(self) -> Option<(Socket, Option<Place>)> {
        let open = self.shared.open().take()?;
        Some((open.socket, open.place))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Else it is closed with what they share.
        if self.shared.upload().goes_on {
            self.shared.close();
        }
    }
}

/// Sends what is left of a request whose answer has begun.
struct Uploading {
    shared: Arc<Shared>,
    request: Request,
}

impl Future for Uploading {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let Self { shared, request } = self.get_mut();
        let mut open = shared.open();
        let Some(Open { socket, .. }) = &mut *open else {
            return Poll::Ready(());
        };
        let sent = request.poll_send(cx, socket);
        drop(open);
        let mut upload = shared.upload();
        let Poll::Ready(sent) = sent else {
            upload.uploader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        upload.goes_on = false;
        upload.sent = sent.is_ok();
        drop(upload);
        // The upstream would wait for the rest.
        if matches!(sent, Err(Unsent::Body(_))) {
            shared.close();
        }
        Poll::Ready(())
    }
}

/// Reads until a whole head is there; returns it and what came behind it. `begun` is what came of it
/// before.
fn poll_head(
    cx: &mut Context<'_>,
    socket: &mut Socket,
    begun: &mut Vec<u8>,
    to_head: bool,
) -> Poll<Result<(Head, Bytes), Broken>> {
    loop {
        let read = scratch::with(|buffer| {
            let count = ready!(socket.poll_read(cx, buffer)).map_err(Broken::Io)?;
            if count == 0 {
                return Poll::Ready(Err(Broken::Closed));
            }
            // Copied in one piece, which the fields and the body are then slices of.
            Poll::Ready(Ok(if begun.is_empty() {
                scratch::copied(&buffer[..count])
            } else {
                begun.extend_from_slice(&buffer[..count]);
                Bytes::from(std::mem::take(begun))
            }))
        });
        let bytes = ready!(read)?;
        if let Some((head, length)) = response::parse(&bytes, to_head)? {
            return Poll::Ready(Ok((head, bytes.slice(length..))));
        }
        if bytes.len() >= LONGEST_HEAD {
            return Poll::Ready(Err(Broken::Protocol("the answer's head is too long")));
        }
        *begun = bytes.into();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::time::Duration;

    use http::Method;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;
    use tokio::time::timeout;

    use super::*;
    use crate::upstream::request;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\n\r\n";

    fn get() -> Request {
        request::Head::new(&Method::GET, "/").without_body(false)
    }

    fn connected() -> (Connection, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        (Connection::new(Socket::Unix(ours), None), theirs)
    }

    async fn heard(upstream: &mut UnixStream) {
        let mut bytes = [0; REQUEST.len()];
        let read = timeout(Duration::from_secs(5), upstream.read_exact(&mut bytes));
        read.await.expect("the request is sent").unwrap();
        assert_eq!(bytes, REQUEST);
    }

    async fn answered(connection: &mut Connection) -> Result<Answer, Unanswered> {
        poll_fn(|cx| connection.poll_answer(cx)).await
    }

    /// What comes of a request that is answered with `wire`.
    async fn exchanged(
        connection: &mut Connection,
        upstream: &mut UnixStream,
        wire: &[u8],
    ) -> Result<Answer, Unanswered> {
        connection.submit(get());
        let heard = async {
            heard(upstream).await;
            upstream.write_all(wire).await.unwrap();
        };
        tokio::join!(answered(connection), heard).0
    }

    #[tokio::test]
    async fn a_request_may_follow_an_answer() {
        let (mut connection, mut upstream) = connected();
        for _ in 0..3 {
            let wire = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
            let answer = exchanged(&mut connection, &mut upstream, wire).await;
            let answer = answer.ok().unwrap();
            assert!(answer.persists && !answer.rests);
            assert!(connection.is_sent());
        }
    }

    #[tokio::test]
    async fn a_head_may_come_in_pieces() {
        let (mut connection, mut upstream) = connected();
        connection.submit(get());
        let piecewise = async {
            heard(&mut upstream).await;
            for byte in b"HTTP/1.1 204 No Content\r\n\r\n" {
                upstream.write_all(&[*byte]).await.unwrap();
                tokio::task::yield_now().await;
            }
        };
        let (answer, ()) = tokio::join!(answered(&mut connection), piecewise);
        let answer = answer.ok().unwrap();
        assert_eq!(answer.response.status, StatusCode::NO_CONTENT);
        assert!(answer.rests);
    }

    #[tokio::test]
    async fn a_request_that_nobody_could_have_read_is_given_back() {
        let (mut connection, upstream) = connected();
        drop(upstream);
        connection.submit(get());
        let unanswered = answered(&mut connection).await.err().unwrap();
        assert!(matches!(unanswered, Unanswered::Unsent(_)));
        assert!(!connection.rests());
    }

    #[tokio::test]
    async fn a_request_that_may_have_been_read_is_not() {
        let (mut connection, mut upstream) = connected();
        connection.submit(get());
        let heard = async {
            heard(&mut upstream).await;
            upstream.write_all(b"HTTP/1.1 200 O").await.unwrap();
            drop(upstream);
        };
        let (unanswered, ()) = tokio::join!(answered(&mut connection), heard);
        let unanswered = unanswered.err().unwrap();
        assert!(matches!(unanswered, Unanswered::Broken(Broken::Closed)));
    }

    #[tokio::test]
    async fn whoever_reads_an_answer_is_woken_when_the_connection_is_closed() {
        let (mut connection, mut upstream) = connected();
        let wire = b"HTTP/1.1 200 OK\r\n\r\nbegin";
        let answer = exchanged(&mut connection, &mut upstream, wire).await;
        assert_eq!(&*answer.ok().unwrap().read, b"begin");
        // As after an answer that began before its request was sent.
        connection.sent = false;
        let shared = Arc::clone(connection.shared());
        let mut bytes = BytesMut::with_capacity(10);
        let reading = poll_fn(|cx| connection.poll_read(cx, &mut bytes));
        let closing = async {
            tokio::task::yield_now().await;
            shared.close();
        };
        let both = async { tokio::join!(reading, closing).0 };
        let read = timeout(Duration::from_secs(5), both).await;
        let read = read.expect("the reader is woken");
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_connection_that_nobody_uses_is_closed() {
        let (mut connection, mut upstream) = connected();
        connection.submit(get());
        tokio::select! {
            biased;
            _ = answered(&mut connection) => panic!("nothing was answered"),
            () = heard(&mut upstream) => {}
        }
        drop(connection);
        let mut byte = [0];
        let read = timeout(Duration::from_secs(5), upstream.read(&mut byte));
        assert_eq!(read.await.expect("it is closed").unwrap(), 0);
    }
}
