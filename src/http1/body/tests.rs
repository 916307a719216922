use proptest::prelude::*;

use super::*;

/// All that can be seen of a reader, leaving aside where content was cut.
#[derive(Debug, PartialEq, Eq, Default)]
struct Transcript {
    data: Vec<u8>,
    /// Data and framing in order.
    relayed: Vec<u8>,
    framing: Vec<Vec<u8>>,
    consumed: usize,
    result: Option<BodyError>,
    is_complete: bool,
}

fn read_in(length: BodyLength, bytes: &[u8], reads: impl IntoIterator<Item = usize>) -> Transcript {
    let mut reader = BodyReader::new(length);
    let mut transcript = Transcript::default();
    for end in reads.into_iter().chain([bytes.len()]) {
        if end <= transcript.consumed || transcript.result.is_some() || reader.is_complete() {
            continue;
        }
        let input = &bytes[transcript.consumed..end];
        match feed(&mut reader, input, &mut transcript) {
            Ok(consumed) => {
                assert!(consumed == input.len() || reader.is_complete(), "input is left over");
                transcript.consumed += consumed;
            }
            Err(error) => {
                assert_eq!(reader.read(b"0\r\n\r\n", |_| panic!("emits after an error")), Err(error));
                transcript.consumed = 0;
                transcript.result = Some(error);
            }
        }
    }
    assert_eq!(reader.data_bytes(), transcript.data.len() as u64);
    transcript.is_complete = reader.is_complete();
    transcript
}

fn feed(reader: &mut BodyReader, input: &[u8], transcript: &mut Transcript) -> Result<usize, BodyError> {
    reader.read(input, |piece| match piece {
        Piece::Data(bytes) => {
            assert!(!bytes.is_empty());
            transcript.data.extend_from_slice(bytes);
            transcript.relayed.extend_from_slice(bytes);
        }
        Piece::Framing(bytes) => {
            transcript.framing.push(bytes.to_vec());
            transcript.relayed.extend_from_slice(bytes);
        }
    })
}

fn read_chunked(bytes: &[u8]) -> Transcript {
    read_in(BodyLength::Chunked, bytes, [])
}

#[test]
fn a_body_of_no_length_is_complete_from_the_start() {
    for length in [BodyLength::None, BodyLength::Known(0)] {
        let mut reader = BodyReader::new(length);
        assert!(reader.is_complete());
        assert_eq!(reader.read(b"GET", |_| panic!("there is no body")), Ok(0));
    }
}

#[test]
fn a_body_of_known_length_leaves_what_follows_it() {
    let transcript = read_in(BodyLength::Known(5), b"helloGET / HTTP/1.1", [2]);
    assert_eq!((transcript.data.as_slice(), transcript.consumed, transcript.is_complete), (&b"hello"[..], 5, true));
    assert!(transcript.framing.is_empty());
}

#[test]
fn a_close_delimited_body_takes_all_that_comes() {
    let mut reader = BodyReader::new(BodyLength::UntilClose);
    assert_eq!(reader.read(b"0\r\n\r\n", |piece| assert_eq!(piece, Piece::Data(b"0\r\n\r\n"))), Ok(5));
    assert!(!reader.is_complete());
}

#[test]
fn a_body_that_ends_early_is_not_complete() {
    let chunked = b"5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for end in 0..chunked.len() {
        let mut reader = BodyReader::new(BodyLength::Chunked);
        assert_eq!(reader.read(&chunked[..end], |_| {}), Ok(end));
        assert!(!reader.is_complete(), "after {end} bytes");
    }
    let mut reader = BodyReader::new(BodyLength::Known(5));
    assert_eq!(reader.read(b"hell", |_| {}), Ok(4));
    assert!(!reader.is_complete());
}

