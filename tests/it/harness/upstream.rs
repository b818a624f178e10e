//! The API behind gatelet: records the raw bytes of each request and answers by a script.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wait::{BOUND, eventually};
use super::wire::{Framing, Head, Headers, Socket, Wire, is_close, malformed};

/// How much of a body is kept.
const KEPT: usize = 1 << 20;

/// One request as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    /// Which accepted connection it came on, counted from 0.
    pub(crate) connection: usize,
    /// The head, byte for byte.
    pub(crate) raw: Vec<u8>,
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Headers,
    /// The body, decoded; its first MiB.
    pub(crate) body: Vec<u8>,
    /// How long the body was.
    pub(crate) length: u64,
    pub(crate) trailers: Headers,
    /// Whether the request was read to its end.
    pub(crate) complete: bool,
}

/// One request being answered.
pub(crate) struct Exchange<'a> {
    wire: &'a mut Wire,
    framing: Framing,
    record: Arc<Mutex<Received>>,
    closed: bool,
    waiting: bool,
}

impl Exchange<'_> {
    /// The request as it is known so far.
    pub(crate) fn request(&self) -> Received {
        self.record.lock().unwrap().clone()
    }

    /// Reads the body to its end, saying `100 Continue` first where that is awaited.
    pub(crate) fn read_body(&mut self) -> io::Result<Received> {
        if !self.request().complete {
            if std::mem::take(&mut self.waiting) {
                self.wire
                    .socket
                    .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
            }
            let record = &self.record;
            let trailers = self.wire.body(self.framing, |piece| {
                let mut record = record.lock().unwrap();
                record.length += piece.len() as u64;
                let room = KEPT.saturating_sub(record.body.len()).min(piece.len());
                record.body.extend_from_slice(&piece[..room]);
            })?;
            let mut record = self.record.lock().unwrap();
            record.trailers = trailers;
            record.complete = true;
        }
        Ok(self.request())
    }

    /// Writes these bytes.
    pub(crate) fn write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.wire.socket.write_all(bytes.as_ref())
    }

    /// Answers with this status, these header lines (each with its CRLF) and this body.
    pub(crate) fn answer(&mut self, status: &str, headers: &str, body: &str) -> io::Result<()> {
        let head = format!(
            "HTTP/1.1 {status}\r\n{headers}content-length: {}\r\n\r\n",
            body.len()
        );
        let body = if self.request().method == "HEAD" {
            ""
        } else {
            body
        };
        self.write(head + body)
    }

    /// Ends the connection after this exchange.
    pub(crate) fn close(&mut self) -> io::Result<()> {
        self.closed = true;
        self.wire.socket.shutdown(Shutdown::Both)
    }

    /// Reads until these bytes were seen: what a tunnel carries.
    pub(crate) fn until(&mut self, needle: &[u8]) -> io::Result<Vec<u8>> {
        self.wire.until(needle)
    }

    /// Waits for gatelet to end the connection; false when it does not within the bound.
    pub(crate) fn peer_closes(&mut self) -> bool {
        self.closed = true;
        self.wire.rest().is_ok()
    }
}

type Script = dyn Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync;

/// A server on a free port or a unix socket.
pub(crate) struct Upstream {
    shared: Arc<Shared>,
    address: Address,
    accepting: Option<JoinHandle<()>>,
}

#[derive(Clone)]
enum Address {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

struct Shared {
    script: Box<Script>,
    received: Mutex<Vec<Arc<Mutex<Received>>>>,
    complaints: Mutex<Vec<String>>,
    /// The open connections, to be closed from outside.
    sockets: Mutex<HashMap<usize, Socket>>,
    accepted: AtomicUsize,
    open: AtomicUsize,
    stopping: AtomicBool,
}

impl Upstream {
    /// Reads each request whole and answers 200 with a small JSON object.
    pub(crate) fn echo() -> Self {
        Self::scripted(|exchange| {
            let request = exchange.read_body()?;
            let body = format!("{{\"length\":{}}}", request.length);
            exchange.answer("200 OK", "content-type: application/json\r\n", &body)
        })
    }

