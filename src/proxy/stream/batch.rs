//! The bytes of one turn on their way downstream: collected from all streams that are ready, then sent one by one.
//!
//! To send them together keeps the code and the memory of each step in the caches, and lets clients of this machine
//! sleep until all is there. Invariant: what came for a client is contiguous, and sent in the same turn.

use std::ops::Range;

use crate::io::Buffer;
use crate::io::epoll::Token;

/// Bytes from which on a batch is sent before more is collected: what one read brings still fits after them.
const BATCH_BYTES: usize = 64 * 1024;

/// The bytes of some streams.
pub struct Batch {
    /// Lent to the stream that is being followed.
    pub out: Buffer,
    /// The one buffer that all connections are received into, one after the other.
    pub scratch: Buffer,
    parts: Vec<Part>,
}

/// The bytes of one stream.
pub struct Part {
    pub token: Token,
    pub bytes: Range<usize>,
}

impl Batch {
    pub fn new() -> Self {
        let mut out = Buffer::none();
        out.reserve(2 * BATCH_BYTES);
        Batch { out, scratch: Buffer::take(), parts: Vec::new() }
    }

    pub fn is_full(&self) -> bool {
        self.out.len() >= BATCH_BYTES
    }

    /// Adds all that was appended since `start` as that of a stream.
    pub fn add(&mut self, token: Token, start: usize) {
        if self.out.len() > start {
            self.parts.push(Part { token, bytes: start..self.out.len() });
        }
    }

    /// Sends each part by `send`. Empty afterwards.
    pub fn send_all(&mut self, mut send: impl FnMut(Token, &[u8])) {
        for Part { token, bytes } in self.parts.drain(..) {
            send(token, &self.out.filled()[bytes]);
        }
        self.out.clear();
    }
}
