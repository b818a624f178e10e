//! A relay of bytes between callers and an upstream: the least that any proxy has to do.
//!
//! One thread and one epoll instance. Each caller's connection has one to the upstream; what one sends is written to
//! the other at once. It reads no HTTP, checks nothing, counts nothing and has no timers, and it is nothing to deploy.

use std::convert::Infallible;
use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::process::ExitCode;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

const LISTENER: Token = Token(usize::MAX);
const CALLER: usize = 0;
const UPSTREAM: usize = 1;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (Some(Ok(listen)), Some(Ok(upstream)), 2) = (
        arguments.first().map(|a| a.parse()),
        arguments.get(1).map(|a| a.parse()),
        arguments.len(),
    ) else {
        eprintln!("usage: relay LISTEN_ADDRESS UPSTREAM_ADDRESS");
        return ExitCode::from(2);
    };
    match run(listen, upstream) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(listen: SocketAddr, upstream: SocketAddr) -> io::Result<Infallible> {
    let mut poll = Poll::new()?;
    let mut listener = TcpListener::bind(listen)?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut events = Events::with_capacity(1024);
    let mut pairs = Pairs::default();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            result => result?,
        }
        for event in &events {
            if event.token() == LISTENER {
                accept(&listener, upstream, &mut pairs, &poll)?;
                continue;
            }
            let (place, end) = (event.token().0 / 2, event.token().0 % 2);
            // It may have ended on an earlier event of the same batch.
            let Some(pair) = pairs.at(place) else {
                continue;
            };
            let mut open = true;
            if event.is_writable() && !pair.held[end].is_empty() {
                open = pair.flush(end) && pair.carry(1 - end, &mut buffer);
            }
            if open && event.is_readable() {
                open = pair.carry(end, &mut buffer);
            }
            if !open {
                pairs.remove(place);
            }
        }
    }
}

/// Takes every caller that waits. An upstream that refuses ends the relay.
fn accept(
    listener: &TcpListener,
    upstream: SocketAddr,
    pairs: &mut Pairs,
    poll: &Poll,
) -> io::Result<()> {
    loop {
        let caller = match listener.accept() {
            Ok((caller, _)) => caller,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            // It broke off before it was taken.
            Err(error) if error.kind() == ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        // On loopback this does not wait.
        let api = std::net::TcpStream::connect(upstream)?;
        api.set_nonblocking(true)?;
        let mut pair = Pair {
            ends: [caller, TcpStream::from_std(api)],
            held: [Vec::new(), Vec::new()],
        };
        let place = pairs.free_place();
        for end in [CALLER, UPSTREAM] {
            pair.ends[end].set_nodelay(true)?;
            poll.registry().register(
                &mut pair.ends[end],
                Token(place * 2 + end),
                Interest::READABLE | Interest::WRITABLE,
            )?;
        }
        pairs.put(place, pair);
    }
}

/// A caller's connection and its own to the upstream. Dropped, both are closed.
struct Pair {
    ends: [TcpStream; 2],
    /// What each end has yet to take; while there is any, nothing more is read for it.
    held: [Vec<u8>; 2],
}

impl Pair {
    /// Writes what one end sends to the other until there is no more or no room; false once either is gone.
    fn carry(&mut self, from: usize, buffer: &mut [u8]) -> bool {
        let to = 1 - from;
        while self.held[to].is_empty() {
            let length = match self.ends[from].read(buffer) {
                Ok(0) => return false,
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => return false,
            };
            match write(&mut self.ends[to], &buffer[..length]) {
                Some(written) => self.held[to].extend_from_slice(&buffer[written..length]),
                None => return false,
            }
            // Less than there was room for: the socket is empty, and the next arrival is an event.
            if length < buffer.len() {
                return true;
            }
        }
        true
    }

    /// Writes what is held for one end; false once it is gone.
    fn flush(&mut self, end: usize) -> bool {
        match write(&mut self.ends[end], &self.held[end]) {
            Some(written) => {
                self.held[end].drain(..written);
                // Otherwise each would keep the room of its largest rest.
                if self.held[end].is_empty() {
                    self.held[end] = Vec::new();
                }
                true
            }
            None => false,
        }
    }
}

/// How much of it the socket took; nothing once it is gone.
fn write(socket: &mut TcpStream, bytes: &[u8]) -> Option<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match socket.write(&bytes[written..]) {
            Ok(length) => written += length,
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    Some(written)
}

/// The pairs that are open, by place; a place is used again.
#[derive(Default)]
struct Pairs {
    places: Vec<Option<Pair>>,
    free: Vec<usize>,
}

impl Pairs {
    fn at(&mut self, place: usize) -> Option<&mut Pair> {
        self.places.get_mut(place).and_then(Option::as_mut)
    }

    fn free_place(&mut self) -> usize {
        self.free.pop().unwrap_or_else(|| {
            self.places.push(None);
            self.places.len() - 1
        })
    }

    fn put(&mut self, place: usize, pair: Pair) {
        self.places[place] = Some(pair);
    }

    fn remove(&mut self, place: usize) {
        self.places[place] = None;
        self.free.push(place);
    }
}
