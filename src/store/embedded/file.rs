//! The store's folder and files: made for their owner alone, and kept so.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::store::OpenError;

/// The database's name in its folder.
const NAME: &str = "gatelet.db";

/// What SQLite appends to the database's name for the files beside it.
const BESIDE: [&str; 2] = ["-wal", "-shm"];

/// Makes the folder and an empty database file where they are missing, both on disk when this
/// returns, and returns the file's absolute path.
pub(super) fn prepare(folder: &Path) -> Result<PathBuf, OpenError> {
    let in_folder = |source| OpenError::Folder {
        path: folder.to_owned(),
        source,
    };
    make_folder(folder).map_err(in_folder)?;
    // Absolute: SQLite reads a path that begins with `file:` as a URI.
    let path = fs::canonicalize(folder).map_err(in_folder)?.join(NAME);
    let created = OpenOptions::new()
        .write(true)
        // Never opened if it exists: closing a second handle would drop the locks that SQLite
        // holds on the file in this process (a trait of POSIX locks).
        .create_new(true)
        .mode(0o600)
        .open(&path);
    match created {
        Ok(_) => sync_folder(folder).map_err(in_folder)?,
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        Err(error) => return Err(in_folder(error)),
    }
    Ok(path)
}

/// Which file lies at a path, whatever its name; `None` where there is none.
pub(super) fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

/// Whether there is a store in the folder, as far as that can be told: where it cannot, opening
/// it will say why.
pub(super) fn is_there(folder: &Path) -> bool {
    folder.join(NAME).try_exists().unwrap_or(true)
}

/// Takes other users' access from the store's files, and from its folder if it holds nothing else.
///
/// A folder that was made by someone else, such as a mounted volume, may refuse; that is said in
/// the log and no reason to stop. The files themselves must be safe.
pub(super) fn tighten(path: &Path) -> Result<(), OpenError> {
    close_to_others(path, 0o600).map_err(|source| OpenError::File {
        path: path.to_owned(),
        source,
    })?;
    for suffix in BESIDE {
        let mut beside = path.as_os_str().to_owned();
        beside.push(suffix);
        let beside = PathBuf::from(beside);
        match close_to_others(&beside, 0o600) {
            // Another process may have removed it as it closed the store.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            outcome => outcome.map_err(|source| OpenError::File {
                path: beside,
                source,
            })?,
        }
    }
    if let Some(folder) = path.parent()
        && let Err(error) = tighten_folder(folder)
    {
        tracing::warn!(
            folder = %folder.display(),
            %error,
            "other users can write to the store's folder, and its mode cannot be changed"
        );
    }
    Ok(())
}

fn make_folder(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let parent = match folder.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    fs::create_dir_all(parent)?;
    match DirBuilder::new().mode(0o700).create(folder) {
        // Another process was faster.
        Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => Ok(()),
        Err(error) => Err(error),
        Ok(()) => sync_folder(parent),
    }
}

/// Puts a folder's entries on disk: a new file could otherwise be gone after a power cut.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

fn tighten_folder(folder: &Path) -> io::Result<()> {
    let mode = fs::metadata(folder)?.permissions().mode();
    // A folder with anything else in it, such as /tmp, is not ours to close.
    let outcome = if holds_only_the_store(folder)? {
        close_to_others(folder, 0o700)
    } else {
        Ok(())
    };
    let others_write = mode & 0o022 != 0;
    let sticky = mode & 0o1000 != 0;
    if others_write && !sticky {
        outcome
    } else {
        Ok(())
    }
}

fn holds_only_the_store(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if !entry?.file_name().to_string_lossy().starts_with(NAME) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Takes every permission away that is not in `mode`.
fn close_to_others(path: &Path, mode: u32) -> io::Result<()> {
    let present = fs::metadata(path)?.permissions().mode() & 0o7777;
    if present & !mode == 0 {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(present & mode))
}
