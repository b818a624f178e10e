//! What strangers send, and what must hold whatever they send.
//!
//! One function a target, each in the file of its name. A function panics where a property does not
//! hold; what it takes for granted is written beside it. `fuzz_targets/` only hands it the input.
//!
//! Some modules are taken over from gatelet's own sources, where they are private to a room or to
//! its tests: they are the same text, and nothing is made public for the sake of fuzzing.

// The names under which the modules that are taken over know them.
use gatelet::{rules, wire};

mod certificates;
mod configuration;
mod connection;
mod cookies;
mod credentials;
mod forwarded;
mod frames;
mod headers;
mod heads;
mod jwks;
mod jwt;
mod log;
mod origins;
mod paths;
mod proxy_protocol;
mod request;
mod response;
mod siwe;

pub use certificates::certificates;
pub use configuration::configuration;
pub use connection::{http1, http2};
pub use cookies::cookies;
pub use credentials::credentials;
pub use forwarded::forwarded;
pub use frames::frames;
pub use headers::headers;
pub use heads::heads;
pub use jwks::jwks;
pub use jwt::jwt;
pub use log::log;
pub use origins::origins;
pub use paths::paths;
pub use proxy_protocol::proxy_protocol;
pub use response::response;
pub use siwe::siwe;
