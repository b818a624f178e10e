//! What a replica lets in, whatever happens between it and its store: loads, answers, failovers,
//! restarts that lose what was last, trimmed events, cut lines and time, in random order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::freshness::Freshness;
use super::verdicts::{Known, LoadFailed, Verdicts};
use crate::platform::Monotonic;
use crate::rules::api_key::Digest;
use crate::rules::feed::Change;
use crate::rules::feed::following::{Answer, Consequences, Following, Forget};

const KEYS: usize = 4;
const MAX_STALENESS: Duration = Duration::from_secs(10);
const WORLDS: u64 = 1_000;
const STEPS: usize = 120;

/// A place: the event that it is behind, which no other event is ever mistaken for.
type Place = u64;

/// One of the two servers; one of them is where changes are made.
#[derive(Clone)]
struct Server {
    /// Its process: connections end with it.
    process: u64,
    run: u64,
    alive: [bool; KEYS],
    /// Which key each event concerns.
    events: VecDeque<(Place, usize)>,
    trimmed: Place,
    /// Whether it takes itself for the master.
    master: bool,
    reachable: bool,
}

/// What is known of a key, and since when.
#[derive(Clone, Copy, Default)]
struct Certain {
    /// Revoked, and whoever asked was told so; or lost, with whatever said that it was made.
    revoked: Option<Duration>,
    made: Option<Duration>,
    /// Something was done to it that nobody was told is done, and that may be undone.
    doubtful: bool,
}

/// What loads are asked on.
#[derive(Clone, Copy)]
struct Connection {
    server: usize,
    process: u64,
    run: u64,
}

struct Load {
    key: usize,
    connection: Connection,
    answer: Option<Result<Option<u32>, LoadFailed>>,
    land: oneshot::Sender<Result<Option<u32>, LoadFailed>>,
}

struct World {
    dice: u64,
    now: Duration,
    next: u64,
    servers: Vec<Server>,
    master: usize,
    certain: [Certain; KEYS],
    // The replica.
    following: Following<Place>,
    freshness: Freshness,
    verdicts: Arc<Verdicts<u32>>,
    loads: Vec<Load>,
    /// What the feed asks on, and when its server was last confirmed as the master.
    feed: Option<(Connection, Duration)>,
    link: Option<Connection>,
    /// The run that loads may come from.
    followed: Option<u64>,
    let_in: usize,
    refused: usize,
}

fn digest(key: usize) -> Digest {
    Digest([u8::try_from(key).unwrap(); 32])
}

fn change(key: usize) -> Change {
    Change::ApiKey {
        id: key.to_string().into(),
        digests: vec![digest(key)],
    }
}

impl World {
    fn new(seed: u64) -> Self {
        let server = |run, master| Server {
            process: run,
            run,
            alive: [false; KEYS],
            events: VecDeque::new(),
            trimmed: 0,
            master,
            reachable: true,
        };
        Self {
            dice: seed,
            now: Duration::from_secs(1),
            next: 10,
            servers: vec![server(1, true), server(2, false)],
            master: 0,
            certain: [Certain::default(); KEYS],
            following: Following::new(),
            freshness: Freshness::new(MAX_STALENESS),
            verdicts: Arc::new(Verdicts::new(100)),
            loads: Vec::new(),
            feed: None,
            link: None,
            followed: None,
            let_in: 0,
            refused: 0,
        }
    }

