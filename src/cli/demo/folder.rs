//! A folder that is gone when the demo ends.

use std::fmt::Write as _;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use crate::platform::Entropy;

/// A folder below the system's temporary one, removed with all it holds when this is dropped.
#[derive(Debug)]
pub(super) struct ThrowAway {
    path: PathBuf,
}

impl ThrowAway {
    /// Makes the folder, readable by its owner alone.
    ///
    /// Fails where the folder exists: somebody else's, waiting to be filled with a key, is not used.
    pub(super) fn create(entropy: &dyn Entropy) -> io::Result<Self> {
        let mut random = [0; 8];
        entropy.fill(&mut random)?;
        let mut name = String::from("gatelet-demo-");
        for byte in random {
            let _ = write!(name, "{byte:02x}");
        }
        let path = std::env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self { path })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for ThrowAway {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.path) {
            eprintln!("gatelet: {} is left behind: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::platform::SystemEntropy;

    #[test]
    fn is_private_and_leaves_nothing_behind() {
        let folder = ThrowAway::create(&SystemEntropy).unwrap();
        let path = folder.path().to_owned();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::create_dir(path.join("store")).unwrap();
        fs::write(path.join("store/gatelet.db"), "a key").unwrap();

        drop(folder);

        assert!(!path.exists());
    }

    #[test]
    fn refuses_a_folder_that_is_there() {
        /// The same eight bytes every time.
        struct Stuck;
        impl Entropy for Stuck {
            fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
                bytes.fill(0xd7);
                Ok(())
            }
        }
        let first = ThrowAway::create(&Stuck).unwrap();
        let second = ThrowAway::create(&Stuck).unwrap_err();

        assert_eq!(second.kind(), io::ErrorKind::AlreadyExists);
        assert!(first.path().exists());
    }
}
