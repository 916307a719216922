//! Byte buffers that the kernel may fill, recycled by the shard.
//!
//! A [`Buffer`] is one allocation: bytes are appended after its filled part and consumed from the front.
//! [`Buffer::take`] takes one of the shard's spare buffers and dropping the buffer returns it, so an exchange in the
//! steady state allocates nothing. Memory that was never written is never touched: a waiting read costs the pages it
//! fills. Invariant: what was marked as secret is overwritten before its memory is used for anything else, or freed.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use monoio::buf::{IoBuf, IoBufMut};
use zeroize::Zeroize;

/// Capacity of a recycled buffer: a full TLS record (16,645 bytes on the wire, RFC 8446 §5.2) fits with as much again
/// after it, and [`PLAINTEXT_MAX`] bytes still fit when encrypted.
pub const CAPACITY: usize = 33 * 1024;

/// Plaintext that is encrypted in one go: two full TLS records.
pub const PLAINTEXT_MAX: usize = 32 * 1024;

/// Capacity of a small buffer, for a read that waits where little is expected: some events of a stream. Thousands of
/// streams wait at the same time, and each would hold the pages of a large one that were ever filled.
pub const SMALL_CAPACITY: usize = 2 * 1024;

/// Number of spare buffers a shard keeps of either kind (4.1 MiB, and 256 KiB): enough for the burst that is returned
/// at once when many answers end together. Further ones are freed.
const SPARE_COUNT_MAX: usize = 128;

thread_local! {
    static SPARE: FreeList = const { FreeList::new() };
    static SMALL_SPARE: FreeList = const { FreeList::new() };
}

/// Empty buffers of one capacity.
struct FreeList(RefCell<Vec<Vec<u8>>>);

impl FreeList {
    const fn new() -> Self {
        FreeList(RefCell::new(Vec::new()))
    }

    fn take(&self, capacity: usize) -> Buffer {
        let spare = self.0.borrow_mut().pop();
        Buffer { bytes: spare.unwrap_or_else(|| Vec::with_capacity(capacity)), start: 0, secret_end: 0 }
    }

    fn give_back(&self, mut bytes: Vec<u8>) {
        bytes.clear();
        let mut spares = self.0.borrow_mut();
        if spares.len() < SPARE_COUNT_MAX {
            spares.push(bytes);
        }
    }
}

/// A byte queue over one allocation.
#[derive(Default)]
pub struct Buffer {
    bytes: Vec<u8>,
    /// The first filled byte. In 32 bits as the next field, since the task of a connection holds several buffers, and
    /// none of them comes near 4 GiB: what fills them is limited.
    start: u32,
    /// The end of what is overwritten when the buffer is dropped, from the first byte of the allocation on.
    secret_end: u32,
}

impl Buffer {
    /// Takes a recycled buffer, empty, with room for [`CAPACITY`] bytes.
    pub fn take() -> Self {
        SPARE.with(|spare| spare.take(CAPACITY))
    }

    /// Takes a recycled buffer, empty, with room for [`SMALL_CAPACITY`] bytes.
    pub fn take_small() -> Self {
        SMALL_SPARE.with(|spare| spare.take(SMALL_CAPACITY))
    }

