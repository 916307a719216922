//! Byte buffers that the kernel may fill, recycled by the shard.
//!
//! A [`Buffer`] is one allocation: bytes are appended after its filled part and consumed from the front.
//! [`Buffer::take`] takes one of the shard's spare buffers and dropping the buffer returns it, so an exchange in the
//! steady state allocates nothing. Memory that was never written is never touched: a waiting read costs the pages it
//! fills.

use std::cell::RefCell;
use std::fmt;

use monoio::buf::{IoBuf, IoBufMut};

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
        Buffer { bytes: spare.unwrap_or_else(|| Vec::with_capacity(capacity)), start: 0 }
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
    start: usize,
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
        Buffer { bytes: Vec::new(), start: 0 }
    }

    pub fn filled(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }

    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
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

    /// Drops `count` bytes from the front.
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "more bytes were consumed than there were");
        self.start += count;
        if self.start == self.bytes.len() {
            self.clear();
        }
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
            let mut larger = Buffer::take();
            larger.bytes.extend_from_slice(self.filled());
            *self = larger;
            return;
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start.., 0);
            self.bytes.truncate(self.len());
            self.start = 0;
        }
        self.bytes.reserve(count);
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
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

    #[test]
    fn the_spare_list_is_bounded() {
        let taken: Vec<_> = (0..SPARE_COUNT_MAX + 10).map(|_| Buffer::take()).collect();
        drop(taken);
        assert_eq!(SPARE.with(|spares| spares.0.borrow().len()), SPARE_COUNT_MAX);
    }
}
