use super::*;

/// The public key of RFC 7515 appendix A.3.1.
const P256: &str = r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#;

/// The public key of RFC 8037 appendix A.2.
const ED25519: &str =
    r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#;

/// The public key of RFC 7638 §3.1.
const RSA: &str = r#"{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}"#;

fn one(jwk: &str) -> Result<Jwk, Ignored> {
    let set = format!(r#"{{"keys":[{jwk}]}}"#);
    read_set(set.as_bytes()).unwrap().remove(0)
}

/// `jwk` with the member `name` replaced, or added.
fn with(jwk: &str, name: &str, value: Value) -> String {
    let mut jwk: Value = serde_json::from_str(jwk).unwrap();
    jwk[name] = value;
    jwk.to_string()
}

#[test]
fn a_key_has_a_name_by_itself() {
    for (jwk, thumbprint) in [
        // RFC 7638 §3.1.
        (RSA, "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"),
        // RFC 8037 appendix A.3.
        (ED25519, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"),
        // printf '{"crv":…,"kty":"EC","x":…,"y":…}' | openssl sha256 -binary | basenc --base64url
        (P256, "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U"),
    ] {
        assert_eq!(one(jwk).unwrap().key.thumbprint(), thumbprint);
    }
}

#[test]
fn a_key_reads_back_as_it_was_published() {
    for jwk in [P256, ED25519, RSA] {
        let key = one(jwk).unwrap().key;
        let published = key.to_jwk("name");
        assert_eq!(published["use"], "sig");
        assert_eq!(published["alg"], key.algorithm().name());
        let kid = Some("name".into());
        assert_eq!(one(&published.to_string()), Ok(Jwk { key, kid }));
    }
}

#[test]
fn keys_for_other_readers_are_ignored() {
    for (jwk, ignored) in [
        ("{}".into(), Ignored::Malformed("kty")),
        ("null".into(), Ignored::Malformed("kty")),
        ("[]".into(), Ignored::Malformed("kty")),
        ("\"key\"".into(), Ignored::Malformed("kty")),
        (with(P256, "kty", json!(1)), Ignored::Malformed("kty")),
        (with(P256, "kty", json!("ec")), Ignored::Kind),
        (r#"{"kty":"oct","k":"AAAA"}"#.into(), Ignored::Kind),
        (
            r#"{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}"#.into(),
            Ignored::Kind,
        ),
        (with(P256, "crv", json!("P-384")), Ignored::Kind),
        (with(P256, "crv", json!("secp256k1")), Ignored::Kind),
        (with(P256, "crv", json!("Ed25519")), Ignored::Kind),
        (with(P256, "crv", Value::Null), Ignored::Kind),
        (with(ED25519, "crv", json!("X25519")), Ignored::Kind),
        (with(ED25519, "crv", json!("Ed448")), Ignored::Kind),
        (with(P256, "use", json!("enc")), Ignored::Purpose),
        (with(P256, "use", json!("")), Ignored::Purpose),
        (with(P256, "use", json!(["sig"])), Ignored::Malformed("use")),
        (with(P256, "key_ops", json!(["sign"])), Ignored::Purpose),
        (with(P256, "key_ops", json!([])), Ignored::Purpose),
        (
            with(P256, "key_ops", json!("verify")),
            Ignored::Malformed("key_ops"),
        ),
        (with(P256, "alg", json!("ES384")), Ignored::Algorithm),
        (with(P256, "alg", json!("HS256")), Ignored::Algorithm),
        (with(P256, "alg", json!("none")), Ignored::Algorithm),
        (with(RSA, "alg", json!("PS256")), Ignored::Algorithm),
        (with(RSA, "alg", json!("RSA-OAEP")), Ignored::Algorithm),
        (with(ED25519, "alg", json!(8)), Ignored::Malformed("alg")),
        (with(P256, "kid", json!(1)), Ignored::Malformed("kid")),
        (with(P256, "d", json!("AAAA")), Ignored::Private),
        (with(RSA, "d", json!("AAAA")), Ignored::Private),
    ] {
        assert_eq!(one(&jwk), Err(ignored), "{jwk}");
    }
    for jwk in [
        with(P256, "key_ops", json!(["verify", "other"])),
        with(P256, "use", json!("sig")),
        with(P256, "x5c", json!(["…"])),
        with(P256, "unknown", json!({})),
    ] {
        assert_eq!(one(&jwk), one(P256));
    }
}

#[test]
fn numbers_have_their_form() {
    for (jwk, name, value) in [
        (
            P256,
            "x",
            json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVA"),
        ),
        (
            P256,
            "x",
            json!("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEV"),
        ),
        (
            P256,
            "x",
            json!("AH_NzidwfsRdQYPL7m_bS3tYBzM1e-nvE7rPbjx70VRF"),
        ),
        (
            P256,
            "y",
            json!("x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0="),
        ),
        (
            P256,
            "y",
            json!("x/FEzRu9m36HLN/tue659LNpXW6pCyStikYjKIWI5a0"),
        ),
        (P256, "y", json!("")),
        (P256, "y", Value::Null),
        (
            ED25519,
            "x",
            json!("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHUQ"),
        ),
        (ED25519, "x", json!(1)),
        (RSA, "n", json!("!")),
        (RSA, "n", Value::Null),
        (RSA, "e", json!(65537)),
        (RSA, "e", json!("AQAB==")),
    ] {
        let changed = with(jwk, name, value);
        assert_eq!(one(&changed), Err(Ignored::Malformed(name)), "{changed}");
    }
}

#[test]
fn rsa_keys_are_strong_enough() {
    let modulus = |bytes: usize| {
        let mut modulus = vec![0x80; bytes];
        modulus[bytes - 1] = 1;
        modulus
    };
    let f4 = [1, 0, 1];
    assert!(PublicKey::rsa(&modulus(256), &f4).is_ok());
    assert!(PublicKey::rsa(&modulus(1024), &f4).is_ok());
    assert!(PublicKey::rsa(&modulus(256), &[3]).is_ok());

    let mut short = modulus(256);
    short[0] = 0x7f;
    let mut even = modulus(256);
    even[255] = 2;
    let weak = [
        (short, &f4[..]),
        (even, &f4),
        (modulus(128), &f4),
        (modulus(1025), &f4),
        (Vec::new(), &f4),
        (vec![0; 300], &f4),
        (modulus(256), &[]),
        (modulus(256), &[0]),
        (modulus(256), &[1]),
        (modulus(256), &[2]),
        (modulus(256), &[1, 0, 0]),
        (modulus(256), &[1, 0, 0, 0, 1]),
    ];
    for (n, e) in weak {
        assert_eq!(PublicKey::rsa(&n, e), Err(Ignored::Strength), "{e:?}");
    }
    let padded = [&[0, 0][..], &modulus(256)].concat();
    let plain = PublicKey::rsa(&modulus(256), &f4).unwrap();
    assert_eq!(PublicKey::rsa(&padded, &[0, 1, 0, 1]), Ok(plain));
}

#[test]
fn sets_are_bounded_and_mean_one_thing() {
    for malformed in [
        "",
        "[]",
        "null",
        "{}",
        r#"{"keys":{}}"#,
        r#"{"keys":null}"#,
        r#"{"keys":[],"keys":[]}"#,
        r#"{"keys":[{"kty":"EC","kty":"RSA"}]}"#,
        r#"{"keys":[]} {}"#,
    ] {
        assert_eq!(
            read_set(malformed.as_bytes()),
            Err(BadSet::Malformed),
            "{malformed}"
        );
    }
    assert_eq!(read_set(br#"{"keys":[],"more":1}"#), Ok(Vec::new()));

    let set = |count: usize| format!(r#"{{"keys":[{}]}}"#, vec![P256; count].join(","));
    assert_eq!(
        read_set(set(MOST_KEYS).as_bytes()).unwrap().len(),
        MOST_KEYS
    );
    let too_many = set(MOST_KEYS + 1);
    assert_eq!(read_set(too_many.as_bytes()), Err(BadSet::TooMany));

    let mut long = br#"{"keys":[]}"#.to_vec();
    long.resize(LONGEST_SET, b' ');
    assert_eq!(read_set(&long), Ok(Vec::new()));
    long.push(b' ');
    assert_eq!(read_set(&long), Err(BadSet::TooLong));
}
