//! Follows one body through a stream of reads, so that a relay can pass it on verbatim and knows where it ends.
//!
//! Invariant: content is emitted as it comes; a piece of framing is emitted only when whole, so what was emitted
//! always ends at a point that [`BodyReader::owed`] describes. What is emitted does not depend on how the input was
//! split, but for where content is cut. Nothing is decoded twice and no content is held.

use std::mem;
use std::ops::Range;

use memchr::memchr;

use super::chunk::{emit_last_piece, parse_size_line};
use super::framing::BodyLength;

pub use super::piece::{BodyError, Piece};

/// Limit on the chunk extensions of one body together. Nobody uses them, and without a bound they are free bytes to an
/// attacker.
const EXTENSION_BYTES_MAX: usize = 16 * 1024;

/// Limit on the trailer section of one body, with its empty line.
const TRAILER_BYTES_MAX: usize = 16 * 1024;

/// Digits of a chunk size: what fits a `u64`.
const SIZE_DIGITS_MAX: usize = 16;

/// Digits of the size of a chunk that is taken as a whole: one of a MiB does not fit into a read. With them the size line
/// is shorter than anything that is searched for.
const WHOLE_DIGITS_MAX: usize = 5;

/// A chunk that lies in the input as a whole, with its size line and its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WholeChunk {
    start: usize,
    end: usize,
}

impl WholeChunk {
    /// The place of its content in the input.
    pub fn data(self) -> Range<usize> {
        self.start..self.end
    }

    /// The length of the whole.
    pub fn length(self) -> usize {
        self.end + 2
    }
}

/// The bytes that a relay which passed on every emitted piece must still send to stand between two chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owed {
    /// None: it stands between two chunks, or the body is not chunked, or it is complete.
    Nothing,
    /// That many bytes of content, and then CRLF.
    ChunkData { remaining: u64 },
    /// CRLF.
    ChunkEnd,
}

/// Follows one body. Allocates only when a read ends within a line of framing.
#[derive(Debug, Clone)]
pub struct BodyReader {
    state: BodyState,
    /// The start of a piece of framing whose end has not come; bounded by the limits above.
    held: Vec<u8>,
    extension_bytes: usize,
    data_bytes: u64,
}

#[derive(Debug, Clone, Copy)]
enum BodyState {
    Known {
        remaining: u64,
    },
    UntilClose,
    ChunkSize,
    ChunkData {
        remaining: u64,
    },
    ChunkEnd {
        has_cr: bool,
    },
    Trailers(Trailers),
    Complete,
    /// With what was owed when it failed, for whoever ends the broken stream.
    Failed {
        error: BodyError,
        owed: Owed,
    },
}

/// Progress within the last piece: the last chunk's size line and the trailer section.
#[derive(Debug, Clone, Copy)]
struct Trailers {
    /// Offset of the trailer section in the piece.
    section_start: usize,
    /// Offset in the piece of the line whose end has not come.
    line_start: usize,
}

impl BodyReader {
    pub fn new(length: BodyLength) -> Self {
        let state = match length {
            BodyLength::None => BodyState::Complete,
            BodyLength::Known(remaining) => BodyState::known(remaining),
            BodyLength::Chunked => BodyState::ChunkSize,
            BodyLength::UntilClose => BodyState::UntilClose,
        };
        BodyReader { state, held: Vec::new(), extension_bytes: 0, data_bytes: 0 }
    }

