//! An error with a content coding, which can be judged only as a whole: a decoder needs all that came before.
//!
//! Invariant: at most [`SEARCHED_BYTES_MAX`] are kept of it, and as many decoded. Not here: what becomes of the answer.

use std::io::Read;

use brotli_decompressor::Decompressor;
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use ruzstd::decoding::StreamingDecoder;
use zeroize::Zeroizing;

use crate::credentials::TokenTraces;
use crate::proxy::response::coding::ContentCoding;

/// The part of an error that is searched: more than any that was seen is long.
pub const SEARCHED_BYTES_MAX: usize = 64 * 1024;

/// The buffer that brotli's decoder reads into.
const READ_BYTES: usize = 4 * 1024;

/// The content of an error as it came.
pub struct CodedError {
    coding: ContentCoding,
    content: Zeroizing<Vec<u8>>,
    is_judged: bool,
}

/// The verdict on an error that was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodedVerdict {
    Clean,
    /// It holds a run.
    Leaks,
    /// None was found, but not all of it could be searched: it is too long, broken, or of an unknown coding.
    Unsearched,
}

impl CodedError {
    pub fn new(coding: ContentCoding) -> Self {
        CodedError { coding, content: Zeroizing::default(), is_judged: false }
    }

    /// Takes the next bytes of the content.
    pub fn observe(&mut self, data: &[u8]) {
        if self.is_judged {
            return;
        }
        // One more byte tells a longer one.
        let room = SEARCHED_BYTES_MAX + 1 - self.content.len();
        self.content.extend_from_slice(&data[..data.len().min(room)]);
    }

    /// Returns whether more of it is searched, and none of it goes downstream yet.
    pub fn wants_more(&self) -> bool {
        !self.is_judged && self.coding != ContentCoding::Other && self.content.len() <= SEARCHED_BYTES_MAX
    }

    /// Judges it by what came; from here on nothing of it is kept.
    pub fn judge(&mut self, traces: &TokenTraces) -> CodedVerdict {
        self.is_judged = true;
        let content = std::mem::take(&mut self.content);
        let mut decoded = Zeroizing::new(Vec::new());
        let is_whole = decode(self.coding, &content, &mut decoded) && content.len() <= SEARCHED_BYTES_MAX;
        // Some servers name a coding that they have not applied.
        let has_run = [&decoded, &content].iter().any(|text| !traces.runs_in(text).is_empty());
        match (has_run, is_whole) {
            (true, _) => CodedVerdict::Leaks,
            (false, true) => CodedVerdict::Clean,
            (false, false) => CodedVerdict::Unsearched,
        }
    }
}

/// Decodes as much as is searched. Returns whether that is all.
fn decode(coding: ContentCoding, content: &[u8], decoded: &mut Vec<u8>) -> bool {
    match coding {
        ContentCoding::Identity => false,
        ContentCoding::Gzip => read(MultiGzDecoder::new(content), decoded),
        // RFC 9110 §8.4.1.2: it has zlib's frame, which some servers leave out.
        ContentCoding::Deflate => {
            read(ZlibDecoder::new(content), decoded)
                || decoded.is_empty() && read(DeflateDecoder::new(content), decoded)
        }
        ContentCoding::Brotli => read(Decompressor::new(content, READ_BYTES), decoded),
        ContentCoding::Zstd => StreamingDecoder::new(content).is_ok_and(|decoder| read(decoder, decoded)),
        ContentCoding::Other => false,
    }
}

