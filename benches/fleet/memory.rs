//! What records take in the server's memory and on its disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatelet::authn::families::Families;
use gatelet::authn::keyring::{Keyring, NewKey};
use gatelet::authn::sessions::{NewSession, Sessions};
use gatelet::platform::Platform;
use gatelet::rules::api_key::Label;
use gatelet::rules::principal::Scopes;
use gatelet::rules::refresh::{Grant, Mode};
use gatelet::rules::session::Lifetime;
use gatelet::store::Store;
use tokio::task::JoinSet;

use crate::server::Server;
use crate::sums::mebibytes;

/// How many are made at once.
const AT_ONCE: usize = 64;

/// How soon it is asked again after it did not answer.
const AGAIN: Duration = Duration::from_millis(20);

/// The names of what lists the records, and of what happened to them.
const INDEX: &str = "{gatelet}:index";
const EVENTS: &str = "{gatelet}:events";

pub(crate) async fn measure(program: &Path, records: u32) {
    let server = Server::start(program).await;
    let platform = Platform::system();
    let store = Store::open(&server.config(), &platform, Arc::new(|_, _, _| {}));
    let store = Arc::new(store.unwrap());
    println!("\nmemory of {}", server.version().await);
    let sessions = Sessions::new(Arc::clone(&store), None, platform.clone());
    made(&server, "sessions", records, |number| {
        let sessions = sessions.clone();
        async move { sessions.issue(session(number)).await.is_ok() }
    })
    .await;
    print_usage(&server, INDEX, "index").await;
    let (before, begun) = (server.read().await, Instant::now());
    assert_eq!(sessions.sweep().await.unwrap(), 0);
    let spent = before.until(&server.read().await);
    println!("  a sweep that finds nothing, in {:.1?}", begun.elapsed());
    spent.print_each(1);
    let written = mebibytes(server.on_disk("aof"));
    server.do_aside("BGREWRITEAOF").await;
    let kept = mebibytes(server.on_disk("rdb"));
    println!("  on disk {written:.0} MiB as it was written, {kept:.0} MiB rewritten");
    let begun = Instant::now();
    server.restart().await;
    println!("  answers {:.1?} after it was killed", begun.elapsed());
    while store.load("nothing").await.is_err() {
        tokio::time::sleep(AGAIN).await;
    }

    let families = Families::new(Arc::clone(&store), None, platform.clone());
    made(&server, "families, each rotated once", records, |number| {
        let families = families.clone();
        async move {
            let lifetime = gatelet::authn::families::Lifetime::default();
            let Ok((_, token)) = families.begin(grant(number), lifetime).await else {
                return false;
            };
            families.exchange(&token, lifetime).await.is_ok()
        }
    })
    .await;
    let keyring = Keyring::new(store, "gk".into(), None, platform);
    made(&server, "keys", records / 10, |number| {
        let keyring = keyring.clone();
        async move { keyring.create(key(number)).await.is_ok() }
    })
    .await;
    print_usage(&server, EVENTS, "events").await;
    let events: u64 = server.ask(&["XLEN", EVENTS]).await;
    println!("  events kept: {events}");
}

/// Prints what one name takes, by a sample of what it holds: to look at all holds up the server.
async fn print_usage(server: &Server, name: &str, what: &str) {
    let ask = ["MEMORY", "USAGE", name, "SAMPLES", "1000"];
    let bytes: u64 = server.ask(&ask).await;
    println!("  of it the {what}: {:.0} MiB", mebibytes(bytes));
}

/// Makes so many of a kind, and prints what each takes. Those that the server had no time for are
/// made in addition.
async fn made<F>(server: &Server, what: &str, count: u32, make: impl Fn(u32) -> F)
where
    F: Future<Output = bool> + Send + 'static,
{
    let before = server.read().await;
    let begun = Instant::now();
    let mut making = JoinSet::new();
    let (mut number, mut kept) = (0, 0);
    while kept < count {
        while making.len() < AT_ONCE && kept + u32::try_from(making.len()).unwrap() < count {
            making.spawn(make(number));
            number += 1;
        }
        kept += u32::from(making.join_next().await.unwrap().unwrap());
        if kept % 100_000 == 0 {
            eprintln!("{what}: {kept} of {count}");
        }
    }
    let took = begun.elapsed();
    let after = server.read().await;
    let each = |bytes: u64| bytes / u64::from(count);
    let taken = after.memory - before.memory;
    println!(
        "  {count} {what} in {took:.0?}: {:.0} MiB, {} bytes each",
        mebibytes(taken),
        each(taken)
    );
    before
        .until(&after)
        .print_each(usize::try_from(count).unwrap());
}

/// Identifiers as they often are: 36 characters.
fn subject(number: u32) -> String {
    format!("9f0c2a4e-7b1d-4c3f-8a5e-{number:012}")
}

fn session(number: u32) -> NewSession {
    NewSession {
        subject: Label::parse(&subject(number)).unwrap(),
        key_id: Some("key_0123456789abcdefghijkl".into()),
        key_owner: Some("acme".into()),
        scopes: Scopes::new(["portfolio:read"]),
        metadata: None,
        lifetime: Lifetime::default(),
    }
}

/// A wallet's.
fn grant(number: u32) -> Grant {
    Grant {
        subject: format!("0x{number:040x}").into(),
        key_id: Some("key_0123456789abcdefghijkl".into()),
        key_owner: Some("acme".into()),
        scopes: Scopes::default(),
        chain_id: Some(1),
        mode: Mode::Cookie,
    }
}

fn key(number: u32) -> NewKey {
    NewKey {
        name: Label::parse(&format!("server {number}")).unwrap(),
        owner: Some(Label::parse("acme").unwrap()),
        scopes: Scopes::new(["portfolio:read"]),
        expires_at: None,
        rate_limit: None,
    }
}
