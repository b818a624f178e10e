//! Tables of the rules, and of the two forms that others rely on: the token's and the record's.

mod interleavings;
mod naive;

use super::*;
use crate::rules::principal::Scopes;

const SECOND: Duration = Duration::from_secs(1);
const SALT: Salt = Salt([7; 32]);

/// From the construction's description, computed by other means.
const FIRST: &str = "gr_000SYW7RiJxkEgOGusQGwp0UJg4EBGO3cQWJhXqJNbv57cMxemzhJjkW31yzTx5H07wJF2A2uBEOEec26ubYMsJ4EZ9AP";
const SECOND_TOKEN: &str = "gr_000SYW7RiJxkEgOGusQGwp0UJg4EBGO3cQWJhXqJNbv5Oaq7JMu9ogdSK4qoeaYlYWvnDRRkTC9qpFjuCCPYkUK2KgQHS";
const FOREIGN: &str =
    "v1.MjAyNC5mb3JlaWduLXJlZnJlc2gtdG9rZW4tdGhhdC1pcy1sb25nZXItdGhhbi1hLWJsb2NrLW9mLVNIQS0yNTY=";
const AFTER_FOREIGN: &str = "gr_000SYW7RiJxkEgOGusQGwp6bJ9rQBDtxcpk7A1Y7AwbcSpLiwumZuwK5Aufpv2eAxonyL7WrcDXb9ts5WhWMlme1oRDt6";

fn at(seconds: u64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn terms() -> Terms<'static> {
    Terms {
        ttl: 100 * SECOND,
        grace: 2 * SECOND,
        pepper: None,
    }
}

fn grant() -> Grant {
    Grant {
        subject: "0xC02aaA39b223FE8D0A0e5C4F27eAD9083C756Cc2".into(),
        key_id: Some("key_1".into()),
        key_owner: None,
        scopes: Scopes::default(),
        chain_id: None,
        mode: Mode::Cookie,
    }
}

fn random() -> [u8; 64] {
    std::array::from_fn(|place| u8::try_from(place).unwrap())
}

fn begun() -> (Family, Token) {
    begin(grant(), &random(), &terms(), at(0))
}

fn taken_over(until: u64) -> (Family, Token) {
    let token = parsed(FOREIGN);
    let id = std::array::from_fn(|place| u8::try_from(place).unwrap());
    let digest = token.digest(None);
    let family = take_over(grant(), digest, at(0), at(until), &id);
    (family, token)
}

fn parsed(text: &str) -> Token {
    Token::parse(text.as_bytes()).unwrap()
}

/// Exchanges a token with randomness of the time's own.
fn exchanged(family: &Family, token: &Token, now: Timestamp) -> Exchange {
    let mut salt = SALT;
    salt.0[..8].copy_from_slice(&now.nanoseconds().to_be_bytes());
    exchange(family, token, salt, &terms(), now)
}

#[track_caller]
fn rotated_at(family: &Family, token: &Token, now: Timestamp) -> (Family, Token) {
    match exchanged(family, token, now) {
        Exchange::Rotated { family, token } => (family, token),
        other => panic!("{other:?}"),
    }
}

/// What comes of presenting a token: the answered token, or why there is none.
fn outcome(family: &Family, token: &Token, now: Timestamp) -> String {
    match exchanged(family, token, now) {
        Exchange::Rotated { token, .. } => format!("rotated {}", token.as_str()),
        Exchange::Again { token, .. } => format!("again {}", token.as_str()),
        Exchange::Reused { .. } => "reused".into(),
        Exchange::Refused(refused) => format!("{refused:?}"),
    }
}

fn again(token: &Token) -> String {
    format!("again {}", token.as_str())
}

#[test]
fn tokens_look_as_promised_and_follow_from_one_another() {
    let (family, first) = begun();
    assert_eq!(first.as_str(), FIRST);
    assert_eq!(&*family.id, &FIRST[3..25]);
    assert_eq!(first.family_id(), Some(&*family.id));
    let second = first.successor(&family.id, &SALT);
    assert_eq!(second.as_str(), SECOND_TOKEN);

    let (family, foreign) = taken_over(100);
    assert_eq!(foreign.family_id(), None);
    let after = foreign.successor(&family.id, &SALT);
    assert_eq!(after.as_str(), AFTER_FOREIGN);
    for token in [first, second, after] {
        assert_eq!(parsed(token.as_str()).as_str(), token.as_str());
        assert_eq!(token.as_str().len(), 96);
    }
}

