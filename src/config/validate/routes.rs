//! Routes: patterns, policies, names, and that no two of them tie.

use std::collections::{BTreeMap, HashMap};

use http::Method;

use super::super::problems::{Findings, closest, did_you_mean, one_of, quoted};
use super::super::raw::{Credential, EncodedSlash, Raw, Require, Route, RouteScopes};
use super::super::values::Rate;
use super::super::warnings;
use super::positive;
use super::upstreams::name_is_good;
use crate::gateway::RouteConfig;
use crate::rules::credential::{Kind, Kinds};
use crate::rules::policy::Policy;
use crate::rules::principal::{Scopes, is_scope_token};
use crate::rules::route::{MatchOptions, PathPattern, Pattern, RouteTable};

/// What metrics call requests that no route of the file is asked about.
const OWN_LABELS: [&str; 2] = ["auth", "none"];

/// Judges the routes. Each comes with its place in the file; those without a pattern or a policy
/// are left out.
pub(super) fn routes(
    raw: &Raw,
    matching: MatchOptions,
    findings: &mut Findings,
) -> Vec<(usize, RouteConfig)> {
    if raw.routes.is_empty() {
        findings.missing(
            "routes",
            "there is no route, so every request would be answered 404",
            "write [[routes]] with prefix = \"/\" and require = [\"api_key\"]",
        );
    }
    let mut built: Vec<(usize, RouteConfig)> = Vec::with_capacity(raw.routes.len());
    for (index, route) in raw.routes.iter().enumerate() {
        let judge = Judge {
            raw,
            route,
            key: format!("routes[{index}]"),
        };
        if let Some(route) = judge.route(findings) {
            built.push((index, route));
        }
    }
    name(&mut built, raw, findings);
    judge_together(&built, matching, findings);
    built
}

/// The set of scopes in a list at `key`.
pub(super) fn scope_set(key: &str, names: &[String], findings: &mut Findings) -> Scopes {
    for name in names.iter().filter(|name| !is_scope_token(name)) {
        let message = format!("{} is not a scope", quoted(name));
        let suggestion = "write it in visible ASCII, without spaces, quotes and backslashes";
        findings.problem_with(key, message, suggestion);
    }
    Scopes::new(names.iter().map(String::as_str))
}

struct Judge<'a> {
    raw: &'a Raw,
    route: &'a Route,
    key: String,
}

