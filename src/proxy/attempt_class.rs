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
    /// 502, 503, 504, 529, or an event stream that begins with an error.
    Unavailable,
    /// 401: it is not known who asks.
    Unauthorized,
    /// 403: who asks may not do this.
    Forbidden,
    /// 429, or an event stream that begins with an error that says so.
    RateLimited,
    /// 404, or an error that says so, about an object that another credential may have made.
    NotFound,
    /// 402, or an error that says so: there is nothing left of a quota.
    QuotaUsedUp,
    /// 2xx: the only evidence that another credential was to blame for its answer to the same request.
    Succeeded,
    /// The exchange ends with it in another way.
    Settled,
}

impl AttemptClass {
    /// Classifies an attempt by the status of its answer.
    pub fn of_status(status: u16) -> Self {
        match status {
            200..=299 => AttemptClass::Succeeded,
            401 => AttemptClass::Unauthorized,
            402 => AttemptClass::QuotaUsedUp,
            403 => AttemptClass::Forbidden,
            429 => AttemptClass::RateLimited,
            502..=504 | 529 => AttemptClass::Unavailable,
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
            AttemptClass::Unauthorized | AttemptClass::Forbidden => Some(RetryReason::Refused),
            AttemptClass::RateLimited => Some(RetryReason::RateLimited),
            AttemptClass::NotFound => Some(RetryReason::NotFound),
            AttemptClass::QuotaUsedUp => Some(RetryReason::QuotaUsedUp),
            AttemptClass::Succeeded | AttemptClass::Settled => None,
        }
    }

    /// Returns whether it is an answer that says no to who asks.
    pub fn is_refusal(self) -> bool {
        matches!(self, AttemptClass::Unauthorized | AttemptClass::Forbidden)
    }

    /// Returns whether it is an answer that another credential may not get.
    pub fn is_of_credential(self) -> bool {
        self.is_refusal() || matches!(self, AttemptClass::RateLimited | AttemptClass::QuotaUsedUp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_tells_the_class_of_its_attempt() {
        for (statuses, class) in [
            (&[200, 201, 204, 206, 299][..], AttemptClass::Succeeded),
            (&[401], AttemptClass::Unauthorized),
            (&[402], AttemptClass::QuotaUsedUp),
            (&[403], AttemptClass::Forbidden),
            (&[429], AttemptClass::RateLimited),
            (&[502, 503, 504, 529], AttemptClass::Unavailable),
            (&[302, 304, 400, 404, 408, 409, 500, 501, 505, 520, 528], AttemptClass::Settled),
        ] {
            for status in statuses {
                assert_eq!(AttemptClass::of_status(*status), class, "{status}");
            }
        }
    }
}
