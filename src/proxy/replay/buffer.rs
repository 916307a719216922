//! The replay buffer: the bytes of a request on their way upstream, the sent ones kept for a second attempt.
//!
//! Invariant: a buffer that can be replayed is whole, from the first byte of the head to the last that was received.
//! Beyond its limits it keeps the unsent bytes alone, so memory is bounded whatever the body's size. The head, which
//! holds a token, is overwritten when its memory is given back.

use std::collections::VecDeque;
use std::ops::Range;

use crate::io::Buffer;
use crate::io::buffer::PLAINTEXT_MAX;
use crate::proxy::replay::budget::ReplayBudget;

/// The bytes of one request on their way upstream, reused by the exchanges of a connection.
#[derive(Debug, Default)]
pub struct ReplayBuffer {
    segments: VecDeque<Buffer>,
    /// The number of parts of the same request that stood before them and are held no longer.
    dropped: usize,
    /// The index of the segment that is being sent, and how much of it was sent.
    sending: usize,
    sent_bytes: usize,
    kept: Kept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kept {
    /// The whole request so far, with the bytes that it reserved of the budget.
    Whole { reserved_bytes: usize },
    /// The unsent bytes alone.
    #[default]
    Unsent,
}

impl ReplayBuffer {
    /// Starts over with an empty first segment, which is for the head; the limits are for the body after it.
    pub fn begin(&mut self, budget: &ReplayBudget) -> &mut Vec<u8> {
        self.release(budget);
        self.kept = Kept::Whole { reserved_bytes: 0 };
        self.segments.push_back(Buffer::take());
        self.segments[0].tail()
    }

    /// Marks all that there is, the head with its token, as secret.
    pub fn mark_head_secret(&mut self) {
        if let Some(first) = self.segments.front_mut() {
            first.mark_secret(first.len());
        }
    }

    /// Appends body bytes. If the body would grow beyond `limit_bytes` or the budget, sent bytes are kept no longer;
    /// returns false from the call in which that happens.
    pub fn push(&mut self, bytes: &[u8], limit_bytes: usize, budget: &ReplayBudget) -> bool {
        let keeps = self.account(bytes.len(), limit_bytes, budget);
        self.append(bytes);
        keeps
    }

    pub(super) fn append(&mut self, bytes: &[u8]) {
        let has_room = self.segments.back().is_some_and(|last| last.len() + bytes.len() <= PLAINTEXT_MAX);
        if !has_room {
            let is_all_sent = self.segments.get(self.sending).is_some_and(|segment| segment.len() == self.sent_bytes);
            self.segments.push_back(Buffer::take());
            if is_all_sent {
                self.sending += 1;
                self.sent_bytes = 0;
            }
        }
        let last = self.segments.len() - 1;
        self.segments[last].tail().extend_from_slice(bytes);
    }

    /// Returns whether the buffer is whole and would stay so with `bytes` more body bytes.
    pub fn has_room_for(&self, bytes: usize, limit_bytes: usize, budget: &ReplayBudget) -> bool {
        match self.kept {
            Kept::Whole { reserved_bytes } => bytes <= limit_bytes.saturating_sub(reserved_bytes) && budget.has(bytes),
            Kept::Unsent => false,
        }
    }

    fn account(&mut self, bytes: usize, limit_bytes: usize, budget: &ReplayBudget) -> bool {
        let Kept::Whole { reserved_bytes } = self.kept else { return true };
        if reserved_bytes + bytes <= limit_bytes && budget.reserve(bytes) {
            self.kept = Kept::Whole { reserved_bytes: reserved_bytes + bytes };
            return true;
        }
        self.stop_keeping(budget);
        false
    }

    /// Returns the bytes to be sent next, at most [`PLAINTEXT_MAX`]; none when all were sent.
    pub fn unsent(&self) -> &[u8] {
        let Some(segment) = self.segments.get(self.sending) else { return &[] };
        let rest = &segment.filled()[self.sent_bytes..];
        &rest[..rest.len().min(PLAINTEXT_MAX)]
    }

