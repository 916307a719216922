//! Messages as kawa reads them, the parser of the proxy Sōzu, which shares no code with httparse.

use kawa::{Block, BodySize, Buffer, Kawa, Kind, ParsingPhase, ParsingPhaseMarker, SliceBuffer, StatusLine, Store};

use crate::wire::{End, FieldReading, FirstLine, Framing, HeadReading, Reading, Wire};

/// Reads the first message.
pub fn read(wire: &Wire<'_>) -> Reading {
    let mut memory = wire.bytes.to_vec();
    let mut storage = Buffer::new(SliceBuffer(&mut memory));
    storage.fill(wire.bytes.len());
    let kind = if wire.is_request { Kind::Request } else { Kind::Response };
    let mut kawa = Kawa::new(kind, storage);
    kawa::h1::parse(&mut kawa, &mut kawa::h1::NoCallbacks);
    let (end, marker) = match kawa.parsing_phase {
        ParsingPhase::Terminated => (End::At(kawa.storage.head), ParsingPhaseMarker::Terminated),
        ParsingPhase::Error { marker, .. } => (End::Refused, marker),
        phase => (End::Missing, phase.marker()),
    };
    let has_head =
        !matches!(marker, ParsingPhaseMarker::StatusLine | ParsingPhaseMarker::Headers | ParsingPhaseMarker::Cookies);
    if !has_head {
        return Reading { end, ..Reading::default() };
    }
    let mut reading = Reading { head: Some(head(&kawa)), end, ..Reading::default() };
    let (mut fields, mut is_trailer) = (Vec::new(), false);
    for block in &kawa.blocks {
        match block {
            Block::Header(field) if field.is_elided() => {}
            Block::Header(field) => {
                let field = (lower_case(&bytes(&kawa, &field.key)), bytes(&kawa, &field.val));
                if is_trailer { reading.trailers.push(field) } else { fields.push(field) }
            }
            Block::Chunk(chunk) => reading.content.extend(bytes(&kawa, &chunk.data)),
            Block::Flags(flags) => is_trailer |= flags.end_body,
            Block::StatusLine | Block::Cookies | Block::ChunkHeader(_) => {}
        }
    }
    set_fields(&mut reading, fields);
    reading
}

fn set_fields(reading: &mut Reading, fields: Vec<FieldReading>) {
    if let Some(head) = &mut reading.head {
        head.fields = fields;
    }
}

fn head(kawa: &Kawa<SliceBuffer<'_>>) -> HeadReading {
    let (first_line, version, host) = match &kawa.detached.status_line {
        StatusLine::Request { version, method, uri, authority, .. } => {
            let line = FirstLine::Request { method: bytes(kawa, method), target: bytes(kawa, uri) };
            (line, *version, Some(bytes(kawa, authority)).filter(|_| !matches!(authority, Store::Empty)))
        }
        StatusLine::Response { version, code, reason, .. } => {
            (FirstLine::Status { status: *code, reason: bytes(kawa, reason) }, *version, None)
        }
        StatusLine::Unknown => unreachable!("the head was read"),
    };
    let framing = match kawa.body_size {
        BodySize::Chunked => Framing::Chunked,
        BodySize::Length(length) => Framing::Length(length as u64),
        BodySize::Empty if kawa.kind == Kind::Request => Framing::Length(0),
        BodySize::Empty => Framing::UntilClose,
    };
    HeadReading { first_line, is_http10: matches!(version, kawa::Version::V10), host, fields: Vec::new(), framing }
}

fn bytes(kawa: &Kawa<SliceBuffer<'_>>, store: &Store) -> Vec<u8> {
    store.data_opt(kawa.storage.buffer()).unwrap_or_default().to_vec()
}

fn lower_case(name: &[u8]) -> Vec<u8> {
    name.to_ascii_lowercase()
}
