//! What replicas cost the server that they share: many of them in this process, each with a store
//! and a follower of its own, before a server that this starts. See `benches/README.md`.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a bench that meets the unexpected stops there, and measures real time"
)]

mod answered;
mod changes;
mod idle;
mod memory;
mod reconnects;
mod replica;
mod server;
mod slides;
mod sums;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use gatelet::platform;

use replica::Replica;
use server::Server;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Nothing happens.
    Idle,
    /// One revocation a second, then ten, then a hundred.
    Changes,
    /// Every connection breaks at once, then the server.
    Reconnects,
    /// What one replica answers from memory, and a flood that it holds back.
    Answered,
    /// Sessions that are used all the time.
    Slides,
    /// What records take.
    Memory,
}

/// Measures what replicas cost the server that they share.
#[derive(Debug, Parser)]
struct Options {
    /// How many replicas there are.
    #[arg(long, default_value_t = 500)]
    replicas: usize,
    /// For how many seconds each state is watched.
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// How many records of each kind are kept to measure them.
    #[arg(long, default_value_t = 1_000_000)]
    records: u32,
    /// How often one replica is shown a credential.
    #[arg(long, default_value_t = 100_000)]
    times: u32,
    /// The server's program: Redis' or Valkey's.
    #[arg(long, default_value = "redis-server")]
    server: PathBuf,
    /// Only this; may be repeated.
    #[arg(long)]
    scenario: Vec<Scenario>,
    /// Everything small and brief: proves that the bench still works.
    #[arg(long, conflicts_with_all = ["replicas", "seconds", "records", "times"])]
    smoke: bool,
    /// Said by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The replicas and their server.
struct Fleet {
    server: Server,
    replicas: Vec<Arc<Replica>>,
}

fn main() {
    let mut options = Options::parse();
    if options.smoke {
        options.replicas = 20;
        options.seconds = 2;
        options.records = 2_000;
        options.times = 5_000;
    }
    platform::raise_open_files();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(measure(&options));
}

async fn measure(options: &Options) {
    let wanted = |scenario| options.scenario.is_empty() || options.scenario.contains(&scenario);
    let of_all = [Scenario::Idle, Scenario::Changes, Scenario::Reconnects];
    if of_all.into_iter().any(wanted) {
        let window = Duration::from_secs(options.seconds.into());
        let fleet = Fleet::start(options).await;
        if wanted(Scenario::Idle) {
            idle::measure(&fleet, window).await;
        }
        if wanted(Scenario::Changes) {
            for a_second in [1, 10, 100] {
                changes::measure(&fleet, options.seconds, a_second).await;
            }
        }
        if wanted(Scenario::Reconnects) {
            reconnects::measure(&fleet).await;
        }
    }
    if wanted(Scenario::Answered) {
        answered::measure(&options.server, options.times).await;
    }
    if wanted(Scenario::Slides) {
        slides::measure(&options.server, options.smoke).await;
    }
    if wanted(Scenario::Memory) {
        memory::measure(&options.server, options.records).await;
    }
}

impl Fleet {
    async fn start(options: &Options) -> Self {
        let server = Server::start(&options.server).await;
        println!("{}, {} replicas", server.version().await, options.replicas);
        let before = server.read().await;
        let mut replicas = Vec::with_capacity(options.replicas);
        for _ in 0..options.replicas {
            replicas.push(Arc::new(Replica::start(&server.config()).await));
        }
        let spent = before.until(&server.read().await);
        println!("\nstarting, each replica");
        spent.print_each(options.replicas);
        Self { server, replicas }
    }
}