    /// Returns how many of [`ReplayBuffer::unsent`], from the first one on, are secret: a part of the head, if any.
    pub fn unsent_secret_bytes(&self) -> usize {
        let Some(segment) = self.segments.get(self.sending) else { return 0 };
        segment.secret_len().saturating_sub(self.sent_bytes).min(self.unsent().len())
    }

    /// Notes that `count` bytes of [`ReplayBuffer::unsent`] were sent.
    pub fn mark_sent(&mut self, count: usize) {
        self.sent_bytes += count;
        let is_last = self.sending + 1 == self.segments.len();
        if self.segments[self.sending].len() > self.sent_bytes {
            return;
        }
        if matches!(self.kept, Kept::Unsent) {
            self.dropped += self.segments.drain(..=self.sending).len();
            self.sending = 0;
            self.sent_bytes = 0;
        } else if !is_last {
            self.sending += 1;
            self.sent_bytes = 0;
        }
    }

    /// Returns whether a second attempt can send the request again from its first byte.
    pub fn is_whole(&self) -> bool {
        matches!(self.kept, Kept::Whole { .. })
    }

    /// Goes back to the first byte, for another attempt. The buffer must be whole.
    pub fn rewind(&mut self) {
        debug_assert!(self.is_whole());
        self.sending = 0;
        self.sent_bytes = 0;
    }

    /// Replaces `range` of the head by `value`, for an attempt with another credential, and returns the range of
    /// `value`. Only while nothing was sent yet; the buffer need not be whole.
    pub fn replace(&mut self, range: Range<usize>, value: &[u8]) -> Range<usize> {
        debug_assert!(self.sending == 0 && self.sent_bytes == 0);
        let start = range.start;
        self.segments[0].replace(range, value);
        start..start + value.len()
    }

    /// Returns all bytes that are held, beginning with the head if nothing was sent yet.
    #[cfg(test)]
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(Buffer::filled)
    }

    /// Returns the part of the request that has so many others before it; `None` if it is not held, any more or yet.
    pub fn part(&self, index: usize) -> Option<&[u8]> {
        self.segments.get(index.checked_sub(self.dropped)?).map(Buffer::filled)
    }

    /// Takes all parts out of a whole buffer of which nothing was sent, for a [rewrite](super::rewrite). What they
    /// reserved of the budget stays reserved.
    pub(super) fn take_parts(&mut self) -> VecDeque<Buffer> {
        debug_assert!(self.is_whole() && self.sending == 0 && self.sent_bytes == 0);
        std::mem::take(&mut self.segments)
    }

    /// Appends bytes that were taken out, so that each part is as long as can be sent in one write.
    pub(super) fn put_back(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = self.segments.back().map_or(0, |last| PLAINTEXT_MAX.saturating_sub(last.len()));
            let (first, rest) = bytes.split_at(bytes.len().min(if room == 0 { PLAINTEXT_MAX } else { room }));
            self.append(first);
            bytes = rest;
        }
    }

    /// Notes that the body is no longer than `body_bytes` any more.
    pub(super) fn shrink_to(&mut self, body_bytes: usize, budget: &ReplayBudget) {
        if let Kept::Whole { reserved_bytes } = &mut self.kept {
            budget.give_back(reserved_bytes.saturating_sub(body_bytes));
            *reserved_bytes = body_bytes;
        }
    }

    /// Drops the sent bytes and keeps no further ones: no further attempt will be made.
    pub fn stop_keeping(&mut self, budget: &ReplayBudget) {
        let Kept::Whole { reserved_bytes } = std::mem::take(&mut self.kept) else { return };
        budget.give_back(reserved_bytes);
        self.dropped += self.segments.drain(..self.sending).len();
        self.sending = 0;
        if self.segments.front().is_some_and(|segment| segment.len() == self.sent_bytes) {
            self.segments.pop_front();
            self.dropped += 1;
            self.sent_bytes = 0;
        }
    }

    /// Drops all bytes, sent or not.
    pub fn release(&mut self, budget: &ReplayBudget) {
        self.stop_keeping(budget);
        self.segments.clear();
        self.dropped = 0;
        self.sending = 0;
        self.sent_bytes = 0;
    }
}

#[cfg(test)]
mod tests;