#[test]
fn what_is_no_token_is_garbled() {
    let changed = FIRST.replace('W', "V");
    let long = format!("{FIRST}0");
    let foreign_too_long = "t".repeat(513);
    for garbled in [
        "",
        "gr_",
        &FIRST[..95],
        &long,
        &changed,
        "gr_twenty-characters-and-more",
        "nineteen-characters",
        "twenty characters ok",
        "twenty-characters-nö!",
        "twenty-characters-no\u{7f}",
        &foreign_too_long,
    ] {
        let parsed = Token::parse(garbled.as_bytes()).map(|_| ());
        assert_eq!(parsed, Err(Garbled), "{garbled}");
    }
    for foreign in ["twenty-characters-ok", &"t".repeat(512), FOREIGN] {
        assert_eq!(parsed(foreign).as_str(), foreign);
    }
    assert!(Token::parse(&[0xff; 30]).is_err());
}

#[test]
fn no_secret_is_shown() {
    let (family, token) = begun();
    let (family, token) = rotated_at(&family, &token, at(1));
    let exchange = exchanged(&family, &token, at(1));
    for shown in [
        format!("{token:?}"),
        format!("{exchange:?}"),
        format!("{family:?}"),
    ] {
        assert!(!shown.contains("gr_"), "{shown}");
        assert!(!shown.contains("Salt(["), "{shown}");
    }
}

#[test]
fn a_token_within_grace_is_answered_with_the_current_one() {
    let (zero, first) = begun();
    let (one, second) = rotated_at(&zero, &first, at(10));
    let (two, third) = rotated_at(&one, &second, at(11));
    let just_before = Timestamp::from_nanoseconds(at(12).nanoseconds() - 1);
    for (family, token, now, expected) in [
        (&one, &first, at(10), again(&second)),
        (&one, &first, at(11), again(&second)),
        (&two, &first, at(11), again(&third)),
        (&two, &first, just_before, again(&third)),
        (&two, &first, at(12), "reused".into()),
        (&two, &second, just_before, again(&third)),
        (&two, &second, at(12), again(&third)),
    ] {
        assert_eq!(outcome(family, token, now), expected, "{now:?}");
    }
}

#[test]
fn past_grace_only_a_lost_answer_is_answered_again() {
    let (zero, first) = begun();
    let (one, second) = rotated_at(&zero, &first, at(10));
    let used = note_presented(&one, 1).unwrap();
    let (two, _) = rotated_at(&one, &second, at(20));
    for (family, now, expected) in [
        (&one, 12, again(&second)),
        (&one, 99, again(&second)),
        (&one, 100, "Expired".into()),
        (&used, 11, again(&second)),
        (&used, 12, "reused".into()),
        (&two, 20, "reused".into()),
    ] {
        assert_eq!(outcome(family, &first, at(now)), expected, "{now}");
    }
}

#[test]
fn a_forgotten_token_revokes_but_a_strangers_does_not() {
    for (mut family, first) in [begun(), taken_over(100)] {
        let mut tokens = vec![first];
        for round in 0..4 {
            let (next, token) = rotated_at(&family, tokens.last().unwrap(), at(10 * round));
            family = next;
            tokens.push(token);
        }
        assert_eq!(family.rotations.len(), 1);
        for old in &tokens[..4] {
            let used = note_presented(&family, 4).unwrap();
            assert_eq!(outcome(&used, old, at(50)), "reused");
        }
        // The id is no secret, and a token of the same form is easily made.
        let guessed = Token::first(&family.id, &[1; 16], &[2; 32]);
        let elsewhere = Token::first(&"0".repeat(22), &random()[16..32], &random()[32..]);
        for stranger in [guessed, elsewhere, parsed("twenty-characters-ok")] {
            assert_eq!(outcome(&family, &stranger, at(50)), "Unknown");
        }
        // Whoever can show the proof has seen a token of the family.
        let mut forged = format!("{}{}", &tokens[3].as_str()[..47], "0".repeat(43));
        crate::rules::base62::push_checksum(&mut forged);
        assert_eq!(outcome(&family, &parsed(&forged), at(50)), "reused");
    }
}

/// Owner and thief show the very same bytes. Whoever of them comes second, within grace or beyond it,
/// after the first has used what it got or not, the family ends as soon as the two can be told apart.
#[test]
fn a_stolen_token_ends_its_family_whoever_comes_second() {
    for (later, used) in [(1, false), (1, true), (2, false), (2, true), (50, true)] {
        let case = format!("{later} s later, used: {used}");
        let (zero, stolen) = begun();
        let (mut family, of_first) = rotated_at(&zero, &stolen, at(10));
        if used {
            family = note_presented(&family, 1).unwrap();
        }
        let met = outcome(&family, &stolen, at(10 + later));
        if later >= 2 && used {
            assert_eq!(met, "reused", "{case}");
            continue;
        }
        // Nobody can tell: it may be a second tab, or an answer that was lost. Both have the same
        // token now, and the next rotation leaves one of them behind.
        assert_eq!(met, again(&of_first), "{case}");
        let (family, of_next) = rotated_at(&family, &of_first, at(70));
        for (now, expected) in [(71, again(&of_next)), (72, again(&of_next))] {
            assert_eq!(outcome(&family, &of_first, at(now)), expected, "{case}");
        }
        let used = note_presented(&family, 2).unwrap();
        assert_eq!(outcome(&used, &of_first, at(72)), "reused", "{case}");
        let (further, _) = rotated_at(&family, &of_next, at(80));
        for behind in [&of_first, &stolen] {
            assert_eq!(outcome(&further, behind, at(82)), "reused", "{case}");
        }
    }
}

