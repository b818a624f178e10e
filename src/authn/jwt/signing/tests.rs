use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::authn::jwt::verifying::{KeySet, verify};
use crate::rules::jwt::{Expected, TokenId, split};
use crate::rules::principal::Scopes;
use crate::rules::time::Timestamp;

/// `openssl ecparam -name prime256v1 -genkey`
const SEC1: &str = "-----BEGIN EC PARAMETERS-----
BggqhkjOPQMBBw==
-----END EC PARAMETERS-----
-----BEGIN EC PRIVATE KEY-----
MHcCAQEEIGVhS/5cVJ17C31xpe2WFlv3mTqPEe9iZO6RpiHawo+PoAoGCCqGSM49
AwEHoUQDQgAEe3Hn2EzZbl3h3jppYpmQ3CiaQch9O8yu2f8KghnL2v2+f3ObnTmC
+NYaHMHi6jy/xCVOi82Bom8MapiZjDUcMQ==
-----END EC PRIVATE KEY-----
";

/// The public part of [`SEC1`], by `openssl pkey -pubout`.
const PUBLIC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEe3Hn2EzZbl3h3jppYpmQ3CiaQch9
O8yu2f8KghnL2v2+f3ObnTmC+NYaHMHi6jy/xCVOi82Bom8MapiZjDUcMQ==
-----END PUBLIC KEY-----
";

/// [`SEC1`] by `openssl pkcs8 -topk8`.
const ENCRYPTED_PKCS8: &str = "-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAiBUJ6DpkWkXAICCAAw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEEAf8f4I+9TxefB71aaqT3ssEgZC/
x8c/mOZVZIZizDplpffrjo2ZHSXbNV/cTvDxWZ5xXPTrzDVrAkYdHVs6qQskC5Rj
v9mWwBsfywBNiLu6bYFcUrKL6J2pUf0V3G0bI7PSlsh0SFLrI9XmeAkhSffxsTU9
uVdLtcpilE6YGXS05dMLadx45uSRIA68gDKltEvczMuEzQL/7yd0TkAlBgw9vHA=
-----END ENCRYPTED PRIVATE KEY-----
";

/// [`SEC1`] by `openssl ec -aes128`.
const ENCRYPTED_SEC1: &str = "-----BEGIN EC PRIVATE KEY-----
Proc-Type: 4,ENCRYPTED
DEK-Info: AES-128-CBC,2DFDAD622D2E8ACD295D88AA8CA5A16E

WeScIePunRyxCBUWjOY7ziIGRJPkPzcOPj2NQrbEkRUjyAJ+EQNe0/6i5EPjLVT1
oNa0LOlMc6wiGiO9JSvvSgyinMMLhn5UwCbzmHqdWk/u1m98V+Wf5r4qb5yOqM9d
WPphv6EcUvrse/Fx7rn2+op43hUY/pdSkMHbeilKmlA=
-----END EC PRIVATE KEY-----
";

/// `openssl ecparam -name secp384r1 -genkey -noout`
const P384: &str = "-----BEGIN EC PRIVATE KEY-----
MIGkAgEBBDCPJIAz5rM3KEy3p4ZCVmXGy5eUAiOY2z0RdD1oOqM2KVVHy0IV34Sn
BzdRmcSsitigBwYFK4EEACKhZANiAAQxcBZpCrT2LspiI6GK0CPoy1EXmyJ2/F/c
WDcyEQ2gwVeIl59pBYknD0lnNpVQv+TxzAU7fIveLK5NCSy6mHcNTWLI+7f+a6y9
Er0n63cnJT6dP4dQOCDtYAEWj0qegL0=
-----END EC PRIVATE KEY-----
";

/// `openssl genpkey -algorithm x25519`
const X25519: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VuBCIEIMBL/ValF0qFSYuXTpfLzGJ1LhwS+Njlkk8FYAiUojtz
-----END PRIVATE KEY-----
";

