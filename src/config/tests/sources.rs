//! What a configuration points to: secrets, the key directory, and the watch over both.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

use super::{DIGEST, Home, loaded, pepper, problems, with};
use crate::config::{Loaded, Overrides, fixed_changes, load};
use crate::rules::time::Timestamp;

#[test]
fn no_problem_shows_a_secret() {
    let secret = "correct-horse-battery-staple";
    let lines = format!(
        "[api_keys]\npepper = \"{secret}\"\nheaders = [\"{secret} x\"]\n\
         [[api_keys.static]]\nname = \"a\"\nsha256 = \"{secret}\"\nkey = \"{secret}\"\n\
         [[api_keys.static]]\nname = \"b\"\nsha256 = [\"{secret}\"]\nexpires_at = \"{secret}\"\n\
         [log]\nlevel = \"{secret}\"\n[limits]\nhead_timeout = \"{secret}\"\n"
    );
    let found = problems(&with(&lines));
    assert_eq!(found.lines().count(), 8, "{found}");
    assert!(!found.contains("horse"), "{found}");

    let home = Home::new();
    let loaded = home.load_with(&with(""), &pepper(secret)).unwrap();
    assert!(!format!("{:?}", loaded.config).contains("horse"));
    let flag = Overrides::default().set("api_keys.pepper", secret);
    let found = home.load_with(&with(""), &flag).unwrap_err();
    assert!(
        found.starts_with("--set: api_keys.pepper_file: a secret does not belong"),
        "{found}"
    );
    assert!(!found.contains("horse"), "{found}");
}

