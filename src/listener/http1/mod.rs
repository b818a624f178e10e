//! One connection over HTTP/1.1: its requests one after the other, and what it waits for in between.

mod answer;
mod caller;
mod head;
mod waiting;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::BytesMut;
use http::StatusCode;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio::task::unconstrained;
use tokio::time::{Sleep, sleep, timeout};

use crate::listener::connection::{Seat, TOO_SLOW, Trouble, date};
use crate::listener::{Service, Socket, Stage};
use crate::platform::Monotonic;
use crate::wire::incoming::Incoming;
use crate::wire::message::{Request, Response};
use crate::wire::outgoing::Unsent;
use crate::wire::soon::{SOON, looked_after};
use crate::wire::upgraded::{Begun, CallersEnd};

use answer::Asked;
use caller::{BodyOf, Caller, Presence, Writing};
use head::{Bad, Head};
use waiting::{Next, Waiting};

/// How long the end of a connection may take, once it is decided.
const FAREWELL: Duration = Duration::from_secs(1);

/// How often it is looked whether a caller has left whom nobody reads from.
const LOOK: Duration = Duration::from_secs(1);

/// How much that nobody reads is taken from a caller, so that it reads its answer.
const LINGERS: usize = 256 * 1024;

const MALFORMED: &[u8] = b"HTTP/1.1 400 Bad Request\r\ncontent-type: application/problem+json\r\n\
connection: close\r\ncontent-length: 250\r\n\r\n\
{\"type\":\"urn:gatelet:problem:request_malformed\",\"title\":\"Bad Request\",\"status\":400,\
\"code\":\"request_malformed\",\"detail\":\"The request is not well-formed HTTP.\",\"requestId\":\"\",\
\"error\":\"request_malformed\",\"message\":\"The request is not well-formed HTTP.\"}";

const TOO_LARGE: &[u8] = b"HTTP/1.1 431 Request Header Fields Too Large\r\n\
content-type: application/problem+json\r\nconnection: close\r\ncontent-length: 253\r\n\r\n\
{\"type\":\"urn:gatelet:problem:head_too_large\",\"title\":\"Request Header Fields Too Large\",\"status\":431,\
\"code\":\"head_too_large\",\"detail\":\"The request's head is too large.\",\"requestId\":\"\",\
\"error\":\"head_too_large\",\"message\":\"The request's head is too large.\"}";

const TARGET_TOO_LONG: &[u8] = b"HTTP/1.1 414 URI Too Long\r\n\
content-type: application/problem+json\r\nconnection: close\r\ncontent-length: 230\r\n\r\n\
{\"type\":\"urn:gatelet:problem:uri_too_long\",\"title\":\"URI Too Long\",\"status\":414,\
\"code\":\"uri_too_long\",\"detail\":\"The request's target is too long.\",\"requestId\":\"\",\
\"error\":\"uri_too_long\",\"message\":\"The request's target is too long.\"}";

/// What arrives of a caller that nobody will read.
enum Unread {
    /// Nothing that matters: it was told nothing that it could lose.
    Nothing,
    /// Another request, if it sent one before it knew.
    Perhaps,
    /// The rest of a body.
    Certainly,
}

/// What comes after an answer.
enum After {
    /// Another request may.
    Another,
    /// The connection ends.
    End(Unread),
    /// The connection is another protocol's.
    Upgraded,
}

/// Serves a connection of which something was `read` already, until it ends.
///
/// Dropping the future closes the connection at once, and drops the request that is being answered.
pub(super) async fn serve<S, V>(
    stream: S,
    read: BytesMut,
    peer: Arc<V::Peer>,
    seat: Seat<V>,
) -> Result<(), Trouble>
where
    S: Socket,
    V: Service,
{
    let caller = Arc::new(Caller::new(stream, read));
    let ended = converse(&caller, &peer, &seat).await;
    let (ended, unread) = match ended {
        Ok(unread) => (Ok(()), unread),
        Err(trouble) => (Err(trouble), Unread::Certainly),
    };
    let Some((mut stream, read)) = caller.take() else {
        return ended;
    };
    if ended == Err(Trouble::Io) {
        // An answer that was cut off must not look as if it ended here: TLS would say so.
        return ended;
    }
    let farewell = async {
        stream.shutdown().await?;
        let lingers = match unread {
            Unread::Nothing => false,
            // Whoever has sent another request is still sending, as it seems. An empty line is none.
            Unread::Perhaps => {
                let another = read.iter().any(|byte| !matches!(byte, b'\r' | b'\n'));
                another || has_more(&mut stream).await
            }
            Unread::Certainly => true,
        };
        if lingers {
            linger(&mut stream).await?;
        }
        Ok::<_, std::io::Error>(())
    };
    // The caller may be gone already; there is nobody else to tell.
    let _ = timeout(FAREWELL, farewell).await;
    ended
}

