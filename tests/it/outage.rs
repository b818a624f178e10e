//! A store that fails: what nobody can know is never reported as wrong, and lets nobody in.

use std::fs;

use rusqlite::Connection;
use serde_json::json;

use crate::harness::{KEY, Response, Upstream, Wallet, World, eventually, sha256_hex};
use crate::sign_in::checksum;
use crate::sign_in::site::{Site, text};

const ROUTES: &str = r#"
[[routes]]
name = "session"
prefix = "/session"
require = ["session_token"]

[[routes]]
name = "either"
prefix = "/either"
require = { any = ["session_token", "api_key"] }

[[routes]]
name = "both"
prefix = "/both"
require = ["api_key", "session_token"]

[[routes]]
name = "optional"
prefix = "/optional"
require = { optional = ["session_token"] }

[[routes]]
name = "open"
prefix = "/open"
require = "nothing"

[[routes]]
name = "keys"
prefix = "/keys"
require = ["api_key"]

[store]
kind = "embedded"
path = "{folder}/data"
"#;

const IMPORTED: [&str; 2] = [
    "a-session-taken-over-and-seen",
    "a-session-taken-over-unseen",
];

/// How the store is taken away, and given back.
#[derive(Clone, Copy, Debug)]
enum Outage {
    /// The database fails: its table is gone.
    Failing,
    /// The folder was moved away under the running server.
    Moved,
}

impl Outage {
    fn begin(self, world: &World) {
        match self {
            Self::Failing => execute(world, "ALTER TABLE records RENAME TO away"),
            Self::Moved => {
                let data = world.folder().join("data");
                fs::rename(&data, world.folder().join("elsewhere")).unwrap();
            }
        }
    }

    fn end(self, world: &World) {
        match self {
            Self::Failing => execute(world, "ALTER TABLE away RENAME TO records"),
            Self::Moved => {
                let data = world.folder().join("data");
                fs::rename(world.folder().join("elsewhere"), data).unwrap();
            }
        }
    }
}

fn execute(world: &World, sql: &str) {
    let database = Connection::open(world.folder().join("data/gatelet.db")).unwrap();
    database.execute_batch(sql).unwrap();
}

fn get(world: &World, target: &str, bearer: &str, key: Option<&str>) -> Response {
    let bearer = format!("Bearer {bearer}");
    let mut headers = vec![("authorization", &*bearer)];
    headers.extend(key.map(|key| ("x-api-key", key)));
    world.get(target, &headers)
}

fn world_with_imports(upstream: &Upstream) -> World {
    let world = World::start(upstream, ROUTES);
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let lines = IMPORTED.map(|token| {
        let line = json!({
            "kind": "session", "sha256": sha256_hex(token), "subject": "user-9",
            "owner": "platform", "createdAt": now - 100, "expiresAt": now + 3600,
        });
        format!("{line}\n")
    });
    world.write("live.ndjson", &lines.concat());
    let taken = world.command(&["sessions", "import", "live.ndjson"]);
    assert!(taken.status.success(), "{taken:?}");
    eventually("what was taken over works", || {
        get(&world, "/session", IMPORTED[0], None).status == 200
    });
    world
}

#[test]
fn a_bearer_that_nobody_can_look_up_is_a_503_wherever_a_token_is_listed() {
    for outage in [Outage::Failing, Outage::Moved] {
        let upstream = Upstream::echo();
        let world = world_with_imports(&upstream);
        outage.begin(&world);
        upstream.take();
        let unknown = "who-knows-whose-this-bearer-is";
        let unseen = "gs_0000000000000000000000000000000000000000000";
        let unseen = format!("{unseen}{}", checksum(unseen));
        for bearer in [IMPORTED[1], unknown, &unseen] {
            for (target, key) in [
                ("/session", None),
                ("/either", None),
                ("/optional", None),
                ("/both", Some(KEY)),
            ] {
                let answer = get(&world, target, bearer, key);
                let told = (answer.status, &*answer.code());
                assert_eq!(told, (503, "store_unavailable"), "{outage:?} {target}");
            }
        }
        let key = world.get("/keys", &[("x-api-key", unknown)]);
        assert_eq!(key.code(), "store_unavailable", "{outage:?}");
        upstream.assert_untouched("an outage lets nobody in");
        // What needs no store goes on, without a bearer that may be a secret of ours.
        assert_eq!(world.status_with("/keys", KEY), 200);
        assert_eq!(get(&world, "/open", IMPORTED[1], None).status, 200);
        let received = upstream.received().pop().unwrap();
        assert!(!received.headers.has("authorization"));
        outage.end(&world);
        let after = |bearer| get(&world, "/session", bearer, None);
        eventually("the store answers again", || {
            after(IMPORTED[1]).status == 200
        });
        assert_eq!(after(unknown).code(), "token_invalid");
    }
}

#[test]
fn an_access_token_whose_family_nobody_can_look_up_is_a_503() {
    let site = Site::open();
    let signed_in = site.sign_in(&Wallet::numbered(70), "body");
    let (access, refresh) = (
        text(&signed_in, "accessToken"),
        text(&signed_in, "refreshToken"),
    );
    site.upstream.take();
    Outage::Failing.begin(&site.world);
    assert_eq!(site.portfolio(&access).code(), "store_unavailable");
    let refreshed = site.refresh(&refresh);
    assert_eq!(
        (refreshed.status, &*refreshed.code()),
        (503, "store_unavailable")
    );
    site.upstream.assert_untouched("an outage lets nobody in");
    Outage::Failing.end(&site.world);
    assert_eq!(site.refresh(&refresh).status, 200);
    assert_eq!(site.portfolio(&access).status, 200);
}
