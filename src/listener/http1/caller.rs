//! A caller's socket over HTTP/1.1, which the connection and the present request's body read in turn.

mod writing;

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Frame;
use spin::{Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use crate::listener::Socket;
use crate::wire::framing::{Framing, Piece};
use crate::wire::incoming::{Broken, Source};
use crate::wire::scratch;

use super::head::{self, Bad, Head};

pub(super) use writing::Writing;

/// How much of a body is read at once, at first.
const STEP: usize = 8 * 1024;

/// How much of it is read at once where as much is there.
const LARGEST_STEP: usize = 64 * 1024;

/// How much may arrive before it is asked for.
const EARLY: usize = 64 * 1024;

/// How much of a body that nobody wants is waited for, so that its connection is kept.
const PASSED_OVER: u64 = 64 * 1024;

/// What tells a caller to go on (RFC 9110 §15.2.1).
const GO_ON: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A caller's socket.
///
/// All that use it are on one worker, so its lock is never contended.
pub(super) struct Caller<S>(Mutex<State<S>>);

#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a word of its own, beside any of the others"
)]
struct State<S> {
    /// `None` once it is no longer HTTP.
    stream: Option<S>,
    /// What arrived and was not taken yet.
    read: BytesMut,
    /// What came before `read`, where pieces of a body are taken from it.
    arrived: Bytes,
    /// How much of `read` is known to hold no whole head.
    looked_at: usize,
    /// What is to come of the present request's body.
    framing: Framing,
    /// How much of it is read at once.
    step: usize,
    /// What of [`GO_ON`] is to be sent before anything else.
    go_on: &'static [u8],
    /// It has still to leave TLS.
    go_on_held: bool,
    /// The present request's caller waits to be told to go on.
    expects: bool,
    /// What is to come of the body is sure to come: some of it has, or its caller waits for nothing.
    is_promised: bool,
    /// Nobody has read the body to its end, and nobody will.
    is_lost: bool,
    /// Nobody has it any more, although it may yet be passed over.
    is_given_up: bool,
    /// Who waits for more of the body.
    reader: Option<Waker>,
    /// Who waits for the body's end, to see from there on whether the caller leaves.
    watcher: Option<Waker>,
    /// Which request this is: whoever still has the body of another one reads nothing.
    number: u64,
}

/// What a first look at what was read finds in it.
type Whole = Result<Option<(Head, usize)>, Bad>;

/// What a look for a head finds. Where it is not whole, who looked is woken once more of it comes.
pub(super) enum Looked {
    Head(Head),
    /// None will come.
    Never(NoHead),
    /// Nothing of one has arrived. An empty line before it is none of it (RFC 9112 §2.2).
    Nothing,
    /// Some of one has.
    Begun,
}

/// Whether a caller waits for its answer.
pub(super) enum Presence {
    /// It does. Who looked is woken when it leaves, or sends more.
    There,
    /// Nobody reads on far enough to see it leave.
    Unseen,
    /// It has left.
    Left,
}

/// Why no request came.
#[derive(Debug)]
pub(super) enum NoHead {
    /// The caller is done.
    End,
    /// The caller left amid a head, or its socket failed.
    Io,
    /// What came is none.
    Bad(Bad),
}

impl<S: AsyncRead + AsyncWrite + Unpin> Caller<S> {
    /// A caller of whom something was `read` already.
    pub(super) fn new(stream: S, read: BytesMut) -> Self {
        Self(Mutex::new(State {
            stream: Some(stream),
            read,
            arrived: Bytes::new(),
            looked_at: 0,
            framing: Framing::Length(0),
            step: STEP,
            go_on: &[],
            go_on_held: false,
            expects: false,
            is_promised: false,
            is_lost: false,
            is_given_up: false,
            reader: None,
            watcher: None,
            number: 0,
        }))
    }

