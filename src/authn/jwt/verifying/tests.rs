use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::EncodingKey;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::authn::jwt::signing::SigningKey;
use crate::rules::jwt::SigningAlgorithm;

mod vectors;

/// The payload of RFC 7515 appendix A in canonical form.
const PAYLOAD: &str = r#"{"iss":"joe","exp":1300819380,"http://example.com/is_root":true}"#;

static P256: LazyLock<SigningKey> = LazyLock::new(|| generate(SigningAlgorithm::Es256));
static ED25519: LazyLock<SigningKey> = LazyLock::new(|| generate(SigningAlgorithm::EdDsa));
static RSA: LazyLock<SigningKey> = LazyLock::new(|| generate(SigningAlgorithm::Rs256));

fn generate(algorithm: SigningAlgorithm) -> SigningKey {
    SigningKey::generate(algorithm).unwrap()
}

fn base64url(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// A token with whatever header, signed as that says or not.
fn token(header: &Value, signing: &SigningKey) -> String {
    let covered = covered(header);
    let key = match signing.algorithm() {
        SigningAlgorithm::Es256 => EncodingKey::from_ec_der(signing.as_pkcs8()),
        SigningAlgorithm::EdDsa => EncodingKey::from_ed_der(signing.as_pkcs8()),
        SigningAlgorithm::Rs256 => EncodingKey::from_rsa_der(&signing.as_pkcs8()[26..]),
    };
    let algorithm = signing.algorithm().into();
    let signature = jsonwebtoken::crypto::sign(covered.as_bytes(), &key, algorithm).unwrap();
    format!("{covered}.{signature}")
}

/// A token with whatever header, signed with HS256.
fn secret_token(header: &Value, secret: &[u8]) -> String {
    let covered = covered(header);
    let key = EncodingKey::from_secret(secret);
    let algorithm = jsonwebtoken::Algorithm::HS256;
    let signature = jsonwebtoken::crypto::sign(covered.as_bytes(), &key, algorithm).unwrap();
    format!("{covered}.{signature}")
}

fn covered(header: &Value) -> String {
    let [header, payload] = [&*header.to_string(), PAYLOAD].map(|text| base64url(text.as_bytes()));
    format!("{header}.{payload}")
}

fn named(signing: &SigningKey, kid: Option<&str>) -> VerifyingKey {
    VerifyingKey::from_public(public(signing), kid.map(Into::into)).unwrap()
}

fn public(signing: &SigningKey) -> PublicKey {
    let set = json!({"keys": [signing.public_jwk()]}).to_string();
    read_set(set.as_bytes()).unwrap().remove(0).unwrap().key
}

fn outcome(token: &str, keys: &KeySet) -> Result<(), Unverified> {
    verify(token.as_bytes(), keys).map(drop)
}

#[test]
fn a_kid_names_one_key_or_none() {
    let keys = KeySet::new([
        named(&P256, Some("one")),
        named(&generate(SigningAlgorithm::Es256), Some("two")),
    ]);
    let with = |kid: Value| outcome(&token(&json!({"alg": "ES256", "kid": kid}), &P256), &keys);
    assert_eq!(with(json!("one")), Ok(()));
    assert_eq!(with(json!("two")), Err(Unverified::WrongSignature));
    for unknown in [
        "",
        "three",
        "ONE",
        "one ",
        " one",
        "one\0",
        "on",
        "onee",
        "../one",
        "/dev/null",
        "one/../one",
        "one' OR '1'='1",
        "http://attacker.example/jwks.json",
        "%6fne",
    ] {
        assert_eq!(
            with(json!(unknown)),
            Err(Unverified::UnknownKey),
            "{unknown:?}"
        );
    }
    for malformed in [json!(null), json!(1), json!(["one"]), json!({"kid": "one"})] {
        let expected = Err(Unverified::Malformed(Malformed::Header));
        assert_eq!(with(malformed), expected);
    }
}

#[test]
fn a_token_without_a_kid_needs_a_set_with_one_key_of_its_algorithm() {
    let anonymous = token(&json!({"alg": "ES256"}), &P256);
    let set = |keys: Vec<VerifyingKey>| KeySet::new(keys);
    assert_eq!(
        outcome(&anonymous, &set(vec![])),
        Err(Unverified::UnknownKey)
    );
    for kid in [None, Some("one")] {
        assert_eq!(outcome(&anonymous, &set(vec![named(&P256, kid)])), Ok(()));
        let mixed = set(vec![
            named(&ED25519, Some("ed")),
            named(&P256, kid),
            named(&RSA, None),
        ]);
        assert_eq!(outcome(&anonymous, &mixed), Ok(()));
    }
    let two = set(vec![
        named(&P256, Some("one")),
        named(&generate(SigningAlgorithm::Es256), Some("two")),
    ]);
    assert_eq!(outcome(&anonymous, &two), Err(Unverified::UnknownKey));
    let other = set(vec![named(&ED25519, None)]);
    assert_eq!(outcome(&anonymous, &other), Err(Unverified::WrongAlgorithm));
}

#[test]
fn a_key_without_a_name_answers_to_none() {
    let keys = KeySet::new([named(&P256, None)]);
    let named = token(&json!({"alg": "ES256", "kid": "one"}), &P256);
    assert_eq!(outcome(&named, &keys), Err(Unverified::UnknownKey));
}

#[test]
fn a_name_that_two_keys_share_names_neither() {
    let other = generate(SigningAlgorithm::Es256);
    let header = json!({"alg": "ES256", "kid": "one"});
    let shared = KeySet::new([named(&P256, Some("one")), named(&other, Some("one"))]);
    assert_eq!(shared.len(), 2);
    for key in [&*P256, &other] {
        assert_eq!(
            outcome(&token(&header, key), &shared),
            Err(Unverified::UnknownKey)
        );
    }
    // One key twice is one key, and keys of different kinds may share a name (RFC 7517 §4.5).
    let twice = KeySet::new([named(&P256, Some("one")), named(&P256, Some("one"))]);
    assert_eq!(twice.len(), 1);
    assert_eq!(outcome(&token(&header, &P256), &twice), Ok(()));
    let kinds = KeySet::new([named(&P256, Some("one")), named(&ED25519, Some("one"))]);
    assert_eq!(outcome(&token(&header, &P256), &kinds), Ok(()));
    let header = json!({"alg": "EdDSA", "kid": "one"});
    assert_eq!(outcome(&token(&header, &ED25519), &kinds), Ok(()));
    assert_eq!(
        outcome(&token(&header, &P256), &kinds),
        Err(Unverified::WrongSignature)
    );
}

#[test]
fn the_algorithm_is_the_keys() {
    for key in [&*P256, &ED25519, &RSA] {
        let keys = KeySet::new([named(key, Some("one"))]);
        for algorithm in Algorithm::ALL {
            let claimed = token(&json!({"alg": algorithm.name(), "kid": "one"}), key);
            let expected = if algorithm == key.algorithm().into() {
                Ok(())
            } else {
                Err(Unverified::WrongAlgorithm)
            };
            assert_eq!(outcome(&claimed, &keys), expected, "{algorithm:?}");
        }
        for none in ["none", "None", "nOnE", ""] {
            let unsigned = format!("{}.AA", covered(&json!({"alg": none, "kid": "one"})));
            let expected = Err(Unverified::Malformed(Malformed::Algorithm));
            assert_eq!(outcome(&unsigned, &keys), expected);
        }
    }
}

#[test]
fn a_public_key_is_never_taken_for_a_secret() {
    let keys = KeySet::new([named(&RSA, Some("one"))]);
    let PublicKey::Rsa { n, e } = public(&RSA) else {
        panic!("not an RSA key");
    };
    let jwk = RSA.public_jwk().to_string();
    let guesses: [&[u8]; 4] = [&n, &[&n[..], &e].concat(), jwk.as_bytes(), b""];
    for secret in guesses {
        for header in [
            json!({"alg": "HS256", "kid": "one"}),
            json!({"alg": "HS256"}),
        ] {
            let forged = secret_token(&header, secret);
            assert_eq!(outcome(&forged, &keys), Err(Unverified::WrongAlgorithm));
        }
        let header = json!({"alg": "RS256", "kid": "one"});
        let forged = secret_token(&header, secret);
        assert_eq!(outcome(&forged, &keys), Err(Unverified::WrongSignature));
    }
}

#[test]
fn no_key_comes_from_a_token() {
    let theirs = generate(SigningAlgorithm::Es256);
    let keys = KeySet::new([named(&P256, Some("one"))]);
    for (member, value) in [
        ("jwk", theirs.public_jwk()),
        ("jku", json!("https://attacker.example/jwks.json")),
        ("x5u", json!("https://attacker.example/chain.pem")),
        ("x5c", json!(["MIIB"])),
    ] {
        for kid in ["one", theirs.kid()] {
            let mut header = json!({"alg": "ES256", "kid": kid});
            header[member] = value.clone();
            assert!(
                outcome(&token(&header, &theirs), &keys).is_err(),
                "{header}"
            );
        }
        let mut header = json!({"alg": "ES256", "kid": "one"});
        header[member] = value;
        assert_eq!(outcome(&token(&header, &P256), &keys), Ok(()));
    }
}

#[test]
fn a_secret_is_long_and_for_one_algorithm() {
    let secret = [7; 32];
    assert_eq!(
        VerifyingKey::from_secret(&secret[1..]).err(),
        Some(ShortSecret)
    );
    assert_eq!(VerifyingKey::from_secret(b"").err(), Some(ShortSecret));
    let keys = KeySet::new([VerifyingKey::from_secret(&secret).unwrap()]);
    // Whatever name the issuer gave it, it is the only one that they share.
    for header in [
        json!({"alg": "HS256"}),
        json!({"alg": "HS256", "kid": "2024"}),
    ] {
        assert_eq!(outcome(&secret_token(&header, &secret), &keys), Ok(()));
        let forged = secret_token(&header, &[8; 32]);
        assert_eq!(outcome(&forged, &keys), Err(Unverified::WrongSignature));
    }
    for name in ["RS256", "ES256", "EdDSA"] {
        let forged = secret_token(&json!({"alg": name}), &secret);
        assert_eq!(outcome(&forged, &keys), Err(Unverified::WrongAlgorithm));
    }
    assert!(!format!("{keys:?}").contains('7'));
}

#[test]
fn every_part_is_covered_by_the_signature() {
    for key in [&*P256, &ED25519, &RSA] {
        let keys = KeySet::new([named(key, Some("one"))]);
        let header = json!({"alg": key.algorithm().name(), "kid": "one"});
        let good = token(&header, key);
        assert_eq!(outcome(&good, &keys), Ok(()));
        let [head, payload, signature] = parts(&good);

        let mut other = header.clone();
        other["typ"] = json!("at+jwt");
        let other = covered(&other);
        let (other, _) = other.split_once('.').unwrap();
        let root = base64url(PAYLOAD.replace("joe", "root").as_bytes());
        let spaced = base64url(PAYLOAD.replace(',', ", ").as_bytes());
        for tampered in [
            format!("{other}.{payload}.{signature}"),
            format!("{head}.{root}.{signature}"),
            format!("{head}.{spaced}.{signature}"),
        ] {
            assert_eq!(outcome(&tampered, &keys), Err(Unverified::WrongSignature));
        }
        for broken in [
            format!("{head}.{payload}."),
            format!("{head}.{payload}"),
            format!("{good}="),
            format!("{good}\n"),
            format!("{good}.{signature}"),
        ] {
            let refused = outcome(&broken, &keys);
            assert!(matches!(refused, Err(Unverified::Malformed(_))), "{broken}");
        }
        let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
        let mut signatures = vec![
            raw[..raw.len() - 1].to_vec(),
            raw[1..].to_vec(),
            raw[..1].to_vec(),
            [&raw[..], &[0]].concat(),
            [&[0], &raw[..]].concat(),
            vec![0; raw.len()],
            vec![0xff; raw.len()],
        ];
        for bit in 0..8 {
            for place in [0, raw.len() / 2, raw.len() - 1] {
                let mut flipped = raw.clone();
                flipped[place] ^= 1 << bit;
                signatures.push(flipped);
            }
        }
        for signature in signatures {
            let forged = format!("{head}.{payload}.{}", base64url(&signature));
            assert_eq!(outcome(&forged, &keys), Err(Unverified::WrongSignature));
        }
    }
}

/// The order of P-256, of which both halves of a signature have to be below (FIPS 186-5 §6.4.2).
const ORDER: [u8; 32] = [
    0xff, 0xff, 0xff, 0xff, 0x00, 0x00, 0x00, 0x00, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    0xbc, 0xe6, 0xfa, 0xad, 0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
];

#[test]
fn an_ecdsa_signature_is_two_numbers_within_the_order() {
    let keys = KeySet::new([named(&P256, Some("one"))]);
    let good = token(&json!({"alg": "ES256", "kid": "one"}), &P256);
    let [head, payload, signature] = parts(&good);
    let raw = URL_SAFE_NO_PAD.decode(signature).unwrap();
    let (r, s) = raw.split_at(32);
    let zero = [0; 32];
    let mut one = zero;
    one[31] = 1;
    // As DER writes it, which JWS does not (RFC 7518 §3.4).
    let mut der = vec![0x30, 70, 0x02, 33, 0];
    der.extend_from_slice(r);
    der.extend_from_slice(&[0x02, 33, 0]);
    der.extend_from_slice(s);
    for forged in [
        [&zero[..], &zero].concat(),
        [&zero[..], s].concat(),
        [r, &zero[..]].concat(),
        [&one[..], &one].concat(),
        [&ORDER[..], &ORDER].concat(),
        [&ORDER[..], s].concat(),
        [r, &ORDER[..]].concat(),
        [&zero[..], &ORDER].concat(),
        [s, r].concat(),
        [&[0][..], r, &[0], s].concat(),
        der,
    ] {
        let forged = format!("{head}.{payload}.{}", base64url(&forged));
        assert_eq!(outcome(&forged, &keys), Err(Unverified::WrongSignature));
    }
}

#[test]
fn a_point_off_the_curve_is_no_key() {
    let PublicKey::P256 { x, mut y } = public(&P256) else {
        panic!("not a P-256 key");
    };
    y[31] ^= 1;
    let zero = [0; 32];
    for (x, y) in [(x, y), (zero, zero), (x, zero), ([0xff; 32], [0xff; 32])] {
        let off = PublicKey::P256 { x, y };
        let ignored = VerifyingKey::from_public(off.clone(), None).err();
        assert_eq!(ignored, Some(Ignored::OffCurve));
        let set = json!({"keys": [off.to_jwk("one"), P256.public_jwk()]}).to_string();
        let (keys, ignored) = KeySet::from_jwks(set.as_bytes(), &Algorithm::ALL).unwrap();
        assert_eq!((keys.len(), ignored), (1, vec![Ignored::OffCurve]));
    }
}

#[test]
fn a_published_set_yields_the_keys_that_were_asked_for() {
    let set = json!({"keys": [
        P256.public_jwk(),
        ED25519.public_jwk(),
        RSA.public_jwk(),
        {"kty": "oct", "alg": "HS256", "k": base64url(&[7; 32]), "kid": "secret"},
        {"kty": "EC", "crv": "P-384"},
    ]})
    .to_string();
    let read = |allowed: &[Algorithm]| KeySet::from_jwks(set.as_bytes(), allowed).unwrap();
    let (keys, ignored) = read(&Algorithm::ALL);
    assert_eq!((keys.len(), ignored), (3, vec![Ignored::Kind; 2]));
    let forged = secret_token(&json!({"alg": "HS256", "kid": "secret"}), &[7; 32]);
    assert_eq!(outcome(&forged, &keys), Err(Unverified::UnknownKey));

    let (keys, ignored) = read(&[Algorithm::Rs256]);
    assert_eq!((keys.len(), ignored.len()), (1, 4));
    let header = json!({"alg": "RS256", "kid": RSA.kid()});
    assert_eq!(outcome(&token(&header, &RSA), &keys), Ok(()));
    let header = json!({"alg": "ES256", "kid": P256.kid()});
    assert_eq!(
        outcome(&token(&header, &P256), &keys),
        Err(Unverified::UnknownKey)
    );
    let (keys, _) = read(&[]);
    assert!(keys.is_empty());
    assert_eq!(
        KeySet::from_jwks(b"[]", &Algorithm::ALL).err(),
        Some(BadSet::Malformed)
    );
}

#[test]
fn verification_judges_no_time() {
    let good = token(&json!({"alg": "EdDSA"}), &ED25519);
    let keys = KeySet::new([named(&ED25519, None)]);
    let verified = verify(good.as_bytes(), &keys).unwrap();
    let expected = Expected {
        issuer: "joe",
        audience: &[],
    };
    assert_eq!(
        verified.own_claims(&expected),
        Err(BadClaim::Unexpected("typ"))
    );
    assert_eq!(
        verified.foreign_claims(&expected),
        Err(BadClaim::Missing("aud"))
    );
}

fn parts(token: &str) -> [&str; 3] {
    let parts: Vec<&str> = token.split('.').collect();
    parts.try_into().unwrap()
}

proptest! {
    #[test]
    fn no_bytes_panic_and_none_are_believed(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let keys = KeySet::new([named(&P256, None), VerifyingKey::from_secret(&[7; 32]).unwrap()]);
        prop_assert!(verify(&bytes, &keys).is_err());
        let header = base64url(br#"{"alg":"ES256"}"#);
        let forged = format!("{header}.{}.{}", base64url(b"{}"), base64url(&bytes));
        prop_assert!(outcome(&forged, &keys).is_err());
        let _ = KeySet::from_jwks(&bytes, &Algorithm::ALL);
    }

    #[test]
    fn no_published_set_panics(text in "\\{\"keys\":\\[\\{(\"(kty|crv|x|y|n|e|kid|alg|use)\":\"(EC|OKP|RSA|P-256|Ed25519|AQAB|[A-Za-z0-9_-]{43})\",?){0,6}\\}\\]\\}") {
        let _ = KeySet::from_jwks(text.as_bytes(), &Algorithm::ALL);
    }
}
