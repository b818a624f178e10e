//! Upstreams: names, URLs, and that none of them is gatelet itself.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::time::Duration;

use http::uri::PathAndQuery;
use rustls::pki_types::ServerName;

use super::super::problems::{Findings, quoted};
use super::super::raw::{self, Upstream, Urls};
use super::super::reload::Watch;
use super::{bounded, positive, tls};
use crate::listener;
use crate::platform::Authorities;
use crate::rules::health::Thresholds;
use crate::upstream::{Address, Config, HealthCheck, Protocol, Tls};

/// The longest path that a unix socket address holds, its terminator left out.
const LONGEST_SOCKET_PATH: usize = 107;

/// What the URL of an upstream can begin with.
const SCHEMES: [&str; 3] = ["http", "https", "unix"];

/// Below this a check is an attack.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(100);

/// Judges the upstreams. The places of those with a bad URL are kept, so that the rest count right.
pub(super) fn upstreams(
    raw: &[Upstream],
    listen: &listener::Config,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Vec<Config> {
    if raw.is_empty() {
        findings.missing(
            "upstreams",
            "there is no upstream to forward to",
            "write [[upstreams]] with name = \"api\" and url = \"http://127.0.0.1:3000\"",
        );
    }
    let mut names = BTreeMap::new();
    let mut built = Vec::with_capacity(raw.len());
    for (index, upstream) in raw.iter().enumerate() {
        let key = |name: &str| format!("upstreams[{index}].{name}");
        if let Some(name) = &upstream.name {
            name_is_good(&key("name"), name, findings);
            if let Some(first) = names.insert(name.as_str(), index) {
                let message = format!("upstreams[{first}] is called {} too", quoted(name));
                findings.problem_with(&key("name"), message, "give each its own name");
            }
        }
        let urls = upstream.url.as_ref().map(Urls::all);
        let places = urls.map(|urls| places(&key("url"), urls, listen, findings));
        let places = places.unwrap_or_default();
        let tls = tls(upstream, &places, &key, watch, findings);
        let addresses = places.into_iter().map(|place| place.address);
        built.push(Config {
            name: upstream.name.as_deref().unwrap_or_default().into(),
            addresses: addresses.collect(),
            protocol: protocol(upstream),
            tls,
            connect_timeout: positive(&key("connect_timeout"), upstream.connect_timeout, findings),
            response_timeout: positive(
                &key("response_timeout"),
                upstream.response_timeout,
                findings,
            ),
            idle_timeout: bounded(&key("idle_timeout"), upstream.idle_timeout, findings),
            max_connections: upstream.max_connections,
            health_check: upstream
                .health_check
                .as_ref()
                .map(|check| health_check(&key("health_check"), check, findings)),
        });
    }
    built
}

/// Judges where one upstream listens; what is bad is left out.
fn places(
    key: &str,
    urls: &[String],
    listen: &listener::Config,
    findings: &mut Findings,
) -> Vec<Place> {
    if urls.is_empty() {
        let suggestion = "write url = \"http://127.0.0.1:3000\"";
        findings.problem_with(key, "the list has no address", suggestion);
    }
    let mut places: Vec<Place> = Vec::with_capacity(urls.len());
    for url in urls {
        let Some(place) = place(key, url, listen, findings) else {
            continue;
        };
        if places.iter().any(|known| known.address == place.address) {
            let message = format!("{} stands there twice", quoted(url));
            findings.problem_with(key, message, "name each address once");
        } else {
            places.push(place);
        }
    }
    let mut schemes = urls.iter().filter_map(|url| scheme(url));
    if let Some(first) = schemes.next()
        && let Some(other) = schemes.find(|other| !other.eq_ignore_ascii_case(first))
    {
        let message = format!("{first:?} and {other:?} are mixed");
        let suggestion = "give all its addresses one scheme, or make them two upstreams";
        findings.problem_with(key, message, suggestion);
    }
    places
}

fn health_check(key: &str, raw: &raw::HealthCheck, findings: &mut Findings) -> HealthCheck {
    let below = |name: &str| format!("{key}.{name}");
    let written = raw.path.as_deref().unwrap_or("/");
    let path = written.parse().unwrap_or(PathAndQuery::from_static("/"));
    // What was read of it has to be all of it.
    if path.as_str() != written || !written.starts_with('/') || !written.is_ascii() {
        let message = format!("{} is not a path", quoted(written));
        let suggestion = "write it like \"/healthz\", in visible ASCII";
        findings.problem_with(&below("path"), message, suggestion);
    }
    let interval = positive(&below("interval"), raw.interval, findings);
    if interval < SHORTEST_INTERVAL && !interval.is_zero() {
        let message = format!("{} is too often; the least is 100ms", raw.interval);
        findings.problem_with(&below("interval"), message, "write it like \"5s\"");
    }
    HealthCheck {
        path,
        interval,
        timeout: positive(&below("timeout"), raw.timeout, findings),
        thresholds: Thresholds {
            healthy: raw.healthy_threshold,
            unhealthy: raw.unhealthy_threshold,
        },
    }
}

/// Whether `name` can be a name in metrics, logs and headers; reported where it cannot.
pub(super) fn name_is_good(key: &str, name: &str, findings: &mut Findings) -> bool {
    let message = if name.trim().is_empty() {
        "the name is empty"
    } else if name.chars().any(char::is_control) {
        "the name has control characters"
    } else if name.len() > 200 {
        "the name is longer than 200 bytes"
    } else {
        return true;
    };
    findings.problem_with(
        key,
        message,
        "write a short name of letters, digits and \"-\"",
    );
    false
}

/// What a URL says.
struct Place {
    address: Address,
    over_tls: bool,
}

fn place(
    key: &str,
    url: &str,
    listen: &listener::Config,
    findings: &mut Findings,
) -> Option<Place> {
    match parse(url) {
        Ok(place) => {
            let own = [
                ("listen.proxy", listen.proxy),
                ("listen.telemetry", listen.telemetry),
            ];
            let reached = own
                .iter()
                .find(|(_, socket)| reaches(&place.address, *socket));
            if let Some((listener, socket)) = reached {
                let message = format!("{socket} is gatelet itself ({listener}), a loop");
                findings.problem_with(key, message, "name the API's own port");
            }
            Some(place)
        }
        Err(Bad { message, way_out }) => {
            // A URL with a user may hold a password as well.
            let message = if url.contains('@') {
                message.to_owned()
            } else {
                format!("{}: {message}", quoted(url))
            };
            findings.problem_with(key, message, way_out);
            None
        }
    }
}

fn protocol(upstream: &Upstream) -> Protocol {
    match upstream.protocol {
        raw::Protocol::Http1 => Protocol::Http1,
        raw::Protocol::Http2 => Protocol::Http2,
    }
}

/// How an upstream at these places is spoken to over TLS; none where its URLs say `http`.
fn tls(
    upstream: &Upstream,
    places: &[Place],
    key: &impl Fn(&str) -> String,
    watch: &mut Watch,
    findings: &mut Findings,
) -> Option<Tls> {
    // Where no URL is good, what they say of TLS is judged all the same.
    let urls = upstream.url.as_ref().map_or(&[][..], Urls::all);
    let is_https = |url: &String| scheme(url).is_some_and(|one| one.eq_ignore_ascii_case("https"));
    let over_tls = match places.first() {
        Some(place) => place.over_tls,
        None => urls.iter().any(is_https),
    };
    if !over_tls {
        if places.is_empty() {
            return None;
        }
        let said = [
            ("ca_file", &upstream.ca_file),
            ("server_name", &upstream.server_name),
            ("client_certificate", &upstream.client_certificate),
            ("client_key", &upstream.client_key),
        ];
        for (name, _) in said.iter().filter(|(_, value)| value.is_some()) {
            let message = "the upstream is not spoken to over TLS";
            let suggestion = "write https:// in url, or leave it out";
            findings.problem_with(&key(name), message, suggestion);
        }
        return None;
    }
    let authorities = match &upstream.ca_file {
        None => Some(Authorities::OfMachine),
        Some(path) => tls::authorities(&key("ca_file"), path, watch, findings),
    };
    let identity = match (&upstream.client_certificate, &upstream.client_key) {
        (None, None) => Some(None),
        (Some(certificate), Some(private_key)) => {
            let certificate = (&*key("client_certificate"), Some(certificate.as_str()));
            let private_key = (&*key("client_key"), Some(private_key.as_str()));
            tls::identity(certificate, private_key, watch, findings).map(Some)
        }
        (certificate, _) => {
            let (said, missing) = if certificate.is_some() {
                ("client_certificate", "client_key")
            } else {
                ("client_key", "client_certificate")
            };
            let message = format!("{missing} is missing");
            findings.missing(&key(said), message, "a certificate and its key go together");
            None
        }
    };
    let server_name = if let Some(name) = &upstream.server_name {
        Some(server_name(&key("server_name"), name, findings)?)
    } else {
        for place in places {
            if let Address::Tcp { host, .. } = &place.address {
                server_name(&key("url"), host, findings)?;
            }
        }
        None
    };
    let authorities = authorities?;
    if authorities.roots().is_empty() {
        let message = "this machine trusts no certificate authority";
        let suggestion = "install ca-certificates, or name a ca_file";
        findings.problem_with(&key("url"), message, suggestion);
        return None;
    }
    match Tls::new(server_name, authorities, identity?, protocol(upstream)) {
        Ok(tls) => Some(tls),
        Err(error) => {
            let message = format!("TLS cannot be set up: {error}");
            findings.problem(&key("url"), message);
            None
        }
    }
}

/// The name of an upstream's certificate.
fn server_name(key: &str, name: &str, findings: &mut Findings) -> Option<ServerName<'static>> {
    let parsed = ServerName::try_from(name.to_owned());
    if parsed.is_err() {
        let message = format!("{} is not a name that a certificate is for", quoted(name));
        findings.problem_with(key, message, "write server_name = \"api.internal\"");
    }
    parsed.ok()
}

