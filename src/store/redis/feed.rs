//! The events: a stream that is read from a place on, and a connection that waits for them.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::sync::Mutex;

use super::link::Link;
use super::master::Address;
use super::sentinels::Sentinels;
use super::{Names, Topology, replicas_of, text};
use crate::platform::{Clock, Monotonic};
use crate::rules::bucket::Rate;
use crate::rules::time::Timestamp;
use crate::store::{Event, Events, Place, StoreFault};

/// The longest that the server holds a question, and that its answer may take besides.
const HELD: Duration = Duration::from_secs(5);
const MARGIN: Duration = Duration::from_secs(1);

/// How often a second a busy store is asked for more news, and how often in a row before that:
/// what happens meanwhile is told in one answer.
const QUESTIONS: u32 = 10;

/// What waits for events.
pub(super) struct Feed {
    link: Arc<Link>,
    names: Arc<Names>,
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

/// How far following has come.
struct State {
    followed: Option<Followed>,
    /// Whether the last answer was news, and all of it.
    told: bool,
    /// The questions that news has led to, and how often they may come.
    questions: u64,
    rate: Rate,
}

/// The server that is followed.
struct Followed {
    /// A connection of its own, since the server answers nothing else on it meanwhile.
    connection: MultiplexedConnection,
    address: Address,
    run: u64,
    /// Who say that it is the master, if anybody does, and when they were last asked.
    sentinels: Option<Sentinels>,
    confirmed: Monotonic,
}

impl Feed {
    pub(super) fn new(link: Arc<Link>, names: Arc<Names>, clock: Arc<dyn Clock>) -> Self {
        Self {
            link,
            names,
            clock,
            state: Mutex::new(State {
                followed: None,
                told: false,
                questions: 0,
                rate: Rate::per(QUESTIONS, Duration::from_secs(1), QUESTIONS)
                    .expect("it is not zero"),
            }),
        }
    }

    /// Lists at most `limit` events behind a place, as soon as there are any, or none after `wait`;
    /// without a place, tells where the events end. A failure comes after a pause. Cancel safe.
    pub(super) async fn follow(
        &self,
        place: Option<Place>,
        limit: u32,
        wait: Duration,
    ) -> Result<Events, StoreFault> {
        let mut state = self.state.lock().await;
        if std::mem::take(&mut state.told) {
            let wait = state.until_asked_again(self.clock.monotonic());
            tokio::time::sleep(wait).await;
        }
        loop {
            // Taken out: if the question is dropped midway, an answer may still come that belongs to
            // none.
            let held = state.followed.take();
            let asked = tokio::select! {
                asked = self.ask(held, place, limit, wait.min(HELD)) => asked,
                () = self.link.moved() => continue,
            };
            match asked {
                Ok((events, held)) => {
                    state.followed = Some(held);
                    state.told = !events.events.is_empty() && events.complete;
                    return Ok(events);
                }
                Err(fault) => {
                    tokio::time::sleep(self.link.pause()).await;
                    return Err(fault);
                }
            }
        }
    }

    async fn ask(
        &self,
        held: Option<Followed>,
        place: Option<Place>,
        limit: u32,
        wait: Duration,
    ) -> Result<(Events, Followed), StoreFault> {
        let (mut followed, held) = match held {
            Some(mut followed) => {
                self.confirm(&mut followed, wait).await?;
                (followed, Some(wait))
            }
            // Whether anything was missed is asked at once.
            None => (self.connect().await?, None),
        };
        let connection = &mut followed.connection;
        connection.set_response_timeout(held.unwrap_or_default() + MARGIN);
        let events = match place {
            Some(place) => events_since(connection, &self.names, place, limit, held).await,
            None => end(connection, &self.names).await,
        };
        let events = events.map_err(StoreFault::redis)?;
        // Whoever takes this answer forgets what another run has said before anything else happens.
        self.link.follow(followed.run);
        let events = Events {
            run: followed.run,
            as_of: followed.sentinels.is_some().then_some(followed.confirmed),
            ..events
        };
        Ok((events, followed))
    }

    async fn connect(&self) -> Result<Followed, StoreFault> {
        let config = self.link.config();
        let confirmed = self.clock.monotonic();
        let reached = self.link.connect(MARGIN).await?;
        let sentinels = matches!(config.topology, Topology::Sentinel(_));
        Ok(Followed {
            connection: reached.connection,
            address: reached.address,
            run: reached.run,
            sentinels: sentinels.then(|| Sentinels::of(config)),
            confirmed,
        })
    }

