//! The bytes of the upstream's answers.

use super::request::{WEBSOCKET_ACCEPT, change, frame, in_chunks};
use super::script::{Content, End, Framing, Interim, Play, Surplus};
use super::tag::Tag;

/// An answer as the upstream would send it.
#[derive(Debug)]
pub struct AnswerBytes {
    pub wire: Vec<u8>,
    /// The part of it that may be sent: up to the cut.
    pub length: usize,
    /// It is not as a sound server would send it.
    pub is_odd: bool,
    pub switches: bool,
}

/// The request that an answer is for.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    pub is_head: bool,
    pub is_upgrade: bool,
    /// The token that it came with.
    pub authorization: &'a str,
}

impl Play {
    /// Its body ends without the event that ends the turn.
    pub fn lacks_end(&self) -> bool {
        self.missing % 2 == 1
    }

    pub fn is_stream(&self) -> bool {
        !matches!(self.content, Content::Json | Content::Plain)
    }

    /// The token is told where the gateway searches: in an error, in the events of errors, and in fields. Where a byte
    /// is changed it could stand elsewhere.
    fn told<'a>(&self, asked: Asked<'a>) -> Option<&'a str> {
        let is_searched = self.change == Default::default() && self.status.code() != 101;
        (self.tells_token && is_searched).then_some(asked.authorization)
    }
}

/// Writes the answer of `play` with the tag of the attempt.
pub fn write(play: &Play, tag: Tag, asked: Asked<'_>) -> AnswerBytes {
    let status = play.status.code();
    let switches = status == 101 && asked.is_upgrade;
    let has_body = !asked.is_head && !matches!(status, 100..200 | 204 | 304);
    let content = content(play, tag, asked);
    let mut wire = interims(play.interim);
    let mut head = head(play, tag, asked, content.len()).into_bytes();
    let mut body = match play.framing {
        _ if switches => frame(&content, false),
        _ if !has_body => Vec::new(),
        Framing::Chunked => in_chunks(&content, usize::from(play.split.seed)),
        _ => content,
    };
    let is_missing = play.missing > 1 && has_body && matches!(play.framing, Framing::Chunked | Framing::Length);
    if is_missing {
        body.truncate(body.len().saturating_sub(5 * usize::from(play.missing)));
    }
    let is_changed = change(play.change, &mut head, &mut body);
    wire.append(&mut head);
    wire.append(&mut body);
    match play.surplus {
        Surplus::Nothing => {}
        Surplus::Byte => wire.push(b'x'),
        Surplus::Answer => wire.extend_from_slice(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsurplus"),
    }
    let length = play.cut.map_or(wire.len(), |at| wire.len() * usize::from(at) / 256);
    let is_odd = is_changed || play.surplus != Surplus::Nothing || is_missing || play.interim == Interim::TooMany;
    AnswerBytes { is_odd, length, wire, switches }
}

fn interims(interim: Interim) -> Vec<u8> {
    const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n";
    match interim {
        Interim::Nothing => String::new(),
        Interim::Continue => CONTINUE.to_owned(),
        Interim::Hints => HINTS.to_owned(),
        Interim::Both => [CONTINUE, HINTS].concat(),
        Interim::TooMany => HINTS.repeat(20),
    }
    .into_bytes()
}

fn head(play: &Play, tag: Tag, asked: Asked<'_>, content_bytes: usize) -> String {
    let status = play.status.code();
    let version = if play.framing == Framing::Old { "HTTP/1.0" } else { "HTTP/1.1" };
    let media = match play.content {
        Content::Json => "application/json",
        Content::Plain => "text/plain",
        _ => "text/event-stream",
    };
    let mut head = format!("{version} {status} Some Reason\r\nContent-Type: {media}\r\nX-Attempt: {tag}\r\n");
    head += "Set-Cookie: of=the-upstream\r\n";
    if let Some(authorization) = play.told(asked) {
        head += &format!("X-Told: {authorization}\r\n");
    }
    if status == 429 {
        head += "Retry-After: 1\r\n";
    }
    if play.end == End::SaysAndCloses {
        head += "Connection: close\r\n";
    }
    if status == 101 {
        head += "Connection: Upgrade\r\nUpgrade: websocket\r\n";
        head += &format!("Sec-WebSocket-Accept: {WEBSOCKET_ACCEPT}\r\n");
    } else if status != 204 {
        match play.framing {
            Framing::Length => head += &format!("Content-Length: {content_bytes}\r\n"),
            Framing::Chunked => head += "Transfer-Encoding: chunked\r\n",
            Framing::Close | Framing::Old => {}
        }
    }
    head + "\r\n"
}

fn content(play: &Play, tag: Tag, asked: Asked<'_>) -> Vec<u8> {
    let padding = tag.padding(play.size.bytes());
    let (status, exchange) = (play.status.code(), tag.exchange);
    let told = play.told(asked).unwrap_or_default();
    let text = match play.content {
        Content::Json if status >= 400 => {
            format!(r#"{{"error":{{"message":"{told} {padding}","type":"some_error","code":"some_code"}}}}"#)
        }
        Content::Json => {
            format!(
                r#"{{"id":"resp_{exchange}","model":"m-1","usage":{{"prompt_tokens":3,"completion_tokens":4}},"pad":"{padding}"}}"#
            )
        }
        Content::Plain if status >= 400 => format!("{told} {padding}"),
        Content::Plain => padding,
        _ => events(play, &padding, exchange, told),
    };
    text.into_bytes()
}

/// The events of a stream; without the one that ends its turn where the play lacks it.
fn events(play: &Play, padding: &str, exchange: usize, told: &str) -> String {
    let end = |text: &str| if play.lacks_end() { String::new() } else { text.to_owned() };
    let mut text = String::new();
    let mut each = |before: &str, after: &str| {
        for part in padding.as_bytes().chunks(padding.len().div_ceil(4).max(1)) {
            text += &format!("{before}{}{after}\n\n", std::str::from_utf8(part).expect("ASCII"));
        }
    };
    match play.content {
        Content::Json | Content::Plain => {}
        Content::Chat => {
            each(
                r#"data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":""#,
                r#""}}]}"#,
            );
            text += &end(
                "data: {\"object\":\"chat.completion.chunk\",\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":5}}\n\ndata: [DONE]\n\n",
            );
        }
        Content::Messages => {
            each(
                "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":{\"type\":\"text_delta\",\"text\":\"",
                "\"}}",
            );
            text += &end("event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
        }
        Content::Responses => {
            each("data: {\"type\":\"response.output_text.delta\",\"sequence_number\":1,\"delta\":\"", "\"}");
            let first = format!(
                "data: {{\"type\":\"response.created\",\"sequence_number\":0,\"response\":{{\"id\":\"resp_{exchange}\"}}}}\n\n"
            );
            let last = end(
                "data: {\"type\":\"response.completed\",\"sequence_number\":9,\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n",
            );
            text = [first, text, last].concat();
        }
        Content::Gemini => {
            each(r#"data: {"candidates":[{"index":0,"content":{"parts":[{"text":""#, r#""}]}}]}"#);
            text += &end(
                "data: {\"candidates\":[{\"index\":0,\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"promptTokenCount\":1}}\n\n",
            );
        }
        Content::OtherEvents => each(": a comment\nid: 1\ndata: ", ""),
        Content::ErrorEvents => {
            text = format!(
                "event: error\ndata: {{\"error\":{{\"message\":\"{told} overloaded {padding}\",\"type\":\"server_error\"}}}}\n\n"
            );
        }
    }
    text
}
