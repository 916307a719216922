//! The bytes of requests.

use super::script::{Change, Key, Kind, Request, Size};
use super::tag::Tag;

/// The key of RFC 6455 §1.3, and the answer to it.
const WEBSOCKET_KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
pub const WEBSOCKET_ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// A part of all keys that clients show, which must neither go upstream nor be logged.
pub const KEY_MARK: &str = "key-of-the-client-alone";

/// A request as its client sends it.
#[derive(Debug)]
pub struct RequestBytes {
    pub head: Vec<u8>,
    /// With its framing.
    pub body: Vec<u8>,
    /// Its content.
    pub content: Vec<u8>,
    pub path: String,
    pub is_head: bool,
    pub is_changed: bool,
}

impl Size {
    pub fn bytes(self) -> usize {
        match self {
            Size::Tiny => 8,
            Size::Small => 700,
            Size::Large => 20 * 1024,
            Size::Huge => 200 * 1024,
        }
    }
}

impl Key {
    fn text(self) -> &'static str {
        match self {
            Key::Plain => "plain-key-of-the-client-alone",
            Key::Narrow => "narrow-key-of-the-client-alone",
            Key::Picky => "picky-key-of-the-client-alone",
            Key::Unknown => "unknown-key-of-the-client-alone",
        }
    }
}

/// The file of the keys that the gateway knows.
pub fn keys_file() -> String {
    format!(
        r#"[{{"name":"plain","key":"{}"}},{{"name":"narrow","key":"{}","limits":{{"parallel":1}}}},
            {{"name":"picky","key":"{}","models":["m-*"],"limits":{{"tokens_per_minute":1000000000,"parallel":4}}}}]"#,
        Key::Plain.text(),
        Key::Narrow.text(),
        Key::Picky.text()
    )
}

/// Writes a request with the tag of its exchange.
pub fn write(request: &Request, tag: Tag) -> RequestBytes {
    let (method, path) = line(request.kind, tag);
    let content = content(request, tag);
    let version = if request.is_http10 { "HTTP/1.0" } else { "HTTP/1.1" };
    let mut head = format!("{method} {path} {version}\r\nHost: localhost\r\n");
    head += &format!("x-request-id: {}\r\n", Tag::request_id(tag.run, tag.exchange));
    head += &match request.kind {
        Kind::Messages => format!("x-api-key: {}\r\nanthropic-version: 2023-06-01\r\n", request.key.text()),
        _ => format!("Authorization: Bearer {}\r\n", request.key.text()),
    };
    if request.is_closing {
        head += "Connection: close\r\n";
    }
    if request.kind == Kind::Upgrade {
        head += "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        head += &format!("Sec-WebSocket-Key: {WEBSOCKET_KEY}\r\n");
    }
    let is_chunked = request.is_chunked && !request.is_http10;
    let mut body = Vec::new();
    if let Some(content) = &content {
        head += "Content-Type: application/json\r\n";
        if is_chunked {
            head += "Transfer-Encoding: chunked\r\n";
            body = in_chunks(content, usize::from(request.split.seed));
        } else {
            head += &format!("Content-Length: {}\r\n", content.len());
            body = content.clone();
        }
        if request.expects_continue && !request.is_http10 {
            head += "Expect: 100-continue\r\n";
        }
    }
    head += "\r\n";
    let (mut head, mut body) = (head.into_bytes(), body);
    let is_changed = change(request.change, &mut head, &mut body);
    RequestBytes {
        head,
        body,
        content: content.unwrap_or_default(),
        path,
        is_head: request.kind == Kind::HeadOfModels,
        is_changed,
    }
}

