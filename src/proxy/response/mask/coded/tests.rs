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
    let verdict = error.judge(&traces(), true);
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

/// Bytes of text in one block that is not compressed: too few for what is searched for, which is not to be found
/// without a decoder.
const BLOCK_BYTES: usize = 7;

/// Uncompressed meta-blocks, and an empty last one (RFC 7932 §9.2).
fn brotli(text: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    for block in text.chunks(BLOCK_BYTES) {
        let header = (block.len() as u32 - 1) << 3 | 1 << 19;
        // The size of the window stands before the first of them.
        let header = if stream.is_empty() { header << 1 } else { header };
        stream.extend([&header.to_le_bytes()[..3], block].concat());
    }
    [&stream[..], &[3]].concat()
}

/// One frame of raw blocks (RFC 8878 §3.1.1), of 256 bytes or more.
fn zstd(text: &[u8]) -> Vec<u8> {
    let size = (text.len() - 256) as u16;
    let mut frame = [&[0x28, 0xB5, 0x2F, 0xFD, 0x60][..], &size.to_le_bytes()].concat();
    let last = (text.len() - 1) / BLOCK_BYTES;
    for (index, block) in text.chunks(BLOCK_BYTES).enumerate() {
        let header = (block.len() as u32) << 3 | u32::from(index == last);
        frame.extend([&header.to_le_bytes()[..3], block].concat());
    }
    frame
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
        assert!(traces().runs_in(&leaking).is_empty(), "{coding:?} {index}: it is found without a decoder");
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
    assert_eq!(judged(ContentCoding::Several, SECRET.as_bytes()), CodedVerdict::Leaks);
    // Text that is not coded, whatever its server says, was searched as it stands.
    for coding in [ContentCoding::Several, ContentCoding::Gzip, ContentCoding::Brotli] {
        assert_eq!(judged(coding, "{\"error\":\n\"caf\u{e9}\"}".as_bytes()), CodedVerdict::Clean, "{coding:?}");
        assert_eq!(judged(coding, b"\x1F\x8B\x08?"), CodedVerdict::Unsearched, "{coding:?}");
        assert_eq!(
            judged(coding, &b"no key, ".repeat(CODED_BYTES_MAX / 8 + 1)),
            CodedVerdict::Unsearched,
            "{coding:?}"
        );
    }
    assert_eq!(judged(ContentCoding::Brotli, &[0xFF; 100]), CodedVerdict::Unsearched);
}

#[test]
fn no_more_than_64_kib_are_kept_or_decoded() {
    let bomb = gzip(&vec![b' '; 8 * CODED_BYTES_MAX]);
    assert!(bomb.len() < 4096);
    assert_eq!(judged(ContentCoding::Gzip, &bomb), CodedVerdict::Unsearched);
    assert_eq!(judged(ContentCoding::Gzip, &gzip(&vec![b' '; CODED_BYTES_MAX])), CodedVerdict::Clean);
    let decoded = decode(ContentCoding::Gzip, &bomb);
    assert!(!decoded.is_whole);
    assert_eq!(decoded.text.len(), CODED_BYTES_MAX + 1);

    let mut error = CodedError::new(ContentCoding::Gzip);
    for _ in 0..3 {
        error.observe(&[0; CODED_BYTES_MAX]);
    }
    assert!(!error.wants_more());
    assert_eq!(error.content.len(), CODED_BYTES_MAX + 1);
}

