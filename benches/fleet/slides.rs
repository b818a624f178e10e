//! Sessions that are used all the time.

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use gatelet::rules::api_key::Digest;
use gatelet::rules::session::Lifetime;
use gatelet::rules::time::Timestamp;

use crate::replica::Replica;
use crate::server::Server;

const SESSIONS: u32 = 1_000;

/// How many times the store hears of each.
const INTERVALS: u32 = 5;

/// How often each is used.
const PACE: Duration = Duration::from_millis(100);

/// Of how many it is looked whether they are ever shortened.
const WATCHED: usize = 10;

pub(crate) async fn measure(program: &Path, brief: bool) {
    // Shorter than by default, and written so much more often.
    let idle = Duration::from_secs(if brief { 5 } else { 20 });
    let lifetime = Lifetime {
        idle,
        max: idle * 100,
    };
    let interval = lifetime.write_interval();
    let server = Server::start(program).await;
    let replicas = [
        Replica::start(&server.config()).await,
        Replica::start(&server.config()).await,
    ];
    let mut tokens = Vec::new();
    for _ in 0..SESSIONS {
        tokens.push(replicas[0].issue(lifetime).await);
    }
    let watched: Vec<Digest> = tokens.iter().take(WATCHED).map(|it| digest(it)).collect();
    for replica in &replicas {
        replica.sessions.live_for(lifetime);
    }
    for using in 1..=replicas.len() {
        // What is remembered is not asked for.
        use_all(&replicas[..using], &tokens).await;
        let mut known: HashMap<Digest, Timestamp> = HashMap::new();
        let (before, begun) = (server.read().await, Instant::now());
        let mut looks = 0;
        while begun.elapsed() < interval * INTERVALS {
            use_all(&replicas[..using], &tokens).await;
            tokio::time::sleep(PACE).await;
            for digest in &watched {
                let record = replicas[0].sessions.sessions().lookup(digest).await;
                let expires_at = record.unwrap().unwrap().expires_at;
                let before = known.insert(*digest, expires_at);
                assert!(before <= Some(expires_at), "it was shortened");
                looks += 1;
            }
        }
        let spent = before.until(&server.read().await);
        println!(
            "\n{SESSIONS} sessions used by {using} for {INTERVALS} intervals of {interval:?}, once in {PACE:?}"
        );
        println!(
            "  commands     get {}, mget {}, eval {}; writes inside: {}",
            spent.calls("get") - looks,
            spent.calls("mget"),
            spent.calls("eval"),
            spent.calls("set")
        );
        spent.print_each(usize::try_from(SESSIONS * INTERVALS).unwrap());
        let most = u64::from(SESSIONS * (INTERVALS + 1)) * u64::try_from(using).unwrap();
        assert!(spent.calls("set") <= most, "one an interval");
        assert!(spent.calls("set") > 0);
    }
}

async fn use_all(replicas: &[Replica], tokens: &[String]) {
    for replica in replicas {
        for token in tokens {
            replica.use_session(token).await;
        }
    }
}

fn digest(token: &str) -> Digest {
    Digest::of(token.as_bytes())
}