/// `openssl genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024`
const RSA1024: &str = "-----BEGIN PRIVATE KEY-----
MIICdgIBADANBgkqhkiG9w0BAQEFAASCAmAwggJcAgEAAoGBALOYwxrotaxXaspp
nXsEuo70JhPkaLgioShW1vz/DoFDDJi7y5x7H2vq6qS0v4/asaHUP53jfmnTyMgH
aqzWVwO7CK8Btmb9AsBqftqT3Z7QyHucbgS66vERAdaUzcdM7Wl1XEd17y1OhvHV
6Wv+YWPxduuu+tK4+1h53D0K6W1/AgMBAAECgYB1F1vc52vK+RN+9GzgD60yFqvc
vEYqBynbCwMP35qtW/GSgp21X/CUg4yH5fAe8g5t29u+LNv2U0XMZEmAdh40Dyyw
91TFg3l82/cs0smzohhH7HEaQjOK9GVPgWnfHgyNFkng+q8XGG1wVRdIH+ZibLo0
DLSBlwzVAT+gu8yOAQJBAO9Mo23OGcSQvwzR752X4iqh2MZ2bzEl01Gi9DcmbkOm
y5qo3Jr9RHddXx3ZHZQhtKBV1VFazbNcfI6UWvnWC6ECQQDAIXdyUj+PA89LDdRs
MRaLhpUA2/vNp1Hx43AznCD1EyrySgV0IeC+NgfY8l21v8ptYYCKJlUwevt4H16S
N+UfAkBsmU050eTjzgTGHqgtzvX2/whP2QPRPCdQzzEhrjEwRov0HlovhG0D9r3p
39SKm1lLwmhSyXC8y2ZDlpRK+ZbBAkBldIatsK7tZ1acTHZCl31POkcOiBukkllc
QPyr1CM3JuMDxICyvXz/FGr6bal8YwWS0uzchrdvfVGzMeVvkuKDAkEAiojV3O/e
SjIwpDB6Zaflv1XwIfaikz51r8mOsyAo9a1rXyDHWtKIqOu4Qz5xExSoBZomcF/3
bUyvoLGsUqMcuA==
-----END PRIVATE KEY-----
";

fn pem(label: &str, der: &[u8]) -> String {
    let base64 = STANDARD.encode(der);
    let mut text = format!("-----BEGIN {label}-----\n");
    for line in base64.as_bytes().chunks(64) {
        text.push_str(str::from_utf8(line).unwrap());
        text.push('\n');
    }
    text + &format!("-----END {label}-----\n")
}

fn refused(text: &str) -> BadSigningKey {
    SigningKey::from_pem(text.as_bytes()).expect_err(text)
}

fn claims() -> OwnClaims {
    OwnClaims {
        issuer: "us".into(),
        subject: "zoë".into(),
        audience: vec!["api".into()],
        issued_at: Timestamp::from_seconds(1000),
        not_before: Timestamp::from_seconds(1000),
        expires_at: Timestamp::from_seconds(1900),
        id: TokenId::new("ses_1", 1, &[1; 16]),
        scopes: Scopes::new(["portfolio:read"]),
        methods: vec!["wallet".into()],
        client_id: "key_1".into(),
    }
}

#[test]
fn what_a_key_signs_it_verifies() {
    for algorithm in SigningAlgorithm::ALL {
        let key = SigningKey::generate(algorithm).unwrap();
        assert_eq!(key.algorithm(), algorithm);
        let token = key.sign(&claims()).unwrap();
        let header = split(token.as_bytes()).unwrap().header;
        assert_eq!(header.algorithm, algorithm.into());
        assert_eq!(header.kid.as_deref(), Some(key.kid()));

        let audience = ["api".into()];
        let expected = Expected {
            issuer: "us",
            audience: &audience,
        };
        let keys = KeySet::new([key.verifying_key().unwrap()]);
        let verified = verify(token.as_bytes(), &keys).unwrap();
        assert_eq!(verified.own_claims(&expected), Ok(claims()));

        // The published set says the same.
        let set = serde_json::json!({"keys": [key.public_jwk()]}).to_string();
        let (keys, ignored) = KeySet::from_jwks(set.as_bytes(), &[algorithm.into()]).unwrap();
        assert_eq!((keys.len(), ignored), (1, vec![]));
        assert!(verify(token.as_bytes(), &keys).is_ok());

        // And so does the key that was kept.
        let kept = SigningKey::from_pkcs8(key.as_pkcs8()).unwrap();
        assert_eq!(kept.kid(), key.kid());
        assert_eq!(kept.as_pkcs8(), key.as_pkcs8());
        let again = SigningKey::from_pem(pem("PRIVATE KEY", key.as_pkcs8()).as_bytes()).unwrap();
        assert_eq!(again.kid(), key.kid());
        let token = again.sign(&claims()).unwrap();
        assert!(verify(token.as_bytes(), &keys).is_ok());
    }
}

