//! A script: what clients send and when they leave, and what the upstream does with each attempt of each exchange.
//!
//! Invariant: every input is a script, and [`Script::to_bytes`] of a script is read as that script again: one walk over
//! its parts both reads and writes it. Each choice is a byte, so that the fuzzer changes one thing at a time.

use std::fmt;

use super::codec::{Codec, Reader, Writer};

/// The most clients, requests on a connection, and plays of one exchange.
const CLIENTS_MAX: usize = 2;
const EXCHANGES_MAX: usize = 3;
const PLAYS_MAX: usize = 3;

/// The moves of both sides.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Script {
    pub clients: Vec<Client>,
}

/// One connection of a client.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Client {
    pub exchanges: Vec<Exchange>,
    /// All requests are sent without waiting for answers.
    pub is_pipelined: bool,
    pub leaves: Leaves,
    pub reading: Reading,
}

/// A request, and what the upstream does with its attempts: the last play is for all that follow.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Exchange {
    pub request: Request,
    pub plays: Vec<Play>,
}

/// The moment at which a client leaves, in 256ths of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Leaves {
    /// When it has all answers.
    #[default]
    WhenDone,
    InRequest(Departure, u8),
    /// After so many bytes of answers, squared.
    InAnswer(Departure, u8),
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Departure {
    #[default]
    Close,
    Reset,
    /// It sends no more, and reads on.
    HalfClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Reading {
    #[default]
    AtOnce,
    /// Few bytes at a time, with pauses, through a small buffer of the kernel.
    Slowly,
    /// Nothing for a moment, and then all.
    Late,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Request {
    pub kind: Kind,
    pub key: Key,
    pub is_chunked: bool,
    pub expects_continue: bool,
    pub is_http10: bool,
    pub is_closing: bool,
    /// The size of what pads its body.
    pub size: Size,
    pub split: Split,
    pub change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Kind {
    #[default]
    Models,
    HeadOfModels,
    Chat,
    Messages,
    Responses,
    Gemini,
    /// A `POST` that may not be sent twice.
    Files,
    FollowUp,
    Delete,
    Upgrade,
    Liveness,
    OptionsOfAll,
}

/// The API key that a request shows.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Key {
    #[default]
    Plain,
    /// It may have one request at a time.
    Narrow,
    /// It may use some models, and its use is counted.
    Picky,
    /// The gateway does not know it.
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Size {
    #[default]
    Tiny,
    Small,
    /// More than a buffer of the gateway.
    Large,
    /// More than buffers of the kernel take at once.
    Huge,
}

/// Pieces in which bytes are written, with pauses between them.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Split {
    /// None: all at once.
    pub pieces: u8,
    pub seed: u8,
    pub pause: Pause,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Pause {
    #[default]
    Nothing,
    Short,
    Long,
}

/// A change of the bytes of a message, in 256ths of its head or of all of it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Change {
    #[default]
    Nothing,
    Replace {
        at: u8,
        by: u8,
        is_in_head: bool,
    },
    Remove {
        at: u8,
        is_in_head: bool,
    },
    Insert {
        at: u8,
        byte: u8,
        is_in_head: bool,
    },
}

/// What the upstream does with an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Play {
    pub opening: Opening,
    pub interim: Interim,
    pub status: Status,
    pub framing: Framing,
    pub content: Content,
    pub size: Size,
    pub split: Split,
    pub change: Change,
    /// Bytes of the body that are announced and do not come.
    pub missing: u8,
    pub surplus: Surplus,
    /// It breaks off there, in 256ths of its answer.
    pub cut: Option<u8>,
    pub end: End,
    /// The answer holds the token that it got, where the gateway searches for it.
    pub tells_token: bool,
}

/// What it does before it answers.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Opening {
    /// It reads the whole request.
    #[default]
    Reads,
    ReadsSlowly,
    /// It answers before it reads the body, and reads that after it.
    AnswersEarly,
    /// It never reads the body.
    IgnoresBody,
    /// It reads the request and says nothing.
    Stalls,
    /// It ends the connection after the head of the request.
    LeavesAtHead,
    /// It ends the connection after the request.
    LeavesAtEnd,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Interim {
    #[default]
    Nothing,
    Continue,
    Hints,
    Both,
    TooMany,
}

/// The status of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Status(pub u8);

impl Status {
    pub const ALL: [u16; 16] = [200, 201, 204, 304, 206, 302, 400, 401, 402, 403, 404, 429, 500, 502, 503, 101];

    pub fn code(self) -> u16 {
        Self::ALL[usize::from(self.0) % Self::ALL.len()]
    }

    pub fn of(code: u16) -> Self {
        Status(Self::ALL.iter().position(|known| *known == code).expect("a known status") as u8)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Framing {
    #[default]
    Length,
    Chunked,
    /// The end of the connection is the end of the body.
    Close,
    /// HTTP/1.0, until the end of the connection.
    Old,
}

#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Content {
    #[default]
    Json,
    Plain,
    Chat,
    Messages,
    Responses,
    Gemini,
    /// Events that no client of ours knows.
    OtherEvents,
    /// A stream that begins with an error.
    ErrorEvents,
}

/// Bytes after the end of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum Surplus {
    #[default]
    Nothing,
    Byte,
    /// Another whole answer that nobody asked for.
    Answer,
}

/// What becomes of the connection after the answer.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum End {
    #[default]
    Keeps,
    Closes,
    Resets,
    HalfCloses,
    /// It says `Connection: close`, and closes.
    SaysAndCloses,
}

