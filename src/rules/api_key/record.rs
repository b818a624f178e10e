//! What is known of a stored key, how it is judged, and how it may change.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Digest;
use crate::rules::bucket::Rate;
use crate::rules::principal::Scopes;
use crate::rules::time::Timestamp;

/// A stored key. Its JSON is the stored form; times there are whole seconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Record {
    /// Its id, which is not secret and never changes.
    pub id: Box<str>,
    /// What people call it.
    pub name: Box<str>,
    /// Who it belongs to.
    pub owner: Option<Box<str>>,
    /// What it may do.
    pub scopes: Scopes,
    /// When it was made.
    pub created_at: Timestamp,
    /// From when it is refused.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked; it is refused whatever the clock says.
    pub revoked_at: Option<Timestamp>,
    /// The rate its holder may reach, over all routes.
    pub rate_limit: Option<Rate>,
    /// The secrets that prove it, the newest first.
    pub secrets: Vec<Secret>,
}

/// One secret of a key, known by its digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// The digest under which the store knows it.
    pub digest: Digest,
    /// From when it is refused, although its key may be good: a rotation's overlap ended.
    pub until: Option<Timestamp>,
}

/// Why a key is refused. Outside these look alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// No secret of the record has this digest.
    Unknown,
    /// The key expired, or its secret's overlap ended.
    Expired,
    /// The key was revoked.
    Revoked,
}

/// A rotation's outcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rotated {
    /// The record with its new secret.
    pub record: Record,
    /// Secrets that the record no longer knows: their overlap is over.
    pub dropped: Vec<Digest>,
}

/// Why a key was not rotated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotRotated {
    /// It is revoked; a new secret would not work.
    Revoked,
    /// It expired; a new secret would not work.
    Expired,
    /// Too many of its secrets still overlap.
    Crowded,
}

impl fmt::Display for NotRotated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revoked => f.write_str("it is revoked; create a new key instead"),
            Self::Expired => f.write_str("it has expired; create a new key instead"),
            Self::Crowded => write!(
                f,
                "{} of its older secrets still work; rotate it without an overlap to end them",
                Record::MOST_SECRETS - 1
            ),
        }
    }
}

impl std::error::Error for NotRotated {}

impl Record {
    /// The most secrets a record holds.
    pub const MOST_SECRETS: usize = 8;

    /// From when the secret with this digest is refused, if nothing else happens to its key.
    pub fn good_until(&self, digest: &Digest) -> Option<Timestamp> {
        let until = self.secret(digest).and_then(|secret| secret.until);
        [self.expires_at, until].into_iter().flatten().min()
    }

    /// The digests of its secrets, the newest first.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.secrets.iter().map(|secret| secret.digest)
    }

    fn secret(&self, digest: &Digest) -> Option<&Secret> {
        self.secrets
            .iter()
            .find(|secret| secret.digest.matches(digest))
    }
}

/// Judges the secret with this digest, now.
///
/// Revoked comes before expired: a revoked key stays so however the clock steps.
pub fn judge(record: &Record, digest: &Digest, now: Timestamp) -> Result<(), Refused> {
    if record.secret(digest).is_none() {
        Err(Refused::Unknown)
    } else if record.revoked_at.is_some() {
        Err(Refused::Revoked)
    } else if record.good_until(digest).is_some_and(|end| end <= now) {
        Err(Refused::Expired)
    } else {
        Ok(())
    }
}

/// The record after its revocation; `None` if it is revoked already.
pub fn revoke(record: &Record, now: Timestamp) -> Option<Record> {
    if record.revoked_at.is_some() {
        return None;
    }
    Some(Record {
        revoked_at: Some(whole_seconds(now)),
        ..record.clone()
    })
}

/// The record with a new secret, its present ones working on for `overlap`.
///
/// An overlap that an earlier rotation granted is never prolonged. Secrets whose overlap ended
/// before now are dropped, those that end now only where there is no room for them: until then
/// they are told apart from unknown ones.
pub fn rotate(
    record: &Record,
    digest: Digest,
    overlap: Duration,
    now: Timestamp,
) -> Result<Rotated, NotRotated> {
    if record.revoked_at.is_some() {
        return Err(NotRotated::Revoked);
    }
    if record.expires_at.is_some_and(|end| end <= now) {
        return Err(NotRotated::Expired);
    }
    // Rounded up: the present secret works for as long as was said.
    let end = if overlap.is_zero() {
        whole_seconds(now)
    } else {
        // The present secret works for as long as was said.
        now.plus(overlap).ceiled()
    };
    let mut secrets = vec![Secret {
        digest,
        until: None,
    }];
    let mut dropped = Vec::new();
    for secret in &record.secrets {
        let until = secret.until.map_or(end, |until| until.min(end));
        if secret.until.is_some_and(|until| until <= now) {
            dropped.push(secret.digest);
        } else if secrets.len() < Record::MOST_SECRETS {
            secrets.push(Secret {
                digest: secret.digest,
                until: Some(until),
            });
        } else if until <= now {
            dropped.push(secret.digest);
        } else {
            return Err(NotRotated::Crowded);
        }
    }
    Ok(Rotated {
        record: Record {
            secrets,
            ..record.clone()
        },
        dropped,
    })
}

