//! Room to read into, which what was read does not keep, and room to write heads in.

use std::cell::{Cell, RefCell};

/// How much is read at once where it is not known how much there is.
const ROOM: usize = 16 * 1024;

/// How much there is for a head: an ordinary one fits, and a short body behind it.
const HEAD: usize = 2 * 1024;

/// What is kept to be written in again.
const KEPT: usize = 4 * HEAD;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into());
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Lends this thread's room. What it holds is whatever was read last.
///
/// # Panics
///
/// If the room is lent already: what is done with it must not ask for it again.
pub fn with<T>(read: impl FnOnce(&mut [u8]) -> T) -> T {
    READ.with_borrow_mut(|room| read(room))
}

/// Empty room to write a head in: what was given back last, or new.
pub fn take() -> Vec<u8> {
    let mut room = SPARE.take();
    room.reserve(HEAD);
    room
}

/// Gives room back, for the next head of this thread.
pub fn give_back(mut room: Vec<u8>) {
    if room.capacity() <= KEPT {
        room.clear();
        SPARE.set(room);
    }
}