struct Bad {
    message: &'static str,
    way_out: &'static str,
}

/// What stands before the colon of a URL, if it is one that gatelet knows.
fn scheme(url: &str) -> Option<&str> {
    let (scheme, _) = url.split_once(':')?;
    let known = SCHEMES
        .iter()
        .any(|known| scheme.eq_ignore_ascii_case(known));
    known.then_some(scheme)
}

fn parse(url: &str) -> Result<Place, Bad> {
    const FORMS: &str =
        "write \"http://127.0.0.1:3000\", \"https://api.internal\" or \"unix:/run/api.sock\"";
    let bad = |message| Bad {
        message,
        way_out: FORMS,
    };
    if let Some(path) = url.strip_prefix("unix:") {
        return match path {
            _ if !path.starts_with('/') => Err(bad("the path of the socket is not absolute")),
            _ if path.contains('\0') => Err(bad("the path of the socket has a null byte")),
            _ if path.len() > LONGEST_SOCKET_PATH => {
                Err(bad("the path of the socket is longer than 107 bytes"))
            }
            _ => Ok(Place {
                address: Address::Unix(PathBuf::from(path)),
                over_tls: false,
            }),
        };
    }
    let Some((scheme, rest)) = url.split_once("://") else {
        return Err(bad("not a URL"));
    };
    let (over_tls, usual) = match scheme.to_ascii_lowercase().as_str() {
        "http" => (false, 80),
        "https" => (true, 443),
        _ => return Err(bad("not a URL of an HTTP API")),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, below) = rest.split_at(end);
    if authority.contains('@') {
        return Err(bad("a user or a password has no place in it"));
    }
    if !matches!(below, "" | "/") {
        return Err(Bad {
            message: "it has a path, and requests are forwarded with their own path unchanged",
            way_out: "leave the path out",
        });
    }
    let (host, port) = split_port(authority, usual).ok_or_else(|| bad("the port is not one"))?;
    let host = host_name(host).ok_or_else(|| bad("the host is not one"))?;
    Ok(Place {
        address: Address::Tcp { host, port },
        over_tls,
    })
}

