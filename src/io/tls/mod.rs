//! TLS with clients: all handshakes of a shard (`handshakes`), one of them (`handshake`), and a session over a stream
//! (`session`).

mod handshake;
mod handshakes;
pub mod session;

pub use self::handshake::HandshakeError;
pub use self::handshakes::{HandshakeLimits, Handshakes};
