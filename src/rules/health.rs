//! Whether an address of an upstream takes requests: what failures and checks make of it, and which
//! of several addresses is next.
//!
//! Pure. Times are what a clock that never steps back says; what connects and asks is in `upstream`.

use std::time::Duration;

/// How many connections in a row may break before an answer until their address is ejected.
const BREAKS: u32 = 3;

/// How long an address is ejected for at first; doubled with each further time.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);

/// The longest that an address is ejected for before it is tried again.
const LAST_BACKOFF: Duration = Duration::from_secs(30);

/// How long an address has to stay in service until its earlier ejections count no more.
const FORGIVEN: Duration = Duration::from_secs(60);

/// How an address stands, best first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Standing {
    /// It takes its share.
    #[default]
    InService,
    /// It was reached again after an ejection: it takes one request at a time until one is answered.
    OnProbation,
    /// It failed; it is tried again once its back-off is over.
    Ejected,
    /// It does not pass the health check.
    Unhealthy,
}

impl Standing {
    /// Every standing, in its order.
    pub const ALL: [Self; 4] = [
        Self::InService,
        Self::OnProbation,
        Self::Ejected,
        Self::Unhealthy,
    ];

    /// Whether requests are sent there of choice, and not for want of anything better.
    pub fn is_in_service(self) -> bool {
        matches!(self, Self::InService | Self::OnProbation)
    }
}

/// Which of several addresses is next, of those given as their place, standing and load.
///
/// The best standing wins, then the least load, then whose turn it is: `turn` moves on by one with
/// each choice that was acted upon. Where none is in service the best of the others is taken, so
/// that nothing is worse than it would be without judging at all.
pub fn choose(
    addresses: impl IntoIterator<Item = (usize, Standing, usize)>,
    count: usize,
    turn: usize,
) -> Option<usize> {
    let first = turn.checked_rem(count)?;
    let rank = |(place, standing, load): &(usize, Standing, usize)| {
        let standing = match standing {
            Standing::OnProbation if *load == 0 => Standing::InService,
            other => *other,
        };
        // Places from the one whose turn it is on, then those before it.
        (standing, *load, *place < first, *place)
    };
    let chosen = addresses.into_iter().min_by_key(rank);
    chosen.map(|(place, ..)| place)
}

/// How a request failed that says something about its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// There was no connection, or it was closed before anything was sent on it.
    Connect,
    /// The connection broke before an answer.
    Broken,
    /// The answer to what was asked then did not begin in time.
    Late(Duration),
}

/// What requests and trials have shown of one address.
///
/// A failed connect ejects at once: it says all there is to know, and another address costs a
/// request nothing. Connections that break eject when several in a row do. A late answer says as much of
/// the request as of the address, and ejects only one that has yet to show that it answers at all.
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: State,
    /// Connections that broke since the last answer.
    breaks: u32,
    /// Ejections that still count.
    ejections: u32,
    /// When it last came back.
    returned: Duration,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    InService,
    /// Until then nobody tries it.
    Ejected(Duration),
    /// A connect is under way that shows whether it is back.
    OnTrial,
    OnProbation,
}

impl Health {
    /// How the address stands.
    pub fn standing(&self) -> Standing {
        match self.state {
            State::InService => Standing::InService,
            State::OnProbation => Standing::OnProbation,
            State::Ejected(_) | State::OnTrial => Standing::Ejected,
        }
    }

    /// Whether nothing is held against the address that an answer would change.
    pub fn is_spotless(&self) -> bool {
        self.state == State::InService && self.breaks == 0
    }

    /// When the address is to be tried again, if it is ejected.
    pub fn due(&self) -> Option<Duration> {
        match self.state {
            State::Ejected(until) => Some(until),
            _ => None,
        }
    }

