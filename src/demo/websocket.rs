//! The demo's WebSockets: Responses, as Codex uses them, and a small Realtime of text alone.
//!
//! tungstenite speaks the protocol on bytes in memory; the socket is read and written here. Invariant: one answer is
//! under way at a time, and a message is as long as its limit at most.

use std::io::{self, Read, Write};
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use http::request::Parts;
use http::{HeaderMap, Method, header};
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt};
use monoio::time::sleep;
use serde_json::Value;
use tungstenite::protocol::{Message, Role, WebSocketConfig, WebSocketContext};

use super::api::realtime::RealtimeSession;
use super::api::responses::{self, data_of};
use super::flow::BASE_PATH;
use super::memory::DemoMemory;
use super::memory::served::ServedUsage;
use super::reply::DemoReply;

/// Follows the key in what is hashed for the answer (RFC 6455 §1.3).
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The longest message: a conversation with its images.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Room for one read.
const READ_BYTES: usize = 16 * 1024;

/// An upgrade that is granted.
pub struct DemoUpgrade {
    api: SocketApi,
    accept: String,
}

enum SocketApi {
    Responses,
    Realtime(RealtimeSession),
}

/// The answers of one socket are made by this.
pub struct SocketScene<'a> {
    pub memory: &'a DemoMemory,
    pub credential: &'a str,
    pub pace: Duration,
}

impl DemoUpgrade {
    /// Returns the upgrade that a request asks for; `None`: none, or on a path that has no WebSocket.
    pub fn of(head: &Parts) -> Option<Self> {
        let text = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok());
        let is_upgrade = text("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
        let key = text("sec-websocket-key").filter(|_| is_upgrade && head.method == Method::GET)?;
        let path = head.uri.path().strip_prefix(BASE_PATH)?;
        let api = match path.strip_prefix("/v1").unwrap_or(path) {
            "/responses" => SocketApi::Responses,
            "/realtime" => SocketApi::Realtime(RealtimeSession::new(head.uri.query(), is_beta(&head.headers))),
            _ => return None,
        };
        let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_SUFFIX}").as_bytes());
        Some(DemoUpgrade { api, accept: BASE64_STANDARD.encode(hash) })
    }

    /// Switches, and serves the socket until it ends.
    pub async fn serve<R: AsyncReadRent, W: AsyncWriteRent>(
        self,
        reader: &mut R,
        writer: &mut W,
        protocol: Option<&str>,
        scene: SocketScene<'_>,
    ) -> io::Result<()> {
        let protocol = protocol.map_or_else(String::new, |chosen| format!("sec-websocket-protocol: {chosen}\r\n"));
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
             sec-websocket-accept: {}\r\n{protocol}\r\n",
            self.accept
        );
        writer.write_all(head.into_bytes()).await.0?;
        writer.flush().await?;
        let mut config = WebSocketConfig::default();
        config.max_message_size = Some(MESSAGE_BYTES_MAX);
        let context = WebSocketContext::new(Role::Server, Some(config));
        let mut socket = DemoSocket { reader, writer, context, wire: Wire::default() };
        let mut api = self.api;
        if let SocketApi::Realtime(session) = &api {
            socket.send(session.created()).await?;
        }
        while let Some(text) = socket.receive().await? {
            match &mut api {
                SocketApi::Responses => answer_responses(&mut socket, &text, &scene).await?,
                SocketApi::Realtime(session) => answer_realtime(&mut socket, session, &text, &scene).await?,
            }
        }
        Ok(())
    }
}

/// Returns the first of the subprotocols that a request offers.
pub fn offered_protocol(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::SEC_WEBSOCKET_PROTOCOL)?.to_str().ok()?;
    value.split(',').map(str::trim).next().filter(|protocol| !protocol.is_empty())
}

/// Tells whether a client speaks Realtime as it was before its release.
fn is_beta(headers: &HeaderMap) -> bool {
    headers.get("openai-beta").is_some_and(|value| value.as_bytes().starts_with(b"realtime"))
}

