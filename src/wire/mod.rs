//! HTTP/1.1 on the wire, as callers and upstreams both speak it: framing, bodies, messages on their way
//! out.

pub mod framing;
pub mod incoming;
pub mod message;
pub mod names;
pub mod outgoing;
pub mod plain;
pub mod scratch;
pub mod soon;
pub mod upgraded;
