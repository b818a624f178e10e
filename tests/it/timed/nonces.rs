//! Nonces are good for 5 minutes; a message may be dated as much ahead.

use serde_json::{Value, json};

use super::{INSTANT, MINUTE, almost, assert_refused, members};
use crate::harness::{BEGAN, Response, Timed, Wallet};
use crate::sign_in::site::Site;

/// A message that a page wrote by itself, with lines after its nonce.
fn written(wallet: &Wallet, nonce: &Value, more: &str) -> String {
    let address = checksummed(wallet);
    let nonce = nonce.as_str().unwrap();
    format!(
        "app.example.com wants you to sign in with your Ethereum account:\n{address}\n\n\
         Anything at all.\n\nURI: https://app.example.com/login?a#b\nVersion: 1\nChain ID: 1\n\
         Nonce: {nonce}\n{more}"
    )
}

fn checksummed(wallet: &Wallet) -> String {
    let address: [u8; 20] = std::array::from_fn(|place| {
        u8::from_str_radix(&wallet.address()[2 + 2 * place..4 + 2 * place], 16).unwrap()
    });
    gatelet::rules::wallet::Address(address).to_string()
}

fn verify(site: &Site<Timed>, wallet: &Wallet, message: &str) -> Response {
    let signature = wallet.sign(message);
    site.with_key(
        "/verify",
        &json!({"message": message, "signature": signature}),
    )
}

fn asked(site: &Site<Timed>) -> Value {
    let answer = site.with_key("/nonce", &json!({}));
    assert_eq!(answer.status, 201);
    assert_eq!(answer.headers.one("cache-control"), Some("no-store"));
    assert_eq!(answer.headers.one("content-type"), Some("application/json"));
    let offered = [
        "chains",
        "domain",
        "expiresAt",
        "nonce",
        "statement",
        "uri",
        "version",
    ];
    assert_eq!(members(&answer), offered, "no address, no message");
    answer.json()
}

#[test]
fn a_nonce_is_good_for_5_minutes_and_not_an_instant_longer() {
    let site = Site::timed("");
    let wallet = Wallet::numbered(7);
    let issued = "Issued At: 2027-01-15T08:00:00Z";
    let offered = [asked(&site), asked(&site)];
    assert_eq!(offered[0]["expiresAt"], BEGAN + 300);
    let with_address = site.nonce(&wallet);
    let [in_time, late] = offered.map(|offered| written(&wallet, &offered["nonce"], issued));
    site.world.pass(almost(5 * MINUTE));
    assert_eq!(verify(&site, &wallet, &in_time).status, 201);
    site.world.pass(INSTANT);
    assert_refused(&verify(&site, &wallet, &late), 401, "nonce_invalid");
    // The message that was offered ends in the same moment, by its own word.
    let message = with_address["message"].as_str().unwrap();
    assert!(message.contains("\nIssued At: 2027-01-15T08:00:00Z\n"));
    assert!(message.contains("\nExpiration Time: 2027-01-15T08:05:00Z"));
    let told = verify(&site, &wallet, message);
    assert_refused(&told, 400, "message_invalid");
    let body = json!({
        "wallet": wallet.address(), "nonce": with_address["nonce"],
        "signature": wallet.sign(message),
    });
    let told = site.with_key("/verify", &body);
    assert_refused(&told, 401, "nonce_invalid");
}

#[test]
fn a_message_is_dated_5_minutes_ahead_at_most() {
    let site = Site::timed("");
    let wallet = Wallet::numbered(8);
    for (issued, status) in [
        ("2027-01-15T08:05:00Z", 201),
        ("2027-01-15T09:05:00+01:00", 201),
        ("2027-01-15T08:05:00.000000001Z", 400),
        // How old it is does not matter: the nonce says that it is fresh.
        ("1999-01-15T08:00:00Z", 201),
    ] {
        let message = written(
            &wallet,
            &asked(&site)["nonce"],
            &format!("Issued At: {issued}"),
        );
        let answer = verify(&site, &wallet, &message);
        assert_eq!(answer.status, status, "{issued}: {}", answer.text());
    }
    for (line, code) in [
        ("Expiration Time: 2027-01-15T08:00:00Z", "message_invalid"),
        ("Expiration Time: 2027-01-15T08:00:00.000000001Z", ""),
        ("Not Before: 2027-01-15T08:00:00Z", ""),
        (
            "Not Before: 2027-01-15T08:00:00.000000001Z",
            "message_invalid",
        ),
    ] {
        let more = format!("Issued At: 2027-01-15T08:00:00Z\n{line}");
        let message = written(&wallet, &asked(&site)["nonce"], &more);
        assert_eq!(verify(&site, &wallet, &message).code(), code, "{line}");
    }
}

#[test]
fn a_message_is_4_kib_at_most() {
    let site = Site::timed("");
    let wallet = Wallet::numbered(9);
    for (length, status, code) in [(4096, 201, ""), (4097, 400, "message_invalid")] {
        let more = "Issued At: 2027-01-15T08:00:00Z\nResources:\n- https://app.example.com/";
        let mut message = written(&wallet, &asked(&site)["nonce"], more);
        message.push_str(&"x".repeat(length - message.len()));
        let answer = verify(&site, &wallet, &message);
        assert_eq!((answer.status, &*answer.code()), (status, code), "{length}");
    }
}
