//! Signing keys from files, which come and go with reloads.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use gatelet::authn::jwt::signing::SigningKey;
use gatelet::rules::jwt::SigningAlgorithm;
use tempfile::TempDir;

use super::site::{REST, ROUTES, Site, text};
use crate::harness::{Wallet, eventually};

fn write_key(path: &Path, algorithm: SigningAlgorithm) {
    let key = SigningKey::generate(algorithm).unwrap();
    let der = STANDARD.encode(key.as_pkcs8());
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{der}\n-----END PRIVATE KEY-----\n");
    std::fs::write(path, pem).unwrap();
}

fn kids(site: &Site) -> Vec<String> {
    let set = site.world.get("/.well-known/jwks.json", &[]).json();
    let keys = set["keys"].as_array().unwrap();
    keys.iter()
        .map(|key| key["kid"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_key_file_that_goes_takes_its_tokens_along() {
    let folder = TempDir::new().unwrap();
    let (old, new) = (folder.path().join("old.pem"), folder.path().join("new.pem"));
    write_key(&old, SigningAlgorithm::Es256);
    write_key(&new, SigningAlgorithm::EdDsa);
    let files = |paths: &[&Path]| format!("signing_key_files = {paths:?}\n");
    let site = Site::with(&files(&[&old]));
    let before = site.sign_in(&Wallet::numbered(60), "body");
    let (shown, unseen) = (
        text(&before, "accessToken"),
        text(&site.sign_in(&Wallet::numbered(61), "body"), "accessToken"),
    );
    assert_eq!(site.portfolio(&shown).status, 200);
    let reload = |paths: &[&Path], published: usize| {
        let toml = format!("{ROUTES}{}{REST}", files(paths));
        site.world.write_config(&site.upstream, &toml);
        site.world.signal("HUP");
        eventually("the new keys are published", || {
            kids(&site).len() == published
        });
    };

    // A second key is put before the first, which goes on verifying.
    reload(&[&new, &old], 2);
    assert_eq!(site.portfolio(&shown).status, 200);
    let renewed = site.refresh(&text(&before, "refreshToken"));
    let by_new = text(&renewed, "accessToken");
    assert_eq!(site.portfolio(&by_new).status, 200);

    reload(&[&new], 1);
    site.upstream.take();
    for token in [&shown, &unseen] {
        for _ in 0..4 {
            let refused = site.portfolio(token);
            assert_eq!((refused.status, &*refused.code()), (401, "token_invalid"));
        }
    }
    site.upstream
        .assert_untouched("tokens of a key that is gone");
    assert_eq!(site.portfolio(&by_new).status, 200);
    let renewed = site.refresh(&text(&renewed, "refreshToken"));
    assert_eq!(renewed.status, 200, "the family outlives the key");
    assert_eq!(site.portfolio(&text(&renewed, "accessToken")).status, 200);
}