#[test]
fn the_pepper_comes_from_the_environment_before_its_file() {
    let home = Home::new();
    let file = home.write("pepper", "from the file, long enough\r\n");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let text = with(&format!("[api_keys]\npepper_file = \"{}\"", file.display()));
    let bytes = |loaded: &Loaded| loaded.config.authn.pepper.as_ref().unwrap().0.to_vec();

    let loaded = home.load(&text).unwrap();
    assert_eq!(bytes(&loaded), b"from the file, long enough");
    assert_eq!(loaded.warnings, []);
    let over = home
        .load_with(&text, &pepper("from the environment"))
        .unwrap();
    assert_eq!(bytes(&over), b"from the environment");

    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let warning = &home.load(&text).unwrap().warnings[0];
    assert!(
        warning.message.contains("can be read by every user"),
        "{warning}"
    );
    fs::write(&file, "short\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let warning = &home.load(&text).unwrap().warnings[0];
    assert!(
        warning.message.contains("shorter than 16 bytes"),
        "{warning}"
    );
    fs::write(&file, "\n").unwrap();
    let found = home.load(&text).unwrap_err();
    assert!(
        found.contains("api_keys.pepper_file: the secret is empty"),
        "{found}"
    );
}

#[test]
fn the_key_directory_holds_one_key_a_file() {
    let home = Home::new();
    let other = DIGEST.replace('2', "3");
    home.write("keys/..data/hidden", "not = \"read\"");
    home.write("keys/.ci.toml.swp", "not TOML");
    home.write(
        "keys/ci.toml",
        &format!(
            "name = \"ci\"\nowner = \"platform\"\nsha256 = \"{DIGEST}\"\nscopes = [\"a\"]\n\
         rate_limit = \"5/s\"\nexpires_at = 2027-01-01T00:00:00Z\n"
        ),
    );
    let text = with(&format!(
        "[api_keys]\ndirectory = \"{}\"",
        home.path("keys").display()
    ));
    let statics = home.load(&text).unwrap().config.authn.statics;
    assert_eq!(statics.len(), 1);
    let key = &statics[0];
    assert_eq!((&*key.name, key.owner.as_deref()), ("ci", Some("platform")));
    assert_eq!(key.sha256.0[..2], [0x2c, 0x26]);
    assert!(key.scopes.contains("a"));
    assert_eq!(key.rate_limit.map(|rate| rate.burst), Some(5));
    assert_eq!(key.expires_at, Some(Timestamp::from_seconds(1_798_761_600)));

    home.write(
        "keys/dup.toml",
        &format!("name = \"ci\"\nsha256 = \"{other}\"\n"),
    );
    home.write(
        "keys/same.toml",
        &format!("name = \"same\"\nsha256 = \"{DIGEST}\"\n"),
    );
    home.write(
        "keys/typo.toml",
        "nam = \"x\"\nsha256 = 5\nexpires_at = 2027-01-01\n",
    );
    home.write("keys/zz.toml", "name = \"\n");
    let found = home.load(&text).unwrap_err();
    let expected = [
        "keys/dup.toml:1: name: another key is called \"ci\" too; give",
        "keys/same.toml:2: sha256: the key called \"ci\" has the same digest; a key",
        "keys/typo.toml:1: nam: unknown key \"nam\"; did you mean \"name\"?",
        "keys/typo.toml:2: sha256: expected a string, found a whole number; write",
        "keys/typo.toml:3: expires_at: \"2027-01-01\" is not a time with its offset (RFC 3339); write",
        "keys/zz.toml:1: not TOML: ",
    ];
    let found: Vec<&str> = found.lines().collect();
    assert_eq!(found.len(), expected.len(), "{found:#?}");
    for (found, expected) in found.iter().zip(expected) {
        assert!(found.starts_with(expected), "{found}\n{expected}");
    }
}

/// Lays out `directory` as Kubernetes mounts a Secret: links through `..data`, which is swapped.
fn mount(directory: &Path, generation: &str, key: &str) {
    let real = directory.join(generation);
    fs::create_dir_all(&real).unwrap();
    fs::write(real.join("key.toml"), key).unwrap();
    symlink(generation, directory.join("..data_tmp")).unwrap();
    fs::rename(directory.join("..data_tmp"), directory.join("..data")).unwrap();
}

#[test]
fn a_swapped_link_is_a_change() {
    let home = Home::new();
    let keys = home.path("keys");
    let key = |name: &str| format!("name = \"{name}\"\nsha256 = \"{DIGEST}\"\n");
    mount(&keys, "..2026_1", &key("one"));
    symlink("..data/key.toml", keys.join("key.toml")).unwrap();
    let text = with(&format!("[api_keys]\ndirectory = \"{}\"", keys.display()));
    let loaded = home.load(&text).unwrap();
    assert_eq!(&*loaded.config.authn.statics[0].name, "one");

    let mut watch = loaded.watch;
    assert!(!watch.changed());
    // The same content in another generation is no change.
    mount(&keys, "..2026_2", &key("one"));
    assert!(!watch.changed());
    mount(&keys, "..2026_3", &key("two"));
    assert!(watch.changed());
    assert!(!watch.changed(), "a change is told once");
    assert_eq!(
        &*home.load(&text).unwrap().config.authn.statics[0].name,
        "two"
    );
}

#[test]
fn the_watch_sees_the_file_the_pepper_and_the_directory() {
    let home = Home::new();
    let pepper = home.write("pepper", "sixteen bytes, or more");
    let keys = home.path("keys");
    fs::create_dir(&keys).unwrap();
    let text = with(&format!(
        "[api_keys]\npepper_file = \"{}\"\ndirectory = \"{}\"",
        pepper.display(),
        keys.display()
    ));
    let mut watch = home.load(&text).unwrap().watch;
    assert!(!watch.changed());
    home.write("pepper", "sixteen other bytes, or more");
    assert!(watch.changed());
    home.write("keys/new.toml", "");
    assert!(watch.changed());
    home.write("keys/.hidden", "");
    assert!(!watch.changed());
    fs::remove_file(home.path("config.toml")).unwrap();
    assert!(watch.changed());
    assert!(!watch.changed());
}

#[test]
fn what_an_invalid_file_points_to_is_watched_too() {
    let home = Home::new();
    let missing = home.path("pepper");
    let text = with(&format!(
        "[api_keys]\npepper_file = \"{}\"",
        missing.display()
    ));
    let path = home.write("config.toml", &text);
    let mut watch = load(&path, &Overrides::default()).unwrap_err().watch;
    assert!(!watch.changed());
    home.write("pepper", "sixteen bytes, or more");
    assert!(watch.changed());
}

#[test]
fn what_a_reload_cannot_change_is_named() {
    let old = loaded(&with("")).config;
    let mut new = old.clone();
    assert_eq!(fixed_changes(&old, &new), [""; 0]);
    new.listen.head_timeout = Duration::from_secs(1);
    assert_eq!(fixed_changes(&old, &new), [""; 0]);
    new.listen.proxy = SocketAddr::from(([127, 0, 0, 1], 1));
    new.listen.telemetry = SocketAddr::from(([127, 0, 0, 1], 2));
    new.workers += 1;
    new.store = None;
    let expected = [
        "listen.proxy",
        "listen.telemetry",
        "runtime.workers",
        "store",
    ];
    assert_eq!(fixed_changes(&old, &new), expected);
}