#[test]
fn a_family_that_ended_answers_nothing() {
    let (zero, first) = begun();
    let (one, second) = rotated_at(&zero, &first, at(10));
    let used = note_presented(&one, 1).unwrap();
    let Exchange::Reused { family: ended } = exchanged(&used, &first, at(20)) else {
        panic!("not reused");
    };
    let left = revoke(&one, Reason::LoggedOut, at(20)).unwrap();
    for (family, reason) in [(&ended, Reason::Reused), (&left, Reason::LoggedOut)] {
        let revocation = Revocation { at: at(20), reason };
        assert_eq!(family.revoked, Some(revocation));
        assert_eq!(family.rotations, []);
        assert_eq!(revoke(family, Reason::Operator, at(21)), None);
        assert_eq!(note_presented(family, 1), None);
        for now in [0, 10, 20, 99, 100] {
            assert!(!is_good(family, at(now)));
            for token in [&first, &second] {
                let expected = format!("Revoked({reason:?})");
                assert_eq!(outcome(family, token, at(now)), expected);
            }
        }
    }
    assert!(is_good(&one, at(99)));
    assert!(!is_good(&one, at(100)));
    assert_eq!(outcome(&one, &second, at(100)), "Expired");
    assert_eq!(outcome(&one, &parsed(FOREIGN), at(100)), "Unknown");
}

#[test]
fn a_family_begins_and_ends_on_whole_seconds_never_late() {
    let now = Timestamp::from_nanoseconds(5_900_000_000);
    let (family, _) = begin(grant(), &random(), &terms(), now);
    assert_eq!(family.created_at, at(5));
    assert_eq!(family.expires_at, at(105));
}

#[test]
fn only_the_current_generation_is_noted_and_only_once() {
    let (zero, first) = begun();
    // Nothing came before it whose answer could have been lost.
    assert_eq!(note_presented(&zero, 0), None);
    let (one, second) = rotated_at(&zero, &first, at(10));
    assert_eq!(note_presented(&one, 0), None);
    assert_eq!(note_presented(&one, 2), None);
    let noted = note_presented(&one, 1).unwrap();
    assert!(noted.presented);
    assert_eq!(note_presented(&noted, 1), None);
    let (two, _) = rotated_at(&noted, &second, at(20));
    assert!(!two.presented);
}

#[test]
fn too_many_rotations_within_grace_wait() {
    let (mut family, mut token) = begun();
    let mut tokens = Vec::new();
    let millisecond = Duration::from_millis(1);
    let mut now = at(10);
    for _ in 0..Family::MOST_ROTATIONS {
        tokens.push(token.clone());
        (family, token) = rotated_at(&family, &token, now);
        now = now.plus(millisecond);
    }
    let Exchange::Again {
        token: kept,
        family: Some(noted),
    } = exchanged(&family, &token, now)
    else {
        panic!("it was rotated, or its holder forgotten");
    };
    assert_eq!(kept.as_str(), token.as_str());
    assert_eq!(noted, note_presented(&family, 64).unwrap());
    let Exchange::Again { family: None, .. } = exchanged(&noted, &token, now) else {
        panic!("it was noted twice");
    };
    for old in &tokens {
        assert_eq!(outcome(&noted, old, now), again(&token));
    }
    // As soon as the oldest is out of grace, it goes on.
    let (next, newest) = rotated_at(&noted, &token, at(12));
    assert_eq!(next.rotations.len(), Family::MOST_ROTATIONS);
    assert_eq!(outcome(&next, &tokens[0], at(12)), "reused");
    assert_eq!(outcome(&next, &tokens[1], at(12)), again(&newest));
}

#[test]
fn a_clock_that_steps_back_prolongs_no_grace_beyond_the_last_rotation() {
    let (zero, first) = begun();
    let (one, second) = rotated_at(&zero, &first, at(50));
    let (two, third) = rotated_at(&one, &second, at(51));
    // The last rotation counts as just now, the one before as a second ago.
    assert_eq!(outcome(&two, &first, at(5)), again(&third));
    let (three, fourth) = rotated_at(&two, &third, at(5));
    let times: Vec<u64> = three.rotations.iter().map(|it| it.at.seconds()).collect();
    assert_eq!(times, [5, 5, 4]);
    for (token, now, expected) in [
        (&first, 5, again(&fourth)),
        (&first, 6, "reused".into()),
        (&second, 6, again(&fourth)),
        (&second, 7, "reused".into()),
        (&third, 7, again(&fourth)),
    ] {
        assert_eq!(outcome(&three, token, at(now)), expected, "{now}");
    }
    // What was out of grace at the last rotation is so for good.
    let (late, _) = rotated_at(&one, &second, at(52));
    for now in [0, 50, 52] {
        assert_eq!(outcome(&late, &first, at(now)), "reused");
    }
}

