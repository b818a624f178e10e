//! The routes that gatelet answers itself, and how long what they issue lives.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::super::problems::{Findings, quoted};
use super::super::raw::{self, AccessToken, Algorithm, Auth, Raw, RefreshCookie};
use super::super::reload::Watch;
use super::super::secret;
use super::super::warnings;
use super::routes::{path_key, scope_set};
use super::{edge, positive};
use crate::authn::jwt::signing::SigningKey;
use crate::authn::signers::{LONGEST_LIFETIME, Ring};
use crate::authn::{access_token, families};
use crate::gateway::RouteConfig;
use crate::rules::cookie::{Cookie, SameSite};
use crate::rules::credential::Kind;
use crate::rules::jwt::SigningAlgorithm;
use crate::rules::principal::is_grantable;
use crate::rules::route::{MatchOptions, RouteTable};
use crate::rules::session::Lifetime;
use crate::rules::siwe;
use crate::tokens::{Action, Config, OwnRoute, Wallet};

/// The own routes; without a store, nothing can be issued or ended.
pub(super) fn tokens(raw: &Raw, findings: &mut Findings) -> Config {
    let prefix = prefix(&raw.auth, findings);
    let session_scopes = scope_set("session_token.scopes", &raw.session_token.scopes, findings);
    let mut routes = Vec::new();
    for (name, path, actions) in own_paths(&raw.auth, prefix) {
        let key = format!("auth.paths.{name}");
        let written = raw.auth.paths.written(name);
        if !written.starts_with('/') {
            let suggestion = "write it like \"/sign-in\", or like \"//sign-in\" from the root";
            let message = format!("{} does not begin with \"/\"", quoted(written));
            findings.problem_with(&key, message, suggestion);
            continue;
        }
        if let Err(why) = judge_path(&path, name == "sessions") {
            let suggestion = "write it like \"/sign-in\", or like \"//sign-in\" from the root";
            findings.problem_with(&key, format!("{} {why}", quoted(&path)), suggestion);
            continue;
        }
        for action in actions {
            let route = match action {
                Action::EndSession => OwnRoute::new(action, &format!("{path}/{{sessionId}}")),
                _ => OwnRoute::new(action, &path),
            };
            let is_there = match action {
                Action::Nonce | Action::SignIn => raw.wallet.is_some() && raw.store.is_some(),
                Action::Refresh { .. } | Action::LogOut | Action::Keys => issues(raw),
                Action::ShowSession | Action::Introspect => raw.store.is_some() || trusts(raw),
                Action::IssueSession | Action::EndSession => raw.store.is_some(),
            };
            routes.push((key.clone(), route, is_there));
        }
    }
    distinct(&routes, findings);
    let routes = routes.into_iter().filter(|(_, _, is_there)| *is_there);
    let lifetime = families::Lifetime {
        ttl: positive("refresh_token.ttl", raw.refresh_token.ttl, findings),
        grace: positive("refresh_token.grace", raw.refresh_token.grace, findings),
    };
    if lifetime.grace >= lifetime.ttl {
        let message = "it is not shorter than refresh_token.ttl";
        findings.problem_with("refresh_token.grace", message, "write it like \"10s\"");
    }
    let cookie = cookie(&raw.refresh_token.cookie, findings);
    let issuer = raw.access_token.as_ref().map(|section| &*section.issuer);
    if let Some((_, host)) = issuer.and_then(|issuer| issuer.split_once("://"))
        && cookie.same_site == SameSite::Strict
    {
        let host = host.split('/').next().unwrap_or(host);
        warnings::strict_cookie(host, &raw.auth.csrf_origins, findings);
    }
    for name in &raw.refresh_token.cookie.legacy_names {
        let legacy = Cookie {
            name: name.as_str().into(),
            ..cookie.clone()
        };
        if legacy.problems().iter().any(|(key, ..)| *key == "name") {
            let message = format!("{} is not the name of a cookie", quoted(name));
            let suggestion = "write it as the old cookie is called";
            findings.problem_with("refresh_token.cookie.legacy_names", message, suggestion);
        }
    }
    for (key, scopes) in [
        ("session_token.scopes", Some(&raw.session_token.scopes)),
        (
            "access_token.scopes",
            raw.access_token.as_ref().map(|section| &section.scopes),
        ),
    ] {
        for name in scopes
            .into_iter()
            .flatten()
            .filter(|name| !is_grantable(name))
        {
            let message = format!("{} is never granted to a token", quoted(name));
            findings.problem_with(key, message, "leave it out");
        }
    }
    let legacy_cookies = raw.refresh_token.cookie.legacy_names.iter();
    Config {
        routes: routes.map(|(_, route, _)| route).collect(),
        envelope: envelope(&raw.auth, findings),
        session_scopes,
        wallet: raw
            .wallet
            .as_ref()
            .map(|wallet| self::wallet(wallet, findings)),
        refresh: lifetime,
        cookie,
        legacy_cookies: legacy_cookies.map(|name| name.as_str().into()).collect(),
        csrf_origins: edge::origins("auth.csrf_origins", &raw.auth.csrf_origins, findings),
    }
}

