use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::Wake;
use std::time::Duration;

use tokio::io::{AsyncWriteExt, BufWriter, DuplexStream, duplex};
use tokio::time::timeout;

use super::*;

const LIMIT: usize = 4 * 1024;

fn pair() -> (Arc<Caller<DuplexStream>>, DuplexStream) {
    let (ours, theirs) = duplex(64 * 1024);
    (Arc::new(Caller::new(ours, BytesMut::new())), theirs)
}

async fn head(caller: &Caller<impl AsyncRead + AsyncWrite + Unpin>) -> Head {
    let head = poll_fn(|cx| caller.state().poll_head(cx, LIMIT));
    let head = timeout(Duration::from_secs(5), head).await;
    head.expect("it came").ok().unwrap()
}

async fn frame(body: &BodyOf<DuplexStream>) -> Option<Result<Frame<Bytes>, Broken>> {
    let frame = poll_fn(|cx| body.poll_frame(cx));
    timeout(Duration::from_secs(5), frame)
        .await
        .expect("somebody is woken")
}

/// The body of a request whose head has come, and nothing behind it.
async fn begun(
    caller: &Arc<Caller<DuplexStream>>,
    theirs: &mut DuplexStream,
) -> BodyOf<DuplexStream> {
    let sent = b"PUT / HTTP/1.1\r\ncontent-length: 5\r\n\r\n";
    theirs.write_all(sent).await.unwrap();
    head(caller).await;
    BodyOf::present(caller)
}

#[tokio::test]
async fn a_body_that_came_whole_and_that_nobody_read_is_passed_over() {
    for body in [
        "content-length: 5\r\n\r\nhello",
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\na: b\r\n\r\n",
    ] {
        let (caller, mut theirs) = pair();
        let sent = format!("PUT /1 HTTP/1.1\r\n{body}\r\nGET /2 HTTP/1.1\r\n\r\n");
        theirs.write_all(sent.as_bytes()).await.unwrap();
        assert_eq!(head(&caller).await.request.uri, "/1");
        assert!(caller.finish(), "{body}");
        assert_eq!(head(&caller).await.request.uri, "/2");
    }
}

#[tokio::test]
async fn a_little_that_is_still_to_come_of_a_body_is_passed_over_as_it_comes() {
    let most = usize::try_from(PASSED_OVER).unwrap();
    for (length, came) in [(5, 0), (5, 3), (most, 0), (most + 1, 1)] {
        let (caller, mut theirs) = pair();
        let sent = format!("PUT /1 HTTP/1.1\r\ncontent-length: {length}\r\n\r\n");
        let mut sent = sent.into_bytes();
        sent.resize(sent.len() + came, b'x');
        theirs.write_all(&sent).await.unwrap();
        head(&caller).await;
        drop(BodyOf::present(&caller));
        assert!(caller.begin_answer(), "{length}");
        assert!(caller.finish(), "{length}");
        let behind = async {
            let mut sent = vec![b'x'; length - came];
            sent.extend(b"GET /2 HTTP/1.1\r\n\r\n");
            theirs.write_all(&sent).await.unwrap();
        };
        let (head, ()) = tokio::join!(head(&caller), behind);
        assert_eq!(head.request.uri, "/2");
    }
}

#[tokio::test]
async fn a_body_that_may_not_end_soon_or_not_come_ends_its_connection() {
    // Whoever reads an `Expect` in another way than it is read here may wait.
    for lines in [
        "1\r\ncontent-length: 65537\r\n\r\n",
        "1\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        "1\r\ntransfer-encoding: chunked\r\n\r\nnone",
        "1\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
        "1\r\nexpect: 100-continue\r\nexpect: x\r\ncontent-length: 5\r\n\r\n",
        "1\r\nexpect: 100-continue, x\r\ncontent-length: 5\r\n\r\n",
        "1\r\nexpect: 100-continue\r\nexpect:\r\ncontent-length: 5\r\n\r\n",
        "0\r\nconnection: keep-alive\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n",
    ] {
        let (caller, mut theirs) = pair();
        let sent = format!("PUT /1 HTTP/1.{lines}");
        theirs.write_all(sent.as_bytes()).await.unwrap();
        head(&caller).await;
        let body = BodyOf::present(&caller);
        assert!(caller.begin_answer(), "{lines}: it may be read yet");
        drop(body);
        assert!(!caller.begin_answer(), "{lines}");
        assert!(!caller.finish(), "{lines}");
    }
    // Once some of it has come, the rest will.
    for begun in [false, true] {
        let (caller, mut theirs) = pair();
        let sent = b"PUT /1 HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
        theirs.write_all(sent).await.unwrap();
        head(&caller).await;
        let body = BodyOf::present(&caller);
        let asked = poll_fn(|cx| Poll::Ready(body.poll_frame(cx).is_pending()));
        assert!(asked.await, "it is told to go on");
        if begun {
            theirs.write_all(b"hel").await.unwrap();
            frame(&body).await.unwrap().unwrap();
        }
        drop(body);
        assert_eq!(caller.begin_answer(), begun);
        assert_eq!(caller.finish(), begun);
    }
}

