//! Anthropic messages: one object, or the events from `message_start` to `message_stop`.
//! `input_tokens` leaves out what came from the cache or went there, unlike OpenAI's.

use serde_json::{Value, json};

use super::super::reply::DemoReply;
use super::{EventScript, named_event};

pub fn whole(reply: &DemoReply) -> Value {
    let content = json!([{"type": "text", "text": reply.text()}]);
    message(reply, content, Some("end_turn"), reply.usage.output)
}

pub fn events(reply: &DemoReply) -> EventScript {
    let start = json!({"type": "message_start", "message": message(reply, json!([]), None, 1)});
    let block = json!({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}});
    let delta = |token: &String| json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": token}});
    let end = json!({
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": null},
        "usage": usage(reply, reply.usage.output),
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
    json!({"input_tokens": reply.usage.input})
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
        "usage": usage(reply, output_token_count),
    })
}

fn usage(reply: &DemoReply, output_token_count: usize) -> Value {
    let tokens = reply.usage;
    json!({
        "input_tokens": tokens.input - tokens.cache_read - tokens.cache_write,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cache_read,
        "output_tokens": output_token_count,
    })
}
