//! What had better be set otherwise on a server that a store is kept on.
//!
//! Looked at whenever it is connected to, and said once for each server.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value};

use super::master::{Address, Topology};
use super::replicas_of;

/// How many pieces of advice are remembered as given. Servers that come and go could be told of
/// again behind it.
const REMEMBERED: usize = 1000;

/// What has been said.
#[derive(Default)]
pub(super) struct Advisor {
    given: Mutex<HashSet<(String, Advice)>>,
}

/// One thing to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Advice {
    /// Records go when there is no room.
    Evicts,
    /// Nothing is on disk.
    Nothing,
    /// Something is on disk now and then.
    Snapshots,
    /// What is on disk, the system decides.
    Unsynced,
    /// It may take writes that nobody else hears of.
    Unheard,
}

impl Advice {
    fn text(self) -> &'static str {
        match self {
            Self::Evicts => {
                "the store's server evicts what is kept when its memory is full; set maxmemory-policy to noeviction"
            }
            Self::Nothing => {
                "the store's server keeps nothing on disk: a restart loses every key and session; set appendonly to yes"
            }
            Self::Snapshots => {
                "a crash of the store's server loses what came since its last snapshot, revocations included; set appendonly to yes"
            }
            Self::Unsynced => {
                "the store's server leaves it to the system when to write to the disk: a crash may lose half a minute; set appendfsync to everysec or always"
            }
            Self::Unheard => {
                "the store's server takes writes that no replica hears of, and they are lost when it is replaced; set min-replicas-to-write to 1"
            }
        }
    }
}

/// Settings by their names.
type Told = Vec<(String, String)>;

/// What a server says of itself.
#[derive(Clone, Debug, Default)]
struct Settings {
    maxmemory_policy: String,
    appendonly: String,
    appendfsync: String,
    save: String,
    min_replicas_to_write: String,
    has_replicas: bool,
}

impl Settings {
    async fn of(connection: &mut MultiplexedConnection) -> RedisResult<Self> {
        let mut ask = redis::pipe();
        for name in [
            "maxmemory-policy",
            "appendonly",
            "appendfsync",
            "save",
            "min-replicas-to-write",
        ] {
            // Older servers tell one at a time.
            ask.cmd("CONFIG").arg("GET").arg(name);
        }
        ask.cmd("ROLE");
        let (policy, appendonly, appendfsync, save, replicas, role): (
            Told,
            Told,
            Told,
            Told,
            Told,
            Value,
        ) = ask.query_async(connection).await?;
        let only = |mut told: Told| told.pop().map(|(_, value)| value).unwrap_or_default();
        Ok(Self {
            maxmemory_policy: only(policy),
            appendonly: only(appendonly),
            appendfsync: only(appendfsync),
            save: only(save),
            min_replicas_to_write: only(replicas),
            has_replicas: replicas_of(&role).is_some_and(|replicas| !replicas.is_empty()),
        })
    }

    /// What had better be otherwise; a setting that the server does not have is passed over.
    fn advice(&self, topology: &Topology) -> Vec<Advice> {
        let mut advice = Vec::new();
        // The other policies evict what has an expiry, which nothing of a store's has.
        if self.maxmemory_policy.starts_with("allkeys") {
            advice.push(Advice::Evicts);
        }
        match (&*self.appendonly, &*self.save, &*self.appendfsync) {
            ("no", "", _) => advice.push(Advice::Nothing),
            ("no", _, _) => advice.push(Advice::Snapshots),
            ("yes", _, "no") => advice.push(Advice::Unsynced),
            _ => {}
        }
        let is_replaced = matches!(topology, Topology::Sentinel(_));
        if is_replaced && self.has_replicas && self.min_replicas_to_write == "0" {
            advice.push(Advice::Unheard);
        }
        advice
    }
}

impl Advisor {
    /// Looks at a server and says what was not said of it yet. One that does not tell how it is set,
    /// as those do that others run, is left alone.
    pub(super) async fn look(
        &self,
        mut connection: MultiplexedConnection,
        address: &Address,
        topology: &Topology,
    ) {
        let settings = match Settings::of(&mut connection).await {
            Ok(settings) => settings,
            Err(error) => {
                tracing::debug!(server = %address, %error, "the store's server does not tell how it is set");
                return;
            }
        };
        for advice in settings.advice(topology) {
            if self.is_new(address, advice) {
                tracing::warn!(server = %address, "{}", advice.text());
            }
        }
    }

    fn is_new(&self, address: &Address, advice: Advice) -> bool {
        let mut given = self.given.lock().unwrap_or_else(PoisonError::into_inner);
        if given.len() >= REMEMBERED {
            given.clear();
        }
        given.insert((address.to_string(), advice))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Settings {
        Settings {
            maxmemory_policy: "noeviction".to_owned(),
            appendonly: "yes".to_owned(),
            appendfsync: "everysec".to_owned(),
            save: "3600 1".to_owned(),
            min_replicas_to_write: "1".to_owned(),
            has_replicas: true,
        }
    }

    #[test]
    fn each_setting_has_its_advice() {
        let sentinel = Topology::Sentinel("main".into());
        let told = |change: fn(&mut Settings)| {
            let mut settings = good();
            change(&mut settings);
            settings.advice(&sentinel)
        };
        assert_eq!(told(|_| {}), []);
        assert_eq!(told(|it| it.save.clear()), []);
        assert_eq!(told(|it| it.appendfsync = "always".to_owned()), []);
        assert_eq!(told(|it| *it = Settings::default()), [], "nothing is known");
        for policy in ["volatile-lru", "volatile-ttl"] {
            let mut settings = good();
            settings.maxmemory_policy = policy.to_owned();
            assert_eq!(settings.advice(&sentinel), [], "{policy}");
        }
        let evicts = told(|it| it.maxmemory_policy = "allkeys-lru".to_owned());
        assert_eq!(evicts, [Advice::Evicts]);
        let snapshots = told(|it| it.appendonly = "no".to_owned());
        assert_eq!(snapshots, [Advice::Snapshots]);
        let nothing = told(|it| {
            it.appendonly = "no".to_owned();
            it.save.clear();
        });
        assert_eq!(nothing, [Advice::Nothing]);
        let unsynced = told(|it| it.appendfsync = "no".to_owned());
        assert_eq!(unsynced, [Advice::Unsynced]);
        let unheard = |settings: &mut Settings| settings.min_replicas_to_write = "0".to_owned();
        assert_eq!(told(unheard), [Advice::Unheard]);
        let mut settings = good();
        unheard(&mut settings);
        for topology in [Topology::Single, Topology::Cluster] {
            assert_eq!(settings.advice(&topology), [], "{topology:?}");
        }
        settings.has_replicas = false;
        assert_eq!(settings.advice(&sentinel), []);
    }
}