    /// Takes up a failure at `now`; how long the address is ejected for, if that is what follows.
    ///
    /// `jitter` spreads what many replicas do: 0 is the shortest back-off, 255 the longest. What
    /// fails while it is ejected was begun before, or for want of anything better, and says nothing
    /// new.
    pub fn failed(&mut self, failure: Failure, now: Duration, jitter: u8) -> Option<Duration> {
        match (self.state, failure) {
            (State::Ejected(_) | State::OnTrial, _) | (State::InService, Failure::Late(_)) => None,
            (State::OnProbation, Failure::Late(asked)) if asked < self.returned => None,
            (State::InService, Failure::Broken) => {
                self.breaks = self.breaks.saturating_add(1);
                (self.breaks >= BREAKS).then(|| self.eject(now, jitter))
            }
            (State::InService, Failure::Connect) | (State::OnProbation, _) => {
                Some(self.eject(now, jitter))
            }
        }
    }

    /// Takes up an answer, whatever it says.
    pub fn answered(&mut self, now: Duration) {
        match self.state {
            // A listener may be gone while what it had accepted is still answered.
            State::Ejected(_) | State::OnTrial => {}
            State::OnProbation => self.come_back(State::InService, now),
            State::InService => self.breaks = 0,
        }
    }

    /// Takes up a connection that a request made; true if the address is back with it.
    pub fn connected(&mut self, now: Duration) -> bool {
        let was_out = self.standing() == Standing::Ejected;
        if was_out {
            self.come_back(State::OnProbation, now);
        }
        was_out
    }

    /// Begins a trial if one is due at `now`; no other begins until this one has ended.
    pub fn begin_trial(&mut self, now: Duration) -> bool {
        let due = self.due().is_some_and(|due| due <= now);
        if due {
            self.state = State::OnTrial;
        }
        due
    }

    /// Ends a trial that did not reach the address; how long it stays ejected for.
    pub fn trial_failed(&mut self, now: Duration, jitter: u8) -> Option<Duration> {
        (self.state == State::OnTrial).then(|| self.eject(now, jitter))
    }

    fn eject(&mut self, now: Duration, jitter: u8) -> Duration {
        if self.state == State::InService && now.saturating_sub(self.returned) >= FORGIVEN {
            self.ejections = 0;
        }
        let whole = (FIRST_BACKOFF * 2_u32.pow(self.ejections.min(5))).min(LAST_BACKOFF);
        let backoff = whole * 3 / 4 + whole / 4 * u32::from(jitter) / u32::from(u8::MAX);
        self.state = State::Ejected(now.saturating_add(backoff));
        self.ejections = self.ejections.saturating_add(1);
        self.breaks = 0;
        backoff
    }

    fn come_back(&mut self, state: State, now: Duration) {
        self.state = state;
        self.breaks = 0;
        self.returned = now;
    }
}

/// How many checks in a row it takes to change what is thought of an address; each at least 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// Passed ones, until an unhealthy address is healthy.
    pub healthy: u32,
    /// Failed ones, until a healthy address is unhealthy.
    pub unhealthy: u32,
}

/// What health checks have shown of one address, which begins as healthy.
#[derive(Clone, Debug, Default)]
pub struct Checked {
    unhealthy: bool,
    /// Checks in a row that said otherwise.
    contrary: u32,
}

impl Checked {
    /// Whether the address is out of service.
    pub fn is_unhealthy(&self) -> bool {
        self.unhealthy
    }

    /// Takes up a check; true if what is thought of the address changes with it.
    pub fn take(&mut self, passed: bool, thresholds: Thresholds) -> bool {
        if passed != self.unhealthy {
            self.contrary = 0;
            return false;
        }
        self.contrary = self.contrary.saturating_add(1);
        let needed = if passed {
            thresholds.healthy
        } else {
            thresholds.unhealthy
        };
        let changes = self.contrary >= needed;
        if changes {
            self.unhealthy = !passed;
            self.contrary = 0;
        }
        changes
    }
}

#[cfg(test)]
mod tests;