    /// Returns an empty buffer without an allocation, for whoever waits without one.
    pub const fn none() -> Self {
        Buffer { bytes: Vec::new(), start: 0, secret_end: 0 }
    }

    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start as usize..]
    }

    pub fn filled_mut(&mut self) -> &mut [u8] {
        let start = self.start as usize;
        &mut self.bytes[start..]
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.start as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the room after the filled part.
    pub fn spare_len(&self) -> usize {
        self.bytes.capacity() - self.bytes.len()
    }

    /// Returns the bytes as a vector to append to. Only appending (and truncating what was appended) keeps the queue
    /// whole.
    pub fn tail(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Appends `bytes`, taking a spare buffer if there was none.
    pub fn append(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.bytes.extend_from_slice(bytes);
    }

    /// Marks the first `count` filled bytes as secret.
    pub fn mark_secret(&mut self, count: usize) {
        assert!(count <= self.len(), "more bytes were marked than there are");
        self.secret_end = self.secret_end.max(self.start + narrow(count));
    }

    /// Returns how many of the filled bytes, from the first one on, are marked as secret.
    pub fn secret_len(&self) -> usize {
        self.secret_end.saturating_sub(self.start) as usize
    }

    /// Replaces `range` of the filled bytes by `value`, which is secret up to its end. All of it is marked.
    pub fn replace(&mut self, range: Range<usize>, value: &[u8]) {
        let length = self.len() - range.len() + value.len();
        if length.saturating_sub(self.len()) > self.spare_len() {
            // By hand: a vector that grows would leave a copy that is not overwritten.
            self.move_to(Buffer { bytes: Vec::with_capacity(length), start: 0, secret_end: 0 });
        }
        let start = self.start as usize;
        let end = range.start + value.len();
        let place = start + range.start..start + range.end;
        if place.len() == value.len() {
            // As with the tokens of most sets of credentials: nothing after it moves.
            self.bytes[place].copy_from_slice(value);
        } else {
            self.bytes.splice(place, value.iter().copied());
        }
        self.mark_secret(end);
    }

    /// Drops `count` bytes from the front.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "more bytes were consumed than there were");
        self.start += narrow(count);
        if self.is_empty() {
            self.clear();
        }
    }

    /// Keeps the first `count` filled bytes alone.
    pub fn truncate(&mut self, count: usize) {
        self.bytes.truncate(self.start as usize + count);
    }

    pub fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Makes room for at least `count` more bytes: takes a spare buffer if there was none or a small one, moves the
    /// filled part to the front, or grows the allocation (which is then not recycled).
    pub fn reserve(&mut self, count: usize) {
        if self.spare_len() >= count {
            return;
        }
        if self.bytes.capacity() < CAPACITY && self.len() + count <= CAPACITY {
            return self.move_to(Buffer::take());
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start as usize.., 0);
            self.bytes.truncate(self.len());
            self.start = 0;
        }
        if self.secret_end == 0 {
            self.bytes.reserve(count);
        } else if self.spare_len() < count {
            // By hand, as in `replace`.
            let bytes = Vec::with_capacity(self.len() + count);
            self.move_to(Buffer { bytes, start: 0, secret_end: 0 });
        }
    }

    /// Moves the filled part to `larger`, which is empty and has room for it.
    fn move_to(&mut self, mut larger: Buffer) {
        larger.bytes.extend_from_slice(self.filled());
        larger.secret_end = self.secret_end.saturating_sub(self.start);
        *self = larger;
    }

    /// Overwrites what was marked, also where it was consumed meanwhile. The buffer is empty then.
    fn erase(&mut self) {
        self.bytes.clear();
        self.start = 0;
        let secret_end = std::mem::take(&mut self.secret_end) as usize;
        self.bytes.spare_capacity_mut()[..secret_end].zeroize();
    }
}

/// Numbers within a buffer fit: see [`Buffer`].
fn narrow(count: usize) -> u32 {
    u32::try_from(count).expect("a buffer is smaller than 4 GiB")
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.secret_end > 0 {
            self.erase();
        }
        let spares = match self.bytes.capacity() {
            CAPACITY => &SPARE,
            SMALL_CAPACITY => &SMALL_SPARE,
            _ => return,
        };
        let bytes = std::mem::take(&mut self.bytes);
        // A thread that is ending has no spare list any more: the buffer is then freed.
        let _ = spares.try_with(|spares| spares.give_back(bytes));
    }
}

// The content may hold a token, so it is not printed.
impl fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Buffer").field("len", &self.len()).finish_non_exhaustive()
    }
}

/// A buffer whose filled part the kernel reads.
pub struct Filled(pub Buffer);

// SAFETY: the vector's allocation does not move while `self` is moved, and nothing reallocates it while the kernel
// holds the pointer, since the operation owns the buffer.
unsafe impl IoBuf for Filled {
    fn read_ptr(&self) -> *const u8 {
        self.0.filled().as_ptr()
    }

    fn bytes_init(&self) -> usize {
        self.0.len()
    }
}

/// A buffer whose spare room the kernel fills.
pub struct Spare(pub Buffer);

// SAFETY: as above; `bytes_total` is the room after the filled part, where `write_ptr` points, and `set_init` is told
// how many bytes of it were written.
unsafe impl IoBufMut for Spare {
    fn write_ptr(&mut self) -> *mut u8 {
        self.0.bytes.spare_capacity_mut().as_mut_ptr().cast()
    }

    fn bytes_total(&mut self) -> usize {
        self.0.spare_len()
    }

