//! Where the master is that swaps are made on.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisResult, TlsCertificates, Value,
};

use tokio::task::JoinSet;

use super::sentinels::Sentinels;
use super::{Config, replicas_of, text};

/// The longest a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(1);

/// The longest that whoever knows where the master is may take to say so.
pub(super) const ASK: Duration = Duration::from_secs(1);

/// A host and its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an address, without brackets.
    pub host: Box<str>,
    /// The port.
    pub port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How the master is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Topology {
    /// It is the one of the addresses that says it is.
    Single,
    /// Sentinels at the addresses know which server is the master of this name; most of them have to
    /// say the same.
    Sentinel(Box<str>),
    /// Nodes of a Cluster at the addresses know which of them has our slot.
    Cluster,
}

/// A connection to the master.
pub(super) struct Reached {
    pub(super) connection: MultiplexedConnection,
    pub(super) address: Address,
    /// Differs from any other server's, and after it was started again or took over.
    pub(super) run: u64,
}

/// Connects to the master, whose answers may take as long as `patience`.
pub(super) async fn connect(config: &Arc<Config>, patience: Duration) -> RedisResult<Reached> {
    if let Topology::Sentinel(_) = config.topology {
        let master = Sentinels::of(config).master().await?;
        return reach(config, &master, patience).await;
    }
    // All at once, since one that is gone may not even say no; the first that leads there counts.
    let mut attempts = JoinSet::new();
    for (place, address) in config.addresses.iter().cloned().enumerate() {
        let config = Arc::clone(config);
        attempts.spawn(async move {
            let master = match config.topology {
                Topology::Cluster => ask_node(&config, &address).await,
                Topology::Single | Topology::Sentinel(_) => Ok(address),
            };
            let reached = match master {
                Ok(master) => reach(&config, &master, patience).await,
                Err(error) => Err(error),
            };
            (place, reached)
        });
    }
    let mut ended: Vec<Option<RedisResult<Reached>>> = Vec::new();
    ended.resize_with(config.addresses.len(), || None);
    while let Some(attempt) = attempts.join_next().await {
        if let Ok((place, reached)) = attempt {
            ended[place] = Some(reached);
        }
        let failed = |ended: &Option<_>| matches!(ended, Some(Err(_)));
        let first = ended.iter_mut().find(|ended| !failed(ended));
        if let Some(Ok(reached)) = first.and_then(Option::take) {
            return Ok(reached);
        }
    }
    let last = ended.pop().flatten();
    last.unwrap_or_else(|| Err((ErrorKind::InvalidClientConfig, "there is no address").into()))
}

/// Connects to a server, if it is a master.
async fn reach(config: &Config, address: &Address, patience: Duration) -> RedisResult<Reached> {
    let mut connection = open(config, address, patience, true).await?;
    let mut ask = redis::pipe();
    ask.cmd("ROLE");
    ask.cmd("INFO").arg("server");
    ask.cmd("INFO").arg("replication");
    let (role, server, replication): (Value, String, String) =
        ask.query_async(&mut connection).await?;
    if replicas_of(&role).is_none() {
        return Err((ErrorKind::Client, "the server is no master").into());
    }
    // The first is another one after each start, the second after each failover.
    let mut run = DefaultHasher::new();
    for (info, name) in [(server, "run_id:"), (replication, "master_replid:")] {
        let line = info.lines().find_map(|line| line.strip_prefix(name));
        let line = line.ok_or((ErrorKind::UnexpectedReturnType, "the server has no run id"))?;
        run.write(line.trim().as_bytes());
    }
    Ok(Reached {
        connection,
        address: address.clone(),
        run: run.finish(),
    })
}

async fn ask_node(config: &Config, address: &Address) -> RedisResult<Address> {
    let mut connection = open(config, address, ASK, true).await?;
    let mut ask = redis::pipe();
    ask.cmd("CLUSTER").arg("INFO");
    let prefix = format!("{{{}}}", config.key_prefix);
    ask.cmd("CLUSTER").arg("KEYSLOT").arg(prefix);
    ask.cmd("CLUSTER").arg("SLOTS");
    let (info, slot, ranges): (String, u16, Vec<Value>) = ask.query_async(&mut connection).await?;
    // One that is cut off from most of the others knows no better than to name itself.
    if !info.lines().any(|line| line.trim() == "cluster_state:ok") {
        let down = "the node sees no cluster that works";
        return Err((ErrorKind::ClusterConnectionNotFound, down).into());
    }
    let master = ranges.iter().find_map(|range| master_of(range, slot));
    let master = master.ok_or((
        ErrorKind::ClusterConnectionNotFound,
        "no node of the cluster has the slot",
    ))?;
    let (host, port) = master;
    // A node that does not know its own name is at the address that it was asked at.
    let host = if host.is_empty() { &address.host } else { host };
    Ok(Address {
        host: host.into(),
        port,
    })
}

/// The master of a range of slots, if `slot` lies in it: first, last, and its nodes, the master first.
fn master_of(range: &Value, slot: u16) -> Option<(&str, u16)> {
    let Value::Array(range) = range else {
        return None;
    };
    let [
        Value::Int(first),
        Value::Int(last),
        Value::Array(master),
        ..,
    ] = &range[..]
    else {
        return None;
    };
    if !(*first..=*last).contains(&i64::from(slot)) {
        return None;
    }
    let [host, Value::Int(port), ..] = &master[..] else {
        return None;
    };
    Some((text(host).unwrap_or_default(), u16::try_from(*port).ok()?))
}

pub(super) async fn open(
    config: &Config,
    address: &Address,
    patience: Duration,
    with_password: bool,
) -> RedisResult<MultiplexedConnection> {
    let (host, port) = (address.host.to_string(), address.port);
    let address = if config.tls {
        ConnectionAddr::TcpTls {
            host,
            port,
            insecure: false,
            tls_params: None,
        }
    } else {
        ConnectionAddr::Tcp(host, port)
    };
    let mut who = RedisConnectionInfo::default();
    if with_password {
        if let Some(username) = &config.username {
            who = who.set_username(username);
        }
        if let Some(password) = &config.password {
            who = who.set_password(password.as_str());
        }
    }
    let info: ConnectionInfo = address
        .into_connection_info()?
        .set_tcp_settings(TcpSettings::default().set_nodelay(true))
        .set_redis_settings(who);
    let client = if config.tls {
        let root_cert = config.authorities.as_ref().map(|pem| pem.to_vec());
        let certificates = TlsCertificates {
            client_tls: None,
            root_cert,
        };
        Client::build_with_tls(info, certificates)?
    } else {
        Client::open(info)?
    };
    let settings = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT))
        .set_response_timeout(Some(patience));
    client
        .get_multiplexed_async_connection_with_config(&settings)
        .await
}
