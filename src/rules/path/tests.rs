//! The judgement against models of upstreams, and against what strangers are known to send.

use proptest::prelude::*;
use proptest::test_runner::Config;

use super::BadPath;

mod upstreams;
mod world;

use upstreams::composed;
use world::{LENIENT, World, worlds};

/// What attackers put together.
const PIECES: [&str; 60] = [
    "/",
    "/",
    "/",
    "/",
    "//",
    "\\",
    "%2f",
    "%2F",
    "%5c",
    "%252f",
    "%255c",
    "%25252f",
    ".",
    "..",
    "/..",
    "/../",
    "/./",
    "%2e",
    "%2E%2e",
    "/.%2e/",
    "%252e%252e",
    "..;",
    "/..;/",
    "/..%3b/",
    ";",
    ";x=1",
    "/;/",
    "%3b",
    "%253b",
    ";%2f",
    ";/..",
    "%23",
    "%3f",
    "%2523",
    "%253f",
    "/%23/",
    "admin",
    "admin",
    "admin",
    "/admin",
    "/admin/",
    "ADMIN",
    "Admin",
    "adm%69n",
    "%61dmin",
    "%2561dmin",
    "adm%2569n",
    "public",
    "public",
    "/public",
    "/public/",
    "PUBLIC",
    "pub%6cic",
    "x",
    "/x",
    "x/",
    "@scope%2fname",
    "%20",
    "caf%c3%a9",
    "%ef%bc%8e",
];

/// A deterministic generator (xorshift64*), so that a failure is the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let high = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(high).unwrap() % bound
    }

    fn path(&mut self, into: &mut String) {
        into.clear();
        into.push_str(["/", "/", "/public", "/public/", "/admin", "/x"][self.below(6)]);
        for _ in 0..=self.below(7) {
            into.push_str(PIECES[self.below(PIECES.len())]);
        }
    }
}

/// Judges spellings in one world, and says how many were let through to its first two routes.
fn storm(world: &World, seed: u64, spellings: usize) -> [usize; 2] {
    let mut random = Random(seed);
    let mut raw = String::new();
    let mut through = [0; 2];
    for _ in 0..spellings {
        random.path(&mut raw);
        // What is refused or matches nothing is not forwarded.
        let Ok(Some(route)) = world.find(&raw) else {
            continue;
        };
        if let Err(escape) = world.check(&raw, Some(route)) {
            panic!("{escape}");
        }
        if let Some(count) = through.get_mut(route) {
            *count += 1;
        }
    }
    through
}

#[test]
fn no_spelling_among_a_million_reaches_another_route_than_its_own() {
    let worlds = worlds();
    // Most of them where what matches nothing is cheap to leave out.
    let (plain, others) = worlds.split_first().unwrap();
    let results: Vec<[usize; 2]> = std::thread::scope(|scope| {
        let first = scope.spawn(|| storm(plain, 0x5eed, 600_000));
        let mut results: Vec<[usize; 2]> = others
            .iter()
            .map(|world| storm(world, 0xdeed, 100_000))
            .collect();
        results.push(first.join().unwrap());
        results
    });
    // A judgement that refused everything would pass too.
    for through in results {
        assert!(through.iter().all(|count| *count > 50), "{through:?}");
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = (0..PIECES.len()).prop_map(|at| PIECES[at]);
    proptest::collection::vec(piece, 0..9).prop_map(|pieces| format!("/{}", pieces.concat()))
}

fn cases(cases: u32) -> Config {
    Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    }
}

proptest! {
    #![proptest_config(cases(4_000))]

    #[test]
    fn any_text_is_judged_without_a_panic(raw in any::<String>()) {
        for world in worlds() {
            let _ = world.find(&raw);
            let _ = world.find(&format!("/{raw}"));
        }
    }

    #[test]
    fn bytes_in_escapes_are_judged_without_a_panic(bytes in any::<Vec<u8>>()) {
        let escapes: Vec<String> = bytes.iter().map(|byte| format!("%{byte:02x}")).collect();
        let raw = format!("/{}", escapes.concat());
        let world = World::new(&["/*"], LENIENT);
        if world.find(&raw).is_ok() {
            prop_assert!(std::str::from_utf8(&bytes).is_ok());
            prop_assert!(!bytes.iter().any(u8::is_ascii_control));
        }
    }

    #[test]
    fn what_is_matched_is_what_any_order_of_steps_serves(
        raw in pieces(),
        orders in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..8), 8),
    ) {
        for world in worlds() {
            let Ok(matched) = world.find(&raw) else { continue };
            if let Err(escape) = world.check(&raw, matched) {
                return Err(TestCaseError::fail(escape));
            }
            for order in &orders {
                prop_assert_eq!(world.covers(&composed(raw.as_bytes(), order)), matched, "{:?}", order);
            }
        }
    }
}