fn line(kind: Kind, tag: Tag) -> (&'static str, String) {
    let exchange = tag.exchange;
    match kind {
        Kind::Models => ("GET", format!("/v1/models?of={exchange}")),
        Kind::HeadOfModels => ("HEAD", "/v1/models".into()),
        Kind::Chat => ("POST", "/v1/chat/completions".into()),
        Kind::Messages => ("POST", "/v1/messages".into()),
        Kind::Responses | Kind::FollowUp => ("POST", "/v1/responses".into()),
        Kind::Gemini => ("POST", "/v1beta/models/m-1:streamGenerateContent?alt=sse".into()),
        Kind::Files => ("POST", "/v1/files".into()),
        Kind::Delete => ("DELETE", format!("/v1/responses/resp_{exchange}")),
        // Among so many paths that one on which an upgrade was refused is soon forgotten.
        Kind::Upgrade => ("GET", format!("/v1/realtime/{}", tag.run % 1024)),
        Kind::Liveness => ("GET", "/".into()),
        Kind::OptionsOfAll => ("OPTIONS", "*".into()),
    }
}

fn content(request: &Request, tag: Tag) -> Option<Vec<u8>> {
    let padding = tag.padding(request.size.bytes());
    let text = match request.kind {
        Kind::Chat => {
            format!(r#"{{"model":"m-1","stream":true,"messages":[{{"role":"user","content":"{padding}"}}]}}"#)
        }
        Kind::Messages => {
            format!(
                r#"{{"model":"m-2","max_tokens":9,"stream":true,"messages":[{{"role":"user","content":"{padding}"}}]}}"#
            )
        }
        Kind::Responses => format!(r#"{{"model":"m-3","stream":true,"input":"{padding}"}}"#),
        Kind::FollowUp => {
            format!(r#"{{"model":"m-3","input":"{padding}","previous_response_id":"resp_{}"}}"#, tag.exchange)
        }
        Kind::Gemini => format!(r#"{{"contents":[{{"parts":[{{"text":"{padding}"}}]}}]}}"#),
        Kind::Files => padding,
        _ => return None,
    };
    Some(text.into_bytes())
}

/// Writes content as chunks of some sizes, with an extension now and then, and a trailer.
pub fn in_chunks(content: &[u8], seed: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(content.len() + 64);
    let (mut rest, mut number) = (content, seed);
    while !rest.is_empty() {
        let length = [rest.len(), 1, 7, 4096, 16 * 1024][number % 5].min(rest.len());
        // Not a chunk for every byte of a large body.
        let length = length.max(content.len() / 16).min(rest.len());
        let (chunk, after) = rest.split_at(length);
        let extension = if number % 7 == 3 { ";a=\"b\"" } else { "" };
        body.extend_from_slice(format!("{length:x}{extension}\r\n").as_bytes());
        body.extend_from_slice(chunk);
        body.extend_from_slice(b"\r\n");
        (rest, number) = (after, number + 1);
    }
    body.extend_from_slice(b"0\r\n");
    if seed % 3 == 2 {
        body.extend_from_slice(b"x-trailer: 1\r\n");
    }
    body.extend_from_slice(b"\r\n");
    body
}

/// Changes one byte of a message. Returns whether that changes anything.
pub fn change(change: Change, head: &mut Vec<u8>, body: &mut Vec<u8>) -> bool {
    let (Change::Replace { is_in_head, at, .. }
    | Change::Remove { is_in_head, at }
    | Change::Insert { is_in_head, at, .. }) = change
    else {
        return false;
    };
    let part = if is_in_head || body.is_empty() { head } else { body };
    let place = usize::from(at) * part.len() / 256;
    match change {
        Change::Nothing => {}
        Change::Replace { by, .. } => part[place] = by,
        Change::Remove { .. } => drop(part.remove(place)),
        Change::Insert { byte, .. } => part.insert(place, byte),
    }
    true
}

/// A WebSocket message of a client or a server (RFC 6455 §5.2), masked with zeros.
pub fn frame(content: &[u8], is_masked: bool) -> Vec<u8> {
    let mask_bit = if is_masked { 0x80 } else { 0 };
    let mut frame = vec![0x81];
    match content.len() {
        length @ 0..126 => frame.push(mask_bit | length as u8),
        length @ 126..0x10000 => {
            frame.push(mask_bit | 126);
            frame.extend_from_slice(&(length as u16).to_be_bytes());
        }
        length => {
            frame.push(mask_bit | 127);
            frame.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    if is_masked {
        frame.extend_from_slice(&[0; 4]);
    }
    frame.extend_from_slice(content);
    frame
}
