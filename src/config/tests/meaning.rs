//! What valid files become, and what they are warned of.

use std::time::Duration;

use http::uri::PathAndQuery;

use super::{DIGEST, ROUTE, STORE, UPSTREAM, loaded, warnings, with};
use crate::rules::bucket::Rate;
use crate::rules::credential::Kind;
use crate::rules::health::Thresholds;
use crate::upstream::{Address, HealthCheck};

#[test]
fn a_valid_route_is_built_as_written() {
    let text = format!(
        "{UPSTREAM}[[upstreams]]\nname = \"socket\"\nurl = \"unix:/run/api.sock\"\n{STORE}\
         [[routes]]\nprefix = \"/a\"\nhost = \"API.example.com\"\nmethods = [\"GET\", \"POST\"]\n\
         require = {{ any = [\"api_key\"] }}\nscopes = [\"b\", \"a\"]\nupstream = \"socket\"\n\
         rate_limit = {{ rate = \"60/m\", burst = 7 }}\nrequest_body = \"unlimited\"\n\
         response_timeout = \"1h30m\"\nforward = [\"api_key\"]\nencoded_slash = \"allow\"\n"
    );
    let config = loaded(&text).config;
    let route = &config.gateway.routes[0];
    assert_eq!(&*route.name, "api.example.com/a");
    assert_eq!(route.methods, ["GET", "POST"]);
    assert!(route.policy.any.contains(Kind::ApiKey) && route.policy.all.is_empty());
    let (kind, scopes) = &route.policy.scopes[0];
    assert_eq!((*kind, scopes.joined().as_str()), (Kind::ApiKey, "a b"));
    assert_eq!(route.upstream, 1);
    let interval = 1_000_000_000;
    assert_eq!(route.rate_limit, Some(Rate { interval, burst: 7 }));
    assert_eq!(route.request_body, None);
    assert_eq!(route.response_timeout, Some(Duration::from_secs(5400)));
    assert!(route.forward.contains(Kind::ApiKey) && route.encoded_slash);
    let tcp = Address::Tcp {
        host: "127.0.0.1".into(),
        port: 3000,
    };
    assert_eq!(config.upstreams[0].addresses, [tcp]);
    assert_eq!(
        config.upstreams[1].addresses,
        [Address::Unix("/run/api.sock".into())]
    );
}

#[test]
fn an_upstream_may_have_several_addresses_and_a_health_check() {
    let text = "[[upstreams]]\nname = \"api\"\nurl = [\"http://b:1\", \"http://[::1]\"]\n\
                [upstreams.health_check]\npath = \"/healthz?deep\"\ntimeout = \"250ms\"\n";
    let upstream = &loaded(&format!("{text}{STORE}{ROUTE}")).config.upstreams[0];
    let authorities: Vec<String> = upstream.addresses.iter().map(Address::authority).collect();
    assert_eq!(authorities, ["b:1", "[::1]:80"]);
    let check = HealthCheck {
        path: PathAndQuery::from_static("/healthz?deep"),
        interval: Duration::from_secs(5),
        timeout: Duration::from_millis(250),
        thresholds: Thresholds {
            healthy: 1,
            unhealthy: 2,
        },
    };
    assert_eq!(upstream.health_check, Some(check));
}

#[test]
fn routes_without_a_name_that_share_a_path_are_told_apart() {
    let key = "require = [\"api_key\"]";
    let text = format!(
        "{UPSTREAM}{STORE}[[routes]]\npath = \"/a\"\n{key}\n[[routes]]\nprefix = \"/a\"\n{key}\n\
         [[routes]]\nprefix = \"/a\"\nmethods = [\"PUT\"]\n{key}\n[[routes]]\npath = \"/b\"\n{key}\n"
    );
    let routes = loaded(&text).config.gateway.routes;
    let names: Vec<&str> = routes.iter().map(|route| &*route.name).collect();
    assert_eq!(names, ["/a", "/a/*", "PUT /a/*", "/b"]);
}

