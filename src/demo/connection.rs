//! One connection of the embedded upstream: requests are decoded by monoio-http, one after the other.
//!
//! Whole answers go through monoio-http's encoder. Event streams are written by hand, because that encoder holds a
//! streamed body back until 8 KiB have come together or the body ends, and each token is to leave when it is made.
//! The peer is the gateway of the same process and its body limit holds here; a request without a valid token is
//! answered before its body is read. No read or write is ever cancelled: a stream that fails is dropped.

use std::time::Duration;

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, Response, StatusCode, header};
use monoio::io::sink::SinkExt;
use monoio::io::stream::Stream;
use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Split, Splitable};
use monoio::time::sleep;
use monoio_http::common::body::Body;
use monoio_http::common::error::HttpError;
use monoio_http::h1::codec::decoder::{FillPayload, RequestDecoder};
use monoio_http::h1::codec::encoder::GenericEncoder;
use monoio_http::h1::payload::{FixedPayload, Payload};

use super::access::Access;
use super::api::EventScript;
use super::memory::DemoMemory;
use super::memory::quota::DemoQuotas;
use super::memory::served::ServedUsage;
use super::routes::{self, DemoAnswer};
use super::scene::{RETRY_AFTER_SECONDS, Scene};
use super::websocket::{DemoUpgrade, SocketScene, offered_protocol};

/// Names the credential of the request's token, also on answers that have no text.
const CREDENTIAL_FIELD: &str = "x-demo-credential";

/// Tells the cost of a whole answer in dollars, as LiteLLM does.
const COST_FIELD: &str = "x-litellm-response-cost";

/// A request after which its connection is a WebSocket.
struct SwitchedRequest {
    upgrade: DemoUpgrade,
    /// The subprotocol that is spoken.
    protocol: Option<String>,
    credential: String,
    pace: Duration,
}

/// Everything that the connections share.
pub struct DemoServer {
    access: Access,
    memory: DemoMemory,
    pace: Duration,
}

impl DemoServer {
    pub fn new(access: Access, pace: Duration) -> Self {
        let memory = DemoMemory::new(DemoQuotas::new(access.credentials()));
        DemoServer { access, memory, pace }
    }

    /// Answers requests until the peer closes, asks to close, or breaks the protocol, and serves a WebSocket after one
    /// that asks for it.
    pub async fn serve<S: Split + AsyncReadRent + AsyncWriteRent>(&self, stream: S) {
        let (mut reader, mut writer) = stream.into_split();
        if let Some(switched) = self.serve_requests(&mut reader, &mut writer).await {
            // Nothing of it comes before the switch.
            let SwitchedRequest { upgrade, protocol, credential, pace } = switched;
            let scene = SocketScene { memory: &self.memory, credential: &credential, pace };
            let _ = upgrade.serve(&mut reader, &mut writer, protocol.as_deref(), scene).await;
        }
        let _ = writer.shutdown().await;
    }

    /// Answers requests up to one that asks for a WebSocket.
    async fn serve_requests<R: AsyncReadRent, W: AsyncWriteRent>(
        &self,
        reader: &mut R,
        writer: &mut W,
    ) -> Option<SwitchedRequest> {
        let mut decoder = RequestDecoder::new(reader);
        while let Some(Ok(request)) = decoder.next().await {
            let is_close_asked = wants_close(request.headers());
            let (head, mut payload) = request.into_parts();
            let scene = Scene::of(&head.headers);
            let admitted = match self.access.check(&head.headers) {
                _ if DemoQuotas::is_asked(&head.uri) => Ok(None),
                checked => checked.map(Some),
            };
            let (credential, answer) = match admitted {
                Ok(credential) => {
                    if decoder.fill_payload().await.is_err() {
                        return None;
                    }
                    if let (Some(credential), Some(upgrade)) = (credential, DemoUpgrade::of(&head)) {
                        let protocol = offered_protocol(&head.headers).map(str::to_owned);
                        let pace = scene.pace.unwrap_or(self.pace);
                        return Some(SwitchedRequest { upgrade, protocol, credential: credential.to_owned(), pace });
                    }
                    let Ok(body) = collect(&mut payload).await else { return None };
                    (credential, self.answer(&head, &scene, &body, credential))
                }
                Err(reason) => (None, routes::unauthorized(reason)),
            };
            let is_body_unread = admitted.is_err() && !matches!(payload, Payload::None);
            let told = |usage: &ServedUsage| self.memory.note(credential.unwrap_or_default(), usage);
            let credential = credential.unwrap_or("none");
            let written = match answer {
                DemoAnswer::Whole { status, body, usage } => {
                    usage.iter().for_each(told);
                    let body = if head.method == Method::HEAD { Bytes::new() } else { body };
                    let cost = usage.and_then(|usage| usage.cost);
                    write_whole(writer, status, body, credential, cost).await
                }
                DemoAnswer::Events(script, usage) => {
                    let pace = scene.pace.unwrap_or(self.pace);
                    write_events(writer, script, credential, pace, || told(&usage)).await.is_ok()
                }
            };
            if !written || is_close_asked || is_body_unread {
                break;
            }
        }
        None
    }

