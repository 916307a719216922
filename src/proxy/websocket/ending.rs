//! The ends of a socket, and what each of them comes to.

use crate::observability::Ending;
use crate::proxy::outcome::Outcome;
use crate::proxy::websocket::answers::TunnelAnswers;

/// The Close frame of a server with the status 1012, "Service Restart" (RFC 6455 §5.5.1, §7.4 and the registry of IANA).
pub const SERVICE_RESTART: [u8; 4] = [0x88, 0x02, 0x03, 0xF4];

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
    /// The client was not told: it takes nothing, or the upstream is within a frame.
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
            TunnelEnd::Expired => closed(Ending::Shutdown),
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
