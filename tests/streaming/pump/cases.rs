//! Answers made from a seed: what the upstream sends, in which pieces, how it ends, and what the client does meanwhile.

use std::fmt;
use std::time::Duration;

use fastrand::Rng;

/// One answer, and the conduct of both ends.
#[derive(Clone)]
pub struct Case {
    pub path: &'static str,
    pub has_events: bool,
    pub framing: Framing,
    pub head: String,
    /// The content of the whole answer.
    pub content: Vec<u8>,
    /// The part of the framed body that is sent.
    pub wire: Vec<u8>,
    /// So much of it the client has before the rest is sent.
    pub first: usize,
    pub end: End,
    pub conduct: Conduct,
    /// A second request comes while the answer to the first does, and is the connection's last.
    pub has_second: bool,
    /// Of the pieces in which it is sent.
    pub seed: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Framing {
    Chunked,
    Close,
    Known,
}

/// The end of the upstream's connection.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// All is sent. Only a body that ends with the connection ends it.
    Whole,
    /// An orderly close.
    Close,
    /// A close that with TLS is a truncation.
    Truncation,
    /// A reset once the client has all.
    Reset,
    /// A reset that may overtake what was sent.
    ResetAtOnce,
    /// None until the gateway closes.
    Silence,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Conduct {
    Reads,
    /// Stops, and goes on.
    ReadsSlowly,
    /// Leaves when it has all that is sent.
    Leaves(Way),
    /// Leaves while more comes.
    LeavesMeanwhile(Way),
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Way {
    Close,
    Reset,
    HalfClose,
    /// By TLS alone, with the socket open; else as `HalfClose`.
    Goodbye,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { path, framing, wire, content, first, end, conduct, has_second, .. } = self;
        let bytes = (wire.len(), content.len());
        write!(f, "{path} {framing:?} {bytes:?} first {first} {end:?} {conduct:?} second {has_second}")
    }
}

impl Case {
    /// Tells whether the race between two ends decides how much arrives.
    pub fn is_a_race(&self) -> bool {
        // A reset by the gateway, which marks the end of a body that nothing else does, loses what is under way.
        let ends_by_reset = self.framing == Framing::Close && !self.has_events && self.end != End::Whole;
        ends_by_reset || self.end == End::ResetAtOnce || matches!(self.conduct, Conduct::LeavesMeanwhile(_))
    }

    pub fn make(seed: u64) -> Self {
        let mut dice = Rng::with_seed(seed);
        let conduct = match dice.u8(..10) {
            0..=4 => Conduct::Reads,
            5..=6 => Conduct::ReadsSlowly,
            7..=8 => Conduct::Leaves(way(&mut dice)),
            _ => Conduct::LeavesMeanwhile(way(&mut dice)),
        };
        let is_long = matches!(conduct, Conduct::ReadsSlowly | Conduct::LeavesMeanwhile(_));
        let (path, events) = events(&mut dice, is_long);
        let has_events = path != PLAIN;
        let framing = [Framing::Chunked, Framing::Chunked, Framing::Close, Framing::Known][dice.usize(..4)];
        let content = events.concat().into_bytes();
        let mut body = Framed::of(&mut dice, framing, &content, events[0].len());
        let mut end = match (dice.u8(..10), conduct) {
            (_, Conduct::Leaves(_)) => End::Silence,
            (0..=4, _) | (_, Conduct::LeavesMeanwhile(_)) => End::Whole,
            (5, _) => End::Close,
            (6, _) => End::Truncation,
            (7, _) => End::Reset,
            (8, _) => End::ResetAtOnce,
            _ => End::Silence,
        };
        if end == End::Silence && !matches!(conduct, Conduct::Leaves(_)) {
            // It ends by what is no chunk, where there are chunks.
            match framing {
                Framing::Chunked => body.break_off(&mut dice),
                Framing::Close | Framing::Known => end = End::Close,
            }
        } else if end != End::Whole && dice.u8(..4) > 0 {
            body.cut(&mut dice, matches!(end, End::Silence | End::Reset));
        } else if end == End::Silence && framing != Framing::Close {
            // The connection serves the next request.
            end = End::Whole;
        }
        let has_second = dice.bool()
            && (end, framing != Framing::Close) == (End::Whole, true)
            && matches!(conduct, Conduct::Reads | Conduct::ReadsSlowly);
        let head = head(framing, has_events, content.len());
        let Framed { wire, first, .. } = body;
        Case { path, has_events, framing, head, content, wire, first, end, conduct, has_second, seed }
    }

