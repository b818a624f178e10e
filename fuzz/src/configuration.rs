//! The configuration file, and what is said of one that is wrong.

use std::ffi::OsString;
use std::fs;
use std::sync::LazyLock;

use gatelet::config::{Overrides, load};
use gatelet::rules::time::Timestamp;
use tempfile::TempDir;

/// What stands for a secret in the file.
const SECRET: &str = "Qx7vR2mK9pL4wZ8nT3bY6cJ1";

/// What is a secret in the environment.
const PEPPER: &str = "hV5dN8sG1kF4jW7qA0zX3cM6";

static FOLDER: LazyLock<TempDir> =
    LazyLock::new(|| TempDir::new().unwrap_or_else(|error| panic!("{error}")));

/// The text of a configuration file.
///
/// It is taken or refused, and nothing that is said of it shows a secret.
pub fn configuration(data: &[u8]) {
    let path = FOLDER.path().join("gatelet.toml");
    fs::write(&path, data).unwrap_or_else(|error| panic!("{error}"));
    let pepper = ["GATELET__API_KEYS__PEPPER", PEPPER].map(OsString::from);
    let overrides = Overrides::from_environment([pepper.into()]);
    let said = match load(&path, &overrides) {
        Ok(loaded) => {
            let (again, now) = (load(&path, &overrides), Timestamp::EPOCH);
            assert!(again.is_ok_and(|again| again.warnings(now) == loaded.warnings(now)));
            format!("{loaded:?}")
        }
        Err(problems) => {
            assert!(!problems.list.is_empty());
            format!("{problems}\n{problems:?}")
        }
    };
    assert!(!said.contains(PEPPER), "the pepper is shown: {said}");
    let text = String::from_utf8_lossy(data);
    if said.contains("not TOML") || text.lines().all(|line| is_kept(line)) {
        assert!(!said.contains(SECRET), "a secret is shown: {said}");
    }
}

/// Whether a line says that what it holds is secret: by its key, or as a URL's user.
fn is_kept(line: &str) -> bool {
    let Some(at) = line.find(SECRET) else {
        return true;
    };
    let (before, after) = (&line[..at], &line[at + SECRET.len()..]);
    let bare = !line.contains(['#', '[', ']', '{', '}', '\'', ',', '\\']);
    let Some((key, value)) = before.split_once(" = \"") else {
        return false;
    };
    let is_key = key
        .bytes()
        .all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    let is_secret = ["pepper", "secret", "password", "token", "sha256"]
        .iter()
        .any(|word| key.contains(word));
    let is_whole = value.is_empty() && after == "\"";
    let user = value.split_once("://").map(|(_, user)| user);
    let is_user = user.is_some_and(|user| !user.contains(['@', '/', '?', '"']));
    let is_user = is_user && after.starts_with('@') && after.ends_with('"');
    bare && is_key && ((is_secret && is_whole && !key.ends_with("_file")) || is_user)
}
