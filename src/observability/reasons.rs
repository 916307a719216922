//! Reasons of further attempts, which the log and the metrics give by the same names.

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
    /// The upstream said that the credential has used a quota up.
    QuotaUsedUp,
    /// The upstream knows no such object, which another credential may have made.
    NotFound,
}

impl RetryReason {
    pub const ALL: [RetryReason; 8] = [
        RetryReason::Unreachable,
        RetryReason::UpstreamClosed,
        RetryReason::WriteStalled,
        RetryReason::Unavailable,
        RetryReason::Refused,
        RetryReason::RateLimited,
        RetryReason::QuotaUsedUp,
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
            RetryReason::QuotaUsedUp => "quota_used_up",
            RetryReason::NotFound => "not_found",
        }
    }
}
