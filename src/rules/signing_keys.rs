//! Which of the stored signing keys signs, which are published, and when the next one is made.
//!
//! Pure. Two things must hold whenever a token is verified by someone who read the published keys
//! a while ago: a key is published for [`Schedule::lead`] before it signs, and for as long as a
//! token that it signed may still be good.

use std::time::Duration;

use crate::rules::jwt::SigningAlgorithm;
use crate::rules::time::Timestamp;

/// A stored signing key, without the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its thumbprint.
    pub kid: Box<str>,
    /// What it signs with.
    pub algorithm: SigningAlgorithm,
    /// When it was made, and so was published first.
    pub created_at: Timestamp,
    /// From when it signs, until the next one does.
    pub signs_from: Timestamp,
}

/// When keys follow one another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// What the next key shall sign with.
    pub algorithm: SigningAlgorithm,
    /// For how long a key that signs with something else is left alone after it was made. Nothing
    /// where the algorithm has just been asked for; longer where it was before: what is there then
    /// was made by a replica that is told otherwise, and they would make keys in turns.
    pub patience: Duration,
    /// For how long a key signs.
    pub period: Duration,
    /// How long it may take until everyone has heard of a change: replicas of the store, and
    /// verifiers that keep what was published. At least twice that caching time.
    pub lead: Duration,
    /// The longest lifetime that any token may have been given, whatever they are given today: a
    /// shorter one in a new configuration does not end the tokens that are out.
    pub lifetime: Duration,
}

/// What is to be done with the keys now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<'a> {
    /// The key that signs. `None` only where there are no keys.
    pub signer: Option<&'a Record>,
    /// The keys to publish, the newest first; the signer is among them.
    pub published: Vec<&'a Record>,
    /// A key has to be made that signs from then on.
    pub make: Option<Timestamp>,
    /// Keys that no living token was signed with.
    pub forget: Vec<&'a Record>,
}

/// Plans with the keys that are stored now.
///
/// The answer follows from the records alone, so that every replica comes to the same one; a
/// replica that has not heard of the latest record for up to `lead` still signs with a key that the
/// others publish. The store's swap decides which of several replicas makes a new key.
pub fn plan<'a>(records: &'a [Record], schedule: &Schedule, now: Timestamp) -> Plan<'a> {
    let mut order: Vec<&Record> = records.iter().collect();
    order.sort_by_key(|record| (record.signs_from, record.created_at, &record.kid));

    // The clock may have stepped back before the first key: that one signs nevertheless.
    let signing = order
        .iter()
        .rposition(|record| record.signs_from <= now)
        .unwrap_or(0);
    let (mut published, mut forget) = (Vec::new(), Vec::new());
    for (place, record) in order.iter().enumerate() {
        let successor = order.get(place + 1).filter(|_| place < signing);
        if successor.is_some_and(|successor| over(successor, schedule, now)) {
            forget.push(*record);
        } else {
            published.push(*record);
        }
    }
    published.reverse();
    Plan {
        signer: order.get(signing).copied(),
        published,
        make: next(order.last().copied(), schedule, now),
        forget,
    }
}

/// Whether the last token is over that was signed before `successor` took its place.
///
/// The lead is waited for once more: so long a replica may not have heard of the successor, or
/// have a clock that is behind.
fn over(successor: &Record, schedule: &Schedule, now: Timestamp) -> bool {
    let last_signed = successor.signs_from.plus(schedule.lead);
    last_signed.plus(schedule.lifetime) < now
}

/// From when a new key signs, if it has to be made now.
///
/// Always after those that are there: a key in between would end the one before it in the past.
fn next(latest: Option<&Record>, schedule: &Schedule, now: Timestamp) -> Option<Timestamp> {
    let Some(latest) = latest else {
        // Nobody can have read a set without this key and hold a token signed with it.
        return Some(now);
    };
    let soonest = now.plus(schedule.lead).ceiled();
    // A key that signs for less than it is announced for would be followed before it begins.
    let due = latest.signs_from.plus(schedule.period.max(schedule.lead));
    if due <= soonest {
        Some(soonest)
    } else if latest.algorithm != schedule.algorithm
        && now.since(latest.created_at) >= schedule.patience
    {
        Some(soonest.max(latest.signs_from.plus(Duration::from_secs(1))))
    } else {
        None
    }
}

#[cfg(test)]
mod tests;
