//! Those who try on one replica what was made and ended on others.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::{PACE, once_in};
use crate::chaos::caller::Caller;
use crate::chaos::model::{Credential, Kind, Standing};
use crate::chaos::run::{MAX_STALENESS, Run};
use crate::harness::{KEY, Random};

/// For so long after it has ended, a credential is tried.
const TRIED: Duration = Duration::from_secs(6);

/// Of how many one is chosen.
const LOOKED_AT: usize = 12;

/// A session is looked at so long after it has expired: not by the last caller that used it.
const SURELY: Duration = Duration::from_millis(100);

/// Presents everything, whether the replica has to ask the store or not.
pub(in crate::chaos) fn present_what_is_known(run: &Run, replica: usize, seed: u64) {
    let mut random = Random::seeded(seed);
    let mut caller = Caller::new(run);
    while run.goes_on() {
        if let Some(credential) = choose(run, &mut random, |_| true) {
            caller.present(replica, &credential);
        }
        if once_in(&mut random, 50) {
            forget(run);
        }
        thread::sleep(PACE / 2);
    }
}

/// Presents what the replica has let in before: it answers at once, with its store and without.
pub(in crate::chaos) fn present_what_is_remembered(run: &Run, replica: usize, seed: u64) {
    let mut random = Random::seeded(seed);
    let mut caller = Caller::new(run);
    while run.goes_on() {
        let remembered = |credential: &Credential| credential.is_remembered(replica);
        if let Some(credential) = choose(run, &mut random, remembered) {
            caller.present(replica, &credential);
        }
        thread::sleep(PACE / 2);
    }
}

pub(in crate::chaos) fn present_what_needs_no_store(run: &Run, replica: usize) {
    let mut caller = Caller::new(run);
    while run.goes_on() {
        caller.present_nothing(replica, Some(KEY));
        caller.present_nothing(replica, None);
        thread::sleep(PACE * 4);
    }
}

/// One of those that are wanted: of some, one that has ended rather than one that is good.
fn choose(
    run: &Run,
    random: &mut Random,
    wanted: impl Fn(&Credential) -> bool,
) -> Option<Arc<Credential>> {
    let now = Instant::now();
    let presented = run.presented.lock().unwrap();
    if presented.is_empty() {
        return None;
    }
    let mut chosen = None;
    for _ in 0..LOOKED_AT {
        let credential = &presented[random.below(presented.len())];
        if !wanted(credential) {
            continue;
        }
        match credential.standing(now) {
            Standing::Ended(_) => return Some(Arc::clone(credential)),
            Standing::Expired(at) if now > at + SURELY => return Some(Arc::clone(credential)),
            Standing::Good | Standing::Unsure if !credential.is_retired() => {
                chosen = Some(Arc::clone(credential));
            }
            _ => {}
        }
    }
    chosen
}

/// Drops what was refused for long enough.
fn forget(run: &Run) {
    let now = Instant::now();
    let mut presented = run.presented.lock().unwrap();
    presented.retain(|credential| match credential.standing(now) {
        Standing::Ended(at) => now < at + TRIED.max(MAX_STALENESS),
        Standing::Expired(at) => now < at + TRIED,
        // A session that is left alone is to be seen to expire.
        Standing::Good | Standing::Unsure => {
            !credential.is_retired() || credential.kind == Kind::Session
        }
    });
}
