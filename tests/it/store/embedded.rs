//! What only the embedded store promises: its file, its permissions, its threads.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex};

use gatelet::platform::Platform;
use gatelet::store::{Config, OpenError, Operation, Place, Store};
use tempfile::TempDir;

use super::{Folder, Home, PATIENCE, commit, create, end, open, value};

fn try_open(path: &Path) -> Result<Store, OpenError> {
    let config = Config::Embedded { path: path.into() };
    Store::open(&config, &Platform::system(), Arc::new(|_, _, _| {}))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[tokio::test]
async fn is_its_owners_alone() {
    let scratch = TempDir::new().unwrap();
    let folder = scratch.path().join("deep/er/data");
    let store = try_open(&folder).unwrap();
    commit(&store, vec![create("a", b"one")]).await;
    assert_eq!(mode(&folder), 0o700);
    let files: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    // The database, its log and its shared memory.
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn what_stands_too_open_is_tightened() {
    let place = Folder::fresh();
    let path = place.0.path().join("data");
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o777)).unwrap();
    drop(place.open());
    assert_eq!(mode(&path), 0o700);

    let file = path.join("gatelet.db");
    fs::set_permissions(&file, Permissions::from_mode(0o664)).unwrap();
    let store = place.open();
    commit(&store, vec![create("a", b"one")]).await;
    for name in ["gatelet.db", "gatelet.db-wal", "gatelet.db-shm"] {
        assert_eq!(mode(&path.join(name)), 0o600, "{name}");
    }
}

#[test]
fn a_folder_that_others_use_is_left_alone() {
    let scratch = TempDir::new().unwrap();
    fs::write(scratch.path().join("else"), "").unwrap();
    fs::set_permissions(scratch.path(), Permissions::from_mode(0o1777)).unwrap();
    let _store = try_open(scratch.path()).unwrap();
    assert_eq!(mode(scratch.path()), 0o777);
    assert_eq!(mode(&scratch.path().join("gatelet.db")), 0o600);
}

#[test]
fn a_folder_that_cannot_be_made_is_said() {
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file.clone(), file.join("data")] {
        let error = try_open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Folder { .. }), "{error:?}");
        let text = chain(&error);
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(text.contains("store.path"), "{text}");
    }
}

#[test]
fn a_file_that_is_no_database_is_left_alone() {
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("gatelet.db");
    let diary = "dear diary, ".repeat(100);
    fs::write(&file, &diary).unwrap();
    let error = try_open(scratch.path()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
    assert!(error.to_string().contains("move it away"), "{error}");
    assert_eq!(fs::read_to_string(&file).unwrap(), diary);
}

#[test]
fn another_programs_database_is_left_alone() {
    let scratch = TempDir::new().unwrap();
    let file = scratch.path().join("gatelet.db");
    let foreign = rusqlite::Connection::open(&file).unwrap();
    foreign
        .execute_batch("CREATE TABLE bookmarks (url TEXT)")
        .unwrap();
    drop(foreign);
    let error = try_open(scratch.path()).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
}

#[test]
fn a_newer_layout_is_left_alone() {
    let place = Folder::fresh();
    drop(place.open());
    let file = place.0.path().join("data/gatelet.db");
    let newer = rusqlite::Connection::open(&file).unwrap();
    newer.pragma_update(None, "user_version", 99).unwrap();
    drop(newer);
    let error = try_open(&place.0.path().join("data")).unwrap_err();
    let OpenError::Newer { found: 99, .. } = error else {
        panic!("{error:?}");
    };
    assert!(error.to_string().contains("newer gatelet"), "{error}");
}

#[test]
fn a_damaged_file_is_said() {
    let place = Folder::fresh();
    drop(place.open());
    let file = place.0.path().join("data/gatelet.db");
    let mut damaged = fs::OpenOptions::new().write(true).open(&file).unwrap();
    damaged.write_all(b"not SQLite format 3\0").unwrap();
    let error = try_open(&place.0.path().join("data")).unwrap_err();
    assert!(matches!(error, OpenError::Foreign { .. }), "{error:?}");
}

#[test]
fn a_path_is_never_read_as_a_uri() {
    let scratch = TempDir::new().unwrap();
    let folder = scratch.path().join("file:data?mode=memory");
    drop(try_open(&folder).unwrap());
    assert!(folder.join("gatelet.db").exists());
}

#[test]
fn many_may_open_a_new_store_at_once() {
    for _ in 0..10 {
        let place = Folder::fresh();
        let config = place.config();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| drop(open(&config)));
            }
        });
    }
}

#[tokio::test]
async fn a_load_does_not_wait_for_another_process_that_writes() {
    let place = Folder::fresh();
    let store = place.open();
    commit(&store, vec![create("a", b"one")]).await;
    let other = rusqlite::Connection::open(place.0.path().join("data/gatelet.db")).unwrap();
    other
        .execute_batch("BEGIN IMMEDIATE; UPDATE records SET value = x'00'")
        .unwrap();
    let loaded = tokio::time::timeout(PATIENCE, value(&store, "a")).await;
    assert_eq!(loaded.unwrap().as_deref(), Some("one"));

    // A swap waits its turn.
    let store = Arc::new(store);
    let swap = tokio::spawn({
        let store = Arc::clone(&store);
        async move { commit(&store, vec![create("b", b"two")]).await }
    });
    tokio::task::yield_now().await;
    other.execute_batch("ROLLBACK").unwrap();
    swap.await.unwrap();
    assert_eq!(value(&store, "b").await.as_deref(), Some("two"));
}

