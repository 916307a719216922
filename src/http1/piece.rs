//! The pieces that a body is emitted in, and the errors of one that cannot be followed further.

use std::fmt;

/// A part of a body as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes of the content.
    Data(&'a [u8]),
    /// A whole chunk size line, the CRLF after a chunk, or the last chunk with the trailers: to be passed on where the
    /// receiver reads chunks too, to be skipped where it does not.
    Framing(&'a [u8]),
}

/// The fault for which a body cannot be followed further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyError {
    /// A chunk size is empty, signed, not hexadecimal, 2^63 or more, or its line does not end in CRLF.
    BadChunkSize,
    BadChunkExtension,
    ChunkExtensionsTooLong,
    /// No CRLF follows a chunk's data.
    BadChunkEnd,
    TrailersTooLong,
    BadTrailer,
    /// More content is announced than is accepted.
    TooLarge,
}

impl BodyError {
    /// Returns the fault as the end of a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            BodyError::BadChunkSize => "a chunk size is malformed",
            BodyError::BadChunkExtension => "a chunk extension is malformed",
            BodyError::ChunkExtensionsTooLong => "the chunk extensions are too long",
            BodyError::BadChunkEnd => "a chunk does not end where its size says",
            BodyError::TrailersTooLong => "the trailers are too long",
            BodyError::BadTrailer => "a trailer is malformed",
            BodyError::TooLarge => "the body is too large",
        }
    }
}

impl fmt::Display for BodyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl std::error::Error for BodyError {}
