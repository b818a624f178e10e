//! The configuration as its users meet it: files in, problems out.

#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in the functions it calls too"
)]

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use gatelet::cli::{check, schema};
use gatelet::config::{self, Overrides};
use tempfile::TempDir;

const MINIMAL: &str = r#"
[[upstreams]]
name = "api"
url = "http://127.0.0.1:3000"
[[routes]]
prefix = "/"
require = ["api_key"]
[store]
"#;

/// The status, the standard output and the standard error of `gatelet check`.
fn check(path: &Path, overrides: &Overrides) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = check::run(path, overrides, &mut out, &mut err).unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status, text(out), text(err))
}

fn environment(variables: &[(&str, &str)]) -> Overrides {
    Overrides::from_environment(
        variables
            .iter()
            .map(|(name, value)| (OsString::from(name), OsString::from(value))),
    )
}

fn written(text: &str) -> (TempDir, std::path::PathBuf) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("config.toml");
    fs::write(&path, text).unwrap();
    (folder, path)
}

#[test]
fn the_shipped_file_is_short_and_valid() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.toml");
    let text = fs::read_to_string(&path).unwrap();
    let active = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'));
    assert!(active.count() <= 15);

    let (status, out, err) = check(&path, &Overrides::default());
    assert_eq!((status, err.as_str()), (0, ""));
    assert!(out.ends_with("config.toml: valid: 2 routes, 1 upstream\n"));
    let loaded = config::load(&path, &Overrides::default()).unwrap();
    assert!(loaded.config.store.is_some(), "a key can be minted");
}

#[test]
fn ten_mistakes_are_ten_problems_each_with_its_line_and_a_way_out() {
    let (_folder, path) = written(
        r#"[listen]
proxi = "127.0.0.1:8080"
telemetry = "localhost"
[limits]
head_timeout = "10 parsecs"
connections = "many"
[api_keys]
pepper = "correct horse battery staple"
[[upstreams]]
name = "api"
url = "ftp://127.0.0.1:3000"
[[routes]]
path = "/health"
[[routes]]
prefix = "/a"
require = ["apikey"]
[[routes]]
prefix = "b%20c"
require = "nothing"
upstream = "apj"
[[routes]]
prefix = "/d"
methods = ["get"]
require = ["api_key"]
[log]
level = "loud"
"#,
    );
    let (status, out, err) = check(&path, &Overrides::default());
    assert_eq!((status, out.as_str()), (2, ""));
    let file = path.display();
    let expected = [
        r#":2: listen.proxi: unknown key "proxi"; did you mean "proxy"?"#,
        r#":3: listen.telemetry: "localhost" is not an IP address and a port; write it like "127.0.0.1:8080" or "[::]:8080""#,
        r#":5: limits.head_timeout: "10 parsecs" is not a duration; write it like "500ms", "10s" or "1h30m""#,
        ":6: limits.connections: expected a whole number, found a string; write it like 10000",
        ":8: api_keys.pepper: a secret does not belong in this file; write it to a file named by pepper_file, or set GATELET__API_KEYS__PEPPER",
        r#":11: upstreams[0].url: "ftp://127.0.0.1:3000": not a URL of an HTTP API; write "http://127.0.0.1:3000", "https://api.internal" or "unix:/run/api.sock""#,
        r#":12: routes[0].require: missing; write require = ["api_key"]"#,
        r#":16: routes[1].require: unknown credential "apikey"; did you mean "api_key"?"#,
        r#":18: routes[2].prefix: "b%20c": it does not begin with "/"; write "/b%20c""#,
        r#":20: routes[2].upstream: unknown upstream "apj"; did you mean "api"?"#,
        r#":23: routes[3].methods: "get" is not a method to route; did you mean "GET"?"#,
        r#":26: log.level: unknown level "loud"; write "error", "warn", "info", "debug" or "trace""#,
    ];
    let expected: Vec<String> = expected
        .iter()
        .map(|line| format!("{file}{line}"))
        .collect();
    let found: Vec<&str> = err.lines().collect();
    assert_eq!(found, expected);
}

#[test]
fn a_missing_file_names_the_demo() {
    let (_folder, path) = written("");
    let (status, _, err) = check(&path.with_file_name("other.toml"), &Overrides::default());
    assert_eq!(status, 2);
    assert!(err.contains("other.toml: cannot be read"), "{err}");
    assert!(err.contains("`gatelet demo`"), "{err}");
}

