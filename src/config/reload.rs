//! What a configuration was read from, and whether that changed since.
//!
//! Judged by content: Kubernetes swaps a symbolic link above the files, which leaves every path as
//! it was, and a time stamp says nothing about that. When to ask, and what to do then, is the
//! caller's affair.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Config;

/// No file that belongs to a configuration is larger.
const LARGEST_FILE: u64 = 16 << 20;

type Fingerprint = [u8; 32];

/// The files and directories that a configuration was read from, with what they held.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    sources: Vec<Source>,
}

#[derive(Clone, Debug)]
struct Source {
    path: PathBuf,
    kind: Kind,
    seen: Fingerprint,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    File,
    Directory,
}

/// A file of a directory, and what it holds.
pub(super) type Entry = (PathBuf, io::Result<Zeroizing<Vec<u8>>>);

impl Watch {
    /// Whether any of it holds something else than when it was last asked.
    ///
    /// Blocks on the file system. A change is told once, so that an invalid file is not read again
    /// until it changes again.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        for source in &mut self.sources {
            let now = source.kind.fingerprint(&source.path);
            changed |= now != source.seen;
            source.seen = now;
        }
        changed
    }

    /// Reads a file, and watches it from the content read here on.
    pub(super) fn file(&mut self, path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
        let content = read(path);
        self.watch(path, Kind::File, file_fingerprint(&content));
        content
    }

    /// Reads the files of a directory in the order of their names, and watches them.
    pub(super) fn directory(&mut self, path: &Path) -> io::Result<Vec<Entry>> {
        let entries = read_directory(path);
        self.watch(path, Kind::Directory, directory_fingerprint(&entries));
        entries
    }

    fn watch(&mut self, path: &Path, kind: Kind, seen: Fingerprint) {
        let path = path.to_owned();
        self.sources.push(Source { path, kind, seen });
    }
}

impl Kind {
    fn fingerprint(self, path: &Path) -> Fingerprint {
        match self {
            Self::File => file_fingerprint(&read(path)),
            Self::Directory => directory_fingerprint(&read_directory(path)),
        }
    }
}

/// The keys whose change from what the process began with takes effect only with a restart.
pub fn fixed_changes(began: &Config, new: &Config) -> Vec<String> {
    let keys = [
        ("listen.proxy", began.listen.proxy != new.listen.proxy),
        (
            "listen.telemetry",
            began.listen.telemetry != new.listen.telemetry,
        ),
        (
            "listen.tls",
            began.listen.tls.is_some() != new.listen.tls.is_some(),
        ),
        ("runtime.workers", began.workers != new.workers),
        ("store", began.store != new.store),
        ("api_keys.pepper_file", pepper(began) != pepper(new)),
        ("cache.capacity", began.cache.capacity != new.cache.capacity),
        ("log.format", began.log.format != new.log.format),
        ("log.access", began.log.access != new.log.access),
    ];
    let changed = keys.into_iter().filter(|(_, differs)| *differs);
    changed.map(|(key, _)| key.to_owned()).collect()
}

/// What digests are keyed with; those in the store know no other.
fn pepper(config: &Config) -> Option<&[u8]> {
    config.authn.pepper.as_ref().map(|pepper| &pepper.0[..])
}

fn read(path: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    // A pipe or a device would be emptied, or would block, each time it is looked at.
    let metadata = fs::metadata(path)?;
    if metadata.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !metadata.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a file"));
    }
    if metadata.len() > LARGEST_FILE {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    // Room for all of it at once: growing would leave copies behind that nothing wipes.
    let room = usize::try_from(metadata.len()).unwrap_or_default() + 1;
    let mut content = Zeroizing::new(Vec::with_capacity(room));
    File::open(path)?
        .take(LARGEST_FILE)
        .read_to_end(&mut content)?;
    Ok(content)
}

/// The regular files of a directory, symbolic links followed.
///
/// What begins with a dot is skipped: Kubernetes keeps `..data` and its generations beside the
/// links it shows.
fn read_directory(path: &Path) -> io::Result<Vec<Entry>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        if !hidden && !entry.path().is_dir() {
            paths.push(entry.path());
        }
    }
    paths.sort_unstable();
    Ok(paths
        .into_iter()
        .map(|path| {
            let content = read(&path);
            (path, content)
        })
        .collect())
}

fn file_fingerprint(content: &io::Result<Zeroizing<Vec<u8>>>) -> Fingerprint {
    let mut hash = Sha256::new();
    absorb(&mut hash, content);
    hash.finalize().into()
}

fn directory_fingerprint(entries: &io::Result<Vec<Entry>>) -> Fingerprint {
    let mut hash = Sha256::new();
    match entries {
        Ok(entries) => {
            for (path, content) in entries {
                let name = path.as_os_str().as_encoded_bytes();
                hash.update(name.len().to_le_bytes());
                hash.update(name);
                absorb(&mut hash, content);
            }
        }
        Err(error) => hash.update(error.kind().to_string()),
    }
    hash.finalize().into()
}

fn absorb(hash: &mut Sha256, content: &io::Result<Zeroizing<Vec<u8>>>) {
    match content {
        Ok(bytes) => {
            hash.update(b"+");
            hash.update(bytes.len().to_le_bytes());
            hash.update(bytes.as_slice());
        }
        Err(error) => {
            hash.update(b"-");
            hash.update(error.kind().to_string());
        }
    }
}
