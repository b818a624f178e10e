//! Which pages a browser's cookie refreshes and logs out for, as the caller used the site.

use serde_json::Value;

use crate::harness::{Response, Timed, Wallet};
use crate::sign_in::site::{Site, cookie};

const TRUSTING: &str = "\n[forwarded]\ntrusted_proxies = [\"127.0.0.0/8\"]\n";

struct Browser<'a> {
    site: &'a Site<Timed>,
    value: String,
}

impl<'a> Browser<'a> {
    fn signed_in(site: &'a Site<Timed>, wallet: u8) -> Self {
        let value = cookie(&site.sign_in(&Wallet::numbered(wallet), "cookie"));
        Self { site, value }
    }

    fn post(&self, route: &str, headers: &[(&str, &str)]) -> Response {
        let line = format!("__Host-refresh={}", self.value);
        let headers = [&[("cookie", &*line)], headers].concat();
        self.site.post(route, &headers, &Value::Null)
    }

    /// Tries both routes, of which the second ends what the first left alone.
    fn is_forbidden(&mut self, headers: &[(&str, &str)]) {
        for route in ["/refresh", "/logout", "/logout?all=true"] {
            let answer = self.post(route, headers);
            let told = (answer.status, answer.code());
            assert_eq!(told, (403, "origin_forbidden".to_owned()), "{headers:?}");
            assert!(!answer.headers.has("set-cookie"), "{headers:?}");
        }
        self.may(&[]);
    }

    fn may(&mut self, headers: &[(&str, &str)]) {
        let answer = self.post("/refresh", headers);
        assert_eq!(answer.status, 200, "{headers:?}: {}", answer.text());
        self.value = cookie(&answer);
    }
}

#[test]
fn behind_a_terminator_of_tls_ones_own_origin_is_the_callers() {
    let site = Site::timed(TRUSTING);
    let mut browser = Browser::signed_in(&site, 1);
    let https = ("x-forwarded-proto", "https");
    let public = ("x-forwarded-host", "public.test");
    for allowed in [
        &[("origin", "https://api.test"), https][..],
        &[("origin", "https://api.test:443"), https],
        &[("origin", "https://public.test"), https, public],
        &[("origin", "http://public.test"), public],
        &[("origin", "http://api.test")],
        &[("origin", "https://app.example.com"), https, public],
        &[("sec-fetch-site", "same-origin"), https, public],
        &[https, public],
    ] {
        browser.may(allowed);
    }
    for forbidden in [
        &[("origin", "http://api.test"), https][..],
        &[("origin", "https://api.test:8443"), https],
        &[("origin", "https://api.test"), https, public],
        &[("origin", "https://public.test"), https],
        &[("origin", "https://api.test")],
        &[("origin", "null"), https],
        &[("sec-fetch-site", "same-site"), https],
    ] {
        browser.is_forbidden(forbidden);
    }
}

#[test]
fn nobody_says_for_itself_what_scheme_or_host_it_used() {
    let site = Site::timed("");
    let mut browser = Browser::signed_in(&site, 2);
    for forbidden in [
        &[
            ("origin", "https://api.test"),
            ("x-forwarded-proto", "https"),
        ][..],
        &[
            ("origin", "http://evil.test"),
            ("x-forwarded-host", "evil.test"),
        ],
        &[
            ("origin", "https://evil.test"),
            ("forwarded", "proto=https;host=evil.test"),
        ],
    ] {
        browser.is_forbidden(forbidden);
    }
    browser.may(&[
        ("origin", "http://api.test"),
        ("x-forwarded-proto", "https"),
    ]);
}

#[test]
fn every_variant_of_the_rule_holds_for_both_routes() {
    let site = Site::timed("");
    let mut browser = Browser::signed_in(&site, 3);
    for forbidden in [
        &[("origin", "https://evil.example.com")][..],
        &[("origin", "null")],
        &[("origin", "")],
        &[("origin", "https://app.example.com.evil.example")],
        &[("origin", "http://api.test:8080")],
        &[("sec-fetch-site", "cross-site")],
        &[("sec-fetch-site", "same-site")],
        &[("origin", "null"), ("sec-fetch-site", "same-origin")],
        &[("origin", "http://api.test"), ("origin", "null")],
    ] {
        browser.is_forbidden(forbidden);
    }
    for allowed in [
        &[][..],
        &[("origin", "https://app.example.com")],
        &[
            ("origin", "https://app.example.com"),
            ("sec-fetch-site", "cross-site"),
        ],
        &[("origin", "http://api.test")],
        &[("sec-fetch-site", "same-origin")],
        &[("sec-fetch-site", "none")],
    ] {
        browser.may(allowed);
        let other = Browser::signed_in(&site, 4);
        let out = other.post("/logout", allowed);
        assert_eq!(out.status, 204, "{allowed:?}");
        assert_eq!(other.post("/refresh", &[]).code(), "refresh_invalid");
    }
}
