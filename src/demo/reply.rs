//! The text of a reply: composed once, the same for every API; [`super::api`] puts it into shape.
//!
//! Reads as much of a request as it echoes, and no more: the demo is not a validator of API requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::api::models;

/// The part of the prompt that is echoed.
const ECHO_CHARS_MAX: usize = 60;

/// A rule of thumb for English text.
const BYTES_PER_TOKEN: usize = 4;

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
    /// An estimate, from the size of the request.
    pub input_token_count: usize,
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
        let is_set = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
        Ok(DemoReply {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            model: model.to_owned(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            tokens: text(credential, input, body.len()).split_inclusive(' ').map(str::to_owned).collect(),
            input_token_count: body.len().div_ceil(BYTES_PER_TOKEN),
            input_count: input.as_array().map_or(1, Vec::len),
            is_streamed: is_set(request.get("stream")),
            is_usage_asked: is_set(request.get("stream_options").and_then(|options| options.get("include_usage"))),
        })
    }

    pub fn text(&self) -> String {
        self.tokens.concat()
    }

    pub fn total_token_count(&self) -> usize {
        self.input_token_count + self.tokens.len()
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
    fn a_long_prompt_is_echoed_in_part_and_its_size_is_told() {
        let body = json!({"model": "gpt-4o-mini", "input": "ä".repeat(5_000_000)}).to_string();
        let reply = DemoReply::compose("/responses", body.as_bytes(), "bob-demo").unwrap();
        let text = reply.text();
        assert!(text.contains("bob-demo") && text.contains(&body.len().to_string()), "{text}");
        assert!(text.ends_with(&format!("\"{}...\"", "ä".repeat(ECHO_CHARS_MAX))), "{text}");
    }
}
