//! One caller of all replicas: asks, hears, and has the answer judged.

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::REPLICAS;
use super::model::{Credential, IDLE, Kind};
use super::run::Run;
use crate::harness::{Client, Headers, Response, request};
use crate::sign_in::site::AUTH;

/// Longer than any answer may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// An answer, and when it came.
pub(super) struct Heard {
    pub(super) replica: usize,
    pub(super) sent: Instant,
    pub(super) answered: Instant,
    pub(super) status: u16,
    pub(super) code: String,
    pub(super) response: Response,
}

impl Heard {
    /// A member of the answer.
    pub(super) fn text(&self, member: &str) -> String {
        self.response.json()[member].as_str().unwrap().to_owned()
    }
}

/// Keeps a connection to each replica.
pub(super) struct Caller<'r> {
    run: &'r Run,
    /// And where it is: one that was started anew is elsewhere.
    clients: [Option<(SocketAddr, Client)>; REPLICAS],
}

impl<'r> Caller<'r> {
    pub(super) fn new(run: &'r Run) -> Self {
        Self {
            run,
            clients: Default::default(),
        }
    }

    /// The answer of a replica; none where it was killed before it answered.
    pub(super) fn ask(&mut self, replica: usize, request: &str) -> Option<Heard> {
        let sent = Instant::now();
        let address = (*self.run.replicas[replica].proxy.lock().unwrap())?;
        let answer = self.try_ask(replica, address, request);
        let answered = Instant::now();
        match answer {
            Ok(response) => {
                if response.headers.has("connection") {
                    self.clients[replica] = None;
                }
                self.run.tally.took("an answer took", answered - sent);
                Some(Heard {
                    replica,
                    sent,
                    answered,
                    status: response.status,
                    code: response.code(),
                    response,
                })
            }
            Err(error) => {
                self.clients[replica] = None;
                self.run.tally.count("connections", "lost");
                if *self.run.replicas[replica].proxy.lock().unwrap() == Some(address) {
                    self.run.fail(&format!("no answer to {request:?}: {error}"));
                }
                None
            }
        }
    }

    fn try_ask(
        &mut self,
        replica: usize,
        address: SocketAddr,
        request: &str,
    ) -> io::Result<Response> {
        let method = request.split(' ').next().unwrap();
        let held = &mut self.clients[replica];
        let client = match held {
            Some((known, client)) if *known == address => client,
            _ => {
                let client = Client::try_connect(address)?;
                client.patience(PATIENCE);
                &mut held.insert((address, client)).1
            }
        };
        client.try_send(request)?;
        client.try_response(method)
    }

    /// Asks one of gatelet's own routes.
    pub(super) fn post(
        &mut self,
        replica: usize,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Option<Heard> {
        let body = body.to_string();
        let length = body.len().to_string();
        let framing = [
            ("content-type", "application/json"),
            ("content-length", &*length),
        ];
        let head = request(
            "POST",
            &format!("{AUTH}{path}"),
            &[headers, &framing].concat(),
        );
        self.ask(replica, &format!("{head}{body}"))
    }

    /// Presents a credential where it is required, and has the answer judged, and what the API was
    /// told; whether it was let in.
    pub(super) fn present(&mut self, replica: usize, credential: &Credential) -> Option<bool> {
        let bearer = format!("Bearer {}", credential.secret);
        let (what, prefix, header) = match credential.kind {
            Kind::Key => ("key", "/keys", ("x-api-key", &*credential.secret)),
            Kind::Session => ("session", "/client", ("authorization", &*bearer)),
            Kind::Access => ("access token", "/token", ("authorization", &*bearer)),
            Kind::Refresh => unreachable!("it is exchanged"),
        };
        let (number, heard) = self.get(replica, prefix, &[header]);
        let told = self.run.seen.lock().unwrap().remove(&number);
        let Some(heard) = heard else {
            credential.may_have_been_used();
            return None;
        };
        self.run.judge(what, credential, &heard);
        let let_in = heard.status == 200;
        if heard.status != 503 {
            credential.note(replica, let_in);
        }
        if let_in {
            credential.was_used(heard.sent);
            self.check_expiry(credential, &heard);
        }
        match told {
            Some(told) if let_in => self.check_identity(credential, &told),
            None if !let_in => {}
            told => self.run.fail(&format!(
                "answered {} though the API saw {told:?}",
                heard.status
            )),
        }
        Some(let_in)
    }

    /// What needs no store: always answered, and nobody is named who is not there.
    pub(super) fn present_nothing(&mut self, replica: usize, key: Option<&str>) {
        let headers: Vec<(&str, &str)> = key.map(|key| ("x-api-key", key)).into_iter().collect();
        let (what, prefix) = match key {
            Some(_) => ("static key", "/keys"),
            None => ("public route", "/open"),
        };
        let (number, heard) = self.get(replica, prefix, &headers);
        let told = self.run.seen.lock().unwrap().remove(&number);
        let Some(heard) = heard else {
            return;
        };
        self.run.tally.count(what, "asked");
        let took = heard.answered - heard.sent;
        self.run
            .tally
            .took("an answer that needs no store took", took);
        let subject = told
            .as_ref()
            .map(|told| told.one("x-auth-subject").unwrap_or_default());
        let expected = key.map_or("", |_| "platform");
        if heard.status != 200 || subject != Some(expected) {
            self.run.fail(&format!(
                "{what} on replica {replica}: {} {}, the API saw {told:?}",
                heard.status, heard.code
            ));
        }
    }

    /// One request to the API, and the number that it knows it by.
    fn get(
        &mut self,
        replica: usize,
        prefix: &str,
        headers: &[(&str, &str)],
    ) -> (u64, Option<Heard>) {
        let number = self.run.number();
        let head = request("GET", &format!("{prefix}/{number}"), headers);
        (number, self.ask(replica, &head))
    }

    fn check_identity(&self, credential: &Credential, told: &Headers) {
        let method = match credential.kind {
            Kind::Key => "api_key",
            Kind::Session => "session_token",
            Kind::Access | Kind::Refresh => "access_token",
        };
        let key_id = told.one("x-auth-key-id");
        let session = told.one("x-auth-session-id");
        let is_whose = if credential.kind == Kind::Key {
            let known = credential.id.is_empty() || key_id == Some(&*credential.id);
            session.is_none() && known
        } else {
            let named = || session.unwrap_or_default().to_owned();
            key_id.is_none() && session == Some(credential.session.get_or_init(named))
        };
        let right = told.one("x-auth-subject") == Some(&*credential.subject)
            && told.one("x-auth-methods") == Some(method)
            && is_whose;
        if !right {
            self.run
                .fail(&format!("the API saw {told:?} of {credential:?}"));
        }
    }

    /// A session that was used lives on from its use, and no longer than that.
    fn check_expiry(&self, credential: &Credential, heard: &Heard) {
        if credential.kind != Kind::Session {
            return;
        }
        let told = heard.response.headers.one("x-session-expires-at");
        let told: u64 = told.and_then(|told| told.parse().ok()).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let latest = (now + IDLE).as_secs();
        let took = heard.answered.elapsed() + (heard.answered - heard.sent);
        let earliest = (now + IDLE).saturating_sub(took).as_secs();
        if !(earliest..=latest).contains(&told) {
            self.run.fail(&format!(
                "a session expires at {told}, and not from {earliest} to {latest}"
            ));
        }
    }
}
