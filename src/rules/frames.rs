//! What the frames of an HTTP/2 connection are worth: which floods end it.
//!
//! The protocol lets a caller send without end what costs it little and carries nothing: pings,
//! settings, priorities, cancelled requests, a body byte by byte. The library that reads the frames
//! bounds header blocks, empty DATA and what lies unread; what is left is judged here, from the nine
//! bytes before each frame's payload (RFC 9113 §4.1). Pure: bytes and time come in, a verdict
//! comes out.
//!
//! Each kind of frame spends from one of three purses or refills it, and time refills all. What
//! an honest peer sends is paid for by what it does besides or by what was sent to it; so no rate is
//! too high as long as it is good for something.

/// In how many seconds time refills a purse.
const SECONDS: u32 = 16;

/// The price of a frame that carries next to nothing.
const SMALL: u32 = 16;

/// The price of SETTINGS: each is acknowledged, and a new window is worked into every open stream
/// (RFC 9113 §6.9.2).
const SETTINGS_PRICE: u32 = 512;

/// What a request refills: its window is enlarged, it is given a priority, its head is continued.
const REQUEST: u32 = 2 * SMALL;

/// The price of taking a request back. Half of all requests may be, at any rate, and more; where
/// all are, 256 a second.
const CANCELLATION: u32 = 3 * SMALL;

/// The least that a DATA frame should carry: the prefix of an empty gRPC message, the smallest frame
/// that anybody sends by the thousand.
const LEAST_DATA: u32 = 5;

/// What each byte written refills. The smallest DATA that is sent, of 14 bytes, warrants a
/// `WINDOW_UPDATE` and most of a PING.
const WRITTEN: u32 = 2;

/// How much of an unfinished header block is counted for nothing, as long as it is one frame's: most
/// heads are no larger, and ten thousand connections may hold so much.
const SPARED: u32 = 4_096;

/// The least that is counted of a header block that goes on in another frame. It is unpacked frame by
/// frame, every byte into a field maybe; and nobody goes on before a frame is full (RFC 9113 §4.2).
const WHOLE_FRAME: u32 = 16_384;

/// The length of an answer to a PING.
const PONG: u64 = 17;

/// The length of what a client sends before all frames (RFC 9113 §3.4).
const PREFACE: u32 = 24;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// RFC 9218 §7.1.
const PRIORITY_UPDATE: u8 = 16;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;
const PADDED: u8 = 8;

const FRAME_HEAD: usize = 9;

/// The peer sent more than it may of what is good for nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood;

/// Walks over what arrives on one HTTP/2 connection, and keeps its purses.
///
/// A frame costs the same however it is cut into pieces, and none is remembered.
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; FRAME_HEAD],
    /// How much of `head` has arrived.
    known: u8,
    /// How much of a payload has yet to pass.
    skip: u32,
    /// The next byte says how long the padding of a DATA frame is.
    padded: bool,
    begun: bool,
    /// How much the frames of a header block announced that has not ended, this last frame's rest
    /// included.
    block: u32,
    /// The header block goes on after this frame.
    goes_on: bool,
    /// The highest stream that was opened.
    last_stream: u32,
    /// What was spent of each purse.
    spent: [u32; 3],
    /// When time last refilled them, in nanoseconds.
    refilled: u64,
    /// What is yet to be written that the peer alone has caused.
    owed: u64,
}

/// What is paid for out of one purse cannot be bought with what refills another: a download does
/// not warrant cancelled requests.
#[derive(Clone, Copy)]
enum Purse {
    /// What answers to frames that were sent to the peer: `WINDOW_UPDATE`, PING, acknowledgements.
    Echo,
    /// Frames that carry nothing, or hardly anything.
    Empty,
    /// Requests that are taken back.
    Cancel,
}

impl Purse {
    const ALL: [Self; 3] = [Self::Echo, Self::Empty, Self::Cancel];

    /// How much it holds: what may be spent at once. After a rest it is twice as much, as what time
    /// refills is added only to an empty purse.
    ///
    /// Thousands of connections may spend all of it at the same time, so it is what an honest peer
    /// needs and not much more: 256 pings; 16 settings; a page's requests or a client's that gives up on
    /// all of them at once, some 4,000.
    fn room(self) -> u32 {
        match self {
            Self::Echo => 4_096,
            Self::Empty => 8_192,
            Self::Cancel => 65_536,
        }
    }
}

impl Frames {
    /// The highest stream that was opened so far.
    pub fn last_stream(&self) -> u32 {
        self.last_stream
    }

    /// What is held of a header block that has yet to arrive whole, in bytes beyond what any
    /// connection may hold; `None` if there is no such block.
    ///
    /// What was announced and has not arrived takes no room.
    pub fn unfinished(&self) -> Option<u32> {
        let is_open = self.goes_on || (self.block > 0 && self.skip > 0);
        let arrived = self.block.saturating_sub(self.skip);
        // As long as a payload has yet to pass, `head` is its frame's.
        let is_unpacked = self.goes_on || self.head[3] == CONTINUATION;
        is_open.then_some(if is_unpacked {
            arrived.max(WHOLE_FRAME)
        } else {
            arrived.saturating_sub(SPARED)
        })
    }