#[test]
fn rates_and_sizes_mean_what_they_say() {
    let of = |rate: &str| {
        let text = with(&format!("[limits]\nfailed_authentications = {rate}"));
        loaded(&text).config.limits.failed_authentications
    };
    let second = 1_000_000_000;
    assert_eq!(
        of("\"100/s\""),
        Rate {
            interval: second / 100,
            burst: 100
        }
    );
    assert_eq!(
        of("\"60/m\""),
        Rate {
            interval: second,
            burst: 1
        }
    );
    assert_eq!(
        of("\"1000/h\""),
        Rate {
            interval: 3_600_000_000,
            burst: 1
        }
    );
    let burst = of("{ rate = \"100/s\", burst = 200 }");
    assert_eq!(
        burst,
        Rate {
            interval: second / 100,
            burst: 200
        }
    );

    let body = |size: &str| {
        let text = with(&format!("[limits]\nrequest_body = {size}"));
        loaded(&text).config.gateway.routes[0].request_body
    };
    assert_eq!(body("\"10MiB\""), Some(10 << 20));
    assert_eq!(body("\"1MB\""), Some(1_000_000));
    assert_eq!(body("4096"), Some(4096));
    assert_eq!(body("\"unlimited\""), None);
}

#[test]
fn what_escapes_a_guard_is_warned_of() {
    let route = |lines: &str| format!("[[routes]]\n{lines}\n");
    let file = |routes: &[String]| format!("{UPSTREAM}{STORE}{}", routes.concat());
    let guarded = "require = [\"api_key\"]";
    let open = "require = \"nothing\"";

    let exact = route(&format!("path = \"/admin\"\n{guarded}"));
    let around = route(&format!("prefix = \"/\"\n{open}"));
    let found = warnings(&file(&[around.clone(), exact.clone()]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("routes[1].path: stricter than routes[0] around it"),
        "{found:?}"
    );
    // A guarded prefix between them catches the children.
    let between = route(&format!("prefix = \"/admin\"\n{guarded}"));
    assert_eq!(warnings(&file(&[around.clone(), exact, between])), [""; 0]);
    // `/administrator` is not below `/admin`.
    let other = route(&format!("prefix = \"/admin\"\n{open}"));
    let exact = route(&format!("path = \"/administrator\"\n{guarded}"));
    assert_eq!(warnings(&file(&[other, exact])), [""; 0]);
    // More scopes are stricter too.
    let scoped = route(&format!("path = \"/a\"\n{guarded}\nscopes = [\"x\"]"));
    let plain = route(&format!("prefix = \"/\"\n{guarded}"));
    assert_eq!(warnings(&file(&[scoped, plain.clone()])).len(), 1);

    let hosted = route(&format!("prefix = \"/\"\nhost = \"a.example\"\n{guarded}"));
    let found = warnings(&file(&[hosted.clone(), around]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].starts_with("routes[0].host: stricter than routes[1], which has no host"),
        "{found:?}"
    );
    assert_eq!(warnings(&file(&[hosted, plain])), [""; 0]);
}

#[test]
fn paths_that_differ_in_case_alone_are_warned_of() {
    let routes = "[[routes]]\nprefix = \"/Docs\"\nrequire = [\"api_key\"]\n\
                  [[routes]]\nprefix = \"/docs\"\nmethods = [\"PUT\"]\nrequire = [\"api_key\"]\n";
    let found = warnings(&format!("{UPSTREAM}{STORE}{routes}"));
    assert_eq!(
        found,
        [
            "routes[1].prefix: differs from routes[0] in case alone, so every request to either is \
             answered 400: give one another path, or keep one and set routing.match_case = \"ignore\""
        ]
    );
    let ignored = "[routing]\nmatch_case = \"ignore\"\n";
    assert_eq!(
        warnings(&format!("{UPSTREAM}{STORE}{routes}{ignored}")),
        [""; 0]
    );
}

#[test]
fn believing_everyone_is_warned_of() {
    let of =
        |networks: &str| warnings(&with(&format!("[forwarded]\ntrusted_proxies = {networks}")));
    assert_eq!(
        of("[\"10.0.0.0/8\", \"0.0.0.0/0\"]"),
        [
            "forwarded.trusted_proxies: \"0.0.0.0/0\" is everyone, so that callers choose the address \
             they are taken for: name the networks of your proxies"
        ]
    );
    assert_eq!(of("[\"::/0\"]").len(), 1);
    assert_eq!(of("[\"::ffff:0.0.0.0/96\"]").len(), 1);
    assert_eq!(of("[\"10.0.0.0/8\", \"::1\"]"), [""; 0]);
}

/// Addresses are compared in the form that is IPv4, so networks have to be as well.
#[test]
fn networks_of_mapped_addresses_are_those_of_the_addresses() {
    for (networks, inside, outside) in [
        ("::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1"),
        ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("::ffff:0.0.0.0/97", "127.0.0.1", "128.0.0.1"),
        ("64:ff9b::10.0.0.0/104", "64:ff9b::a00:1", "10.0.0.1"),
    ] {
        let toml = format!("[forwarded]\ntrusted_proxies = [\"{networks}\"]");
        let listen = loaded(&with(&toml)).config.listen;
        for (address, expected) in [(inside, true), (outside, false)] {
            let trusts = listen.trusts(address.parse().unwrap());
            assert_eq!(trusts, expected, "{address} in {networks}");
        }
    }
}

#[test]
fn proxies_that_nobody_trusts_are_warned_of() {
    let of = |trusted: &str| {
        let networks = format!("[forwarded]\ntrusted_proxies = [{trusted}]");
        warnings(&with(&format!(
            "[listen]\nproxy_protocol = true\n{networks}"
        )))
    };
    assert_eq!(of("\"10.0.0.0/8\""), [""; 0]);
    let found = of("");
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("listen.proxy_protocol: no proxy is trusted"));
}

