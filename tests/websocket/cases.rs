//! The cases of RFC 6455: sequences of frames, valid and not, as Autobahn's test suite orders them.

use super::frame::{BINARY, CLOSE, CONTINUATION, Frame, PING, PONG, TEXT};

/// One sequence of frames, with a name.
pub struct Case {
    pub name: String,
    pub frames: Vec<Frame>,
    /// Bytes that are no frame of the kit, as a client and as a server send them.
    pub raw: Option<(Vec<u8>, Vec<u8>)>,
}

impl Case {
    fn new(name: impl Into<String>, frames: Vec<Frame>) -> Self {
        Case { name: name.into(), frames, raw: None }
    }

    fn raw(name: &str, client: &[u8], server: &[u8]) -> Self {
        Case { name: name.to_owned(), frames: Vec::new(), raw: Some((client.to_vec(), server.to_vec())) }
    }

    /// Returns the bytes of the client.
    pub fn of_client(&self) -> Vec<u8> {
        let framed = || self.frames.iter().flat_map(Frame::masked).collect();
        self.raw.as_ref().map_or_else(framed, |(client, _)| client.clone())
    }

    /// Returns the bytes of the server.
    pub fn of_server(&self) -> Vec<u8> {
        let framed = || self.frames.iter().flat_map(Frame::plain).collect();
        self.raw.as_ref().map_or_else(framed, |(_, server)| server.clone())
    }
}

const LENGTHS: [usize; 11] = [0, 1, 124, 125, 126, 127, 128, 65_535, 65_536, 65_537, 300_000];

/// Texts in UTF-8, valid and not (RFC 3629 §3): the greatest and least of each length, surrogates, overlong forms,
/// single continuations, ends within a letter.
const TEXTS: [&[u8]; 24] = [
    "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
    "κόσμε".as_bytes(),
    b"\x00",
    b"\x7F",
    b"\xC2\x80",
    b"\xDF\xBF",
    b"\xE0\xA0\x80",
    b"\xEF\xBF\xBF",
    b"\xF0\x90\x80\x80",
    b"\xF4\x8F\xBF\xBF",
    b"\xF4\x90\x80\x80",
    b"\xF8\x88\x80\x80\x80",
    b"\xED\xA0\x80",
    b"\xED\xBF\xBF",
    b"\xC0\xAF",
    b"\xE0\x80\xAF",
    b"\xF0\x80\x80\xAF",
    b"\x80",
    b"\xBF\xBF",
    b"\xC2",
    b"\xE2\x82",
    b"\xF0\x9D\x84",
    b"\xFE\xFF",
    b"\xCE\xBA\xE1\xBD\xB9\xCF\x83\xCE\xBC\xCE\xB5\xED\xA0\x80\x65\x64\x69\x74\x65\x64",
];

/// All cases.
pub fn all() -> Vec<Case> {
    [lengths(), controls(), reserved(), fragments(), texts(), closes(), masks(), malformed()].concat_cases()
}

trait ConcatCases {
    fn concat_cases(self) -> Vec<Case>;
}

impl<const N: usize> ConcatCases for [Vec<Case>; N] {
    fn concat_cases(self) -> Vec<Case> {
        self.into_iter().flatten().collect()
    }
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|index| b'*' + u8::try_from(index % 60).expect("small")).collect()
}

fn lengths() -> Vec<Case> {
    let of = |opcode: u8, name: &str| {
        let name = name.to_owned();
        LENGTHS.map(move |length| {
            Case::new(format!("{name} of {length} bytes"), vec![Frame::new(opcode, content(length))])
        })
    };
    of(TEXT, "text").into_iter().chain(of(BINARY, "binary")).collect()
}