fn whole_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_seconds(time.seconds())
}

/// The stored form.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    id: Box<str>,
    name: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    owner: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<Box<str>>,
    created_at: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_at: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    rate_limit: Option<StoredRate>,
    secrets: Vec<StoredSecret>,
}

#[derive(Serialize, Deserialize)]
struct StoredRate {
    interval: u64,
    burst: u32,
}

#[derive(Serialize, Deserialize)]
struct StoredSecret {
    digest: Digest,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until: Option<u64>,
}

impl From<Record> for Stored {
    fn from(record: Record) -> Self {
        Self {
            id: record.id,
            name: record.name,
            owner: record.owner,
            scopes: record.scopes.iter().map(Into::into).collect(),
            created_at: record.created_at.seconds(),
            expires_at: record.expires_at.map(Timestamp::seconds),
            revoked_at: record.revoked_at.map(Timestamp::seconds),
            rate_limit: record
                .rate_limit
                .map(|Rate { interval, burst }| StoredRate { interval, burst }),
            secrets: record
                .secrets
                .into_iter()
                .map(|Secret { digest, until }| StoredSecret {
                    digest,
                    until: until.map(Timestamp::seconds),
                })
                .collect(),
        }
    }
}

impl From<Stored> for Record {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            name: stored.name,
            owner: stored.owner,
            scopes: Scopes::new(stored.scopes),
            created_at: Timestamp::from_seconds(stored.created_at),
            expires_at: stored.expires_at.map(Timestamp::from_seconds),
            revoked_at: stored.revoked_at.map(Timestamp::from_seconds),
            rate_limit: stored
                .rate_limit
                .map(|StoredRate { interval, burst }| Rate { interval, burst }),
            secrets: stored
                .secrets
                .into_iter()
                .map(|StoredSecret { digest, until }| Secret {
                    digest,
                    until: until.map(Timestamp::from_seconds),
                })
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn digest(number: usize) -> Digest {
        Digest::of(&number.to_be_bytes())
    }

    fn record() -> Record {
        Record {
            id: "key_1".into(),
            name: "ci".into(),
            owner: None,
            scopes: Scopes::default(),
            created_at: at(1_000),
            expires_at: None,
            revoked_at: None,
            rate_limit: None,
            secrets: vec![Secret {
                digest: digest(0),
                until: None,
            }],
        }
    }

    #[test]
    fn expires_on_the_second() {
        let record = Record {
            expires_at: Some(at(2_000)),
            ..record()
        };
        let just_before = Timestamp::from_nanoseconds(at(2_000).nanoseconds() - 1);
        assert_eq!(judge(&record, &digest(0), just_before), Ok(()));
        assert_eq!(judge(&record, &digest(0), at(2_000)), Err(Refused::Expired));
    }

    #[test]
    fn another_digest_is_unknown_even_if_the_key_is_revoked() {
        let revoked = revoke(&record(), at(5)).unwrap();
        assert_eq!(judge(&record(), &digest(1), at(5)), Err(Refused::Unknown));
        assert_eq!(judge(&revoked, &digest(1), at(5)), Err(Refused::Unknown));
    }

    #[test]
    fn a_revocation_holds_when_the_clock_steps_back() {
        let revoked = revoke(&record(), at(5_000)).unwrap();
        assert_eq!(judge(&revoked, &digest(0), at(10)), Err(Refused::Revoked));
        assert_eq!(revoke(&revoked, at(6_000)), None);
    }

    #[test]
    fn an_old_secret_works_until_its_overlap_ends() {
        let rotated = rotate(&record(), digest(1), HOUR, at(10_000)).unwrap();
        assert_eq!(rotated.dropped, []);
        let record = rotated.record;
        assert_eq!(record.digests().collect::<Vec<_>>(), [digest(1), digest(0)]);
        assert_eq!(record.good_until(&digest(0)), Some(at(13_600)));
        assert_eq!(record.good_until(&digest(1)), None);
        assert_eq!(judge(&record, &digest(0), at(13_599)), Ok(()));
        assert_eq!(
            judge(&record, &digest(0), at(13_600)),
            Err(Refused::Expired)
        );
        assert_eq!(judge(&record, &digest(1), at(99_999)), Ok(()));
    }

    #[test]
    fn an_overlap_is_never_shorter_than_was_said() {
        let now = Timestamp::from_nanoseconds(10_000_700_000_000);
        let overlap = Duration::from_millis(500);
        let record = rotate(&record(), digest(1), overlap, now).unwrap().record;
        assert_eq!(record.good_until(&digest(0)), Some(at(10_002)));
    }

