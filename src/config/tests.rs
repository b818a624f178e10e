//! The configuration without its commands: files written to a folder of their own, and loaded.

mod certificates;
mod meaning;
mod problems;
mod sources;
mod tokens;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use super::{Loaded, Overrides, load};

const UPSTREAM: &str = "[[upstreams]]\nname = \"api\"\nurl = \"http://127.0.0.1:3000\"\n";
const ROUTE: &str = "[[routes]]\nprefix = \"/\"\nrequire = [\"api_key\"]\n";
const STORE: &str = "[store]\n";
const DIGEST: &str = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae";

/// A folder with a configuration file in it.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new() -> Self {
        let folder = TempDir::new().unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    /// Loads `text`; its problems come one a line, this folder's path left out.
    fn load_with(&self, text: &str, overrides: &Overrides) -> Result<Loaded, String> {
        let path = self.write("config.toml", text);
        let folder = format!("{}/", self.folder.path().display());
        load(&path, overrides).map_err(|problems| problems.to_string().replace(&folder, ""))
    }

    fn load(&self, text: &str) -> Result<Loaded, String> {
        self.load_with(text, &Overrides::default())
    }
}

fn loaded(text: &str) -> Loaded {
    Home::new().load(text).unwrap()
}

fn problems(text: &str) -> String {
    Home::new().load(text).unwrap_err()
}

fn warnings(text: &str) -> Vec<String> {
    let warnings = loaded(text).warnings;
    warnings
        .iter()
        .map(|warning| format!("{}: {}", warning.key, warning.message))
        .collect()
}

/// A valid file with `lines` put where `[section]` has them.
fn with(lines: &str) -> String {
    format!("{UPSTREAM}{ROUTE}{STORE}{lines}\n")
}

/// A valid file but for a route of these lines, which begins on line 4.
fn with_route(lines: &str) -> String {
    format!("{UPSTREAM}[[routes]]\n{lines}\n{STORE}")
}

fn pepper(value: &str) -> Overrides {
    let name = OsString::from("GATELET__API_KEYS__PEPPER");
    Overrides::from_environment([(name, OsString::from(value))])
}
