//! The page that the sample API serves: sign-in and its tokens, to watch in a browser.
//!
//! Plain files, built in, so that it needs no network and no tool that bundles. `page/vendor` is
//! other people's work under its own licence; `page/vendor/README.md` says whose.

use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use http::{HeaderValue, Response};
use http_body_util::Full;

/// Where the key stands in the page.
const KEY: &str = "{api_key}";

/// The page may load and ask its own origin alone, and nothing that stands in the page is run.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
     base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'",
);

const SCRIPT: &str = "text/javascript; charset=utf-8";
const TEXT: &str = "text/plain; charset=utf-8";

/// What the page loads: path, type, content.
const FILES: [(&str, &str, &str); 11] = [
    ("/page/app.js", SCRIPT, include_str!("page/app.js")),
    ("/page/session.js", SCRIPT, include_str!("page/session.js")),
    ("/page/wallet.js", SCRIPT, include_str!("page/wallet.js")),
    (
        "/page/style.css",
        "text/css; charset=utf-8",
        include_str!("page/style.css"),
    ),
    (
        "/page/icon.svg",
        "image/svg+xml",
        include_str!("page/icon.svg"),
    ),
    (
        "/page/vendor/noble-secp256k1/index.js",
        SCRIPT,
        include_str!("page/vendor/noble-secp256k1/index.js"),
    ),
    (
        "/page/vendor/noble-secp256k1/LICENSE",
        TEXT,
        include_str!("page/vendor/noble-secp256k1/LICENSE"),
    ),
    (
        "/page/vendor/noble-hashes/sha3.js",
        SCRIPT,
        include_str!("page/vendor/noble-hashes/sha3.js"),
    ),
    (
        "/page/vendor/noble-hashes/utils.js",
        SCRIPT,
        include_str!("page/vendor/noble-hashes/utils.js"),
    ),
    (
        "/page/vendor/noble-hashes/_u64.js",
        SCRIPT,
        include_str!("page/vendor/noble-hashes/_u64.js"),
    ),
    (
        "/page/vendor/noble-hashes/LICENSE",
        TEXT,
        include_str!("page/vendor/noble-hashes/LICENSE"),
    ),
];

/// The page with the demo's API key in it, and the files that it loads.
#[derive(Debug)]
pub(super) struct Page {
    index: Bytes,
}

impl Page {
    /// The page for an application whose key is `api_key`.
    ///
    /// Whoever opens the page has the key: it says which application asks, as in any application
    /// that runs in a browser, and a portfolio is not given for it alone.
    pub(super) fn new(api_key: &str) -> Self {
        Self {
            index: include_str!("page/index.html").replace(KEY, api_key).into(),
        }
    }

    /// The page at `/`, or a file that it loads.
    pub(super) fn find(&self, path: &str) -> Option<Response<Full<Bytes>>> {
        if path == "/" {
            return Some(file("text/html; charset=utf-8", self.index.clone()));
        }
        let (_, kind, content) = FILES.iter().find(|(at, ..)| *at == path)?;
        Some(file(kind, Bytes::from_static(content.as_bytes())))
    }
}

fn file(kind: &'static str, content: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(content));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // The next demo on this port has another key, and may have other files.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const PAGE: &str = include_str!("page/index.html");

    /// What stands in quotes behind each `before`.
    fn quoted<'t>(text: &'t str, before: &str) -> BTreeSet<&'t str> {
        text.match_indices(before)
            .filter_map(|(at, _)| text[at + before.len()..].split('"').next())
            .collect()
    }

    #[test]
    fn holds_the_key_once_and_nowhere_else() {
        assert_eq!(PAGE.matches(KEY).count(), 1);
        assert!(FILES.iter().all(|(.., content)| !content.contains(KEY)));

        let page = Page::new("gk_1");

        let index = String::from_utf8(page.index.to_vec()).unwrap();
        assert!(index.contains("data-api-key=\"gk_1\""));
    }

    #[test]
    fn serves_every_file_that_is_loaded_and_nothing_else() {
        let page = Page::new("gk_1");
        let loaded = quoted(PAGE, "href=\"/")
            .into_iter()
            .chain(quoted(PAGE, "src=\"/"));
        for path in loaded {
            assert!(page.find(&format!("/{path}")).is_some(), "/{path}");
        }
        for (at, _, text) in FILES.iter().filter(|(_, kind, _)| *kind == SCRIPT) {
            let (folder, _) = at.rsplit_once('/').unwrap();
            for import in quoted(text, "from \"./") {
                let path = format!("{folder}/{import}");
                assert!(page.find(&path).is_some(), "{at} imports {path}");
            }
        }

        for path in ["/page", "/page/", "/page/vendor/README.md", "/index.html"] {
            assert!(page.find(path).is_none(), "{path}");
        }
    }

    #[test]
    fn runs_nothing_that_the_policy_forbids() {
        // An attribute or a script in the page would be dead, and said so in the console alone.
        for inline in ["<style", " style=", " onclick=", "<script>", "javascript:"] {
            assert!(!PAGE.contains(inline), "{inline}");
        }
        for (at, _, text) in FILES.iter().filter(|(at, ..)| !at.contains("vendor")) {
            for forbidden in ["innerHTML", "eval(", "https://"] {
                assert!(!text.contains(forbidden), "{at}: {forbidden}");
            }
        }

        let answer = Page::new("gk_1").find("/").unwrap();

        let policy = answer.headers()[CONTENT_SECURITY_POLICY].to_str().unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self';"));
        assert!(!policy.contains("unsafe"));
    }
}