    /// Answers a request that was admitted: without a credential, to an endpoint about quotas.
    fn answer(&self, head: &Parts, scene: &Scene<'_>, body: &[u8], credential: Option<&str>) -> DemoAnswer {
        let Some(credential) = credential else {
            return routes::told(self.memory.quotas.answer(&head.method, &head.uri, &head.headers, body));
        };
        match scene.refusal(credential) {
            Some(status) => routes::refused(status),
            None => routes::answer(&head.method, &head.uri, body, credential, &self.memory),
        }
    }
}

fn wants_close(headers: &HeaderMap) -> bool {
    let fields = headers.get_all(header::CONNECTION);
    fields.iter().any(|value| value.to_str().is_ok_and(|value| value.to_ascii_lowercase().contains("close")))
}

/// The whole body, which [`FillPayload`] has already taken from the wire. A fixed-length one is not copied.
async fn collect(payload: &mut Payload) -> Result<Bytes, HttpError> {
    let Some(first) = payload.next_data().await else { return Ok(Bytes::new()) };
    let first = first?;
    if !matches!(payload, Payload::Stream(_)) {
        return Ok(first);
    }
    let mut whole = first.to_vec();
    while let Some(chunk) = payload.next_data().await {
        whole.extend_from_slice(&chunk?);
    }
    Ok(whole.into())
}

async fn write_whole<W: AsyncWriteRent>(
    writer: &mut W,
    status: StatusCode,
    body: Bytes,
    credential: &str,
    cost: Option<f64>,
) -> bool {
    let payload: Payload = if body.is_empty() { Payload::None } else { Payload::Fixed(FixedPayload::new(body)) };
    let mut response = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json")
        .header(CREDENTIAL_FIELD, credential);
    if status == StatusCode::TOO_MANY_REQUESTS {
        response = response.header(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
    }
    if let Some(cost) = cost {
        response = response.header(COST_FIELD, cost.to_string());
    }
    match response.body(payload) {
        Ok(response) => GenericEncoder::new(writer).send_and_flush(response).await.is_ok(),
        Err(_) => false,
    }
}

/// Writes each step of the script as one chunk (RFC 9112 §7.1) and lets `pace` pass between the tokens; `told` is called
/// when the end with the usage is about to be written.
async fn write_events<W: AsyncWriteRent>(
    writer: &mut W,
    script: EventScript,
    credential: &str,
    pace: Duration,
    told: impl FnOnce(),
) -> std::io::Result<()> {
    let head = format!(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n\
         {CREDENTIAL_FIELD}: {credential}\r\ntransfer-encoding: chunked\r\n\r\n"
    );
    write_all(writer, head + &chunk(&script.opening)).await?;
    for token in script.tokens {
        sleep(pace).await;
        write_all(writer, chunk(&token)).await?;
    }
    told();
    write_all(writer, chunk(&script.closing) + "0\r\n\r\n").await
}

fn chunk(data: &str) -> String {
    format!("{:x}\r\n{data}\r\n", data.len())
}

async fn write_all<W: AsyncWriteRent>(writer: &mut W, bytes: String) -> std::io::Result<()> {
    writer.write_all(bytes.into_bytes()).await.0?;
    writer.flush().await
}