/// Whether access tokens are issued here.
///
/// Without wallets to sign in with they follow from refresh tokens that were taken over. Where other
/// issuers are named instead, nothing of that is meant.
fn issues(raw: &Raw) -> bool {
    let issues = raw.wallet.is_some() || (raw.access_token.is_some() && !trusts(raw));
    issues && raw.store.is_some()
}

/// Whether other issuers' access tokens are taken.
fn trusts(raw: &Raw) -> bool {
    let section = raw.access_token.as_ref();
    section.is_some_and(|section| !section.trusted.is_empty())
}

/// The `iss` of the tokens that are issued here, or would be.
pub(super) fn own_issuer(raw: &Raw) -> Box<str> {
    let section = raw.access_token.as_ref();
    let default = || AccessToken::default().issuer;
    section
        .map_or_else(default, |section| section.issuer.clone())
        .into()
}

/// How access tokens are issued, and the keys that are named for it.
pub(super) fn access_token(
    raw: &Raw,
    watch: &mut Watch,
    findings: &mut Findings,
) -> (Option<access_token::Config>, Option<Arc<Ring>>) {
    let default = AccessToken::default();
    let section = raw.access_token.as_ref().unwrap_or(&default);
    for (key, there) in [
        ("wallet", raw.wallet.is_some()),
        ("access_token", raw.access_token.is_some() && !trusts(raw)),
    ] {
        if there && raw.store.is_none() {
            let suggestion = "add [store] with path = \"gatelet-data\"";
            findings.missing(key, "sign-in needs a store", suggestion);
        }
    }
    let ttl = positive("access_token.ttl", section.ttl, findings);
    if ttl > LONGEST_LIFETIME {
        let message = format!("{} is too long; the most is 24h", section.ttl);
        findings.problem_with("access_token.ttl", message, "write it like \"15m\"");
    }
    if section.issuer.is_empty() {
        let suggestion = "write it like \"https://api.example.com\"";
        findings.problem_with("access_token.issuer", "it is empty", suggestion);
    }
    if section.audience.is_empty() || section.audience.iter().any(String::is_empty) {
        let suggestion = "write it like [\"api\"]";
        findings.problem_with("access_token.audience", "nobody is named", suggestion);
    }
    let config = access_token::Config {
        issuer: section.issuer.as_str().into(),
        audience: section
            .audience
            .iter()
            .map(|name| name.as_str().into())
            .collect(),
        ttl,
        algorithm: match section.algorithm {
            Algorithm::Es256 => SigningAlgorithm::Es256,
            Algorithm::EdDsa => SigningAlgorithm::EdDsa,
            Algorithm::Rs256 => SigningAlgorithm::Rs256,
        },
        scopes: scope_set("access_token.scopes", &section.scopes, findings),
    };
    let mut keys = Vec::new();
    for path in &section.signing_key_files {
        const KEY: &str = "access_token.signing_key_files";
        match watch.file(Path::new(path)) {
            Ok(text) => match SigningKey::from_pem(&text) {
                Ok(key) => keys.push(Arc::new(key)),
                Err(bad) => findings.problem(KEY, format!("{path}: {bad}")),
            },
            Err(error) => secret::unreadable(KEY, Path::new(path), &error, findings),
        }
    }
    let issued = issues(raw).then_some(config);
    (issued, Ring::of(&keys).map(Arc::new))
}

