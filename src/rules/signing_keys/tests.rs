use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

const MINUTE: u64 = 60;
const DAY: u64 = 24 * 60 * MINUTE;

const SCHEDULE: Schedule = Schedule {
    algorithm: SigningAlgorithm::Es256,
    patience: Duration::ZERO,
    period: Duration::from_secs(30 * DAY),
    lead: Duration::from_secs(10 * MINUTE),
    lifetime: Duration::from_secs(60 * MINUTE),
};

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn record(kid: &str, created: u64, signs: u64) -> Record {
    Record {
        kid: kid.into(),
        algorithm: SigningAlgorithm::Es256,
        created_at: at(created),
        signs_from: at(signs),
    }
}

/// A plan in names: who signs, who is published, who is forgotten; and when a new key signs.
#[derive(Debug, PartialEq)]
struct Named<'a> {
    signer: Option<&'a str>,
    published: Vec<&'a str>,
    forget: Vec<&'a str>,
    make: Option<u64>,
}

fn named<'a>(records: &'a [Record], now: u64) -> Named<'a> {
    let plan = plan(records, &SCHEDULE, at(now));
    let kids = |records: Vec<&'a Record>| records.into_iter().map(|record| &*record.kid).collect();
    Named {
        signer: plan.signer.map(|record| &*record.kid),
        published: kids(plan.published),
        forget: kids(plan.forget),
        make: plan.make.map(Timestamp::seconds),
    }
}

fn expected<'a>(
    signer: &'a str,
    published: &[&'a str],
    forget: &[&'a str],
    make: Option<u64>,
) -> Named<'a> {
    Named {
        signer: Some(signer),
        published: published.to_vec(),
        forget: forget.to_vec(),
        make,
    }
}

#[test]
fn the_first_key_signs_at_once() {
    let nothing = Named {
        signer: None,
        published: vec![],
        forget: vec![],
        make: Some(1000),
    };
    assert_eq!(named(&[], 1000), nothing);
    let first = [record("a", 1000, 1000)];
    assert_eq!(named(&first, 1000), expected("a", &["a"], &[], None));
    // A clock that stepped back does not leave us without a signer, nor with another.
    assert_eq!(named(&first, 10), expected("a", &["a"], &[], None));
}

#[test]
fn the_next_key_is_published_before_it_signs() {
    let end = 1000 + 30 * DAY;
    let first = [record("a", 1000, 1000)];
    let due = end - 10 * MINUTE;
    assert_eq!(named(&first, due - 1), expected("a", &["a"], &[], None));
    assert_eq!(named(&first, due), expected("a", &["a"], &[], Some(end)));

    let both = [record("a", 1000, 1000), record("b", due, end)];
    for now in [due, end - 1] {
        assert_eq!(named(&both, now), expected("a", &["b", "a"], &[], None));
    }
    assert_eq!(named(&both, end), expected("b", &["b", "a"], &[], None));
}

#[test]
fn a_key_is_published_until_the_last_of_its_tokens_is_over() {
    let both = [record("b", 0, 5000), record("a", 0, 0)];
    let over = 5000 + 10 * MINUTE + 60 * MINUTE;
    assert_eq!(named(&both, over), expected("b", &["b", "a"], &[], None));
    assert_eq!(named(&both, over + 1), expected("b", &["b"], &["a"], None));
}

#[test]
fn a_long_sleep_ends_no_key_early() {
    let first = [record("a", 0, 0)];
    let now = 100 * DAY;
    let signs = now + 10 * MINUTE;
    assert_eq!(named(&first, now), expected("a", &["a"], &[], Some(signs)));
    let both = [record("a", 0, 0), record("b", now, signs)];
    assert_eq!(
        named(&both, signs - 1),
        expected("a", &["b", "a"], &[], None)
    );
}

#[test]
fn a_new_algorithm_asks_for_a_new_key() {
    let schedule = Schedule {
        algorithm: SigningAlgorithm::EdDsa,
        ..SCHEDULE
    };
    let mut keys = vec![record("a", 0, 0), record("b", 1000, 9000)];
    let make = |keys: &[Record], now| plan(keys, &schedule, at(now)).make;
    // After the one that waits, even if the clock steps back.
    assert_eq!(make(&keys, 2000), Some(at(9001)));
    assert_eq!(make(&keys, 500), Some(at(9001)));
    assert_eq!(make(&keys, 9000), Some(at(9600)));
    keys.push(Record {
        algorithm: SigningAlgorithm::EdDsa,
        ..record("c", 2000, 9001)
    });
    for now in [2000, 500, 9000, 9001] {
        assert_eq!(make(&keys, now), None);
    }
}

