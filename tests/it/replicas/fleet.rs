//! Three programs on one server, before an upstream each.

use serde_json::json;

use crate::harness::{Response, Server, Upstream, Wallet, World, request};
use crate::sign_in::site::{AUTH, ROUTES, Site, rest_on, static_key, text};

/// A key of `acme` that may issue sessions.
pub(super) const SERVER: &str = "the-key-of-the-server-that-issues";

const CLIENT: &str = "\n[[routes]]\nprefix = \"/client\"\nrequire = [\"session_token\"]\n";

/// A store on the server at this port.
pub(super) fn at(port: u16) -> String {
    format!("[store]\nkind = \"redis\"\nurls = [\"redis://127.0.0.1:{port}\"]\n")
}

/// A program on each of these stores; `more` is put before them.
pub(super) fn start(stores: &[String], more: &str) -> Vec<Site> {
    let server = static_key(SERVER, "acme", &["sessions:issue"]);
    let mut sites: Vec<Site> = Vec::new();
    for store in stores {
        let upstream = Upstream::echo();
        let rest = rest_on(&format!("{more}\n{store}"));
        let world = World::start(&upstream, &format!("{ROUTES}{rest}{CLIENT}{server}"));
        let key = match sites.first() {
            Some(first) => first.key.clone(),
            None => world.create_key("web", &["--owner", "acme"]).1,
        };
        sites.push(Site {
            upstream,
            world,
            key,
        });
    }
    sites
}

/// Three of them, each with a way of its own to one server.
pub(super) fn on(server: &Server, more: &str) -> Vec<Site> {
    start(&[(); 3].map(|()| at(server.port())), more)
}

/// Something that lets its bearer in until it is revoked.
pub(super) struct Credential {
    pub(super) kind: Kind,
    /// The request that shows it.
    pub(super) shown: String,
    /// What it is revoked by: an id or a refresh token.
    handle: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Key,
    Session,
    Family,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Key, Self::Session, Self::Family];
}

impl Credential {
    /// One that was just made on this replica.
    pub(super) fn made_on(site: &Site, kind: Kind) -> Self {
        let with_bearer = |target: &str, bearer: &str| {
            request(
                "GET",
                target,
                &[("authorization", &format!("Bearer {bearer}"))],
            )
        };
        let (shown, handle) = match kind {
            Kind::Key => {
                let (id, key) = site.world.create_key("one", &[]);
                (request("GET", "/keys", &[("x-api-key", &key)]), id)
            }
            Kind::Session => {
                let issued = issued_on(site);
                let token = text(&issued, "clientSessionToken");
                (with_bearer("/client", &token), text(&issued, "sessionId"))
            }
            Kind::Family => {
                let signed_in = site.sign_in(&Wallet::numbered(7), "body");
                let access = text(&signed_in, "accessToken");
                (
                    with_bearer("/token", &access),
                    text(&signed_in, "refreshToken"),
                )
            }
        };
        Self {
            kind,
            shown,
            handle,
        }
    }

    /// Ends it on this replica, and returns once that was answered.
    pub(super) fn revoke_on(&self, site: &Site) {
        match self.kind {
            Kind::Key => site.world.revoke_key(&self.handle),
            Kind::Session => {
                let target = format!("{AUTH}/sessions/{}", self.handle);
                let ended = site
                    .world
                    .send(request("DELETE", &target, &[("x-api-key", SERVER)]));
                assert_eq!(ended.status, 204, "{}", ended.text());
            }
            Kind::Family => {
                let body = json!({"refreshToken": self.handle});
                let ended = site.post("/logout", &[], &body);
                assert_eq!(ended.status, 204, "{}", ended.text());
            }
        }
    }
}

/// The answer to a new session for a user.
pub(super) fn issued_on(site: &Site) -> Response {
    let body = json!({"subject": "user-7"});
    let issued = site.post("/sessions", &[("x-api-key", SERVER)], &body);
    assert_eq!(issued.status, 201, "{}", issued.text());
    issued
}