#[test]
fn framing_is_emitted_whole_and_content_at_once() {
    let bytes = b"00A;x=\"y;\\\"\"\r\n0123456789\r\nf \t; q\r\n0123456789abcde\r\n0\r\nX: y\r\n\r\nGET";
    let transcript = read_in(BodyLength::Chunked, bytes, 0..bytes.len());
    let expected: [&[u8]; 5] = [b"00A;x=\"y;\\\"\"\r\n", b"\r\n", b"f \t; q\r\n", b"\r\n", b"0\r\nX: y\r\n\r\n"];
    assert_eq!(transcript.framing, expected);
    assert_eq!(transcript.data, b"01234567890123456789abcde");
    assert_eq!((transcript.consumed, transcript.is_complete), (bytes.len() - 3, true));

    let mut reader = BodyReader::new(BodyLength::Chunked);
    let mut transcript = Transcript::default();
    feed(&mut reader, b"5\r\nhel", &mut transcript).unwrap();
    assert_eq!(transcript.relayed, b"5\r\nhel", "content does not wait for the end of its chunk");
    feed(&mut reader, b"lo\r\n5", &mut transcript).unwrap();
    assert_eq!(transcript.relayed, b"5\r\nhello\r\n", "a size line waits for its end");
}

#[test]
fn valid_chunked_bodies_are_passed_on_verbatim() {
    let rows: [(&str, &[u8]); 12] = [
        ("RFC 9112 §7.1", b"0\r\n\r\n"),
        ("RFC 9112 §7.1", b"5\r\nhello\r\n0\r\n\r\n"),
        ("RFC 9112 §7.1: zeros", b"0000000000000001\r\na\r\n00000\r\n\r\n"),
        ("RFC 9112 §7.1: either case", b"a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n"),
        ("RFC 9112 §7.1: content is not looked at", b"6\r\n0\r\n\r\n\0\r\n0\r\n\r\n"),
        ("RFC 9112 §7.1.1", b"1;a\r\nx\r\n0;b=c\r\n\r\n"),
        ("RFC 9112 §7.1.1", b"1;a=\"b c;\\\"\xff\";d=e\r\nx\r\n0\r\n\r\n"),
        ("RFC 9112 §7.1.1: BWS", b"1 ; a = b \t; c\r\nx\r\n0\r\n\r\n"),
        ("RFC 9112 §7.1.1: empty string", b"1;a=\"\"\r\nx\r\n0\r\n\r\n"),
        ("RFC 9112 §7.1.2", b"1\r\nx\r\n0\r\nX-Sum: 1\r\n\r\n"),
        ("RFC 9112 §7.1.2", b"0\r\nX-Sum:1 \r\nx-empty:\r\n\r\n"),
        ("RFC 9110 §5.5: obs-text", b"0\r\nX-Sum: \xff\r\n\r\n"),
    ];
    for (rule, bytes) in rows {
        let transcript = read_chunked(bytes);
        assert_eq!(transcript.relayed, bytes, "{rule}: {}", bytes.escape_ascii());
        assert!(transcript.is_complete, "{rule}: {}", bytes.escape_ascii());
    }
}

