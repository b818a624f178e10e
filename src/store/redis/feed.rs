//! The events: a stream that is read from a place on, and a connection that waits for them.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisError, RedisResult, Value};
use tokio::sync::Mutex;

use super::link::Link;
use super::{Names, text};
use crate::rules::time::Timestamp;
use crate::store::{Event, Events, Place, StoreFault};

/// The longest that the server holds a question, and that its answer may take besides.
const HELD: Duration = Duration::from_secs(5);
const MARGIN: Duration = Duration::from_secs(1);

/// What waits for events.
pub(super) struct Feed {
    link: Arc<Link>,
    names: Arc<Names>,
    /// A connection of its own, since the server answers nothing else on it meanwhile.
    connection: Mutex<Option<MultiplexedConnection>>,
}

impl Feed {
    pub(super) fn new(link: Arc<Link>, names: Arc<Names>) -> Self {
        Self {
            link,
            names,
            connection: Mutex::new(None),
        }
    }

    /// Lists at most `limit` events behind a place, as soon as there are any, or none after `wait`. A
    /// failure comes after a pause. Cancel safe.
    pub(super) async fn follow(
        &self,
        place: Place,
        limit: u32,
        wait: Duration,
    ) -> Result<Events, StoreFault> {
        let mut held = self.connection.lock().await;
        // Taken out: if this is dropped midway, an answer may still come that belongs to no question.
        let (connection, wait) = if let Some(connection) = held.take() {
            (Ok(connection), Some(wait.min(HELD)))
        } else {
            let connection = self.link.connect(HELD + MARGIN).await;
            // Whatever is loaded from here on comes from the server that is followed, and not from one
            // that it has replaced. Whether anything was missed is asked at once.
            self.link.forget();
            (connection, None)
        };
        let answered = match connection {
            Ok(mut connection) => {
                connection.set_response_timeout(wait.unwrap_or_default() + MARGIN);
                let events = events_since(&mut connection, &self.names, place, limit, wait).await;
                match events {
                    Ok(events) => {
                        *held = Some(connection);
                        return Ok(events);
                    }
                    Err(error) => StoreFault::redis(error),
                }
            }
            Err(fault) => fault,
        };
        tokio::time::sleep(self.link.pause()).await;
        Err(answered)
    }
}

/// Where the events end.
pub(super) async fn latest(
    connection: &mut MultiplexedConnection,
    names: &Names,
) -> RedisResult<Place> {
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
    if let Value::Array(role) = &role
        && role.first().and_then(text) != Some("master")
    {
        return Err((ErrorKind::Client, "the server is no master any more").into());
    }
    let anchor = entries(&anchor)?.pop();
    let holds = match &anchor {
        Some(entry) if place == Place::BEGINNING => entry.event.is_none(),
        Some(entry) => entry.place == place,
        None => place == Place::BEGINNING,
    };
    if !holds {
        return Ok(Events {
            events: Vec::new(),
            gap: true,
            last: latest(connection, names).await?,
        });
    }
    let read = read_entries(&read)?;
    let last = read.last().map_or(place, |entry| entry.place);
    Ok(Events {
        events: read.into_iter().filter_map(|entry| entry.event).collect(),
        gap: false,
        last,
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
