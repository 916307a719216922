//! An exchange while its answer only has to be relayed: what it takes to do so, and to end it.

use crate::io::Buffer;
use crate::proxy::attempt::held::PendingAnswer;
use crate::proxy::attempt::interrupt::NoMore;
use crate::proxy::downstream::Downstream;
use crate::proxy::exchange::Exchange;
use crate::proxy::outcome::Disposition;
use crate::upstream::{Connection, Received};

/// The end of an exchange, or its place while its answer is relayed.
pub enum Handled {
    Over(Disposition),
    /// The rest of its answer only has to be relayed: for the [`Pump`](super::Pump).
    Open(Box<OpenExchange>),
}

/// An exchange whose answer's head is out and whose request is whole.
// In this order, so that what each event needs is together.
#[repr(C)]
pub struct OpenExchange {
    pub connection: Connection,
    pub answer: PendingAnswer,
    pub exchange: Exchange,
}

/// An exchange that has left the pump.
pub struct Pumped {
    pub open: Box<OpenExchange>,
    /// The bytes that the client has not taken, as they are to go over the wire.
    pub unsent: Buffer,
    pub left: LeftPump,
}

/// A stream that has left the pump, with what its owner kept with it.
pub struct LeftStream<T> {
    pub downstream: Downstream,
    pub owner: T,
    pub pumped: Pumped,
}

/// Reasons why an exchange has left the pump.
pub enum LeftPump {
    /// All that is to be done is settled by what has come of the body.
    Settled,
    /// The last read, or the limit on it, ends the body.
    NoMore(Result<Received, NoMore>),
    /// The client has left.
    ClientLeft,
    /// The client takes nothing more.
    NotTaken,
    /// It was not taken in: its sockets cannot be watched.
    Refused,
}
