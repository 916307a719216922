//! TLS with clients: all handshakes of a shard (`handshakes`), one of them (`handshake`), a session over a stream
//! (`session`), and the records that the stream consists of (`records`).

mod handshake;
mod handshakes;
mod records;
pub mod session;

pub use self::handshake::HandshakeError;
pub use self::handshakes::{HandshakeLimits, Handshakes};
