//! The values that labels can have: closed sets, so that no request can make a series.

use http::StatusCode;

/// A closed set of label values. Each set's counters lie in the order of its `ALL`.
macro_rules! label {
    (
        $(#[$doc:meta])*
        $set:ident { $($(#[$value_doc:meta])* $value:ident = $name:literal,)+ }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $set {
            $($(#[$value_doc])* $value,)+
        }

        impl $set {
            /// Every value.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$value),+];

            /// The label's value.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$value => $name,)+
                }
            }
        }
    };
}

label! {
    /// The first digit of an answer's status.
    StatusClass {
        /// Informational; of final answers only 101, an upgrade.
        Informational = "1xx",
        /// Success.
        Success = "2xx",
        /// Redirection.
        Redirection = "3xx",
        /// The caller's doing, 499 included: it went away.
        ClientError = "4xx",
        /// The server's doing.
        ServerError = "5xx",
    }
}

impl StatusClass {
    /// The class of a status; what an upstream makes up beyond 599 counts as the server's doing.
    pub fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            ..=199 => Self::Informational,
            200..=299 => Self::Success,
            300..=399 => Self::Redirection,
            400..=499 => Self::ClientError,
            500.. => Self::ServerError,
        }
    }
}

label! {
    /// What gatelet made of a request, whatever the upstream then said.
    Outcome {
        /// It was let in.
        Allow = "allow",
        /// It was turned away.
        Deny = "deny",
        /// Something broke before it could be judged or answered.
        Fault = "fault",
    }
}

label! {
    /// What is remembered of the store.
    Cache {
        /// Verdicts on API keys.
        ApiKey = "api_key",
        /// Access tokens that were verified.
        AccessToken = "access_token",
        /// What is known of session tokens.
        SessionToken = "session_token",
    }
}

label! {
    /// What became of a sign-in.
    SignIn {
        /// The wallet was signed in.
        Accepted = "accepted",
        /// It was refused.
        Refused = "refused",
        /// Something broke.
        Failed = "failed",
    }
}

label! {
    /// What became of a refresh token.
    Refresh {
        /// It was rotated.
        Rotated = "rotated",
        /// Its successor was answered again.
        Repeated = "repeated",
        /// It came back out of turn, and its family was ended.
        Reused = "reused",
        /// It was refused.
        Refused = "refused",
        /// Something broke.
        Failed = "failed",
    }
}

label! {
    /// What became of a session's prolongation.
    SessionTouch {
        /// It is written together with another one of the same session.
        Coalesced = "coalesced",
        /// It was written.
        Written = "written",
    }
}

label! {
    /// What a look into a cache found.
    CacheResult {
        /// A credential known to be there.
        Hit = "hit",
        /// A credential known not to be there.
        Negative = "negative",
        /// Nothing: the store is asked.
        Miss = "miss",
    }
}

label! {
    /// What became of fetching the keys that a trusted issuer publishes.
    IssuerFetch {
        /// They are at hand.
        Succeeded = "succeeded",
        /// They are not; what was fetched before is used meanwhile.
        Failed = "failed",
    }
}

label! {
    /// What the store is asked for.
    StoreOperation {
        /// A record with its version.
        Load = "load",
        /// A record swapped against its version, together with an event.
        Swap = "swap",
        /// The events since an id.
        Events = "events",
    }
}

label! {
    /// How an address of an upstream stands.
    AddressState {
        /// It takes requests.
        InService = "in_service",
        /// It failed, and is tried again after a back-off.
        Ejected = "ejected",
        /// It does not pass the health check.
        Unhealthy = "unhealthy",
    }
}

label! {
    /// Which listener a connection came in by.
    Listener {
        /// Guarded traffic.
        Proxy = "proxy",
        /// Metrics and probes.
        Telemetry = "telemetry",
    }
}

label! {
    /// Why a connection ended that should not have.
    ConnectionError {
        /// Its request head took too long.
        HeadTimeout = "head_timeout",
        /// What it sent is not HTTP.
        Protocol = "protocol",
        /// TLS was not agreed upon, or not in time.
        Tls = "tls",
        /// It flooded its connection with frames that carry nothing.
        Flood = "flood",
        /// A trusted proxy did not say who is calling, though it has to.
        ProxyProtocol = "proxy_protocol",
        /// The socket failed.
        Io = "io",
        /// As many as allowed were open already.
        Overloaded = "overloaded",
    }
}

label! {
    /// What became of a changed configuration.
    Reload {
        /// It is in force.
        Applied = "applied",
        /// It is invalid; the one before stays in force.
        Rejected = "rejected",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_a_class() {
        let class = |status: u16| StatusClass::of(StatusCode::from_u16(status).unwrap()).name();
        assert_eq!(class(101), "1xx");
        assert_eq!(class(200), "2xx");
        assert_eq!(class(304), "3xx");
        assert_eq!(class(499), "4xx");
        assert_eq!(class(504), "5xx");
        assert_eq!(class(999), "5xx");
    }
}
