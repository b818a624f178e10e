//! Precedence, ties, hosts and methods.

use super::*;

const OPTIONS: MatchOptions = MatchOptions {
    ignore_case: false,
    ignore_trailing_slash: true,
};

/// A pattern as `host path`, the host and its space left out where any will do; prefixes end
/// in `*`.
pub(super) fn pattern(text: &str) -> Pattern {
    let (host, path) = match text.split_once(' ') {
        Some((host, path)) => (Some(host.into()), path),
        None => (None, text),
    };
    let path = match path.strip_suffix('*') {
        Some(prefix) => PathPattern::Prefix(prefix.into()),
        None if path.contains('{') => PathPattern::Template(path.into()),
        None => PathPattern::Exact(path.into()),
    };
    Pattern { host, path }
}

fn methods(names: &str) -> Vec<Method> {
    names
        .split_ascii_whitespace()
        .map(|name| name.parse().unwrap())
        .collect()
}

fn build(routes: &[(&str, &str)], options: MatchOptions) -> Result<RouteTable, Vec<Tie>> {
    let routes: Vec<(Pattern, Vec<Method>)> = routes
        .iter()
        .map(|(text, names)| (pattern(text), methods(names)))
        .collect();
    let borrowed = routes
        .iter()
        .map(|(pattern, methods)| (pattern, &**methods));
    RouteTable::build(borrowed, options)
}

fn table(patterns: &[&str]) -> RouteTable {
    let routes: Vec<(&str, &str)> = patterns.iter().map(|text| (*text, "")).collect();
    build(&routes, OPTIONS).unwrap()
}

fn chosen(table: &RouteTable, host: &str, path: &str) -> Option<usize> {
    let found = table.find(host, path).unwrap()?;
    Some(found.group.pick(&Method::GET).unwrap())
}

#[test]
fn exact_beats_prefix_and_longer_beats_shorter_in_any_order() {
    let patterns = ["/*", "/a*", "/a/b*", "/a/b", "/a/b/c"];
    let mut order: Vec<usize> = (0..patterns.len()).collect();
    for _ in 0..patterns.len() {
        order.rotate_left(1);
        let rotated: Vec<&str> = order.iter().map(|place| patterns[*place]).collect();
        let table = table(&rotated);
        for (path, expected) in [
            ("/", "/*"),
            ("/x", "/*"),
            ("/a", "/a*"),
            ("/ab", "/*"),
            ("/a/", "/a*"),
            ("/a/c", "/a*"),
            ("/a/b", "/a/b"),
            ("/a/b/", "/a/b"),
            ("/a/b/c", "/a/b/c"),
            ("/a/b/c/d", "/a/b*"),
            ("/a/bc", "/a*"),
        ] {
            let place = chosen(&table, "localhost", path).unwrap();
            assert_eq!(rotated[place], expected, "{path}");
        }
    }
}

#[test]
fn a_host_beats_no_host_whatever_its_path() {
    let table = table(&["/a/b", "/*", "api.example.com /a*", "::1 /a*"]);
    for host in [
        "api.example.com",
        "API.Example.com",
        "api.example.com.",
        "api.example.com:8080",
        "api.example.com.:8080",
    ] {
        assert_eq!(chosen(&table, host, "/a/b"), Some(2), "{host}");
        assert_eq!(chosen(&table, host, "/x"), Some(1), "{host}");
    }
    for host in ["[::1]", "[::1]:8080", "::1"] {
        assert_eq!(chosen(&table, host, "/a/b"), Some(3), "{host}");
    }
    for host in [
        "example.com",
        "api.example.com..",
        "xapi.example.com",
        "",
        ":80",
        "[",
    ] {
        assert_eq!(chosen(&table, host, "/a/b"), Some(0), "{host}");
    }
}

#[test]
fn the_readings_of_a_path_are_compared_within_its_host() {
    let table = table(&["/*", "api.example.com /admin*"]);
    assert!(table.find("api.example.com", "/x/..%2e/admin").is_ok());
    assert!(table.find("api.example.com", "/x/../admin").is_err());
    assert_eq!(chosen(&table, "localhost", "/x/../admin"), Some(0));
}

#[test]
fn named_methods_beat_any_and_a_path_without_the_method_does_not_fall_through() {
    let routes = [
        ("/*", ""),
        ("/a*", "GET HEAD"),
        ("/a*", "POST"),
        ("/b", ""),
        ("/b", "PUT"),
    ];
    let table = build(&routes, OPTIONS).unwrap();
    let group = |path| table.find("localhost", path).unwrap().unwrap().group;
    assert_eq!(group("/a/x").pick(&Method::HEAD), Ok(1));
    assert_eq!(group("/a/x").pick(&Method::POST), Ok(2));
    assert_eq!(group("/a/x").pick(&Method::DELETE), Err("GET, HEAD, POST"));
    assert_eq!(group("/b").pick(&Method::PUT), Ok(4));
    assert_eq!(group("/b").pick(&Method::GET), Ok(3));
}

