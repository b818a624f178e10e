//! What a thread's messages have one after the other: room to read into and to write heads in, what is kept of heads,
//! and the tables of their fields.

use std::cell::{Cell, RefCell};

use bytes::{Bytes, BytesMut};
use http::HeaderMap;

/// How much is read at once where it is not known how much there is.
const ROOM: usize = 16 * 1024;

/// How much there is for a head: an ordinary one fits, and a short body behind it.
const HEAD: usize = 2 * 1024;

/// What is kept to be written in again.
const KEPT: usize = 4 * HEAD;

/// How much memory short copies share, which is free once all of them are.
const SHARED: usize = 4 * 1024;

/// How much memory copies share that may be kept for long: none of it is free before all of them are.
const SHARED_FOR_LONG: usize = 512;

/// The longest copy that is a short one.
const SHORT: usize = 1024;

/// The most fields that a table has room for which is used again: what 25 to 48 of them are given.
const FIELDS: usize = 48;

/// How many tables wait to be used again.
const TABLES: usize = 16;

thread_local! {
    static READ: RefCell<Box<[u8]>> = RefCell::new(vec![0; ROOM].into());
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    static COPIES: RefCell<BytesMut> = RefCell::default();
    static KEPT_COPIES: RefCell<BytesMut> = RefCell::default();
    static SPARE_TABLES: RefCell<Vec<HeaderMap>> = const { RefCell::new(Vec::new()) };
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
    COPIES.with_borrow_mut(|room| copied_into(room, SHARED, bytes))
}

/// A copy of a few `bytes` that may be kept for long, for as long as a stream lasts or a line waits to be
/// logged: it shares its memory with few others, and with nothing that was said in confidence.
pub fn kept(bytes: &[u8]) -> Bytes {
    KEPT_COPIES.with_borrow_mut(|room| copied_into(room, SHARED_FOR_LONG, bytes))
}

fn copied_into(room: &mut BytesMut, shared: usize, bytes: &[u8]) -> Bytes {
    if room.capacity() < bytes.len() {
        room.reserve(shared.max(bytes.len()));
    }
    room.extend_from_slice(bytes);
    room.split().freeze()
}

/// An empty table with room for so many fields: one that was given back, or a new one.
pub fn table(fields: usize) -> HeaderMap {
    let spare = SPARE_TABLES.with_borrow_mut(Vec::pop);
    let mut table = spare.unwrap_or_default();
    table.reserve(fields);
    table
}

/// Gives a table back, for another head of this thread.
pub fn give_table_back(mut table: HeaderMap) {
    // Many values of one name are kept beside what its capacity tells of.
    let is_small = (1..=FIELDS).contains(&table.capacity()) && table.len() <= FIELDS;
    table.clear();
    if is_small {
        SPARE_TABLES.with_borrow_mut(|spare| {
            if spare.len() < TABLES {
                spare.push(table);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue, header};

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
    fn what_is_kept_for_long_keeps_little_alive() {
        let ids = (0..100_u8).map(|id| {
            let copy = kept(&[id; 32]);
            let left = KEPT_COPIES.with_borrow(BytesMut::capacity);
            assert!(left < SHARED_FOR_LONG, "{left}");
            (id, copy)
        });
        for (id, copy) in ids.collect::<Vec<_>>() {
            assert_eq!(*copy, [id; 32]);
        }
    }

    /// A name of its own for each of so many fields, and a second value for each of them.
    fn filled(table: &mut HeaderMap, fields: usize) {
        for field in 0..fields {
            let name = HeaderName::try_from(format!("x-{field}")).unwrap();
            table.append(&name, HeaderValue::from_static("one"));
            table.append(&name, HeaderValue::from_static("two"));
        }
    }

    #[test]
    fn a_table_that_was_given_back_is_empty() {
        for fields in [1, 6, FIELDS / 2] {
            let mut given = table(fields);
            filled(&mut given, fields);
            let capacity = given.capacity();
            give_table_back(given);
            let again = table(1);
            assert!(again.is_empty());
            assert_eq!(again.capacity(), capacity, "it is the same one");
        }
    }

    #[test]
    fn a_table_that_held_much_is_not_kept() {
        let mut wide = table(10 * FIELDS);
        filled(&mut wide, 10 * FIELDS);
        let mut deep = table(1);
        for value in 0..=FIELDS {
            deep.append(header::ACCEPT, HeaderValue::from(value));
        }
        for given in [wide, deep] {
            give_table_back(given);
            assert!(SPARE_TABLES.with_borrow(Vec::is_empty));
        }
    }
}
