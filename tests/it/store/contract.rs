//! The behaviour that callers rely on, whatever the store.

use std::sync::Arc;

use gatelet::platform::Platform;
use gatelet::store::{Place, Swapped};

use super::{
    Home, PATIENCE, Write, commit, commit_with, create, delete, end, payloads, replace, value,
    version,
};

pub(super) async fn a_missing_record_is_none(home: impl Home) {
    let store = home.open();
    assert_eq!(store.load("nothing").await.unwrap(), None);
}

pub(super) async fn a_record_is_created_once(home: impl Home) {
    let store = home.open();
    commit(&store, vec![create("a", b"one")]).await;
    let again = store.swap(vec![create("a", b"two")], vec![]).await;
    assert_eq!(again.unwrap(), Swapped::Conflict);
    assert_eq!(value(&store, "a").await.as_deref(), Some("one"));
}

pub(super) async fn a_swap_needs_the_version_it_saw(home: impl Home) {
    let store = home.open();
    commit(&store, vec![create("a", b"one")]).await;
    let first = version(&store, "a").await;
    commit(&store, vec![replace("a", first, b"two")]).await;
    let second = version(&store, "a").await;
    assert_ne!(first, second);

    for stale in [replace("a", first, b"three"), delete("a", first)] {
        let outcome = store.swap(vec![stale], vec![]).await.unwrap();
        assert_eq!(outcome, Swapped::Conflict);
    }
    let missing = store.swap(vec![replace("b", second, b"")], vec![]).await;
    assert_eq!(missing.unwrap(), Swapped::Conflict);
    assert_eq!(value(&store, "a").await.as_deref(), Some("two"));
}

pub(super) async fn a_deleted_record_is_gone_and_its_version_never_comes_back(home: impl Home) {
    let store = home.open();
    commit(&store, vec![create("a", b"one")]).await;
    let first = version(&store, "a").await;
    commit(&store, vec![delete("a", first)]).await;
    assert_eq!(store.load("a").await.unwrap(), None);

    commit(&store, vec![create("a", b"one")]).await;
    let stale = store.swap(vec![replace("a", first, b"two")], vec![]).await;
    assert_eq!(stale.unwrap(), Swapped::Conflict);
}

pub(super) async fn a_swap_is_all_or_nothing(home: impl Home) {
    let store = home.open();
    commit(&store, vec![create("a", b"one"), create("b", b"one")]).await;
    let a = version(&store, "a").await;
    let writes = vec![
        replace("a", a, b"two"),
        create("c", b"two"),
        create("b", b"two"),
    ];
    let outcome = store.swap(writes, vec![]).await.unwrap();
    assert_eq!(outcome, Swapped::Conflict);
    assert_eq!(value(&store, "a").await.as_deref(), Some("one"));
    assert_eq!(value(&store, "c").await, None);

    let b = version(&store, "b").await;
    let writes = vec![replace("a", a, b"two"), create("c", b"two"), delete("b", b)];
    commit(&store, writes).await;
    assert_eq!(value(&store, "a").await.as_deref(), Some("two"));
    assert_eq!(value(&store, "b").await, None);
    assert_eq!(value(&store, "c").await.as_deref(), Some("two"));
}

pub(super) async fn a_key_is_written_once_in_a_swap(home: impl Home) {
    let store = home.open();
    let twice = vec![create("a", b"one"), create("a", b"two")];
    let outcome = store.swap(twice, vec![]).await.unwrap();
    assert_eq!(outcome, Swapped::Conflict);
    assert_eq!(value(&store, "a").await, None);
}

pub(super) async fn absence_can_be_required(home: impl Home) {
    let store = home.open();
    let unless_a = || Write {
        key: "a".into(),
        expected: None,
        value: None,
    };
    commit(&store, vec![unless_a(), create("b", b"one")]).await;
    assert_eq!(value(&store, "a").await, None);

    commit(&store, vec![create("a", b"one")]).await;
    let outcome = store.swap(vec![create("c", b""), unless_a()], vec![]).await;
    assert_eq!(outcome.unwrap(), Swapped::Conflict);
    assert_eq!(value(&store, "c").await, None);
}

pub(super) async fn values_may_be_any_bytes(home: impl Home) {
    let store = home.open();
    let bytes: Vec<u8> = (0..=255).collect();
    commit(&store, vec![create("é/\u{1f511}", &bytes), create("", b"")]).await;
    let loaded = store.load("é/\u{1f511}").await.unwrap().unwrap();
    assert_eq!(loaded.value, bytes);
    let empty = store.load("").await.unwrap().unwrap();
    assert_eq!(empty.value, b"");
}

