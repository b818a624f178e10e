//! The writing thread: swaps, committed in groups.
//!
//! A commit waits for the disk, and swaps that arrive meanwhile share the next one.

use std::sync::Arc;
use std::sync::mpsc::Receiver;

use rusqlite::{Connection, Statement};

use super::Answer;
use crate::platform::Clock;
use crate::store::{StoreFault, Swapped, Write};

/// The most swaps in one commit.
const GROUP: usize = 256;

/// How many events are kept; whoever follows and falls further behind is told of a gap.
const EVENTS_KEPT: u64 = 100_000;

/// How many events may pile up above that before they are trimmed.
const TRIM_STEP: u64 = 1_000;

/// One swap.
pub(super) struct Job {
    pub(super) writes: Vec<Write>,
    pub(super) payloads: Vec<Vec<u8>>,
    pub(super) answer: Answer<Swapped>,
}

/// Works off swaps until the queue's owner is dropped.
///
/// Nothing is written to a file that `is_replaced`: nobody would find it again.
pub(super) fn run(
    connection: &Connection,
    jobs: &Receiver<Job>,
    clock: &dyn Clock,
    is_replaced: impl Fn() -> bool,
) -> rusqlite::Result<()> {
    let mut writer = Writer::new(connection)?;
    while let Ok(first) = jobs.recv() {
        let mut group = vec![first];
        group.extend(jobs.try_iter().take(GROUP - 1));
        // Nobody waits for these any more, and nobody was promised them.
        group.retain(|job| !job.answer.is_closed());
        if group.is_empty() {
            continue;
        }
        let outcomes = if is_replaced() {
            Err(StoreFault::replaced())
        } else {
            writer
                .commit(&group, clock.now().nanoseconds())
                .map_err(|error| StoreFault::database(Arc::new(error)))
        };
        match outcomes {
            Ok(outcomes) => {
                for (job, outcome) in group.into_iter().zip(outcomes) {
                    let _ = job.answer.send(Ok(outcome));
                }
            }
            Err(fault) => {
                for job in group {
                    let _ = job.answer.send(Err(fault.clone()));
                }
            }
        }
    }
    Ok(())
}

/// The statements, prepared once.
struct Writer<'c> {
    connection: &'c Connection,
    create: Statement<'c>,
    replace: Statement<'c>,
    delete: Statement<'c>,
    exists: Statement<'c>,
    append: Statement<'c>,
    position: Statement<'c>,
    advance: Statement<'c>,
    trim: Statement<'c>,
    note_trimmed: Statement<'c>,
}

/// Where the feed is while a group is written.
#[derive(Clone, Copy)]
struct Position {
    /// The last id given to a swap or an event.
    last: u64,
    /// When the group is written, in nanoseconds.
    now: u64,
}

impl<'c> Writer<'c> {
    fn new(connection: &'c Connection) -> rusqlite::Result<Self> {
        Ok(Self {
            connection,
            create: connection.prepare(
                "INSERT INTO records (key, version, value) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING",
            )?,
            replace: connection.prepare(
                "UPDATE records SET version = ?2, value = ?3 WHERE key = ?1 AND version = ?4",
            )?,
            delete: connection.prepare("DELETE FROM records WHERE key = ?1 AND version = ?2")?,
            exists: connection.prepare("SELECT 1 FROM records WHERE key = ?1")?,
            append: connection
                .prepare("INSERT INTO events (id, at, payload) VALUES (?1, ?2, ?3)")?,
            position: connection.prepare("SELECT position, trimmed FROM feed")?,
            advance: connection.prepare("UPDATE feed SET position = ?1")?,
            trim: connection.prepare("DELETE FROM events WHERE id <= ?1")?,
            note_trimmed: connection.prepare("UPDATE feed SET trimmed = ?1")?,
        })
    }

    /// Commits the group. An error is the database's, not one swap's: nothing was written then.
    fn commit(&mut self, group: &[Job], now: u64) -> rusqlite::Result<Vec<Swapped>> {
        // Immediate: taking the lock before the first read leaves no conflict to find later.
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let outcomes = self.write_group(group, now).and_then(|outcomes| {
            self.connection.execute_batch("COMMIT")?;
            Ok(outcomes)
        });
        // Some errors, such as a full disk, have ended the transaction already.
        if outcomes.is_err() && !self.connection.is_autocommit() {
            self.connection.execute_batch("ROLLBACK")?;
        }
        outcomes
    }

    fn write_group(&mut self, group: &[Job], now: u64) -> rusqlite::Result<Vec<Swapped>> {
        let (last, trimmed) = self
            .position
            .query_row((), |row| Ok((row.get(0)?, row.get(1)?)))?;
        let mut position = Position { last, now };
        let outcomes = group
            .iter()
            .map(|job| self.swap(job, &mut position))
            .collect::<rusqlite::Result<Vec<_>>>()?;
        if position.last > last {
            self.advance.execute([position.last])?;
            self.trim_events(position.last, trimmed)?;
        }
        Ok(outcomes)
    }

    fn swap(&mut self, job: &Job, position: &mut Position) -> rusqlite::Result<Swapped> {
        self.connection.execute_batch("SAVEPOINT swap")?;
        let next = position.last + 1;
        for write in &job.writes {
            if !self.write(write, next)? {
                self.connection
                    .execute_batch("ROLLBACK TO swap; RELEASE swap")?;
                return Ok(Swapped::Conflict);
            }
        }
        for (id, payload) in (next..).zip(&job.payloads) {
            self.append.execute((id, position.now, payload))?;
        }
        self.connection.execute_batch("RELEASE swap")?;
        let events = u64::try_from(job.payloads.len()).unwrap_or(u64::MAX);
        position.last += events.max(1);
        Ok(Swapped::Committed)
    }

    /// Makes one write; `false` if the record has another version.
    fn write(&mut self, write: &Write, version: u64) -> rusqlite::Result<bool> {
        let Write {
            key,
            expected,
            value,
        } = write;
        let changed = match (expected, value) {
            (None, Some(value)) => self.create.execute((key, version, value))?,
            (Some(expected), Some(value)) => {
                self.replace.execute((key, version, value, expected))?
            }
            (Some(expected), None) => self.delete.execute((key, expected))?,
            // Nothing to write: the swap depends on the record's absence.
            (None, None) => usize::from(!self.exists.exists([key])?),
        };
        Ok(changed == 1)
    }

    fn trim_events(&mut self, position: u64, trimmed: u64) -> rusqlite::Result<()> {
        let due = position.saturating_sub(EVENTS_KEPT);
        if due < trimmed + TRIM_STEP {
            return Ok(());
        }
        self.trim.execute([due])?;
        self.note_trimmed.execute([due])?;
        Ok(())
    }
}