impl Judge<'_> {
    fn at(&self, name: &str) -> String {
        format!("{}.{name}", self.key)
    }

    fn route(&self, findings: &mut Findings) -> Option<RouteConfig> {
        // Each part is judged before the first missing one leaves.
        let path = self.path(findings);
        let host = self.host(findings);
        let methods = self.methods(findings);
        let policy = self.policy(findings);
        let upstream = self.upstream(findings);
        let response_timeout = self
            .route
            .response_timeout
            .map(|period| positive(&self.at("response_timeout"), period, findings));
        let policy = policy?;
        let forward = self.forward(&policy, findings);
        Some(RouteConfig {
            name: self.route.name.as_deref().unwrap_or_default().into(),
            pattern: Pattern { host, path: path? },
            methods,
            policy,
            upstream,
            rate_limit: self.route.rate_limit.map(Rate::built),
            request_body: match self.route.request_body {
                Some(bound) => bound.0,
                None => self.raw.limits.request_body.0,
            },
            response_timeout,
            forward,
            encoded_slash: self.route.encoded_slash == EncodedSlash::Allow,
        })
    }

    fn path(&self, findings: &mut Findings) -> Option<PathPattern> {
        let (name, text) = match (&self.route.path, &self.route.prefix) {
            (Some(path), None) => ("path", path),
            (None, Some(prefix)) => ("prefix", prefix),
            (Some(_), Some(_)) => {
                let message = "it has a path and a prefix";
                findings.problem_with(&self.key, message, "write two routes");
                return None;
            }
            (None, None) => {
                let suggestion = "write path = \"/health\" for one path, or prefix = \"/\" for all";
                findings.missing(&self.at("path"), "missing", suggestion);
                return None;
            }
        };
        let key = self.at(name);
        if let Some((message, suggestion)) = pattern_fault(text) {
            let message = format!("{}: {message}", quoted(text));
            findings.problem_with(&key, message, suggestion);
            return None;
        }
        Some(match name {
            "path" => PathPattern::Exact(text.as_str().into()),
            _ => PathPattern::Prefix(text.as_str().into()),
        })
    }

    fn host(&self, findings: &mut Findings) -> Option<Box<str>> {
        let host = self.route.host.as_deref()?;
        let plain = !host.is_empty()
            && host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
        let bracketed = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
        if !plain && !bracketed {
            let message = format!("{} is not a host", quoted(host));
            let suggestion = "write it like \"api.example.com\", without scheme, port and wildcard";
            findings.problem_with(&self.at("host"), message, suggestion);
        }
        Some(host.to_ascii_lowercase().into())
    }

    fn methods(&self, findings: &mut Findings) -> Vec<Method> {
        let Some(names) = &self.route.methods else {
            return Vec::new();
        };
        let key = self.at("methods");
        if names.is_empty() {
            let suggestion = "leave methods out to take every one";
            findings.problem_with(&key, "it takes no method at all", suggestion);
        }
        let mut methods: Vec<Method> = Vec::with_capacity(names.len());
        for name in names {
            match method(name) {
                Ok(method) if methods.contains(&method) => {}
                Ok(method) => methods.push(method),
                Err(suggestion) => {
                    let message = format!("{} is not a method to route", quoted(name));
                    findings.problem_with(&key, message, suggestion);
                }
            }
        }
        methods
    }

    fn policy(&self, findings: &mut Findings) -> Option<Policy> {
        let key = self.at("require");
        let mut policy = match self.route.require.as_ref()? {
            Require::Word(_) => Policy::default(),
            Require::All(kinds) => {
                if kinds.is_empty() {
                    let suggestion = "write require = \"nothing\" to let anyone in";
                    findings.problem_with(&key, "the list is empty", suggestion);
                }
                Policy {
                    all: kinds_of(kinds),
                    ..Policy::default()
                }
            }
            Require::Table(table) => {
                let policy = Policy {
                    all: kinds_of(&table.all),
                    any: kinds_of(&table.any),
                    optional: kinds_of(&table.optional),
                    scopes: Vec::new(),
                };
                if policy.listed().is_empty() {
                    let suggestion = "write require = \"nothing\" to let anyone in";
                    findings.missing(&key, "no credential is listed", suggestion);
                }
                for kind in twice(&policy) {
                    let message = format!("{kind} is listed in more than one way");
                    findings.problem_with(&key, message, "list it once");
                }
                policy
            }
        };
        policy.scopes = self.scopes(policy.listed(), findings);
        Some(policy)
    }

    fn scopes(&self, listed: Kinds, findings: &mut Findings) -> Vec<(Kind, Scopes)> {
        let key = self.at("scopes");
        match &self.route.scopes {
            None => Vec::new(),
            Some(RouteScopes::Each(names)) => {
                let scopes = scope_set(&key, names, findings);
                if listed.is_empty() && !scopes.is_empty() {
                    let message = "the route lists no credential that could carry them";
                    findings.problem_with(&key, message, "name one in require");
                }
                listed.iter().map(|kind| (kind, scopes.clone())).collect()
            }
            Some(RouteScopes::Table(table)) => {
                let tables = [
                    (Kind::ApiKey, &table.api_key),
                    (Kind::SessionToken, &table.session_token),
                    (Kind::AccessToken, &table.access_token),
                ];
                let mut all = Vec::new();
                for (kind, names) in tables {
                    let key = format!("{key}.{kind}");
                    let scopes = scope_set(&key, names, findings);
                    if scopes.is_empty() {
                        continue;
                    }
                    if !listed.contains(kind) {
                        let message = "the route does not list this credential";
                        findings.problem_with(&key, message, "name it in require");
                    }
                    all.push((kind, scopes));
                }
                all
            }
        }
    }

    fn upstream(&self, findings: &mut Findings) -> usize {
        let key = self.at("upstream");
        let names = || {
            self.raw
                .upstreams
                .iter()
                .filter_map(|upstream| upstream.name.as_deref())
        };
        if let Some(name) = &self.route.upstream {
            let place = self
                .raw
                .upstreams
                .iter()
                .position(|upstream| upstream.name.as_ref() == Some(name));
            // An upstream whose name was unreadable may be the one that is meant.
            let all_named = names().count() == self.raw.upstreams.len();
            if place.is_none() && all_named && !self.raw.upstreams.is_empty() {
                let suggestion = match closest(name, names()) {
                    Some(meant) => did_you_mean(meant),
                    None => format!("write {}", one_of(names())),
                };
                let message = format!("unknown upstream {}", quoted(name));
                findings.problem_with(&key, message, suggestion);
            }
            place.unwrap_or_default()
        } else {
            if self.raw.upstreams.len() > 1 {
                let message = "missing, and there is more than one upstream";
                let suggestion = format!("write upstream = {}", one_of(names()));
                findings.missing(&key, message, suggestion);
            }
            0
        }
    }

    fn forward(&self, policy: &Policy, findings: &mut Findings) -> Kinds {
        let forward = kinds_of(&self.route.forward);
        for kind in forward
            .iter()
            .filter(|kind| !policy.listed().contains(*kind))
        {
            let message = format!("the route does not list {kind}, so one would go unjudged");
            let suggestion = format!(
                "add it to require, if need be as optional = [{:?}]",
                kind.name()
            );
            findings.problem_with(&self.at("forward"), message, suggestion);
        }
        forward
    }
}