pub(super) async fn events_come_in_order_and_once(home: impl Home) {
    let store = home.open();
    let clock = Platform::system().clock;
    let before = clock.now();
    commit_with(&store, vec![create("a", b"")], &["one", "two"]).await;
    commit_with(&store, vec![create("b", b"")], &["three"]).await;

    let seen = store.events_since(Place::BEGINNING, 100).await.unwrap();
    assert!(!seen.gap);
    assert_eq!(payloads(&seen.events), ["one", "two", "three"]);
    assert!(seen.events.is_sorted_by(|one, two| one.place < two.place));
    assert_eq!(seen.last, seen.events[2].place);
    for event in &seen.events {
        assert!(before <= event.at && event.at <= clock.now());
    }

    let later = store.events_since(seen.last, 100).await.unwrap();
    assert_eq!(later.events, []);
    assert!(!later.gap);
    assert_eq!(later.last, seen.last);
    let from_the_first = store.events_since(seen.events[0].place, 100).await.unwrap();
    assert_eq!(payloads(&from_the_first.events), ["two", "three"]);
}

pub(super) async fn events_can_be_read_in_parts(home: impl Home) {
    let store = home.open();
    commit_with(&store, vec![create("a", b"")], &["1", "2", "3", "4", "5"]).await;
    let mut since = Place::BEGINNING;
    let mut read = Vec::new();
    for _ in 0..3 {
        let part = store.events_since(since, 2).await.unwrap();
        assert!(part.events.len() <= 2 && !part.gap);
        read.extend(
            payloads(&part.events)
                .join(",")
                .split(',')
                .map(str::to_owned),
        );
        since = part.last;
    }
    assert_eq!(read, ["1", "2", "3", "4", "5"]);
    assert_eq!(store.events_since(since, 2).await.unwrap().events, []);
}

pub(super) async fn a_conflict_leaves_no_event(home: impl Home) {
    let store = home.open();
    commit_with(&store, vec![create("a", b"")], &["made"]).await;
    let payload = b"made twice".to_vec();
    let outcome = store.swap(vec![create("a", b"")], vec![payload]).await;
    assert_eq!(outcome.unwrap(), Swapped::Conflict);
    commit_with(&store, vec![create("b", b"")], &["after"]).await;
    let seen = store.events_since(Place::BEGINNING, 100).await.unwrap();
    assert_eq!(payloads(&seen.events), ["made", "after"]);
}

pub(super) async fn following_begins_where_the_store_is(home: impl Home) {
    let store = home.open();
    commit_with(&store, vec![create("a", b"")], &["before"]).await;
    let start = end(&store).await;
    let seen = store.events_since(start, 100).await.unwrap();
    assert_eq!((seen.gap, seen.events.len()), (false, 0));

    commit_with(&store, vec![create("b", b"")], &["first"]).await;
    let seen = store.events_since(start, 100).await.unwrap();
    assert_eq!(payloads(&seen.events), ["first"]);
    assert!(!seen.gap);
}

/// Whoever waits for news has it when it comes, and is told now and then that there is none.
pub(super) async fn news_is_waited_for(home: impl Home) {
    let (reads, writes) = (Arc::new(home.open()), home.open());
    let start = end(&reads).await;
    let waits = tokio::spawn({
        let reads = Arc::clone(&reads);
        async move {
            let mut place = start;
            loop {
                let seen = reads.follow(Some(place), 100, PATIENCE).await.unwrap();
                assert!(!seen.gap);
                if !seen.events.is_empty() {
                    break payloads(&seen.events).join(",");
                }
                place = seen.last;
            }
        }
    });
    tokio::task::yield_now().await;
    commit_with(&writes, vec![create("a", b"")], &["news"]).await;
    let news = tokio::time::timeout(PATIENCE, waits).await;
    assert_eq!(news.unwrap().unwrap(), "news");
}

pub(super) async fn trimmed_events_are_a_gap(home: impl Home) {
    let store = home.open();
    commit_with(&store, vec![create("a", b"")], &["early"]).await;
    let early = end(&store).await;
    let many = |count| vec![b"x".to_vec(); count];
    store.swap(vec![], many(60_000)).await.unwrap();
    let near = end(&store).await;
    store.swap(vec![], many(50_000)).await.unwrap();
    commit_with(&store, vec![create("b", b"")], &["late"]).await;

    for behind in [Place::BEGINNING, early] {
        let seen = store.events_since(behind, 10).await.unwrap();
        assert!(seen.gap, "since {behind:?}");
        assert_eq!(seen.events, []);
        let next = store.events_since(seen.last, 10).await.unwrap();
        assert_eq!((next.gap, next.events.len()), (false, 0));
    }
    // Whoever is not too far behind hears of everything.
    let (mut place, mut heard, mut last) = (near, 0, Vec::new());
    loop {
        let seen = store.events_since(place, 1_000).await.unwrap();
        assert!(!seen.gap);
        let Some(event) = seen.events.last() else {
            break;
        };
        last.clone_from(&event.payload);
        heard += seen.events.len();
        place = seen.last;
    }
    assert_eq!((heard, &last[..]), (50_001, &b"late"[..]));
}

