//! The routes that gatelet answers itself, and how long what they issue lives.

use std::collections::BTreeMap;

use super::super::problems::{Findings, quoted};
use super::super::raw::{Auth, Raw};
use super::positive;
use super::routes::{path_key, scope_set};
use crate::gateway::RouteConfig;
use crate::rules::credential::Kind;
use crate::rules::route::{MatchOptions, RouteTable};
use crate::rules::session::Lifetime;
use crate::tokens::{Action, Config, OwnRoute};

/// The own routes; there are none without a store, since nothing could be issued.
pub(super) fn tokens(raw: &Raw, findings: &mut Findings) -> Config {
    let prefix = prefix(&raw.auth, findings);
    let session_scopes = scope_set("session_token.scopes", &raw.session_token.scopes, findings);
    let mut routes = Vec::new();
    for (name, path, actions) in own_paths(&raw.auth, prefix) {
        let key = format!("auth.paths.{name}");
        if let Err(why) = judge_path(&path, name == "sessions") {
            let suggestion = "write it like \"/sign-in\", or like \"//sign-in\" from the root";
            findings.problem_with(&key, format!("{} {why}", quoted(&path)), suggestion);
            continue;
        }
        for action in actions {
            let route = match action {
                Action::EndSession => OwnRoute::new(*action, &format!("{path}/{{sessionId}}")),
                _ => OwnRoute::new(*action, &path),
            };
            routes.push((key.clone(), route));
        }
    }
    distinct(&routes, findings);
    let routes = routes.into_iter().map(|(_, route)| route);
    Config {
        routes: routes.filter(|_| raw.store.is_some()).collect(),
        envelope: envelope(&raw.auth, findings),
        session_scopes,
    }
}

pub(super) fn session_lifetime(raw: &Raw, findings: &mut Findings) -> Lifetime {
    let section = &raw.session_token;
    let lifetime = Lifetime {
        idle: positive("session_token.idle", section.idle, findings),
        max: positive("session_token.max", section.max, findings),
    };
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
pub(super) fn usable(
    own: &[OwnRoute],
    store: bool,
    routes: &[(usize, RouteConfig)],
    matching: MatchOptions,
    findings: &mut Findings,
) {
    for (index, route) in routes {
        if !store && route.policy.listed().contains(Kind::SessionToken) {
            let key = format!("routes[{index}].require");
            let suggestion = "add [store] with path = \"gatelet-data\"";
            findings.missing(
                &key,
                "session tokens need a store to be kept in",
                suggestion,
            );
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

fn own_paths(auth: &Auth, prefix: &str) -> [(&'static str, String, &'static [Action]); 3] {
    let below = |path: &str| match path.strip_prefix('/') {
        Some(from_root) if from_root.starts_with('/') => from_root.to_owned(),
        _ => format!("{prefix}{path}"),
    };
    let paths = &auth.paths;
    [
        (
            "sessions",
            below(&paths.sessions),
            &[Action::IssueSession, Action::EndSession],
        ),
        ("session", below(&paths.session), &[Action::ShowSession]),
        (
            "introspect",
            below(&paths.introspect),
            &[Action::Introspect],
        ),
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
fn distinct(routes: &[(String, OwnRoute)], findings: &mut Findings) {
    let mut seen = BTreeMap::new();
    for (key, route) in routes {
        let place = (route.pattern.path.text(), route.methods[0].as_str());
        if let Some(first) = seen.insert(place, key) {
            let message = format!("{first} is at the same path");
            findings.problem_with(key, message, "give each its own path");
        }
    }
}
