//! The bytes of the take-over's protocol that both sides share.

/// The version of the protocol, to be raised when it changes.
pub const VERSION: u8 = 1;
/// The first bytes of both sides.
pub const MAGIC: [u8; 7] = *b"flow-to";
/// The successor serves on the sockets.
pub const READY: u8 = b'R';
/// The running gateway accepts no more.
pub const FAREWELL: u8 = b'F';
/// The running gateway goes on, or cannot give the sockets away any more.
pub const REFUSAL: u8 = b'N';

/// Returns the first message of both sides: the magic bytes and the version.
pub fn hello() -> [u8; 8] {
    let mut hello = [VERSION; 8];
    hello[..MAGIC.len()].copy_from_slice(&MAGIC);
    hello
}
