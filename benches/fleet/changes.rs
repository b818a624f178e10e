//! Sessions are revoked that every replica remembers.

use std::sync::Arc;
use std::time::{Duration, Instant};

use gatelet::rules::api_key::Digest;
use gatelet::rules::session::Lifetime;
use tokio::task::JoinSet;

use crate::Fleet;
use crate::replica::Replica;
use crate::sums::print_times;

/// How soon it is tried again where there is no store.
pub(crate) const AGAIN: Duration = Duration::from_millis(20);

/// The longest that a replica may take to forget.
const BOUND: Duration = Duration::from_secs(30);

/// Revokes so many sessions a second; of each second's, the first is one that every replica
/// remembers, and watched until the last has forgotten it.
pub(crate) async fn measure(fleet: &Fleet, seconds: u32, a_second: u32) {
    let mut watched = Vec::new();
    for _ in 0..seconds {
        watched.push(remembered(fleet).await);
    }
    let mut others = Vec::new();
    for _ in 0..seconds * (a_second - 1) {
        let token = fleet.replicas[0].issue(Lifetime::default()).await;
        others.push(Digest::of(token.as_bytes()));
    }
    let before = fleet.server.read().await;
    let mut tick = tokio::time::interval(Duration::from_secs(1) / a_second);
    let mut replicas = fleet.replicas.iter().cycle();
    let mut revocations = JoinSet::new();
    let mut followed = JoinSet::new();
    for session in watched {
        for place in 0..a_second {
            tick.tick().await;
            let session = match place {
                0 => {
                    let asked = Instant::now();
                    let forgotten = forgotten(fleet, session);
                    followed.spawn(async move {
                        let times = forgotten.await;
                        times.into_iter().map(|at| at - asked).collect::<Vec<_>>()
                    });
                    session
                }
                _ => others.pop().unwrap(),
            };
            let replica = Arc::clone(replicas.next().unwrap());
            revocations.spawn(async move { revoked(&replica, session).await });
        }
    }
    let failed: usize = revocations.join_all().await.iter().sum();
    let times = followed.join_all().await;
    let spent = before.until(&fleet.server.read().await);
    println!(
        "\n{a_second} revoked a second for {seconds} s; {failed} times it had to be tried again"
    );
    if a_second == 1 {
        spent.print_each(times.len());
    }
    spent.print_a_second();
    let last = times.iter().map(|times| *times.iter().max().unwrap());
    print_times("the last", last.collect());
    print_times("any replica", times.concat());
}

/// Revokes a session, however often it takes; how often it failed before.
pub(crate) async fn revoked(replica: &Replica, session: Digest) -> usize {
    let mut failed = 0;
    while replica.sessions.sessions().revoke(&session).await.is_err() {
        failed += 1;
        tokio::time::sleep(AGAIN).await;
    }
    failed
}

/// A session that every replica remembers.
pub(crate) async fn remembered(fleet: &Fleet) -> Digest {
    let token = fleet.replicas[0].issue(Lifetime::default()).await;
    for replica in &fleet.replicas {
        replica.recall(&token).await;
    }
    Digest::of(token.as_bytes())
}

/// When each replica has forgotten a session.
pub(crate) fn forgotten(
    fleet: &Fleet,
    session: Digest,
) -> impl Future<Output = Vec<Instant>> + Send + use<> {
    let mut forgetting = JoinSet::new();
    for replica in &fleet.replicas {
        let replica = Arc::clone(replica);
        forgetting.spawn(async move { replica.forgets(session).await });
    }
    async move {
        let all = forgetting.join_all();
        tokio::time::timeout(BOUND, all).await.unwrap()
    }
}
