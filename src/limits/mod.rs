//! Rate limits a caller, bounded in memory.

use crate::rules::bucket::Rate;

/// The limits that hold for every route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Unknown credentials a client address; an IPv6 client is its /64.
    pub failed_authentications: Rate,
}