/// Answers one request after the other; whether something may still arrive behind the last answer.
async fn converse<S, V>(
    caller: &Arc<Caller<S>>,
    peer: &Arc<V::Peer>,
    seat: &Seat<V>,
) -> Result<Unread, Trouble>
where
    S: Socket,
    V: Service,
{
    let mut waiting = Waiting::new(seat);
    let mut nudge = Nudge::default();
    // Large, and made once for many requests: answering takes place in it.
    let mut room = None;
    let old = Monotonic(seat.clock.monotonic().0 + seat.limits.age);
    loop {
        let head = match waiting.next(caller).await {
            Next::Request(head) => head,
            Next::Rests => {
                room = None;
                nudge = Nudge::default();
                continue;
            }
            Next::End if caller.awaits_rest() => return Ok(Unread::Certainly),
            Next::End => return Ok(Unread::Nothing),
            Next::Broken => return Err(Trouble::Io),
            Next::Late => {
                tell(caller, TOO_SLOW).await;
                return Err(Trouble::HeadTimeout);
            }
            Next::Bad(bad) => {
                let answer = match bad {
                    Bad::Malformed => MALFORMED,
                    Bad::TooLarge => TOO_LARGE,
                    Bad::TargetTooLong => TARGET_TOO_LONG,
                };
                tell(caller, answer).await;
                return Err(Trouble::Protocol);
            }
        };
        let began = seat.clock.monotonic();
        let call = |request, body| seat.service.call(peer, began, request, body);
        let is_last = began >= old;
        let room = room.get_or_insert_with(|| Box::pin(None)).as_mut();
        match answer(caller, seat, head, is_last, room, &mut nudge, call).await? {
            After::Another => {}
            After::Upgraded => return Ok(Unread::Nothing),
            After::End(unread) => return Ok(unread),
        }
    }
}

/// Has a request answered, and sends the answer; `call` is what answers, which takes place in `room`.
async fn answer<S, V, F>(
    caller: &Arc<Caller<S>>,
    seat: &Seat<V>,
    head: Head,
    is_last: bool,
    mut room: Pin<&mut Option<F>>,
    nudge: &mut Nudge,
    call: impl FnOnce(Box<Request>, Incoming) -> F,
) -> Result<After, Trouble>
where
    S: Socket,
    V: Service,
    F: Future<Output = Response<V::Body>>,
{
    let mut asked = Asked::new(&head);
    let Head {
        mut request,
        framing,
        upgrades,
        ..
    } = head;
    let upgrade = upgrades.then(|| {
        // A tunnel takes it along: it is still this connection when its HTTP has ended.
        request.extensions.insert(seat.hold.clone());
        CallersEnd::offer(&mut request.extensions)
    });
    let body = if framing.is_over() {
        Incoming::Empty
    } else {
        Incoming::Http1(Box::new(BodyOf::present(caller)))
    };
    // A body's end is waited for by whoever would see the caller leave.
    let mut looks_again = framing.is_over();
    room.set(Some(call(request, body)));
    let mut leaving = Leaving::default();
    let answered = poll_fn(|cx| match room.as_mut().as_pin_mut() {
        // Most answers are there when it is looked again.
        Some(answering) if std::mem::take(&mut looks_again) => {
            let polled = looked_after(|| answering.poll(cx));
            if polled.is_pending() {
                nudge.wake_soon(cx);
            }
            polled.map(Some)
        }
        Some(answering) => match answering.poll(cx) {
            Poll::Ready(response) => Poll::Ready(Some(response)),
            Poll::Pending => leaving.poll(cx, caller).map(|()| None),
        },
        None => Poll::Ready(None),
    })
    .await;
    room.set(None);
    let answered = answered.ok_or(Trouble::Io)?;
    let status = answered.status;
    asked.persists &= caller.begin_answer() && !is_last;
    asked.persists &= seat.stages.current() == Stage::Serving;
    let (mut answer, persists) = answer::write(answered, asked, || date(&*seat.clock));
    let ends_with_connection = answer.ends_with_connection();
    if ends_with_connection {
        // Cut off, it must not look as if that were its end, however the connection is dropped.
        caller.breaks_off(true).map_err(|_| Trouble::Io)?;
    }
    let sending = poll_fn(|cx| match answer.poll_send(cx, &mut Writing(caller)) {
        Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
        Poll::Pending => leaving.poll(cx, caller).map(|()| None),
    });
    let is_cut = match sending.await {
        Some(Ok(())) => false,
        Some(Err(Unsent::Body(_))) => true,
        Some(Err(Unsent::Io(_))) | None => return Err(Trouble::Io),
    };
    if is_cut {
        // What came before that is the caller's: one that hears nothing may take its request for unsent.
        answer.cut_short();
        let rest = poll_fn(|cx| {
            let polled = answer.poll_send(cx, &mut Writing(caller));
            polled.map(|_| ())
        });
        let _ = timeout(FAREWELL, rest).await;
        return Err(Trouble::Io);
    }
    if ends_with_connection {
        caller.breaks_off(false).map_err(|_| Trouble::Io)?;
    }
    if let Some(upgrade) = upgrade
        && status == StatusCode::SWITCHING_PROTOCOLS
    {
        if let Some((stream, read)) = caller.take() {
            // Whoever wanted it may be gone, and it is closed then.
            let _ = upgrade.send(Box::new(Begun::new(read, stream)));
        }
        return Ok(After::Upgraded);
    }
    Ok(match (caller.finish(), persists) {
        (true, true) => After::Another,
        (true, false) if !caller.awaits_rest() => After::End(Unread::Perhaps),
        (_, false) | (false, _) => After::End(Unread::Certainly),
    })
}