#[test]
fn an_empty_file_says_how_to_begin() {
    let (_folder, path) = written("");
    let (status, _, err) = check(&path, &Overrides::default());
    assert_eq!(status, 2);
    let found: Vec<&str> = err.lines().collect();
    assert_eq!(
        found,
        [
            "upstreams: there is no upstream to forward to; write [[upstreams]] with name = \"api\" \
             and url = \"http://127.0.0.1:3000\"",
            "routes: there is no route, so every request would be answered 404; write [[routes]] \
             with prefix = \"/\" and require = [\"api_key\"]",
        ]
    );
}

#[test]
fn a_syntax_error_is_one_problem_with_its_line_and_quotes_nothing() {
    let (_folder, path) =
        written("[api_keys]\nbearer = true\npepper = \"hunter2hunter2\n[log]\nnope\n");
    let (status, _, err) = check(&path, &Overrides::default());
    assert_eq!(status, 2);
    assert_eq!(err.lines().count(), 1);
    assert!(
        err.starts_with(&format!("{}:3: not TOML: ", path.display())),
        "{err}"
    );
    assert!(!err.contains("hunter2"), "{err}");
}

#[test]
fn the_environment_beats_the_file_and_flags_beat_both() {
    let (_folder, path) = written(&format!("{MINIMAL}\n[listen]\nproxy = \"127.0.0.1:1\"\n"));
    let proxy = |overrides: &Overrides| {
        let loaded = config::load(&path, overrides).map_err(|problems| problems.to_string());
        loaded.unwrap().config.listen.proxy.to_string()
    };
    assert_eq!(proxy(&Overrides::default()), "127.0.0.1:1");
    let over = environment(&[("GATELET__LISTEN__PROXY", "127.0.0.1:2")]);
    assert_eq!(proxy(&over), "127.0.0.1:2");
    assert_eq!(
        proxy(&over.set("listen.proxy", "127.0.0.1:3")),
        "127.0.0.1:3"
    );
}

#[test]
fn the_environment_is_read_in_the_types_of_the_schema() {
    let (_folder, path) = written(MINIMAL);
    let over = environment(&[
        // Digits alone stay text where text is asked for.
        ("GATELET__AUTH__REALM", "111111"),
        ("GATELET__RUNTIME__WORKERS", "3"),
        ("GATELET__API_KEYS__BEARER", "false"),
        ("GATELET__API_KEYS__HEADERS", "x-api-key, x-token"),
        ("GATELET__LIMITS__REQUEST_BODY", "1024"),
        ("GATELET__STORE__PATH", "/var/lib/gatelet"),
        // Kubernetes sets this one for a service called gatelet.
        ("GATELET_SERVICE_HOST", "10.0.0.1"),
    ]);
    let config = config::load(&path, &over).map_err(|problems| problems.to_string());
    let config = config.unwrap().config;
    assert_eq!(&*config.gateway.realm, "111111");
    assert_eq!(config.workers, 3);
    assert!(!config.authn.bearer);
    assert_eq!(config.authn.headers, ["x-api-key", "x-token"]);
    assert_eq!(config.gateway.routes[0].request_body, Some(1024));
    let path = "/var/lib/gatelet".into();
    assert_eq!(
        config.store,
        Some(gatelet::store::Config::Embedded { path })
    );
}

