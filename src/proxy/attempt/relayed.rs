//! The end of one attempt, as far as its answer tells, or the place where the pump takes the answer over.

use crate::io::Buffer;
use crate::proxy::attempt::held::PendingAnswer;
use crate::proxy::error::GatewayError;
use crate::proxy::outcome::Outcome;
use crate::upstream::{Connection, TransportError};

/// The end of an attempt whose connection is still to be released.
pub enum Relayed {
    /// The exchange is over.
    Over(Over),
    /// Nothing went downstream, since another answer may be better.
    Held(Box<PendingAnswer>),
    /// Nothing went downstream.
    NoAnswer(NoAnswer),
    /// The rest of the answer only has to be relayed.
    Open(Box<PendingAnswer>),
    /// The upstream has switched to WebSocket; nothing went downstream.
    Switched(Box<SwitchingAnswer>),
}

/// The answer that switches to WebSocket.
pub struct SwitchingAnswer {
    /// Its head as it goes downstream.
    pub head: Buffer,
    /// The bytes that came right behind it.
    pub received: Buffer,
}

/// That answer, with the connection that is no more HTTP after it.
pub struct Switched {
    pub answer: SwitchingAnswer,
    pub connection: Connection,
}

/// The state in which the relay of a body leaves it.
pub enum BodyRelayed {
    Over(Over),
    /// It goes on, and only has to be relayed; nothing is under way.
    Open,
}

/// An answer whose head is out and whose body goes on, with the connection that it comes over.
pub struct OpenAnswer {
    pub answer: PendingAnswer,
    pub connection: Connection,
}

/// The end of an answer that went downstream, or of its client.
#[derive(Debug)]
pub struct Over {
    pub outcome: Outcome,
    /// The upstream connection can serve another exchange.
    pub upstream_is_reusable: bool,
}

/// Reason why there is no answer to pass on.
#[derive(Debug)]
pub struct NoAnswer {
    pub error: GatewayError,
    /// The upstream sent something.
    pub has_received: bool,
    /// From the operating system or TLS, for the log.
    pub cause: Option<TransportError>,
}

impl From<Outcome> for Over {
    fn from(outcome: Outcome) -> Self {
        Over { outcome, upstream_is_reusable: false }
    }
}

impl From<Over> for BodyRelayed {
    fn from(over: Over) -> Self {
        BodyRelayed::Over(over)
    }
}

impl From<Outcome> for BodyRelayed {
    fn from(outcome: Outcome) -> Self {
        BodyRelayed::Over(outcome.into())
    }
}

impl From<Outcome> for Relayed {
    fn from(outcome: Outcome) -> Self {
        Relayed::Over(outcome.into())
    }
}

impl From<NoAnswer> for Relayed {
    fn from(no_answer: NoAnswer) -> Self {
        Relayed::NoAnswer(no_answer)
    }
}

impl NoAnswer {
    /// Nothing was received.
    pub fn silent(error: GatewayError) -> Self {
        NoAnswer { error, has_received: false, cause: None }
    }

    /// Something was received, and it is no answer.
    pub fn malformed(error: GatewayError) -> Self {
        NoAnswer { error, has_received: true, cause: None }
    }
}