    /// Asks the Sentinels again whether the server is still the master: one that they have replaced
    /// and that cannot be told so goes on as before.
    async fn confirm(&self, followed: &mut Followed, wait: Duration) -> Result<(), StoreFault> {
        let now = self.clock.monotonic();
        match &mut followed.sentinels {
            Some(sentinels) if now.since(followed.confirmed) >= wait => {
                let master = sentinels.master().await.map_err(StoreFault::redis)?;
                if master != followed.address {
                    return Err(StoreFault::unfollowed());
                }
                followed.confirmed = now;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

impl State {
    /// Counts one more question, and says how long it has to wait.
    fn until_asked_again(&mut self, now: Monotonic) -> Duration {
        let (rate, questions) = (self.rate, self.questions);
        let wait = rate.peek(questions, now.nanoseconds()).err();
        let wait = wait.unwrap_or_default();
        let then = Monotonic(now.0 + wait).nanoseconds();
        self.questions = rate.admit(questions, then).unwrap_or(questions);
        wait
    }
}

/// No events, and where they end.
async fn end(connection: &mut MultiplexedConnection, names: &Names) -> RedisResult<Events> {
    let last = latest(connection, names).await?;
    Ok(nothing(last, false))
}

fn nothing(last: Place, gap: bool) -> Events {
    Events {
        events: Vec::new(),
        gap,
        last,
        complete: true,
        run: 0,
        as_of: None,
    }
}

/// Where the events end.
async fn latest(connection: &mut MultiplexedConnection, names: &Names) -> RedisResult<Place> {
    let last: Value = redis::cmd("XREVRANGE")
        .arg(&names.events)
        .arg("+")
        .arg("-")
        .arg("COUNT")
        .arg(1)
        .query_async(connection)
        .await?;
    let last = entries(&last)?.pop();
    Ok(last.map_or(Place::BEGINNING, |entry| entry.place))
}

/// The events behind a place; with `wait`, as soon as there are any.
///
/// That the event at the place is still there, and still the same, is looked at after they were
/// read: nothing behind it can be missing then. So is whether the server is the one that swaps are
/// made on, since one that was replaced hears of nothing.
pub(super) async fn events_since(
    connection: &mut MultiplexedConnection,
    names: &Names,
    place: Place,
    limit: u32,
    wait: Option<Duration>,
) -> RedisResult<Events> {
    let id = format!("{}-{}", place.id >> 64, place.id & u128::from(u64::MAX));
    let mut ask = redis::pipe();
    let read = ask.cmd("XREAD").arg("COUNT").arg(limit);
    if let Some(wait) = wait {
        // Zero would be for ever.
        let milliseconds = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).max(1);
        read.arg("BLOCK").arg(milliseconds);
    }
    read.arg("STREAMS").arg(&names.events).arg(&id);
    let anchor = ask.cmd("XRANGE").arg(&names.events);
    if place == Place::BEGINNING {
        anchor.arg("-").arg("+").arg("COUNT").arg(1);
    } else {
        anchor.arg(&id).arg(&id);
    }
    ask.cmd("ROLE");
    let (read, anchor, role): (Value, Value, Value) = ask.query_async(connection).await?;
    if replicas_of(&role).is_none() {
        return Err((ErrorKind::Client, "the server is no master any more").into());
    }
    let anchor = entries(&anchor)?.pop();
    let holds = match &anchor {
        Some(entry) if place == Place::BEGINNING => entry.event.is_none(),
        Some(entry) => entry.place == place,
        None => place == Place::BEGINNING,
    };
    if !holds {
        return Ok(nothing(latest(connection, names).await?, true));
    }
    let read = read_entries(&read)?;
    let complete = read.len() < usize::try_from(limit).unwrap_or(usize::MAX);
    let last = read.last().map_or(place, |entry| entry.place);
    Ok(Events {
        events: read.into_iter().filter_map(|entry| entry.event).collect(),
        last,
        complete,
        ..nothing(last, false)
    })
}

struct Entry {
    place: Place,
    /// `None` of the one that stands before all events.
    event: Option<Event>,
}

/// What `XREAD` answers: nothing, or the one stream that was asked for with its entries.
fn read_entries(value: &Value) -> RedisResult<Vec<Entry>> {
    match value {
        Value::Nil => Ok(Vec::new()),
        Value::Array(streams) => match &streams[..] {
            [Value::Array(stream)] if stream.len() == 2 => entries(&stream[1]),
            [] => Ok(Vec::new()),
            _ => Err(unexpected()),
        },
        _ => Err(unexpected()),
    }
}

fn entries(value: &Value) -> RedisResult<Vec<Entry>> {
    let Value::Array(entries) = value else {
        return Err(unexpected());
    };
    let read = entries
        .iter()
        .map(|entry| entry_of(entry).ok_or_else(unexpected));
    read.collect()
}

fn entry_of(value: &Value) -> Option<Entry> {
    let Value::Array(entry) = value else {
        return None;
    };
    let [id, Value::Array(fields)] = &entry[..] else {
        return None;
    };
    let (milliseconds, sequence) = text(id)?.split_once('-')?;
    let milliseconds: u64 = milliseconds.parse().ok()?;
    let sequence: u64 = sequence.parse().ok()?;
    let field = |name: &str| {
        let (pairs, _) = fields.as_chunks::<2>();
        let pair = pairs.iter().find(|[key, _]| text(key) == Some(name))?;
        match &pair[1] {
            Value::BulkString(bytes) => Some(bytes),
            _ => None,
        }
    };
    let place = Place {
        id: u128::from(milliseconds) << 64 | u128::from(sequence),
        mark: u64::from_be_bytes(field("v")?.as_slice().try_into().ok()?),
    };
    let event = match field("p") {
        Some(payload) => {
            let at = std::str::from_utf8(field("t")?).ok()?.parse().ok()?;
            Some(Event {
                place,
                at: Timestamp::from_nanoseconds(at),
                payload: payload.clone(),
            })
        }
        None => None,
    };
    Some(Entry { place, event })
}

fn unexpected() -> RedisError {
    (
        ErrorKind::UnexpectedReturnType,
        "the events are not as they were written",
    )
        .into()
}
