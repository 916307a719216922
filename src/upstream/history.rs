//! The past of a connection.

/// The past of a connection, before its next exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// It was opened for the exchange.
    Fresh,
    /// It was opened in advance, and has rested.
    Warm,
    /// An exchange went over it, and then it has rested.
    Used,
}

impl History {
    /// Returns whether the upstream may have closed the connection while it rested. Whatever must not be sent twice
    /// is not sent on such a connection.
    pub fn is_kept_alive(self) -> bool {
        match self {
            History::Fresh => false,
            History::Warm | History::Used => true,
        }
    }
}
