//! Certificates and private keys that the configuration names: out of date, in the wrong form, or
//! written where their path belongs.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};

use super::{Home, ROUTE, UPSTREAM};
use crate::rules::time::Timestamp;

/// A certificate that was good in 2025 alone, and its key, in `tls.crt` and `tls.key`.
fn with_certificate(home: &Home) -> String {
    let mut params = CertificateParams::new(vec!["api.test".to_owned()]).unwrap();
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2025, 12, 31);
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    let path = |name: &str, text: &str| home.write(name, text).display().to_string();
    format!(
        "certificate = {:?}\nprivate_key = {:?}\n",
        path("tls.crt", &in_pem("CERTIFICATE", certificate.der())),
        path("tls.key", &in_pem("PRIVATE KEY", &key.serialize_der())),
    )
}

fn in_pem(kind: &str, der: &[u8]) -> String {
    use base64::Engine;
    let body = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {kind}-----\n{body}\n-----END {kind}-----\n")
}

#[test]
fn a_certificate_that_is_not_good_now_is_warned_of() {
    let home = Home::new();
    let section = with_certificate(&home);
    let loaded = home
        .load(&format!("{UPSTREAM}{ROUTE}[listen.tls]\n{section}"))
        .unwrap();
    let said = |now: u64| {
        let warnings = loaded.warnings(Timestamp::from_seconds(now));
        let dated = warnings
            .into_iter()
            .filter(|one| one.key == "listen.tls.certificate");
        dated.map(|one| one.message).collect::<Vec<_>>()
    };
    assert_eq!(said(1_748_736_000), [""; 0]);
    let [early] = said(1_735_689_599).try_into().unwrap();
    assert!(
        early.contains("tls.crt is not good before 2025-01-01T00:00:00Z"),
        "{early}"
    );
    let [late] = said(1_767_225_600).try_into().unwrap();
    assert!(
        late.contains("tls.crt was good until 2025-12-31T00:00:00Z"),
        "{late}"
    );
}

#[test]
fn a_private_key_in_place_of_its_path_is_not_repeated() {
    let pem = in_pem("PRIVATE KEY", b"a-secret-of-somebody").replace('\n', "\\n");
    let https = UPSTREAM.replace("http:", "https:");
    for text in [
        format!(
            "{UPSTREAM}{ROUTE}[listen.tls]\ncertificate = \"tls.crt\"\nprivate_key = \"{pem}\"\n"
        ),
        format!(
            "{https}client_certificate = \"{pem}\"\nclient_key = \"{pem}\"\nca_file = \"{pem}\"\n{ROUTE}"
        ),
        format!("{UPSTREAM}{ROUTE}[store]\n[access_token]\nsigning_key_files = [\"{pem}\"]\n"),
    ] {
        let problems = Home::new().load(&text).unwrap_err();
        assert!(problems.contains("this is no path of a file"), "{problems}");
        assert!(
            problems.contains("write that to a file, and its path here"),
            "{problems}"
        );
        assert!(!problems.contains("YS1zZWNyZXQ"), "{problems}");
    }
}

#[test]
fn what_is_wrong_with_tls_is_said_beside_what_is_wrong_with_the_url() {
    let upstream = UPSTREAM.replace("http://127.0.0.1:3000", "https://127.0.0.1:3000/base");
    let more =
        "server_name = \"x y\"\nclient_certificate = \"tls.crt\"\nca_file = \"missing.pem\"\n";
    let problems = Home::new()
        .load(&format!("{upstream}{more}{ROUTE}"))
        .unwrap_err();
    for said in [
        "url: ",
        "server_name: ",
        "client_key is missing",
        "missing.pem cannot be read",
    ] {
        assert!(problems.contains(said), "{said}: {problems}");
    }
}
