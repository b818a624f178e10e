//! One worker's resting connections, by address, and what each address has to do for it.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::time::Sleep;

use crate::platform::Monotonic;
use crate::rules::health::{Standing, choose};
use crate::upstream::connection::Connection;
use crate::upstream::endpoint::Endpoint;

/// A connection, and what stays with it from one request to the next.
pub(super) struct Line {
    pub(super) connection: Connection,
    /// Bounds the wait for an answer. It stays with the connection, because moving a timer on
    /// costs next to nothing, where a new one has to be entered and taken out.
    pub(super) timer: Pin<Box<Sleep>>,
    pub(super) seat: Arc<Seat>,
}

/// A connection at rest.
pub(super) struct Idle {
    pub(super) line: Box<Line>,
    pub(super) since: Monotonic,
}

/// An address as one worker sees it.
pub(super) struct Site {
    endpoint: Arc<Endpoint>,
    /// Requests in flight and connects under way, of this worker; which alone writes it.
    load: AtomicUsize,
}

impl Site {
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Requests are sent there only for want of anything better.
    pub(super) fn is_out(&self) -> bool {
        !self.endpoint.standing().is_in_service()
    }

    fn load(&self) -> usize {
        self.load.load(Ordering::Relaxed)
    }
}

/// A connection's part in the load of its address, while it is used.
pub(super) struct Seat {
    site: Arc<Site>,
    taken: AtomicBool,
}

impl Seat {
    fn take(site: Arc<Site>) -> Self {
        let taken = AtomicBool::new(false);
        let seat = Self { site, taken };
        seat.set(true);
        seat
    }

    /// Where the connection leads, as its worker sees it.
    pub(super) fn site(&self) -> &Arc<Site> {
        &self.site
    }

    /// Where the connection leads.
    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.site.endpoint
    }

    /// Says whether the connection is used.
    pub(super) fn set(&self, taken: bool) {
        // One thread's alone: no locked instruction is needed.
        if self.taken.load(Ordering::Relaxed) != taken {
            self.taken.store(taken, Ordering::Relaxed);
            let load = self.site.load();
            let load = if taken {
                load + 1
            } else {
                load.saturating_sub(1)
            };
            self.site.load.store(load, Ordering::Relaxed);
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.set(false);
    }
}

/// The connections at rest of one worker, in stacks: last in, first out.
#[derive(Default)]
pub(super) struct Shelves {
    shelves: Vec<Shelf>,
    /// Moves on with each choice that was acted upon.
    turn: usize,
}

struct Shelf {
    site: Arc<Site>,
    idle: Vec<Idle>,
}

impl Shelves {
    /// No addresses yet; `turn` says where to begin once there are, so that not all workers begin
    /// at the same one.
    pub(super) fn new(turn: usize) -> Self {
        Self {
            shelves: Vec::new(),
            turn,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.shelves.is_empty()
    }

    /// Whether this is one of the addresses.
    pub(super) fn have(&self, site: &Arc<Site>) -> bool {
        let mut shelves = self.shelves.iter();
        shelves.any(|shelf| Arc::ptr_eq(&shelf.site, site))
    }

    /// How many addresses there are.
    pub(super) fn len(&self) -> usize {
        self.shelves.len()
    }

    /// Has these addresses from now on. What rested at others is returned, to be closed; what is in
    /// use there is closed when it comes to rest.
    pub(super) fn fit(&mut self, endpoints: &[Arc<Endpoint>]) -> Vec<Idle> {
        let mut before = std::mem::take(&mut self.shelves);
        for endpoint in endpoints {
            let known = before
                .iter()
                .position(|shelf| Arc::ptr_eq(&shelf.site.endpoint, endpoint));
            self.shelves.push(match known {
                Some(place) => before.swap_remove(place),
                None => Shelf {
                    site: Arc::new(Site {
                        endpoint: Arc::clone(endpoint),
                        load: AtomicUsize::new(0),
                    }),
                    idle: Vec::new(),
                },
            });
        }
        before.into_iter().flat_map(|shelf| shelf.idle).collect()
    }

    /// Takes a connection to the address that is next, if one rests there.
    pub(super) fn pop(&mut self) -> Option<Idle> {
        let next = match self.shelves.len() {
            1 => 0,
            _ => self.next(|_| true)?,
        };
        self.pop_at(next)
    }

    /// Takes a connection to another address than the one that is next, because no more may be
    /// opened. Where the other has more to do, a connection is closed there instead, so that one can
    /// be opened where it belongs.
    pub(super) fn pop_other(&mut self) -> Option<Idle> {
        let wanted = self.next(|_| true)?;
        let at_hand = self.next(|shelf| !shelf.idle.is_empty())?;
        let (least, most) = (&self.shelves[wanted].site, &self.shelves[at_hand].site);
        if most.load() > least.load() + 1 || most.is_out() && !least.is_out() {
            // The one that has rested longest.
            self.shelves[at_hand].idle.remove(0);
            return None;
        }
        self.pop_at(at_hand)
    }

    fn pop_at(&mut self, place: usize) -> Option<Idle> {
        let idle = self.shelves.get_mut(place)?.idle.pop()?;
        idle.line.seat.set(true);
        self.turn = self.turn.wrapping_add(1);
        Some(idle)
    }

    /// A seat for a new connection, to the address that is next of those not `tried` yet.
    pub(super) fn seat(&mut self, tried: &[Arc<Site>]) -> Option<Seat> {
        let untried = |shelf: &Shelf| !tried.iter().any(|site| Arc::ptr_eq(site, &shelf.site));
        let place = self.next(untried)?;
        self.turn = self.turn.wrapping_add(1);
        Some(Seat::take(Arc::clone(&self.shelves[place].site)))
    }

    /// The place of the address that is next among those that are `eligible`.
    fn next(&self, eligible: impl Fn(&Shelf) -> bool) -> Option<usize> {
        let count = self.shelves.len();
        let addresses = self.shelves.iter().enumerate();
        let addresses = addresses.filter(|(_, shelf)| eligible(shelf));
        let addresses = addresses.map(|(place, Shelf { site, .. })| {
            // The only one is taken however it stands.
            let standing = match count {
                1 => Standing::InService,
                _ => site.endpoint.standing(),
            };
            (place, standing, site.load())
        });
        choose(addresses, count, self.turn)
    }

    /// Lays a connection to rest; it is returned, to be closed, where its address has gone.
    pub(super) fn rest(&mut self, line: Box<Line>, since: Monotonic) -> Option<Box<Line>> {
        line.seat.set(false);
        let its = |shelf: &Shelf| Arc::ptr_eq(&shelf.site, &line.seat.site);
        let Some(place) = self.shelves.iter().position(its) else {
            return Some(line);
        };
        self.shelves[place].idle.push(Idle { line, since });
        None
    }

    /// Closes the connections at rest that are not to be kept.
    pub(super) fn retain(&mut self, keep: impl Fn(&Idle) -> bool) {
        for shelf in &mut self.shelves {
            shelf.idle.retain(&keep);
        }
    }
}
