//! The shape of an event: all but its text. Nearly all events of a stream have the same one, which tells where the text
//! is, and that there is nothing else, without a search.
//!
//! Invariant: a shape is known again by its length and a hash of 64 bits. Nobody but the upstream chooses it, to whom
//! one of the same hash would only do a wrong count.

use crate::usage::answer::text_key::TextKey;

/// The number of events in a row of other shapes after which none is expected any more: those of Responses are numbered.
const MISSES_MAX: u8 = 8;

/// An odd number without a pattern in its bits: the golden ratio's, as is usual in such hashes.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;

/// The bytes that are hashed at once.
const BLOCK_BYTES: usize = 16;

/// The shape of the last event that had one text alone, by the key that was usual then.
#[derive(Debug, Clone, Copy)]
pub struct EventShape {
    hash: u64,
    /// The length before the text; 0: no shape is known.
    before: u16,
    after: u16,
    key: TextKey,
    /// The events since one had the shape.
    misses: u8,
}

impl EventShape {
    pub const fn new() -> Self {
        EventShape { hash: 0, before: 0, after: 0, key: TextKey::Content, misses: 0 }
    }

    /// Returns the length of the text of an event that has this shape and key.
    pub fn text_length(&mut self, line: &[u8], key: TextKey) -> Option<usize> {
        if self.before == 0 || self.key != key || self.misses == MISSES_MAX {
            return None;
        }
        let length = self.matched(line);
        self.misses = if length.is_some() { 0 } else { self.misses + 1 };
        length
    }

    fn matched(&self, line: &[u8]) -> Option<usize> {
        let (before, rest) = line.split_at_checked(usize::from(self.before))?;
        let (text, after) = rest.split_at_checked(string_length(rest))?;
        let is_same = after.len() == usize::from(self.after) && hash(before, after) == self.hash;
        is_same.then_some(text.len())
    }

    /// Takes the shape of an event that was searched, in which this is the only text of the key.
    pub fn learn(&mut self, line: &[u8], key: TextKey, text_at: usize, length: usize) {
        let (before, after) = (&line[..text_at], &line[text_at + length..]);
        if self.misses < MISSES_MAX
            && let (Ok(before_length), Ok(after_length)) = (before.len().try_into(), after.len().try_into())
        {
            let hash = hash(before, after);
            *self = EventShape { hash, before: before_length, after: after_length, key, misses: self.misses };
        }
    }
}

/// The length of a string, of which `text` begins after its first quote.
pub fn string_length(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr::memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        at += 2;
    }
    text.len()
}

fn hash(before: &[u8], after: &[u8]) -> u64 {
    let [one, other] = mixed(mixed([FACTOR, !FACTOR], before), after);
    one ^ other.rotate_left(32)
}

/// Mixes bytes into two lanes, which do not wait for each other.
fn mixed(mut lanes: [u64; 2], bytes: &[u8]) -> [u64; 2] {
    let (blocks, rest) = bytes.as_chunks::<BLOCK_BYTES>();
    for block in blocks {
        lanes = mixed_block(lanes, block);
    }
    let last = bytes.last_chunk::<BLOCK_BYTES>().copied().unwrap_or_else(|| {
        let mut block = [0; BLOCK_BYTES];
        block[..rest.len()].copy_from_slice(rest);
        block
    });
    mixed_block(lanes, &last)
}

fn mixed_block(lanes: [u64; 2], block: &[u8; BLOCK_BYTES]) -> [u64; 2] {
    let (halves, _) = block.as_chunks::<8>();
    // A product's high bits depend on all, its low ones on few.
    let mix = |lane: u64, half: &[u8; 8]| (lane ^ u64::from_le_bytes(*half)).wrapping_mul(FACTOR).rotate_left(29);
    [mix(lanes[0], &halves[0]), mix(lanes[1], &halves[1])]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_of_the_same_shape_tells_the_length_of_its_text() {
        let line = br#"{"id":"chatcmpl-1","delta":{"content":"ab"},"usage":null}"#;
        let at = 39;
        assert_eq!(&line[at..at + 2], b"ab");
        let cases: [(&[u8], Option<usize>); 8] = [
            (br#"{"id":"chatcmpl-1","delta":{"content":"ab"},"usage":null}"#, Some(2)),
            (br#"{"id":"chatcmpl-1","delta":{"content":"a\"\\"},"usage":null}"#, Some(5)),
            (br#"{"id":"chatcmpl-1","delta":{"content":""},"usage":null}"#, Some(0)),
            (br#"{"id":"chatcmpl-2","delta":{"content":"ab"},"usage":null}"#, None),
            (br#"{"id":"chatcmpl-1","delta":{"content":"ab"},"usage":true}"#, None),
            (br#"{"id":"chatcmpl-1","delta":{"content":"ab"},"usage":null }"#, None),
            (br#"{"id":"chatcmpl-1","delta":{"content":"ab"#, None),
            (b"{}", None),
        ];
        for (other, length) in cases {
            let mut shape = EventShape::new();
            assert_eq!(shape.text_length(line, TextKey::Content), None, "none is known");
            shape.learn(line, TextKey::Content, at, 2);
            assert_eq!(shape.text_length(other, TextKey::Content), length, "{}", other.escape_ascii());
            assert_eq!(shape.text_length(line, TextKey::Text), None, "it is of another key");
        }
    }

    #[test]
    fn after_many_other_shapes_none_is_expected() {
        let mut shape = EventShape::new();
        let lines = (0..20).map(|number| format!(r#"{{"sequence_number":{number},"delta":"a"}}"#));
        for line in lines {
            assert_eq!(shape.text_length(line.as_bytes(), TextKey::Delta), None);
            shape.learn(line.as_bytes(), TextKey::Delta, line.len() - 3, 1);
        }
        assert_eq!(shape.misses, MISSES_MAX);
        shape.learn(b"{\"delta\":\"a\"}", TextKey::Delta, 10, 1);
        assert_eq!(shape.text_length(b"{\"delta\":\"a\"}", TextKey::Delta), None);
    }

    #[test]
    fn each_byte_of_a_shape_counts() {
        for length in 0..40 {
            let bytes = vec![b'a'; length];
            for at in 0..length {
                let mut other = bytes.clone();
                other[at] = b'b';
                assert_ne!(hash(&other, b"x"), hash(&bytes, b"x"));
                assert_ne!(hash(b"x", &other), hash(b"x", &bytes));
            }
        }
    }
}
