//! What passes between an admitted caller and the upstream: heads, bodies, connections.

mod bodies;
mod connections;
mod heads;
mod upstreams;

/// Open and guarded routes, and what each suite here adds.
pub(crate) const ROUTES: &str = r#"
[[routes]]
name = "open"
prefix = "/open"
require = "nothing"

[[routes]]
name = "guarded"
prefix = "/guarded"
require = ["api_key"]

[[routes]]
name = "small"
prefix = "/small"
require = "nothing"
request_body = "1KiB"

[[routes]]
name = "bulk"
prefix = "/bulk"
require = ["api_key"]
request_body = "unlimited"

[[routes]]
name = "shown"
prefix = "/shown"
require = ["api_key"]
forward = ["api_key"]
"#;