#[tokio::test]
async fn small_pieces_are_of_what_was_read_and_no_copies() {
    const PIECES: usize = 2_000;
    let (caller, mut theirs) = pair();
    let mut sent = b"PUT /1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n".to_vec();
    sent.extend(b"1\r\nx\r\n".repeat(PIECES));
    sent.extend(b"0\r\n\r\nGET /2 HTTP/1.1\r\n\r\n");
    theirs.write_all(&sent).await.unwrap();
    head(&caller).await;
    let body = BodyOf::present(&caller);
    let mut pieces = Vec::new();
    while let Some(piece) = frame(&body).await {
        pieces.push(piece.unwrap().into_data().ok().unwrap());
    }
    assert_eq!(pieces.concat(), b"x".repeat(PIECES));
    let neighbours = pieces
        .windows(2)
        .filter(|pair| pair[1].as_ptr() as usize - pair[0].as_ptr() as usize == 6)
        .count();
    assert!(neighbours > PIECES - 10, "{neighbours}");
    assert!(caller.finish());
    assert_eq!(head(&caller).await.request.uri, "/2");
}

#[tokio::test]
async fn a_body_is_read_into_the_same_memory_again() {
    let (caller, mut theirs) = pair();
    let piece = [0; 3 * STEP / 4];
    for (framing, before, after) in [
        ("content-length: 61440", &b""[..], &b""[..]),
        ("transfer-encoding: chunked", b"1800\r\n", b"\r\n"),
    ] {
        let head_lines = format!("PUT /1 HTTP/1.1\r\n{framing}\r\n\r\n");
        theirs.write_all(head_lines.as_bytes()).await.unwrap();
        head(&caller).await;
        let body = BodyOf::present(&caller);
        let mut places = std::collections::HashSet::new();
        for _ in 0..10 {
            let sent = [before, &piece[..], after].concat();
            theirs.write_all(&sent).await.unwrap();
            let data = frame(&body).await.unwrap().unwrap().into_data();
            let data = data.ok().unwrap();
            assert_eq!(data.len(), piece.len());
            places.insert(data.as_ptr());
        }
        assert_eq!(places.len(), 1, "{framing}");
        if !after.is_empty() {
            theirs.write_all(b"0\r\n\r\n").await.unwrap();
            assert!(frame(&body).await.is_none());
        }
        assert!(caller.finish());
    }
}

#[tokio::test]
async fn nobody_reads_on_into_the_next_request() {
    let (caller, mut theirs) = pair();
    let sent = b"PUT /1 HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n\
        PUT /2 HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello";
    theirs.write_all(sent).await.unwrap();
    head(&caller).await;
    let first = BodyOf::present(&caller);
    assert!(caller.finish());
    assert!(matches!(frame(&first).await, Some(Err(Broken::Closed))));
    head(&caller).await;
    assert!(matches!(frame(&first).await, Some(Err(Broken::Closed))));
    assert!(!first.framing().is_over(), "it was never whole");
    let second = BodyOf::present(&caller);
    let data = frame(&second).await.unwrap().unwrap().into_data();
    assert_eq!(data.ok().unwrap(), "hello");
    assert!(second.framing().is_over());
}

#[tokio::test]
async fn whoever_waits_for_a_body_hears_that_nobody_wants_it() {
    let (caller, mut theirs) = pair();
    let body = begun(&caller, &mut theirs).await;
    let finished = async {
        tokio::task::yield_now().await;
        caller.finish();
    };
    let (frame, ()) = tokio::join!(frame(&body), finished);
    assert!(matches!(frame, Some(Err(Broken::Closed))));
}

#[tokio::test]
async fn a_caller_is_seen_to_leave_once_nobody_reads_its_body() {
    for (sent, is_wanted) in [("hello", true), ("hel", false)] {
        let (caller, mut theirs) = pair();
        let body = begun(&caller, &mut theirs).await;
        let left = tokio::spawn({
            let caller = Arc::clone(&caller);
            async move {
                poll_fn(|cx| match caller.look_for_end(cx) {
                    Presence::Left => Poll::Ready(()),
                    Presence::There | Presence::Unseen => Poll::Pending,
                })
                .await;
            }
        });
        tokio::task::yield_now().await;
        theirs.write_all(sent.as_bytes()).await.unwrap();
        let body = Some(body).filter(|_| is_wanted);
        if let Some(body) = &body {
            assert!(frame(body).await.unwrap().is_ok());
        }
        tokio::task::yield_now().await;
        assert!(!left.is_finished(), "{sent}");
        drop(theirs);
        let left = timeout(Duration::from_secs(5), left).await;
        left.expect("it was seen").unwrap();
    }
}