/// Wakes a connection's task while it waits for an answer: one timer for many requests.
#[derive(Default)]
struct Nudge(Option<Pin<Box<Sleep>>>);

impl Nudge {
    /// Has the task woken within [`SOON`].
    fn wake_soon(&mut self, cx: &mut Context<'_>) {
        match &mut self.0 {
            // It has this task's waker.
            Some(timer) if !timer.is_elapsed() => return,
            Some(timer) => timer.set(sleep(SOON)),
            None => self.0 = Some(Box::pin(sleep(SOON))),
        }
        let timer = self.0.as_mut().map(Pin::as_mut);
        // Out of its budget, the task would be told to come back.
        let woken = timer.map(|timer| pin!(unconstrained(timer)).poll(cx));
        if woken.is_some_and(|woken| woken.is_ready()) {
            cx.waker().wake_by_ref();
        }
    }
}

/// Notices that a caller leaves while it is answered.
#[derive(Default)]
struct Leaving {
    /// When to look again, where nobody would see it.
    look: Option<Pin<Box<Sleep>>>,
}

impl Leaving {
    fn poll<S: Socket>(&mut self, cx: &mut Context<'_>, caller: &Caller<S>) -> Poll<()> {
        match caller.look_for_end(cx) {
            Presence::There => return Poll::Pending,
            Presence::Left => return Poll::Ready(()),
            Presence::Unseen => {}
        }
        let look = self.look.get_or_insert_with(|| Box::pin(sleep(LOOK)));
        // Out of its budget, the task would be told to come back.
        while Pin::new(&mut unconstrained(look.as_mut()))
            .poll(cx)
            .is_ready()
        {
            if caller.has_left() {
                return Poll::Ready(());
            }
            look.set(sleep(LOOK));
        }
        Poll::Pending
    }
}

/// Sends an answer to what was no request.
async fn tell<S: Socket>(caller: &Caller<S>, answer: &[u8]) {
    // The caller may be gone already; there is nobody else to tell.
    let _ = timeout(FAREWELL, Writing(caller).write_all(answer)).await;
}

/// Whether something has come that nobody has read.
async fn has_more(stream: &mut (impl AsyncRead + Unpin)) -> bool {
    let mut byte = [0];
    let mut room = ReadBuf::new(&mut byte);
    poll_fn(|cx| {
        // None is waited for.
        let read = Pin::new(&mut *stream).poll_read(cx, &mut room);
        Poll::Ready(matches!(read, Poll::Ready(Ok(()))) && !room.filled().is_empty())
    })
    .await
}

/// Reads on for a while, until the caller closes: a socket that is closed with something unread is reset,
/// and its caller loses the answer (RFC 9112 §9.6).
async fn linger(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<()> {
    let mut taken = 0;
    let mut room = vec![0; 8 * 1024];
    while taken < LINGERS {
        match stream.read(&mut room).await? {
            0 => return Ok(()),
            count => taken += count,
        }
    }
    Ok(())
}