#[test]
fn all_members_and_frames_are_searched_and_what_follows_the_end_is_never_clean() {
    let filler = "no key, ".repeat(40);
    let leaking = format!("{filler}{SECRET}");
    let (clean, leaks) = (filler.as_bytes(), leaking.as_bytes());
    let skippable = [&[0x5A, 0x2A, 0x4D, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
    for (coding, content, expected) in [
        (ContentCoding::Zstd, [zstd(clean), zstd(leaks)].concat(), CodedVerdict::Leaks),
        (ContentCoding::Zstd, [skippable.clone(), zstd(leaks)].concat(), CodedVerdict::Leaks),
        (ContentCoding::Zstd, [zstd(clean), skippable.clone(), zstd(clean)].concat(), CodedVerdict::Clean),
        (ContentCoding::Zstd, skippable[..9].to_vec(), CodedVerdict::Unsearched),
        (ContentCoding::Zstd, [zstd(leaks), b"???".to_vec()].concat(), CodedVerdict::Leaks),
        (ContentCoding::Gzip, [gzip(clean), gzip(leaks)].concat(), CodedVerdict::Leaks),
        (ContentCoding::Gzip, [gzip(clean), gzip(clean)].concat(), CodedVerdict::Clean),
    ] {
        assert_eq!(judged(coding, &content), expected, "{coding:?} {}", content.len());
    }
    for (coding, content) in [
        (ContentCoding::Gzip, gzip(clean)),
        (ContentCoding::Deflate, zlib(clean)),
        (ContentCoding::Deflate, raw_deflate(clean)),
        (ContentCoding::Brotli, brotli(clean)),
        (ContentCoding::Zstd, zstd(clean)),
    ] {
        for more in [&b"\0"[..], b"and some more that nobody has decoded", &content[..content.len() - 1]] {
            let content = [&content, more].concat();
            assert_eq!(judged(coding, &content), CodedVerdict::Unsearched, "{coding:?} {}", more.len());
        }
    }
}

#[test]
fn an_error_that_is_cut_is_never_clean_and_an_empty_one_is() {
    for (content, is_complete, expected) in [
        (gzip(b"no key"), true, CodedVerdict::Clean),
        (gzip(b"no key"), false, CodedVerdict::Unsearched),
        (Vec::new(), true, CodedVerdict::Clean),
        (Vec::new(), false, CodedVerdict::Unsearched),
    ] {
        let mut error = CodedError::new(ContentCoding::Gzip);
        error.observe(&content);
        assert_eq!(error.judge(&traces(), is_complete), expected, "{content:?} {is_complete}");
    }
}

#[test]
fn a_bomb_of_zstd_or_brotli_is_given_up_after_64_kib() {
    // A window of 128 MiB (RFC 8878 §3.1.1.1.2), and blocks of one byte that is repeated 128 Ki times.
    let frame = |window: u8, blocks: usize| {
        let block = ((128_u32 << 10) << 3 | 1 << 1).to_le_bytes();
        let blocks = [block[0], block[1], block[2], b' '].repeat(blocks);
        [&[0x28, 0xB5, 0x2F, 0xFD, 0, window][..], &blocks, &[1, 0, 0]].concat()
    };
    for (window, blocks) in [(17 << 3, 1), (17 << 3, 16_000), (13 << 3, 16_000), (14 << 3, 0), (0, 1)] {
        let bomb = frame(window, blocks);
        assert_eq!(judged(ContentCoding::Zstd, &bomb), CodedVerdict::Unsearched, "{window} {blocks}");
    }
    assert_eq!(judged(ContentCoding::Zstd, &frame(13 << 3, 0)), CodedVerdict::Clean);
    assert!(decode(ContentCoding::Zstd, &frame(13 << 3, 16_000)).text.len() <= CODED_BYTES_MAX + 1);

    // RFC 7932 §9.1: windows of 22, 23 and 24 bits with an empty last meta-block.
    assert_eq!(judged(ContentCoding::Brotli, &[0b0011_1011]), CodedVerdict::Clean);
    for first in [0b0011_1101, 0b0011_1111] {
        assert_eq!(judged(ContentCoding::Brotli, &[first, 0x80]), CodedVerdict::Unsearched, "{first:b}");
    }
}

#[test]
fn members_are_limited() {
    let members = |count| gzip(b"").repeat(count);
    assert_eq!(judged(ContentCoding::Gzip, &members(64)), CodedVerdict::Clean);
    assert_eq!(judged(ContentCoding::Gzip, &members(65)), CodedVerdict::Unsearched);
}
