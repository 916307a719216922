//! A request that is written anew from what its copy holds, part by part: with another head, its body framed by its
//! length, and ranges of its content left out.
//!
//! Invariant: each byte is moved once, and beside the copy's own memory there is one buffer more at a time, however
//! long the body.

use std::collections::VecDeque;
use std::ops::Range;

use crate::http1::body::{BodyReader, Piece};
use crate::http1::framing::BodyLength;
use crate::io::Buffer;
use crate::proxy::replay::budget::ReplayBudget;
use crate::proxy::replay::buffer::ReplayBuffer;

/// A rewrite under way. Until its end the copy is not to be sent, only to be released.
pub struct Rewrite<'a> {
    replay: &'a mut ReplayBuffer,
    /// The parts that are still to be read.
    old: VecDeque<Buffer>,
    /// The length of the head in the first of them.
    head_bytes: usize,
    reader: BodyReader,
    cuts: CutRanges,
    body_bytes: usize,
}

impl<'a> Rewrite<'a> {
    /// Begins with `head`, in the place of one of `head_bytes`. `length` is that of the body that is held, all of it,
    /// and `cuts` are ranges of its content, in order. Nothing of the copy was sent, and it is whole.
    pub fn begin(
        replay: &'a mut ReplayBuffer,
        head_bytes: usize,
        head: &[u8],
        length: BodyLength,
        cuts: Vec<Range<usize>>,
    ) -> Self {
        let old = replay.take_parts();
        // In one part, in which the token can be replaced.
        replay.append(head);
        replay.mark_head_secret();
        let cuts = CutRanges { ranges: cuts.into(), place: 0 };
        Rewrite { replay, old, head_bytes, reader: BodyReader::new(length), cuts, body_bytes: 0 }
    }

    /// Goes on with one part, of at most [`CAPACITY`](crate::io::buffer::CAPACITY) bytes unless the head is longer.
    /// Returns whether more is to be done.
    pub fn step(&mut self) -> bool {
        let Rewrite { replay, old, head_bytes, reader, cuts, body_bytes } = self;
        let Some(part) = old.pop_front() else { return false };
        let body = part.filled().get(std::mem::take(head_bytes)..).unwrap_or_default();
        let read = reader.read(body, |piece| {
            if let Piece::Data(content) = piece {
                cuts.keep(content, |kept| {
                    *body_bytes += kept.len();
                    replay.put_back(kept);
                });
            }
        });
        debug_assert!(read.is_ok(), "it was read before");
        !old.is_empty()
    }

    /// Ends, and returns to the budget what is no longer held.
    pub fn end(self, budget: &ReplayBudget) {
        debug_assert!(self.old.is_empty());
        self.replay.shrink_to(self.body_bytes, budget);
    }
}

/// Ranges to leave out of a content that comes in pieces.
struct CutRanges {
    /// Those that do not end before `place`.
    ranges: VecDeque<Range<usize>>,
    place: usize,
}