fn wallet(section: &raw::Wallet, findings: &mut Findings) -> Wallet {
    if section.domains.is_empty() {
        let suggestion = "write domains = [\"app.example.com\"]";
        findings.missing(
            "wallet.domains",
            "there is no domain to sign in to",
            suggestion,
        );
    }
    for domain in section
        .domains
        .iter()
        .filter(|domain| !siwe::is_domain(domain))
    {
        let message = format!("{} is not a domain", quoted(domain));
        let suggestion =
            "write it like \"app.example.com\" or \"localhost:8080\", without a scheme";
        findings.problem_with("wallet.domains", message, suggestion);
    }
    if section.chains.is_empty() {
        findings.problem_with("wallet.chains", "there is no chain", "write chains = [1]");
    }
    if let Some(statement) = &section.statement
        && !siwe::is_statement(statement)
    {
        let message = "a sign-in message cannot hold it (EIP-4361)";
        let suggestion = "write one line of plain ASCII, without quotes";
        findings.problem_with("wallet.statement", message, suggestion);
    }
    Wallet {
        domains: section
            .domains
            .iter()
            .map(|domain| domain.as_str().into())
            .collect(),
        chains: section.chains.clone(),
        statement: section.statement.as_deref().map(Into::into),
        nonce_ttl: positive("wallet.nonce_ttl", section.nonce_ttl, findings),
    }
}

fn cookie(section: &RefreshCookie, findings: &mut Findings) -> Cookie {
    let cookie = Cookie {
        name: section.name.as_str().into(),
        path: section.path.as_str().into(),
        domain: (!section.domain.is_empty()).then(|| section.domain.as_str().into()),
        secure: section.secure,
        same_site: match section.same_site {
            raw::SameSite::Strict => SameSite::Strict,
            raw::SameSite::Lax => SameSite::Lax,
            raw::SameSite::None => SameSite::None,
        },
        partitioned: section.partitioned,
    };
    for (key, message, suggestion) in cookie.problems() {
        findings.problem_with(&format!("refresh_token.cookie.{key}"), message, suggestion);
    }
    cookie
}

pub(super) fn session_lifetime(raw: &Raw, findings: &mut Findings) -> Lifetime {
    let section = &raw.session_token;
    let lifetime = Lifetime {
        idle: positive("session_token.idle", section.idle, findings),
        max: positive("session_token.max", section.max, findings),
    };
    if lifetime.idle < Duration::from_secs(1) {
        let message = format!("{} is shorter than a second", section.idle);
        findings.problem_with("session_token.idle", message, "write it like \"24h\"");
    }
    if lifetime.idle > lifetime.max {
        let message = format!("{} is longer than session_token.max", section.idle);
        findings.problem_with(
            "session_token.idle",
            message,
            "make it shorter, or max longer",
        );
    }
    lifetime
}

