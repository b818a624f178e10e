//! What a thread's messages have one after the other: room to read into and to write heads in, what is kept of heads,
//! and room for their fields.

use std::cell::{Cell, RefCell};

use bytes::{Bytes, BytesMut};

use crate::rules::fields::Fields;

/// How much is read at once where it is not known how much there is.
const ROOM: usize = 16 * 1024;

/// How much there is for a head: an ordinary one fits, and a short body behind it.
const HEAD: usize = 2 * 1024;

/// What is kept to be written in again.
const KEPT: usize = 4 * HEAD;

/// How much memory short copies share, which is free once all of them are.
const SHARED: usize = 4 * 1024;

/// The longest copy that is a short one.
const SHORT: usize = 1024;

/// The most fields for which room is used again.
const FIELDS: usize = 48;

/// For how many heads' fields room waits to be used again.
const HEADS: usize = 16;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into());
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static COPIES: RefCell<BytesMut> = RefCell::default();
    static SPARE_FIELDS: RefCell<Vec<Fields>> = const { RefCell::new(Vec::new()) };
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

/// A copy of `bytes`, which parts can be taken of. Short ones share their memory, so that most of them
/// cost no allocation.
pub fn copied(bytes: &[u8]) -> Bytes {
    if bytes.len() > SHORT {
        return Bytes::copy_from_slice(bytes);
    }
    COPIES.with_borrow_mut(|room| {
        if room.capacity() < bytes.len() {
            room.reserve(SHARED);
        }
        room.extend_from_slice(bytes);
        room.split().freeze()
    })
}

/// No fields yet of what was `read`, with room for so many: room that was given back, or new.
pub fn fields(read: Bytes, lines: usize) -> Fields {
    let spare = SPARE_FIELDS.with_borrow_mut(Vec::pop);
    let mut fields = spare.unwrap_or_default();
    fields.begin(read, lines);
    fields
}

/// Gives the room of fields back, for another head of this thread.
pub fn give_fields_back(mut fields: Fields) {
    fields.clear();
    if (1..=FIELDS).contains(&fields.capacity()) {
        SPARE_FIELDS.with_borrow_mut(|spare| {
            if spare.len() < HEADS {
                spare.push(fields);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use http::header;

    use super::*;

    #[test]
    fn a_copy_stays_what_it_was() {
        let lengths = [1, SHORT, SHORT + 1, 0, SHARED, 7, SHORT - 1];
        let texts = lengths.iter().cycle().zip(0_u8..100);
        let texts: Vec<_> = texts.map(|(length, text)| vec![text; *length]).collect();
        let mut copies: Vec<_> = texts.iter().map(|text| (text, copied(text))).collect();
        // What is given up meanwhile makes room for others.
        copies.retain(|(text, _)| text.first().is_none_or(|byte| byte % 3 > 0));
        copies.extend(texts.iter().map(|text| (text, copied(text))));
        for (text, copy) in copies {
            assert_eq!(copy, text);
        }
    }

    #[test]
    fn room_for_fields_that_was_given_back_is_empty() {
        for lines in [6, FIELDS] {
            let mut given = fields(Bytes::from_static(b"read"), lines);
            for _ in 0..lines {
                given.append_read(header::ACCEPT, 0..4);
            }
            let capacity = given.capacity();
            give_fields_back(given);
            let again = fields(Bytes::new(), 1);
            assert!(again.is_empty());
            assert_eq!(again.capacity(), capacity, "it is the same");
        }
    }

    #[test]
    fn room_for_many_fields_is_not_kept() {
        give_fields_back(fields(Bytes::new(), 10 * FIELDS));
        assert!(SPARE_FIELDS.with_borrow(Vec::is_empty));
    }
}