#[test]
fn what_strangers_send_is_refused_or_meets_the_stricter_route() {
    let world = World::new(&["/admin*", "/public*"], LENIENT);
    for raw in [
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/.%2E/admin",
        "/public/..%2fadmin",
        "/public%2f../admin",
        "/public%2f..%2fadmin",
        "//admin",
        "/public//../admin",
        "/%2fadmin",
        "/public%2fx",
        "/public/..%5cadmin",
        "/public%5c..%5cadmin",
        "/public/%252e%252e/admin",
        "/public/%252e%252e%252fadmin",
        "/public/..%252fadmin",
        "/public\\..\\admin",
        "\\admin",
        "/\\admin",
        "/public/..;/admin",
        "/public/..;x=1/admin",
        "/public/..%3b/admin",
        "/public/%2e%2e%3bx/admin",
        "/ADMIN",
        "/Admin/x",
        "/admin%23/public",
        "/admin%3f/public",
        "/admin#/public",
        "/admin?x=/public",
        "/admin;x=1",
        "/;/admin",
        "/./admin",
        "/public/%u002e%u002e/admin",
        "/public/%c0%ae%c0%ae/admin",
        "/public/%25c0%25ae/admin",
        "/public/%00",
        "/public/%2500",
        "/public/%0d%0a",
        "/public/%7f",
        "/public/\u{7f}",
        "/public/%",
        "/public/%zz",
        "/public/%4",
        "/public/%+4",
        "/public/caf\u{e9}",
        "/..",
        "/public/../..",
        "/public/%2e%2e/%2e%2e/public",
        "/admin/%2e%2e%2fpublic",
        "/admin/.%2fx",
        "/admin/x%2f.",
        "/admin/..%5c",
        "/admin/..",
        "//public/admin",
        "/x//../admin",
        "",
        "*",
        "admin",
        "http://internal/admin",
        "internal:80",
    ] {
        assert!(
            matches!(world.find(raw), Err(BadPath::Malformed(_))),
            "{raw} is not refused"
        );
    }
    for (raw, route) in [
        ("/admin", Some(0)),
        ("/admin/", Some(0)),
        ("/adm%69n", Some(0)),
        ("/%61%64%6D%69%6e", Some(0)),
        ("/admin//", Some(0)),
        ("/admin/.", Some(0)),
        ("/admin/x/../y", Some(0)),
        ("/admin/x;y=1", Some(0)),
        ("/admin/a%23b", Some(0)),
        ("/public", Some(1)),
        ("/public/100%25effective", Some(1)),
        ("/public/caf%C3%A9", Some(1)),
        ("/public/%EF%BC%8E%EF%BC%8E/admin", Some(1)),
        ("/public/a%20b/", Some(1)),
        ("/public/X", Some(1)),
        ("/public/...", Some(1)),
        ("/administrator", None),
        ("/", None),
        ("/%25252e%25252e/admin", None),
    ] {
        assert_eq!(world.find(raw), Ok(route), "{raw}");
    }
}

#[test]
fn white_space_at_the_end_of_a_segment_hides_nothing() {
    let world = World::new(&["/admin*", "/public*"], LENIENT);
    for raw in [
        "/admin%20",
        "/admin%20%20",
        "/admin%2520",
        "/admin%20;x",
        "/admin%20%23x",
        "/admin%c2%a0",
        "/admin%25a0",
        "/admin%ef%bb%bf",
        "/admin%20/x",
        "/public/..%20",
        "/public/..%20/admin",
    ] {
        assert!(
            matches!(world.find(raw), Err(BadPath::Malformed(_))),
            "{raw} is not refused"
        );
    }
    for (raw, route) in [
        ("/public/a%20", Some(1)),
        ("/admin/%20", Some(0)),
        ("/admin%20x", None),
    ] {
        assert_eq!(world.find(raw), Ok(route), "{raw}");
    }
}

#[test]
fn a_scoped_package_name_is_read_and_its_slash_is_reported() {
    let world = World::new(&["/*"], LENIENT);
    for raw in [
        "/@scope%2fname",
        "/@scope%2Flodash.get",
        "/@scope%2fname/1.0.0",
    ] {
        let found = world.table.find("localhost", raw).unwrap().unwrap();
        assert!(found.encoded_slash, "{raw}");
    }
    let found = world
        .table
        .find("localhost", "/@scope/name%20x")
        .unwrap()
        .unwrap();
    assert!(!found.encoded_slash);
    for raw in [
        "/@scope%2f.hidden",
        "/@scope%2f..",
        "/@scope.%2fname",
        "/@scope%2f%2ename",
    ] {
        assert!(world.find(raw).is_err(), "{raw}");
    }
}

#[test]
fn case_matters_where_patterns_are_in_upper_case_too() {
    let world = World::new(&["/*", "/Admin*"], LENIENT);
    assert_eq!(world.find("/Admin"), Ok(Some(1)));
    assert!(world.find("/admin").is_err());
    assert!(world.find("/ADMIN/x").is_err());
    assert_eq!(world.find("/PUBLIC"), Ok(Some(0)));
}

#[test]
fn a_longer_path_than_the_bound_is_told_apart() {
    let world = World::new(&["/*"], LENIENT);
    let longest = "/".to_owned() + &"a".repeat(super::MAX_PATH - 1);
    assert_eq!(world.find(&longest), Ok(Some(0)));
    assert_eq!(world.find(&(longest + "a")), Err(BadPath::TooLong));
}

#[test]
fn what_ordinary_clients_send_is_not_refused() {
    let world = World::new(&["/*"], LENIENT);
    let url = "/fetch/https%3A%2F%2Fcdn.example.com%2Fa%20b%3Fq%3D1%252C2%23part";
    assert_eq!(world.find(url), Ok(Some(0)));
    assert_eq!(
        world.find("/fetch/https://cdn.example.com//a;v=1/b%3Fq"),
        Ok(Some(0))
    );
    assert_eq!(world.find(&"/a%20b".repeat(1_300)), Ok(Some(0)));
    assert_eq!(world.find(&"/a;v=1/b%20c//d".repeat(250)), Ok(Some(0)));
}
