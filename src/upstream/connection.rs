//! One connection to an upstream: the task that speaks on it, and the hand that requests are given to it by.
//!
//! The task writes the request and reads the answer's head, and what of the body came with it. The
//! rest of a longer body is read by whoever wants it, without a stop in between.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::{Response, StatusCode};
use tokio::io::AsyncWrite;

use crate::platform::poll_write_gathered;
use crate::upstream::pace::Pace;
use crate::upstream::pool::Place;
use crate::upstream::request::{Request, Unsent};
use crate::upstream::response::{self, Broken, Framing, Head};
use crate::upstream::stream::Socket;

/// What is read at once while a head is awaited.
const BUFFER: usize = 8 * 1024;

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
pub(super) struct Connection(Arc<Shared>);

/// What the connection's users and its task have in common.
///
/// All are on one worker, so its locks are never contended.
pub(super) struct Shared {
    /// `None` once it is closed.
    socket: Mutex<Option<Socket>>,
    slot: Mutex<Slot>,
    pub(super) reader: Pace,
}

#[derive(Default)]
struct Slot {
    request: Option<Request>,
    answer: Option<Result<Answer, Unanswered>>,
    /// Whoever waits for the answer, or for more of its body.
    caller: Option<Waker>,
    driver: Option<Waker>,
    /// What the connection's user wants of the task.
    wish: Wish,
    /// The present request was sent whole.
    sent: bool,
    /// The task has ended.
    ended: bool,
    /// The connection's place in its pool.
    place: Option<Place>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    None,
    /// The present answer was read whole: what comes next is another one's.
    Rest,
    /// Nobody uses the connection any more.
    End,
}

impl Slot {
    /// Wakes this task when there is something to tell.
    fn call_back(&mut self, cx: &Context<'_>) {
        let known = self.caller.as_ref();
        if !known.is_some_and(|caller| caller.will_wake(cx.waker())) {
            self.caller = Some(cx.waker().clone());
        }
    }
}

