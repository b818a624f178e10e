//! API keys: where they are read from, static keys and the key directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use http::HeaderName;
use zeroize::Zeroizing;

use super::super::file;
use super::super::problems::{Findings, Origins, Place, Problem, quoted};
use super::super::raw::{self, ApiKeys};
use super::super::reload::{Entry, Watch};
use super::super::schema::schema_of;
use super::super::values::Rate;
use super::super::{secret, shape};
use super::edge;
use super::routes::scope_set;
use super::upstreams::name_is_good;
use crate::authn;
use crate::gateway::RouteConfig;
use crate::rules::api_key::{Digest, Pepper, StaticKey};
use crate::rules::credential::Kind;
use crate::rules::session::Lifetime;

pub(super) fn api_keys(
    raw: &ApiKeys,
    identity_prefix: Option<&str>,
    secrets: &BTreeMap<String, Zeroizing<String>>,
    watch: &mut Watch,
    findings: &mut Findings,
) -> authn::Config {
    let headers = raw
        .headers
        .iter()
        .filter_map(|name| header(name, identity_prefix, findings))
        .collect();
    prefix(&raw.prefix, findings);
    let mut seen = Seen::default();
    let mut statics = Vec::new();
    for (index, key) in raw.statics.iter().enumerate() {
        let at = format!("api_keys.static[{index}].");
        statics.extend(static_key(key, &at, &mut seen, findings));
    }
    if let Some(path) = &raw.directory {
        directory(Path::new(path), watch, &mut seen, &mut statics, findings);
    }
    let pepper_file = raw.pepper_file.as_deref();
    let pepper = secret::load(
        "api_keys.pepper_file",
        pepper_file,
        secrets,
        watch,
        findings,
    );
    authn::Config {
        headers,
        bearer: raw.bearer,
        prefix: raw.prefix.as_str().into(),
        pepper: pepper.map(Pepper),
        statics,
        session_lifetime: Lifetime::default(),
        own_issuer: Box::default(),
        access_token: None,
        signing_keys: None,
        trusted: Vec::new(),
    }
}

/// Whether the routes that require a key can ever be passed.
pub(super) fn usable(
    keys: &authn::Config,
    store: bool,
    routes: &[(usize, RouteConfig)],
    findings: &mut Findings,
) {
    let required = |route: &RouteConfig| {
        route.policy.all.contains(Kind::ApiKey) || route.policy.any.contains(Kind::ApiKey)
    };
    let Some((index, _)) = routes.iter().find(|(_, route)| required(route)) else {
        return;
    };
    if keys.headers.is_empty() && !keys.bearer {
        findings.missing(
            "api_keys.headers",
            format!("routes[{index}] requires a key, and nothing may carry one"),
            "write headers = [\"x-api-key\"] or bearer = true",
        );
    }
    if !store && keys.statics.is_empty() {
        findings.warn(
            &format!("routes[{index}].require"),
            "a key is required and there is none: without [store], [[api_keys.static]] and \
             api_keys.directory, every request is refused",
        );
    }
}

fn header(
    name: &str,
    identity_prefix: Option<&str>,
    findings: &mut Findings,
) -> Option<HeaderName> {
    const KEY: &str = "api_keys.headers";
    const WAY_OUT: &str = "write it like \"x-api-key\"";
    let Ok(header) = HeaderName::from_bytes(name.as_bytes()) else {
        let message = format!("{} is not a header name", quoted(name));
        findings.problem_with(KEY, message, WAY_OUT);
        return None;
    };
    if header == http::header::AUTHORIZATION {
        let suggestion = "bearer = true reads keys from `Authorization: Bearer`";
        findings.problem_with(KEY, "\"authorization\" is read as bearer only", suggestion);
    } else if let Some(taken) = edge::taken(name) {
        let message = format!("{taken} has a meaning of its own");
        findings.problem_with(KEY, message, WAY_OUT);
    } else if identity_prefix.is_some_and(|prefix| edge::folded(name).starts_with(prefix)) {
        let message = format!("{name} lies below identity.prefix, which callers cannot send");
        findings.problem_with(KEY, message, WAY_OUT);
    }
    Some(header)
}

