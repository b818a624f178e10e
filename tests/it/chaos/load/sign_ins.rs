//! Wallets that sign in, refresh as clients do, and log out.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{AGAIN, PACE, any_replica, once_in, present_everywhere};
use crate::chaos::REPLICAS;
use crate::chaos::caller::{Caller, Heard};
use crate::chaos::model::{Credential, Kind, Life};
use crate::chaos::run::Run;
use crate::harness::{Random, Wallet};

/// How long a token is answered after it was rotated away, as the replicas are configured.
pub(in crate::chaos) const GRACE: Duration = Duration::from_secs(3);

/// How many sign-ins there are at once.
const KEPT: usize = 3;

/// How often each of them is refreshed.
const REFRESHED: Duration = Duration::from_millis(300);

/// A sign-in, as its client has it.
struct Family {
    life: Arc<Life>,
    /// For judging what comes of its refresh tokens.
    credential: Credential,
    /// What the API knows it as.
    session: Arc<OnceLock<String>>,
    token: String,
    /// Those before it, and since when the next one was known.
    spent: Vec<(String, Instant)>,
    access: Arc<Credential>,
    refreshed: Instant,
}

pub(in crate::chaos) fn refresh_sign_ins(run: &Run, seed: u64, wallet: u8) {
    let mut random = Random::seeded(seed);
    let mut caller = Caller::new(run);
    let wallet = Wallet::numbered(wallet);
    let mut families: Vec<Family> = Vec::new();
    while run.goes_on() {
        // Those that went with their key.
        families.retain(|family| family.credential.lives.iter().all(|life| life.is_good()));
        if families.len() < KEPT {
            families.extend(sign_in(run, &mut caller, &mut random, &wallet));
        } else {
            let chosen = random.below(families.len());
            match random.below(1000) {
                0..5 => log_out(
                    run,
                    &mut caller,
                    &mut random,
                    &[&families.remove(chosen)],
                    chosen,
                ),
                5 => {
                    let all: Vec<&Family> = families.iter().collect();
                    log_out(run, &mut caller, &mut random, &all, chosen);
                }
                6..30 => steal(run, &mut caller, &mut random, &families[chosen]),
                30..320 if families[chosen].refreshed.elapsed() > REFRESHED => {
                    refresh(run, &mut random, &mut families[chosen]);
                }
                _ => {
                    caller.present(any_replica(&mut random), &families[chosen].access);
                }
            }
        }
        thread::sleep(PACE);
    }
}

fn sign_in(
    run: &Run,
    caller: &mut Caller<'_>,
    random: &mut Random,
    wallet: &Wallet,
) -> Option<Family> {
    let key = run.any_key(random);
    let shown = [("x-api-key", &*key.secret)];
    let body = json!({"address": wallet.address()});
    let heard = caller.post(any_replica(random), "/nonce", &shown, &body)?;
    run.judge("nonce", &key, &heard);
    if heard.status != 201 {
        return None;
    }
    let message = heard.text("message");
    let signature = wallet.sign(&message);
    let body = json!({"message": message, "signature": signature, "mode": "body"});
    let mut accepted: Option<Heard> = None;
    // Whether an answer that did not come may have spent it.
    let mut perhaps_spent = false;
    while run.goes_on() && accepted.is_none() {
        let racing = if once_in(random, 3) { REPLICAS } else { 1 };
        let answers = at_once(run, racing, any_replica(random), "/verify", &shown, &body);
        let alone = racing == 1 && !perhaps_spent;
        perhaps_spent = true;
        for heard in answers.into_iter().flatten() {
            if heard.code == "nonce_invalid" {
                run.tally.count("nonce", "spent before");
                if alone {
                    run.fail("a nonce that nobody spent is refused");
                }
                if accepted.is_none() && racing == 1 {
                    // Its answer was lost, and is nowhere to be had.
                    return None;
                }
                continue;
            }
            run.judge("sign-in", &key, &heard);
            match heard.status {
                201 if accepted.is_some() => run.fail("a nonce was spent twice"),
                201 => accepted = Some(heard),
                401 => return None,
                _ => thread::sleep(AGAIN),
            }
        }
    }
    let accepted = accepted?;
    if once_in(random, 3) {
        let again = caller.post(any_replica(random), "/verify", &shown, &body);
        if again.is_some_and(|again| again.status == 201) {
            run.fail("a nonce was spent again");
        }
    }
    Some(begun(run, &accepted, &key))
}

fn begun(run: &Run, heard: &Heard, key: &Credential) -> Family {
    let life = Arc::new(Life::default());
    let lives = vec![Arc::clone(&life), Arc::clone(&key.lives[0])];
    let (subject, token) = (heard.text("subject"), heard.text("refreshToken"));
    let session = Arc::default();
    let access = access(run, heard, &session, &lives);
    Family {
        life,
        credential: Credential::new(Kind::Refresh, "", "", &subject, lives),
        session,
        token,
        spent: Vec::new(),
        access,
        refreshed: heard.answered,
    }
}