#[tokio::test]
async fn the_last_to_close_leaves_one_tidy_file() {
    let place = Folder::fresh();
    let (one, two) = (place.open(), place.open());
    commit(&one, vec![create("a", b"one")]).await;
    commit(&two, vec![create("b", b"two")]).await;
    drop(one);
    assert_eq!(value(&two, "a").await.as_deref(), Some("one"));
    drop(two);
    let files = fs::read_dir(place.0.path().join("data")).unwrap().count();
    assert_eq!(files, 1);
}

#[tokio::test]
async fn swaps_that_arrive_together_share_their_commits() {
    let place = Folder::fresh();
    let store = Arc::new(place.open());
    let log = place.0.path().join("data/gatelet.db-wal");
    let other = rusqlite::Connection::open(place.0.path().join("data/gatelet.db")).unwrap();
    // While another process writes, swaps queue up behind the one that waits for it.
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let swaps: Vec<_> = (0..200)
        .map(|number| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                commit(&store, vec![create(&format!("k/{number}"), b"")]).await;
            })
        })
        .collect();
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    let before = fs::metadata(&log).unwrap().len();
    other.execute_batch("ROLLBACK").unwrap();
    for swap in swaps {
        swap.await.unwrap();
    }
    let written = fs::metadata(&log).unwrap().len() - before;
    // Each commit writes two pages of 4 KiB at least; alone, these would be 1.6 MB.
    assert!(written < 200_000, "{written} bytes were written");
    assert_eq!(store.list("k/", None, 1000).await.unwrap().len(), 200);
}

#[tokio::test]
async fn every_operation_is_observed() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let place = Folder::fresh();
    let observer = {
        let seen = Arc::clone(&seen);
        Arc::new(move |operation, _, done| seen.lock().unwrap().push((operation, done)))
    };
    let store = Store::open(&place.config(), &Platform::system(), observer).unwrap();
    store.load("a").await.unwrap();
    // A conflict is an answer like any other.
    for _ in 0..2 {
        store.swap(vec![create("a", b"")], vec![]).await.unwrap();
    }
    store.events_since(Place::BEGINNING, 1).await.unwrap();
    store.list("a", None, 1).await.unwrap();
    // A version that the file cannot hold is a fault.
    let impossible = super::replace("a", u64::MAX, b"");
    store.swap(vec![impossible], vec![]).await.unwrap_err();
    store.load("a").await.unwrap();

    assert_eq!(
        *seen.lock().unwrap(),
        [
            (Operation::Load, true),
            (Operation::Swap, true),
            (Operation::Swap, true),
            (Operation::Events, true),
            (Operation::List, true),
            (Operation::Swap, false),
            (Operation::Load, true),
        ]
    );
}

#[tokio::test]
async fn a_broken_database_is_a_fault_and_not_a_missing_record() {
    let place = Folder::fresh();
    let store = place.open();
    commit(&store, vec![create("a", b"one")]).await;
    let other = rusqlite::Connection::open(place.0.path().join("data/gatelet.db")).unwrap();
    other.execute_batch("DROP TABLE records").unwrap();
    let fault = store.load("a").await.unwrap_err();
    assert!(chain(&fault).contains("records"), "{}", chain(&fault));
    store
        .swap(vec![create("b", b"")], vec![])
        .await
        .unwrap_err();
    // The rest goes on.
    end(&store).await;
}

#[tokio::test]
async fn a_file_that_lost_its_name_is_neither_read_nor_written() {
    let place = Folder::fresh();
    let store = place.open();
    commit(&store, vec![create("a", b"one")]).await;
    assert!(store.events_since(Place::BEGINNING, 10).await.is_ok());
    let (folder, elsewhere) = (
        place.0.path().join("data"),
        place.0.path().join("elsewhere"),
    );
    fs::rename(&folder, &elsewhere).unwrap();
    assert_all_refused(&store).await;
    let other = try_open(&folder).unwrap();
    commit(&other, vec![create("b", b"two")]).await;
    // Another store lies there.
    assert_all_refused(&store).await;
    drop(other);
    let moved = try_open(&elsewhere).unwrap();
    assert_eq!(value(&moved, "lost").await, None);
    drop(moved);
    // It comes back: the same file under the same name.
    fs::rename(&folder, place.0.path().join("other")).unwrap();
    fs::rename(&elsewhere, &folder).unwrap();
    assert_eq!(value(&store, "a").await.as_deref(), Some("one"));
}

/// A record that is missing here may be there: each operation is a fault, and none an answer.
async fn assert_all_refused(store: &Store) {
    let swapped = store.swap(vec![create("lost", b"")], vec![]).await;
    for fault in [
        store.load("a").await.unwrap_err(),
        store.load("missing").await.unwrap_err(),
        store.list("", None, 10).await.unwrap_err(),
        store.events_since(Place::BEGINNING, 10).await.unwrap_err(),
        swapped.unwrap_err(),
    ] {
        assert!(fault.to_string().contains("removed or replaced"), "{fault}");
    }
}
