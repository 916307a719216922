//! Answers into which pieces of a token are put, in any framing and any reads.

use crate::body::{Chunked, End};
use crate::input::Random;
use crate::token::{Token, marked};

/// The most bytes that an answer gets.
const BYTES_MAX: usize = 4096;
const TRAILERS_MAX: usize = 8;

/// The kind of an answer, apart from its framing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A stream of which the error events are searched.
    Events,
    /// An error, all of which is searched, and which may be a stream.
    Error { status: u16, form: ErrorForm },
    /// Content that is not searched.
    Other,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorForm {
    Json,
    Stream,
    /// Of a coding that is not known, if it is one.
    Coded,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    Length,
    Chunked,
    Close,
}

/// A part of a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Content(Vec<u8>),
    /// A size line, the end of a chunk, or the last chunk with the trailers.
    Framing(Vec<u8>),
}

impl Part {
    pub fn bytes(&self) -> &[u8] {
        let (Part::Content(bytes) | Part::Framing(bytes)) = self;
        bytes
    }
}

#[derive(Debug)]
pub struct Answer {
    pub kind: Kind,
    pub framing: Framing,
    pub is_for_http10: bool,
    /// What the upstream sends, or would send if nothing broke.
    pub parts: Vec<Part>,
    /// So many of its bytes come.
    pub came: usize,
    /// The ends of reads.
    pub read_ends: Vec<usize>,
}

/// Bytes of a text that are no content. A piece of the token.
const PIECE: u8 = 1;
/// A piece of which one byte is changed.
const NEAR_MISS: u8 = 2;
const CHUNK_END: u8 = 3;
/// The end of a chunk, and a piece in an extension of the next.
const EXTENSION: u8 = 4;
/// A piece in a trailer.
const TRAILER: u8 = 5;
const READ_END: u8 = 6;
/// The end of all that comes.
const CUT: u8 = 7;

/// An answer that is being made.
#[derive(Default)]
struct Draft {
    /// The content of each chunk, and the extension before it.
    chunks: Vec<(Vec<u8>, Vec<u8>)>,
    trailers: Vec<u8>,
    trailers_count: usize,
    bytes: usize,
    /// Places in the content.
    read_ends: Vec<usize>,
    cut: Option<usize>,
}

impl Answer {
    /// Reads one: a byte for its kind, one for its framing, and the text.
    pub fn of([kind, framing]: [u8; 2], text: &[u8], token: &Token) -> Self {
        let mut draft = Draft::default();
        draft.chunks.push(Default::default());
        draft.read(text, token);
        let framing_kind = [Framing::Length, Framing::Chunked, Framing::Close][usize::from(framing % 3)];
        let (cut, ends) = (draft.cut, draft.read_ends.clone());
        let parts = if framing_kind == Framing::Chunked { draft.chunked() } else { vec![draft.plain()] };
        let whole = parts.iter().map(|part| part.bytes().len()).sum();
        let raw = |content| raw_place(&parts, content);
        let (mut came, read_ends) = (cut.map_or(whole, raw), ends.into_iter().map(raw).collect());
        if framing & 0x40 != 0 {
            // Anywhere, also within framing.
            came = Random::of(text).below(whole + 1);
        }
        Answer {
            kind: kind_of(kind),
            framing: framing_kind,
            is_for_http10: framing & 0x80 != 0,
            parts,
            came,
            read_ends,
        }
    }

    pub fn raw(&self) -> Vec<u8> {
        self.parts.iter().flat_map(|part| part.bytes().to_vec()).collect()
    }

    /// Returns what goes downstream of all that came, as it is and masked: content when it comes, framing when a piece of
    /// it is whole, and none to a client that knows no chunks.
    pub fn passed_on(&self, token: &Token) -> Vec<Passed> {
        let (mut passed_on, mut start) = (Vec::new(), 0);
        for part in &self.parts {
            let end = start + part.bytes().len();
            match part {
                Part::Content(bytes) => {
                    let content = |(at, &byte)| Passed { byte, due: start + at + 1, masked: None };
                    passed_on.extend(bytes.iter().enumerate().map(content));
                }
                Part::Framing(_) if self.is_for_http10 => {}
                Part::Framing(bytes) => {
                    let masked = masked_framing(bytes, token);
                    let framing = |(&byte, masked)| Passed { byte, due: end, masked: Some(masked) };
                    passed_on.extend(bytes.iter().zip(masked).map(framing));
                }
            }
            start = end;
        }
        passed_on.retain(|passed| passed.due <= self.came);
        passed_on
    }
}

/// A byte that goes downstream.
#[derive(Debug, Clone, Copy)]
pub struct Passed {
    pub byte: u8,
    /// It goes when so many bytes of the body have come.
    pub due: usize,
    /// What becomes of it if it is framing.
    pub masked: Option<u8>,
}

