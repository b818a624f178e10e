//! A way to a server that the test holds up or cuts.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// What becomes of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// They pass.
    Open,
    /// Nothing arrives any more, and nobody is told; what was sent arrives once it is open again.
    Held,
    /// Connections are reset, those that are made anew too.
    Cut,
}

/// Listens on a port of its own and passes everything on to one address.
pub(crate) struct Forwarder {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: SocketAddr,
    way: Mutex<Way>,
    changed: Condvar,
    /// Both ends of each connection.
    sockets: Mutex<Vec<TcpStream>>,
}

impl Forwarder {
    pub(crate) fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            target,
            way: Mutex::new(Way::Open),
            changed: Condvar::new(),
            sockets: Mutex::default(),
        });
        // Ends with the test's process.
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for caller in listener.incoming().flatten() {
                let shared = Arc::clone(&accepting);
                thread::spawn(move || shared.connect(caller));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From here on this becomes of the bytes.
    pub(crate) fn set(&self, way: Way) {
        *self.shared.way.lock().unwrap() = way;
        self.shared.changed.notify_all();
        if way == Way::Cut {
            for socket in self.shared.sockets.lock().unwrap().drain(..) {
                reset(&socket);
            }
        }
    }
}

impl Shared {
    fn connect(self: Arc<Self>, caller: TcpStream) {
        let Ok(server) = TcpStream::connect(self.target) else {
            return reset(&caller);
        };
        let clone = |socket: &TcpStream| socket.try_clone().unwrap();
        self.sockets
            .lock()
            .unwrap()
            .extend([clone(&caller), clone(&server)]);
        let back = Arc::clone(&self);
        let (from, to) = (clone(&server), clone(&caller));
        thread::spawn(move || back.pass(from, to));
        self.pass(caller, server);
    }

    /// Passes on what comes until either end is gone.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut bytes = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            let way = self.way.lock().unwrap();
            let held = |way: &mut Way| *way == Way::Held;
            if *self.changed.wait_while(way, held).unwrap() == Way::Cut
                || to.write_all(&bytes[..length]).is_err()
            {
                break;
            }
        }
        reset(&from);
        reset(&to);
    }
}

/// Ends a connection as a peer does that knows nothing of it.
fn reset(socket: &TcpStream) {
    // Either end may be gone already.
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    let _ = socket.shutdown(Shutdown::Both);
}
