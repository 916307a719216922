//! Why two gateways did not come to terms, in words that fit behind a colon.

use std::fmt;
use std::io;

use super::protocol::VERSION;

/// Why a conversation came to nothing.
#[derive(Debug)]
pub enum ConversationError {
    /// Of another user than this process.
    OtherUser {
        uid: u32,
    },
    /// Not what this version says at this point.
    Unexpected,
    /// The other speaks this one.
    Version(u8),
    /// The other took too long for a step.
    Stalled,
    /// The other goes on without this one.
    Refused,
    /// The other has gone.
    Closed,
    Io(io::Error),
}

impl fmt::Display for ConversationError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConversationError::OtherUser { uid } => {
                write!(formatter, "the other process is user {uid}'s, not this user's or root's")
            }
            ConversationError::Unexpected => formatter.write_str("the other process said something unexpected"),
            ConversationError::Version(version) => write!(
                formatter,
                "the other process speaks version {version} of the take-over and this one version {VERSION}: stop it first"
            ),
            ConversationError::Stalled => formatter.write_str("the other process said nothing for too long"),
            ConversationError::Refused => formatter.write_str("the other process refused"),
            ConversationError::Closed => formatter.write_str("the other process ended the conversation"),
            ConversationError::Io(error) => error.fmt(formatter),
        }
    }
}

impl std::error::Error for ConversationError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ConversationError::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for ConversationError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => ConversationError::Stalled,
            io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof => {
                ConversationError::Closed
            }
            _ => ConversationError::Io(error),
        }
    }
}
