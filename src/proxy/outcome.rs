//! The end of an exchange, and what becomes of its downstream connection.
//!
//! Invariant: a downstream connection goes on only after an exchange whose request was read whole and whose answer
//! ended well formed. [`keeps_alive`] is the one place that decides it, before the head of the answer is written, and
//! the client is told what it decides.

use crate::io::{Lifecycle, Phase};
use crate::observability::Ending;
use crate::proxy::error::GatewayError;
use crate::proxy::exchange::Progress;
use crate::proxy::reply_shape::ReplyShape;

/// The future of a downstream connection after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disposition {
    /// It serves the next request.
    KeepAlive,
    /// It is closed; the request was read whole.
    Close,
    /// It is closed; what the client still sends of the request is read and discarded first (RFC 9112 §9.6).
    Linger,
    /// It is reset: the client must not take the end for a whole answer.
    Reset,
    /// It is cut: nobody is there any more, or the framing of the answer tells that its end is missing.
    Cut,
}

/// The end of an exchange that was forwarded.
#[derive(Debug)]
pub enum Outcome {
    /// The client has an answer that ended well formed; `keep_alive` is what it was told of its connection.
    Answered { ending: Ending, keep_alive: bool },
    /// Nothing more can be said to the client. `needs_reset`: the end of the connection would look like the end of the
    /// answer.
    Aborted { ending: Ending, needs_reset: bool },
    /// Nothing went downstream.
    Failed(GatewayError),
}

impl Outcome {
    /// The client has left.
    pub const CLIENT_GONE: Outcome = Outcome::Aborted { ending: Ending::ClientDisconnected, needs_reset: false };
    /// The client has left after it had all that it asked for.
    const CLIENT_SATISFIED: Outcome = Outcome::Aborted { ending: Ending::Ok, needs_reset: false };
    /// The drain has expired, and the client still took nothing.
    pub const CUT_OFF: Outcome = Outcome::Aborted { ending: Ending::Shutdown, needs_reset: false };

    /// Tells what the exchange comes to when its client has left: some close at the event that ends the turn.
    pub fn after_departure(progress: &Progress) -> Self {
        if progress.turn_was_written() { Outcome::CLIENT_SATISFIED } else { Outcome::CLIENT_GONE }
    }
}

/// Decides whether a downstream connection outlives the exchange (RFC 9112 §9.3): the client wants it to, the next byte
/// that it sends begins another request, the answer allows it, which includes that its end can be told without the end
/// of the connection, and no drain has begun.
pub fn keeps_alive(reply: &ReplyShape, request_is_whole: bool, answer_allows: bool, lifecycle: &Lifecycle) -> bool {
    reply.keep_alive && request_is_whole && answer_allows && lifecycle.phase() == Phase::Serving
}

impl Disposition {
    /// Follows an answer that ended well formed, by what the client was told.
    pub fn after_answer(keep_alive: bool, request_is_whole: bool) -> Self {
        match (request_is_whole, keep_alive) {
            (true, true) => Disposition::KeepAlive,
            (true, false) => Disposition::Close,
            (false, _) => Disposition::Linger,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_goes_on_only_if_everything_allows_it() {
        let lifecycle = Lifecycle::default();
        lifecycle.advance(Phase::Serving);
        let asks = |keep_alive| ReplyShape { keep_alive, ..ReplyShape::UNKNOWN };
        for (keep_alive, request_is_whole, answer_allows, expected) in [
            (true, true, true, true),
            (false, true, true, false),
            (true, false, true, false),
            (true, true, false, false),
        ] {
            assert_eq!(keeps_alive(&asks(keep_alive), request_is_whole, answer_allows, &lifecycle), expected);
        }
        lifecycle.advance(Phase::Draining);
        assert!(!keeps_alive(&asks(true), true, true, &lifecycle), "during a drain");
    }

    #[test]
    fn what_is_left_of_a_request_is_read_before_the_connection_ends() {
        assert_eq!(Disposition::after_answer(true, true), Disposition::KeepAlive);
        assert_eq!(Disposition::after_answer(false, true), Disposition::Close);
        assert_eq!(Disposition::after_answer(true, false), Disposition::Linger);
        assert_eq!(Disposition::after_answer(false, false), Disposition::Linger);
    }
}
