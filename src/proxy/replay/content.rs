//! The content of the body in a copy, without its framing, read as the copy grows.

use crate::http1::body::{BodyReader, Piece};
use crate::http1::framing::BodyLength;
use crate::proxy::replay::buffer::ReplayBuffer;

/// A place in the content of the body in one copy. Nothing of the copy may be dropped between two calls.
#[derive(Debug)]
pub struct ContentCursor {
    reader: BodyReader,
    part: usize,
    offset: usize,
}

impl ContentCursor {
    /// Begins after a head of `head_bytes`, which stands at the beginning of the copy, before a body of this length.
    pub fn new(head_bytes: usize, length: BodyLength) -> Self {
        ContentCursor { reader: BodyReader::new(length), part: 0, offset: head_bytes }
    }

    /// Reads the rest of one part of the copy, and gives `take` its content, piece by piece. Returns whether there was
    /// anything.
    pub fn read_part(&mut self, replay: &ReplayBuffer, mut take: impl FnMut(&[u8])) -> bool {
        while let Some(part) = replay.part(self.part) {
            let new = part.get(self.offset..).unwrap_or_default();
            if new.is_empty() && replay.part(self.part + 1).is_some() {
                (self.part, self.offset) = (self.part + 1, 0);
                continue;
            }
            self.offset += new.len();
            // What is malformed was refused when it came.
            let _ = self.reader.read(new, |piece| {
                if let Piece::Data(content) = piece {
                    take(content);
                }
            });
            return !new.is_empty();
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;

    use super::*;
    use crate::io::buffer::PLAINTEXT_MAX;
    use crate::proxy::replay::budget::ReplayBudget;

    const TOTAL: usize = 1 << 20;
    const HEAD: &[u8] = b"head;";

    #[test]
    fn each_byte_is_read_once_however_it_came_and_never_more_than_has_come() {
        let body: Vec<u8> = (0..200_000_usize).map(|index| index as u8).collect();
        let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        let chunked = body.chunks(777).flat_map(chunk).collect();
        for (framed, length) in [(&body, BodyLength::Known(body.len() as u64)), (&chunked, BodyLength::Chunked)] {
            for read in [1000, 16_384, PLAINTEXT_MAX] {
                let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(TOTAL)), TOTAL, 1);
                let mut replay = ReplayBuffer::default();
                replay.begin(&budget).extend_from_slice(HEAD);
                let mut cursor = ContentCursor::new(HEAD.len(), length);
                let mut content = Vec::new();
                for part in framed.chunks(read) {
                    assert!(replay.push(part, TOTAL, &budget));
                    let before = content.len();
                    while cursor.read_part(&replay, |piece| content.extend_from_slice(piece)) {}
                    assert!(content.len() - before <= part.len());
                    assert!(content == body[..content.len()]);
                }
                assert_eq!(content.len(), body.len());
            }
        }
    }

    #[test]
    fn a_long_copy_is_read_a_part_at_a_time() {
        let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(TOTAL)), TOTAL, 1);
        let mut replay = ReplayBuffer::default();
        replay.begin(&budget).extend_from_slice(HEAD);
        (0..20).for_each(|_| assert!(replay.push(&[7; PLAINTEXT_MAX], TOTAL, &budget)));
        let mut cursor = ContentCursor::new(HEAD.len(), BodyLength::Known(20 * PLAINTEXT_MAX as u64));
        let mut calls = 0;
        loop {
            let mut bytes = 0;
            if !cursor.read_part(&replay, |piece| bytes += piece.len()) {
                break;
            }
            calls += 1;
            assert!(bytes <= PLAINTEXT_MAX, "{bytes} in one call");
        }
        assert_eq!(calls, 20);
    }
}