fn kinds_of(credentials: &[Credential]) -> Kinds {
    credentials
        .iter()
        .map(|credential| credential.kind())
        .collect()
}

/// The kinds that a policy lists in two of its lists.
fn twice(policy: &Policy) -> Vec<Kind> {
    let lists = [policy.all, policy.any, policy.optional];
    let count = |kind| lists.iter().filter(|list| list.contains(kind)).count();
    Kind::ALL
        .into_iter()
        .filter(|kind| count(*kind) > 1)
        .collect()
}

/// A method, else the way out.
fn method(name: &str) -> Result<Method, String> {
    const USUAL: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
    match Method::from_bytes(name.as_bytes()) {
        Ok(Method::CONNECT | Method::TRACE) => Err("it is refused on every route".to_owned()),
        Ok(method) if !name.bytes().any(|byte| byte.is_ascii_lowercase()) => Ok(method),
        _ => Err(match closest(name, USUAL) {
            Some(meant) => did_you_mean(meant),
            None => "write it in capitals, as it stands in a request".to_owned(),
        }),
    }
}

/// Why no request could ever match `text`, and the way out.
fn pattern_fault(text: &str) -> Option<(&'static str, String)> {
    if !text.starts_with('/') {
        return Some((
            "it does not begin with \"/\"",
            format!("write {:?}", format!("/{text}")),
        ));
    }
    if text.contains('%') {
        let way_out = "write the path decoded; `%20` is a space".to_owned();
        return Some(("it has a percent escape", way_out));
    }
    let no_request = "no request reaches such a path";
    if text.contains(['?', '#']) {
        let way_out = "leave out the query and the fragment; a route is about the path".to_owned();
        return Some((no_request, way_out));
    }
    if text.contains(['\\', ';']) || text.chars().any(char::is_control) {
        let way_out = "leave out backslashes, semicolons and control characters".to_owned();
        return Some((no_request, way_out));
    }
    let segments = || text[1..].split('/');
    let inner_empty = text.contains("//");
    if inner_empty || segments().any(|segment| matches!(segment, "." | "..")) {
        let way_out = "leave out empty segments and dots".to_owned();
        return Some((no_request, way_out));
    }
    // Other gateways read these as wildcards. Taken literally they would leave what was meant to
    // be guarded to a wider route.
    let wildcard = |segment: &str| segment.contains('*') || segment.starts_with('{');
    if let Some(at) = segments().position(wildcard) {
        let fixed: Vec<&str> = segments().take(at).collect();
        let way_out = format!("write prefix = {:?}", format!("/{}", fixed.join("/")));
        return Some(("there are no wildcards", way_out));
    }
    None
}

