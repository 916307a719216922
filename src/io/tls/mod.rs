//! TLS with clients: the handshake (`handshake`), and a session over a stream (`session`).

mod handshake;
pub mod session;

pub use self::handshake::{HandshakeError, accept};