    unsafe fn set_init(&mut self, written: usize) {
        let filled = self.0.bytes.len();
        // SAFETY: the kernel has written `written` bytes after the filled part.
        unsafe { self.0.bytes.set_len(filled + written) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_buffer_is_taken_again() {
        let mut buffer = Buffer::take();
        buffer.tail().extend_from_slice(b"left over");
        let address = buffer.filled().as_ptr();
        drop(buffer);
        let again = Buffer::take();
        assert!(again.is_empty());
        assert_eq!(again.bytes.as_ptr(), address);
    }

    #[test]
    fn making_room_keeps_what_was_not_consumed() {
        let mut buffer = Buffer::take();
        buffer.tail().resize(CAPACITY - 1, 7);
        buffer.tail().push(9);
        buffer.consume(CAPACITY - 2);
        assert_eq!(buffer.spare_len(), 0);
        buffer.reserve(100);
        assert_eq!(buffer.filled(), [7, 9]);
        assert!(buffer.spare_len() >= 100);
        buffer.reserve(2 * CAPACITY);
        assert_eq!(buffer.filled(), [7, 9]);
    }

    #[test]
    fn a_small_buffer_becomes_a_large_one_when_more_comes_and_both_are_recycled() {
        let mut buffer = Buffer::take_small();
        assert_eq!(buffer.spare_len(), SMALL_CAPACITY);
        let address = buffer.bytes.as_ptr();
        buffer.append(&[7; SMALL_CAPACITY]);
        buffer.consume(SMALL_CAPACITY - 2);
        buffer.reserve(CAPACITY - 2);
        assert_eq!((buffer.filled(), buffer.bytes.capacity()), (&[7, 7][..], CAPACITY));
        let small = Buffer::take_small();
        assert_eq!(small.bytes.as_ptr(), address, "it was not given back");
        let large = buffer.bytes.as_ptr();
        drop(buffer);
        assert_eq!(Buffer::take().bytes.as_ptr(), large);
    }

    /// Reads the first bytes of an allocation whatever of it is filled.
    fn allocated(buffer: &mut Buffer, count: usize) -> Vec<u8> {
        buffer.bytes.clear();
        // SAFETY: the callers have written that many bytes before.
        buffer.bytes.spare_capacity_mut()[..count].iter().map(|byte| unsafe { byte.assume_init() }).collect()
    }

    #[test]
    fn what_was_marked_as_secret_is_overwritten_before_the_memory_is_used_again() {
        let mut buffer = Buffer::take();
        buffer.append(b"head secret rest");
        buffer.mark_secret(11);
        let address = buffer.bytes.as_ptr();
        // As a write does it.
        buffer.consume(16);
        drop(buffer);
        let mut again = Buffer::take();
        assert_eq!(again.bytes.as_ptr(), address);
        assert_eq!(allocated(&mut again, 16), b"\0\0\0\0\0\0\0\0\0\0\0 rest");
    }

    #[test]
    fn a_secret_that_moves_to_a_larger_buffer_leaves_nothing_behind_and_stays_marked() {
        let mut buffer = Buffer::take_small();
        buffer.append(b"12secret");
        buffer.mark_secret(8);
        let small = buffer.bytes.as_ptr();
        buffer.consume(2);
        buffer.reserve(SMALL_CAPACITY);
        assert_eq!((buffer.filled(), buffer.secret_end), (&b"secret"[..], 6));
        let mut spare = Buffer::take_small();
        assert_eq!(spare.bytes.as_ptr(), small);
        assert_eq!(allocated(&mut spare, 8), [0; 8]);
        // Beyond all recycled ones.
        buffer.reserve(2 * CAPACITY);
        assert_eq!((buffer.filled(), buffer.secret_end), (&b"secret"[..], 6));
        assert!(buffer.spare_len() >= 2 * CAPACITY);
    }

    #[test]
    fn a_secret_is_replaced_by_another_of_any_length_and_no_copy_is_left() {
        for (value, expected) in [("a longer secret", "head a longer secret rest"), ("x", "head x rest")] {
            let mut buffer = Buffer { bytes: Vec::with_capacity(16), start: 0, secret_end: 0 };
            buffer.append(b"head secret rest");
            buffer.mark_secret(11);
            buffer.replace(5..11, value.as_bytes());
            assert_eq!(buffer.filled(), expected.as_bytes());
            assert!(buffer.secret_end as usize >= 5 + value.len());
            buffer.erase();
            let left = allocated(&mut buffer, 11);
            assert!(left.iter().all(|byte| *byte == 0), "{value}: {left:?}");
        }
    }

    #[test]
    #[ignore = "reads memory that was freed, for scripts/sanitize to find"]
    fn a_planted_fault_is_found() {
        let buffer = Buffer { bytes: vec![7; 3], start: 0, secret_end: 0 };
        let freed = buffer.bytes.as_ptr();
        // None of the sizes that are kept for the next one.
        drop(buffer);
        // SAFETY: there is none: this is the fault.
        assert_ne!(unsafe { std::ptr::read_volatile(freed) }, 7);
    }

    #[test]
    fn the_spare_list_is_bounded() {
        let taken: Vec<_> = (0..SPARE_COUNT_MAX + 10).map(|_| Buffer::take()).collect();
        drop(taken);
        assert_eq!(SPARE.with(|spares| spares.0.borrow().len()), SPARE_COUNT_MAX);
    }
}
