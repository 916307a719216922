//! The shapes of each API's answers, as the official SDKs parse them.
//!
//! Pure: a reply goes in, JSON or events come out. One file an API, each with `whole` and, where it streams, `events`.

pub mod chat;
pub mod embeddings;
pub mod messages;
pub mod models;
pub mod realtime;
pub mod responses;

use serde_json::Value;

/// An event stream, step by step: what is sent at once, what then comes token by token, and the end.
#[derive(Debug)]
pub struct EventScript {
    pub opening: String,
    pub tokens: Vec<String>,
    pub closing: String,
}

/// An event whose name is also the `type` of its data, as Anthropic and the Responses API have it.
fn named_event(data: &Value) -> String {
    let name = data["type"].as_str().unwrap_or("message");
    format!("event: {name}\ndata: {data}\n\n")
}
