//! Every connection breaks at once, then the server.

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::Fleet;
use crate::changes::{AGAIN, forgotten, remembered, revoked};
use crate::server::Server;
use crate::sums::print_times;

/// How often the server is asked how it does.
const SAMPLE: Duration = Duration::from_millis(100);

pub(crate) async fn measure(fleet: &Fleet) {
    let session = remembered(fleet).await;
    let begun = Instant::now();
    let forgotten_at = forgotten(fleet, session);
    println!("\nevery connection is killed");
    let _: i64 = fleet
        .server
        .ask(&["CLIENT", "KILL", "TYPE", "normal"])
        .await;
    watched(fleet, async {
        let read_at = read_again(fleet);
        revoked(&fleet.replicas[0], session).await;
        print_since(begun, "follows", forgotten_at.await);
        print_since(begun, "reads", read_at.join_all().await);
    })
    .await;

    let session = remembered(fleet).await;
    let begun = Instant::now();
    // A server that was started again makes everybody forget everything.
    let forgotten_at = forgotten(fleet, session);
    println!("\nthe server is killed and started again");
    fleet.server.restart().await;
    println!("  answers      after {:.1?}", begun.elapsed());
    watched(fleet, async {
        let read_at = read_again(fleet);
        print_since(begun, "follows", forgotten_at.await);
        print_since(begun, "reads", read_at.join_all().await);
    })
    .await;
}

fn print_since(begun: Instant, what: &str, times: Vec<Instant>) {
    print_times(what, times.into_iter().map(|at| at - begun).collect());
}

/// What each replica is asked for all the time until it can tell.
fn read_again(fleet: &Fleet) -> JoinSet<Instant> {
    let mut reading = JoinSet::new();
    for replica in &fleet.replicas {
        let replica = Arc::clone(replica);
        reading.spawn(async move {
            while replica.store.load("nothing").await.is_err() {
                tokio::time::sleep(AGAIN).await;
            }
            Instant::now()
        });
    }
    reading
}

/// Does something, and prints what the server had to do meanwhile at most.
async fn watched(fleet: &Fleet, work: impl Future<Output = ()>) {
    let done = Cell::new(false);
    let work = async {
        work.await;
        done.set(true);
    };
    tokio::join!(sample(&fleet.server, &done), work);
}

async fn sample(server: &Server, done: &Cell<bool>) {
    let first = server.read().await;
    let (mut last, mut clients, mut commands) = (server.read().await, first.clients, 0.0_f64);
    while !done.get() {
        tokio::time::sleep(SAMPLE).await;
        let now = server.read().await;
        clients = clients.max(now.clients);
        commands = commands.max(last.until(&now).commands_a_second());
        last = now;
    }
    let made = last.connections - first.connections;
    println!("  connections  {clients} at most at once, {made} made while it was watched");
    println!("  commands     {commands:.0} a second at most, over {SAMPLE:?}");
    let spent = first.until(&last);
    println!(
        "  in all       {} commands, {:.0} ms of processor",
        spent.commands(),
        spent.processor() * 1e3
    );
}