/// The host and its port, the `usual` one where none is written.
pub(super) fn split_port(authority: &str, usual: u16) -> Option<(&str, u16)> {
    // The colons inside brackets belong to an IPv6 address.
    let after_brackets = authority.rfind(']').map_or(0, |end| end + 1);
    let Some(colon) = authority[after_brackets..].find(':') else {
        return Some((authority, usual));
    };
    let (host, port) = authority.split_at(after_brackets + colon);
    let digits = &port[1..];
    let port: u16 = digits.parse().ok()?;
    (port != 0 && digits.bytes().all(|byte| byte.is_ascii_digit())).then_some((host, port))
}

/// A name or an address, without brackets.
pub(super) fn host_name(host: &str) -> Option<Box<str>> {
    if let Some(inner) = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
    {
        return inner.parse::<Ipv6Addr>().ok().map(|_| inner.into());
    }
    let good = !host.is_empty()
        && host.len() <= 253
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'));
    good.then(|| host.to_ascii_lowercase().into())
}

/// Whether connecting to `address` arrives at a listener on `socket`, as far as names tell.
fn reaches(address: &Address, socket: std::net::SocketAddr) -> bool {
    let Address::Tcp { host, port } = address else {
        return false;
    };
    if *port != socket.port() {
        return false;
    }
    let ips = if &**host == "localhost" {
        vec![
            IpAddr::from(Ipv4Addr::LOCALHOST),
            Ipv6Addr::LOCALHOST.into(),
        ]
    } else {
        host.parse().into_iter().collect()
    };
    ips.into_iter().any(|ip: IpAddr| {
        let here = ip.is_loopback() || ip.is_unspecified();
        ip == socket.ip() || (here && socket.ip().is_unspecified())
    })
}