fn access(
    run: &Run,
    heard: &Heard,
    session: &Arc<OnceLock<String>>,
    lives: &[Arc<Life>],
) -> Arc<Credential> {
    let (token, subject) = (heard.text("accessToken"), heard.text("subject"));
    let access = Arc::new(Credential::access(
        &token,
        &subject,
        session,
        lives.to_vec(),
    ));
    run.publish(&access);
    access
}

/// Exchanges the token until that succeeds, as a client does; sometimes in several tabs at once.
fn refresh(run: &Run, random: &mut Random, family: &mut Family) {
    let body = json!({"refreshToken": family.token});
    let is_good = |family: &Family| family.credential.lives.iter().all(|life| life.is_good());
    while run.goes_on() && is_good(family) {
        let racing = if once_in(random, 4) { REPLICAS } else { 1 };
        let answers = at_once(run, racing, any_replica(random), "/refresh", &[], &body);
        for heard in answers.iter().flatten() {
            run.judge("refresh", &family.credential, heard);
        }
        let answered: Vec<Heard> = answers
            .into_iter()
            .flatten()
            .filter(|it| it.status == 200)
            .collect();
        let successors: HashSet<String> =
            answered.iter().map(|it| it.text("refreshToken")).collect();
        if successors.len() > 1 || successors.contains(&family.token) {
            run.fail(&format!(
                "{:?} has the successors {successors:?}",
                family.token
            ));
        }
        let (Some(heard), Some(successor)) = (answered.first(), successors.into_iter().next())
        else {
            thread::sleep(AGAIN);
            continue;
        };
        let before = std::mem::replace(&mut family.token, successor);
        family.spent.push((before, heard.answered));
        family.refreshed = heard.answered;
        family.access = access(run, heard, &family.session, &family.credential.lives);
        return;
    }
}

/// The same request on one replica, or on all of them at once.
fn at_once(
    run: &Run,
    racing: usize,
    first: usize,
    path: &str,
    headers: &[(&str, &str)],
    body: &Value,
) -> Vec<Option<Heard>> {
    let ask = |replica| Caller::new(run).post(replica, path, headers, body);
    thread::scope(|scope| {
        let asked: Vec<_> = (0..racing)
            .map(|other| scope.spawn(move || ask((first + other) % REPLICAS)))
            .collect();
        asked
            .into_iter()
            .map(|asked| asked.join().unwrap())
            .collect()
    })
}

/// Presents a token that was rotated away long ago: whoever does so ends the sign-in.
fn steal(run: &Run, caller: &mut Caller<'_>, random: &mut Random, family: &Family) {
    // Two behind, and out of grace wherever time is taken.
    let old = family
        .spent
        .iter()
        .rev()
        .skip(1)
        .find(|(_, known)| known.elapsed() > GRACE * 2);
    let Some((token, _)) = old else {
        return;
    };
    present_everywhere(caller, &family.access);
    family.life.endanger();
    while run.goes_on() {
        let body = json!({"refreshToken": token});
        let Some(heard) = caller.post(any_replica(random), "/refresh", &[], &body) else {
            continue;
        };
        run.judge("theft", &family.credential, &heard);
        match heard.status {
            401 => return family.life.end(heard.answered),
            200 => run.fail("a token that was rotated away long ago was exchanged"),
            _ => thread::sleep(AGAIN),
        }
    }
}

/// Logs out with what the `chosen` one of these has; all of them belong to one wallet.
fn log_out(
    run: &Run,
    caller: &mut Caller<'_>,
    random: &mut Random,
    families: &[&Family],
    chosen: usize,
) {
    let shown = families[chosen.min(families.len() - 1)];
    for family in families {
        if once_in(random, 2) {
            present_everywhere(caller, &family.access);
        }
        family.life.endanger();
    }
    let bearer = format!("Bearer {}", shown.access.secret);
    let (headers, body) = if once_in(random, 2) {
        (vec![("authorization", &*bearer)], json!({}))
    } else {
        (vec![], json!({"refreshToken": shown.token}))
    };
    let path = if families.len() > 1 {
        "/logout?all=true"
    } else {
        "/logout"
    };
    // Nobody is told no who wants to leave, not even by a key that is over.
    let anybody = Credential::new(Kind::Refresh, "", "", "", Vec::new());
    while run.goes_on() {
        let Some(heard) = caller.post(any_replica(random), path, &headers, &body) else {
            continue;
        };
        run.judge("logout", &anybody, &heard);
        if heard.status == 204 {
            for family in families {
                family.life.end(heard.answered);
            }
            return;
        }
        thread::sleep(AGAIN);
    }
}
