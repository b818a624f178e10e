//! One address of an upstream as all workers see it: where to connect, and how it stands.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::rules::health::{Checked, Health, Standing};
use crate::upstream::Address;

/// What a socket connects to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Target {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// An address that requests can be sent to.
///
/// Shared by the workers. Requests read how it stands; its lock is taken by failures, and by what
/// follows them.
pub(super) struct Endpoint {
    target: Target,
    /// What the configuration says of it.
    address: Address,
    condition: Mutex<Condition>,
    /// The condition's standing, by its place among all.
    standing: AtomicU8,
    /// An answer would change nothing about the condition.
    spotless: AtomicBool,
}

/// All that is known of how an address is.
#[derive(Default)]
pub(super) struct Condition {
    /// By requests and trials.
    pub(super) health: Health,
    /// By health checks.
    pub(super) checked: Checked,
}

impl Condition {
    fn standing(&self) -> Standing {
        if self.checked.is_unhealthy() {
            Standing::Unhealthy
        } else {
            self.health.standing()
        }
    }
}

impl Endpoint {
    /// An address in service.
    pub(super) fn new(target: Target, address: Address) -> Self {
        Self {
            target,
            address,
            condition: Mutex::default(),
            standing: AtomicU8::new(Standing::InService as u8),
            spotless: AtomicBool::new(true),
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// What `Host` says to it in a health check.
    pub(super) fn authority(&self) -> String {
        self.address.authority()
    }

    /// The host that its address names; a unix socket has none.
    pub(super) fn host(&self) -> &str {
        match &self.address {
            Address::Tcp { host, .. } => host,
            Address::Unix(_) => "",
        }
    }

    /// How it stands.
    pub(super) fn standing(&self) -> Standing {
        let place = usize::from(self.standing.load(Ordering::Relaxed));
        Standing::ALL.get(place).copied().unwrap_or_default()
    }

    /// Whether an answer would change nothing.
    pub(super) fn is_spotless(&self) -> bool {
        self.spotless.load(Ordering::Relaxed)
    }

    /// What `look` finds in its condition.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Condition) -> T) -> T {
        // Nothing panics while the lock is held.
        look(
            &self
                .condition
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        )
    }

    /// Changes its condition; how it stood before, and how it does now.
    pub(super) fn change(&self, change: impl FnOnce(&mut Condition)) -> (Standing, Standing) {
        let mut condition = self
            .condition
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = condition.standing();
        change(&mut condition);
        let after = condition.standing();
        self.standing.store(after as u8, Ordering::Relaxed);
        let spotless = condition.health.is_spotless();
        self.spotless.store(spotless, Ordering::Relaxed);
        (before, after)
    }
}