#[test]
fn get_implies_head_unless_another_route_of_the_path_names_it() {
    let routes = [
        ("/a", "GET POST"),
        ("/b", "GET"),
        ("/b", "PUT HEAD"),
        ("/c", "GET"),
        ("/c", ""),
        ("/d", "POST"),
    ];
    let table = build(&routes, OPTIONS).unwrap();
    let group = |path| table.find("localhost", path).unwrap().unwrap().group;
    assert_eq!(group("/a").pick(&Method::HEAD), Ok(0));
    assert_eq!(group("/a").pick(&Method::PUT), Err("GET, HEAD, POST"));
    assert_eq!(group("/b").pick(&Method::HEAD), Ok(2));
    assert_eq!(group("/c").pick(&Method::HEAD), Ok(3));
    assert_eq!(group("/d").pick(&Method::HEAD), Err("POST"));
}

#[test]
fn every_tie_is_reported() {
    let routes = [
        ("/a", "GET HEAD"),
        ("/a/", "HEAD POST"),
        ("/a*", "GET"),
        ("/a/*", "GET POST"),
        ("/a", ""),
        ("/b", ""),
        ("EXAMPLE.com /b", ""),
        ("example.com /b/", ""),
        ("/b", ""),
        ("/B", ""),
    ];
    let tie = |first, second| Tie { first, second };
    let ties = build(&routes, OPTIONS).unwrap_err();
    assert_eq!(ties, [tie(0, 1), tie(2, 3), tie(6, 7), tie(5, 8)]);

    let strict = MatchOptions::default();
    let ties = build(&routes, strict).unwrap_err();
    assert_eq!(ties, [tie(2, 3), tie(5, 8)]);

    let folded = MatchOptions {
        ignore_case: true,
        ..OPTIONS
    };
    let ties = build(&routes, folded).unwrap_err();
    assert_eq!(
        ties,
        [tie(0, 1), tie(2, 3), tie(6, 7), tie(5, 8), tie(5, 9)]
    );
}

#[test]
fn a_trailing_slash_matters_only_where_it_is_written_out() {
    let routes = [("/*", ""), ("/docs/", ""), ("/admin", "")];
    let table = build(&routes, MatchOptions::default()).unwrap();
    assert_eq!(chosen(&table, "localhost", "/docs/"), Some(1));
    assert_eq!(chosen(&table, "localhost", "/docs"), Some(0));
    assert_eq!(chosen(&table, "localhost", "/x/"), Some(0));
    assert_eq!(chosen(&table, "localhost", "/admin"), Some(2));
    // An upstream that drops the slash would serve what is guarded.
    assert!(table.find("localhost", "/admin/").is_err());
    assert!(table.find("localhost", "/admin/%20/..").is_err());
}

#[test]
fn routes_that_differ_in_case_alone_cannot_be_told_apart() {
    let table = table(&["/*", "/Docs*", "/docs*"]);
    assert!(table.find("localhost", "/docs").is_err());
    assert!(table.find("localhost", "/Docs/x").is_err());
    assert_eq!(chosen(&table, "localhost", "/x"), Some(0));
}

#[test]
fn case_is_ignored_where_the_options_say_so() {
    let options = MatchOptions {
        ignore_case: true,
        ..OPTIONS
    };
    let table = build(&[("/*", ""), ("/Admin*", "")], options).unwrap();
    for path in ["/admin", "/ADMIN/x", "/Admin/%20"] {
        assert_eq!(chosen(&table, "localhost", path), Some(1), "{path}");
    }
}

#[test]
fn a_placeholder_stands_for_any_segment_and_yields_to_exact_paths_alone() {
    let table = table(&[
        "/*",
        "/clients/{subject}/sessions",
        "/clients/me*",
        "/clients/me/sessions/old",
        "/clients/you/sessions",
    ]);
    for (path, expected) in [
        ("/clients/0xAb/sessions", 1),
        ("/clients/me/sessions", 1),
        ("/clients/me/sessions/", 1),
        ("/clients/a%20b/sessions", 1),
        ("/clients/you/sessions", 4),
        ("/clients/me/sessions/old", 3),
        ("/clients/me/sessions/new", 2),
        ("/clients/me/else", 2),
        ("/clients/x/else", 0),
        ("/clients/x", 0),
        ("/clients//sessions", 0),
    ] {
        assert_eq!(chosen(&table, "h", path), Some(expected), "{path}");
    }
}

#[test]
fn a_placeholder_is_filled_with_what_the_path_says() {
    let template = pattern("/clients/{subject}/sessions").path;
    for (path, filled) in [
        ("/clients/0xAb/sessions", Some("0xAb")),
        ("/clients/a%20%C3%A9/sessions", Some("a é")),
        ("/clients/%ff/sessions", None),
        ("/clients", None),
    ] {
        assert_eq!(
            template.filled("subject", path).as_deref(),
            filled,
            "{path}"
        );
    }
    assert_eq!(template.filled("id", "/clients/x/sessions"), None);
    let exact = pattern("/clients/x").path;
    assert_eq!(exact.filled("subject", "/clients/x"), None);
}