    /// Answers every request by `script`.
    ///
    /// What the script leaves unread of a body is read afterwards, unless it closed.
    pub(crate) fn scripted(
        script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        Self::listening(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    /// The same on a socket that listens already.
    pub(crate) fn listening(
        listener: TcpListener,
        script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let address = Address::Tcp(listener.local_addr().unwrap());
        Self::serve(Listener::Tcp(listener), address, script)
    }

    /// The same on a unix socket at `path`.
    pub(crate) fn on_unix_socket(
        path: &Path,
        script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        Self::serve(
            Listener::Unix(listener),
            Address::Unix(path.to_owned()),
            script,
        )
    }

    fn serve(
        listener: Listener,
        address: Address,
        script: impl Fn(&mut Exchange<'_>) -> io::Result<()> + Send + Sync + 'static,
    ) -> Self {
        let shared = Arc::new(Shared {
            script: Box::new(script),
            received: Mutex::default(),
            complaints: Mutex::default(),
            sockets: Mutex::default(),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            stopping: AtomicBool::new(false),
        });
        let mut upstream = Self {
            shared,
            address,
            accepting: None,
        };
        upstream.accept_on(listener);
        upstream
    }

    fn accept_on(&mut self, listener: Listener) {
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(std::thread::spawn(move || {
            while let Ok(socket) = accept(&listener) {
                if shared.stopping.load(Ordering::SeqCst) {
                    break;
                }
                let connection = shared.accepted.fetch_add(1, Ordering::SeqCst);
                let handle = socket.try_clone().unwrap();
                shared.sockets.lock().unwrap().insert(connection, handle);
                shared.open.fetch_add(1, Ordering::SeqCst);
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || {
                    if let Err(error) = shared.converse(connection, socket)
                        && !is_close(&error)
                        && !shared.stopping.load(Ordering::SeqCst)
                    {
                        shared.complaints.lock().unwrap().push(error.to_string());
                    }
                    if let Some(socket) = shared.sockets.lock().unwrap().remove(&connection) {
                        let _ = socket.shutdown(Shutdown::Both);
                    }
                    shared.open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        }));
    }

    /// The `url` of the configuration.
    pub(crate) fn url(&self) -> String {
        match &self.address {
            Address::Tcp(address) => format!("http://{address}"),
            Address::Unix(path) => format!("unix:{}", path.display()),
        }
    }

    /// Where it listens, if not on a unix socket.
    pub(crate) fn socket_address(&self) -> SocketAddr {
        match &self.address {
            Address::Tcp(address) => *address,
            Address::Unix(path) => panic!("it listens at {}", path.display()),
        }
    }

    /// Every request so far, in the order of their heads.
    pub(crate) fn received(&self) -> Vec<Received> {
        let received = self.shared.received.lock().unwrap();
        received
            .iter()
            .map(|record| record.lock().unwrap().clone())
            .collect()
    }

    /// The one request so far, read to its end; panics when there are more.
    pub(crate) fn only(&self) -> Received {
        eventually("a request reaches the upstream", || {
            self.received().first().is_some_and(|first| first.complete)
        });
        let received = self.received();
        assert_eq!(received.len(), 1, "{received:#?}");
        received.into_iter().next().unwrap()
    }

    /// The newest request, and forgets all.
    pub(crate) fn take(&self) -> Option<Received> {
        let taken = std::mem::take(&mut *self.shared.received.lock().unwrap());
        taken.last().map(|record| record.lock().unwrap().clone())
    }

    /// Panics when any request arrived, or anything that is not HTTP.
    pub(crate) fn assert_untouched(&self, why: &str) {
        let received = self.received();
        assert!(received.is_empty(), "{why}: {received:#?}");
        self.assert_sane();
    }

    /// Panics when anything arrived that is not well-formed HTTP/1.1.
    pub(crate) fn assert_sane(&self) {
        let complaints = self.shared.complaints.lock().unwrap();
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    /// How many connections were accepted so far.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many connections are open now.
    pub(crate) fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// Closes every connection; new ones are accepted.
    pub(crate) fn close_connections(&self) {
        for socket in self.shared.sockets.lock().unwrap().values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        eventually("the upstream's connections end", || self.open() == 0);
    }

    /// Closes the listener and every connection.
    pub(crate) fn stop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        let _ = match &self.address {
            Address::Tcp(address) => TcpStream::connect_timeout(address, BOUND).map(|_| ()),
            Address::Unix(path) => UnixStream::connect(path).map(|_| ()),
        };
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
        self.close_connections();
    }

    /// Listens again where it did before.
    pub(crate) fn start_again(&mut self) {
        self.shared.stopping.store(false, Ordering::SeqCst);
        let listener = match &self.address {
            Address::Tcp(address) => {
                // Meanwhile the machine may have lent the port to somebody's connection.
                let mut bound = None;
                eventually("the port is free again", || {
                    bound = TcpListener::bind(address).ok();
                    bound.is_some()
                });
                Listener::Tcp(bound.unwrap())
            }
            Address::Unix(path) => {
                let _ = std::fs::remove_file(path);
                Listener::Unix(UnixListener::bind(path).unwrap())
            }
        };
        self.accept_on(listener);
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        for socket in self.shared.sockets.lock().unwrap().values() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        if self.accepting.is_some()
            && let Address::Tcp(address) = &self.address
        {
            let _ = TcpStream::connect_timeout(address, Duration::from_secs(1));
        }
    }
}

fn accept(listener: &Listener) -> io::Result<Socket> {
    Ok(match listener {
        Listener::Tcp(listener) => Socket::Tcp(listener.accept()?.0),
        Listener::Unix(listener) => Socket::Unix(listener.accept()?.0),
    })
}

impl Shared {
    /// Answers requests until the connection ends.
    fn converse(&self, connection: usize, socket: Socket) -> io::Result<()> {
        let mut wire = Wire::new(socket)?;
        // An idle connection is gatelet's to keep: the bound of one test must not end it.
        wire.socket.set_read_timeout(Duration::from_secs(60))?;
        while let Some((raw, head)) = wire.head()? {
            let (record, framing) = receive(connection, raw, &head)?;
            let record = Arc::new(Mutex::new(record));
            self.received.lock().unwrap().push(Arc::clone(&record));
            let mut exchange = Exchange {
                wire: &mut wire,
                framing,
                record,
                closed: false,
                waiting: head.headers.has("expect"),
            };
            (self.script)(&mut exchange)?;
            if exchange.closed {
                return Ok(());
            }
            exchange.read_body()?;
        }
        Ok(())
    }
}

fn receive(connection: usize, raw: Vec<u8>, head: &Head) -> io::Result<(Received, Framing)> {
    let words: Vec<&str> = head.first_line.split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else {
        return Err(malformed(&format!("not a request: {:?}", head.first_line)));
    };
    let framing = request_framing(&head.headers)?;
    let record = Received {
        connection,
        raw,
        method: method.to_owned(),
        target: target.to_owned(),
        headers: head.headers.clone(),
        body: Vec::new(),
        length: 0,
        trailers: Headers::default(),
        complete: framing == Framing::Length(0),
    };
    Ok((record, framing))
}

/// RFC 9112 §6.3, without its leniencies: what is ambiguous is a complaint.
fn request_framing(headers: &Headers) -> io::Result<Framing> {
    let lengths = headers.all("content-length");
    let encodings = headers.all("transfer-encoding");
    match (lengths.as_slice(), encodings.as_slice()) {
        ([], []) => Ok(Framing::Length(0)),
        ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => length
            .parse()
            .map(Framing::Length)
            .map_err(|_| malformed("not a length")),
        ([], ["chunked"]) => Ok(Framing::Chunked),
        _ => Err(malformed(&format!("framed in two ways: {headers:?}"))),
    }
}
