//! The store in a SQLite file: a writer that commits in groups, and a reader beside it.
//!
//! Each has a thread and a connection of its own, so that a load never waits for the disk to
//! confirm a write. Other processes may have the same file open: the database's locks order their
//! writes, and each sees the others' commits at once. The layout of the file is `schema`'s
//! matter, its place and permissions are `file`'s.

mod file;
mod reader;
mod schema;
mod writer;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use rusqlite::Connection;
use tokio::sync::oneshot;

use super::{Events, Listed, OpenError, Place, StoreFault, Swapped, Versioned, Write};
use crate::platform::Clock;

/// How many operations may wait for a thread; one more is refused.
const QUEUE: usize = 4096;

/// Where a thread puts an operation's outcome.
type Answer<T> = oneshot::Sender<Result<T, StoreFault>>;

/// The SQLite store.
pub(super) struct Embedded {
    path: PathBuf,
    reader: Worker<reader::Job>,
    writer: Worker<writer::Job>,
}

impl Embedded {
    /// Opens the store in `folder`, making both where they are missing.
    pub(super) fn open(folder: &Path, clock: Arc<dyn Clock>) -> Result<Self, OpenError> {
        let path = file::prepare(folder)?;
        let write = schema::open(&path)?;
        let read = schema::open_reader(&path)?;
        file::tighten(&path)?;
        let (opened, identity) = (path.clone(), file::identity(&path));
        // SQLite goes on with a file that has lost its name, and would tell of no change ever.
        let is_replaced = move || file::identity(&opened) != identity;
        let is_replaced_too = is_replaced.clone();
        Ok(Self {
            reader: Worker::start("store-reader", read, move |connection, jobs| {
                reader::run(connection, jobs, is_replaced)
            })?,
            writer: Worker::start("store-writer", write, move |connection, jobs| {
                writer::run(connection, jobs, &*clock, is_replaced_too)
            })?,
            path,
        })
    }

    /// Whether there is a store in `folder`.
    pub(super) fn is_there(folder: &Path) -> bool {
        file::is_there(folder)
    }

    pub(super) async fn load(&self, key: &str) -> Result<Option<Versioned>, StoreFault> {
        let key = key.to_owned();
        self.reader
            .ask(|answer| reader::Job::Load { key, answer })
            .await
    }

    pub(super) async fn swap(
        &self,
        writes: Vec<Write>,
        payloads: Vec<Vec<u8>>,
    ) -> Result<Swapped, StoreFault> {
        self.writer
            .ask(|answer| writer::Job {
                writes,
                payloads,
                answer,
            })
            .await
    }

    /// No events, and where they end.
    pub(super) async fn end(&self) -> Result<Events, StoreFault> {
        self.reader.ask(|answer| reader::Job::End { answer }).await
    }

    pub(super) async fn events_since(
        &self,
        place: Place,
        limit: u32,
    ) -> Result<Events, StoreFault> {
        // One that is none of this store's lies behind it.
        let id = u64::try_from(place.id).unwrap_or(u64::MAX);
        self.reader
            .ask(|answer| reader::Job::EventsSince { id, limit, answer })
            .await
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Result<Vec<Listed>, StoreFault> {
        let (prefix, after) = (prefix.to_owned(), after.map(ToOwned::to_owned));
        self.reader
            .ask(|answer| reader::Job::List {
                prefix,
                after,
                limit,
                answer,
            })
            .await
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Embedded").field(&self.path).finish()
    }
}

/// A thread with a connection, working off a bounded queue until its owner is dropped.
struct Worker<Job> {
    queue: Option<SyncSender<Job>>,
    thread: Option<JoinHandle<()>>,
}

impl<Job: Send + 'static> Worker<Job> {
    fn start(
        name: &'static str,
        connection: Connection,
        run: impl FnOnce(&Connection, &std::sync::mpsc::Receiver<Job>) -> rusqlite::Result<()>
        + Send
        + 'static,
    ) -> Result<Self, OpenError> {
        let (queue, jobs) = sync_channel(QUEUE);
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                if let Err(error) = run(&connection, &jobs) {
                    tracing::error!(thread = name, %error, "the store has stopped");
                }
            })
            .map_err(OpenError::Thread)?;
        Ok(Self {
            queue: Some(queue),
            thread: Some(thread),
        })
    }

    async fn ask<T>(&self, job: impl FnOnce(Answer<T>) -> Job) -> Result<T, StoreFault> {
        let (answer, outcome) = oneshot::channel();
        match &self.queue {
            Some(queue) => queue.try_send(job(answer)).map_err(|error| match error {
                TrySendError::Full(_) => StoreFault::overloaded(),
                TrySendError::Disconnected(_) => StoreFault::stopped(),
            })?,
            None => return Err(StoreFault::stopped()),
        }
        outcome.await.unwrap_or_else(|_| Err(StoreFault::stopped()))
    }
}

impl<Job> Drop for Worker<Job> {
    fn drop(&mut self) {
        // The thread ends after what it is doing now: nobody can be waiting for anything else.
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _: Result<(), _> = thread.join();
        }
    }
}
