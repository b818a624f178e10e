//! The import table of `ARCHITECTURE.md`, held against the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms that every other room may use.
const LEAVES: &[&str] = &["rules", "platform", "telemetry", "answer", "wire"];

/// What each room may import besides itself.
fn allowed(room: &str) -> BTreeSet<&'static str> {
    let with_leaves = |rooms: &[&'static str]| rooms.iter().chain(LEAVES).copied().collect();
    match room {
        "rules" | "lib" => BTreeSet::new(),
        "platform" => BTreeSet::from(["rules"]),
        "telemetry" | "answer" | "wire" => BTreeSet::from(["rules", "platform"]),
        "store" | "limits" | "upstream" | "listener" | "fetch" => with_leaves(&[]),
        "cache" => with_leaves(&["store"]),
        "authn" => with_leaves(&["cache", "fetch", "limits", "store"]),
        "tokens" => with_leaves(&["authn"]),
        "gateway" => with_leaves(&["authn", "tokens", "upstream", "limits", "cache"]),
        "config" => with_leaves(&[
            "authn", "cache", "fetch", "gateway", "limits", "listener", "store", "tokens",
            "upstream",
        ]),
        "app" => with_leaves(&[
            "authn", "cache", "config", "fetch", "gateway", "limits", "listener", "store",
            "upstream",
        ]),
        "cli" => with_leaves(&[
            "app", "authn", "cache", "config", "gateway", "limits", "listener", "store", "upstream",
        ]),
        "main" => BTreeSet::from(["cli", "app"]),
        other => panic!("src/{other} has no place in the import table"),
    }
}

struct Source {
    path: PathBuf,
    room: String,
    /// How many modules lie between the crate's root and this file's items.
    depth: usize,
    /// The program's text: neither comments nor strings nor tests.
    code: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut pending = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let within = path.strip_prefix(&root).unwrap().with_extension("");
                let parts: Vec<String> = within
                    .iter()
                    .map(|part| part.to_string_lossy().into_owned())
                    .collect();
                if parts.iter().any(|part| part == "tests") {
                    continue;
                }
                let depth =
                    parts.len() - usize::from(parts.last().is_some_and(|last| last == "mod"));
                let text = fs::read_to_string(&path).unwrap();
                let owner = parts[0].clone();
                found.push(Source {
                    depth: if owner == "lib" || owner == "main" {
                        0
                    } else {
                        depth
                    },
                    path: within,
                    room: owner,
                    code: code(&text),
                });
            }
        }
    }
    assert!(found.len() > 20, "these are not the sources");
    found
}

/// The text without comments, literals and items that only tests are built with.
fn code(text: &str) -> String {
    let mut code = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "#[cfg(test)]" {
            skip_item(&mut lines);
            continue;
        }
        if line.trim_start().starts_with("//") {
            continue;
        }
        let mut quoted = false;
        let mut previous = ' ';
        for character in line.chars() {
            match character {
                '"' if previous != '\\' && previous != '\'' => quoted = !quoted,
                '/' if !quoted && previous == '/' => {
                    code.pop();
                    break;
                }
                _ if quoted => {}
                other => code.push(other),
            }
            previous = character;
        }
        code.push('\n');
    }
    code
}

/// Passes over an item: to the end of its one line, or to the brace that closes it, as rustfmt sets it.
fn skip_item<'a>(lines: &mut impl Iterator<Item = &'a str>) {
    let Some(first) = lines
        .by_ref()
        .find(|line| !line.trim_start().starts_with("#["))
    else {
        return;
    };
    if first.ends_with(';') || first.ends_with('}') {
        return;
    }
    let indent = first.len() - first.trim_start().len();
    let closing = format!("{}}}", " ".repeat(indent));
    lines.by_ref().find(|line| *line == closing);
}

/// The names that follow `prefix` at the top of a path or of a group.
fn named_after(code: &str, prefix: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in code.match_indices(prefix) {
        let before = code[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || before == '_' || before == ':' {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            names.extend(group_items(group));
        } else {
            names.insert(identifier(rest));
        }
    }
    names.remove("");
    names
}

/// The first name of each item of a group, up to its closing brace.
fn group_items(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut items = vec![String::new()];
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            other if depth == 0 => items.last_mut().unwrap().push(other),
            _ => {}
        }
    }
    items
        .iter()
        .map(|item| identifier(item.trim_start()))
        .collect()
}

fn identifier(text: &str) -> String {
    text.chars()
        .take_while(|c| c.is_alphanumeric() || *c == '_')
        .collect()
}

#[test]
fn no_room_imports_what_it_must_not_know() {
    let sources = sources();
    let rooms: BTreeSet<&str> = sources.iter().map(|source| source.room.as_str()).collect();
    let mut broken = BTreeMap::new();
    for source in &sources {
        let mut imported = named_after(&source.code, "crate::");
        imported.extend(named_after(&source.code, "gatelet::"));
        imported.extend(named_after(
            &source.code,
            &"super::".repeat(source.depth.max(1)),
        ));
        let allowed = allowed(&source.room);
        let forbidden: Vec<String> = imported
            .into_iter()
            .filter(|name| rooms.contains(name.as_str()))
            .filter(|name| *name != source.room && !allowed.contains(name.as_str()))
            .collect();
        if !forbidden.is_empty() {
            broken.insert(source.path.clone(), forbidden);
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn only_the_platform_reads_clocks_and_randomness_and_only_config_the_environment() {
    let mut broken = Vec::new();
    for source in sources() {
        for (needle, home) in [
            ("SystemTime::now", "platform"),
            ("Instant::now", "platform"),
            ("getrandom::", "platform"),
            ("rand::", "platform"),
            ("env::var", "config"),
            ("env::vars", "config"),
        ] {
            let named = source.code.match_indices(needle).any(|(at, _)| {
                let before = source.code[..at].chars().next_back().unwrap_or(' ');
                !before.is_alphanumeric()
            });
            if named && source.room != home {
                broken.push(format!("{}: {needle}", source.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_rules_are_pure() {
    let mut broken = Vec::new();
    for source in sources().iter().filter(|source| source.room == "rules") {
        for impure in [
            "async ",
            ".await",
            "tokio",
            "hyper",
            "tracing",
            "std::fs",
            "std::env",
            "std::net::Tcp",
            "std::thread",
            "SystemTime",
            "Instant",
            "Mutex",
            "static ",
            "println!",
            "arc_swap",
            "moka",
            "rusqlite",
        ] {
            // `'static` is a lifetime; `static` alone would be memory between calls.
            let found = source.code.replace("'static ", "").contains(impure);
            if found {
                broken.push(format!("{}: {impure}", source.path.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn the_reader_of_imports_reads_every_form() {
    let text = r#"
//! See [`crate::documented`].
use crate::{first, second::{inner, third}, fourth as other};
use crate::fifth::Thing; // and crate::commented
fn f() -> crate::sixth::Type { "crate::quoted"; mycrate::no(); todo(crate::seventh()) }
#[cfg(test)]
mod tests;
#[cfg(test)]
mod more {
    use crate::tested;
}
use crate::eighth;
"#;
    let expected = [
        "eighth", "fifth", "first", "fourth", "second", "seventh", "sixth",
    ];
    let names = named_after(&code(text), "crate::");
    assert_eq!(
        names.iter().map(String::as_str).collect::<Vec<_>>(),
        expected
    );
}