/// Two replicas are told to sign with different algorithms, and look every minute.
#[test]
fn replicas_that_disagree_about_the_algorithm_make_a_key_a_day() {
    let mut keys = Vec::new();
    let told = [SigningAlgorithm::Es256, SigningAlgorithm::EdDsa];
    let look = |keys: &mut Vec<Record>, algorithm, patience, now| {
        let schedule = Schedule {
            algorithm,
            patience: Duration::from_secs(patience),
            ..SCHEDULE
        };
        let plan = plan(keys, &schedule, at(now));
        let forget: Vec<Record> = plan.forget.into_iter().cloned().collect();
        let make = plan.make;
        keys.retain(|key| !forget.contains(key));
        if let Some(signs_from) = make {
            keys.push(Record {
                algorithm,
                ..record(&now.to_string(), now, signs_from.seconds())
            });
        }
        make.is_some()
    };
    // Each begins with what it is told.
    assert!(look(&mut keys, told[0], 0, 0));
    assert!(look(&mut keys, told[1], 0, 1));
    assert!(!look(&mut keys, told[0], DAY, 2));
    let mut made = 0;
    for minute in 1..7 * 24 * 60 {
        for algorithm in told {
            made += usize::from(look(&mut keys, algorithm, DAY, minute * MINUTE));
        }
    }
    assert!((1..=7).contains(&made), "{made} in a week");
    assert!(keys.len() <= 3, "{} are published", keys.len());
}

/// What happens in one step of the simulation.
#[derive(Clone, Debug)]
struct Step {
    wait: u64,
    /// How old the signing replica's and the verifier's knowledge is, in thousandths of the lead.
    ages: [u64; 2],
    /// How long the token lives, in thousandths of the longest lifetime.
    lives: u64,
    algorithm: SigningAlgorithm,
    patience: u64,
}

fn step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![1 => Just(0), 4 => 1..900_u64, 3 => 900..20_000_u64, 1 => 1..40 * DAY];
    let algorithm = prop_oneof![
        9 => Just(SigningAlgorithm::Es256),
        1 => Just(SigningAlgorithm::EdDsa),
    ];
    let patience = prop_oneof![Just(0), Just(DAY)];
    (
        wait,
        [0..=1000_u64, 0..=1000],
        0..=1000_u64,
        algorithm,
        patience,
    )
        .prop_map(|(wait, ages, lives, algorithm, patience)| Step {
            wait,
            ages,
            lives,
            algorithm,
            patience,
        })
}

/// The stored keys, as they were at every time.
struct Past(BTreeMap<u64, Vec<Record>>);

impl Past {
    fn at(&self, time: u64) -> &[Record] {
        let (_, records) = self.0.range(..=time).next_back().unwrap();
        records
    }
}

proptest! {
    /// Whoever knows the keys as they were at most one lead ago knows the key of every living token,
    /// which was signed by someone who knows them as they were at most one lead ago.
    #[test]
    fn there_is_no_moment_in_which_a_tokens_key_is_not_published(
        steps in prop::collection::vec(step(), 1..120),
        period in 1..20 * DAY,
        lead in 1..20 * MINUTE,
        lifetime in 1..2 * DAY,
    ) {
        let mut now = 1_000_000;
        let mut made = 0;
        let mut past = Past(BTreeMap::from([(0, Vec::new())]));
        let mut living: Vec<(Box<str>, u64)> = Vec::new();
        for step in steps {
            now += step.wait;
            let schedule = Schedule {
                algorithm: step.algorithm,
                patience: Duration::from_secs(step.patience),
                period: Duration::from_secs(period),
                lead: Duration::from_secs(lead),
                lifetime: Duration::from_secs(lifetime),
            };

            let mut records = past.at(now).to_vec();
            let before = made;
            loop {
                let plan = plan(&records, &schedule, at(now));
                prop_assert_eq!(plan.published.len() + plan.forget.len(), records.len());
                let forgotten: Vec<Record> = plan.forget.into_iter().cloned().collect();
                let make = plan.make;
                records.retain(|record| !forgotten.contains(record));
                let Some(signs_from) = make else { break };
                made += 1;
                prop_assert!(made - before <= 3, "keys are made without end");
                records.push(Record {
                    kid: made.to_string().into(),
                    algorithm: step.algorithm,
                    created_at: at(now),
                    signs_from,
                });
            }
            past.0.insert(now, records);

            // Nobody knows of a time before there was a key.
            let first = *past.0.keys().nth(1).unwrap();
            let [known, fetched] = step.ages.map(|age| (now - lead * age / 1000).max(first));
            let heard = plan(past.at(known), &schedule, at(now));
            let signer = heard.signer.unwrap();
            prop_assert!(heard.published.contains(&signer));
            living.push((signer.kid.clone(), now + lifetime * step.lives / 1000));

            let set = plan(past.at(fetched), &schedule, at(fetched));
            living.retain(|(_, expires)| *expires > now);
            for (kid, _) in &living {
                let published = set.published.iter().any(|record| record.kid == *kid);
                prop_assert!(published, "{kid} is not published at {fetched}, now {now}");
            }
        }
    }
}
