//! Who the master is by the word of the Sentinels.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{ErrorKind, RedisResult};
use tokio::task::JoinSet;

use super::master::{ASK, Address, open};
use super::{Config, Topology};

/// The Sentinels, and the connections to them.
///
/// Most of them have to agree. Those that are cut off with a master that was replaced go on naming
/// it, but they are the fewer: it took most of them to replace it.
pub(super) struct Sentinels {
    config: Arc<Config>,
    connections: Vec<Option<MultiplexedConnection>>,
    /// Questions under way: those that came too late for their round are awaited in a later one.
    asked: JoinSet<Asked>,
    round: u64,
}

struct Asked {
    round: u64,
    /// Which Sentinel.
    place: usize,
    answer: RedisResult<(MultiplexedConnection, Address)>,
}

impl Sentinels {
    pub(super) fn of(config: &Arc<Config>) -> Self {
        Self {
            config: Arc::clone(config),
            connections: vec![None; config.addresses.len()],
            asked: JoinSet::new(),
            round: 0,
        }
    }

    /// The master that most of the Sentinels name. Cancel safe.
    pub(super) async fn master(&mut self) -> RedisResult<Address> {
        self.round += 1;
        while let Some(late) = self.asked.try_join_next() {
            if let Ok(late) = late {
                // It came too late to count.
                let _ = self.keep(late);
            }
        }
        for (place, address) in self.config.addresses.iter().enumerate() {
            let (round, config) = (self.round, Arc::clone(&self.config));
            let (address, held) = (address.clone(), self.connections[place].take());
            self.asked.spawn(async move {
                let answer = ask(&config, &address, held).await;
                Asked {
                    round,
                    place,
                    answer,
                }
            });
        }
        let mut named: Vec<Address> = Vec::new();
        let mut last = None;
        while let Some(asked) = self.asked.join_next().await {
            let Ok(asked) = asked else { continue };
            let counts = asked.round == self.round;
            match self.keep(asked) {
                Ok(master) if counts => {
                    named.push(master);
                    if let Some(master) = agreed(&named, self.config.addresses.len()) {
                        return Ok(master);
                    }
                }
                Ok(_) => {}
                Err(error) => last = Some(error),
            }
        }
        let disagreed = (
            ErrorKind::Client,
            "most of the sentinels do not name the same master",
        );
        Err(last.unwrap_or_else(|| disagreed.into()))
    }

    fn keep(&mut self, asked: Asked) -> RedisResult<Address> {
        let (connection, master) = asked.answer?;
        self.connections[asked.place] = Some(connection);
        Ok(master)
    }
}

/// The master that more than half of all Sentinels have named last.
fn agreed(named: &[Address], sentinels: usize) -> Option<Address> {
    let last = named.last()?;
    let votes = named.iter().filter(|named| *named == last).count();
    (votes * 2 > sentinels).then(|| last.clone())
}

async fn ask(
    config: &Config,
    address: &Address,
    held: Option<MultiplexedConnection>,
) -> RedisResult<(MultiplexedConnection, Address)> {
    if let Some(connection) = held
        && let Ok(answer) = name(config, connection).await
    {
        return Ok(answer);
    }
    let connection = open(config, address, ASK, false).await?;
    match name(config, connection).await {
        // Sentinels seldom have a password, and refuse one that they do not have.
        Err(error) if config.password.is_some() && error.code() == Some("NOAUTH") => {
            let connection = open(config, address, ASK, true).await?;
            name(config, connection).await
        }
        named => named,
    }
}

async fn name(
    config: &Config,
    mut connection: MultiplexedConnection,
) -> RedisResult<(MultiplexedConnection, Address)> {
    let Topology::Sentinel(master) = &config.topology else {
        return Err((ErrorKind::InvalidClientConfig, "there are no sentinels").into());
    };
    let address: Option<(String, u16)> = redis::cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(&**master)
        .query_async(&mut connection)
        .await?;
    let (host, port) = address.ok_or((
        ErrorKind::MasterNameNotFoundBySentinel,
        "the sentinel knows no master of this name",
    ))?;
    let host = host.into();
    Ok((connection, Address { host, port }))
}
