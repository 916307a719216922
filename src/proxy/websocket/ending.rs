//! The ends of a socket, and what each of them comes to.

use crate::io::Buffer;
use crate::observability::Ending;
use crate::proxy::key_accounts::LimitReached;
use crate::proxy::outcome::Outcome;
use crate::proxy::websocket::answers::TunnelAnswers;

/// The longest reason of a Close frame: with its status it has 125 bytes, which is all that a control frame may have
/// (RFC 6455 §5.5), and so its length has one byte.
const REASON_BYTES_MAX: usize = 123;

/// The cause of an end that is due at the next border between two frames, of which the client is told by a Close frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CloseCause {
    /// The drain has expired.
    Restart,
    /// An answer has reached a limit of the caller's key.
    Limit(LimitReached),
}

impl CloseCause {
    /// Appends its Close frame (RFC 6455 §5.5.1 and §7.4.1; 1012, "Service Restart", by the registry of IANA).
    pub fn append_to(self, out: &mut Buffer) {
        let (status, reason) = match self {
            CloseCause::Restart => (1012_u16, String::new()),
            CloseCause::Limit(reached) => (1008, format!("This API key has reached its limit {reached}")),
        };
        let reason = reason.get(..REASON_BYTES_MAX).unwrap_or(&reason);
        out.append(&[0x88, 2 + reason.len() as u8]);
        out.append(&status.to_be_bytes());
        out.append(reason.as_bytes());
    }

    pub fn end(self) -> TunnelEnd {
        match self {
            CloseCause::Restart => TunnelEnd::Expired,
            CloseCause::Limit(_) => TunnelEnd::LimitReached,
        }
    }
}

/// One of the two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Client,
    Upstream,
}

/// The end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TunnelEnd {
    /// Both have ended their direction, this one first.
    Closed { first: Side },
    /// The connection of this side was reset, or broke.
    Lost(Side),
    /// This side took nothing for the whole limit.
    Stalled(Side),
    /// Nothing came of either for the whole limit.
    Idle,
    /// The drain has expired, and the client was told so where it could be.
    Expired,
    /// An answer has reached a limit of the caller's key, and the client was told so where it could be.
    LimitReached,
    /// The drain has expired, and the client was not told: it takes nothing, or the upstream is within a frame.
    CutOff,
}

impl TunnelEnd {
    /// Returns what the exchange comes to. Once the upstream has sent its Close frame the socket is over, however the
    /// connections end.
    pub fn outcome(self, answers: &TunnelAnswers<'_>) -> Outcome {
        let is_over = answers.has_closed();
        match self {
            // Where the frames cannot be followed nobody knows whether one was missing.
            TunnelEnd::Closed { .. } if is_over || answers.is_broken() => closed(Ending::Ok),
            TunnelEnd::Closed { first: Side::Client } => closed(Ending::ClientDisconnected),
            TunnelEnd::Closed { first: Side::Upstream } => closed(Ending::UpstreamClosed),
            TunnelEnd::Lost(_) if is_over => closed(Ending::Ok),
            TunnelEnd::Lost(Side::Client) | TunnelEnd::Stalled(Side::Client) => Outcome::CLIENT_GONE,
            TunnelEnd::Lost(Side::Upstream) => lost(Ending::UpstreamClosed),
            TunnelEnd::Stalled(Side::Upstream) => lost(Ending::Timeout),
            TunnelEnd::Idle => closed(Ending::Timeout),
            TunnelEnd::Expired | TunnelEnd::LimitReached if is_over => closed(Ending::Ok),
            TunnelEnd::Expired => closed(Ending::Shutdown),
            TunnelEnd::LimitReached => closed(Ending::Refused),
            TunnelEnd::CutOff => Outcome::CUT_OFF,
        }
    }
}

/// The client's connection is closed in good order.
fn closed(ending: Ending) -> Outcome {
    Outcome::Answered { ending, keep_alive: false }
}

/// It is reset, as the upstream's was.
fn lost(ending: Ending) -> Outcome {
    Outcome::Aborted { ending, needs_reset: true }
}