fn controls() -> Vec<Case> {
    let mut cases = Vec::new();
    for length in [0, 1, 8, 125] {
        cases.push(Case::new(format!("ping of {length}"), vec![Frame::new(PING, content(length))]));
        cases.push(Case::new(format!("pong of {length}"), vec![Frame::new(PONG, content(length))]));
    }
    cases.push(Case::new("ten pings", vec![Frame::new(PING, b"payload"); 10]));
    cases.push(Case::new(
        "a pong that nobody asked for, and a ping",
        vec![Frame::new(PONG, b"x"), Frame::new(PING, b"y")],
    ));
    cases.push(Case::new("a ping of bytes that are no text", vec![Frame::new(PING, [0, 0xFF, 0xFE, 0xFD])]));
    cases.push(Case::new("a ping that is too long", vec![Frame::new(PING, content(126)), Frame::new(TEXT, b"after")]));
    cases.push(Case::new("a pong that is too long", vec![Frame::new(PONG, content(126))]));
    for (name, opcode) in [("ping", PING), ("pong", PONG), ("close", CLOSE)] {
        let frames = vec![Frame::part(opcode, b"x"), Frame::new(CONTINUATION, b"y")];
        cases.push(Case::new(format!("a {name} in fragments"), frames));
    }
    cases
}

fn reserved() -> Vec<Case> {
    let mut cases = Vec::new();
    for bits in 1..8u8 {
        let first = 0x80 | bits << 4 | TEXT;
        let frames = vec![Frame::new(TEXT, b"ok"), Frame::new(TEXT, b"x").with_first(first), Frame::new(PING, b"")];
        cases.push(Case::new(format!("reserved bits {bits:03b}"), frames));
        let ping = vec![Frame::new(PING, b"x").with_first(0x80 | bits << 4 | PING)];
        cases.push(Case::new(format!("reserved bits {bits:03b} of a ping"), ping));
    }
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        for payload in [&b""[..], b"x"] {
            let frames = vec![Frame::new(TEXT, b"ok"), Frame::new(opcode, payload), Frame::new(PING, b"")];
            cases.push(Case::new(format!("opcode {opcode} with {} bytes", payload.len()), frames));
        }
    }
    cases
}

fn fragments() -> Vec<Case> {
    let mut cases = Vec::new();
    for opcode in [TEXT, BINARY] {
        for parts in [2, 3, 10, 200] {
            let mut frames = vec![Frame::part(opcode, b"begin")];
            frames.extend((2..parts).map(|_| Frame::part(CONTINUATION, b"more")));
            frames.push(Frame::new(CONTINUATION, b"end"));
            cases.push(Case::new(format!("a message of opcode {opcode} in {parts} parts"), frames));
        }
        let between = vec![
            Frame::part(opcode, b"a"),
            Frame::new(PING, b"1"),
            Frame::part(CONTINUATION, b"b"),
            Frame::new(PONG, b"2"),
            Frame::new(PING, b""),
            Frame::new(CONTINUATION, b"c"),
        ];
        cases.push(Case::new(format!("controls amid a message of opcode {opcode}"), between));
        let empty = vec![Frame::part(opcode, b""), Frame::part(CONTINUATION, b""), Frame::new(CONTINUATION, b"")];
        cases.push(Case::new(format!("empty parts of opcode {opcode}"), empty));
        let large = vec![Frame::part(opcode, content(70_000)), Frame::new(CONTINUATION, content(200_000))];
        cases.push(Case::new(format!("large parts of opcode {opcode}"), large));
        let within = vec![Frame::part(opcode, b"a"), Frame::new(opcode, b"b"), Frame::new(CONTINUATION, b"c")];
        cases.push(Case::new(format!("a message of opcode {opcode} within another"), within));
        let closed = vec![Frame::part(opcode, b"a"), Frame::close(1000, "")];
        cases.push(Case::new(format!("a close amid a message of opcode {opcode}"), closed));
    }
    for (name, first) in [("a final", 0x80), ("an open", 0x00)] {
        let frames = vec![Frame::new(CONTINUATION, b"x").with_first(first), Frame::new(TEXT, b"after")];
        cases.push(Case::new(format!("{name} continuation of nothing"), frames));
    }
    cases
}

