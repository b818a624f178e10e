//! What is allowed and most likely not meant, worded: ways round a guard, routes that nobody
//! reaches, callers who are believed whatever they say.
//!
//! Where routes can be gone round is judged in `rules::route::escapes`.

use super::problems::{Findings, quoted};
use super::raw::{Forwarded, Listen};
use super::validate::path_key;
use super::values::Network;
use crate::gateway::RouteConfig;
use crate::rules::route::escapes::{Escape, Guarded, torn};
use crate::rules::route::{MatchOptions, RouteTable};

/// Warns of exact paths whose children escape, of hosts that a caller can choose around, and of
/// paths that differ in case alone. Each route comes with its place in the file.
pub(super) fn routes(
    table: &RouteTable,
    routes: &[(usize, RouteConfig)],
    matching: MatchOptions,
    findings: &mut Findings,
) {
    let guarded: Vec<Guarded<'_>> = routes
        .iter()
        .map(|(_, route)| Guarded {
            pattern: &route.pattern,
            policy: &route.policy,
            upstream: route.upstream,
        })
        .collect();
    for escape in table.escapes(&guarded) {
        match escape {
            Escape::Below { strict, weak } => {
                let ((index, route), (around, _)) = (&routes[strict], &routes[weak]);
                findings.warn(
                    &format!("routes[{index}].path"),
                    format!(
                        "stricter than routes[{around}] around it: what lies below {} needs less; \
                         a prefix would guard it too",
                        route.pattern.path.text()
                    ),
                );
            }
            Escape::OtherHost { strict, weak } => {
                let ((index, _), (without, _)) = (&routes[strict], &routes[weak]);
                findings.warn(
                    &format!("routes[{index}].host"),
                    format!(
                        "stricter than routes[{without}], which has no host and the same upstream: \
                         the caller chooses the Host"
                    ),
                );
            }
        }
    }
    let patterns = routes.iter().map(|(_, route)| &route.pattern);
    for tie in torn(patterns, matching) {
        let ((index, route), (first, _)) = (&routes[tie.second], &routes[tie.first]);
        findings.warn(
            &path_key(*index, &route.pattern),
            format!(
                "differs from routes[{first}] in case alone, so every request to either is \
                 answered 400: give one another path, or keep one and set \
                 routing.match_case = \"ignore\""
            ),
        );
    }
}

/// Warns of networks that everyone is in.
pub(super) fn trusted_proxies(networks: &[Network], findings: &mut Findings) {
    for network in networks.iter().filter(|net| net.0.prefix_len() == 0) {
        findings.warn(
            "forwarded.trusted_proxies",
            format!(
                "{} is everyone, so that callers choose the address they are taken for: name the \
                 networks of your proxies",
                quoted(&network.to_string())
            ),
        );
    }
}

/// Warns of pages that a strict cookie never comes from: those of another site than `own`, a host
/// of the API's own site.
pub(super) fn strict_cookie(own: &str, origins: &[String], findings: &mut Findings) {
    let site = site_of(own);
    if site.is_empty() {
        return;
    }
    for origin in origins {
        let host = origin.split_once("://").map_or(&**origin, |(_, host)| host);
        if site_of(host) != site {
            findings.warn(
                "auth.csrf_origins",
                format!(
                    "{} is of another site than {own}, and browsers send a cookie with same_site = \
                     \"strict\" from its own site alone; write same_site = \"none\", or serve the page \
                     below {site}",
                    quoted(origin)
                ),
            );
        }
    }
}

/// A host's last two labels: near enough to what browsers call its site for a warning. Empty for an
/// address and for this very machine.
fn site_of(host: &str) -> String {
    let host = host.rsplit_once(':').map_or(host, |(host, _)| host);
    let labels: Vec<&str> = host.trim_end_matches('.').split('.').collect();
    let is_address = labels
        .last()
        .is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit()));
    if labels.len() < 2 || is_address {
        return String::new();
    }
    labels[labels.len() - 2..].join(".").to_ascii_lowercase()
}

/// Warns where nobody may say who is calling.
pub(super) fn proxy_protocol(listen: &Listen, forwarded: &Forwarded, findings: &mut Findings) {
    if listen.proxy_protocol && forwarded.trusted_proxies.is_empty() {
        findings.warn(
            "listen.proxy_protocol",
            "no proxy is trusted, so that no header is believed and what begins with one is refused: \
             name the networks of your proxies in forwarded.trusted_proxies"
                .to_owned(),
        );
    }
}
