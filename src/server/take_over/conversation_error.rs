//! The errors of a take-over between two gateways, in words that fit after a colon.

use std::fmt;
use std::io;

use super::protocol::VERSION;

/// The error that ended a conversation.
#[derive(Debug)]
pub enum ConversationError {
    /// The other process belongs to another user.
    OtherUser {
        uid: u32,
    },
    /// The message is not one of this version at this step.
    Unexpected,
    /// The other process speaks this version.
    Version(u8),
    /// The other process took too long for a step.
    Stalled,
    /// The other process refused the take-over.
    Refused,
    /// The other process has closed the connection.
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