    fn state(&self) -> MutexGuard<'_, State<S>> {
        self.0.lock()
    }

    /// Reads until a whole head of at most `limit` bytes is there.
    pub(super) fn look_for_head(&self, cx: &mut Context<'_>, limit: usize) -> Looked {
        let mut state = self.state();
        match state.poll_head(cx, limit) {
            Poll::Ready(Ok(head)) => Looked::Head(head),
            Poll::Ready(Err(why)) => Looked::Never(why),
            Poll::Pending => {
                let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
                if state.read.iter().all(is_line_end) {
                    Looked::Nothing
                } else {
                    Looked::Begun
                }
            }
        }
    }

    /// Whether the caller is told, if the socket is dropped, that the connection broke.
    pub(super) fn breaks_off(&self, breaks_off: bool) -> io::Result<()>
    where
        S: Socket,
    {
        let state = self.state();
        let stream = state.stream.as_ref();
        stream.map_or(Ok(()), |stream| stream.breaks_off(breaks_off))
    }

    /// The final answer begins: nothing can tell its caller to go on any more. False where it is known that no other
    /// request can follow.
    pub(super) fn begin_answer(&self) -> bool {
        let mut state = self.state();
        state.expects = false;
        if state.is_given_up {
            state.rejoin();
            state.pass_over();
        }
        !state.is_lost
    }

    /// Looks whether the caller has left, while its request is answered. What it sends meanwhile waits its
    /// turn.
    pub(super) fn look_for_end(&self, cx: &mut Context<'_>) -> Presence {
        let mut state = self.state();
        let state = &mut *state;
        // Before the body's end, whoever reads that finds out, unless it has stopped.
        if !state.framing.is_over() && !state.is_lost && !state.is_given_up {
            state.watcher = Some(cx.waker().clone());
            return Presence::Unseen;
        }
        while state.read.len() < EARLY {
            if state.stream.is_none() {
                return Presence::There;
            }
            match state.poll_behind(cx) {
                Poll::Pending => return Presence::There,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(_)) => return Presence::Left,
            }
        }
        Presence::Unseen
    }

    /// Whether the system knows that the caller has left.
    pub(super) fn has_left(&self) -> bool
    where
        S: Socket,
    {
        let state = self.state();
        state.stream.as_ref().is_some_and(Socket::has_left)
    }

    /// The request was answered whole: whether another one can follow. A body that nobody read is passed over,
    /// what is still to come of it as well if that is little.
    pub(super) fn finish(&self) -> bool {
        let mut state = self.state();
        let state = &mut *state;
        // Nobody waits for that any more; and whoever still reads the body must not go on to what
        // follows it.
        state.expects = false;
        state.watcher = None;
        state.number += 1;
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        state.rejoin();
        state.pass_over();
        state.rest();
        state.looked_at = 0;
        !state.is_lost
    }

    /// Some of a body is still to come that nobody will read.
    pub(super) fn awaits_rest(&self) -> bool {
        !self.state().framing.is_over()
    }

    /// The socket, which is no longer HTTP's, and what arrived on it.
    pub(super) fn take(&self) -> Option<(S, Bytes)> {
        let mut state = self.state();
        state.rejoin();
        let read = state.read.split().freeze();
        state.number += 1;
        // Whoever waits at the socket is forgotten with it.
        if let Some(reader) = state.reader.take() {
            reader.wake();
        }
        state.stream.take().map(|stream| (stream, read))
    }
}