fn texts() -> Vec<Case> {
    let mut cases = Vec::new();
    for (number, text) in TEXTS.into_iter().enumerate() {
        cases.push(Case::new(format!("text {number}"), vec![Frame::new(TEXT, text)]));
        let mut frames: Vec<Frame> = text.iter().map(|byte| Frame::part(CONTINUATION, [*byte])).collect();
        frames[0] = Frame::part(TEXT, [text[0]]);
        frames.push(Frame::new(CONTINUATION, b""));
        cases.push(Case::new(format!("text {number}, each byte a frame"), frames));
    }
    cases
}

fn closes() -> Vec<Case> {
    let mut cases = vec![
        Case::new("a close without a code", vec![Frame::new(CLOSE, b"")]),
        Case::new("a close with half a code", vec![Frame::new(CLOSE, b"\x03")]),
        Case::new("a close with a reason of 123 bytes", vec![Frame::close(1000, &"r".repeat(123))]),
        Case::new("a close with a reason of 124 bytes", vec![Frame::close(1000, &"r".repeat(124))]),
        Case::new("a close with broken text", vec![Frame::new(CLOSE, b"\x03\xE8\xCE\xBA\xED\xA0\x80")]),
        Case::new("two closes", vec![Frame::close(1000, ""), Frame::close(1000, "")]),
        Case::new("text after a close", vec![Frame::close(1000, ""), Frame::new(TEXT, b"late")]),
        Case::new("a ping after a close", vec![Frame::close(1000, ""), Frame::new(PING, b"")]),
    ];
    for code in [
        1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999, 0, 999, 1004,
        1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        let frames = vec![Frame::new(TEXT, b"before"), Frame::close(code, "why")];
        cases.push(Case::new(format!("a close with {code}"), frames));
    }
    cases
}

fn masks() -> Vec<Case> {
    let masks = [[0, 0, 0, 0], [0xFF; 4], [1, 0, 0, 0], [0, 0, 0, 1], *b"\r\n\r\n", *b"HTTP"];
    masks
        .into_iter()
        .map(|mask| {
            let frames = vec![Frame::new(TEXT, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").with_mask(mask)];
            Case::new(format!("the mask {mask:?}"), frames)
        })
        .collect()
}

fn malformed() -> Vec<Case> {
    vec![
        Case::raw("a client without a mask", &Frame::new(TEXT, b"x").plain(), &Frame::new(TEXT, b"x").masked()),
        Case::raw(
            "a length in more bytes than it needs",
            &[0x81, 0xFE, 0, 1, 0, 0, 0, 0, b'x'],
            &[0x81, 126, 0, 1, b'x'],
        ),
        Case::raw(
            "a length in eight bytes that needs two",
            &[0x81, 0xFF, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, b'x'],
            &[0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1, b'x'],
        ),
        Case::raw(
            "the highest bit of a length",
            &[0x82, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0],
            &[0x82, 127, 0xFF, 0, 0, 0, 0, 0, 0, 0],
        ),
        Case::raw("half a head", &[0x81], &[0x81]),
        Case::raw("half a length", &[0x81, 0xFE, 1], &[0x81, 126, 1]),
        Case::raw("half a mask", &[0x81, 0x81, 1, 2], &[0x81]),
        Case::raw("half a payload", &[0x81, 0x85, 1, 2, 3, 4, b'x'], &[0x81, 5, b'x']),
        Case::raw("no frame at all", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"),
        Case::raw("nothing", b"", b""),
    ]
}

#[test]
fn there_are_many_cases_and_each_has_a_name_of_its_own() {
    let mut names: Vec<String> = all().into_iter().map(|case| case.name).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert!(count >= 150 && names.len() == count, "{count} cases, {} names", names.len());
}