    /// `SplitMix64`.
    fn below(&mut self, bound: usize) -> usize {
        self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.dice ^ (self.dice >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap() % bound
    }

    fn id(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    async fn step(&mut self) {
        let millis = u64::try_from(self.below(400)).unwrap();
        self.now += Duration::from_millis(millis);
        match self.below(100) {
            0..=17 => self.begin_load().await,
            18..=33 => self.read(),
            34..=49 => self.land().await,
            50..=69 => self.poll(),
            70..=77 => self.change(),
            78..=80 => self.fail_over(),
            81..=82 => self.restart(),
            83..=84 => self.trim(),
            85..=89 => {
                let server = self.below(2);
                self.servers[server].reachable = self.below(3) > 0;
            }
            90..=92 => self.now += Duration::from_secs(4),
            93..=95 => self.feed = None,
            _ => self.heal(),
        }
        self.judge();
    }

    /// Whether a server answers, and as one that takes itself for the master.
    fn answers(&self, server: usize) -> bool {
        self.servers[server].reachable && self.servers[server].master
    }

    fn connect(&self, server: usize) -> Connection {
        let Server { process, run, .. } = self.servers[server];
        Connection {
            server,
            process,
            run,
        }
    }

    fn holds(&self, connection: Connection) -> bool {
        let server = &self.servers[connection.server];
        server.reachable && server.process == connection.process
    }

    /// The server that is found first.
    fn find(&mut self, fits: impl Fn(&Self, usize) -> bool) -> Option<Connection> {
        let first = self.below(2);
        let found = [first, 1 - first].into_iter().find(|&at| fits(self, at));
        found.map(|server| self.connect(server))
    }

    async fn begin_load(&mut self) {
        let key = self.below(KEYS);
        if !matches!(self.verdicts.known(&digest(key)), Known::Unasked) {
            return;
        }
        if self.link.is_some_and(|link| !self.holds(link)) {
            self.link = None;
        }
        if self.link.is_none() {
            let made = self.find(Self::answers);
            let may = |made: &Connection| self.followed.is_none_or(|run| run == made.run);
            self.link = made.filter(may);
        }
        let Some(connection) = self.link else { return };
        let (land, landed) = oneshot::channel();
        let verdicts = Arc::clone(&self.verdicts);
        let load = async move { landed.await.unwrap_or(Err(LoadFailed)) };
        tokio::spawn(async move { verdicts.load(digest(key), || load).await });
        settle().await;
        self.loads.push(Load {
            key,
            connection,
            answer: None,
            land,
        });
    }

    /// A server answers one of the loads.
    fn read(&mut self) {
        if self.loads.is_empty() {
            return;
        }
        let load = self.below(self.loads.len());
        let Load {
            key, connection, ..
        } = self.loads[load];
        let answer = match self.servers[connection.server].alive[key] {
            _ if !self.holds(connection) => Err(LoadFailed),
            true => Ok(Some(7)),
            false => Ok(None),
        };
        self.loads[load].answer.get_or_insert(answer);
    }

    async fn land(&mut self) {
        let answered = |load: &Load| load.answer.is_some();
        if let Some(load) = self.loads.iter().position(answered) {
            let load = self.loads.remove(load);
            let _ = load.land.send(load.answer.unwrap());
            settle().await;
        }
    }

    /// The replica asks for what has happened, as the feed does it.
    fn poll(&mut self) {
        let asked = self.now;
        if self.feed.is_none() {
            // Most of those who know name the master that is one.
            let found = self.find(|world, at| world.answers(at) && at == world.master);
            self.feed = found.map(|connection| (connection, asked));
        }
        let Some((connection, mut confirmed)) = self.feed else {
            return;
        };
        if asked.saturating_sub(confirmed) >= MAX_STALENESS / 4 {
            if connection.server != self.master {
                self.feed = None;
                return;
            }
            confirmed = asked;
        }
        if !self.holds(connection) || !self.servers[connection.server].master {
            self.feed = None;
            return;
        }
        self.feed = Some((connection, confirmed));
        let limit = 1 + self.below(3);
        let told = self.ask(connection, asked.min(confirmed), limit);
        self.followed = Some(connection.run);
        if self.link.is_some_and(|link| link.run != connection.run) {
            self.link = None;
        }
        match &told.forget {
            Forget::Everything => self.verdicts.forget_all(),
            Forget::Concerned(changes) => {
                for change in changes {
                    let Change::ApiKey { digests, .. } = change else {
                        unreachable!("no other is made")
                    };
                    self.verdicts.forget(digests);
                }
            }
        }
        if let Some(heard) = told.heard {
            self.freshness.hear(Monotonic(heard));
        }
    }

    fn ask(&mut self, connection: Connection, asked: Duration, limit: usize) -> Consequences {
        let server = &self.servers[connection.server];
        let end = server.events.back().map_or(server.trimmed, |event| event.0);
        let nothing = |gap| Answer {
            asked,
            run: connection.run,
            gap,
            changes: Vec::new(),
            last: end,
            complete: true,
        };
        let answer = match self.following.place() {
            None => nothing(false),
            Some(place) => {
                let from_the_first = place == 0 && server.trimmed == 0;
                if from_the_first || server.events.iter().any(|event| event.0 == place) {
                    let behind = server.events.iter().filter(|event| event.0 > place);
                    let read: Vec<_> = behind.take(limit).collect();
                    Answer {
                        changes: read.iter().map(|event| change(event.1)).collect(),
                        last: read.last().map_or(place, |event| event.0),
                        complete: read.len() < limit,
                        ..nothing(false)
                    }
                } else {
                    nothing(true)
                }
            }
        };
        self.following.hear(answer)
    }

    /// A key is made or revoked on the master; where the other server hears of it, whoever asked is
    /// told that it is done.
    fn change(&mut self) {
        let key = self.below(KEYS);
        let revoke = self.servers[self.master].alive[key];
        if !revoke && self.certain[key].made.is_some() {
            return;
        }
        let id = self.id();
        let heard = self.below(4) > 0;
        let master = &mut self.servers[self.master];
        master.alive[key] = !revoke;
        master.events.push_back((id, key));
        let (now, other) = (self.now, 1 - self.master);
        let certain = &mut self.certain[key];
        if !revoke {
            certain.revoked = None;
        }
        // One that takes itself for the master hears of nothing, and is no longer waited for.
        if self.servers[other].master || heard {
            if !self.servers[other].master {
                let master = self.servers[self.master].clone();
                let other = &mut self.servers[other];
                // Everything before it comes with it.
                (other.alive, other.events) = (master.alive, master.events);
                other.trimmed = master.trimmed;
            }
            let done = if revoke {
                &mut certain.revoked
            } else {
                &mut certain.made
            };
            *done = Some(now);
        } else {
            certain.doubtful = true;
        }
    }

    /// What the master has lost was never made.
    fn lost(&mut self, before: [bool; KEYS]) {
        let after = self.servers[self.master].alive;
        for key in 0..KEYS {
            match (before[key], after[key]) {
                (true, false) => self.certain[key].revoked = Some(self.now),
                (false, true) => self.certain[key].revoked = None,
                _ => {}
            }
        }
    }

    /// The other server takes over; the one that was may not hear of it.
    fn fail_over(&mut self) {
        let (old, new) = (self.master, 1 - self.master);
        if self.servers[new].master {
            return;
        }
        let before = self.servers[old].alive;
        self.servers[new].master = true;
        self.servers[new].run = self.id();
        self.master = new;
        self.lost(before);
        if self.below(2) == 0 {
            self.demote(old);
        }
    }

    /// A master that was replaced hears of it.
    fn heal(&mut self) {
        let other = 1 - self.master;
        if self.servers[other].master {
            self.demote(other);
        }
    }

    /// A server takes over what the master has; its connections stay.
    fn demote(&mut self, server: usize) {
        let run = self.id();
        self.servers[server] = Server {
            process: self.servers[server].process,
            run,
            master: false,
            reachable: self.servers[server].reachable,
            ..self.servers[self.master].clone()
        };
    }

    /// The master starts again with what it has on disk, which is at least what the other has.
    fn restart(&mut self) {
        let other = self.servers[1 - self.master].clone();
        let run = self.id();
        let keeps = self.below(2) == 0;
        let server = &mut self.servers[self.master];
        let before = server.alive;
        if !other.master && !keeps {
            (server.alive, server.events) = (other.alive, other.events);
            server.trimmed = other.trimmed;
        }
        (server.run, server.process) = (run, run);
        self.lost(before);
    }

    fn trim(&mut self) {
        let server = &mut self.servers[self.master];
        if let Some(first) = server.events.pop_front() {
            server.trimmed = first.0;
        }
    }

    /// What must hold of everything that is remembered.
    fn judge(&mut self) {
        for key in 0..KEYS {
            if !self.freshness.vouches(Monotonic(self.now)) {
                self.refused += 1;
                continue;
            }
            let certain = self.certain[key];
            match self.verdicts.known(&digest(key)) {
                Known::Value(_) => {
                    self.let_in += 1;
                    let Some(revoked) = certain.revoked else {
                        continue;
                    };
                    let since = self.now.saturating_sub(revoked);
                    assert!(
                        since <= MAX_STALENESS,
                        "let in {since:?} after it was revoked"
                    );
                    let later = revoked + MAX_STALENESS + Duration::from_nanos(1);
                    let heard = self.freshness.vouches(Monotonic(later));
                    assert!(!heard, "let in although the store was heard from since");
                }
                Known::Nothing => {
                    let lives = certain.revoked.is_none() && !certain.doubtful;
                    if let (true, Some(made)) = (lives, certain.made) {
                        let since = self.now.saturating_sub(made);
                        assert!(
                            since <= MAX_STALENESS,
                            "unknown {since:?} after it was made"
                        );
                    }
                }
                Known::Unasked => {}
            }
        }
    }
}

/// Lets what was spawned run until it waits.
async fn settle() {
    for _ in 0..4 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_was_revoked_is_not_let_in_whatever_happens() {
    let (mut let_in, mut refused) = (0, 0);
    for seed in 0..WORLDS {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step().await;
        }
        let_in += world.let_in;
        refused += world.refused;
    }
    let enough = let_in > 5_000 && refused > 5_000;
    assert!(enough, "{let_in} let in, {refused} refused");
}
