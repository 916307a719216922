//! A script: what clients send and when they leave, and what the upstream does with each attempt of each exchange.
//!
//! Invariant: every input is a script, and [`Script::to_bytes`] of a script is read as that script again: one `walk` over
//! its parts both reads and writes it (`codec`). `seeds` are scripts made by hand.

mod codec;
pub mod seeds;
mod walk;

use std::fmt;

use self::codec::{Reader, Writer};
use self::walk::walk;

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

/// The upstream's part in an attempt.
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

/// The upstream's dealing with the request before it answers.
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

/// The end of the connection after the answer.
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
