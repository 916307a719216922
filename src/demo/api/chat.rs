//! OpenAI chat completions: one object, or chunks that end in `[DONE]`.
//! The usage comes in a chunk of its own, and only where it was asked for.

use serde_json::{Value, json};

use super::super::reply::DemoReply;
use super::EventScript;

pub fn whole(reply: &DemoReply) -> Value {
    let message = json!({"role": "assistant", "content": reply.text(), "refusal": null, "annotations": []});
    json!({
        "id": id(reply),
        "object": "chat.completion",
        "created": reply.created,
        "model": reply.model,
        "choices": [{"index": 0, "message": message, "logprobs": null, "finish_reason": "stop"}],
        "usage": usage(reply),
    })
}

pub fn events(reply: &DemoReply) -> EventScript {
    let step = |delta: Value, finish: Option<&str>| {
        chunk(reply, json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish}]), None)
    };
    let usage = if reply.is_usage_asked { chunk(reply, json!([]), Some(usage(reply))) } else { String::new() };
    EventScript {
        opening: step(json!({"role": "assistant", "content": ""}), None),
        tokens: reply.tokens.iter().map(|token| step(json!({"content": token}), None)).collect(),
        closing: step(json!({}), Some("stop")) + &usage + "data: [DONE]\n\n",
    }
}

fn chunk(reply: &DemoReply, choices: Value, usage: Option<Value>) -> String {
    let mut chunk = json!({
        "id": id(reply),
        "object": "chat.completion.chunk",
        "created": reply.created,
        "model": reply.model,
        "choices": choices,
    });
    if let Some(usage) = usage {
        chunk["usage"] = usage;
    }
    format!("data: {chunk}\n\n")
}

fn id(reply: &DemoReply) -> String {
    format!("chatcmpl-demo-{:06}", reply.number)
}

fn usage(reply: &DemoReply) -> Value {
    let tokens = reply.usage;
    json!({
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": tokens.reasoning, "audio_tokens": 0},
    })
}
