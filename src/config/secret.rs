//! Secrets from files and from the environment.
//!
//! What they hold is never part of a problem, a log line or a `Debug`.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::problems::Findings;
use super::reload::Watch;

/// A shorter secret can be guessed from the digests it is meant to protect.
const SHORTEST: usize = 16;

/// The secret whose file `key` names: from the environment, else from the file at `path`.
///
/// A newline at its end, which most editors leave, is not part of it.
pub(super) fn load(
    key: &str,
    path: Option<&str>,
    environment: &BTreeMap<String, Zeroizing<String>>,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Option<Zeroizing<Vec<u8>>> {
    let secret = match (environment.get(key), path) {
        (Some(text), _) => Zeroizing::new(text.as_bytes().to_vec()),
        (None, Some(path)) => from_file(key, Path::new(path), watch, findings)?,
        (None, None) => return None,
    };
    if secret.is_empty() {
        let suggestion = "write at least 16 random bytes to it, or leave it out";
        findings.problem_with(key, "the secret is empty", suggestion);
        return None;
    }
    if secret.len() < SHORTEST {
        findings.warn(
            key,
            "the secret is shorter than 16 bytes and can be guessed",
        );
    }
    Some(secret)
}

/// Reports that the file at `path`, which `key` names, could not be read.
///
/// What is no path may be what should stand in the file, and is not repeated.
pub(super) fn unreadable(key: &str, path: &Path, error: &io::Error, findings: &mut Findings) {
    let name = path.display().to_string();
    if name.contains("-----BEGIN") || name.contains('\n') {
        let message = "this is no path of a file, but maybe what stands in one";
        let suggestion = "write that to a file, and its path here";
        return findings.problem_with(key, message, suggestion);
    }
    let suggestion = if path.is_relative() {
        "name a file that this user can read; it is looked for below the working directory"
    } else {
        "name a file that this user can read"
    };
    findings.problem_with(key, format!("{name} cannot be read: {error}"), suggestion);
}

/// A newline at its end, which most editors leave, is not part of it.
pub(super) fn from_file(
    key: &str,
    path: &Path,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Option<Zeroizing<Vec<u8>>> {
    let mut secret = match watch.file(path) {
        Ok(secret) => secret,
        Err(error) => {
            unreadable(key, path, &error, findings);
            return None;
        }
    };
    if secret.last() == Some(&b'\n') {
        secret.pop();
        if secret.last() == Some(&b'\r') {
            secret.pop();
        }
    }
    let others_read = path
        .metadata()
        .is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0);
    if others_read {
        let message = format!(
            "{} can be read by every user of this machine",
            path.display()
        );
        findings.warn(key, message);
    }
    Some(secret)
}
