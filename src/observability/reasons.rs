//! Reasons that the log and the metrics give by the same names.

/// The reason of a further attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetryReason {
    /// There was no connection to the upstream.
    Unreachable,
    /// The upstream closed the connection before it answered.
    UpstreamClosed,
    /// The upstream took nothing of the request for too long.
    WriteStalled,
    /// The upstream answered that it cannot serve the request now.
    Unavailable,
    /// The upstream refused the credential.
    Refused,
    /// The upstream limited the credential's rate.
    RateLimited,
    /// The upstream knows no such object, which another credential may have made.
    NotFound,
}

impl RetryReason {
    pub const ALL: [RetryReason; 7] = [
        RetryReason::Unreachable,
        RetryReason::UpstreamClosed,
        RetryReason::WriteStalled,
        RetryReason::Unavailable,
        RetryReason::Refused,
        RetryReason::RateLimited,
        RetryReason::NotFound,
    ];

    /// Returns its name in the log and as the label `reason` of `flow_uring_retries_total`.
    pub fn as_str(self) -> &'static str {
        match self {
            RetryReason::Unreachable => "unreachable",
            RetryReason::UpstreamClosed => "upstream_closed",
            RetryReason::WriteStalled => "write_stalled",
            RetryReason::Unavailable => "unavailable",
            RetryReason::Refused => "refused",
            RetryReason::RateLimited => "rate_limited",
            RetryReason::NotFound => "not_found",
        }
    }
}

/// The reason of a cooldown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CooldownReason {
    /// The upstream refused it.
    Refused,
    /// The upstream limited its rate.
    RateLimited,
}

impl CooldownReason {
    /// Returns its name in the log and on the readiness page.
    pub fn as_str(self) -> &'static str {
        match self {
            CooldownReason::Refused => "refused",
            CooldownReason::RateLimited => "rate_limited",
        }
    }
}