#[test]
fn malformed_chunked_bodies_are_refused() {
    use BodyError::{BadChunkEnd, BadChunkExtension, BadChunkSize, BadTrailer};
    let rows: [(&str, &[u8], BodyError); 51] = [
        ("RFC 9112 §7.1: empty size", b"\r\nhello", BadChunkSize),
        ("RFC 9112 §7.1: empty size", b"\n", BadChunkSize),
        ("RFC 9112 §7.1: empty size", b";a=b\r\n", BadChunkSize),
        ("RFC 9112 §7.1: signed", b"+5\r\nhello\r\n", BadChunkSize),
        ("RFC 9112 §7.1: signed", b"-5\r\nhello\r\n", BadChunkSize),
        ("RFC 9112 §7.1: prefix", b"0x5\r\nhello\r\n", BadChunkSize),
        ("RFC 9112 §7.1: white space before", b" 5\r\nhello\r\n", BadChunkSize),
        ("RFC 9112 §7.1: not hexadecimal", b"5g\r\nhello\r\n", BadChunkSize),
        ("RFC 9112 §7.1: not hexadecimal", b"g\r\n", BadChunkSize),
        ("RFC 9112 §7.1: point", b"5.0\r\nhello\r\n", BadChunkSize),
        ("RFC 9112 §7.1: underscore", b"1_0\r\nhello\r\n", BadChunkSize),
        ("RFC 9112 §7.1: overflow", b"10000000000000000\r\n", BadChunkSize),
        ("RFC 9112 §7.1: overflow of signed numbers", b"ffffffffffffffff\r\nab", BadChunkSize),
        ("RFC 9112 §7.1: overflow of signed numbers", b"8000000000000000;a=b\r\nab", BadChunkSize),
        ("RFC 9112 §7.1: too many digits", b"00000000000000005\r\nhello\r\n", BadChunkSize),
        ("RFC 9112 §7.1: bare LF", b"5\nhello\r\n0\r\n\r\n", BadChunkSize),
        ("RFC 9112 §7.1: bare CR", b"5\rhello\r\n0\r\n\r\n", BadChunkSize),
        ("RFC 9112 §7.1: CR CR LF", b"5\r\r\nhello\r\n0\r\n\r\n", BadChunkSize),
        ("RFC 9112 §7.1: bare LF of the last chunk", b"0\n\r\n", BadChunkSize),
        ("RFC 9112 §7.1: NUL", b"5\0\r\nhello\r\n", BadChunkSize),
        ("RFC 9112 §7.1: white space without an extension", b"5 \r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1: white space without an extension", b"5\t\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1: white space within", b"5 5\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: no name", b"5;\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: no name", b"5;=a\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: no name", b"5;;a\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: no value", b"5;a=\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: white space after", b"5;a \r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: open string", b"5;a=\"b\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: open string", b"5;a=\"\\\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: bare CR in a string", b"5;a=\"\r\"\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: bare CR", b"5;a\rb\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: bare LF", b"5;a\nhello\r\n", BadChunkSize),
        ("RFC 9112 §7.1.1: NUL", b"5;a=\0\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1.1: not a token", b"5;a=b,c\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1: no CRLF after the data", b"5\r\nhelloworld\r\n", BadChunkEnd),
        ("RFC 9112 §7.1: bare LF after the data", b"5\r\nhello\n0\r\n\r\n", BadChunkEnd),
        ("RFC 9112 §7.1: bare CR after the data", b"5\r\nhello\r0\r\n\r\n", BadChunkEnd),
        ("RFC 9112 §7.1: CR CR LF after the data", b"5\r\nhello\r\r\n0\r\n\r\n", BadChunkEnd),
        ("RFC 9110 §5.6.4: NUL escaped", b"5;a=\"\\\0\"\r\nhello\r\n", BadChunkExtension),
        ("RFC 9112 §7.1: two CRLF after the data", b"5\r\nhello\r\n\r\n0\r\n\r\n", BadChunkSize),
        ("RFC 9112 §7.1.2: bare LF", b"0\r\n\n", BadTrailer),
        ("RFC 9112 §7.1.2: bare LF", b"0\r\nA: b\n\r\n", BadTrailer),
        ("RFC 9112 §7.1.2: bare CR", b"0\r\nA: b\rc\r\n\r\n", BadTrailer),
        ("RFC 9112 §7.1.2: CR CR LF", b"0\r\n\r\r\n\r\n", BadTrailer),
        ("RFC 9112 §7.1.2: no colon", b"0\r\nGET / HTTP/1.1\r\n\r\n", BadTrailer),
        ("RFC 9112 §7.1.2: folded", b"0\r\nA: b\r\n c\r\n\r\n", BadTrailer),
        ("RFC 9112 §7.1.2: white space first", b"0\r\n A: b\r\n\r\n", BadTrailer),
        ("RFC 9112 §7.1.2: white space before the colon", b"0\r\nA : b\r\n\r\n", BadTrailer),
        ("RFC 9112 §7.1.2: NUL", b"0\r\nA: \0\r\n\r\n", BadTrailer),
        ("RFC 9112 §7.1.2: empty name", b"0\r\n: b\r\n\r\n", BadTrailer),
    ];
    for (rule, bytes, expected) in rows {
        let whole = read_chunked(bytes);
        assert_eq!(whole.result, Some(expected), "{rule}: {}", bytes.escape_ascii());
        assert_eq!(read_in(BodyLength::Chunked, bytes, 0..bytes.len()), whole, "{rule}: {}", bytes.escape_ascii());
    }
}

#[test]
fn a_bad_size_is_refused_before_its_line_ends() {
    for start in [&b"x"[..], b"\r", b" ", b"-", b"00000000000000000"] {
        assert_eq!(read_chunked(start).result, Some(BodyError::BadChunkSize), "{}", start.escape_ascii());
    }
    assert_eq!(read_chunked(b"1\r\nab").result, Some(BodyError::BadChunkEnd));
}

#[test]
fn the_largest_chunk_size_is_followed() {
    let mut reader = BodyReader::new(BodyLength::Chunked);
    assert_eq!(reader.read(b"7FFFFFFFFFFFFFFF\r\nab", |_| {}), Ok(20));
    assert_eq!(reader.owed(), Owed::ChunkData { remaining: (1 << 63) - 3 });
}