#[test]
fn reads_what_openssl_writes() {
    let key = SigningKey::from_pem(SEC1.as_bytes()).unwrap();
    assert_eq!(key.algorithm(), SigningAlgorithm::Es256);
    // Computed from the public part, by RFC 7638 §3.
    assert_eq!(key.kid(), "5u99fOreLvLuCHsRE3OK_DPcZ22sexwB88jBjz3UXQw");
    let jwk = key.public_jwk();
    assert_eq!(jwk["x"], "e3Hn2EzZbl3h3jppYpmQ3CiaQch9O8yu2f8KghnL2v0");
    assert_eq!(jwk["y"], "vn9zm505gvjWGhzB4uo8v8QlTovNgaJvDGqYmYw1HDE");

    // Line ends, prose and the public part do not matter.
    let around = format!("# signing key\r\n{}\n{PUBLIC}", SEC1.replace('\n', "\r\n"));
    let same = SigningKey::from_pem(around.as_bytes()).unwrap();
    assert_eq!(same.kid(), key.kid());
}

#[test]
fn reads_rsa_keys_in_pkcs1() {
    let key = SigningKey::generate(SigningAlgorithm::Rs256).unwrap();
    let pkcs1 = pem("RSA PRIVATE KEY", &key.as_pkcs8()[RSA_PREAMBLE..]);
    let same = SigningKey::from_pem(pkcs1.as_bytes()).unwrap();
    assert_eq!(same.kid(), key.kid());
    assert_eq!(same.as_pkcs8(), key.as_pkcs8());
}

#[test]
fn reads_the_key_of_rfc_8037() {
    // Appendix A.1 as PKCS#8 (RFC 8410 §7); appendix A.3 has its thumbprint.
    let seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
    let der: Vec<u8> = format!("302e020100300506032b657004220420{seed}")
        .as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect();
    let key = SigningKey::from_pkcs8(&der).unwrap();
    assert_eq!(key.algorithm(), SigningAlgorithm::EdDsa);
    assert_eq!(key.kid(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    assert_eq!(key.as_pkcs8(), der);
}

#[test]
fn says_why_a_file_holds_no_key_to_sign_with() {
    let garbled = SEC1.replace("MHcC", "MHc!");
    let cut = SEC1.replace("-----END EC PRIVATE KEY-----\n", "");
    let crossed = SEC1.replace("END EC PRIVATE", "END PRIVATE");
    let relabelled = SEC1.replace("EC PRIVATE", "RSA PRIVATE");
    let ssh = pem("OPENSSH PRIVATE KEY", b"openssh-key-v1");
    for (text, problem) in [
        ("", BadSigningKey::NotPem),
        ("hunter2", BadSigningKey::NotPem),
        (PUBLIC, BadSigningKey::NotPrivate),
        (&pem("CERTIFICATE", b"0"), BadSigningKey::NotPrivate),
        (&format!("{SEC1}{SEC1}"), BadSigningKey::Several),
        (&format!("{SEC1}{RSA1024}"), BadSigningKey::Several),
        (&format!("{SEC1}{ENCRYPTED_PKCS8}"), BadSigningKey::Several),
        (ENCRYPTED_PKCS8, BadSigningKey::Encrypted),
        (ENCRYPTED_SEC1, BadSigningKey::Encrypted),
        (&garbled, BadSigningKey::Malformed),
        (&cut, BadSigningKey::Malformed),
        (&crossed, BadSigningKey::Malformed),
        (&relabelled, BadSigningKey::Malformed),
        (&pem("PRIVATE KEY", b""), BadSigningKey::Malformed),
        (&pem("PRIVATE KEY", b"0"), BadSigningKey::Malformed),
        (&ssh, BadSigningKey::Unsupported),
        (P384, BadSigningKey::Unsupported),
        (X25519, BadSigningKey::Unsupported),
        (RSA1024, BadSigningKey::Strength),
    ] {
        assert_eq!(refused(text), problem, "{text}");
    }
}

#[test]
fn no_key_is_ever_shown() {
    let key = SigningKey::from_pem(SEC1.as_bytes()).unwrap();
    let shown = format!("{key:?}");
    assert_eq!(
        shown,
        "SigningKey(5u99fOreLvLuCHsRE3OK_DPcZ22sexwB88jBjz3UXQw)"
    );
    let published = key.public_jwk().to_string();
    assert!(!published.contains("\"d\""));
}

#[test]
fn issues_no_token_that_would_be_too_long() {
    let key = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    let claims = OwnClaims {
        scopes: Scopes::new([&*"s".repeat(LONGEST)]),
        ..claims()
    };
    assert_eq!(key.sign(&claims).err(), Some(SigningFault::TooLong));
}

#[test]
fn no_bytes_panic() {
    use proptest::prelude::*;
    let text = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..200),
        "(-----(BEGIN|END) (EC |RSA |)PRIVATE KEY-----\n|[A-Za-z0-9+/=:]{0,40}\n){0,8}"
            .prop_map(String::into_bytes),
    ];
    proptest!(|(text in text)| {
        let _ = SigningKey::from_pem(&text);
        let _ = SigningKey::from_pkcs8(&text);
    });
}