fn prefix(prefix: &str, findings: &mut Findings) {
    const KEY: &str = "api_keys.prefix";
    const WAY_OUT: &str = "write it like \"gk\"";
    let plain = prefix.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if !plain || !(1..=16).contains(&prefix.len()) {
        let message = format!("{} is not 1 to 16 letters and digits", quoted(prefix));
        findings.problem_with(KEY, message, WAY_OUT);
    } else if prefix == "gs" {
        findings.problem_with(KEY, "session tokens begin with \"gs\"", WAY_OUT);
    } else if prefix == "gr" {
        findings.problem_with(KEY, "refresh tokens begin with \"gr\"", WAY_OUT);
    }
}

/// The names and digests of the keys before this one.
#[derive(Default)]
struct Seen {
    names: BTreeSet<Box<str>>,
    digests: BTreeMap<[u8; 32], Box<str>>,
}

/// Judges one key, whose fields stand at `at`.
fn static_key(
    raw: &raw::StaticKey,
    at: &str,
    seen: &mut Seen,
    findings: &mut Findings,
) -> Option<StaticKey> {
    let scopes = scope_set(&format!("{at}scopes"), &raw.scopes, findings);
    if let Some(owner) = &raw.owner {
        name_is_good(&format!("{at}owner"), owner, findings);
    }
    let name: Box<str> = raw.name.as_deref()?.into();
    if !name_is_good(&format!("{at}name"), &name, findings) {
        return None;
    }
    if !seen.names.insert(name.clone()) {
        let message = format!("another key is called {} too", quoted(&name));
        findings.problem_with(&format!("{at}name"), message, "give each its own name");
    }
    let digest = raw.sha256?.0;
    if let Some(other) = seen.digests.insert(digest, name.clone()) {
        let message = format!("the key called {} has the same digest", quoted(&other));
        let suggestion = "a key belongs to one caller; mint another";
        findings.problem_with(&format!("{at}sha256"), message, suggestion);
    }
    Some(StaticKey {
        name,
        owner: raw.owner.as_deref().map(Into::into),
        sha256: Digest(digest),
        scopes,
        rate_limit: raw.rate_limit.map(Rate::built),
        expires_at: raw.expires_at.map(|moment| moment.0),
    })
}

fn directory(
    path: &Path,
    watch: &mut Watch,
    seen: &mut Seen,
    statics: &mut Vec<StaticKey>,
    findings: &mut Findings,
) {
    let entries = match watch.directory(path) {
        Ok(entries) => entries,
        Err(error) => {
            let message = format!("{} cannot be read: {error}", path.display());
            let suggestion = "name a directory that this user can read";
            return findings.problem_with("api_keys.directory", message, suggestion);
        }
    };
    let schema = schema_of::<raw::StaticKey>();
    for entry in entries {
        match key_file(entry, schema.as_value()) {
            Ok((raw, mut found)) => {
                statics.extend(static_key(&raw, "", seen, &mut found));
                findings.absorb(found);
            }
            Err(problem) => findings.add(*problem),
        }
    }
}

/// Reads one file of the key directory, with what its shape check found.
fn key_file(
    (path, content): Entry,
    schema: &serde_json::Value,
) -> Result<(raw::StaticKey, Findings), Box<Problem>> {
    let whole = |message: String| {
        Box::new(Problem {
            place: Place::File {
                path: path.clone(),
                line: None,
            },
            key: String::new(),
            message,
            suggestion: None,
        })
    };
    let content = content.map_err(|error| whole(format!("cannot be read: {error}")))?;
    let text = std::str::from_utf8(&content).map_err(|_| whole("not UTF-8".to_owned()))?;
    let mut origins = Origins::default();
    let mut values = file::parse(&path, text, &mut origins)?;
    let mut found = Findings::new(origins);
    shape::check(&mut values, schema, &mut found);
    let raw = figment::value::Value::from(values)
        .deserialize()
        .map_err(|_| whole("a value has the wrong type".to_owned()))?;
    Ok((raw, found))
}