    /// Takes what arrived, from the connection's preface on. `now` is asked for only when a purse
    /// is empty.
    ///
    /// Once it is a flood, it stays one: whoever calls ends the connection.
    pub fn arrived(&mut self, mut bytes: &[u8], now: impl Fn() -> u64) -> Result<(), Flood> {
        if !self.begun {
            self.begun = true;
            self.skip = PREFACE;
        }
        while let Some(&first) = bytes.first() {
            if self.padded {
                self.padded = false;
                let padding = u32::from(first) + 1;
                self.data(self.skip.saturating_sub(padding), &now)?;
            }
            if self.skip > 0 {
                let length = usize::try_from(self.skip).map_or(bytes.len(), |n| n.min(bytes.len()));
                self.skip -= u32::try_from(length).unwrap_or(self.skip);
                bytes = &bytes[length..];
                continue;
            }
            let known = usize::from(self.known);
            let length = bytes.len().min(FRAME_HEAD - known);
            self.head[known..known + length].copy_from_slice(&bytes[..length]);
            self.known += u8::try_from(length).unwrap_or_default();
            bytes = &bytes[length..];
            if usize::from(self.known) == FRAME_HEAD {
                self.known = 0;
                self.frame(&now)?;
            }
        }
        Ok(())
    }

    /// Notes that so much was written to the peer.
    pub fn wrote(&mut self, length: usize) {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let owed = self.owed.min(length);
        self.owed -= owed;
        let own = u32::try_from(length - owed).unwrap_or(u32::MAX);
        self.refill(Purse::Echo, own.saturating_mul(WRITTEN));
    }

    /// Judges the frame whose head has arrived.
    fn frame(&mut self, now: &impl Fn() -> u64) -> Result<(), Flood> {
        let [a, b, c, kind, flags, stream @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        self.skip = length;
        match kind {
            HEADERS => self.block = length,
            CONTINUATION => self.block = self.block.saturating_add(length),
            _ => self.block = 0,
        }
        self.goes_on = matches!(kind, HEADERS | CONTINUATION) && flags & END_HEADERS == 0;
        match kind {
            DATA if flags & PADDED != 0 && length > 0 => self.padded = true,
            DATA => return self.data(length, now),
            HEADERS => {
                self.last_stream = self.last_stream.max(u32::from_be_bytes(stream) << 1 >> 1);
                for purse in Purse::ALL {
                    self.refill(purse, REQUEST);
                }
            }
            RST_STREAM => return self.spend(Purse::Cancel, CANCELLATION, now),
            PING | SETTINGS if flags & ACK != 0 => return self.spend(Purse::Echo, SMALL, now),
            PING => {
                self.owed += PONG;
                return self.spend(Purse::Echo, SMALL, now);
            }
            SETTINGS => {
                self.owed += FRAME_HEAD as u64;
                return self.spend(Purse::Empty, SETTINGS_PRICE, now);
            }
            WINDOW_UPDATE => return self.spend(Purse::Echo, SMALL, now),
            PRIORITY | PRIORITY_UPDATE | CONTINUATION => {
                return self.spend(Purse::Empty, SMALL, now);
            }
            _ => return self.spend(Purse::Empty, SMALL.saturating_add(length), now),
        }
        Ok(())
    }

    /// Judges a DATA frame by what it carries, without its padding.
    fn data(&mut self, useful: u32, now: &impl Fn() -> u64) -> Result<(), Flood> {
        if useful < LEAST_DATA {
            // Once a stream, it may be as small as can be.
            if self.head[4] & END_STREAM != 0 {
                return Ok(());
            }
            return self.spend(Purse::Empty, LEAST_DATA - useful, now);
        }
        self.refill(Purse::Empty, useful - LEAST_DATA);
        self.refill(Purse::Echo, 2 * SMALL);
        Ok(())
    }

    fn refill(&mut self, purse: Purse, by: u32) {
        let spent = &mut self.spent[purse as usize];
        *spent = spent.saturating_sub(by);
    }

    fn spend(&mut self, purse: Purse, price: u32, now: &impl Fn() -> u64) -> Result<(), Flood> {
        let spent = &mut self.spent[purse as usize];
        *spent = spent.saturating_add(price);
        if *spent <= purse.room() {
            return Ok(());
        }
        // What time refills is added when it is needed: seldom, or never.
        let now = now();
        let passed = u128::from(now.saturating_sub(self.refilled));
        let earned = |purse: Purse| {
            let earned = passed * u128::from(purse.room() / SECONDS) / 1_000_000_000;
            u32::try_from(earned).unwrap_or(u32::MAX)
        };
        // Not before it comes to something for each, so that nothing is lost to rounding for good.
        if earned(Purse::Echo) > 0 {
            self.refilled = now;
            for purse in Purse::ALL {
                self.refill(purse, earned(purse));
            }
        }
        if self.spent[purse as usize] > purse.room() {
            return Err(Flood);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
