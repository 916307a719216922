//! The request as it goes upstream: what is still to be sent, and the copy kept for a second attempt.
//!
//! Invariant: a kept copy is whole, from the first byte of the head to the last that came. Beyond its limits it is
//! given up and only what is unsent stays, so memory is bounded whatever the body's size.

use std::collections::VecDeque;
use std::ops::Range;

use crate::io::Buffer;
use crate::io::buffer::PLAINTEXT_MAX;
use crate::proxy::replay::budget::ReplayBudget;

/// The bytes of one request on their way upstream. Reused by the exchanges of a connection.
#[derive(Debug, Default)]
pub struct ReplayBuffer {
    segments: VecDeque<Buffer>,
    /// The segment that is being sent, and how much of it was.
    sending: usize,
    sent_bytes: usize,
    kept: Kept,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Kept {
    /// The whole request so far, with what it took from the budget.
    Whole { reserved_bytes: usize },
    /// Only what is unsent.
    #[default]
    Unsent,
}

impl ReplayBuffer {
    /// Starts over with an empty first segment, which is for the head; the limits are for what comes behind it.
    pub fn begin(&mut self, budget: &ReplayBudget) -> &mut Vec<u8> {
        self.release(budget);
        self.kept = Kept::Whole { reserved_bytes: 0 };
        self.segments.push_back(Buffer::take());
        self.segments[0].tail()
    }

    /// Appends body bytes. The copy is given up when it would grow beyond `limit_bytes` or the budget; returns false at
    /// the moment when that happens.
    pub fn push(&mut self, bytes: &[u8], limit_bytes: usize, budget: &ReplayBudget) -> bool {
        let keeps = self.account(bytes.len(), limit_bytes, budget);
        self.append(bytes);
        keeps
    }

    fn append(&mut self, bytes: &[u8]) {
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

    /// Whether the copy is whole and would stay so with so many more body bytes.
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

    /// What is to be sent next, at most [`PLAINTEXT_MAX`] bytes; empty when all was sent.
    pub fn unsent(&self) -> &[u8] {
        let Some(segment) = self.segments.get(self.sending) else { return &[] };
        let rest = &segment.filled()[self.sent_bytes..];
        &rest[..rest.len().min(PLAINTEXT_MAX)]
    }

    /// `count` bytes of [`ReplayBuffer::unsent`] were sent.
    pub fn mark_sent(&mut self, count: usize) {
        self.sent_bytes += count;
        let is_last = self.sending + 1 == self.segments.len();
        if self.segments[self.sending].len() > self.sent_bytes {
            return;
        }
        if matches!(self.kept, Kept::Unsent) {
            self.segments.drain(..=self.sending);
            self.sending = 0;
            self.sent_bytes = 0;
        } else if !is_last {
            self.sending += 1;
            self.sent_bytes = 0;
        }
    }

    /// Whether a second attempt can send the request again from its first byte.
    pub fn is_whole(&self) -> bool {
        matches!(self.kept, Kept::Whole { .. })
    }

    /// Goes back to the first byte, for another attempt. Only a whole copy can.
    pub fn rewind(&mut self) {
        debug_assert!(self.is_whole());
        self.sending = 0;
        self.sent_bytes = 0;
    }

    /// Puts `value` in the place of `range` of the head, for an attempt with another credential, and returns where it now
    /// is. Only while nothing was sent yet; the copy may have been given up already.
    pub fn replace(&mut self, range: Range<usize>, value: &[u8]) -> Range<usize> {
        debug_assert!(self.sending == 0 && self.sent_bytes == 0);
        let start = range.start;
        // What is not sent was never consumed, so the segment begins where its vector does.
        self.segments[0].tail().splice(range, value.iter().copied());
        start..start + value.len()
    }

    /// All that is held, the head at its beginning if nothing was sent yet.
    pub fn parts(&self) -> impl Iterator<Item = &[u8]> {
        self.segments.iter().map(Buffer::filled)
    }

    /// Puts another request in the place of a whole copy of which nothing was sent. Its body is no longer than the one
    /// that came, so that the budget has room for it.
    pub fn rewrite(&mut self, head: &[u8], body: &[u8], budget: &ReplayBudget) {
        debug_assert!(self.is_whole() && self.sending == 0 && self.sent_bytes == 0);
        if let Kept::Whole { reserved_bytes } = &mut self.kept {
            budget.give_back(*reserved_bytes - body.len());
            *reserved_bytes = body.len();
        }
        self.segments.clear();
        self.append(head);
        // As much as fits goes out in one write with the head.
        let (first, rest) = body.split_at(body.len().min(PLAINTEXT_MAX.saturating_sub(head.len())));
        self.append(first);
        rest.chunks(PLAINTEXT_MAX).for_each(|part| self.append(part));
    }

    /// No further attempt will be made: from here on only what is unsent is held.
    pub fn stop_keeping(&mut self, budget: &ReplayBudget) {
        let Kept::Whole { reserved_bytes } = std::mem::take(&mut self.kept) else { return };
        budget.give_back(reserved_bytes);
        self.segments.drain(..self.sending);
        self.sending = 0;
        if self.segments.front().is_some_and(|segment| segment.len() == self.sent_bytes) {
            self.segments.pop_front();
            self.sent_bytes = 0;
        }
    }

    /// Lets go of everything, sent or not.
    pub fn release(&mut self, budget: &ReplayBudget) {
        self.stop_keeping(budget);
        self.segments.clear();
        self.sending = 0;
        self.sent_bytes = 0;
    }
}

#[cfg(test)]
mod tests;