#[tokio::test]
async fn an_empty_line_before_a_head_is_no_head() {
    let (caller, mut theirs) = pair();
    theirs.write_all(b"\r\n").await.unwrap();
    let looked = poll_fn(|cx| Poll::Ready(caller.look_for_head(cx, LIMIT)));
    assert!(matches!(looked.await, Looked::Nothing));
    theirs.write_all(b"GET /1 HTTP/1.1\r\n\r\n").await.unwrap();
    assert_eq!(head(&caller).await.request.uri, "/1");
}

#[tokio::test]
async fn what_tells_a_caller_to_go_on_leaves_tls_once_there_is_room() {
    let (ours, mut theirs) = duplex(4 * 1024);
    // It takes in more than its socket does, as TLS does.
    let caller = Caller::new(BufWriter::new(ours), BytesMut::new());
    let caller = Arc::new(caller);
    let sent = b"PUT / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    theirs.write_all(sent).await.unwrap();
    let head = poll_fn(|cx| caller.state().poll_head(cx, LIMIT)).await;
    assert!(head.ok().unwrap().expects);
    Writing(&caller).write_all(&[b'x'; 4 * 1024]).await.unwrap();
    Writing(&caller).flush().await.unwrap();
    let body = BodyOf::present(&caller);
    let reading = tokio::spawn(async move { poll_fn(|cx| body.poll_frame(cx)).await });
    tokio::task::yield_now().await;
    let mut told = vec![0; 4 * 1024 + GO_ON.len()];
    let read = timeout(Duration::from_secs(5), theirs.read_exact(&mut told)).await;
    read.expect("it is told to go on").unwrap();
    assert!(told.ends_with(GO_ON));
    theirs.write_all(b"hello").await.unwrap();
    assert!(reading.await.unwrap().unwrap().is_ok());
}

#[tokio::test]
async fn who_waits_to_answer_is_woken_once_the_caller_was_told_to_go_on() {
    let (ours, mut theirs) = duplex(64);
    let ours = BufWriter::with_capacity(0, ours);
    let caller = Arc::new(Caller::new(ours, BytesMut::new()));
    let sent = b"PUT / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    caller.state().read.extend_from_slice(sent);
    head(&caller).await;
    Writing(&caller).write_all(&[b'x'; 60]).await.unwrap();
    let body = BodyOf::present(&caller);
    // There is no room for all of what it is told.
    assert!(poll_fn(|cx| Poll::Ready(body.poll_frame(cx).is_pending())).await);
    let answering = tokio::spawn({
        let caller = Arc::clone(&caller);
        poll_fn(move |cx| {
            let sent = pin!(Writing(&caller)).poll_write(cx, b"answer");
            if sent.is_pending() {
                let _ = caller.look_for_end(cx);
            }
            sent
        })
    });
    tokio::task::yield_now().await;
    // The socket wakes whoever has waited last, and this one never asks again.
    let reading = tokio::spawn(async move {
        let waits = poll_fn(|cx| Poll::Ready(body.poll_frame(cx).is_pending())).await;
        (waits, body)
    });
    let (waits, _body) = reading.await.unwrap();
    assert!(waits);
    let mut told = vec![0; 60 + GO_ON.len() + 6];
    let read = timeout(Duration::from_secs(5), theirs.read_exact(&mut told)).await;
    read.expect("the answer comes").unwrap();
    assert!(told.ends_with(b"answer"));
    assert_eq!(answering.await.unwrap().unwrap(), 6);
}

#[tokio::test]
async fn who_waits_for_room_to_tell_a_caller_to_go_on_does_not_wake_itself() {
    let (ours, _theirs) = duplex(16);
    let caller = Arc::new(Caller::new(ours, BytesMut::new()));
    let sent = b"PUT / HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 5\r\n\r\n";
    caller.state().read.extend_from_slice(sent);
    head(&caller).await;
    let body = BodyOf::present(&caller);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    for _ in 0..3 {
        assert!(body.poll_frame(&mut cx).is_pending());
        assert!(matches!(caller.look_for_end(&mut cx), Presence::Unseen));
    }
    assert!(!woken.0.load(Ordering::Relaxed));
}

/// Whether somebody was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn what_was_sent_early_is_not_copied_for_every_request() {
    let (caller, mut theirs) = pair();
    let request = b"GET /1 HTTP/1.1\r\n\r\n";
    theirs.write_all(&request.repeat(100)).await.unwrap();
    let mut places = Vec::new();
    for _ in 0..100 {
        head(&caller).await;
        assert!(caller.finish());
        places.push(caller.state().read.as_ptr() as usize);
    }
    // The last of them leaves nothing behind.
    let moved = places
        .windows(2)
        .filter(|pair| pair[1] != pair[0] + request.len());
    assert!(moved.count() <= 1);
}
