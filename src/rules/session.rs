//! Client sessions: what is known of one, how its token is judged, and how it slides.
//!
//! Pure. Where records are kept is `store`'s matter; a slide that the store has not heard of yet
//! is `authn`'s.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::rules::principal::Scopes;
use crate::rules::time::Timestamp;

/// How session tokens begin.
pub const PREFIX: &str = "gs";

/// A client session as the store keeps it; its token is known by its digest alone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Record {
    /// Its id, which is not secret.
    pub id: Box<str>,
    /// Whose session it is.
    pub subject: Box<str>,
    /// The id of the API key that it was issued through; one taken over may have none.
    pub key_id: Option<Box<str>>,
    /// That key's owner.
    pub key_owner: Option<Box<str>>,
    /// What its token may do.
    pub scopes: Scopes,
    /// What the issuer said of it.
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// When it was issued.
    pub created_at: Timestamp,
    /// From when it is refused, unless it is used before.
    pub expires_at: Timestamp,
    /// From when it is refused, however it is used.
    pub max_expires_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// How long sessions live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// Past their last use.
    pub idle: Duration,
    /// In all.
    pub max: Duration,
}

impl Default for Lifetime {
    /// A day, and a week.
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            idle: Duration::from_secs(24 * HOUR),
            max: Duration::from_secs(7 * 24 * HOUR),
        }
    }
}

/// Why a session is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was not used for too long, or reached its cap.
    Expired,
    /// It was revoked, or the key that it was issued through was.
    Revoked,
}

impl Lifetime {
    /// Until when a session lives that was used `now` and has this cap.
    pub fn slid(&self, now: Timestamp, max_expires_at: Timestamp) -> Timestamp {
        now.plus(self.idle).min(max_expires_at)
    }

    /// The longest that a slide may stay unknown to the store.
    pub fn write_interval(&self) -> Duration {
        (self.idle / 10).min(Duration::from_secs(60))
    }
}

impl Record {
    /// Whether the session may be used now, if it expires at `expires_at`.
    pub fn judge(&self, expires_at: Timestamp, now: Timestamp) -> Result<(), Refused> {
        if self.revoked_at.is_some() {
            return Err(Refused::Revoked);
        }
        if expires_at.min(self.max_expires_at) <= now {
            return Err(Refused::Expired);
        }
        Ok(())
    }

    /// The session revoked `now`; `None` if it is already.
    pub fn revoked(&self, now: Timestamp) -> Option<Self> {
        self.revoked_at.is_none().then(|| Self {
            revoked_at: Some(now),
            ..self.clone()
        })
    }

    /// The session used up to `expires_at`; `None` if that is no later than what is known.
    pub fn slid_to(&self, expires_at: Timestamp) -> Option<Self> {
        let expires_at = expires_at.min(self.max_expires_at);
        (expires_at > self.expires_at).then(|| Self {
            expires_at,
            ..self.clone()
        })
    }
}

/// The stored form. Times are in milliseconds: a slide is finer than a second.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stored {
    id: Box<str>,
    subject: Box<str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_id: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key_owner: Option<Box<str>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    scopes: Vec<Box<str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
    created_ms: u64,
    expires_ms: u64,
    max_expires_ms: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_ms: Option<u64>,
}

const NANOSECONDS: u64 = 1_000_000;

fn milliseconds(time: Timestamp) -> u64 {
    time.nanoseconds() / NANOSECONDS
}

fn time(milliseconds: u64) -> Timestamp {
    Timestamp::from_nanoseconds(milliseconds.saturating_mul(NANOSECONDS))
}

impl From<Record> for Stored {
    fn from(record: Record) -> Self {
        Self {
            id: record.id,
            subject: record.subject,
            key_id: record.key_id,
            key_owner: record.key_owner,
            scopes: record.scopes.iter().map(Into::into).collect(),
            metadata: record.metadata,
            created_ms: milliseconds(record.created_at),
            expires_ms: milliseconds(record.expires_at),
            max_expires_ms: milliseconds(record.max_expires_at),
            revoked_ms: record.revoked_at.map(milliseconds),
        }
    }
}