#[test]
fn a_chunk_counts_by_its_size_line_and_what_is_too_much_is_not_emitted() {
    const LIMIT: u64 = 10;
    let rows: [(&[u8], &[u8], bool); 7] = [
        (b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", b"5\r\nhello\r\n5\r\nworld\r\n0\r\n\r\n", true),
        (b"a\r\n0123456789\r\n0\r\nX: y\r\n\r\n", b"a\r\n0123456789\r\n0\r\nX: y\r\n\r\n", true),
        (b"b\r\n0123456789a", b"", false),
        (b"5\r\nhello\r\n6\r\nworld!", b"5\r\nhello\r\n", false),
        (b"5\r\nhello\r\n5\r\nworld\r\n1;a=b\r\n!", b"5\r\nhello\r\n5\r\nworld\r\n", false),
        (b"5\r\nhello\r\nfffffffffffffff\r\nab", b"5\r\nhello\r\n", false),
        (b"5\r\nhello\r\n7fffffffffffffff\r\nab", b"5\r\nhello\r\n", false),
    ];
    for (bytes, expected, is_accepted) in rows {
        for split in 0..=bytes.len() {
            let (first, second) = bytes.split_at(split);
            let mut reader = BodyReader::new(BodyLength::Chunked);
            let mut emitted = Vec::new();
            let mut emit = |piece: Piece<'_>| {
                let (Piece::Data(bytes) | Piece::Framing(bytes)) = piece;
                emitted.extend_from_slice(bytes);
            };
            let read =
                reader.read_within(first, LIMIT, &mut emit).and_then(|_| reader.read_within(second, LIMIT, emit));
            let at = format!("{} at {split}", bytes.escape_ascii());
            assert_eq!((emitted.as_slice(), reader.is_complete()), (expected, is_accepted), "{at}");
            assert_eq!(read.err(), (!is_accepted).then_some(BodyError::TooLarge), "{at}");
        }
    }
}

#[test]
fn without_a_limit_sizes_add_up_to_no_refusal() {
    let mut reader = BodyReader::new(BodyLength::Chunked);
    reader.data_bytes = u64::MAX - 1;
    assert_eq!(reader.read(b"7fffffffffffffff\r\nab", |_| {}), Ok(20));
    assert_eq!(reader.data_bytes(), u64::MAX);
}

#[test]
fn chunk_extensions_of_a_body_share_one_limit() {
    let chunk = |extension_bytes: usize| format!("1;{}\r\nx\r\n", "a".repeat(extension_bytes - 1));
    let rows = [
        (chunk(EXTENSION_BYTES_MAX) + "0\r\n\r\n", None),
        (chunk(EXTENSION_BYTES_MAX + 1), Some(BodyError::ChunkExtensionsTooLong)),
        (chunk(8192) + &chunk(8192) + "0\r\n\r\n", None),
        (chunk(8192) + &chunk(8193), Some(BodyError::ChunkExtensionsTooLong)),
        (chunk(8192) + &chunk(8192) + "0;a\r\n\r\n", Some(BodyError::ChunkExtensionsTooLong)),
        ("5;".to_owned() + &"a".repeat(100_000), Some(BodyError::ChunkExtensionsTooLong)),
        ("5;a=\"".to_owned() + &"\0".repeat(100_000) + "\n", Some(BodyError::ChunkExtensionsTooLong)),
    ];
    for (bytes, expected) in rows {
        let whole = read_chunked(bytes.as_bytes());
        assert_eq!(whole.result, expected, "{} bytes", bytes.len());
        assert_eq!(read_in(BodyLength::Chunked, bytes.as_bytes(), 0..bytes.len()), whole);
    }
}

#[test]
fn trailers_have_a_limit() {
    let body = |section_bytes: usize| format!("0\r\nX: {}\r\n\r\n", "a".repeat(section_bytes - 7));
    let many = format!("0\r\n{}\r\n", "X: y\r\n".repeat(257));
    let rows = [
        (body(TRAILER_BYTES_MAX), None),
        (body(TRAILER_BYTES_MAX + 1), Some(BodyError::TrailersTooLong)),
        ("0\r\n".to_owned() + &"a".repeat(100_000), Some(BodyError::TrailersTooLong)),
        ("0\r\n".to_owned() + &"A: b\r\n".repeat(100_000), Some(BodyError::TrailersTooLong)),
        (many, Some(BodyError::TrailersTooLong)),
    ];
    for (bytes, expected) in rows {
        let whole = read_chunked(bytes.as_bytes());
        assert_eq!(whole.result, expected, "{} bytes", bytes.len());
        assert_eq!(read_in(BodyLength::Chunked, bytes.as_bytes(), 0..bytes.len().min(20_000)), whole);
    }
}

