//! What goes wrong: one thing after the other, and how soon the replicas serve again.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use super::REPLICAS;
use super::caller::{Caller, Heard};
use super::forwarder::Path;
use super::model::Credential;
use super::run::Run;
use super::weather::RECOVERY;
use crate::harness::{Random, Server, Upstream};

/// The longest that the store is away: longer than what is remembered is believed.
pub(super) const LONGEST: Duration = Duration::from_secs(5);

/// Somebody ends something in so much time.
const MISSED: Duration = Duration::from_millis(1_500);

/// When the recovery is given up.
const GIVEN_UP: Duration = Duration::from_secs(10);

/// How often a replica that is to serve again is asked.
const ASKED: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The server stops, and goes on where it stopped.
    Paused,
    /// The server is killed, and started again on what it wrote.
    Killed,
    /// Every connection to the server is closed by it.
    Dismissed,
    /// The server forgets the events that it has.
    Trimmed,
    /// One replica's path does something else.
    Path(Path),
    /// One replica is cut off, and what it misses is forgotten meanwhile.
    Missed,
    /// One replica's path comes and goes.
    Flapping,
    /// One replica's connections are reset, and it may connect again at once.
    Severed,
    /// A replica is killed, and started again.
    Crashed,
}

const ALL: [Fault; 12] = [
    Fault::Paused,
    Fault::Killed,
    Fault::Dismissed,
    Fault::Trimmed,
    Fault::Path(Path::Refused),
    Fault::Path(Path::Silent),
    Fault::Path(Path::NoQuestions),
    Fault::Path(Path::NoAnswers),
    Fault::Missed,
    Fault::Flapping,
    Fault::Severed,
    Fault::Crashed,
];

impl Fault {
    /// Whether it goes on until it is ended.
    fn lasts(self) -> bool {
        matches!(
            self,
            Self::Paused | Self::Killed | Self::Path(_) | Self::Missed | Self::Flapping
        )
    }

    fn name(self) -> &'static str {
        match self {
            Self::Paused => "server paused",
            Self::Killed => "server killed",
            Self::Dismissed => "connections closed by the server",
            Self::Trimmed => "events trimmed",
            Self::Path(Path::NoQuestions) => "questions kept back",
            Self::Path(Path::NoAnswers) => "answers kept back",
            Self::Path(Path::Silent) => "replica cut off silently",
            Self::Path(_) => "replica cut off",
            Self::Missed => "replica cut off and events trimmed",
            Self::Flapping => "replica cut off again and again",
            Self::Severed => "connections reset",
            Self::Crashed => "replica killed",
        }
    }
}

/// Has one thing after the other go wrong until the time is up.
pub(super) fn go_wrong(
    run: &Run,
    server: &mut Server,
    upstream: &Upstream,
    random: &mut Random,
    time: Duration,
) {
    let mut deck: Vec<Fault> = Vec::new();
    // What has begun by then is ended, and there is time to see what came of it.
    while run.goes_on() && run.began.elapsed() < time {
        // Every fault comes once before one comes again.
        if deck.is_empty() {
            deck.extend(ALL);
        }
        let fault = deck.swap_remove(random.below(deck.len()));
        let concerned = match fault {
            Fault::Paused | Fault::Killed | Fault::Dismissed | Fault::Trimmed => {
                (0..REPLICAS).collect()
            }
            _ => vec![random.below(REPLICAS)],
        };
        let lasts = if fault.lasts() {
            how_long(random)
        } else {
            Duration::ZERO
        };
        let (at, name) = (run.when(Instant::now()), fault.name());
        let note = format!("{at}: {name} for {lasts:?}, of {concerned:?}");
        run.faults.lock().unwrap().push(note);
        run.tally.count("faults", name);
        // How often it draws is left to chance: what comes after it must not depend on that.
        let mut drawn = Random::seeded(random.next());
        strike(run, server, &mut drawn, fault, &concerned, lasts);
        // Nobody asks for what the upstream was sent but by its number.
        upstream.take();
        let calm = RECOVERY + Duration::from_millis(random.next() % 1_000);
        pause(run, calm);
    }
}

/// Short, or long, or so long that what is remembered is believed no more.
fn how_long(random: &mut Random) -> Duration {
    let longest = LONGEST.as_millis();
    let (from, to) = match random.below(4) {
        0 => (20, 300),
        1 | 2 => (300, 2_500),
        _ => (3_200, u64::try_from(longest).unwrap()),
    };
    Duration::from_millis(from + random.next() % (to - from))
}

