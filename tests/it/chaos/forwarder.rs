//! The path between one replica and its store: bytes are passed on, kept back, or refused.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

/// What the path does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Path {
    /// Everything passes.
    Open,
    /// Nothing gets to the store.
    NoQuestions,
    /// What the store answers stays here.
    NoAnswers,
    /// Nothing passes, and nobody is told so.
    Silent,
    /// There is no connection.
    Refused,
}

/// Which way bytes go.
#[derive(Clone, Copy)]
enum Way {
    ToStore,
    FromStore,
}

impl Path {
    fn passes(self, way: Way) -> bool {
        match self {
            Self::Open | Self::Refused => true,
            Self::NoQuestions => matches!(way, Way::FromStore),
            Self::NoAnswers => matches!(way, Way::ToStore),
            Self::Silent => false,
        }
    }
}

/// Listens for one replica and forwards to the store.
pub(super) struct Forwarder {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    store: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    path: Path,
    /// Both ends of each connection, by its number.
    open: HashMap<u64, [TcpStream; 2]>,
    accepted: u64,
    bytes: u64,
    over: bool,
}

impl Forwarder {
    pub(super) fn to(store: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            store,
            state: Mutex::new(State {
                path: Path::Open,
                open: HashMap::new(),
                accepted: 0,
                bytes: 0,
                over: false,
            }),
            changed: Condvar::new(),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            while let Ok((replica, _)) = listener.accept() {
                if accepting.state.lock().unwrap().over {
                    break;
                }
                accepting.accept(replica);
            }
        });
        Self { shared, address }
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// From now on the path does this; what was kept back goes on where it may.
    pub(super) fn set(&self, path: Path) {
        self.shared.state.lock().unwrap().path = path;
        if path == Path::Refused {
            self.sever();
        }
        self.shared.changed.notify_all();
    }

    /// Resets every connection, with what was kept back; new ones are as the path says.
    pub(super) fn sever(&self) {
        let severed = std::mem::take(&mut self.shared.state.lock().unwrap().open);
        for pair in severed.values() {
            close(pair);
        }
        self.shared.changed.notify_all();
    }

    /// How many connections there were, and how many bytes went over them.
    pub(super) fn counts(&self) -> (u64, u64) {
        let state = self.shared.state.lock().unwrap();
        (state.accepted, state.bytes)
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.shared.state.lock().unwrap().over = true;
        self.sever();
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, replica: TcpStream) {
        let refused = self.state.lock().unwrap().path == Path::Refused;
        let store = if refused {
            None
        } else {
            TcpStream::connect_timeout(&self.store, Duration::from_secs(1)).ok()
        };
        let Some(store) = store else {
            reset(&replica);
            return;
        };
        let pair = [&replica, &store].map(|socket| socket.try_clone().unwrap());
        let mut state = self.state.lock().unwrap();
        if state.path == Path::Refused || state.over {
            close(&pair);
            return;
        }
        state.accepted += 1;
        let number = state.accepted;
        state.open.insert(number, pair);
        drop(state);
        let (from_replica, to_store) = (replica.try_clone().unwrap(), store.try_clone().unwrap());
        for (from, to, way) in [
            (from_replica, to_store, Way::ToStore),
            (store, replica, Way::FromStore),
        ] {
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pump(number, from, to, way));
        }
    }

    /// Passes on what comes one way until either end closes.
    fn pump(&self, number: u64, mut from: TcpStream, mut to: TcpStream, way: Way) {
        let _ = to.set_nodelay(true);
        let mut block = [0; 16 * 1024];
        while let Ok(length @ 1..) = from.read(&mut block) {
            if !self.may_pass(number, way, length) || to.write_all(&block[..length]).is_err() {
                break;
            }
        }
        if let Some(pair) = self.state.lock().unwrap().open.remove(&number) {
            for socket in &pair {
                let _ = socket.shutdown(Shutdown::Both);
            }
        }
    }

    /// Waits until bytes may go this way; false when their connection is gone.
    fn may_pass(&self, number: u64, way: Way, length: usize) -> bool {
        let state = self.state.lock().unwrap();
        let waits = |state: &mut State| {
            !state.path.passes(way) && state.open.contains_key(&number) && !state.over
        };
        let mut state = self.changed.wait_while(state, waits).unwrap();
        state.bytes += length as u64;
        state.open.contains_key(&number)
    }
}

/// Closes both ends for whoever reads or writes here, and resets them.
fn close(pair: &[TcpStream; 2]) {
    for socket in pair {
        reset(socket);
        let _ = socket.shutdown(Shutdown::Both);
    }
}

/// Has the peer told that the connection broke, once it is dropped.
fn reset(socket: &TcpStream) {
    let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
}