/// Whether the routes that require a token can ever be passed, and none hides one of the own.
///
/// `access` tells whether there are access tokens, whoever issues them.
pub(super) fn usable(
    own: &[OwnRoute],
    store: bool,
    access: bool,
    routes: &[(usize, RouteConfig)],
    matching: MatchOptions,
    findings: &mut Findings,
) {
    for (index, route) in routes {
        if store && !access && route.policy.listed().contains(Kind::AccessToken) {
            let key = format!("routes[{index}].require");
            let suggestion =
                "add [wallet] with domains = [\"app.example.com\"], or [[access_token.trusted]]";
            findings.missing(&key, "access tokens are not configured", suggestion);
        }
        let listed = route.policy.listed();
        let kept =
            listed.contains(Kind::SessionToken) || (listed.contains(Kind::AccessToken) && !access);
        if !store && kept {
            let key = format!("routes[{index}].require");
            let suggestion = "add [store] with path = \"gatelet-data\"";
            findings.missing(&key, "tokens need a store to be kept in", suggestion);
        }
    }
    let all = own.iter().map(|route| (&route.pattern, &*route.methods));
    let all = all.chain(
        routes
            .iter()
            .map(|(_, route)| (&route.pattern, &*route.methods)),
    );
    let Err(ties) = RouteTable::build(all, matching) else {
        return;
    };
    for tie in ties {
        let (Some(taken), Some((index, route))) = (
            own.get(tie.first),
            tie.second
                .checked_sub(own.len())
                .and_then(|place| routes.get(place)),
        ) else {
            continue;
        };
        let message = format!("gatelet answers {} itself", taken.pattern.path.text());
        let suggestion = "remove the route, or move gatelet's own with [auth.paths]";
        findings.problem_with(&path_key(*index, &route.pattern), message, suggestion);
    }
}

fn own_paths(auth: &Auth, prefix: &str) -> [(&'static str, String, Vec<Action>); 8] {
    let below = |path: &str| match path.strip_prefix('/') {
        Some(from_root) if from_root.starts_with('/') => from_root.to_owned(),
        _ => format!("{prefix}{path}"),
    };
    let paths = &auth.paths;
    let refresh = Action::Refresh {
        needs_key: auth.refresh_needs_key,
    };
    let sessions = vec![Action::IssueSession, Action::EndSession];
    let introspect = vec![Action::Introspect];
    [
        ("nonce", below(&paths.nonce), vec![Action::Nonce]),
        ("verify", below(&paths.verify), vec![Action::SignIn]),
        ("refresh", below(&paths.refresh), vec![refresh]),
        ("logout", below(&paths.logout), vec![Action::LogOut]),
        ("jwks", below(&paths.jwks), vec![Action::Keys]),
        ("sessions", below(&paths.sessions), sessions),
        ("session", below(&paths.session), vec![Action::ShowSession]),
        ("introspect", below(&paths.introspect), introspect),
    ]
}

/// The prefix without a slash at its end; of a bad one nothing, so that it is reported once.
fn prefix<'a>(auth: &'a Auth, findings: &mut Findings) -> &'a str {
    let prefix = auth.prefix.trim_end_matches('/');
    match judge_path(prefix, false) {
        _ if auth.prefix == "/" => "",
        Ok(()) => prefix,
        Err(why) => {
            let message = format!("{} {why}", quoted(&auth.prefix));
            findings.problem_with("auth.prefix", message, "write it like \"/api/v1/auth\"");
            ""
        }
    }
}

fn judge_path(path: &str, may_name_subject: bool) -> Result<(), &'static str> {
    if !path.starts_with('/') {
        return Err("does not begin with \"/\"");
    }
    for segment in path[1..].split('/') {
        if segment == "{subject}" && may_name_subject {
            continue;
        }
        if segment.is_empty() || segment == "." || segment == ".." {
            return Err("has an empty segment, or one of dots");
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte);
        if !segment.bytes().all(plain) {
            return Err("holds what a plain path does not");
        }
    }
    if path.matches("{subject}").count() > 1 {
        return Err("names the subject twice");
    }
    Ok(())
}

fn envelope(auth: &Auth, findings: &mut Findings) -> Option<Box<str>> {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !auth.envelope.chars().all(plain) {
        let message = format!(
            "{} is not letters, digits and \"_\"",
            quoted(&auth.envelope)
        );
        findings.problem_with("auth.envelope", message, "write it like \"data\"");
    }
    (!auth.envelope.is_empty()).then(|| auth.envelope.as_str().into())
}

/// No two own routes may be one.
fn distinct(routes: &[(String, OwnRoute, bool)], findings: &mut Findings) {
    let mut seen = BTreeMap::new();
    for (key, route, _) in routes {
        let place = (route.pattern.path.text(), route.methods[0].as_str());
        if let Some(first) = seen.insert(place, key) {
            let message = format!("{first} is at the same path");
            findings.problem_with(key, message, "give each its own path");
        }
    }
}
