//! What strangers send, byte by byte, and that none of it gets past the guard.
//!
//! Two gatelets stand before each case: one whose routes are `/public` and `/admin` alone, and one
//! where everything else is open as well, so that a path that is misread lands somewhere.

mod framing;
mod fuzz;
mod headers;
mod paths;

use std::time::Duration;

use crate::harness::{BOUND, Client, Received, Upstream, World};

/// `/public` is open, `/admin` is guarded, nothing else is there.
pub(crate) const NARROW: &str = r#"
[[routes]]
name = "public"
prefix = "/public"
require = "nothing"

[[routes]]
name = "admin"
prefix = "/admin"
require = ["api_key"]
"#;

/// The same, and everything else is open.
pub(crate) const WIDE: &str = r#"
[[routes]]
name = "public"
prefix = "/public"
require = "nothing"

[[routes]]
name = "admin"
prefix = "/admin"
require = ["api_key"]

[[routes]]
name = "rest"
prefix = "/"
require = "nothing"
"#;

/// The status of the first answer to these bytes; 0 when the connection ends without one.
///
/// What follows on the connection is read as well, so that a second request hidden in the bytes has
/// been dealt with when this returns.
fn exchange(world: &World, bytes: &[u8]) -> u16 {
    let mut client = world.connect();
    client.send(bytes);
    let method = if bytes.starts_with(b"HEAD") {
        "HEAD"
    } else {
        "GET"
    };
    let status = answered(&mut client, method);
    let more_than_a_head = !bytes.ends_with(b"\r\n\r\n") || heads(bytes) > 1;
    if more_than_a_head {
        client.patience(Duration::from_millis(200));
        while client.try_response("GET").is_ok() {}
    }
    status
}

fn heads(bytes: &[u8]) -> usize {
    bytes.windows(4).filter(|four| four == b"\r\n\r\n").count()
}

fn answered(client: &mut Client, method: &str) -> u16 {
    client.patience(BOUND);
    match client.try_response(method) {
        Ok(response) => response.status,
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            panic!("neither an answer nor a close")
        }
        Err(_) => 0,
    }
}

/// Panics when a request carries anything that only gatelet may say, and gatelet did not.
///
/// `caller` is the subject that gatelet proved, if any.
fn assert_unforged(received: &Received, caller: Option<&str>) {
    const REMOVED: [&str; 9] = [
        "x-original-url",
        "x-rewrite-url",
        "x-http-method-override",
        "x-http-method",
        "x-method-override",
        "x-real-ip",
        "forwarded",
        "x-api-key",
        "x-forwarded-prefix",
    ];
    for ((name, value), folded) in received
        .headers
        .0
        .iter()
        .zip(received.headers.folded_names())
    {
        let line = format!("{name}: {value}");
        assert!(
            !REMOVED.contains(&folded.as_str()),
            "{line} in {received:#?}"
        );
        if folded.starts_with("x-auth-") {
            assert!(caller.is_some(), "{line} for a stranger: {received:#?}");
            assert_eq!(name, &folded, "not gatelet's spelling");
            assert!(!value.contains("root"), "{line} was not written by gatelet");
        }
        if folded.starts_with("x-forwarded-") || folded == "x-request-id" {
            assert_eq!(name, &folded, "not gatelet's spelling");
            assert!(!value.contains("forged"), "{line} was believed");
        }
    }
    assert_eq!(received.headers.one("x-auth-subject"), caller);
    for (name, value) in &received.trailers.0 {
        let folded = &received.trailers.folded_names();
        assert!(
            !folded
                .iter()
                .any(|name| name.starts_with("x-auth-") || REMOVED.contains(&name.as_str())),
            "trailer {name}: {value}"
        );
    }
}

/// The upstream and the two gatelets before it.
struct Field {
    upstream: Upstream,
    narrow: World,
    wide: World,
}

impl Field {
    fn new() -> Self {
        let upstream = Upstream::echo();
        let narrow = World::start(&upstream, NARROW);
        let wide = World::start(&upstream, WIDE);
        Self {
            upstream,
            narrow,
            wide,
        }
    }

    /// Sends these bytes to both and panics unless each refuses with one of `statuses` (0: a close)
    /// and the upstream hears nothing.
    fn refused(&self, case: &str, bytes: impl AsRef<[u8]>, statuses: &[u16]) {
        for (world, name) in [(&self.narrow, "narrow"), (&self.wide, "wide")] {
            let status = exchange(world, bytes.as_ref());
            assert!(
                statuses.contains(&status),
                "{case}, {name}: {status}, not one of {statuses:?}"
            );
            self.upstream.assert_untouched(case);
        }
    }

    /// Sends these bytes to both; they are let through, once, unforged, and the upstream hears of
    /// nothing guarded.
    fn passes(&self, case: &str, bytes: impl AsRef<[u8]>) -> Received {
        let mut last = None;
        for world in [&self.narrow, &self.wide] {
            let status = exchange(world, bytes.as_ref());
            assert_eq!(status, 200, "{case}");
            let received = self.upstream.received();
            assert_eq!(received.len(), 1, "{case}: {received:#?}");
            assert_unforged(&received[0], None);
            self.upstream.assert_sane();
            last = self.upstream.take();
        }
        last.unwrap()
    }

    /// Sends these bytes to both; whatever they are answered, the upstream hears of nothing guarded,
    /// nothing forged and nothing malformed.
    fn harmless(&self, case: &str, bytes: impl AsRef<[u8]>) {
        for world in [&self.narrow, &self.wide] {
            let status = exchange(world, bytes.as_ref());
            assert!(status < 500, "{case}: {status}");
            for received in self.upstream.received() {
                assert!(
                    !received.target.contains("admin"),
                    "{case}: {status}, {received:#?}"
                );
                assert_unforged(&received, None);
            }
            self.upstream.assert_sane();
            self.upstream.take();
        }
    }
}
