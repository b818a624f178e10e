//! Micro-benchmarks of the rules that every request passes.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gatelet::rules::route::{MatchOptions, PathPattern, Pattern, RouteTable};
use http::Method;

/// A table of the size that a grown API has, with one guarded path in it.
fn table() -> RouteTable {
    let mut patterns: Vec<Pattern> = (0..200)
        .map(|number| format!("/api/v1/resource-{number}"))
        .map(|path| Pattern {
            host: None,
            path: PathPattern::Prefix(path.into()),
        })
        .collect();
    patterns.push(Pattern {
        host: Some("api.example.com".into()),
        path: PathPattern::Prefix("/api/v1/portfolio".into()),
    });
    patterns.push(Pattern {
        host: None,
        path: PathPattern::Prefix("/".into()),
    });
    let methods: &[Method] = &[];
    let options = MatchOptions {
        ignore_case: false,
        ignore_trailing_slash: true,
    };
    RouteTable::build(patterns.iter().map(|pattern| (pattern, methods)), options)
        .unwrap_or_else(|ties| unreachable!("the patterns differ: {ties:?}"))
}

fn paths(criterion: &mut Criterion) {
    let table = table();
    let mut group = criterion.benchmark_group("path");
    let longest = "/".to_owned() + &"a/b-c_d".repeat(1_000);
    // As many kinds of reading as go together without being refused early.
    let dearest = "/x;y/%5c%2f/%253b/%23/%3f".repeat(2);
    let dearest_long = "/".to_owned() + &"x".repeat(8_000) + "/;/%5c%2f/%253b/%23/%3f//y";
    for (name, path) in [
        ("plain", "/api/v1/portfolio/holdings/0x1234"),
        ("upper case", "/api/v1/portfolio/holdings/0xAbCd"),
        ("deep in a large table", "/api/v1/resource-137/items/12"),
        ("escaped space", "/api/v1/portfolio/a%20name"),
        ("scoped package", "/@scope%2fname"),
        ("dot segments", "/api/v1/../v1/portfolio"),
        ("longest plain", &longest),
        ("dearest", &dearest),
        ("dearest long", &dearest_long),
    ] {
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                table
                    .find(black_box("api.example.com:8080"), black_box(path))
                    .is_ok()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, paths);
criterion_main!(benches);