#[test]
fn what_is_held_of_endless_framing_is_bounded() {
    for start in [&b"5;"[..], b"0\r\n"] {
        let mut reader = BodyReader::new(BodyLength::Chunked);
        let mut held_bytes = 0;
        for read in [start].into_iter().chain([&b"aaaaaaaa"[..]; 10_000]) {
            held_bytes = reader.held.len().max(held_bytes);
            if reader.read(read, |_| {}).is_err() {
                break;
            }
        }
        assert!((16_000..20_000).contains(&held_bytes), "{held_bytes} for {}", start.escape_ascii());
    }
}

#[test]
fn nothing_is_held_where_reads_end_with_pieces() {
    let mut reader = BodyReader::new(BodyLength::Chunked);
    for read in [&b"5\r\n"[..], b"hello", b"\r", b"\n", b"1\r\nx\r\n", b"0\r\nX: y\r\n\r\n"] {
        reader.read(read, |_| {}).unwrap();
        assert_eq!(reader.held.capacity(), 0, "after {}", read.escape_ascii());
    }
    assert!(reader.is_complete());
}

#[test]
fn trailers_that_heads_may_not_carry_on_are_removed() {
    let forbidden = [
        "Transfer-Encoding: chunked",
        "content-length: 5",
        "Host: evil",
        "Authorization: Bearer x",
        "X-API-Key: x",
        "Cookie: a=b",
        "Set-Cookie: a=b",
        "Connection: close",
        "Keep-Alive: 1",
        "TE: trailers",
        "Trailer: X",
        "Upgrade: websocket",
        "Proxy-Authorization: x",
        "Expect: 100-continue",
        "Content-Type: text/html",
        "Content-Encoding: gzip",
        "Location: http://evil/",
        "X-Flow-Uring-Error: draining",
        "x_flow.uring_error: draining",
        "Set_Cookie: a=b",
        "X_Api_Key: x",
        "content.length: 5",
        "Transfer_Encoding: chunked",
    ];
    for line in forbidden {
        let body = format!("1\r\nx\r\n0;a\r\nX-One:1\r\n{line}\r\nX-Two: 2\r\n\r\n");
        let transcript = read_in(BodyLength::Chunked, body.as_bytes(), [body.len() - 9]);
        let relayed = std::str::from_utf8(&transcript.relayed).unwrap();
        assert_eq!(relayed, "1\r\nx\r\n0;a\r\nX-One: 1\r\nX-Two: 2\r\n\r\n", "{line}");
        assert_eq!((transcript.is_complete, transcript.consumed), (true, body.len()), "{line}");
    }
}

#[test]
fn what_is_owed_follows_what_was_emitted() {
    let steps: [(&[u8], Owed); 8] = [
        (b"5", Owed::Nothing),
        (b"\r\n", Owed::ChunkData { remaining: 5 }),
        (b"hel", Owed::ChunkData { remaining: 2 }),
        (b"lo", Owed::ChunkEnd),
        (b"\r", Owed::ChunkEnd),
        (b"\n", Owed::Nothing),
        (b"0\r\nX: y", Owed::Nothing),
        (b"\r\n\r\n", Owed::Nothing),
    ];
    let mut reader = BodyReader::new(BodyLength::Chunked);
    assert_eq!(reader.owed(), Owed::Nothing);
    for (at, (input, owed)) in steps.into_iter().enumerate() {
        reader.read(input, |_| {}).unwrap();
        assert_eq!(reader.owed(), owed, "after {}", input.escape_ascii());
        assert_eq!(reader.is_complete(), at + 1 == steps.len());
    }
    let mut broken = BodyReader::new(BodyLength::Chunked);
    assert_eq!(broken.read(b"5\r\nhello0", |_| {}), Err(BodyError::BadChunkEnd));
    assert_eq!(broken.owed(), Owed::ChunkEnd);
    let mut reader = BodyReader::new(BodyLength::Known(5));
    reader.read(b"hel", |_| {}).unwrap();
    assert_eq!(reader.owed(), Owed::Nothing);
}