impl fmt::Display for Script {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for client in &self.clients {
            let Client { exchanges, is_pipelined, leaves, reading } = client;
            writeln!(formatter, "client: pipelined {is_pipelined}, leaves {leaves:?}, reads {reading:?}")?;
            for Exchange { request, plays } in exchanges {
                writeln!(formatter, "  {request:?}")?;
                plays.iter().try_for_each(|play| writeln!(formatter, "    {play:?}"))?;
            }
        }
        Ok(())
    }
}

impl Script {
    /// Reads any bytes; what is missing at their end counts as zeros.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        let mut script = Script::default();
        walk(&mut Reader::new(bytes), &mut script);
        script
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        walk(&mut writer, &mut self.clone());
        writer.into_bytes()
    }
}

fn walk(codec: &mut impl Codec, script: &mut Script) {
    codec.list(&mut script.clients, CLIENTS_MAX, |codec, client| {
        codec.flag(&mut client.is_pipelined);
        codec.pick(&mut client.reading, &[Reading::AtOnce, Reading::Slowly, Reading::Late]);
        leaves(codec, &mut client.leaves);
        codec.list(&mut client.exchanges, EXCHANGES_MAX, |codec, exchange| {
            request(codec, &mut exchange.request);
            codec.list(&mut exchange.plays, PLAYS_MAX, play);
        });
    });
}

fn leaves(codec: &mut impl Codec, leaves: &mut Leaves) {
    let (mut when, mut departure, mut at) = match *leaves {
        Leaves::WhenDone => (0, Departure::Close, 0),
        Leaves::InRequest(departure, at) => (1, departure, at),
        Leaves::InAnswer(departure, at) => (2, departure, at),
    };
    codec.pick(&mut when, &[0, 1, 2]);
    if when > 0 {
        codec.pick(&mut departure, &[Departure::Close, Departure::Reset, Departure::HalfClose]);
        codec.byte(&mut at);
    }
    *leaves = match when {
        0 => Leaves::WhenDone,
        1 => Leaves::InRequest(departure, at),
        _ => Leaves::InAnswer(departure, at),
    };
}

