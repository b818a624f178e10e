//! Those who use the replicas while their stores come and go.

mod keys;
mod probes;
mod sessions;
mod sign_ins;

pub(super) use keys::make_and_revoke_keys;
pub(super) use probes::{
    present_what_is_known, present_what_is_remembered, present_what_needs_no_store,
};
pub(super) use sessions::use_sessions;
pub(super) use sign_ins::refresh_sign_ins;

use std::time::Duration;

use super::REPLICAS;
use super::caller::Caller;
use super::model::Credential;
use crate::harness::Random;

/// What a thread does at most every so often, so that all of them fit on a small machine.
const PACE: Duration = Duration::from_millis(15);

/// How long a client waits before it tries again what did not succeed.
const AGAIN: Duration = Duration::from_millis(50);

/// Presents a credential everywhere, so that it is remembered there when it ends.
fn present_everywhere(caller: &mut Caller<'_>, credential: &Credential) {
    for replica in 0..REPLICAS {
        caller.present(replica, credential);
    }
}

fn any_replica(random: &mut Random) -> usize {
    random.below(REPLICAS)
}

/// Once in so many times.
pub(super) fn once_in(random: &mut Random, times: usize) -> bool {
    random.below(times) == 0
}
