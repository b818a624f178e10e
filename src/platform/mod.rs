//! What the program takes from its machine: clock, entropy and names, which tests replace, and signals.
//!
//! The only place that reads the clock or the random generator.

mod alive;
mod clock;
mod entropy;
mod files;
mod gather;
mod keepalive;
mod loopback;
mod resolver;
pub mod signal;
mod tls;

use std::sync::Arc;

pub use alive::{Alive, Ended, Hold, alive};
pub use clock::{Clock, Monotonic, SystemClock};
pub use entropy::{Entropy, SystemEntropy};
pub use files::raise_open_files;
pub use gather::poll_write_gathered;
pub use keepalive::ask_after;
pub use loopback::spare_congestion_control;
pub use resolver::{Resolver, Resolving, SystemResolver};
pub use tls::{Authorities, BadIdentity, Identity};

/// What the program takes from the machine it runs on.
#[derive(Clone)]
pub struct Platform {
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes secrets and identifiers.
    pub entropy: Arc<dyn Entropy>,
    /// Tells what addresses names have.
    pub resolver: Arc<dyn Resolver>,
}

impl Platform {
    /// The real clock, and the operating system's random generator and resolver.
    pub fn system() -> Self {
        Self {
            clock: Arc::new(SystemClock::new()),
            entropy: Arc::new(SystemEntropy),
            resolver: Arc::new(SystemResolver),
        }
    }
}
