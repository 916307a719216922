//! The content of the body in a copy, without its framing, read as the copy grows.

use crate::http1::body::{BodyReader, Piece};
use crate::http1::framing::BodyLength;
use crate::proxy::replay::buffer::ReplayBuffer;

/// A place in the content of the body in one copy. A copy that drops parts between two calls is read no further.
#[derive(Debug)]
pub struct ContentCursor {
    reader: BodyReader,
    part: usize,
    offset: usize,
    read_bytes: usize,
}

impl ContentCursor {
    /// Begins after a head of `head_bytes`, which stands at the beginning of the copy, before a body of this length.
    pub fn new(head_bytes: usize, length: BodyLength) -> Self {
        ContentCursor { reader: BodyReader::new(length), part: 0, offset: head_bytes, read_bytes: 0 }
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
            self.read_bytes += new.len();
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

    /// Returns whether the copy holds what was not read.
    pub fn has_more(&self, replay: &ReplayBuffer) -> bool {
        replay.part(self.part).is_some_and(|part| part.len() > self.offset || replay.part(self.part + 1).is_some())
    }

    /// Returns whether the whole body was read.
    pub fn is_complete(&self) -> bool {
        self.reader.is_complete()
    }

    /// Returns how many bytes of the body were read, with its framing.
    pub fn read_bytes(&self) -> usize {
        self.read_bytes
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
                    assert!(cursor.has_more(&replay) && !cursor.is_complete());
                    while cursor.read_part(&replay, |piece| content.extend_from_slice(piece)) {}
                    assert!(!cursor.has_more(&replay));
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
    #[test]
    fn a_copy_that_drops_what_was_not_read_is_read_no_further() {
        let budget = ReplayBudget::new(Arc::new(AtomicUsize::new(TOTAL)), TOTAL, 1);
        let mut replay = ReplayBuffer::default();
        replay.begin(&budget).extend_from_slice(HEAD);
        (0..4).for_each(|part| assert!(replay.push(&[part; PLAINTEXT_MAX], TOTAL, &budget)));
        let mut cursor = ContentCursor::new(HEAD.len(), BodyLength::Known(5 * PLAINTEXT_MAX as u64));
        let mut content = Vec::new();
        (0..2).for_each(|_| assert!(cursor.read_part(&replay, |piece| content.extend_from_slice(piece))));
        (0..4).for_each(|_| replay.mark_sent(replay.unsent().len()));
        replay.stop_keeping(&budget);
        replay.push(&[4; PLAINTEXT_MAX], TOTAL, &budget);
        while cursor.read_part(&replay, |piece| content.extend_from_slice(piece)) {}
        assert!(content.iter().all(|byte| *byte < 2), "a part was left out");
        // A new request is read from its beginning again.
        replay.begin(&budget).extend_from_slice(HEAD);
        assert_eq!(replay.part(0), Some(HEAD));
    }
}