    /// Cuts `bytes` into parts, each for records of its own.
    pub fn parts<'a>(&self, bytes: &'a [u8]) -> Vec<&'a [u8]> {
        let mut dice = Rng::with_seed(self.seed ^ 1);
        let (mut parts, mut rest) = (Vec::new(), bytes);
        while !rest.is_empty() {
            let (part, after) = rest.split_at(log_uniform(&mut dice, 15).min(rest.len()));
            parts.push(part);
            rest = after;
        }
        parts
    }

    /// Returns the lengths of the pieces that reach the network, and the pauses before them.
    pub fn pieces(&self) -> impl FnMut() -> (usize, Duration) + use<> {
        let mut dice = Rng::with_seed(self.seed ^ 2);
        let mut pauses_left = 8;
        move || {
            let mut pause = Duration::ZERO;
            if pauses_left > 0 && dice.bool() {
                pauses_left -= 1;
                pause = Duration::from_micros(dice.u64(100..1500));
            }
            (log_uniform(&mut dice, 16), pause)
        }
    }
}

/// Returns a number below 2^`bits` of which each length in bits is as likely.
fn log_uniform(dice: &mut Rng, bits: u32) -> usize {
    let bits = dice.u32(..bits);
    dice.usize(1 << bits..2 << bits)
}

fn way(dice: &mut Rng) -> Way {
    [Way::Close, Way::Reset, Way::HalfClose, Way::Goodbye][dice.usize(..4)]
}

fn head(framing: Framing, has_events: bool, length: usize) -> String {
    let kind = if has_events { "text/event-stream" } else { "application/json" };
    let framing = match framing {
        Framing::Chunked => "Transfer-Encoding: chunked\r\n".to_owned(),
        Framing::Close => String::new(),
        Framing::Known => format!("Content-Length: {length}\r\n"),
    };
    format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{framing}\r\n")
}

pub const ANTHROPIC: &str = "/v1/messages";
pub const CHAT: &str = "/v1/chat/completions";
pub const RESPONSES: &str = "/v1/responses";
pub const GEMINI: &str = "/v1beta/models/g:streamGenerateContent";
/// An answer that is no event stream.
pub const PLAIN: &str = "/v1/files/f/content";

/// Returns a path, and the events of a stream of its dialect, which ends its turn.
fn events(dice: &mut Rng, is_long: bool) -> (&'static str, Vec<String>) {
    let path = [ANTHROPIC, CHAT, RESPONSES, GEMINI, PLAIN][dice.usize(..5)];
    let line_end = if dice.bool() { "\n" } else { "\r\n" };
    let count = if is_long { dice.usize(30..60) } else { dice.usize(2..20) };
    let mut events = vec![event(path, 0, "")];
    for number in 1..count {
        let length = if is_long { dice.usize(3000..8000) } else { log_uniform(dice, 11) };
        let letters: String = (0..length).map(|at| char::from(b'a' + (at % 26) as u8)).collect();
        events.push(event(path, number, &letters));
        if dice.u8(..8) == 0 && path != PLAIN {
            events.push(": keep-alive\n\n".to_owned());
        }
    }
    events.push(last_event(path, count));
    (path, events.into_iter().map(|event| event.replace('\n', line_end)).collect())
}