/// Gives each route its name, and sees that no two share one.
fn name(routes: &mut [(usize, RouteConfig)], raw: &Raw, findings: &mut Findings) {
    let mut short_names: HashMap<String, usize> = HashMap::new();
    for (_, route) in routes.iter().filter(|(_, route)| route.name.is_empty()) {
        *short_names.entry(short_name(route)).or_default() += 1;
    }
    let mut names: BTreeMap<Box<str>, usize> = BTreeMap::new();
    for (index, route) in routes {
        let key = format!("routes[{index}].name");
        if raw.routes[*index].name.is_none() {
            let short = short_name(route);
            // What routes share cannot tell them apart in metrics.
            route.name = match short_names.get(&short) {
                Some(1) => short.into(),
                _ => full_name(route).into(),
            };
        } else if !name_is_good(&key, &route.name, findings) {
            continue;
        } else if OWN_LABELS.contains(&&*route.name) {
            let message = format!(
                "{} is what metrics call requests without a route",
                quoted(&route.name)
            );
            findings.problem_with(&key, message, "give it another name");
        }
        if let Some(first) = names.insert(route.name.clone(), *index)
            && raw.routes[*index].name.is_some()
        {
            let message = format!("routes[{first}] is called {} too", quoted(&route.name));
            findings.problem_with(&key, message, "give each its own name");
        }
    }
}

fn short_name(route: &RouteConfig) -> String {
    let host = route.pattern.host.as_deref().unwrap_or_default();
    format!("{host}{}", route.pattern.path.text())
}

fn full_name(route: &RouteConfig) -> String {
    let methods: Vec<&str> = route.methods.iter().map(Method::as_str).collect();
    let space = if methods.is_empty() { "" } else { " " };
    let below = match &route.pattern.path {
        PathPattern::Exact(_) | PathPattern::Template(_) => "",
        PathPattern::Prefix(prefix) if prefix.ends_with('/') => "*",
        PathPattern::Prefix(_) => "/*",
    };
    format!("{}{space}{}{below}", methods.join(","), short_name(route))
}

/// The key of a pattern's path.
pub(in super::super) fn path_key(index: usize, pattern: &Pattern) -> String {
    let name = match pattern.path {
        PathPattern::Exact(_) | PathPattern::Template(_) => "path",
        PathPattern::Prefix(_) => "prefix",
    };
    format!("routes[{index}].{name}")
}

/// Reports routes that tie, and warns of what is wrong with them together.
fn judge_together(
    routes: &[(usize, RouteConfig)],
    matching: MatchOptions,
    findings: &mut Findings,
) {
    let entries = routes
        .iter()
        .map(|(_, route)| (&route.pattern, &*route.methods));
    match RouteTable::build(entries, matching) {
        Ok(table) => warnings::routes(&table, routes, matching, findings),
        Err(ties) => {
            for tie in ties {
                let (first, index) = (routes[tie.first].0, routes[tie.second].0);
                let key = format!("routes[{index}]");
                let message = format!("ties with routes[{first}]: same host, path and methods");
                let suggestion = "give them different methods, paths or hosts, or remove one";
                findings.problem_with(&key, message, suggestion);
            }
        }
    }
}
