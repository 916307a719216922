//! TLS on the client's side: the handshake (`handshake`), and a session over a stream (`session`).

mod handshake;
pub mod session;

pub use self::handshake::{HandshakeError, accept};