fn event(path: &str, number: usize, text: &str) -> String {
    match path {
        ANTHROPIC if number == 0 => "event: message_start\ndata: {\"type\":\"message_start\"}\n\n".to_owned(),
        ANTHROPIC => format!(
            "event: content_block_delta\ndata: {{\"type\":\"content_block_delta\",\"delta\":{{\"text\":\"{text}\"}}}}\n\n"
        ),
        RESPONSES => format!(
            "event: response.output_text.delta\ndata: {{\"type\":\"response.output_text.delta\",\"sequence_number\":{number},\
             \"delta\":\"{text}\"}}\n\n"
        ),
        GEMINI => {
            format!(
                "data: {{\"candidates\": [{{\"content\": {{\"parts\": [{{\"text\": \"{number}{text}\"}}]}}}}]}}\n\n"
            )
        }
        CHAT => format!("data: {{\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\"{number}{text}\"}}}}]}}\n\n"),
        _ => format!("{{\"number\":{number},\"text\":\"{text}\"}}\n"),
    }
}

fn last_event(path: &str, number: usize) -> String {
    match path {
        ANTHROPIC => "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n".to_owned(),
        RESPONSES => format!(
            "event: response.completed\ndata: {{\"type\":\"response.completed\",\"sequence_number\":{number},\"response\":{{}}}}\n\n"
        ),
        GEMINI => "data: {\"candidates\": [{\"finishReason\": \"STOP\"}]}\n\n".to_owned(),
        CHAT => "data: [DONE]\n\n".to_owned(),
        _ => "{}\n".to_owned(),
    }
}

/// A body as it is framed.
struct Framed {
    wire: Vec<u8>,
    first: usize,
    /// Offsets up to which all goes downstream at once: a size line waits for its end.
    whole: Vec<usize>,
    /// The offsets of size lines.
    lines: Vec<usize>,
}

impl Framed {
    fn of(dice: &mut Rng, framing: Framing, content: &[u8], first: usize) -> Self {
        if framing != Framing::Chunked {
            let whole = (first..content.len()).collect();
            return Framed { wire: content.to_vec(), first, whole, lines: Vec::new() };
        }
        let mut framed = Framed { wire: Vec::new(), first: 0, whole: Vec::new(), lines: Vec::new() };
        framed.chunk(dice, &content[..first]);
        framed.first = framed.wire.len();
        framed.lines.clear();
        framed.whole = vec![framed.first];
        let mut rest = &content[first..];
        while !rest.is_empty() {
            let (chunk, after) = rest.split_at(log_uniform(dice, 14).min(rest.len()));
            framed.chunk(dice, chunk);
            rest = after;
        }
        framed.lines.push(framed.wire.len());
        let end = if dice.bool() { "0\r\n\r\n" } else { "0\r\nX-Trailer: 1\r\n\r\n" };
        framed.wire.extend_from_slice(end.as_bytes());
        framed
    }

    fn chunk(&mut self, dice: &mut Rng, chunk: &[u8]) {
        self.lines.push(self.wire.len());
        let extension = if dice.u8(..4) == 0 { ";a=b" } else { "" };
        self.wire.extend_from_slice(format!("{:x}{extension}\r\n", chunk.len()).as_bytes());
        let within = self.wire.len() + dice.usize(1..=chunk.len());
        self.wire.extend_from_slice(chunk);
        self.wire.extend_from_slice(b"\r\n");
        self.whole.extend([within, self.wire.len()]);
    }

    /// Sends no more from some offset on; from one that is `whole`, if it is to be known what comes of it.
    fn cut(&mut self, dice: &mut Rng, whole: bool) {
        let offset = if whole && !self.whole.is_empty() {
            self.whole[dice.usize(..self.whole.len())]
        } else {
            dice.usize(self.first..=self.wire.len())
        };
        self.wire.truncate(offset);
    }

    /// Puts something else in the place of a size line.
    fn break_off(&mut self, dice: &mut Rng) {
        self.wire.truncate(self.lines[dice.usize(..self.lines.len())]);
        self.wire.extend_from_slice(b"no size\r\nat all");
    }
}