#[derive(Debug, Clone)]
struct Chunk {
    data: Vec<u8>,
    zeros: usize,
    is_upper: bool,
    extension: &'static str,
}

fn chunks() -> impl Strategy<Value = Vec<Chunk>> {
    let extension = prop_oneof![Just(""), Just(";a"), Just(" ; a=b"), Just(";a=\"b;\\\"c\"")];
    let chunk = (prop::collection::vec(any::<u8>(), 1..40), 0usize..4, any::<bool>(), extension)
        .prop_map(|(data, zeros, is_upper, extension)| Chunk { data, zeros, is_upper, extension });
    prop::collection::vec(chunk, 0..6)
}

fn encode(chunks: &[Chunk], trailers: &str) -> Vec<u8> {
    let mut out = Vec::new();
    for Chunk { data, zeros, is_upper, extension } in chunks {
        let size = if *is_upper { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
        out.extend_from_slice(format!("{}{size}{extension}\r\n", "0".repeat(*zeros)).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
    out
}

fn trailers() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just(""), Just("X-Sum: 1\r\n"), Just("A:b\r\nC:\td \r\n")]
}

/// Bodies close to valid ones.
fn nearly_chunked() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        Just(&b"5\r\nhello\r\n"[..]),
        Just(&b"1;a=\"b\"\r\n"[..]),
        Just(&b"0\r\n"[..]),
        Just(&b"\r\n"[..]),
        Just(&b"\r"[..]),
        Just(&b"\n"[..]),
        Just(&b"2"[..]),
        Just(&b" "[..]),
        Just(&b";"[..]),
        Just(&b"A: b\r\n"[..]),
        Just(&b"Host: b\r\n"[..]),
        Just(&b"ffffffff"[..]),
    ];
    prop::collection::vec(part, 0..10).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_chunking_decodes_to_its_content_and_is_relayed_verbatim(chunks in chunks(), trailers in trailers(), at: prop::sample::Index) {
        let bytes = encode(&chunks, trailers);
        let content = chunks.iter().flat_map(|chunk| chunk.data.clone()).collect::<Vec<u8>>();
        let with_next = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
        let transcript = read_in(BodyLength::Chunked, &with_next, [at.index(with_next.len())]);
        prop_assert_eq!(transcript.data, content);
        prop_assert_eq!(&transcript.relayed, &bytes);
        prop_assert_eq!((transcript.consumed, transcript.is_complete), (bytes.len(), true));
    }

    #[test]
    fn a_body_split_anywhere_is_the_same_body(bytes in nearly_chunked()) {
        let whole = read_chunked(&bytes);
        prop_assert_eq!(&read_in(BodyLength::Chunked, &bytes, 0..bytes.len()), &whole, "byte by byte");
        for at in 0..bytes.len() {
            prop_assert_eq!(&read_in(BodyLength::Chunked, &bytes, [at]), &whole, "split at {}", at);
        }
    }

    #[test]
    fn paying_what_is_owed_makes_a_cut_body_whole(chunks in chunks(), trailers in trailers(), at: prop::sample::Index) {
        let bytes = encode(&chunks, trailers);
        let mut reader = BodyReader::new(BodyLength::Chunked);
        let mut transcript = Transcript::default();
        feed(&mut reader, &bytes[..at.index(bytes.len())], &mut transcript).unwrap();
        let mut sent = transcript.relayed;
        match reader.owed() {
            Owed::Nothing => {}
            Owed::ChunkData { remaining } => sent.extend(vec![b'\n'; remaining as usize].iter().chain(b"\r\n")),
            Owed::ChunkEnd => sent.extend_from_slice(b"\r\n"),
        }
        sent.extend_from_slice(b"4\r\nmore\r\n0\r\n\r\n");
        let repaired = read_chunked(&sent);
        prop_assert!(repaired.is_complete && repaired.consumed == sent.len());
        prop_assert!(repaired.data.starts_with(&transcript.data) && repaired.data.ends_with(b"more"));
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes: Vec<u8>, length in 0u64..20) {
        for length in [BodyLength::Chunked, BodyLength::Known(length), BodyLength::UntilClose, BodyLength::None] {
            read_in(length, &bytes, 0..bytes.len());
        }
    }
}
