//! The other issuers whose access tokens are taken, and their keys.

use std::path::Path;
use std::sync::Arc;

use super::super::problems::{Findings, quoted};
use super::super::raw::{Raw, Trusted, VerifyingAlgorithm};
use super::super::reload::Watch;
use super::super::secret;
use super::tls;
use crate::authn::issuers::{Config, Publication, Source};
use crate::authn::jwt::verifying::{KeySet, VerifyingKey};
use crate::fetch::Location;
use crate::platform::Authorities;
use crate::rules::jwt::Algorithm;

/// One of the three ways to name an issuer's keys.
const SOURCES: &str = "name one of jwks_url, jwks_file and secret_file";

pub(super) fn issuers(raw: &Raw, watch: &mut Watch, findings: &mut Findings) -> Vec<Config> {
    let Some(section) = &raw.access_token else {
        return Vec::new();
    };
    let mut configs: Vec<Config> = Vec::new();
    for (index, trusted) in section.trusted.iter().enumerate() {
        let at = format!("access_token.trusted[{index}]");
        let keys = keys(trusted, &at, watch, findings);
        // One that is missing was reported by the shape check.
        let Some(name) = trusted.issuer.as_deref() else {
            continue;
        };
        let known = configs.iter().any(|other| *other.issuer == *name);
        if name.is_empty() || known || name == section.issuer {
            let message = match name {
                "" => "it is empty".to_owned(),
                name if known => format!("{} is named twice", quoted(name)),
                name => format!("{} is gatelet's own", quoted(name)),
            };
            let suggestion = "write the `iss` of its tokens";
            findings.problem_with(&format!("{at}.issuer"), message, suggestion);
        }
        if trusted.audience.is_empty() || trusted.audience.iter().any(String::is_empty) {
            let suggestion = "write it like [\"api\"]";
            findings.problem_with(&format!("{at}.audience"), "nobody is named", suggestion);
        }
        configs.extend(keys.map(|keys| {
            Config {
                issuer: name.into(),
                audience: trusted
                    .audience
                    .iter()
                    .map(|name| name.as_str().into())
                    .collect(),
                keys,
            }
        }));
    }
    configs
}

fn keys(trusted: &Trusted, at: &str, watch: &mut Watch, findings: &mut Findings) -> Option<Source> {
    let algorithms = algorithms(trusted, at, findings);
    if trusted.ca_file.is_some() && trusted.jwks_url.is_none() {
        let message = "it vouches for a server, and there is no jwks_url";
        findings.problem_with(&format!("{at}.ca_file"), message, "leave it out");
    }
    match (&trusted.jwks_url, &trusted.jwks_file, &trusted.secret_file) {
        (Some(url), None, None) => {
            let authorities = authorities(trusted, at, watch, findings)?;
            match Location::parse(url, authorities) {
                Ok(location) => Some(Source::Published(Publication {
                    location,
                    algorithms,
                })),
                Err(bad) => {
                    // A URL with a user may hold a password as well.
                    let message = if url.contains('@') {
                        bad.to_string()
                    } else {
                        format!("{}: {bad}", quoted(url))
                    };
                    let suggestion =
                        "write it like \"https://id.example.com/.well-known/jwks.json\"";
                    findings.problem_with(&format!("{at}.jwks_url"), message, suggestion);
                    None
                }
            }
        }
        (None, Some(path), None) => {
            let key = format!("{at}.jwks_file");
            let text = tls::file(&key, Some(path), watch, findings)?;
            match KeySet::from_jwks(&text, &algorithms) {
                Ok((keys, ignored)) if keys.is_empty() => {
                    let why = ignored.first().map(|reason| format!(": {reason}"));
                    let why = why.unwrap_or_default();
                    findings.problem(&key, format!("{path} has no key that can be used{why}"));
                    None
                }
                Ok((keys, ignored)) => {
                    for reason in ignored {
                        findings.warn(&key, format!("a key of {path} is not used: {reason}"));
                    }
                    Some(Source::Given(Arc::new(keys)))
                }
                Err(bad) => {
                    findings.problem(&key, format!("{path}: {bad}"));
                    None
                }
            }
        }
        (None, None, Some(path)) => {
            let key = format!("{at}.secret_file");
            let secret = secret::from_file(&key, Path::new(path), watch, findings)?;
            match VerifyingKey::from_secret(&secret) {
                Ok(secret) => Some(Source::Given(Arc::new(KeySet::new([secret])))),
                Err(short) => {
                    let suggestion = "openssl rand -hex 32 makes one";
                    findings.problem_with(&key, short.to_string(), suggestion);
                    None
                }
            }
        }
        (None, None, None) => {
            findings.missing(at, "it has no keys", SOURCES);
            None
        }
        _ => {
            findings.problem_with(at, "its keys are named more than once", SOURCES);
            None
        }
    }
}

/// The algorithms of public keys, or none for a secret: it is for one alone.
fn algorithms(trusted: &Trusted, at: &str, findings: &mut Findings) -> Vec<Algorithm> {
    let key = format!("{at}.algorithms");
    let with_secret = trusted.secret_file.is_some();
    let misfit =
        |algorithm: &&VerifyingAlgorithm| (**algorithm == VerifyingAlgorithm::Hs256) != with_secret;
    if trusted
        .algorithms
        .iter()
        .any(|algorithm| misfit(&algorithm))
    {
        // Whoever knows a public key could sign with it as a secret.
        let (message, suggestion) = if with_secret {
            (
                "a secret is for HS256 alone",
                "write [\"HS256\"], or leave it out",
            )
        } else {
            (
                "HS256 is for a secret alone",
                "write it like [\"RS256\"], or leave it out",
            )
        };
        findings.problem_with(&key, message, suggestion);
    }
    let all = [Algorithm::Es256, Algorithm::EdDsa, Algorithm::Rs256];
    if trusted.algorithms.is_empty() {
        return all.into();
    }
    trusted
        .algorithms
        .iter()
        .map(|algorithm| match algorithm {
            VerifyingAlgorithm::Es256 => Algorithm::Es256,
            VerifyingAlgorithm::EdDsa => Algorithm::EdDsa,
            VerifyingAlgorithm::Rs256 => Algorithm::Rs256,
            VerifyingAlgorithm::Hs256 => Algorithm::Hs256,
        })
        .collect()
}

fn authorities(
    trusted: &Trusted,
    at: &str,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Option<Authorities> {
    match &trusted.ca_file {
        None => Some(Authorities::OfMachine),
        Some(path) => tls::authorities(&format!("{at}.ca_file"), path, watch, findings),
    }
}
