//! OpenAI embeddings: a vector an input.
//! The demo knows no meaning: the numbers only have the right shape.

use serde_json::{Value, json};

use super::super::reply::DemoReply;

const DIMENSION_COUNT: usize = 8;

pub fn whole(reply: &DemoReply) -> Value {
    let data: Vec<_> = (0..reply.input_count)
        .map(|index| json!({"object": "embedding", "index": index, "embedding": vector(index)}))
        .collect();
    json!({
        "object": "list",
        "data": data,
        "model": reply.model,
        "usage": {"prompt_tokens": reply.usage.input, "total_tokens": reply.usage.input},
    })
}

/// A unit vector that differs from input to input, for the first few.
fn vector(index: usize) -> [f32; DIMENSION_COUNT] {
    let mut vector = [0.0; DIMENSION_COUNT];
    vector[index % DIMENSION_COUNT] = 1.0;
    vector
}
