//! Where the master is that swaps are made on.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, ErrorKind, IntoConnectionInfo,
    RedisConnectionInfo, RedisResult, TlsCertificates, Value,
};

use super::{Config, text};

/// The longest a connection may take to be there.
const CONNECT: Duration = Duration::from_secs(1);

/// The longest that whoever knows where the master is may take to say so.
const ASK: Duration = Duration::from_secs(1);

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
    /// Sentinels at the addresses know which server is the master of this name.
    Sentinel(Box<str>),
    /// Nodes of a Cluster at the addresses know which of them has our slot.
    Cluster,
}

/// Connects to the master, whose answers may take as long as `patience`.
pub(super) async fn connect(
    config: &Config,
    patience: Duration,
) -> RedisResult<MultiplexedConnection> {
    let mut last = None;
    for address in &config.addresses {
        let connected = match &config.topology {
            Topology::Single => reach(config, address, patience).await,
            Topology::Sentinel(name) => match ask_sentinel(config, address, name).await {
                Ok(master) => reach(config, &master, patience).await,
                Err(error) => Err(error),
            },
            Topology::Cluster => match ask_node(config, address).await {
                Ok(master) => reach(config, &master, patience).await,
                Err(error) => Err(error),
            },
        };
        match connected {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| (ErrorKind::InvalidClientConfig, "there is no address").into()))
}

/// Connects to a server, if it is a master.
async fn reach(
    config: &Config,
    address: &Address,
    patience: Duration,
) -> RedisResult<MultiplexedConnection> {
    let mut connection = open(config, address, patience, true).await?;
    let role: Value = redis::cmd("ROLE").query_async(&mut connection).await?;
    match role {
        Value::Array(role) if role.first().and_then(text) == Some("master") => Ok(connection),
        _ => Err((ErrorKind::Client, "the server is no master").into()),
    }
}

async fn ask_sentinel(config: &Config, address: &Address, name: &str) -> RedisResult<Address> {
    let ask = async |with_password| {
        let mut connection = open(config, address, ASK, with_password).await?;
        let master: Option<(String, u16)> = redis::cmd("SENTINEL")
            .arg("GET-MASTER-ADDR-BY-NAME")
            .arg(name)
            .query_async(&mut connection)
            .await?;
        let (host, port) = master.ok_or((
            ErrorKind::MasterNameNotFoundBySentinel,
            "the sentinel knows no master of this name",
        ))?;
        RedisResult::Ok(Address {
            host: host.into(),
            port,
        })
    };
    // Sentinels seldom have a password, and refuse one that they do not have.
    match ask(false).await {
        Err(error) if config.password.is_some() && error.code() == Some("NOAUTH") => {
            ask(true).await
        }
        asked => asked,
    }
}

async fn ask_node(config: &Config, address: &Address) -> RedisResult<Address> {
    let mut connection = open(config, address, ASK, true).await?;
    let slot: u16 = redis::cmd("CLUSTER")
        .arg("KEYSLOT")
        .arg(format!("{{{}}}", config.key_prefix))
        .query_async(&mut connection)
        .await?;
    let ranges: Vec<Value> = redis::cmd("CLUSTER")
        .arg("SLOTS")
        .query_async(&mut connection)
        .await?;
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

async fn open(
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
