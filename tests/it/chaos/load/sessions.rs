//! Servers that issue sessions, whose users use them on any replica, and that end them.

use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use super::{AGAIN, PACE, any_replica, once_in, present_everywhere};
use crate::chaos::caller::{Caller, Heard};
use crate::chaos::model::{Credential, Life, Standing};
use crate::chaos::run::Run;
use crate::harness::{Random, request};
use crate::sign_in::site::AUTH;

/// How many sessions a server has at once.
const KEPT: usize = 5;

struct Session {
    credential: Arc<Credential>,
    /// What it was issued with.
    key: Arc<Credential>,
}

pub(in crate::chaos) fn use_sessions(run: &Run, seed: u64) {
    let mut random = Random::seeded(seed);
    let mut caller = Caller::new(run);
    let mut sessions: Vec<Session> = Vec::new();
    while run.goes_on() {
        // Those that went with their key, or that were not used for too long to be certain.
        let now = std::time::Instant::now();
        sessions.retain(|session| session.credential.standing(now) == Standing::Good);
        if sessions.len() < KEPT {
            sessions.extend(issue(run, &mut caller, &mut random));
        } else {
            let chosen = random.below(sessions.len());
            match random.below(120) {
                0 => end(run, &mut caller, &mut random, &sessions.remove(chosen)),
                1 => sessions.remove(chosen).credential.retire(),
                _ => {
                    let session = &sessions[chosen].credential;
                    caller.present(any_replica(&mut random), session);
                }
            }
        }
        thread::sleep(PACE);
    }
}

fn issue(run: &Run, caller: &mut Caller<'_>, random: &mut Random) -> Option<Session> {
    let key = run.any_key(random);
    let subject = format!("user-{}", run.number());
    let heard = ask(caller, any_replica(random), &key, &subject)?;
    run.judge("session issued", &key, &heard);
    if heard.status != 201 {
        return None;
    }
    let lives = vec![Arc::new(Life::default()), Arc::clone(&key.lives[0])];
    let (id, token) = (heard.text("sessionId"), heard.text("clientSessionToken"));
    let credential = Credential::session(&id, &token, &subject, lives, heard.sent);
    let credential = Arc::new(credential);
    run.publish(&credential);
    Some(Session { credential, key })
}

fn ask(caller: &mut Caller<'_>, replica: usize, key: &Credential, subject: &str) -> Option<Heard> {
    let key = [("x-api-key", &*key.secret)];
    let body: Value = json!({"subject": subject});
    caller.post(replica, "/sessions", &key, &body)
}

fn end(run: &Run, caller: &mut Caller<'_>, random: &mut Random, session: &Session) {
    if once_in(random, 2) {
        present_everywhere(caller, &session.credential);
    }
    let life = &session.credential.lives[0];
    life.endanger();
    let target = format!("{AUTH}/sessions/{}", session.credential.id);
    let ending = request("DELETE", &target, &[("x-api-key", &session.key.secret)]);
    while run.goes_on() {
        let Some(heard) = caller.ask(any_replica(random), &ending) else {
            continue;
        };
        run.judge("session ended", &session.key, &heard);
        match heard.status {
            204 => return life.end(heard.answered),
            // It goes with its key.
            401 => return,
            _ => thread::sleep(AGAIN),
        }
    }
}