/// Reads what a decoder gives, also before it fails.
fn read(decoder: impl Read, decoded: &mut Vec<u8>) -> bool {
    let limit = SEARCHED_BYTES_MAX as u64 + 1;
    decoder.take(limit).read_to_end(decoded).is_ok() && decoded.len() <= SEARCHED_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};

    use super::*;
    use crate::credentials::Secret;

    const SECRET: &str = "the secret itself";

    fn traces() -> TokenTraces {
        TokenTraces::new("a.b.c", &Secret::new(SECRET.to_owned()))
    }

    fn judged(coding: ContentCoding, content: &[u8]) -> CodedVerdict {
        let mut error = CodedError::new(coding);
        content.chunks(7).for_each(|part| error.observe(part));
        let verdict = error.judge(&traces());
        assert!(!error.wants_more() && error.content.is_empty());
        verdict
    }

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("a Vec takes every byte");
        encoder.finish().expect("a Vec takes every byte")
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("a Vec takes every byte");
        encoder.finish().expect("a Vec takes every byte")
    }

    fn raw_deflate(text: &[u8]) -> Vec<u8> {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).expect("a Vec takes every byte");
        encoder.finish().expect("a Vec takes every byte")
    }

    /// An uncompressed meta-block of at most 64 KiB, and an empty last one (RFC 7932 §9.2).
    fn brotli(text: &[u8]) -> Vec<u8> {
        let header = (text.len() as u32 - 1) << 4 | 1 << 20;
        [&header.to_le_bytes()[..3], text, &[3]].concat()
    }

    /// One frame of one raw block (RFC 8878 §3.1.1), of 256 bytes or more.
    fn zstd(text: &[u8]) -> Vec<u8> {
        let size = (text.len() - 256) as u16;
        let block = (text.len() as u32) << 3 | 1;
        [&[0x28, 0xB5, 0x2F, 0xFD, 0x60][..], &size.to_le_bytes(), &block.to_le_bytes()[..3], text].concat()
    }

    #[test]
    fn an_error_of_every_known_coding_is_searched() {
        type Encode = fn(&[u8]) -> Vec<u8>;
        let encoders: [(ContentCoding, Encode); 5] = [
            (ContentCoding::Gzip, gzip),
            (ContentCoding::Deflate, zlib),
            (ContentCoding::Deflate, raw_deflate),
            (ContentCoding::Brotli, brotli),
            (ContentCoding::Zstd, zstd),
        ];
        let filler = "no key, ".repeat(40);
        for (index, (coding, encode)) in encoders.into_iter().enumerate() {
            let harmless = encode(filler.as_bytes());
            assert_eq!(judged(coding, &harmless), CodedVerdict::Clean, "{coding:?} {index}");
            let leaking = encode(format!("{filler}{SECRET}{filler}").as_bytes());
            assert_eq!(judged(coding, &leaking), CodedVerdict::Leaks, "{coding:?} {index}");
            let broken = &harmless[..harmless.len() - 3];
            assert_eq!(judged(coding, broken), CodedVerdict::Unsearched, "{coding:?} {index}");
        }
    }

    #[test]
    fn what_is_broken_or_not_coded_at_all_is_searched_as_far_as_it_goes() {
        let filler = "no key, ".repeat(4000);
        let whole = gzip(format!("{SECRET}{filler}").as_bytes());
        assert_eq!(judged(ContentCoding::Gzip, &whole[..whole.len() - 9]), CodedVerdict::Leaks);
        assert_eq!(judged(ContentCoding::Gzip, SECRET.as_bytes()), CodedVerdict::Leaks);
        assert_eq!(judged(ContentCoding::Other, SECRET.as_bytes()), CodedVerdict::Leaks);
        assert_eq!(judged(ContentCoding::Other, b"?"), CodedVerdict::Unsearched);
        assert_eq!(judged(ContentCoding::Brotli, &[0xFF; 100]), CodedVerdict::Unsearched);
    }

    #[test]
    fn no_more_than_64_kib_are_kept_or_decoded() {
        let bomb = gzip(&vec![b' '; 8 * SEARCHED_BYTES_MAX]);
        assert!(bomb.len() < 4096);
        assert_eq!(judged(ContentCoding::Gzip, &bomb), CodedVerdict::Unsearched);
        assert_eq!(judged(ContentCoding::Gzip, &gzip(&vec![b' '; SEARCHED_BYTES_MAX])), CodedVerdict::Clean);
        let mut decoded = Vec::new();
        assert!(!decode(ContentCoding::Gzip, &bomb, &mut decoded));
        assert_eq!(decoded.len(), SEARCHED_BYTES_MAX + 1);

        let mut error = CodedError::new(ContentCoding::Gzip);
        for _ in 0..3 {
            error.observe(&[0; SEARCHED_BYTES_MAX]);
        }
        assert!(!error.wants_more());
        assert_eq!(error.content.len(), SEARCHED_BYTES_MAX + 1);
    }
}
