//! Keys that are made and revoked with the commands.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{AGAIN, any_replica, present_everywhere};
use crate::chaos::caller::Caller;
use crate::chaos::model::{Credential, Kind, Life};
use crate::chaos::run::Run;
use crate::harness::Random;

/// How many there are before one is revoked.
const KEPT: usize = 12;

/// A command is a process: a pause for the others.
const PAUSE: Duration = Duration::from_millis(250);

pub(in crate::chaos) fn make_and_revoke_keys(run: &Run, seed: u64) {
    let mut random = Random::seeded(seed);
    let mut caller = Caller::new(run);
    while run.goes_on() {
        let count = run.keys.lock().unwrap().len();
        if count < KEPT {
            make(run, &mut random);
        } else {
            let key = run.keys.lock().unwrap().remove(random.below(count));
            present_everywhere(&mut caller, &key);
            revoke(run, &mut random, &key);
            thread::sleep(PAUSE);
        }
    }
}

fn make(run: &Run, random: &mut Random) {
    let owner = format!("owner-{}", run.number());
    let words = ["keys", "create", "--json", "--scope", "sessions:issue"];
    let made = command(
        run,
        any_replica(random),
        "keys made",
        &[&words[..], &["--name", &owner, "--owner", &owner]].concat(),
    );
    let Some(made) = made else {
        return;
    };
    let made: Value = serde_json::from_slice(&made).unwrap();
    let (id, secret) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    let lives = vec![Arc::new(Life::default())];
    let key = Arc::new(Credential::new(Kind::Key, id, secret, &owner, lives));
    run.keys.lock().unwrap().push(Arc::clone(&key));
    run.publish(&key);
}

fn revoke(run: &Run, random: &mut Random, key: &Credential) {
    key.lives[0].endanger();
    while run.goes_on() {
        let words = ["keys", "revoke", &*key.id];
        if command(run, any_replica(random), "keys revoked", &words).is_some() {
            key.lives[0].end(Instant::now());
            return;
        }
        thread::sleep(AGAIN);
    }
}

/// Runs a command on the path of this replica; what it said, where it did its part.
fn command(run: &Run, replica: usize, what: &'static str, words: &[&str]) -> Option<Vec<u8>> {
    let began = Instant::now();
    let output = run.replicas[replica].world.lock().unwrap().command(words);
    if output.status.success() {
        run.tally.count(what, "done");
        return Some(output.stdout);
    }
    run.tally.count(what, "unknown");
    if run.weather.is_fair(replica, began, Instant::now()) {
        run.fail(&format!("{words:?}: {output:?}"));
    }
    None
}