#[test]
fn with_another_pepper_nothing_is_known_and_nothing_ends() {
    let pepper = Pepper(zeroize::Zeroizing::new(b"pepper".to_vec()));
    let peppered = Terms {
        pepper: Some(&pepper),
        ..terms()
    };
    let (family, token) = begin(grant(), &random(), &peppered, at(0));
    let with = |terms: &Terms<'_>| exchange(&family, &token, SALT, terms, at(1));
    let Exchange::Rotated {
        family: rotated,
        token: next,
    } = with(&peppered)
    else {
        panic!("not rotated");
    };
    assert!(rotated.current.matches(&next.digest(Some(&pepper))));
    assert_eq!(rotated.proof, family.proof);
    assert!(matches!(
        with(&terms()),
        Exchange::Refused(Refused::Unknown)
    ));
}

#[test]
fn a_token_of_another_installation_is_taken_over_like_any_other() {
    let token = Token::first("0000000000000000000000", &[1; 16], &[2; 32]);
    let family = take_over(grant(), token.digest(None), at(0), at(100), &[9; 16]);
    assert_ne!(token.family_id(), Some(&*family.id));
    let (one, second) = rotated_at(&family, &token, at(1));
    assert_eq!(second.family_id(), Some(&*family.id));
    assert_ne!(second.as_str()[25..47], token.as_str()[25..47]);
    assert_eq!(outcome(&one, &token, at(2)), again(&second));
    let (two, _) = rotated_at(&one, &second, at(10));
    assert_eq!(outcome(&two, &token, at(12)), "reused");
}

#[test]
fn the_stored_form_is_stable() {
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let salt = "07".repeat(32);
    let json = format!(
        r#"{{"id":"000SYW7RiJxkEgOGusQGwp","subject":"0xC0","keyId":"key_1","keyOwner":"platform","scopes":["a","b"],"chainId":42161,"mode":"body","createdAt":1000,"expiresAt":2000,"revoked":{{"at":1500,"reason":"loggedOut"}},"generation":3,"current":"{digest}","proof":"{digest}","imported":"{digest}","presented":true,"rotations":[{{"digest":"{digest}","at":1400000000001,"salt":"{salt}"}}]}}"#
    );
    let abc = Digest::of(b"abc");
    let family = Family {
        id: "000SYW7RiJxkEgOGusQGwp".into(),
        grant: Grant {
            subject: "0xC0".into(),
            key_id: Some("key_1".into()),
            key_owner: Some("platform".into()),
            scopes: Scopes::new(["b", "a"]),
            chain_id: Some(42_161),
            mode: Mode::Body,
        },
        created_at: at(1_000),
        expires_at: at(2_000),
        revoked: Some(Revocation {
            at: at(1_500),
            reason: Reason::LoggedOut,
        }),
        generation: 3,
        current: abc,
        proof: Some(abc),
        imported: Some(abc),
        presented: true,
        rotations: vec![Rotation {
            digest: abc,
            at: Timestamp::from_nanoseconds(1_400_000_000_001),
            salt: SALT,
        }],
    };
    assert_eq!(serde_json::to_string(&family).unwrap(), json);
    assert_eq!(serde_json::from_str::<Family>(&json).unwrap(), family);
    for (reason, name) in [
        (Reason::Reused, r#""reused""#),
        (Reason::Operator, r#""operator""#),
        (Reason::KeyRevoked, r#""keyRevoked""#),
    ] {
        assert_eq!(serde_json::to_string(&reason).unwrap(), name);
    }
}

#[test]
fn the_smallest_stored_form_is_read() {
    let digest = Digest::of(FOREIGN.as_bytes()).hex();
    let json = format!(
        r#"{{"id":"000SYW7RiJxkEgOGusQGwp","subject":"s","mode":"cookie","createdAt":1,"expiresAt":9,"generation":0,"current":"{digest}","presented":false,"later":{{}}}}"#
    );
    let family: Family = serde_json::from_str(&json).unwrap();
    let (rotated, _) = rotated_at(&family, &parsed(FOREIGN), at(2));
    let kept = serde_json::to_string(&rotated).unwrap();
    assert_eq!(serde_json::from_str::<Family>(&kept).unwrap(), rotated);
}
