//! How a store fails: while it is opened, and while it is used.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError};

/// The store did not do what it was asked.
///
/// Opaque: nobody decides anything by its cause. It says nothing about the record asked for, so a
/// caller must not take it for a record that is missing.
#[derive(Clone, Debug)]
pub struct StoreFault {
    what: Box<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl StoreFault {
    /// A record was loaded and cannot be read; `source` must not repeat what it holds.
    pub fn unreadable(key: &str, source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            what: format!("the record {key} cannot be read").into(),
            source: Some(Arc::new(source)),
        }
    }

    /// A record is there that no store has written.
    pub(super) fn foreign(key: &str) -> Self {
        Self::without_source(format!("the record {key} is none of the store's"))
    }

    /// Something that the store needs has failed.
    pub fn caused(what: impl Into<Box<str>>, source: impl Error + Send + Sync + 'static) -> Self {
        Self {
            what: what.into(),
            source: Some(Arc::new(source)),
        }
    }

    /// The server said no, or cannot be reached.
    pub(super) fn redis(error: RedisError) -> Self {
        // Of what was sent together, the first that failed says enough.
        let refused = error.clone().into_server_errors();
        let first = refused.and_then(|refused| refused.first().cloned());
        let error = first.map_or(error, |(_, first)| first.into());
        let what = match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) | (_, Some("NOAUTH" | "WRONGPASS")) => {
                "the store's server wants a user and a password that it knows; see store.username \
                 and store.password_file"
            }
            (_, Some("NOPERM")) => {
                "the store's server does not let this user do what a store needs; see store.username"
            }
            _ if error.is_timeout() => "the store's server does not answer in time",
            (ErrorKind::Io, _) => "the store's server cannot be reached",
            _ => "the store's server failed",
        };
        Self::caused(what, Said(error))
    }

    /// What the server keeps was laid out by a newer version.
    pub(super) fn newer(prefix: &str) -> Self {
        Self::without_source(format!(
            "what the server keeps below {prefix} was made by a newer gatelet; run that version, or \
             name another store.key_prefix"
        ))
    }

    /// Another server than the one whose events are followed has answered.
    pub(super) fn unfollowed() -> Self {
        Self::without_source("the store's server has changed and its events are not followed yet")
    }

    /// More is asked of the store than it can do.
    pub(super) fn overloaded() -> Self {
        Self::without_source("the store's queue is full")
    }

    /// A thread of the store has ended.
    pub(super) fn stopped() -> Self {
        Self::without_source("the store has stopped")
    }

    /// The store's file is gone, or another one lies in its place.
    pub(super) fn replaced() -> Self {
        Self::without_source(
            "the store's file was removed or replaced under the running server; restart it",
        )
    }

    /// The store did not answer in time.
    pub(super) fn deadline(deadline: Duration) -> Self {
        Self::without_source(format!("the store did not answer within {deadline:?}"))
    }

    /// The database said no.
    pub(super) fn database(source: Arc<rusqlite::Error>) -> Self {
        Self {
            what: "the store's database failed".into(),
            source: Some(source),
        }
    }

    fn without_source(what: impl Into<Box<str>>) -> Self {
        Self {
            what: what.into(),
            source: None,
        }
    }
}

/// What a server said, once: the library's errors repeat it in their cause, and name their kind.
#[derive(Debug)]
struct Said(RedisError);

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(error) = self;
        if let (Some(code), Some(detail)) = (error.code(), error.detail()) {
            return write!(f, "{code} {detail}");
        }
        let kind = format!(" - {:?}", error.kind());
        f.write_str(&error.to_string().replace(&kind, ""))
    }
}

impl Error for Said {}

impl fmt::Display for StoreFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for StoreFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let source = self.source.as_deref()?;
        Some(source)
    }
}

/// A store could not be opened; each message says what to do.
#[derive(Debug)]
pub enum OpenError {
    /// Its folder cannot be made or used.
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Its file cannot be made, read or written.
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is something else than a store.
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The file was made by a newer version.
    Newer {
        /// The file.
        path: PathBuf,
        /// The version of its layout.
        found: i64,
        /// The newest layout that is understood here.
        known: i64,
    },
    /// The database could not be opened.
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The machine gave no thread.
    Thread(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder { path, .. } => write!(
                f,
                "the store's folder {} cannot be used; name one in store.path that this user can write to",
                path.display()
            ),
            Self::File { path, .. } => write!(
                f,
                "the store's file {} cannot be read and written; give it to the user that runs gatelet, on a disk that is not read-only",
                path.display()
            ),
            Self::Foreign { path } => write!(
                f,
                "{} is not a gatelet store; move it away, or name another folder in store.path",
                path.display()
            ),
            Self::Newer { path, found, known } => write!(
                f,
                "{} was made by a newer gatelet (layout {found}, this one knows {known}); run that version, or name another folder in store.path",
                path.display()
            ),
            Self::Database { path, .. } => write!(
                f,
                "the store's file {} cannot be opened; see that its disk has room and that no other program holds it",
                path.display()
            ),
            Self::Thread(_) => f.write_str("the machine gives the store no thread"),
        }
    }
}

impl Error for OpenError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Folder { source, .. } | Self::File { source, .. } | Self::Thread(source) => {
                Some(source)
            }
            Self::Database { source, .. } => Some(source),
            Self::Foreign { .. } | Self::Newer { .. } => None,
        }
    }
}
