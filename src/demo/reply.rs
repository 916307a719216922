//! The text of a reply: composed once, the same for every API; [`super::api`] puts it into shape.
//!
//! Reads as much of a request as it echoes, and no more: the demo is not a validator of API requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::api::models;
use super::served::ServedTokens;

/// The part of the prompt that is echoed.
const ECHO_CHARS_MAX: usize = 60;

/// Words of input from which on a part of them comes from the cache, as that of a longer conversation does.
const CACHED_WORDS_MIN: usize = 8;

/// The tokens for which a model thinks, if it does.
const REASONING_TOKEN_COUNT: usize = 7;

/// Numbers the replies of the process.
static NEXT_NUMBER: AtomicU64 = AtomicU64::new(1);

/// A reply before it takes the shape of an API.
#[derive(Debug)]
pub struct DemoReply {
    /// Counts up, for ids.
    pub number: u64,
    pub model: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The text, cut as a model would.
    pub tokens: Vec<String>,
    /// The tokens that the answer tells of: a word is one.
    pub usage: ServedTokens,
    /// The number of inputs in the request: more than one only for embeddings.
    pub input_count: usize,
    pub is_streamed: bool,
    /// A chat stream is to end with a chunk that holds the usage.
    pub is_usage_asked: bool,
}

/// The reason why a request cannot be answered.
#[derive(Debug)]
pub enum Invalid {
    Json,
    Missing(&'static str),
    Model(String),
}

impl DemoReply {
    /// Reads the request of any of the APIs and composes the reply to it.
    pub fn compose(route: &str, body: &[u8], credential: &str) -> Result<Self, Invalid> {
        let request: Value = serde_json::from_slice(body).map_err(|_| Invalid::Json)?;
        let request = request.as_object().ok_or(Invalid::Json)?;
        let model = request.get("model").and_then(Value::as_str).ok_or(Invalid::Missing("model"))?;
        let input_field = if matches!(route, "/responses" | "/embeddings") { "input" } else { "messages" };
        let input = request.get(input_field).ok_or(Invalid::Missing(input_field))?;
        if !models::is_known(model) {
            return Err(Invalid::Model(model.to_owned()));
        }
        let tokens: Vec<String> = text(credential, input, body.len()).split_inclusive(' ').map(str::to_owned).collect();
        let words = word_count(input) + request.get("system").map_or(0, word_count);
        let is_set = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
        Ok(DemoReply {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            model: model.to_owned(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            usage: usage(route, model, words, tokens.len()),
            tokens,
            input_count: input.as_array().map_or(1, Vec::len),
            is_streamed: is_set(request.get("stream")),
            is_usage_asked: is_set(request.get("stream_options").and_then(|options| options.get("include_usage"))),
        })
    }

    pub fn text(&self) -> String {
        self.tokens.concat()
    }
}

/// Counts the tokens. Each is told as its API tells it: the cache is written by Anthropic's alone, embeddings have no
/// output.
fn usage(route: &str, model: &str, words: usize, output_words: usize) -> ServedTokens {
    let is_cached = words >= CACHED_WORDS_MIN && route != "/embeddings";
    let reasoning = if models::is_reasoning(model) && route != "/messages" { REASONING_TOKEN_COUNT } else { 0 };
    ServedTokens {
        input: words,
        cache_read: if is_cached { words / 2 } else { 0 },
        cache_write: if is_cached && route == "/messages" { words / 4 } else { 0 },
        output: if route == "/embeddings" { 0 } else { output_words + reasoning },
        reasoning: if route == "/embeddings" { 0 } else { reasoning },
    }
}

/// The words of all texts in an input; names of roles and kinds are none.
fn word_count(value: &Value) -> usize {
    match value {
        Value::String(text) => text.split_whitespace().count(),
        Value::Array(items) => items.iter().map(word_count).sum(),
        Value::Object(item) => item.get("text").or_else(|| item.get("content")).map_or(0, word_count),
        _ => 0,
    }
}

fn text(credential: &str, input: &Value, body_bytes: usize) -> String {
    let prompt = last_user_text(input).unwrap_or("nothing that I can read").trim();
    let echo: String = prompt.chars().take(ECHO_CHARS_MAX).collect();
    let ellipsis = if echo.len() < prompt.len() { "..." } else { "" };
    format!(
        "Hello from the demo upstream! Your request of {body_bytes} bytes came in with the credential {credential}; ask \
         again and it is the next one's turn. You said: \"{echo}{ellipsis}\""
    )
}

/// The last text that is the user's, in a message list of any of the APIs or a plain string.
fn last_user_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => Some(text),
        Value::Array(items) => items.iter().rev().find_map(last_user_text),
        Value::Object(item) => match item.get("role").and_then(Value::as_str) {
            None | Some("user") => item.get("text").or_else(|| item.get("content")).and_then(last_user_text),
            Some(_) => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_users_last_words_are_found_in_the_input_of_every_api() {
        let parts = json!([{"type": "text", "text": "first"}, {"type": "text", "text": "last"}]);
        for (input, expected) in [
            (json!("plain"), Some("plain")),
            (json!([{"role": "user", "content": "chat"}]), Some("chat")),
            (json!([{"role": "user", "content": "asked"}, {"role": "assistant", "content": "said"}]), Some("asked")),
            (json!([{"role": "user", "content": parts}]), Some("last")),
            (json!([{"type": "message", "role": "user", "content": [{"type": "input_text", "text": "r"}]}]), Some("r")),
            (json!([{"role": "user", "content": [{"type": "image"}]}]), None),
            (json!([1, 2, 3]), None),
        ] {
            assert_eq!(last_user_text(&input), expected, "{input}");
        }
    }

    #[test]
    fn tokens_are_the_words_of_all_messages_and_a_part_of_many_comes_from_the_cache() {
        let compose = |route, body: Value| DemoReply::compose(route, body.to_string().as_bytes(), "bob-demo").unwrap();
        let messages = json!([{"role": "user", "content": [{"type": "text", "text": "one two three"}]},
            {"role": "assistant", "content": "four five"}, {"role": "user", "content": "six seven"}]);
        let few = compose("/chat/completions", json!({"model": "gpt-4o-mini", "messages": messages}));
        let tokens = ServedTokens { input: 7, output: few.tokens.len(), ..ServedTokens::default() };
        assert_eq!(few.usage, tokens);
        let body = json!({"model": "claude-sonnet-4", "system": "eight nine", "messages": messages});
        let many = compose("/messages", body);
        assert_eq!((many.usage.input, many.usage.cache_read, many.usage.cache_write), (9, 4, 2));
        let thinking = compose("/responses", json!({"model": "gpt-5", "input": "one two"})).usage;
        assert_eq!((thinking.input, thinking.reasoning), (2, REASONING_TOKEN_COUNT));
        let embedding = compose("/embeddings", json!({"model": "text-embedding-3-small", "input": ["a b", "c"]})).usage;
        assert_eq!(embedding, ServedTokens { input: 3, ..ServedTokens::default() });
    }

    #[test]
    fn a_long_prompt_is_echoed_in_part_and_its_size_is_told() {
        let body = json!({"model": "gpt-4o-mini", "input": "ä".repeat(5_000_000)}).to_string();
        let reply = DemoReply::compose("/responses", body.as_bytes(), "bob-demo").unwrap();
        let text = reply.text();
        assert!(text.contains("bob-demo") && text.contains(&body.len().to_string()), "{text}");
        assert!(text.ends_with(&format!("\"{}...\"", "ä".repeat(ECHO_CHARS_MAX))), "{text}");
    }
}