#[test]
fn keys_that_cannot_exist_are_warned_of() {
    let found = warnings(&format!("{UPSTREAM}{ROUTE}"));
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("routes[0].require: a key is required and there is none"));
    let key = format!("[[api_keys.static]]\nname = \"ci\"\nsha256 = \"{DIGEST}\"\n");
    assert_eq!(warnings(&format!("{UPSTREAM}{ROUTE}{key}")), [""; 0]);
}

#[test]
fn other_issuers_tokens_need_neither_store_nor_keys_of_our_own() {
    let trusted = "[[access_token.trusted]]\nissuer = \"https://id.example.com\"\naudience = [\"api\"]\n\
                   jwks_url = \"https://id.example.com/jwks\"\n";
    let route = "[[routes]]\nprefix = \"/\"\nrequire = [\"access_token\"]\n";
    for store in ["", STORE] {
        let config = loaded(&format!("{UPSTREAM}{route}{trusted}{store}")).config;
        assert_eq!(config.authn.trusted.len(), 1);
        assert!(
            config.authn.access_token.is_none(),
            "nothing is issued here"
        );
        let own = config.gateway.tokens.routes.iter();
        let paths: Vec<&str> = own.map(|route| route.pattern.path.text()).collect();
        assert!(paths.contains(&"/api/v1/auth/session"), "{paths:?}");
        assert!(!paths.contains(&"/api/v1/auth/refresh"), "{paths:?}");
        assert_eq!(paths.contains(&"/api/v1/auth/sessions"), !store.is_empty());
    }
    let wallet = "[wallet]\ndomains = [\"localhost\"]\n";
    let config = loaded(&format!("{UPSTREAM}{route}{trusted}{STORE}{wallet}")).config;
    assert!(config.authn.access_token.is_some());
}

#[test]
fn a_page_of_another_site_is_warned_that_the_cookie_never_comes() {
    let said = |origin: &str, same_site: &str| {
        let text = format!(
            "{UPSTREAM}{ROUTE}{STORE}[auth]\ncsrf_origins = [\"{origin}\"]\n[access_token]\n\
             issuer = \"https://api.example.com\"\n[refresh_token.cookie]\nsame_site = \"{same_site}\"\n"
        );
        warnings(&text).len()
    };
    assert_eq!(said("https://app.example.com", "strict"), 0);
    assert_eq!(said("https://app.example.com:8443", "strict"), 0);
    assert_eq!(said("https://app.example.org", "strict"), 1);
    assert_eq!(said("https://app.example.org", "none"), 0);
}