/// Masks the runs in a piece of framing, but for the size, line ends, the colons after names, and what extensions are
/// made of.
fn masked_framing(framing: &[u8], token: &Token) -> Vec<u8> {
    let digits = framing.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let is_run = marked(framing.len() - digits, &token.runs(&framing[digits..]));
    let mut masked = framing.to_vec();
    let (mut is_size_line, mut is_after_colon) = (digits > 0, false);
    let (mut is_quoted, mut is_escaped) = (false, false);
    for (at, byte) in masked.iter_mut().enumerate().skip(digits) {
        let is_structure = match byte {
            b'\r' | b'\n' => true,
            b'"' => is_size_line && !is_escaped,
            b'\\' => is_size_line && is_quoted && !is_escaped,
            b';' | b'=' | b' ' | b'\t' => is_size_line && !is_quoted,
            b':' => !is_size_line && !is_after_colon,
            _ => false,
        };
        is_after_colon |= *byte == b':';
        is_quoted ^= *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && is_quoted && !is_escaped;
        if *byte == b'\n' {
            (is_size_line, is_after_colon) = (false, false);
        }
        if is_run[at - digits] && !is_structure {
            *byte = b'*';
        }
    }
    masked
}

impl Draft {
    fn read(&mut self, text: &[u8], token: &Token) {
        let mut bytes = text.iter().copied();
        while let Some(byte) = bytes.next().filter(|_| self.bytes < BYTES_MAX) {
            let mut operand = || bytes.next().unwrap_or(0);
            match byte {
                PIECE => self.append(token.piece([operand(), operand(), operand()])),
                NEAR_MISS => {
                    let mut piece = token.piece([operand(), operand(), operand()]).to_vec();
                    let at = usize::from(operand()) % piece.len();
                    piece[at] ^= 1;
                    self.append(&piece);
                }
                CHUNK_END => self.chunks.push(Default::default()),
                EXTENSION => {
                    let piece = token.piece([operand(), operand(), operand()]);
                    self.bytes += piece.len();
                    self.chunks.push((Vec::new(), extension(piece, operand())));
                }
                TRAILER => {
                    let piece = token.piece([operand(), operand(), operand()]);
                    self.append_trailer(piece, operand());
                }
                READ_END => self.read_ends.push(self.content_bytes()),
                CUT => self.cut = Some(self.content_bytes()),
                _ => self.append(&[byte]),
            }
        }
    }

    fn content_bytes(&self) -> usize {
        self.chunks.iter().map(|(content, _)| content.len()).sum()
    }

    fn append(&mut self, content: &[u8]) {
        self.bytes += content.len();
        if let Some((chunk, _)) = self.chunks.last_mut() {
            chunk.extend_from_slice(content);
        }
    }

    fn append_trailer(&mut self, piece: &[u8], form: u8) {
        let field = match form % 2 {
            0 => [b"X-Trailer: ", piece, b"\r\n"].concat(),
            _ => [b"X-", piece, b": y\r\n"].concat(),
        };
        let is_valid = is_whole(&[b"0\r\n", &field[..], b"\r\n"].concat());
        if is_valid && self.trailers_count < TRAILERS_MAX {
            self.trailers_count += 1;
            self.trailers.extend_from_slice(&field);
        }
    }

    fn plain(self) -> Part {
        Part::Content(self.chunks.into_iter().flat_map(|(content, _)| content).collect())
    }

    /// Chunks have the size that the text gives them; none is empty, since that would be the last.
    fn chunked(self) -> Vec<Part> {
        let mut parts = Vec::new();
        for (content, extension) in self.chunks.into_iter().filter(|(content, _)| !content.is_empty()) {
            parts.push(Part::Framing([format!("{:x}", content.len()).as_bytes(), &extension, b"\r\n"].concat()));
            parts.push(Part::Content(content));
            parts.push(Part::Framing(b"\r\n".to_vec()));
        }
        parts.push(Part::Framing([b"0\r\n", &self.trailers[..], b"\r\n"].concat()));
        parts
    }
}

/// Puts a piece into an extension, where it can stand.
fn extension(piece: &[u8], form: u8) -> Vec<u8> {
    let extension = match form % 3 {
        0 => [b";a=\"", piece, b"\""].concat(),
        1 => [b";", piece].concat(),
        _ => piece.to_vec(),
    };
    let is_valid = is_whole(&[b"1", &extension[..], b"\r\na\r\n0\r\n\r\n"].concat());
    if is_valid && extension.first().is_some_and(|byte| !byte.is_ascii_hexdigit()) { extension } else { Vec::new() }
}

fn is_whole(body: &[u8]) -> bool {
    matches!(Chunked::read(body).end, End::Whole { body_bytes, .. } if body_bytes == body.len())
}

/// Returns the place in the body of a place in the content.
fn raw_place(parts: &[Part], content_place: usize) -> usize {
    let (mut raw, mut left) = (0, content_place);
    for part in parts {
        let bytes = part.bytes().len();
        if matches!(part, Part::Content(_)) {
            if left < bytes {
                return raw + left;
            }
            left -= bytes;
        }
        raw += bytes;
    }
    raw
}

fn kind_of(byte: u8) -> Kind {
    match byte % 8 {
        0..3 => Kind::Events,
        3 => Kind::Error { status: 401, form: ErrorForm::Json },
        4 => Kind::Error { status: 503, form: ErrorForm::Stream },
        5 => Kind::Error { status: 400, form: ErrorForm::Stream },
        6 => Kind::Other,
        _ => Kind::Error { status: 403, form: ErrorForm::Coded },
    }
}
