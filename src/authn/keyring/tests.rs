//! The keyring over a real store, with a clock and randomness that the tests hold.

use std::sync::atomic::{AtomicU64, Ordering};

use tempfile::TempDir;

use super::*;
use crate::platform::{Clock, Entropy, Monotonic};
use crate::rules::api_key::{Refused, Shape, judge, shape};
use crate::store::{self, Place};

/// Tells the time it was last set to.
struct StillClock(AtomicU64);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanoseconds(self.0.load(Ordering::Relaxed))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::default()
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "no timer is set by a clock that stands still"
    )]
    fn timer(&self, _: Monotonic, wait: Duration) -> tokio::time::Instant {
        tokio::time::Instant::now() + wait
    }
}

/// Never the same bytes twice.
struct CountingEntropy(AtomicU64);

impl Entropy for CountingEntropy {
    fn fill(&self, bytes: &mut [u8]) -> io::Result<()> {
        for chunk in bytes.chunks_mut(32) {
            let number = self.0.fetch_add(1, Ordering::Relaxed);
            chunk.copy_from_slice(&Digest::of(&number.to_be_bytes()).0[..chunk.len()]);
        }
        Ok(())
    }
}

struct Desk {
    keyring: Keyring,
    store: Arc<Store>,
    clock: Arc<StillClock>,
    _folder: TempDir,
}

impl Desk {
    fn open() -> Self {
        Self::with_pepper(None)
    }

    fn with_pepper(pepper: Option<Pepper>) -> Self {
        let folder = TempDir::new().unwrap();
        let clock = Arc::new(StillClock(AtomicU64::new(at(1_000).nanoseconds() + 5)));
        let platform = Platform {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            entropy: Arc::new(CountingEntropy(AtomicU64::new(0))),
            ..Platform::system()
        };
        let config = store::Config::Embedded {
            path: folder.path().into(),
        };
        let observer = Arc::new(|_, _, _| {});
        let store = Store::open(&config, &platform, observer).unwrap();
        let store = Arc::new(store);
        Self {
            keyring: Keyring::new(Arc::clone(&store), "gk".into(), pepper, platform),
            store,
            clock,
            _folder: folder,
        }
    }

    fn set_clock(&self, seconds: u64) {
        self.clock
            .0
            .store(at(seconds).nanoseconds(), Ordering::Relaxed);
    }

    /// What a request with this secret would be told now.
    async fn judged(&self, secret: &str) -> Result<(), Refused> {
        let digest = Digest::of(secret.as_bytes()).keyed(self.keyring.pepper.as_ref());
        match self.keyring.lookup(&digest).await.unwrap() {
            Some(record) => judge(&record, &digest, self.clock.now()),
            None => Err(Refused::Unknown),
        }
    }

    async fn changes(&self) -> Vec<Change> {
        let events = self
            .store
            .events_since(Place::BEGINNING, 1_000)
            .await
            .unwrap()
            .events;
        events
            .iter()
            .map(|event| Change::decode(&event.payload))
            .collect()
    }