impl Shared {
    fn slot(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn socket(&self) -> MutexGuard<'_, Option<Socket>> {
        self.socket.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes the socket, whoever uses it.
    pub(super) fn close(&self) {
        self.socket().take();
        self.wake_caller();
    }

    /// Whoever waits at the socket is forgotten with it, and has to be woken from here.
    fn wake_caller(&self) {
        let caller = self.slot().caller.take();
        if let Some(caller) = caller {
            caller.wake();
        }
    }

    fn wake_driver(&self, change: impl FnOnce(&mut Slot)) {
        let mut slot = self.slot();
        change(&mut slot);
        if let Some(driver) = &slot.driver {
            driver.wake_by_ref();
        }
    }
}

impl Connection {
    /// A connection on `socket`, and the task that has to be run for it. `place` is given up when
    /// the connection ends.
    pub(super) fn new(socket: Socket, place: Option<Place>) -> (Self, Driver) {
        let shared = Arc::new(Shared {
            socket: Mutex::new(Some(socket)),
            slot: Mutex::new(Slot {
                place,
                ..Slot::default()
            }),
            reader: Pace::default(),
        });
        shared.reader.waits();
        let driver = Driver {
            shared: Arc::clone(&shared),
            buffer: vec![0; BUFFER],
            filled: 0,
            current: None,
            hands_over: false,
        };
        (Self(shared), driver)
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    /// The task has not ended.
    pub(super) fn is_open(&self) -> bool {
        !self.0.slot().ended
    }

    /// Whether the connection still rests: the upstream neither closed it nor spoke out of turn.
    ///
    /// Asks the kernel, because a close that arrived a moment ago may not have been polled yet.
    pub(super) fn rests(&self) -> bool {
        self.0.socket().as_ref().is_some_and(Socket::rests)
    }

    /// Gives the connection a request; it has none at present.
    pub(super) fn submit(&self, request: Request) {
        self.0.wake_driver(|slot| {
            slot.sent = false;
            slot.request = Some(request);
        });
    }

    /// Waits for the answer.
    pub(super) fn poll_answer(&self, cx: &mut Context<'_>) -> Poll<Result<Answer, Unanswered>> {
        let mut slot = self.0.slot();
        if let Some(answer) = slot.answer.take() {
            return Poll::Ready(answer);
        }
        if slot.ended {
            let unanswered = match slot.request.take() {
                Some(request) => Unanswered::Unsent(Box::new(request)),
                None => Unanswered::Broken(Broken::Closed),
            };
            return Poll::Ready(Err(unanswered));
        }
        slot.call_back(cx);
        Poll::Pending
    }

    /// Reads more of an answer's body behind `bytes`; nothing once the upstream has closed.
    pub(super) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        bytes: &mut BytesMut,
    ) -> Poll<io::Result<usize>> {
        let read = match &mut *self.0.socket() {
            Some(socket) => socket.poll_read_buf(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        };
        if read.is_pending() {
            self.0.slot().call_back(cx);
        }
        read
    }

    /// The present request was sent whole.
    pub(super) fn is_sent(&self) -> bool {
        self.0.slot().sent
    }

    /// The answer was read whole: the connection rests again.
    pub(super) fn rest(&self) {
        self.0.wake_driver(|slot| slot.wish = Wish::Rest);
    }

    /// The socket, after it was upgraded, with its place in the pool.
    pub(super) fn into_socket(self) -> Option<(Socket, Option<Place>)> {
        let socket = self.0.socket().take()?;
        Some((socket, self.0.slot().place.take()))
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.wake_driver(|slot| slot.wish = Wish::End);
    }
}

/// The task of a connection: ends when the connection does.
pub(super) struct Driver {
    shared: Arc<Shared>,
    buffer: Vec<u8>,
    filled: usize,
    current: Option<Current>,
    /// The socket is for whoever had the answer: it was an upgrade.
    hands_over: bool,
}

/// A request and its answer.
struct Current {
    request: Request,
    begun: bool,
    /// All of the request has gone out.
    sent: bool,
    /// Why the rest of the request cannot be sent; the answer may still come.
    unsendable: Option<io::Error>,
    answered: bool,
}

impl Future for Driver {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let ended = ready!(self.poll_driven(cx));
        if let Err(unanswered) = ended {
            self.shared.slot().answer = Some(Err(unanswered));
        }
        Poll::Ready(())
    }
}

impl Driver {
    /// Ready when the connection ends.
    fn poll_driven(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Unanswered>> {
        loop {
            if self.take_turn(cx) {
                return Poll::Ready(Ok(()));
            }
            let shared = &*self.shared;
            let Some(current) = &mut self.current else {
                return shared.poll_disturbed(cx).map(Ok);
            };
            if !current.begun {
                current.begun = true;
                if shared.poll_disturbed(cx).is_ready() {
                    return Poll::Ready(self.give_back());
                }
            }
            if current.unsendable.is_none()
                && !current.sent
                && let Poll::Ready(sent) = shared.poll_send(cx, &mut current.request)
            {
                match sent {
                    Ok(()) => {
                        current.sent = true;
                        if current.answered {
                            shared.slot().sent = true;
                        }
                    }
                    Err(Unsent::Body) => {
                        return Poll::Ready(Err(Unanswered::Broken(Broken::Body)));
                    }
                    Err(Unsent::Io(_)) if current.request.is_untouched() => {
                        return Poll::Ready(self.give_back());
                    }
                    Err(Unsent::Io(error)) => current.unsendable = Some(error),
                }
            }
            if current.answered {
                return Poll::Pending;
            }
            let to_head = current.request.to_head;
            let arrived = ready!(poll_head(
                cx,
                shared,
                &mut self.buffer,
                &mut self.filled,
                to_head
            ));
            let (head, read) = match (arrived, &mut current.unsendable) {
                (Ok(arrived), _) => arrived,
                // What came first is the reason.
                (Err(_), Some(error)) => {
                    let error = std::mem::replace(error, io::ErrorKind::BrokenPipe.into());
                    return Poll::Ready(Err(Unanswered::Broken(Broken::Io(error))));
                }
                (Err(broken), None) => return Poll::Ready(Err(Unanswered::Broken(broken))),
            };
            current.answered = true;
            let sent = current.sent;
            let is_upgrade = head.response.status() == StatusCode::SWITCHING_PROTOCOLS;
            if self.answer(head, read, sent) {
                self.current = None;
            } else if is_upgrade {
                self.hands_over = true;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Takes up what the connection's users have left; true when nobody uses it any more.
    fn take_turn(&mut self, cx: &mut Context<'_>) -> bool {
        let mut slot = self.shared.slot();
        match slot.wish {
            Wish::None => {}
            Wish::Rest => {
                slot.wish = Wish::None;
                self.current = None;
            }
            Wish::End => return true,
        }
        if self.current.is_none() {
            self.current = slot.request.take().map(|request| Current {
                request,
                begun: false,
                sent: false,
                unsendable: None,
                answered: false,
            });
        }
        let known = slot.driver.as_ref();
        if !known.is_some_and(|driver| driver.will_wake(cx.waker())) {
            slot.driver = Some(cx.waker().clone());
        }
        false
    }

    /// The request was certainly not sent.
    fn give_back(&mut self) -> Result<(), Unanswered> {
        match self.current.take() {
            Some(current) => Err(Unanswered::Unsent(Box::new(current.request))),
            None => Ok(()),
        }
    }

    /// Hands an answer over; true if nothing is left to be read or sent, so that the connection
    /// rests.
    fn answer(&self, head: Head, read: Bytes, sent: bool) -> bool {
        let left = head.framing.length();
        let excess = left.is_some_and(|left| left < read.len() as u64);
        let persists = head.persists && !excess;
        let rests = persists && sent && left == Some(read.len() as u64);
        let mut slot = self.shared.slot();
        slot.sent = sent;
        slot.answer = Some(Ok(Answer {
            response: head.response,
            framing: head.framing,
            read,
            persists,
            rests,
        }));
        let caller = slot.caller.take();
        drop(slot);
        if let Some(caller) = caller {
            caller.wake();
        }
        rests
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.hands_over {
            self.shared.close();
        }
        let mut slot = self.shared.slot();
        slot.ended = true;
        let place = slot.place.take_if(|_| !self.hands_over);
        drop(slot);
        drop(place);
        self.shared.wake_caller();
    }
}

impl Shared {
    /// Ready once the upstream closed the connection, or spoke out of turn.
    fn poll_disturbed(&self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut *self.socket() {
            Some(socket) => socket.poll_disturbed(cx),
            None => Poll::Ready(()),
        }
    }

    /// Sends what is left of a request; a breakage is told once.
    fn poll_send(&self, cx: &mut Context<'_>, request: &mut Request) -> Poll<Result<(), Unsent>> {
        let mut socket = self.socket();
        let Some(socket) = &mut *socket else {
            return Poll::Ready(Err(Unsent::Io(io::ErrorKind::BrokenPipe.into())));
        };
        loop {
            let Poll::Ready(next) = request.poll_next(cx) else {
                // What is to come may be waited for by whoever has read all of what was.
                ready!(Pin::new(socket).poll_flush(cx)).map_err(Unsent::Io)?;
                return Poll::Pending;
            };
            let next = next?;
            let next = match &next {
                [bytes, data] if data.is_empty() => std::slice::from_ref(bytes),
                both => both,
            };
            if next.iter().all(|slice| slice.is_empty()) {
                return Pin::new(socket).poll_flush(cx).map_err(Unsent::Io);
            }
            match ready!(poll_write_gathered(Pin::new(&mut *socket), cx, next)) {
                Ok(0) => return Poll::Ready(Err(Unsent::Io(io::ErrorKind::WriteZero.into()))),
                Ok(count) => request.advance(count),
                Err(error) => return Poll::Ready(Err(Unsent::Io(error))),
            }
        }
    }
}

/// Reads until a whole head is there; returns it and what came behind it.
fn poll_head(
    cx: &mut Context<'_>,
    shared: &Shared,
    buffer: &mut Vec<u8>,
    filled: &mut usize,
    to_head: bool,
) -> Poll<Result<(Head, Bytes), Broken>> {
    loop {
        if *filled == buffer.len() {
            if *filled >= LONGEST_HEAD {
                return Poll::Ready(Err(Broken::Protocol("the answer's head is too long")));
            }
            buffer.resize(2 * *filled, 0);
        }
        let count = match &mut *shared.socket() {
            Some(socket) => ready!(socket.poll_read(cx, &mut buffer[*filled..])),
            None => Err(io::ErrorKind::BrokenPipe.into()),
        };
        match count {
            Ok(0) => return Poll::Ready(Err(Broken::Closed)),
            Ok(count) => *filled += count,
            Err(error) => return Poll::Ready(Err(Broken::Io(error))),
        }
        // Copied in one piece, which the fields and the body are then slices of.
        let bytes = Bytes::copy_from_slice(&buffer[..*filled]);
        if let Some((head, length)) = response::parse(&bytes, to_head)? {
            *filled = 0;
            buffer.truncate(BUFFER);
            buffer.shrink_to(BUFFER);
            return Poll::Ready(Ok((head, bytes.slice(length..))));
        }
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
        let (connection, driver) = Connection::new(Socket::Unix(ours), None);
        tokio::spawn(driver);
        (connection, theirs)
    }

    async fn heard(upstream: &mut UnixStream) {
        let mut bytes = [0; REQUEST.len()];
        let read = timeout(Duration::from_secs(5), upstream.read_exact(&mut bytes));
        read.await.expect("the request is sent").unwrap();
        assert_eq!(bytes, REQUEST);
    }

    async fn answered(connection: &Connection) -> Result<Answer, Unanswered> {
        poll_fn(|cx| connection.poll_answer(cx)).await
    }

    #[tokio::test]
    async fn a_request_may_follow_an_answer_before_the_task_has_seen_its_end() {
        let (connection, mut upstream) = connected();
        for _ in 0..3 {
            connection.submit(get());
            heard(&mut upstream).await;
            let wire = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
            upstream.write_all(wire).await.unwrap();
            let answer = answered(&connection).await.ok().unwrap();
            assert!(answer.persists && !answer.rests);
            assert!(connection.is_sent());
            connection.rest();
        }
    }

    #[tokio::test]
    async fn a_request_that_nobody_could_have_read_is_given_back() {
        let (connection, upstream) = connected();
        drop(upstream);
        connection.submit(get());
        let unanswered = answered(&connection).await.err().unwrap();
        assert!(matches!(unanswered, Unanswered::Unsent(_)));
        assert!(!connection.is_open());

        // Nor could it be after the task has ended.
        connection.submit(get());
        let unanswered = answered(&connection).await.err().unwrap();
        assert!(matches!(unanswered, Unanswered::Unsent(_)));
    }

    #[tokio::test]
    async fn a_request_that_may_have_been_read_is_not() {
        let (connection, mut upstream) = connected();
        connection.submit(get());
        heard(&mut upstream).await;
        upstream.write_all(b"HTTP/1.1 200 O").await.unwrap();
        drop(upstream);
        let unanswered = answered(&connection).await.err().unwrap();
        assert!(matches!(unanswered, Unanswered::Broken(Broken::Closed)));
    }

    #[tokio::test]
    async fn whoever_reads_an_answer_is_woken_when_the_connection_is_closed() {
        let (connection, mut upstream) = connected();
        connection.submit(get());
        heard(&mut upstream).await;
        let wire = b"HTTP/1.1 200 OK\r\n\r\nbegin";
        upstream.write_all(wire).await.unwrap();
        let answer = answered(&connection).await.ok().unwrap();
        assert_eq!(&*answer.read, b"begin");
        let shared = Arc::clone(connection.shared());
        let reading = tokio::spawn(async move {
            let mut bytes = BytesMut::with_capacity(10);
            poll_fn(|cx| connection.poll_read(cx, &mut bytes)).await
        });
        tokio::task::yield_now().await;
        shared.close();
        let read = timeout(Duration::from_secs(5), reading).await;
        let read = read.expect("the reader is woken").unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[tokio::test]
    async fn a_connection_that_nobody_uses_is_closed() {
        let (connection, mut upstream) = connected();
        connection.submit(get());
        heard(&mut upstream).await;
        drop(connection);
        let mut byte = [0];
        let read = timeout(Duration::from_secs(5), upstream.read(&mut byte));
        assert_eq!(read.await.expect("it is closed").unwrap(), 0);
    }
}