/// Answers one message of a client that speaks Responses.
async fn answer_responses<R: AsyncReadRent, W: AsyncWriteRent>(
    socket: &mut DemoSocket<'_, R, W>,
    text: &str,
    SocketScene { memory, credential, pace }: &SocketScene<'_>,
) -> io::Result<()> {
    let request: Value = serde_json::from_str(text).unwrap_or_default();
    if request["type"] != "response.create" {
        return socket.send(responses::error("The type of a message must be 'response.create'.")).await;
    }
    let Ok(reply) = DemoReply::compose("/responses", text.as_bytes(), credential, &memory.cache) else {
        return socket.send(responses::error("The model or the input of the response is missing or not known.")).await;
    };
    let script = responses::events(&reply);
    for event in data_of(&script.opening) {
        socket.send(event).await?;
    }
    // One that warms the socket up asks for no content.
    if request["generate"] != false {
        for token in &script.tokens {
            sleep(*pace).await;
            for event in data_of(token) {
                socket.send(event).await?;
            }
        }
    }
    memory.note(credential, &ServedUsage { model: reply.model.clone(), tokens: Some(reply.usage), cost: None });
    for event in data_of(&script.closing) {
        socket.send(event).await?;
    }
    Ok(())
}

/// Answers one message of a client that speaks Realtime.
async fn answer_realtime<R: AsyncReadRent, W: AsyncWriteRent>(
    socket: &mut DemoSocket<'_, R, W>,
    session: &mut RealtimeSession,
    text: &str,
    SocketScene { memory, credential, pace }: &SocketScene<'_>,
) -> io::Result<()> {
    let event: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(request) = session.take(&event) else {
        for event in session.told() {
            socket.send(event).await?;
        }
        return Ok(());
    };
    let Ok(reply) = DemoReply::compose("/responses", request.as_bytes(), credential, &memory.cache) else {
        return socket.send(session.error("The model of the session is not known.")).await;
    };
    for event in session.opening(&reply) {
        socket.send(event).await?;
    }
    for token in &reply.tokens {
        sleep(*pace).await;
        socket.send(session.delta(&reply, token)).await?;
    }
    memory.note(credential, &ServedUsage { model: reply.model.clone(), tokens: Some(reply.usage), cost: None });
    for event in session.closing(&reply) {
        socket.send(event).await?;
    }
    Ok(())
}

/// A socket of which one side is in memory.
struct DemoSocket<'a, R, W> {
    reader: &'a mut R,
    writer: &'a mut W,
    context: WebSocketContext,
    wire: Wire,
}

/// The bytes that have come, and those that are to go out.
#[derive(Default)]
struct Wire {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

impl Read for Wire {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.incoming.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = room.len().min(self.incoming.len());
        room[..count].copy_from_slice(&self.incoming[..count]);
        self.incoming.drain(..count);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<R: AsyncReadRent, W: AsyncWriteRent> DemoSocket<'_, R, W> {
    /// Returns the next text message; `None`: the socket has ended.
    async fn receive(&mut self) -> io::Result<Option<String>> {
        loop {
            let read = self.context.read(&mut self.wire);
            // Answers to pings and closes too.
            self.write_out().await?;
            match read {
                Ok(Message::Text(text)) => return Ok(Some(text.to_string())),
                Ok(_) => continue,
                Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Ok(None),
            }
            let (result, bytes) = self.reader.read(Vec::with_capacity(READ_BYTES)).await;
            if result? == 0 {
                return Ok(None);
            }
            self.wire.incoming.extend_from_slice(&bytes);
        }
    }

    async fn send(&mut self, event: impl Into<String>) -> io::Result<()> {
        let sent = self.context.write(&mut self.wire, Message::text(event.into()));
        sent.and_then(|()| self.context.flush(&mut self.wire)).map_err(io::Error::other)?;
        self.write_out().await
    }

    async fn write_out(&mut self) -> io::Result<()> {
        // What it answers by itself waits to be flushed; a socket that has closed has nothing more.
        let _ = self.context.flush(&mut self.wire);
        let bytes = std::mem::take(&mut self.wire.outgoing);
        if bytes.is_empty() {
            return Ok(());
        }
        self.writer.write_all(bytes).await.0?;
        self.writer.flush().await
    }
}