impl CutRanges {
    /// Takes the next piece, and gives `kept` what stays of it.
    fn keep(&mut self, piece: &[u8], mut kept: impl FnMut(&[u8])) {
        let mut rest = piece;
        while !rest.is_empty() {
            let (length, stays) = match self.ranges.front() {
                None => (rest.len(), true),
                Some(cut) if self.place < cut.start => (cut.start - self.place, true),
                Some(cut) if self.place < cut.end => (cut.end - self.place, false),
                Some(_) => {
                    self.ranges.pop_front();
                    continue;
                }
            };
            let (first, after) = rest.split_at(length.min(rest.len()));
            if stays {
                kept(first);
            }
            self.place += first.len();
            rest = after;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use proptest::prelude::*;

    use super::*;
    use crate::io::buffer::{CAPACITY, PLAINTEXT_MAX};

    const TOTAL: usize = 1 << 22;
    const HEAD: &[u8] = b"head: <one>;";

    fn budget() -> (Arc<AtomicUsize>, ReplayBudget) {
        let process_free = Arc::new(AtomicUsize::new(TOTAL));
        (process_free.clone(), ReplayBudget::new(process_free, TOTAL, 1))
    }

    /// Holds a request with `body`, which comes in reads of so many bytes.
    fn held(body: &[u8], read: usize, budget: &ReplayBudget) -> ReplayBuffer {
        let mut replay = ReplayBuffer::default();
        replay.begin(budget).extend_from_slice(HEAD);
        body.chunks(read).for_each(|part| assert!(replay.push(part, TOTAL, budget)));
        replay
    }

    fn sent(replay: &mut ReplayBuffer) -> Vec<u8> {
        let mut sent = Vec::new();
        while !replay.unsent().is_empty() {
            sent.extend_from_slice(replay.unsent());
            replay.mark_sent(replay.unsent().len());
        }
        sent
    }

    fn without(body: &[u8], cuts: &[Range<usize>]) -> Vec<u8> {
        let is_cut = |place: &usize| cuts.iter().any(|cut| cut.contains(place));
        (0..body.len()).filter(|place| !is_cut(place)).map(|place| body[place]).collect()
    }

    fn body(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|index| index as u8).collect()
    }

    fn in_chunks(body: &[u8], size: usize) -> Vec<u8> {
        let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
        let mut all: Vec<u8> = body.chunks(size).flat_map(chunk).collect();
        all.extend_from_slice(b"0\r\nX-Trailer: t\r\n\r\n");
        all
    }

    #[test]
    fn a_rewritten_request_is_sent_anew_and_takes_what_it_is_long() {
        let (process_free, budget) = budget();
        for (came, cut) in
            [(100_000, 0..1), (100_000, 20_000..100_000), (100_000, 30_000..97_232), (3, 1..1), (9, 0..9)]
        {
            let whole = body(came);
            let mut replay = held(&whole, 16_000, &budget);
            let length = BodyLength::Known(came as u64);
            let mut rewrite = Rewrite::begin(&mut replay, HEAD.len(), b"another: <one>;", length, vec![cut.clone()]);
            while rewrite.step() {}
            rewrite.end(&budget);
            let left = without(&whole, std::slice::from_ref(&cut));
            assert_eq!(replay.unsent().len(), (left.len() + 15).min(PLAINTEXT_MAX), "head and body go out together");
            assert_eq!(sent(&mut replay), [b"another: <one>;", left.as_slice()].concat());
            assert!(
                !replay.has_room_for(cut.len() + 1, came, &budget) && replay.has_room_for(cut.len(), came, &budget)
            );
            replay.rewind();
            replay.replace(9..14, b"<two>, longer");
            assert_eq!(sent(&mut replay), [b"another: <two>, longer;", left.as_slice()].concat());
            replay.release(&budget);
        }
        drop(budget);
        assert_eq!(process_free.load(Ordering::Relaxed), TOTAL);
    }

    #[test]
    fn one_that_is_given_up_halfway_returns_all_that_it_took() {
        let (process_free, budget) = budget();
        let mut replay = held(&body(200_000), 16_000, &budget);
        let mut rewrite = Rewrite::begin(&mut replay, HEAD.len(), b"new;", BodyLength::Known(200_000), Vec::new());
        assert!(rewrite.step());
        drop(rewrite);
        replay.release(&budget);
        drop(budget);
        assert_eq!(process_free.load(Ordering::Relaxed), TOTAL);
    }

    #[test]
    fn a_step_is_a_small_part_of_a_long_body() {
        let (_, budget) = budget();
        let whole = in_chunks(&body(300_000), 1);
        let mut replay = held(&whole, PLAINTEXT_MAX, &budget);
        let parts = replay.parts().count();
        let mut rewrite = Rewrite::begin(&mut replay, HEAD.len(), b"new;", BodyLength::Chunked, Vec::new());
        let mut steps = 1;
        loop {
            let before: usize = rewrite.old.iter().map(Buffer::len).sum();
            let goes_on = rewrite.step();
            let after: usize = rewrite.old.iter().map(Buffer::len).sum();
            assert!(before - after <= CAPACITY, "one step moved {} bytes", before - after);
            if !goes_on {
                break;
            }
            steps += 1;
        }
        assert_eq!(steps, parts);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn ranges_go_however_the_body_came(
            bytes in 1_usize..70_000,
            mut places in prop::collection::vec(any::<prop::sample::Index>(), 0..12),
            read in 1_usize..40_000,
            chunk in prop::option::of(1_usize..5_000),
        ) {
            let (_, budget) = budget();
            let whole = body(bytes);
            let mut places: Vec<usize> = places.drain(..).map(|place| place.index(bytes + 1)).collect();
            places.sort_unstable();
            let cuts: Vec<_> = places.chunks_exact(2).map(|pair| pair[0]..pair[1]).collect();
            let (framed, length) = match chunk {
                Some(size) => (in_chunks(&whole, size), BodyLength::Chunked),
                None => (whole.clone(), BodyLength::Known(bytes as u64)),
            };
            let mut replay = held(&framed, read.max(framed.len() / 100), &budget);
            let mut rewrite = Rewrite::begin(&mut replay, HEAD.len(), b"another;", length, cuts.clone());
            while rewrite.step() {}
            rewrite.end(&budget);
            prop_assert!(sent(&mut replay) == [b"another;", without(&whole, &cuts).as_slice()].concat());
        }
    }
}
