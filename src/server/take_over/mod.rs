//! The take-over of a running gateway's listening sockets by its successor, from both sides.
//!
//! The running gateway offers them (`hand_over`) at a socket that both find by their address (`rendezvous`), the successor
//! asks for them there (`predecessor`), and both speak one protocol (`conversation`, `descriptors`).

mod conversation;
mod conversation_error;
mod descriptors;
pub mod hand_over;
pub mod predecessor;
pub mod rendezvous;

pub use conversation_error::ConversationError;
