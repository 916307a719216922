//! Classification of attempts, which the table of errors, the attempts and the failover table share.

use crate::observability::RetryReason;

/// The class of an attempt that is over, by its consequences for another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptClass {
    /// There was no connection, so not a byte of the request was sent.
    Unreachable,
    /// The connection ended before the response head was whole.
    Closed,
    /// The upstream took nothing of the request for the whole write limit.
    Stalled,
    /// 502, 503, 504, or an event stream that begins with an error.
    Unavailable,
    /// 401 or 403.
    Refused,
    /// 429, or an event stream that begins with an error that says so.
    RateLimited,
    /// 404, or an error that says so, about an object that another credential may have made.
    NotFound,
    /// The exchange ends with it, well or not.
    Settled,
}

impl AttemptClass {
    /// Classifies an attempt by the status of its answer.
    pub fn of_status(status: u16) -> Self {
        match status {
            401 | 403 => AttemptClass::Refused,
            429 => AttemptClass::RateLimited,
            502..=504 => AttemptClass::Unavailable,
            _ => AttemptClass::Settled,
        }
    }

    /// The reason of another attempt; none where there is no other.
    pub fn reason(self) -> Option<RetryReason> {
        match self {
            AttemptClass::Unreachable => Some(RetryReason::Unreachable),
            AttemptClass::Closed => Some(RetryReason::UpstreamClosed),
            AttemptClass::Stalled => Some(RetryReason::WriteStalled),
            AttemptClass::Unavailable => Some(RetryReason::Unavailable),
            AttemptClass::Refused => Some(RetryReason::Refused),
            AttemptClass::RateLimited => Some(RetryReason::RateLimited),
            AttemptClass::NotFound => Some(RetryReason::NotFound),
            AttemptClass::Settled => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_the_class_of_its_attempt() {
        for (statuses, class) in [
            (&[401, 403][..], AttemptClass::Refused),
            (&[429], AttemptClass::RateLimited),
            (&[502, 503, 504], AttemptClass::Unavailable),
            (&[200, 204, 302, 400, 404, 408, 409, 500, 501, 505, 520, 529], AttemptClass::Settled),
        ] {
            for status in statuses {
                assert_eq!(AttemptClass::of_status(*status), class, "{status}");
            }
        }
    }
}