    async fn refused_import(&self, text: &str) -> Vec<WrongLine> {
        match self.keyring.import(text).await {
            Err(ImportError::Lines(lines)) => lines,
            outcome => panic!("{outcome:?}"),
        }
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn named(name: &str) -> NewKey {
    NewKey {
        name: Label::parse(name).unwrap(),
        owner: None,
        scopes: Scopes::default(),
        expires_at: None,
        rate_limit: None,
    }
}

#[tokio::test]
async fn a_created_key_is_good_and_its_secret_is_not_kept() {
    let desk = Desk::open();
    let new = NewKey {
        owner: Some(Label::parse("platform").unwrap()),
        scopes: Scopes::new(["b", "a"]),
        expires_at: Some(at(2_000)),
        rate_limit: Some(Rate {
            interval: 10,
            burst: 1,
        }),
        ..named("ci")
    };
    let created = desk.keyring.create(new).await.unwrap();
    assert_eq!(shape("gk", created.secret.as_bytes()), Shape::Minted);
    assert_eq!(created.record.created_at, at(1_000));
    assert_eq!(desk.judged(&created.secret).await, Ok(()));

    let shown = desk.keyring.show(&created.record.id).await.unwrap();
    assert_eq!(shown, created.record);
    for listed in desk.store.list("", None, 100).await.unwrap() {
        let value = String::from_utf8(listed.record.value).unwrap();
        assert!(!value.contains(&**created.secret));
        assert!(!listed.key.contains(&**created.secret));
    }
    assert!(!format!("{created:?}").contains(&**created.secret));

    desk.set_clock(2_000);
    assert_eq!(desk.judged(&created.secret).await, Err(Refused::Expired));
}

#[tokio::test]
async fn a_pepper_keys_every_digest() {
    let pepper = Pepper(Zeroizing::new(b"salt's friend".to_vec()));
    let desk = Desk::with_pepper(Some(pepper));
    let created = desk.keyring.create(named("ci")).await.unwrap();
    assert_eq!(desk.judged(&created.secret).await, Ok(()));

    let sha256 = Digest::of(b"a key that came from afar").hex();
    let line = format!(r#"{{"name":"old","sha256":"{sha256}"}}"#);
    desk.keyring.import(&line).await.unwrap();
    assert_eq!(desk.judged("a key that came from afar").await, Ok(()));

    let plain = Digest::of(created.secret.as_bytes());
    assert_eq!(desk.keyring.lookup(&plain).await.unwrap(), None);
}

#[tokio::test]
async fn a_revoked_key_stays_revoked() {
    let desk = Desk::open();
    let created = desk.keyring.create(named("ci")).await.unwrap();
    let id = &created.record.id;
    desk.set_clock(1_500);
    let revoked = desk.keyring.revoke(id).await.unwrap();
    assert_eq!(revoked.revoked_at, Some(at(1_500)));
    assert_eq!(desk.judged(&created.secret).await, Err(Refused::Revoked));

    desk.set_clock(1_600);
    let again = desk.keyring.revoke(id).await.unwrap();
    assert_eq!(again.revoked_at, Some(at(1_500)));
    let rotated = desk.keyring.rotate(id, Duration::ZERO).await;
    assert!(matches!(
        rotated,
        Err(KeyringError::NotRotated(NotRotated::Revoked))
    ));
}

#[tokio::test]
async fn an_unknown_id_is_said() {
    let desk = Desk::open();
    let keyring = &desk.keyring;
    let outcomes = [
        keyring.show("key_x").await.map(drop),
        keyring.revoke("key_x").await.map(drop),
        keyring.rotate("key_x", Duration::ZERO).await.map(drop),
    ];
    for outcome in outcomes {
        let error = outcome.unwrap_err();
        assert!(matches!(&error, KeyringError::UnknownKey(id) if &**id == "key_x"));
        assert!(
            error
                .to_string()
                .starts_with(r#"no key has the id "key_x";"#)
        );
    }
}

#[tokio::test]
async fn a_rotated_key_has_two_secrets_until_the_overlap_ends() {
    let desk = Desk::open();
    let first = desk.keyring.create(named("ci")).await.unwrap();
    let id = &first.record.id;
    let second = desk
        .keyring
        .rotate(id, Duration::from_secs(60))
        .await
        .unwrap();
    assert_eq!(second.record.id, *id);
    assert_eq!(desk.judged(&first.secret).await, Ok(()));
    assert_eq!(desk.judged(&second.secret).await, Ok(()));

    // Made between two seconds, it is good to the end of the one it ends in.
    desk.set_clock(1_060);
    assert_eq!(desk.judged(&first.secret).await, Ok(()));
    desk.set_clock(1_061);
    assert_eq!(desk.judged(&first.secret).await, Err(Refused::Expired));
    assert_eq!(desk.judged(&second.secret).await, Ok(()));

    let third = desk.keyring.rotate(id, Duration::ZERO).await.unwrap();
    assert_eq!(desk.judged(&first.secret).await, Err(Refused::Unknown));
    assert_eq!(desk.judged(&second.secret).await, Err(Refused::Expired));
    assert_eq!(desk.judged(&third.secret).await, Ok(()));

    // The digest that the record dropped is no longer indexed.
    let digests = desk.store.list(DIGESTS, None, 100).await.unwrap();
    assert_eq!(digests.len(), 2);
}

#[tokio::test]
async fn every_change_tells_the_digests_to_forget() {
    let desk = Desk::open();
    let first = desk.keyring.create(named("ci")).await.unwrap();
    let id = &first.record.id;
    desk.keyring.rotate(id, Duration::ZERO).await.unwrap();
    desk.set_clock(1_001);
    desk.keyring.rotate(id, Duration::ZERO).await.unwrap();
    desk.keyring.revoke(id).await.unwrap();

    let old = Digest::of(first.secret.as_bytes());
    let changes = desk.changes().await;
    let digests: Vec<_> = changes
        .iter()
        .map(|change| match change {
            Change::ApiKey { id: told, digests } if told == id => digests,
            change => panic!("{change:?}"),
        })
        .collect();
    let counts: Vec<_> = digests.iter().map(|digests| digests.len()).collect();
    // Made; its first secret ended; that one dropped and the second ended; revoked.
    assert_eq!(counts, [1, 2, 3, 2]);
    assert!(digests[..3].iter().all(|digests| digests.contains(&old)));
}

#[tokio::test]
async fn racing_changes_are_all_made() {
    let desk = Desk::open();
    let created = desk.keyring.create(named("ci")).await.unwrap();
    let id = &created.record.id;
    let minute = Duration::from_secs(60);
    let (one, two, three) = tokio::join!(
        desk.keyring.rotate(id, minute),
        desk.keyring.rotate(id, minute),
        desk.keyring.rotate(id, minute),
    );
    for rotated in [one, two, three] {
        assert_eq!(desk.judged(&rotated.unwrap().secret).await, Ok(()));
    }
    assert_eq!(desk.keyring.show(id).await.unwrap().secrets.len(), 4);
}

#[tokio::test]
async fn the_list_is_whole_and_the_oldest_comes_first() {
    let desk = Desk::open();
    // More than one page, as the store orders by id.
    let lines: Vec<_> = (0..=1_000)
        .map(|number| format!(r#"{{"name":"n{number:04}","key":"imported key {number:07}"}}"#))
        .collect();
    desk.keyring.import(&lines.join("\n")).await.unwrap();
    desk.set_clock(900);
    desk.keyring.create(named("older")).await.unwrap();

    let listed = desk.keyring.list().await.unwrap();
    assert_eq!(listed.len(), lines.len() + 1);
    assert_eq!(&*listed[0].name, "older");
    assert_eq!(&*listed[1].name, "n0000");
    assert_eq!(&*listed.last().unwrap().name, "n1000");
}

#[tokio::test]
async fn foreign_keys_are_taken_over() {
    let desk = Desk::open();
    let hashed = Digest::of(b"the second imported key").hex().to_uppercase();
    let minted = crate::rules::api_key::mint("gk", &[9; 32]);
    let text = format!(
        "\u{feff}{{\"name\":\"one\",\"key\":\"the first imported key\",\"owner\":\"Zoë\",\"scopes\":[\"a\"],\"expiresAt\":5000}}\r\n\
         \n  \t\n\
         {{\"name\":\"two\",\"sha256\":\"{hashed}\",\"owner\":null,\"expiresAt\":\"1970-01-01T00:30:00Z\"}}\n\
         {{\"name\":\"three\",\"key\":\"{}\"}}",
        *minted
    );
    let records = desk.keyring.import(&text).await.unwrap();
    assert_eq!(records.len(), 3);
    assert_eq!(records[0].owner.as_deref(), Some("Zoë"));
    assert!(records[0].scopes.contains("a"));
    assert_eq!(records[0].expires_at, Some(at(5_000)));
    assert_eq!(records[1].owner, None);
    assert_eq!(records[1].expires_at, Some(at(1_800)));
    for record in &records {
        assert_eq!(desk.keyring.show(&record.id).await.unwrap(), *record);
    }
    for key in ["the first imported key", "the second imported key", &minted] {
        assert_eq!(desk.judged(key).await, Ok(()), "{key}");
    }
    assert_eq!(desk.changes().await.len(), 3);
}

#[tokio::test]
async fn wrong_lines_are_all_named_and_nothing_is_taken_over() {
    const SECRET: &str = "s3cr3t-that-must-not-be-shown";
    let wrong = [
        (format!(r#"{{"name":"n","key":"{SECRET}""#), "is not JSON"),
        (format!(r#"["{SECRET}"]"#), "JSON object"),
        (format!(r#""{SECRET}""#), "JSON object"),
        (format!(r#"{{"key":"{SECRET}"}}"#), "name is missing"),
        (
            format!(r#"{{"name":7,"key":"{SECRET}"}}"#),
            "name must be a string",
        ),
        (
            format!(r#"{{"name":" ","key":"{SECRET}"}}"#),
            "name must not be empty",
        ),
        (
            format!(r#"{{"name":"n\u0000","key":"{SECRET}"}}"#),
            "name must not hold control",
        ),
        (
            format!(r#"{{"name":"n","owner":"a\nb","key":"{SECRET}"}}"#),
            "owner must not hold",
        ),
        (r#"{"name":"n"}"#.into(), "key is missing"),
        (r#"{"name":"n","key":"s3cr3t-short"}"#.into(), "at least 20"),
        (
            r#"{"name":"n","key":"gk_s3cr3t-that-was-garbled"}"#.into(),
            "checksum",
        ),
        (r#"{"name":"n","sha256":"s3cr3t"}"#.into(), "64 hexadecimal"),
        (
            format!(r#"{{"name":"n","key":"{SECRET}","sha256":"{SECRET}"}}"#),
            "not both",
        ),
        (
            format!(r#"{{"name":"n","key":["{SECRET}"]}}"#),
            "key must be a string",
        ),
        (
            format!(r#"{{"name":"n","{SECRET}":"k"}}"#),
            "field 2 is unknown; a line may have",
        ),
        (
            format!(r#"{{"id":"n","key":"{SECRET}"}}"#),
            "field 1 is unknown; a line may have",
        ),
        (
            format!(r#"{{"name":"n","key":"{SECRET}","expires_at":5}}"#),
            "field 3 is unknown; did you mean \"expiresAt\"?",
        ),
        (
            format!(r#"{{"name":"n","key":"{SECRET}","key":"{SECRET}2"}}"#),
            "key is given twice",
        ),
        (
            format!(r#"{{"name":"n","key":"{SECRET}","scopes":"{SECRET}"}}"#),
            "scopes must be",
        ),
        (
            format!(r#"{{"name":"n","key":"{SECRET}","scopes":["a b"]}}"#),
            "scopes must be",
        ),
        (
            format!(r#"{{"name":"n","key":"{SECRET}","expiresAt":-1}}"#),
            "expiresAt must be",
        ),
        (
            format!(r#"{{"name":"n","key":"{SECRET}","expiresAt":1800000000000}}"#),
            "milliseconds",
        ),
        (
            format!(r#"{{"name":"n","key":"{SECRET}","expiresAt":"{SECRET}"}}"#),
            "expiresAt must be",
        ),
    ];
    let desk = Desk::open();
    let mut text = r#"{"name":"good","key":"the first imported key"}"#.to_owned();
    for (line, _) in &wrong {
        text = format!("{text}\n{line}");
    }
    let problems = desk.refused_import(&text).await;
    assert_eq!(problems.len(), wrong.len());
    for (place, (problem, (line, expected))) in problems.iter().zip(&wrong).enumerate() {
        assert_eq!(problem.line, place + 2);
        assert!(problem.problem.contains(expected), "{line}: {problem:?}");
        assert!(!problem.problem.contains("s3cr3t"), "{problem:?}");
    }
    assert_eq!(desk.keyring.list().await.unwrap(), []);
    assert_eq!(desk.changes().await, []);
}

#[tokio::test]
async fn a_key_is_taken_over_once() {
    let desk = Desk::open();
    let line = r#"{"name":"one","key":"the first imported key"}"#;
    let sha256 = Digest::of(b"the first imported key").hex();
    let hashed = format!(r#"{{"name":"two","sha256":"{sha256}"}}"#);
    let other = r#"{"name":"other","key":"the other imported key"}"#;

    let problems = desk
        .refused_import(&format!("{line}\n{other}\n{hashed}"))
        .await;
    let [problem] = &problems[..] else {
        panic!("{problems:?}");
    };
    assert_eq!(problem.line, 3);
    assert_eq!(problem.problem, "the same key is on line 1");

    let held = desk.keyring.import(line).await.unwrap();
    let problems = desk.refused_import(&format!("{other}\n\n{hashed}")).await;
    let [problem] = &problems[..] else {
        panic!("{problems:?}");
    };
    assert_eq!(problem.line, 3);
    assert!(problem.problem.ends_with(&*held[0].id), "{problem:?}");
    assert_eq!(desk.keyring.list().await.unwrap(), held);
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_a_fault() {
    let desk = Desk::open();
    let created = desk.keyring.create(named("ci")).await.unwrap();
    let key = record_key(&created.record.id);
    let loaded = desk.store.load(&key).await.unwrap().unwrap();
    let damaged = Write {
        key: key.clone(),
        expected: Some(loaded.version),
        value: Some(b"{".to_vec()),
    };
    desk.store.swap(vec![damaged], vec![]).await.unwrap();
    let digest = Digest::of(created.secret.as_bytes());
    let fault = desk.keyring.lookup(&digest).await.unwrap_err();
    assert!(fault.to_string().contains(&key), "{fault}");
}

#[tokio::test]
async fn what_outlived_its_secret_leads_to_no_key() {
    let desk = Desk::open();
    let first = desk.keyring.create(named("rotated")).await.unwrap();
    let old = Digest::of(first.secret.as_bytes());
    let id = &first.record.id;
    // With the second rotation the key forgets its first secret.
    for _ in 0..2 {
        desk.keyring.rotate(id, Duration::ZERO).await.unwrap();
    }
    let pointer = vec![index(old, &first.record)];
    let put = desk.store.swap(pointer, Vec::new()).await.unwrap();
    assert_eq!(put, Swapped::Committed);
    assert!(desk.keyring.lookup(&old).await.unwrap().is_none());
}
