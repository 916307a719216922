//! OpenAI Realtime, of text alone: a session takes items of a conversation, and answers when it is asked to.
//!
//! Pure. The events have the names that the API has since its release, or those before for clients that ask for them.

use std::mem;

use serde_json::{Value, json};

use super::super::reply::DemoReply;

/// The most items of a conversation that are kept: it is echoed in part anyway.
const ITEMS_MAX: usize = 100;

/// The model of a session whose URL names none.
const MODEL: &str = "gpt-4o-mini";

/// One session.
pub struct RealtimeSession {
    model: String,
    is_beta: bool,
    items: Vec<Value>,
    /// The number of the last event or item.
    number: u64,
    /// The events that answer the last message that asked for nothing.
    told: Vec<String>,
}

impl RealtimeSession {
    /// Begins one for the model that the query of its URL names.
    pub fn new(query: Option<&str>, is_beta: bool) -> Self {
        let mut pairs = query.unwrap_or_default().split('&');
        let model = pairs.find_map(|pair| pair.strip_prefix("model=")).filter(|model| !model.is_empty());
        let model = model.unwrap_or(MODEL).to_owned();
        RealtimeSession { model, is_beta, items: Vec::new(), number: 0, told: Vec::new() }
    }

    /// Returns the event that greets a client.
    pub fn created(&self) -> String {
        json!({"type": "session.created", "event_id": "event_demo_0", "session": self.session()}).to_string()
    }

    /// Takes an event of the client. Returns the request for an answer as a body of Responses, where it is one; else
    /// [`RealtimeSession::told`] has what is told.
    pub fn take(&mut self, event: &Value) -> Option<String> {
        match event["type"].as_str() {
            Some("response.create") => {
                let input = match &event["response"]["input"] {
                    Value::Array(input) => input.clone(),
                    _ => self.items.clone(),
                };
                return Some(json!({"model": self.model, "input": input, "stream": true}).to_string());
            }
            Some("session.update") => {
                let session = self.session();
                self.tell(json!({"type": "session.updated", "session": session}));
            }
            Some("conversation.item.create") => self.add(event["item"].clone()),
            _ => {
                let error = self.error("The demo knows session.update, conversation.item.create and response.create.");
                self.told.push(error);
            }
        }
        None
    }

    /// Takes the events that answer the last message.
    pub fn told(&mut self) -> Vec<String> {
        mem::take(&mut self.told)
    }

    pub fn error(&mut self, message: &str) -> String {
        let error = json!({"type": "invalid_request_error", "code": null, "message": message, "param": null});
        self.numbered(json!({"type": "error", "error": error}))
    }

    /// Returns the events before the text.
    pub fn opening(&mut self, reply: &DemoReply) -> Vec<String> {
        let item = item(reply, "in_progress");
        vec![
            self.numbered(json!({"type": "response.created", "response": response(reply, "in_progress")})),
            self.numbered(json!({"type": "response.output_item.added", "response_id": id(reply), "output_index": 0,
                "item": item})),
        ]
    }

    /// Returns the event with a part of the text.
    pub fn delta(&mut self, reply: &DemoReply, token: &str) -> String {
        let kind = if self.is_beta { "response.text.delta" } else { "response.output_text.delta" };
        self.numbered(json!({"type": kind, "response_id": id(reply), "item_id": item_id(reply), "output_index": 0,
            "content_index": 0, "delta": token}))
    }

    /// Returns the events after the text.
    pub fn closing(&mut self, reply: &DemoReply) -> Vec<String> {
        let kind = if self.is_beta { "response.text.done" } else { "response.output_text.done" };
        let item = item(reply, "completed");
        self.keep(item.clone());
        vec![
            self.numbered(json!({"type": kind, "response_id": id(reply), "item_id": item_id(reply), "output_index": 0,
                "content_index": 0, "text": reply.text()})),
            self.numbered(json!({"type": "response.output_item.done", "response_id": id(reply), "output_index": 0,
                "item": item})),
            self.numbered(json!({"type": "response.done", "response": response(reply, "completed")})),
        ]
    }

    fn add(&mut self, mut item: Value) {
        if item["id"].is_null() && item.is_object() {
            item["id"] = format!("item_demo_{}", self.number).into();
        }
        self.keep(item.clone());
        let kinds: &[&str] = match self.is_beta {
            true => &["conversation.item.created"],
            false => &["conversation.item.added", "conversation.item.done"],
        };
        for kind in kinds {
            self.tell(json!({"type": kind, "previous_item_id": null, "item": item}));
        }
    }

    fn keep(&mut self, item: Value) {
        if self.items.len() == ITEMS_MAX {
            self.items.remove(0);
        }
        self.items.push(item);
    }

    fn tell(&mut self, event: Value) {
        let event = self.numbered(event);
        self.told.push(event);
    }

    fn numbered(&mut self, mut event: Value) -> String {
        self.number += 1;
        event["event_id"] = format!("event_demo_{}", self.number).into();
        event.to_string()
    }

    fn session(&self) -> Value {
        let modalities = if self.is_beta { "modalities" } else { "output_modalities" };
        let mut session =
            json!({"id": "sess_demo", "object": "realtime.session", "model": self.model, "instructions": ""});
        session[modalities] = json!(["text"]);
        if !self.is_beta {
            session["type"] = "realtime".into();
        }
        session
    }
}

fn response(reply: &DemoReply, status: &str) -> Value {
    let is_complete = status == "completed";
    let output = if is_complete { json!([item(reply, status)]) } else { json!([]) };
    json!({
        "id": id(reply),
        "object": "realtime.response",
        "status": status,
        "status_details": null,
        "output": output,
        "output_modalities": ["text"],
        "metadata": null,
        "usage": if is_complete { usage(reply) } else { Value::Null },
    })
}

fn item(reply: &DemoReply, status: &str) -> Value {
    let content =
        if status == "completed" { json!([{"type": "output_text", "text": reply.text()}]) } else { json!([]) };
    json!({"id": item_id(reply), "object": "realtime.item", "type": "message", "status": status, "role": "assistant",
        "content": content})
}

fn id(reply: &DemoReply) -> String {
    format!("resp_demo_{:06}", reply.number)
}

fn item_id(reply: &DemoReply) -> String {
    format!("item_demo_reply_{:06}", reply.number)
}

fn usage(reply: &DemoReply) -> Value {
    let tokens = reply.usage;
    json!({
        "total_tokens": tokens.input + tokens.output,
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "input_token_details": {"text_tokens": tokens.input, "audio_tokens": 0, "cached_tokens": tokens.cache_read},
        "output_token_details": {"text_tokens": tokens.output, "audio_tokens": 0},
    })
}