#[test]
fn problems_of_the_environment_name_the_variable() {
    let (_folder, path) = written(MINIMAL);
    let over = environment(&[
        ("GATELET__LISTEN__PROXI", "127.0.0.1:2"),
        ("GATELET__LISTEN__TELEMETRY", "nowhere"),
        ("GATELET__RUNTIME__WORKERS", "all"),
        ("GATELET__ROUTES__0__PATH", "/"),
        ("GATELET__LOG", "debug"),
        ("GATELET__STORE__URLS", "redis://localhost"),
        ("GATELET__IDENTITY__PREFIX", "x-"),
    ]);
    let (status, _, err) = check(&path, &over);
    assert_eq!(status, 2);
    let found: Vec<&str> = err.lines().collect();
    let expected = [
        r#"GATELET__IDENTITY__PREFIX: identity.prefix: it would take x-forwarded-for away from every request; write it like "x-auth-""#,
        r#"GATELET__LISTEN__PROXI: listen.proxi: unknown key "proxi"; did you mean "proxy"?"#,
        r#"GATELET__LISTEN__TELEMETRY: listen.telemetry: "nowhere" is not an IP address and a port; write it like "127.0.0.1:8080" or "[::]:8080""#,
        "GATELET__LOG: log: this is a section; name one of its keys",
        "GATELET__ROUTES__0__PATH: routes: lists of tables come from the file",
        r#"GATELET__RUNTIME__WORKERS: runtime.workers: expected a whole number, found "all""#,
        "GATELET__STORE__URLS: store.urls: an embedded store has no server; write kind = \"redis\", or leave it out",
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_not_utf8_is_a_problem_and_not_shown() {
    use std::os::unix::ffi::OsStringExt;
    let (_folder, path) = written(MINIMAL);
    let value = OsString::from_vec(b"pass\xffword".to_vec());
    let name = OsString::from("GATELET__API_KEYS__PEPPER");
    let (status, _, err) = check(&path, &Overrides::from_environment([(name, value)]));
    assert_eq!(status, 2);
    assert_eq!(
        err,
        "GATELET__API_KEYS__PEPPER: api_keys.pepper: the value is not UTF-8\n"
    );
}

#[test]
fn the_checked_in_reference_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/configuration.md");
    let mut generated = Vec::new();
    schema::reference(&mut generated).unwrap();
    let generated = String::from_utf8(generated).unwrap();
    assert!(
        fs::read_to_string(path).unwrap() == generated,
        "run `cargo run -- config reference > docs/configuration.md`"
    );
}

#[test]
fn the_reference_shows_the_defaults_that_an_empty_section_has() {
    let (_folder, minimal) = written(MINIMAL);
    // The blocks of the reference, one after another, are a configuration: lists of tables get
    // their required keys, which have no default.
    let mut text = String::new();
    for block in config::reference().split("```toml\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        let block = block.trim_end();
        let wanted = [
            "[listen.tls]",
            "[wallet]",
            "[access_token]",
            "[[access_token.trusted]]",
            "[upstreams.health_check]",
        ];
        if wanted.iter().any(|header| block.starts_with(header)) {
            // Their being there says that something is wanted.
            continue;
        }
        text.push_str(block);
        text.push_str(match block.lines().next().unwrap() {
            "[[upstreams]]" => "\nname = \"api\"\nurl = \"http://127.0.0.1:3000\"\n",
            "[[routes]]" => "\nprefix = \"/\"\nrequire = [\"api_key\"]\n",
            "[[api_keys.static]]" => {
                "\nname = \"ci\"\nsha256 = \"0000000000000000000000000000000000000000000000000000000000000000\"\n"
            }
            "[cors]" => "\norigins = [\"https://app.example.com\"]\n",
            _ => "\n",
        });
    }
    let text = text.replace("\norigins = []\n", "\n");
    let (_folder, full) = written(&text);
    let load = |path: &Path| {
        let loaded = config::load(path, &Overrides::default());
        loaded
            .map_err(|problems| problems.to_string())
            .unwrap()
            .config
    };
    let (minimal, mut full) = (load(&minimal), load(&full));
    assert_eq!(full.authn.statics.len(), 1);
    assert!(full.gateway.cors.is_some());
    full.authn.statics.clear();
    full.gateway.cors = None;
    assert_eq!(format!("{minimal:?}"), format!("{full:?}"));
}

#[test]
fn the_schema_knows_every_section_and_no_null() {
    let mut text = Vec::new();
    schema::schema(&mut text).unwrap();
    let text = String::from_utf8(text).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&text).unwrap();
    let sections = schema["properties"].as_object().unwrap();
    let names: Vec<&str> = sections.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "listen",
            "runtime",
            "upstreams",
            "routing",
            "routes",
            "auth",
            "cors",
            "api_keys",
            "access_token",
            "refresh_token",
            "wallet",
            "session_token",
            "store",
            "cache",
            "limits",
            "identity",
            "forwarded",
            "log"
        ]
    );
    assert_eq!(schema["additionalProperties"], false);
    assert!(!text.contains("null"), "TOML has no null");
    assert_eq!(
        schema["properties"]["limits"]["properties"]["head_timeout"]["default"],
        "10s"
    );
}