    #[test]
    fn without_an_overlap_the_old_secret_ends_at_once() {
        let now = Timestamp::from_nanoseconds(10_000_500_000_000);
        let record = rotate(&record(), digest(1), Duration::ZERO, now)
            .unwrap()
            .record;
        assert_eq!(judge(&record, &digest(0), now), Err(Refused::Expired));
        assert_eq!(judge(&record, &digest(1), now), Ok(()));
    }

    #[test]
    fn a_second_rotation_prolongs_no_overlap_and_drops_what_ended() {
        let first = rotate(&record(), digest(1), HOUR, at(0)).unwrap().record;
        let second = rotate(&first, digest(2), 24 * HOUR, at(60)).unwrap();
        assert_eq!(second.dropped, []);
        assert_eq!(second.record.good_until(&digest(0)), Some(at(3_600)));
        assert_eq!(second.record.good_until(&digest(1)), Some(at(86_460)));

        let third = rotate(&second.record, digest(3), HOUR, at(3_600)).unwrap();
        assert_eq!(third.dropped, [digest(0)]);
        assert_eq!(third.record.good_until(&digest(1)), Some(at(7_200)));
    }

    #[test]
    fn secrets_do_not_pile_up() {
        let mut record = record();
        for number in 1..Record::MOST_SECRETS {
            record = rotate(&record, digest(number), HOUR, at(0)).unwrap().record;
        }
        let next = digest(Record::MOST_SECRETS);
        let crowded = rotate(&record, next, HOUR, at(0));
        assert_eq!(crowded, Err(NotRotated::Crowded));
        let ended = rotate(&record, next, Duration::ZERO, at(0)).unwrap();
        assert_eq!(ended.record.secrets.len(), Record::MOST_SECRETS);
        assert_eq!(ended.dropped, [digest(0)]);
    }

    #[test]
    fn what_would_not_work_is_not_rotated() {
        let revoked = revoke(&record(), at(1)).unwrap();
        let outcome = rotate(&revoked, digest(1), HOUR, at(2));
        assert_eq!(outcome, Err(NotRotated::Revoked));
        let expired = Record {
            expires_at: Some(at(5)),
            ..record()
        };
        let outcome = rotate(&expired, digest(1), HOUR, at(5));
        assert_eq!(outcome, Err(NotRotated::Expired));
    }

    #[test]
    fn the_stored_form_is_stable() {
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let json = format!(
            r#"{{"id":"key_1","name":"ci","owner":"platform","scopes":["a","b"],"createdAt":1000,"expiresAt":2000,"revokedAt":1500,"rateLimit":{{"interval":10,"burst":3}},"secrets":[{{"digest":"{digest}"}},{{"digest":"{digest}","until":1200}}]}}"#
        );
        let record = Record {
            owner: Some("platform".into()),
            scopes: Scopes::new(["b", "a"]),
            expires_at: Some(at(2_000)),
            revoked_at: Some(at(1_500)),
            rate_limit: Some(Rate {
                interval: 10,
                burst: 3,
            }),
            secrets: vec![
                Secret {
                    digest: Digest::of(b"abc"),
                    until: None,
                },
                Secret {
                    digest: Digest::of(b"abc"),
                    until: Some(at(1_200)),
                },
            ],
            ..record()
        };
        assert_eq!(serde_json::to_string(&record).unwrap(), json);
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }

    #[test]
    fn the_smallest_stored_form_is_read() {
        let digest = Digest::of(b"abc").hex();
        let json = format!(
            r#"{{"id":"i","name":"n","createdAt":1,"secrets":[{{"digest":"{digest}"}}],"later":{{}}}}"#
        );
        let record: Record = serde_json::from_str(&json).unwrap();
        assert_eq!(judge(&record, &Digest::of(b"abc"), at(1)), Ok(()));
    }

    proptest! {
        /// However a key is rotated, no secret outlives the overlap it was first granted, and
        /// the newest always works.
        #[test]
        fn overlaps_only_shrink(steps in proptest::collection::vec((0..100_u64, 0..200_u64), 1..20)) {
            let mut record = record();
            let mut now = 0;
            let mut promised: Vec<(Digest, Option<u64>)> = vec![(digest(0), None)];
            for (number, (wait, overlap)) in steps.into_iter().enumerate() {
                now += wait;
                let fresh = digest(number + 1);
                let Ok(rotated) = rotate(&record, fresh, Duration::from_secs(overlap), at(now)) else {
                    continue;
                };
                record = rotated.record;
                for (_, until) in &mut promised {
                    *until = Some(until.map_or(now + overlap, |until| until.min(now + overlap)));
                }
                promised.push((fresh, None));
                for (digest, until) in &promised {
                    let works = judge(&record, digest, at(now)).is_ok();
                    prop_assert_eq!(works, until.is_none_or(|until| until > now));
                }
                prop_assert!(record.secrets.len() <= Record::MOST_SECRETS);
            }
        }
    }
}
