//! The layout of the database, and how connections to it are set up.

use std::io::ErrorKind;
use std::path::Path;
use std::thread;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use crate::store::OpenError;

/// Marks the file as a store in its header (`file` and SQLite's own tools show it): "gate".
const APPLICATION: i64 = 0x6761_7465;

/// The layout's version. A file with a larger one is left alone.
const LAYOUT: i64 = 1;

/// How long a connection waits for another process's lock.
const BUSY: Duration = Duration::from_secs(5);

/// `position` counts events and swaps: it gives events their ids and records their versions, so
/// that neither is ever given twice. Events up to `trimmed` are no longer kept.
const CREATE: &str = "
    CREATE TABLE records (
        key     TEXT PRIMARY KEY,
        version INTEGER NOT NULL,
        value   BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE events (
        id      INTEGER PRIMARY KEY,
        at      INTEGER NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE TABLE feed (
        one      INTEGER PRIMARY KEY CHECK (one = 1),
        position INTEGER NOT NULL,
        trimmed  INTEGER NOT NULL
    ) STRICT;
    INSERT INTO feed VALUES (1, 0, 0);
";

/// Opens the file for writing, and lays it out if it is empty.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let mut connection = connect(path)?;
    let database = |source| database(path, source);
    // SQLite opens a file that it may not write to for reading, and says nothing.
    if connection.is_readonly("main").map_err(database)? {
        return Err(OpenError::File {
            path: path.to_owned(),
            source: ErrorKind::ReadOnlyFilesystem.into(),
        });
    }
    if identify(&connection).map_err(database)? != Identity::CURRENT {
        lay_out(&mut connection, path)?;
    }
    enter_wal(&connection).map_err(database)?;
    // Full: what was answered is on disk. In WAL mode that is one sync a commit.
    connection
        .pragma_update(None, "synchronous", "FULL")
        .map_err(database)?;
    Ok(connection)
}

/// Opens the file for reading, once it is laid out.
pub(super) fn open_reader(path: &Path) -> Result<Connection, OpenError> {
    let connection = connect(path)?;
    connection
        .pragma_update(None, "query_only", true)
        .map_err(|source| database(path, source))?;
    Ok(connection)
}

fn connect(path: &Path) -> Result<Connection, OpenError> {
    let setup = || {
        let connection = Connection::open_with_flags(
            path,
            // A connection never leaves its thread. The file was made beforehand, with its mode.
            OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )?;
        connection.busy_timeout(BUSY)?;
        // KiB, as it is negative: the system's page cache holds the file already.
        connection.pragma_update(None, "cache_size", -512)?;
        connection.pragma_update(None, "temp_store", "MEMORY")?;
        Ok(connection)
    };
    setup().map_err(|source| database(path, source))
}

/// What the file's header says about it.
#[derive(PartialEq, Eq)]
struct Identity {
    application: i64,
    layout: i64,
}

impl Identity {
    const EMPTY: Self = Self {
        application: 0,
        layout: 0,
    };
    const CURRENT: Self = Self {
        application: APPLICATION,
        layout: LAYOUT,
    };
}

fn identify(connection: &Connection) -> rusqlite::Result<Identity> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get(0));
    Ok(Identity {
        application: pragma("application_id")?,
        layout: pragma("user_version")?,
    })
}

/// Lays an empty file out; refuses any other. Processes that open a new store at once wait here
/// for the one that comes first.
fn lay_out(connection: &mut Connection, path: &Path) -> Result<(), OpenError> {
    let database = |source| database(path, source);
    let transaction = connection
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(database)?;
    let identity = identify(&transaction).map_err(database)?;
    if identity == Identity::CURRENT {
        return Ok(());
    }
    if identity.application == APPLICATION {
        return Err(OpenError::Newer {
            path: path.to_owned(),
            found: identity.layout,
            known: LAYOUT,
        });
    }
    let tables: i64 = transaction
        .query_row("SELECT count(*) FROM sqlite_schema", (), |row| row.get(0))
        .map_err(database)?;
    if identity != Identity::EMPTY || tables > 0 {
        return Err(OpenError::Foreign {
            path: path.to_owned(),
        });
    }
    let create = || {
        transaction.execute_batch(CREATE)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", LAYOUT)?;
        transaction.commit()
    };
    create().map_err(database)
}

/// Turns write-ahead logging on; the file remembers it.
///
/// The change needs the file for itself and does not wait for locks by itself.
fn enter_wal(connection: &Connection) -> rusqlite::Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut waited = Duration::ZERO;
    loop {
        match connection.pragma_update(None, "journal_mode", "WAL") {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && waited < BUSY =>
            {
                thread::sleep(PAUSE);
                waited += PAUSE;
            }
            outcome => return outcome,
        }
    }
}

fn database(path: &Path, source: rusqlite::Error) -> OpenError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::NotADatabase) => OpenError::Foreign { path },
        Some(ErrorCode::CannotOpen | ErrorCode::PermissionDenied | ErrorCode::ReadOnly) => {
            OpenError::File {
                path,
                source: std::io::Error::other(source),
            }
        }
        _ => OpenError::Database { path, source },
    }
}
