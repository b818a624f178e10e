//! What one replica answers from memory, and what it holds back from its server.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gatelet::authn::api_key::Sought;
use gatelet::authn::keyring::NewKey;
use gatelet::rules::api_key::{self, Label};
use gatelet::rules::decision::{Refusal, Reject};
use gatelet::rules::principal::Scopes;
use tokio::task::JoinSet;

use crate::replica::{GUESSES, Replica};
use crate::server::Server;
use crate::sums::Spent;

/// Who shows everything else.
const CALLER: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// How many callers show a key at once that nobody has shown before.
const AT_ONCE: u32 = 1_000;

/// A replica on a server of its own, so that all that is asked was asked by it; a credential is shown
/// so many times.
pub(crate) async fn measure(program: &Path, times: u32) {
    let server = Server::start(program).await;
    let replica = Arc::new(Replica::start(&server.config()).await);
    println!("\none replica: commands that its server was asked");
    let created = replica.keyring.create(NewKey {
        name: Label::parse("web").unwrap(),
        owner: None,
        scopes: Scopes::default(),
        expires_at: None,
        rate_limit: None,
    });
    let key = created.await.unwrap().secret.to_string();
    // Hearing of a change makes a replica forget it, so this one has to be behind it.
    tokio::time::sleep(Duration::from_secs(1)).await;

    let before = server.read().await;
    let mut shown = JoinSet::new();
    for number in 0..AT_ONCE {
        let (replica, key) = (Arc::clone(&replica), key.clone());
        let from = Ipv4Addr::from_bits(number);
        shown.spawn(async move { replica.show_key(&key, from).await.unwrap() });
    }
    for answer in shown.join_all().await {
        assert!(matches!(answer, Sought::Genuine(_)));
    }
    let asked = asked(&before.until(&server.read().await));
    assert_eq!(asked, 2, "one for the digest, one for the key it leads to");
    println!("  a key that {AT_ONCE} callers show at once for the first time: {asked}");

    let before = server.read().await;
    for _ in 0..times {
        let answer = replica.show_key(&key, CALLER).await.unwrap();
        assert!(matches!(answer, Sought::Genuine(_)));
    }
    let asked = self::asked(&before.until(&server.read().await));
    assert_eq!(asked, 0);
    println!("  the same key {times} times more: {asked}");

    let before = server.read().await;
    let unknown = random_key(&replica);
    for _ in 0..times {
        let answer = replica.show_key(&unknown, CALLER).await.unwrap();
        assert!(matches!(answer, Sought::Unknown { .. }));
    }
    let asked = self::asked(&before.until(&server.read().await));
    assert_eq!(asked, 1);
    println!("  one unknown key {times} times: {asked}");

    let before = server.read().await;
    let (begun, mut refused) = (Instant::now(), 0);
    for _ in 0..times {
        match replica.show_key(&random_key(&replica), CALLER).await {
            Ok(Sought::Unknown { .. }) => {}
            Err(Refusal::Reject(Reject::RateLimited { .. })) => refused += 1,
            other => unreachable!("{other:?}"),
        }
    }
    let took = begun.elapsed();
    let asked = self::asked(&before.until(&server.read().await));
    assert_eq!(asked, u64::from(times - refused));
    let allowed = f64::from(GUESSES) * (1.0 + took.as_secs_f64());
    assert!(f64::from(times - refused) <= allowed.ceil(), "{asked}");
    println!("  {times} unknown keys from one address in {took:.1?}: {asked}");
}

/// How many commands there were, but for those that wait for events.
fn asked(spent: &Spent) -> u64 {
    let following = ["xread", "xrange", "role"].map(|command| spent.calls(command));
    spent.commands() - following.iter().sum::<u64>()
}

fn random_key(replica: &Replica) -> String {
    let mut random = [0; 32];
    replica.platform.entropy.fill(&mut random).unwrap();
    api_key::mint("gk", &random).to_string()
}
