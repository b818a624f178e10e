//! The reading thread: loads, listings and the events since an id.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rusqlite::{Connection, OptionalExtension, Row, Statement};

use super::Answer;
use crate::rules::time::Timestamp;
use crate::store::{Event, Events, Listed, Place, StoreFault, Versioned};

/// The only run: what was answered is on disk, and found again.
const RUN: u64 = 0;

/// One reading operation.
pub(super) enum Job {
    Load {
        key: String,
        answer: Answer<Option<Versioned>>,
    },
    End {
        answer: Answer<Events>,
    },
    EventsSince {
        id: u64,
        limit: u32,
        answer: Answer<Events>,
    },
    List {
        prefix: String,
        after: Option<String>,
        limit: u32,
        answer: Answer<Vec<Listed>>,
    },
}

/// Works off reading operations until the queue's owner is dropped.
///
/// Whether the file `is_replaced` is looked at each time: a record that is missing from a file that
/// nobody else writes any more is not known to be missing.
pub(super) fn run(
    connection: &Connection,
    jobs: &Receiver<Job>,
    is_replaced: impl Fn() -> bool,
) -> rusqlite::Result<()> {
    let mut reader = Reader::new(connection)?;
    while let Ok(job) = jobs.recv() {
        let present = if is_replaced() {
            Err(StoreFault::replaced())
        } else {
            Ok(())
        };
        // Nobody may be waiting any more; then the outcome is dropped.
        match job {
            Job::Load { key, answer } => {
                let loaded = present.and_then(|()| reader.load(&key).map_err(fault));
                let _ = answer.send(loaded);
            }
            Job::End { answer } => {
                let feed = |()| reader.feed().map_err(fault);
                let end = present.and_then(feed);
                let _ = answer.send(end.map(|feed| nothing(feed.position, false)));
            }
            Job::EventsSince { id, limit, answer } => {
                let events = present.and_then(|()| reader.events_since(id, limit).map_err(fault));
                let _ = answer.send(events);
            }
            Job::List {
                prefix,
                after,
                limit,
                answer,
            } => {
                let list = |()| reader.list(&prefix, after.as_deref(), limit).map_err(fault);
                let _ = answer.send(present.and_then(list));
            }
        }
    }
    Ok(())
}

fn fault(error: rusqlite::Error) -> StoreFault {
    StoreFault::database(Arc::new(error))
}

/// The statements, prepared once.
struct Reader<'c> {
    connection: &'c Connection,
    load: Statement<'c>,
    list: Statement<'c>,
    feed: Statement<'c>,
    events: Statement<'c>,
}

impl<'c> Reader<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            load: connection.prepare("SELECT version, value FROM records WHERE key = ?1")?,
            list: connection.prepare(
                "SELECT version, value, key FROM records WHERE key > ?1 ORDER BY key LIMIT ?2",
            )?,
            feed: connection.prepare("SELECT position, trimmed FROM feed")?,
            events: connection
                .prepare("SELECT id, at, payload FROM events WHERE id > ?1 ORDER BY id LIMIT ?2")?,
        })
    }

    fn load(&mut self, key: &str) -> rusqlite::Result<Option<Versioned>> {
        self.load.query_row([key], versioned).optional()
    }

    fn list(
        &mut self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> rusqlite::Result<Vec<Listed>> {
        let after = after.map_or(prefix, |after| after.max(prefix));
        let mut listed = Vec::new();
        let mut rows = self.list.query((after, limit))?;
        while let Some(row) = rows.next()? {
            let key: String = row.get(2)?;
            if !key.starts_with(prefix) {
                break;
            }
            let record = versioned(row)?;
            listed.push(Listed { key, record });
        }
        Ok(listed)
    }

    fn events_since(&mut self, id: u64, limit: u32) -> rusqlite::Result<Events> {
        if self.feed()?.position == id {
            return Ok(nothing(id, false));
        }
        // One snapshot: events trimmed between two reads would be missed without a gap.
        self.connection.execute_batch("BEGIN")?;
        let events = self.events_in_snapshot(id, limit);
        self.connection.execute_batch("COMMIT")?;
        events
    }

    fn events_in_snapshot(&mut self, id: u64, limit: u32) -> rusqlite::Result<Events> {
        let feed = self.feed()?;
        if id < feed.trimmed || id > feed.position {
            return Ok(nothing(feed.position, true));
        }
        let events = self
            .events
            .query_map((id, limit), |row| {
                Ok(Event {
                    place: place(row.get(0)?),
                    at: Timestamp::from_nanoseconds(row.get(1)?),
                    payload: row.get(2)?,
                })
            })?
            .collect::<rusqlite::Result<Vec<_>>>()?;
        let cut_short = events.len() >= usize::try_from(limit).unwrap_or(usize::MAX);
        let last = match events.last() {
            Some(event) if cut_short => event.place,
            // Swaps without an event move the position too.
            _ => place(feed.position),
        };
        Ok(Events {
            events,
            gap: false,
            last,
            complete: !cut_short,
            run: RUN,
            as_of: None,
        })
    }

    fn feed(&mut self) -> rusqlite::Result<Feed> {
        self.feed.query_row((), |row| {
            Ok(Feed {
                position: row.get(0)?,
                trimmed: row.get(1)?,
            })
        })
    }
}

struct Feed {
    position: u64,
    trimmed: u64,
}

/// No events, up to this position.
fn nothing(position: u64, gap: bool) -> Events {
    Events {
        events: Vec::new(),
        gap,
        last: place(position),
        complete: true,
        run: RUN,
        as_of: None,
    }
}

fn place(id: u64) -> Place {
    Place {
        id: id.into(),
        mark: 0,
    }
}

fn versioned(row: &Row<'_>) -> rusqlite::Result<Versioned> {
    Ok(Versioned {
        version: row.get(0)?,
        value: row.get(1)?,
    })
}
