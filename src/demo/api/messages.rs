//! Anthropic messages: one object, or the events from `message_start` to `message_stop`.
//! Token counts are estimates.

use serde_json::{Value, json};

use super::super::reply::DemoReply;
use super::{EventScript, named_event};

pub fn whole(reply: &DemoReply) -> Value {
    let content = json!([{"type": "text", "text": reply.text()}]);
    message(reply, content, Some("end_turn"), reply.tokens.len())
}

pub fn events(reply: &DemoReply) -> EventScript {
    let start = json!({"type": "message_start", "message": message(reply, json!([]), None, 1)});
    let block = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let delta = |token: &String| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}});
    let end = json!({
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": {"output_tokens": reply.tokens.len()},
    });
    EventScript {
        opening: named_event(&start) + &named_event(&block) + &named_event(&json!({"type": "ping"})),
        tokens: reply.tokens.iter().map(|token| named_event(&delta(token))).collect(),
        closing: named_event(&json!({"type": "content_block_stop", "index": 0}))
            + &named_event(&end)
            + &named_event(&json!({"type": "message_stop"})),
    }
}

pub fn count(reply: &DemoReply) -> Value {
    json!({"input_tokens": reply.input_token_count})
}

fn message(reply: &DemoReply, content: Value, stop_reason: Option<&str>, output_token_count: usize) -> Value {
    json!({
        "id": format!("msg_demo_{:06}", reply.number),
        "type": "message",
        "role": "assistant",
        "model": reply.model,
        "content": content,
        "stop_reason": stop_reason,
        "stop_sequence": null,
        "usage": {
            "input_tokens": reply.input_token_count,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": output_token_count,
        },
    })
}
