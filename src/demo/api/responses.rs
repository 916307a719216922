//! OpenAI Responses: one object, or the numbered events from `response.created` to `response.completed`.
//! Nothing is stored: no response can be fetched later.

use serde_json::{Value, json};

use super::super::reply::DemoReply;
use super::{EventScript, named_event};

pub fn whole(reply: &DemoReply) -> Value {
    response(reply, "completed")
}

pub fn events(reply: &DemoReply) -> EventScript {
    let mut numbering = Numbering(0);
    let item = item_id(reply);
    let text = reply.text();
    let opening = [
        json!({"type": "response.created", "response": response(reply, "in_progress")}),
        json!({"type": "response.in_progress", "response": response(reply, "in_progress")}),
        json!({"type": "response.output_item.added", "output_index": 0, "item": message(reply, "in_progress")}),
        json!({"type": "response.content_part.added", "item_id": item, "output_index": 0, "content_index": 0,
            "part": part("")}),
    ];
    let delta = |token: &String| {
        json!({"type": "response.output_text.delta", "item_id": item, "output_index": 0, "content_index": 0,
            "delta": token, "logprobs": []})
    };
    let closing = [
        json!({"type": "response.output_text.done", "item_id": item, "output_index": 0, "content_index": 0,
            "text": text, "logprobs": []}),
        json!({"type": "response.content_part.done", "item_id": item, "output_index": 0, "content_index": 0,
            "part": part(&text)}),
        json!({"type": "response.output_item.done", "output_index": 0, "item": message(reply, "completed")}),
        json!({"type": "response.completed", "response": response(reply, "completed")}),
    ];
    EventScript {
        opening: opening.into_iter().map(|event| numbering.event(event)).collect(),
        tokens: reply.tokens.iter().map(|token| numbering.event(delta(token))).collect(),
        closing: closing.into_iter().map(|event| numbering.event(event)).collect(),
    }
}

/// Returns the data of the events of a part of a stream: over a WebSocket each is a message of its own.
pub fn data_of(events: &str) -> impl Iterator<Item = &str> {
    events.lines().filter_map(|line| line.strip_prefix("data: "))
}

/// Returns the message that tells of an error over a WebSocket.
pub fn error(message: &str) -> String {
    let error = json!({"type": "invalid_request_error", "code": null, "message": message, "param": null});
    json!({"type": "error", "status": 400, "error": error}).to_string()
}

/// Gives each event of a stream its `sequence_number`, from 0.
struct Numbering(u64);

impl Numbering {
    fn event(&mut self, mut event: Value) -> String {
        event["sequence_number"] = self.0.into();
        self.0 += 1;
        named_event(&event)
    }
}

fn response(reply: &DemoReply, status: &str) -> Value {
    let is_complete = status == "completed";
    json!({
        "id": format!("resp_demo_{:06}", reply.number),
        "object": "response",
        "created_at": reply.created,
        "status": status,
        "error": null,
        "incomplete_details": null,
        "instructions": null,
        "max_output_tokens": null,
        "metadata": {},
        "model": reply.model,
        "output": if is_complete { json!([message(reply, status)]) } else { json!([]) },
        "parallel_tool_calls": true,
        "previous_response_id": null,
        "reasoning": {"effort": null, "summary": null},
        "store": false,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": [],
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": if is_complete { usage(reply) } else { Value::Null },
        "user": null,
    })
}

fn message(reply: &DemoReply, status: &str) -> Value {
    let content = if status == "completed" { json!([part(&reply.text())]) } else { json!([]) };
    json!({"id": item_id(reply), "type": "message", "status": status, "role": "assistant", "content": content})
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
}

fn item_id(reply: &DemoReply) -> String {
    format!("msg_demo_{:06}", reply.number)
}

fn usage(reply: &DemoReply) -> Value {
    let tokens = reply.usage;
    json!({
        "input_tokens": tokens.input,
        "input_tokens_details": {"cached_tokens": tokens.cache_read},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": tokens.reasoning},
        "total_tokens": tokens.input + tokens.output,
    })
}