fn request(codec: &mut impl Codec, request: &mut Request) {
    const KINDS: [Kind; 12] = [
        Kind::Models,
        Kind::HeadOfModels,
        Kind::Chat,
        Kind::Messages,
        Kind::Responses,
        Kind::Gemini,
        Kind::Files,
        Kind::FollowUp,
        Kind::Delete,
        Kind::Upgrade,
        Kind::Liveness,
        Kind::OptionsOfAll,
    ];
    codec.pick(&mut request.kind, &KINDS);
    codec.pick(&mut request.key, &[Key::Plain, Key::Narrow, Key::Picky, Key::Unknown]);
    codec.flag(&mut request.is_chunked);
    codec.flag(&mut request.expects_continue);
    codec.flag(&mut request.is_http10);
    codec.flag(&mut request.is_closing);
    size(codec, &mut request.size);
    split(codec, &mut request.split);
    change(codec, &mut request.change);
}

fn play(codec: &mut impl Codec, play: &mut Play) {
    const OPENINGS: [Opening; 7] = [
        Opening::Reads,
        Opening::ReadsSlowly,
        Opening::AnswersEarly,
        Opening::IgnoresBody,
        Opening::Stalls,
        Opening::LeavesAtHead,
        Opening::LeavesAtEnd,
    ];
    const CONTENTS: [Content; 8] = [
        Content::Json,
        Content::Plain,
        Content::Chat,
        Content::Messages,
        Content::Responses,
        Content::Gemini,
        Content::OtherEvents,
        Content::ErrorEvents,
    ];
    const INTERIMS: [Interim; 5] =
        [Interim::Nothing, Interim::Continue, Interim::Hints, Interim::Both, Interim::TooMany];
    codec.pick(&mut play.opening, &OPENINGS);
    codec.pick(&mut play.interim, &INTERIMS);
    codec.pick(&mut play.status.0, &std::array::from_fn::<u8, { Status::ALL.len() }, _>(|place| place as u8));
    codec.pick(&mut play.framing, &[Framing::Length, Framing::Chunked, Framing::Close, Framing::Old]);
    codec.pick(&mut play.content, &CONTENTS);
    size(codec, &mut play.size);
    split(codec, &mut play.split);
    change(codec, &mut play.change);
    codec.pick(&mut play.missing, &std::array::from_fn::<u8, 4, _>(|place| place as u8));
    codec.pick(&mut play.surplus, &[Surplus::Nothing, Surplus::Byte, Surplus::Answer]);
    let (mut is_cut, mut at) = (play.cut.is_some(), play.cut.unwrap_or_default());
    codec.flag(&mut is_cut);
    if is_cut {
        codec.byte(&mut at);
    }
    play.cut = is_cut.then_some(at);
    codec.pick(&mut play.end, &[End::Keeps, End::Closes, End::Resets, End::HalfCloses, End::SaysAndCloses]);
    codec.flag(&mut play.tells_token);
}

fn size(codec: &mut impl Codec, size: &mut Size) {
    codec.pick(size, &[Size::Tiny, Size::Small, Size::Large, Size::Huge]);
}

fn split(codec: &mut impl Codec, split: &mut Split) {
    codec.pick(&mut split.pieces, &std::array::from_fn::<u8, 8, _>(|place| place as u8));
    if split.pieces > 0 {
        codec.byte(&mut split.seed);
        codec.pick(&mut split.pause, &[Pause::Nothing, Pause::Short, Pause::Long]);
    }
}

fn change(codec: &mut impl Codec, change: &mut Change) {
    let (mut kind, mut at, mut byte, mut is_in_head) = match *change {
        Change::Nothing => (0, 0, 0, false),
        Change::Replace { at, by, is_in_head } => (1, at, by, is_in_head),
        Change::Remove { at, is_in_head } => (2, at, 0, is_in_head),
        Change::Insert { at, byte, is_in_head } => (3, at, byte, is_in_head),
    };
    codec.pick(&mut kind, &[0, 1, 2, 3]);
    if kind > 0 {
        codec.flag(&mut is_in_head);
        codec.byte(&mut at);
    }
    if matches!(kind, 1 | 3) {
        codec.byte(&mut byte);
    }
    *change = match kind {
        0 => Change::Nothing,
        1 => Change::Replace { at, by: byte, is_in_head },
        2 => Change::Remove { at, is_in_head },
        _ => Change::Insert { at, byte, is_in_head },
    };
}