    /// Emits what was read in pieces. Returns how many bytes belong to the body: fewer than were given only when it is
    /// complete.
    ///
    /// # Errors
    /// When the framing is malformed or too long. What was emitted before stands; every later call fails the same way.
    pub fn read(&mut self, input: &[u8], emit: impl FnMut(Piece<'_>)) -> Result<usize, BodyError> {
        self.read_within(input, u64::MAX, emit)
    }

    /// Reads as [`BodyReader::read`] does, and accepts chunks of at most `content_bytes_max` together. A chunk counts
    /// when its size line is read, which is then not emitted. A length that is known counts where the head is read.
    ///
    /// # Errors
    /// As [`BodyReader::read`], and [`BodyError::TooLarge`].
    pub fn read_within(
        &mut self,
        input: &[u8],
        content_bytes_max: u64,
        mut emit: impl FnMut(Piece<'_>),
    ) -> Result<usize, BodyError> {
        let mut consumed = 0;
        while consumed < input.len() && !self.is_complete() {
            let taken = self.step(&input[consumed..], content_bytes_max, &mut emit);
            consumed += taken.map_err(|error| self.fail(error))?;
        }
        Ok(consumed)
    }

    /// Returns whether the whole body has come. One that lasts until the close is never complete: its end is the
    /// connection's.
    pub fn is_complete(&self) -> bool {
        matches!(self.state, BodyState::Complete)
    }

    /// Returns how many bytes of content have come so far.
    pub fn data_bytes(&self) -> u64 {
        self.data_bytes
    }

    /// Returns what a relay owes; after an error, what it owed before.
    pub fn owed(&self) -> Owed {
        match self.state {
            BodyState::Failed { owed, .. } => owed,
            BodyState::ChunkData { remaining } => Owed::ChunkData { remaining },
            BodyState::ChunkEnd { .. } => Owed::ChunkEnd,
            _ => Owed::Nothing,
        }
    }

    /// Finds a whole chunk without extensions at the start of `input`, if one may begin there: most events of a stream
    /// come as one. Nothing is taken yet: see [`BodyReader::take_whole`].
    #[inline]
    pub fn whole_chunk(&self, input: &[u8]) -> Option<WholeChunk> {
        if !matches!(self.state, BodyState::ChunkSize) || !self.held.is_empty() {
            return None;
        }
        let (mut size, mut digits) = (0, 0);
        while let Some(digit) = input.get(digits).and_then(|&byte| char::from(byte).to_digit(16)) {
            if digits == WHOLE_DIGITS_MAX {
                return None;
            }
            (size, digits) = (size << 4 | digit as usize, digits + 1);
        }
        let start = digits + 2;
        let end = start + size;
        let is_whole = size > 0 && input.get(digits..start)? == b"\r\n" && input.get(end..end + 2)? == b"\r\n";
        is_whole.then_some(WholeChunk { start, end })
    }

    /// Takes a chunk that [`BodyReader::whole_chunk`] has found.
    #[inline]
    pub fn take_whole(&mut self, chunk: WholeChunk) {
        self.data_bytes = self.data_bytes.saturating_add((chunk.end - chunk.start) as u64);
    }

    /// Takes one piece off `input`, which is not empty, or all of it; returns how many bytes.
    fn step(
        &mut self,
        input: &[u8],
        content_bytes_max: u64,
        emit: &mut impl FnMut(Piece<'_>),
    ) -> Result<usize, BodyError> {
        match self.state {
            BodyState::Known { remaining } => {
                let taken = self.pass_data(input, remaining, emit);
                self.state = BodyState::known(remaining - taken as u64);
                Ok(taken)
            }
            BodyState::ChunkData { remaining } => {
                let taken = self.pass_data(input, remaining, emit);
                self.state = BodyState::chunk_data(remaining - taken as u64);
                Ok(taken)
            }
            BodyState::UntilClose => Ok(self.pass_data(input, u64::MAX, emit)),
            BodyState::ChunkSize => self.take_size_line(input, content_bytes_max, emit),
            BodyState::ChunkEnd { has_cr } => self.take_chunk_end(input, has_cr, emit),
            BodyState::Trailers(trailers) => self.take_trailers(input, trailers, emit),
            BodyState::Complete => Ok(0),
            BodyState::Failed { error, .. } => Err(error),
        }
    }

    fn fail(&mut self, error: BodyError) -> BodyError {
        self.state = BodyState::Failed { error, owed: self.owed() };
        error
    }

    /// Emits up to `remaining` bytes of content; returns how many.
    fn pass_data(&mut self, input: &[u8], remaining: u64, emit: &mut impl FnMut(Piece<'_>)) -> usize {
        let taken = usize::try_from(remaining).map_or(input.len(), |remaining| remaining.min(input.len()));
        emit(Piece::Data(&input[..taken]));
        self.data_bytes = self.data_bytes.saturating_add(taken as u64);
        taken
    }

    /// `chunk-size [ chunk-ext ] CRLF` (RFC 9112 §7.1).
    fn take_size_line(
        &mut self,
        input: &[u8],
        content_bytes_max: u64,
        emit: &mut impl FnMut(Piece<'_>),
    ) -> Result<usize, BodyError> {
        let line_feed = memchr(b'\n', input);
        let taken = line_feed.map_or(input.len(), |at| at + 1);
        let mut held = mem::take(&mut self.held);
        let is_split = line_feed.is_none() || !held.is_empty();
        let line = if is_split {
            held.extend_from_slice(&input[..taken]);
            &held
        } else {
            &input[..taken]
        };
        let before_line_feed = line.strip_suffix(b"\n").unwrap_or(line);
        let digits = self.count_size_digits(before_line_feed)?;
        if line_feed.is_none() {
            self.held = held;
            return Ok(taken);
        }
        let (size, extension) = parse_size_line(before_line_feed, digits)?;
        if self.data_bytes.saturating_add(size) > content_bytes_max {
            return Err(BodyError::TooLarge);
        }
        self.extension_bytes += extension.len();
        if size == 0 {
            // The last chunk goes out with its trailers. If they are in the same read, nothing needs to be held.
            self.state = BodyState::Trailers(Trailers { section_start: line.len(), line_start: line.len() });
            self.held = held;
            return Ok(if is_split { taken } else { 0 });
        }
        emit(Piece::Framing(line));
        self.state = BodyState::ChunkData { remaining: size };
        held.clear();
        self.held = held;
        Ok(taken)
    }

    /// Checks a size line whose end may not have come yet, so that a bad one is not waited for.
    fn count_size_digits(&self, before_line_feed: &[u8]) -> Result<usize, BodyError> {
        let start = &before_line_feed[..before_line_feed.len().min(SIZE_DIGITS_MAX + 1)];
        let digits = start.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        if (digits == 0 && !start.is_empty()) || digits > SIZE_DIGITS_MAX {
            return Err(BodyError::BadChunkSize);
        }
        // The last byte is the CR, or may be.
        let extension_bytes = before_line_feed.len().saturating_sub(digits + 1);
        if self.extension_bytes + extension_bytes > EXTENSION_BYTES_MAX {
            return Err(BodyError::ChunkExtensionsTooLong);
        }
        Ok(digits)
    }

    /// The CRLF after a chunk's data, and nothing else: a reader that skipped bytes here would let chunks be smuggled.
    fn take_chunk_end(
        &mut self,
        input: &[u8],
        has_cr: bool,
        emit: &mut impl FnMut(Piece<'_>),
    ) -> Result<usize, BodyError> {
        let missing: &[u8] = if has_cr { b"\n" } else { b"\r\n" };
        if input.starts_with(missing) {
            emit(Piece::Framing(b"\r\n"));
            self.state = BodyState::ChunkSize;
            return Ok(missing.len());
        }
        if input == b"\r" && !has_cr {
            self.state = BodyState::ChunkEnd { has_cr: true };
            return Ok(1);
        }
        Err(BodyError::BadChunkEnd)
    }

    /// The trailer section (RFC 9112 §7.1.2). The piece is `held` and then `input`; what was held has been searched.
    fn take_trailers(
        &mut self,
        input: &[u8],
        mut trailers: Trailers,
        emit: &mut impl FnMut(Piece<'_>),
    ) -> Result<usize, BodyError> {
        let held_bytes = self.held.len();
        let mut searched = trailers.line_start.saturating_sub(held_bytes);
        while let Some(found) = memchr(b'\n', &input[searched..]) {
            searched += found + 1;
            let line_end = held_bytes + searched;
            trailers.check_size(line_end)?;
            let before_line_feed = if searched >= 2 { input.get(searched - 2) } else { self.held.last() };
            let line_bytes = line_end - trailers.line_start;
            if before_line_feed != Some(&b'\r') {
                return Err(BodyError::BadTrailer);
            }
            trailers.line_start = line_end;
            if line_bytes == 2 {
                return self.finish(&input[..searched], trailers.section_start, emit);
            }
        }
        trailers.check_size(held_bytes + input.len())?;
        self.held.extend_from_slice(input);
        self.state = BodyState::Trailers(trailers);
        Ok(input.len())
    }

    fn finish(
        &mut self,
        input: &[u8],
        section_start: usize,
        emit: &mut impl FnMut(Piece<'_>),
    ) -> Result<usize, BodyError> {
        let mut held = mem::take(&mut self.held);
        if held.is_empty() {
            emit_last_piece(input, section_start, emit)?;
        } else {
            held.extend_from_slice(input);
            emit_last_piece(&held, section_start, emit)?;
        }
        self.state = BodyState::Complete;
        Ok(input.len())
    }
}

impl BodyState {
    fn known(remaining: u64) -> Self {
        if remaining == 0 { BodyState::Complete } else { BodyState::Known { remaining } }
    }

    fn chunk_data(remaining: u64) -> Self {
        if remaining == 0 { BodyState::ChunkEnd { has_cr: false } } else { BodyState::ChunkData { remaining } }
    }
}

impl Trailers {
    fn check_size(&self, end: usize) -> Result<(), BodyError> {
        if end - self.section_start > TRAILER_BYTES_MAX { Err(BodyError::TrailersTooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