impl<S> State<S> {
    fn wake_watcher(&mut self) {
        if let Some(watcher) = self.watcher.take() {
            watcher.wake();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> State<S> {
    /// Passes over what has come of a body that nobody reads. No request can follow unless that is all of it, or
    /// little more is sure to come.
    fn pass_over(&mut self) {
        if self.framing.is_over() {
            return;
        }
        let mut arrived = std::mem::take(&mut self.read).freeze();
        loop {
            match self.framing.take(&mut arrived) {
                Ok(Some(_)) => self.is_promised = true,
                Ok(None) => break,
                Err(_) => {
                    self.is_lost = true;
                    break;
                }
            }
        }
        let is_little = |left| left <= PASSED_OVER;
        let will_be_over = self.is_promised && self.framing.length().is_some_and(is_little);
        self.is_lost |= !(self.framing.is_over() || will_be_over);
        self.read = BytesMut::from(&arrived[..]);
    }

    /// Nothing is kept for a connection that rests.
    fn rest(&mut self) {
        if self.read.is_empty() {
            self.read = BytesMut::new();
        }
    }

    fn poll_head(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<Head, NoHead>> {
        while !self.framing.is_over() {
            ready!(self.poll_behind(cx)).map_err(|_| NoHead::End)?;
            self.pass_over();
            self.rest();
        }
        loop {
            if self.looked_at < self.read.len()
                && let Some(head) = self.take_head(limit).map_err(NoHead::Bad)?
            {
                return Poll::Ready(Ok(head));
            }
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(Err(NoHead::End));
            };
            let read = &mut self.read;
            let polled: Poll<io::Result<(usize, Option<Whole>)>> = scratch::with(|room| {
                let count = ready!(poll_read(stream, cx, room))?;
                if count == 0 || !read.is_empty() {
                    read.extend_from_slice(&room[..count]);
                    return Poll::Ready(Ok((count, None)));
                }
                // Most heads come at once, and with nothing behind them.
                let whole = head::parse(&room[..count]);
                let taken = match &whole {
                    Ok(Some((_, length))) => *length,
                    _ => 0,
                };
                read.extend_from_slice(&room[taken..count]);
                Poll::Ready(Ok((count, Some(whole))))
            });
            match ready!(polled) {
                Ok((0, _)) if self.read.is_empty() => return Poll::Ready(Err(NoHead::End)),
                Err(_) | Ok((0, _)) => return Poll::Ready(Err(NoHead::Io)),
                Ok((_, None)) => {}
                Ok((_, Some(whole))) => match whole.map_err(NoHead::Bad)? {
                    Some((_, length)) if length > limit => {
                        return Poll::Ready(Err(NoHead::Bad(Bad::TooLarge)));
                    }
                    Some((head, _)) => {
                        self.begin(&head);
                        return Poll::Ready(Ok(head));
                    }
                    None => self.looked_at = self.read.len(),
                },
            }
            if self.looked_at >= limit {
                return Poll::Ready(Err(NoHead::Bad(Bad::TooLarge)));
            }
        }
    }

    /// The head that what was read begins with, if it is whole.
    fn take_head(&mut self, limit: usize) -> Result<Option<Head>, Bad> {
        // From its second piece on, only an end of lines may make it whole.
        let may_be_whole = self.looked_at == 0 || {
            let from = self.looked_at.saturating_sub(3);
            let fresh = &self.read[from..];
            memchr::memmem::find(fresh, b"\n\r\n").is_some()
                || memchr::memmem::find(fresh, b"\n\n").is_some()
        };
        if may_be_whole && let Some((head, length)) = head::parse(&self.read)? {
            if length > limit {
                return Err(Bad::TooLarge);
            }
            self.read.advance(length);
            self.begin(&head);
            return Ok(Some(head));
        }
        self.looked_at = self.read.len();
        if self.looked_at >= limit {
            return Err(Bad::TooLarge);
        }
        Ok(None)
    }

    fn begin(&mut self, head: &Head) {
        self.looked_at = 0;
        self.framing = head.framing;
        self.is_given_up = false;
        self.step = STEP;
        self.expects = head.expects && !head.framing.is_over();
        self.is_promised = head.promises;
        self.rest();
    }

    /// Reads something behind what was read; an end is an error.
    fn poll_behind(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        let read = &mut self.read;
        scratch::with(|room| {
            let count = ready!(poll_read(stream, cx, room))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
            }
            read.extend_from_slice(&room[..count]);
            Poll::Ready(Ok(()))
        })
    }

    /// Sends what tells the caller to go on, if that has begun.
    fn poll_go_on(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.go_on.is_empty() {
            let Some(stream) = &mut self.stream else {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            };
            let count = ready!(Pin::new(&mut *stream).poll_write(cx, self.go_on))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.go_on = &self.go_on[count..];
            self.go_on_held = true;
        }
        if self.go_on_held
            && let Some(stream) = &mut self.stream
        {
            ready!(Pin::new(stream).poll_flush(cx))?;
            self.go_on_held = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Reads more of the body behind what was read.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        if std::mem::take(&mut self.expects) && self.read.is_empty() {
            self.go_on = GO_ON;
        }
        match self.poll_go_on(cx) {
            Poll::Ready(told) => told.map_err(Broken::Io)?,
            Poll::Pending => {
                // The socket wakes whoever has waited last. That has to be who answers, if it is another: the
                // body may never be asked for again.
                let another = |watcher: &mut Waker| !watcher.will_wake(cx.waker());
                if let Some(watcher) = self.watcher.take_if(another) {
                    watcher.wake();
                }
            }
        }
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Err(Broken::Closed));
        };
        let wanted = match self.framing {
            Framing::Length(left) => usize::try_from(left).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        let step = self.step.min(wanted.max(1));
        self.read.reserve(step);
        let polled = pin!(stream.read_buf(&mut self.read)).poll(cx);
        let count = ready!(polled).map_err(Broken::Io)?;
        if count == 0 {
            return Poll::Ready(Err(Broken::Closed));
        }
        if count >= step {
            self.step = (2 * self.step).min(LARGEST_STEP);
        } else if count < step / 2 {
            self.step = (self.step / 2).max(STEP);
            // What is read slowly must not hold more memory than it has bytes.
            self.read = BytesMut::from(&self.read[..]);
        }
        Poll::Ready(Ok(()))
    }

    /// Puts what no piece was taken of back before what is read next: once for many pieces, since it is
    /// copied.
    fn rejoin(&mut self) {
        // Even empty, it may hold the memory that is to be read into again.
        let left = std::mem::take(&mut self.arrived);
        if left.is_empty() {
            return;
        }
        let mut left = left
            .try_into_mut()
            .unwrap_or_else(|left| BytesMut::from(&left[..]));
        left.extend_from_slice(&self.read);
        self.read = left;
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Piece>, Broken>> {
        loop {
            if self.arrived.is_empty() && !self.read.is_empty() {
                self.arrived = self.read.split().freeze();
            }
            if !self.arrived.is_empty() {
                let piece = self.framing.take(&mut self.arrived);
                if self.framing.is_over() || !matches!(piece, Ok(Some(_))) {
                    self.rejoin();
                }
                if let Some(piece) = piece.map_err(Broken::Malformed)? {
                    self.is_promised = true;
                    return Poll::Ready(Ok(Some(piece)));
                }
            }
            if self.framing.is_over() {
                return Poll::Ready(Ok(None));
            }
            ready!(self.poll_more(cx))?;
        }
    }
}

/// The body of one request.
pub(super) struct BodyOf<S> {
    caller: Arc<Caller<S>>,
    number: u64,
}

impl<S: AsyncRead + AsyncWrite + Unpin> BodyOf<S> {
    /// The body of the present request.
    pub(super) fn present(caller: &Arc<Caller<S>>) -> Self {
        Self {
            caller: Arc::clone(caller),
            number: caller.state().number,
        }
    }
}

impl<S> Drop for BodyOf<S> {
    fn drop(&mut self) {
        let mut state = self.caller.0.lock();
        if state.number == self.number {
            // Nobody else would see the caller leave from here on.
            state.is_given_up = true;
            state.wake_watcher();
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Source for BodyOf<S> {
    fn poll_frame(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let mut state = self.caller.state();
        if state.number != self.number || state.is_lost {
            return Poll::Ready(Some(Err(Broken::Closed)));
        }
        let Poll::Ready(piece) = state.poll_piece(cx) else {
            state.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        state.is_lost |= piece.is_err();
        if state.is_lost || state.framing.is_over() {
            state.wake_watcher();
        }
        Poll::Ready(match piece {
            Ok(Some(Piece::Data(data))) => Some(Ok(Frame::data(data))),
            Ok(Some(Piece::Trailers(lines))) => Some(Ok(Frame::trailers(lines))),
            Ok(None) => None,
            Err(broken) => Some(Err(broken)),
        })
    }

    fn framing(&self) -> Framing {
        let state = self.caller.state();
        if state.number == self.number {
            state.framing
        } else {
            // It never came to its end.
            Framing::Close
        }
    }
}

fn poll_read(
    stream: &mut (impl AsyncRead + Unpin),
    cx: &mut Context<'_>,
    room: &mut [u8],
) -> Poll<io::Result<usize>> {
    let mut buffer = ReadBuf::new(room);
    ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(buffer.filled().len()))
}

#[cfg(test)]
mod tests;
