//! Where what outlives the process is kept.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use zeroize::Zeroizing;

use super::super::problems::{Findings, quoted};
use super::super::raw::{Store, StoreKind};
use super::super::reload::Watch;
use super::super::secret;
use super::tls;
use super::upstreams::{host_name, split_port};
use crate::platform::Authorities;
use crate::store::{Address, Config, RedisConfig, Topology};

/// Where servers listen if nothing else is said.
const PORT: u16 = 6379;

/// Where Sentinels do.
const SENTINEL_PORT: u16 = 26379;

pub(in crate::config) fn store(
    section: &Store,
    secrets: &BTreeMap<String, Zeroizing<String>>,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Config {
    if section.path.is_empty() || section.path.contains('\0') {
        let suggestion = "name a folder, such as \"gatelet-data\"";
        findings.problem_with("store.path", "not a path", suggestion);
    }
    match section.kind {
        StoreKind::Embedded => {
            if !section.urls.is_empty() {
                let suggestion = "write kind = \"redis\", or leave it out";
                findings.problem_with("store.urls", "an embedded store has no server", suggestion);
            }
            Config::Embedded {
                path: PathBuf::from(&section.path),
            }
        }
        StoreKind::Redis => Config::Redis(redis(section, secrets, watch, findings)),
    }
}

fn redis(
    section: &Store,
    secrets: &BTreeMap<String, Zeroizing<String>>,
    watch: &mut Watch,
    findings: &mut Findings,
) -> RedisConfig {
    const URLS: &str = "store.urls";
    let topology = match (section.cluster, section.sentinel_master.as_str()) {
        (false, "") => Topology::Single,
        (true, "") => Topology::Cluster,
        (false, name) => Topology::Sentinel(name.into()),
        (true, name) => {
            let suggestion = "a Cluster needs no Sentinels; leave one of the two out";
            let message = "it is named for a Cluster";
            findings.problem_with("store.sentinel_master", message, suggestion);
            Topology::Sentinel(name.into())
        }
    };
    if section.urls.is_empty() {
        let suggestion = "write urls = [\"redis://127.0.0.1:6379\"]";
        findings.missing(URLS, "there is no server", suggestion);
    }
    let usual = match topology {
        Topology::Sentinel(_) => SENTINEL_PORT,
        Topology::Single | Topology::Cluster => PORT,
    };
    let mut addresses = Vec::new();
    let mut tls = None;
    for url in &section.urls {
        match parse(url, usual) {
            Ok((secure, address)) => {
                if tls.replace(secure).is_some_and(|before| before != secure) {
                    let suggestion = "write all of them with rediss://, or all with redis://";
                    findings.problem_with(
                        URLS,
                        "some are spoken to over TLS and some not",
                        suggestion,
                    );
                }
                addresses.push(address);
            }
            Err(message) => {
                // A URL with a user may hold a password as well.
                let message = if url.contains('@') {
                    message.to_owned()
                } else {
                    format!("{}: {message}", quoted(url))
                };
                findings.problem_with(URLS, message, "write it like \"redis://127.0.0.1:6379\"");
            }
        }
    }
    let tls = tls.unwrap_or(false);
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    if section.key_prefix.is_empty() || !section.key_prefix.chars().all(good) {
        let suggestion =
            "write letters, digits, \"-\", \"_\", \".\" and \":\", such as \"gatelet\"";
        findings.problem_with("store.key_prefix", "not a prefix", suggestion);
    }
    let password_file = section.password_file.as_deref();
    let password = secret::load(
        "store.password_file",
        password_file,
        secrets,
        watch,
        findings,
    );
    let password = password.and_then(|bytes| {
        let text = String::from_utf8(bytes.to_vec());
        if text.is_err() {
            findings.problem("store.password_file", "the password is not UTF-8");
        }
        text.ok().map(|text| Arc::new(Zeroizing::new(text)))
    });
    if !section.username.is_empty() && password.is_none() {
        let suggestion = "name it in password_file";
        findings.missing("store.username", "a user needs a password", suggestion);
    }
    RedisConfig {
        addresses,
        topology,
        tls,
        authorities: section
            .ca_file
            .as_deref()
            .and_then(|path| authorities(path, tls, watch, findings)),
        username: (!section.username.is_empty()).then(|| section.username.as_str().into()),
        password,
        key_prefix: section.key_prefix.as_str().into(),
    }
}

fn authorities(
    path: &str,
    tls: bool,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Option<Arc<[u8]>> {
    const KEY: &str = "store.ca_file";
    if !tls {
        let suggestion = "write rediss:// in urls, or leave it out";
        findings.problem_with(KEY, "the servers are not spoken to over TLS", suggestion);
    }
    let text = tls::file(KEY, Some(path), watch, findings)?;
    if Authorities::from_pem(&text).is_none() {
        findings.problem(KEY, format!("{path} holds no certificates in PEM"));
        return None;
    }
    Some(text.to_vec().into())
}

/// Whether TLS is meant, and the server.
fn parse(url: &str, usual: u16) -> Result<(bool, Address), &'static str> {
    let (scheme, rest) = url.split_once("://").ok_or("not a URL")?;
    let tls = match scheme.to_ascii_lowercase().as_str() {
        "redis" => false,
        "rediss" => true,
        _ => return Err("not a URL of a Redis server"),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    if authority.contains('@') {
        return Err("a user or a password has no place in it; write username and password_file");
    }
    if authority.contains(['/', '?', '#']) {
        return Err("it names more than a server; databases other than the first are not used");
    }
    let (host, port) = split_port(authority, usual).ok_or("the port is not one")?;
    let host = host_name(host).ok_or("the host is not one")?;
    Ok((tls, Address { host, port }))
}
