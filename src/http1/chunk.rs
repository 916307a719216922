//! The grammar of chunked framing, on whole lines (RFC 9112 §7.1): size lines with their extensions, and trailers.
//!
//! It keeps no state and sets no limit: both are up to `body`, which calls it.

use super::fields;
use super::grammar::{is_text_byte, is_token_byte};
use super::head::{HeadError, with_fields};
use super::piece::{BodyError, Piece};

/// Splits a size line into the size and the extensions; `digits` is how many of its bytes are digits of the size.
pub(super) fn parse_size_line(before_line_feed: &[u8], digits: usize) -> Result<(u64, &[u8]), BodyError> {
    let line = before_line_feed.strip_suffix(b"\r").ok_or(BodyError::BadChunkSize)?;
    let (digits, extension) = line.split_at_checked(digits).ok_or(BodyError::BadChunkSize)?;
    let size = std::str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
    let size = size.filter(|size| *size <= fields::LENGTH_MAX);
    match (size, extension) {
        (Some(size), []) => Ok((size, extension)),
        (Some(size), [b';' | b' ' | b'\t', ..]) if is_chunk_extension(extension) => Ok((size, extension)),
        (Some(_), [b';' | b' ' | b'\t', ..]) => Err(BodyError::BadChunkExtension),
        _ => Err(BodyError::BadChunkSize),
    }
}

/// Emits the last chunk and its trailers without those that must not be passed on: framing, routing, credentials and
/// whatever else this program handles in heads would slip past that handling here (RFC 9110 §6.5.1).
pub(super) fn emit_last_piece(
    piece: &[u8],
    section_start: usize,
    emit: &mut impl FnMut(Piece<'_>),
) -> Result<(), BodyError> {
    let (size_line, section) = piece.split_at(section_start);
    if section == b"\r\n" {
        emit(Piece::Framing(piece));
        return Ok(());
    }
    let emitted = with_fields(section, |trailers| {
        if trailers.iter().all(|trailer| fields::known(trailer.name).is_none()) {
            return emit(Piece::Framing(piece));
        }
        let mut kept = Vec::with_capacity(piece.len());
        kept.extend_from_slice(size_line);
        for trailer in trailers.iter().filter(|trailer| fields::known(trailer.name).is_none()) {
            fields::push_field(&mut kept, trailer.name, trailer.value);
        }
        kept.extend_from_slice(b"\r\n");
        emit(Piece::Framing(&kept));
    });
    emitted.map_err(|error| match error {
        HeadError::TooManyFields => BodyError::TrailersTooLong,
        _ => BodyError::BadTrailer,
    })
}

/// Checks `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (RFC 9112 §7.1.1). Extensions are passed
/// on, so nothing that another reader could take for the end of the line may come through.
fn is_chunk_extension(mut extension: &[u8]) -> bool {
    while !extension.is_empty() {
        let Some(rest) = skip_extension(extension) else { return false };
        extension = rest;
    }
    true
}

/// Returns what follows the first extension.
fn skip_extension(extension: &[u8]) -> Option<&[u8]> {
    let name = skip_whitespace(extension).strip_prefix(b";").map(skip_whitespace)?;
    let after_name = skip_token(name)?;
    match skip_whitespace(after_name).strip_prefix(b"=").map(skip_whitespace) {
        None => Some(after_name),
        Some([b'"', quoted @ ..]) => skip_quoted(quoted),
        Some(value) => skip_token(value),
    }
}

fn skip_whitespace(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len());
    &bytes[end..]
}

fn skip_token(bytes: &[u8]) -> Option<&[u8]> {
    let end = bytes.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(bytes.len());
    (end > 0).then(|| &bytes[end..])
}

/// Returns what follows a quoted string (RFC 9110 §5.6.4) whose opening quote was taken.
fn skip_quoted(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if is_text_byte(*escaped) => rest,
            [b'\\', ..] => return None,
            [byte, rest @ ..] if is_text_byte(*byte) => rest,
            _ => return None,
        }
    }
}