impl From<Stored> for Record {
    fn from(stored: Stored) -> Self {
        Self {
            id: stored.id,
            subject: stored.subject,
            key_id: stored.key_id,
            key_owner: stored.key_owner,
            scopes: Scopes::new(stored.scopes),
            metadata: stored.metadata,
            created_at: time(stored.created_ms),
            expires_at: time(stored.expires_ms),
            max_expires_at: time(stored.max_expires_ms),
            revoked_at: stored.revoked_ms.map(time),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIFETIME: Lifetime = Lifetime {
        idle: Duration::from_secs(24 * 3600),
        max: Duration::from_secs(7 * 24 * 3600),
    };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_seconds(1_800_000_000 + seconds)
    }

    fn record() -> Record {
        Record {
            id: "session_1".into(),
            subject: "user-7".into(),
            key_id: Some("key_1".into()),
            key_owner: Some("acme".into()),
            scopes: Scopes::new(["portfolio:read"]),
            metadata: serde_json::json!({"device": "phone"}).as_object().cloned(),
            created_at: at(0),
            expires_at: LIFETIME.slid(at(0), at(0).plus(LIFETIME.max)),
            max_expires_at: at(0).plus(LIFETIME.max),
            revoked_at: None,
        }
    }

    #[test]
    fn dies_24_hours_past_its_last_use_to_the_nanosecond() {
        let record = record();
        let end = at(24 * 3600);
        let before = Timestamp::from_nanoseconds(end.nanoseconds() - 1);
        assert_eq!(record.judge(record.expires_at, before), Ok(()));
        assert_eq!(record.judge(record.expires_at, end), Err(Refused::Expired));
    }

    #[test]
    fn never_outlives_7_days() {
        let mut record = record();
        for hour in (0..8 * 24).step_by(23) {
            let slid = LIFETIME.slid(at(hour * 3600), record.max_expires_at);
            record = record.slid_to(slid).unwrap_or(record);
        }
        let end = at(7 * 24 * 3600);
        assert_eq!(record.expires_at, end);
        assert_eq!(record.judge(record.expires_at, end), Err(Refused::Expired));
        let boasting = end.plus(Duration::from_secs(1));
        assert_eq!(record.judge(boasting, end), Err(Refused::Expired));
    }

    #[test]
    fn a_revoked_one_is_over_whatever_the_clock_says() {
        let revoked = record().revoked(at(5)).unwrap();
        for now in [at(0), at(5), at(100)] {
            assert_eq!(
                revoked.judge(revoked.expires_at, now),
                Err(Refused::Revoked)
            );
        }
        assert_eq!(revoked.revoked(at(6)), None);
    }

    #[test]
    fn the_stored_form_is_stable() {
        let stored = r#"{"id":"session_1","subject":"user-7","keyId":"key_1","keyOwner":"acme","scopes":["portfolio:read"],"metadata":{"device":"phone"},"createdMs":1800000000000,"expiresMs":1800086400000,"maxExpiresMs":1800604800000}"#;
        assert_eq!(serde_json::to_string(&record()).unwrap(), stored);
        assert_eq!(serde_json::from_str::<Record>(stored).unwrap(), record());
    }

    #[test]
    fn the_store_hears_of_a_slide_within_a_tenth_of_the_idle_time_or_a_minute() {
        assert_eq!(LIFETIME.write_interval(), Duration::from_secs(60));
        let short = Lifetime {
            idle: Duration::from_secs(20),
            ..LIFETIME
        };
        assert_eq!(short.write_interval(), Duration::from_secs(2));
    }

    proptest! {
        #[test]
        fn a_slide_never_goes_back_nor_past_the_cap(uses in proptest::collection::vec(0_u64..800_000, 0..20)) {
            let mut record = record();
            for second in uses {
                let slid = record.slid_to(LIFETIME.slid(at(second), record.max_expires_at));
                if let Some(slid) = slid {
                    prop_assert!(slid.expires_at > record.expires_at);
                    prop_assert!(slid.expires_at <= slid.max_expires_at);
                    record = slid;
                }
            }
        }
    }
}