fn strike(
    run: &Run,
    server: &mut Server,
    random: &mut Random,
    fault: Fault,
    concerned: &[usize],
    lasts: Duration,
) {
    if fault == Fault::Trimmed {
        // Nobody is without the store: nothing is excused.
        return trim(server, random);
    }
    for replica in concerned {
        run.weather.disturb(*replica);
    }
    let one = &run.replicas[concerned[0]];
    match fault {
        Fault::Paused => {
            server.signal("STOP");
            pause(run, lasts);
            server.signal("CONT");
        }
        Fault::Killed => {
            server.kill();
            pause(run, lasts);
            server.start_again();
        }
        Fault::Dismissed => {
            server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        }
        Fault::Path(path) => {
            one.path.set(path);
            pause(run, lasts);
            // What was kept back comes late, or never.
            if random.below(2) == 0 {
                one.path.sever();
            }
            one.path.set(Path::Open);
        }
        Fault::Missed => {
            one.path.set(Path::Refused);
            pause(run, lasts.max(MISSED));
            trim(server, random);
            one.path.set(Path::Open);
        }
        Fault::Flapping => {
            let began = Instant::now();
            while run.goes_on() && began.elapsed() < lasts {
                for path in [Path::Silent, Path::Open, Path::Refused, Path::Open] {
                    one.path.set(path);
                    pause(run, Duration::from_millis(20 + random.next() % 200));
                }
            }
        }
        Fault::Severed => one.path.sever(),
        Fault::Crashed => {
            let mut world = one.world.lock().unwrap();
            *one.proxy.lock().unwrap() = None;
            world.crash();
            *one.proxy.lock().unwrap() = Some(world.proxy());
        }
        Fault::Trimmed => {}
    }
    let back = Instant::now();
    for replica in concerned {
        run.weather.clear(*replica, back);
    }
    thread::scope(|scope| {
        for replica in concerned {
            scope.spawn(|| recovers(run, *replica, back));
        }
    });
}

fn trim(server: &Server, random: &mut Random) {
    let kept = [0, 1, 5][random.below(3)].to_string();
    let trimmed = server.ask(&["XTRIM", "{gatelet}:events", "MAXLEN", &kept]);
    assert!(trimmed.starts_with(':'), "{trimmed}");
}

/// Measures how long a replica takes until it lets in a key that it never saw, and until it writes.
fn recovers(run: &Run, replica: usize, back: Instant) {
    let Some(key) = run.unseen.lock().unwrap().pop() else {
        return run.fail("no key is left that nobody saw");
    };
    let mut caller = Caller::new(run);
    let serves = |caller: &mut Caller<'_>| caller.present(replica, &key) == Some(true);
    serves_within(
        run,
        replica,
        back,
        "until a replica knew a key that it had not seen",
        || serves(&mut caller),
    );
    serves_within(
        run,
        replica,
        back,
        "until a replica issued a session",
        || issues(run, &mut caller, replica, &key),
    );
}

fn issues(run: &Run, caller: &mut Caller<'_>, replica: usize, key: &Arc<Credential>) -> bool {
    let shown = [("x-api-key", &*key.secret)];
    let body = json!({"subject": "after"});
    let heard: Option<Heard> = caller.post(replica, "/sessions", &shown, &body);
    heard.is_some_and(|heard| {
        run.judge("session issued", key, &heard);
        heard.status == 201
    })
}

fn serves_within(
    run: &Run,
    replica: usize,
    back: Instant,
    what: &'static str,
    mut asks: impl FnMut() -> bool,
) {
    while run.goes_on() {
        let served = asks();
        let took = back.elapsed();
        if served {
            run.tally.count("recoveries", "measured");
            run.tally.took(what, took);
        }
        let lost = run.weather.lost(back, back + took);
        if took > RECOVERY + lost && (served || took > GIVEN_UP) {
            run.fail(&format!(
                "{what} on replica {replica}: {took:?} after {} (lost {lost:?})",
                run.when(back)
            ));
        }
        if served {
            return;
        }
        thread::sleep(ASKED);
    }
}

/// Lets time pass, unless the run is over.
fn pause(run: &Run, time: Duration) {
    let began = Instant::now();
    while run.goes_on() && began.elapsed() < time {
        thread::sleep(Duration::from_millis(10).min(time));
    }
}
