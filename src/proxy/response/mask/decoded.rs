//! The decoders of what an error's content coding hides, with bounds on what they give and take.
//!
//! Invariant: a text is whole only if every byte of the content was decoded, whatever a client would make of bytes that
//! follow the end, and it leaves no copy behind by growing.

use std::io::Read;

use brotli_decompressor::{BrotliDecompressStream, BrotliResult, BrotliState, StandardAlloc};
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};
use zeroize::Zeroizing;

use crate::proxy::response::coding::ContentCoding;

/// The longest text that is decoded: more than any error that was seen is long.
pub const DECODED_BYTES_MAX: usize = 64 * 1024;

/// The members of gzip or frames of zstd in one error. An encoder makes one, or one for each flush; each that is decoded
/// costs the clearing of a window.
const MEMBERS_MAX: usize = 64;

/// The largest window of zstd: RFC 8878 §3.1.1.1.2 recommends that decoders support it, and encoders use no more.
const ZSTD_WINDOW_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// The largest window of brotli, by its bits: the encoders' own default. Its decoder gives nothing before it has filled
/// one, or has seen the end.
const BROTLI_WINDOW_BITS_MAX: u8 = 22;

/// The text that was decoded.
pub struct Decoded {
    pub text: Zeroizing<Vec<u8>>,
    /// It is all of it.
    pub is_whole: bool,
}

/// Decodes as much of a content as is searched, also of one that is broken.
pub fn decode(coding: ContentCoding, content: &[u8]) -> Decoded {
    // One more byte tells a longer one.
    let mut text = Zeroizing::new(Vec::with_capacity(DECODED_BYTES_MAX + 1));
    let has_ended = match coding {
        ContentCoding::Gzip => gzip(content, &mut text),
        // RFC 9110 §8.4.1.2: it has zlib's frame, which some servers leave out.
        ContentCoding::Deflate => {
            inflate(Decompress::new(true), content, &mut text)
                || text.is_empty() && inflate(Decompress::new(false), content, &mut text)
        }
        ContentCoding::Brotli => brotli(content, &mut text),
        ContentCoding::Zstd => zstd(content, &mut text),
        ContentCoding::Identity | ContentCoding::Other | ContentCoding::Several => false,
    };
    let is_whole = has_ended && text.len() <= DECODED_BYTES_MAX;
    Decoded { text, is_whole }
}

/// Decodes one gzip member after the other (RFC 1952 §2.2). Returns whether the last one ends the content.
fn gzip(mut content: &[u8], text: &mut Vec<u8>) -> bool {
    for _ in 0..MEMBERS_MAX {
        if !read(GzDecoder::new(&mut content), text) {
            return false;
        }
        if content.is_empty() {
            return true;
        }
    }
    false
}

/// Reads what a decoder gives, also before it fails. Returns whether it came to its end.
fn read(decoder: impl Read, text: &mut Vec<u8>) -> bool {
    let room = room_after(text);
    decoder.take(room as u64).read_to_end(text).is_ok() && text.len() <= DECODED_BYTES_MAX
}

/// Decodes deflate, with or without zlib's frame. Returns whether its end is that of the content.
fn inflate(mut decoder: Decompress, mut content: &[u8], text: &mut Vec<u8>) -> bool {
    loop {
        let (taken, given) = (decoder.total_in(), text.len());
        let status = decoder.decompress_vec(content, text, FlushDecompress::None);
        let taken = (decoder.total_in() - taken) as usize;
        content = content.get(taken..).unwrap_or_default();
        match status {
            Ok(Status::StreamEnd) => return content.is_empty(),
            Ok(Status::Ok | Status::BufError) if taken > 0 || text.len() > given => {}
            _ => return false,
        }
    }
}

/// Decodes brotli. Returns whether its end is that of the content.
fn brotli(content: &[u8], text: &mut Vec<u8>) -> bool {
    if content.first().is_none_or(|&first| brotli_window_bits(first) > BROTLI_WINDOW_BITS_MAX) {
        return false;
    }
    let alloc = StandardAlloc::default;
    // Strict: no windows beyond those of RFC 7932.
    let mut state = BrotliState::new_strict(alloc(), alloc(), alloc());
    let start = text.len();
    let (mut available_in, mut input_offset) = (content.len(), 0);
    let (mut available_out, mut output_offset, mut total_out) = (room_after(text), 0, 0);
    text.resize(start + available_out, 0);
    let result = BrotliDecompressStream(
        &mut available_in,
        &mut input_offset,
        content,
        &mut available_out,
        &mut output_offset,
        &mut text[start..],
        &mut total_out,
        &mut state,
    );
    text.truncate(start + output_offset);
    matches!(result, BrotliResult::ResultSuccess) && available_in == 0
}

/// Returns the bits of the window that a stream begins with (RFC 7932 §9.1).
fn brotli_window_bits(first: u8) -> u8 {
    match (first & 1, first >> 1 & 7, first >> 4 & 7) {
        (0, ..) => 16,
        (_, 0, 0) => 17,
        // Of the large windows that are no part of the RFC, and that a strict decoder refuses.
        (_, 0, 1) => u8::MAX,
        (_, 0, bits) => 8 + bits,
        (_, bits, _) => 17 + bits,
    }
}

/// Decodes one zstd frame after the other (RFC 8878 §3.1). Returns whether the last one ends the content.
fn zstd(mut content: &[u8], text: &mut Vec<u8>) -> bool {
    let mut decoder = FrameDecoder::new();
    decoder.set_max_window_size(ZSTD_WINDOW_BYTES_MAX);
    for _ in 0..MEMBERS_MAX {
        let has_ended = match decoder.init(&mut content) {
            Ok(()) => zstd_frame(&mut decoder, &mut content, text),
            // RFC 8878 §3.1.2: it is for somebody else.
            Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                content.split_off(..length as usize).is_some()
            }
            Err(_) => false,
        };
        if !has_ended {
            return false;
        }
        if content.is_empty() {
            return true;
        }
    }
    false
}

/// Decodes the blocks of one frame. Returns whether it came to its end, and all of it is here.
fn zstd_frame(decoder: &mut FrameDecoder, content: &mut &[u8], text: &mut Vec<u8>) -> bool {
    // Not more: its window keeps back what it has decoded, and a block of four bytes may be one of 128 KiB.
    let decoded = decoder.decode_blocks(content, BlockDecodingStrategy::UptoBytes(room_after(text)));
    read(decoder as &mut dyn Read, text) && decoded.is_ok_and(|is_last| is_last)
}

/// Returns how much more is decoded.
fn room_after(text: &[u8]) -> usize {
    DECODED_BYTES_MAX + 1 - text.len()
}