pub(super) async fn one_of_many_racing_swaps_wins(home: impl Home) {
    let stores = [Arc::new(home.open()), Arc::new(home.open())];
    commit(&stores[0], vec![create("a", b"start")]).await;
    let version = version(&stores[0], "a").await;
    let racers: Vec<_> = (0..40)
        .map(|number: usize| {
            let store = Arc::clone(&stores[number % 2]);
            tokio::spawn(async move {
                let write = replace("a", version, number.to_string().as_bytes());
                let payload = number.to_string().into_bytes();
                let outcome = store.swap(vec![write], vec![payload]).await.unwrap();
                (outcome != Swapped::Conflict).then_some(number)
            })
        })
        .collect();
    let mut winners = Vec::new();
    for racer in racers {
        winners.extend(racer.await.unwrap());
    }
    let [winner] = winners[..] else {
        panic!("{winners:?} all won");
    };
    let winner = winner.to_string();
    assert_eq!(value(&stores[0], "a").await, Some(winner.clone()));
    let seen = stores[1].events_since(Place::BEGINNING, 100).await.unwrap();
    assert_eq!(payloads(&seen.events), [winner]);
}

pub(super) async fn no_increment_is_lost(home: impl Home) {
    let stores = [Arc::new(home.open()), Arc::new(home.open())];
    commit(&stores[0], vec![create("n", b"0")]).await;
    let counters: Vec<_> = (0..8)
        .map(|number: usize| {
            let store = Arc::clone(&stores[number % 2]);
            tokio::spawn(async move {
                for _ in 0..10 {
                    loop {
                        let seen = store.load("n").await.unwrap().unwrap();
                        let text = String::from_utf8(seen.value).unwrap();
                        let next = text.parse::<u32>().unwrap() + 1;
                        let write = replace("n", seen.version, next.to_string().as_bytes());
                        if store.swap(vec![write], vec![]).await.unwrap() != Swapped::Conflict {
                            break;
                        }
                    }
                }
            })
        })
        .collect();
    for counter in counters {
        counter.await.unwrap();
    }
    assert_eq!(value(&stores[0], "n").await.as_deref(), Some("80"));
}

pub(super) async fn two_handles_see_each_other(home: impl Home) {
    let (one, two) = (home.open(), home.open());
    commit_with(&one, vec![create("a", b"one")], &["a made"]).await;
    assert_eq!(value(&two, "a").await.as_deref(), Some("one"));

    let seen = version(&two, "a").await;
    commit_with(&two, vec![replace("a", seen, b"two")], &["a changed"]).await;
    assert_eq!(value(&one, "a").await.as_deref(), Some("two"));
    for store in [&one, &two] {
        let seen = store.events_since(Place::BEGINNING, 10).await.unwrap();
        assert_eq!(payloads(&seen.events), ["a made", "a changed"]);
    }
}

pub(super) async fn reopening_keeps_everything(home: impl Home) {
    let store = home.open();
    commit_with(&store, vec![create("a", b"one")], &["made"]).await;
    let last = end(&store).await;
    let before = store.load("a").await.unwrap();
    drop(store);

    let store = home.open();
    assert_eq!(store.load("a").await.unwrap(), before);
    let seen = store.events_since(Place::BEGINNING, 10).await.unwrap();
    assert_eq!(payloads(&seen.events), ["made"]);
    assert_eq!(seen.last, last);
    commit_with(&store, vec![create("b", b"")], &["next"]).await;
    assert!(end(&store).await > last);
}

pub(super) async fn listing_goes_in_pages_and_stays_below_its_prefix(home: impl Home) {
    let store = home.open();
    let keys = ["k", "k.", "k/3", "k/1", "k/2", "k0", "j/9", "k/é"];
    let writes = keys.map(|key| create(key, key.as_bytes()));
    commit(&store, writes.to_vec()).await;

    let all = store.list("k/", None, 100).await.unwrap();
    let listed: Vec<_> = all.iter().map(|listed| listed.key.as_str()).collect();
    assert_eq!(listed, ["k/1", "k/2", "k/3", "k/é"]);
    for listed in &all {
        assert_eq!(listed.record.value, listed.key.as_bytes());
        let loaded = store.load(&listed.key).await.unwrap().unwrap();
        assert_eq!(loaded, listed.record);
    }
    let page = store.list("k/", None, 2).await.unwrap();
    assert_eq!(page, all[..2]);
    let page = store.list("k/", Some("k/2"), 2).await.unwrap();
    assert_eq!(page, all[2..]);
    assert_eq!(store.list("k/", Some("k/é"), 2).await.unwrap(), []);
    assert_eq!(store.list("nothing/", None, 2).await.unwrap(), []);
}
