//! The text of a reply: composed once, the same for every API; [`super::api`] puts it into shape.
//!
//! Reads as much of a request as it echoes, and no more: the demo is not a validator of API requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;

use super::api::models;
use super::memory::prompt_cache::{CachedWords, PromptCache};
use super::memory::served::ServedTokens;

/// The part of the prompt that is echoed.
const ECHO_CHARS_MAX: usize = 60;

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
    /// Reads the request of any of the APIs and composes the reply to it. Its prompt goes to the `cache`, where there is
    /// one for the API.
    pub fn compose(route: &str, body: &[u8], credential: &str, cache: &PromptCache) -> Result<Self, Invalid> {
        let request: Value = serde_json::from_slice(body).map_err(|_| Invalid::Json)?;
        let request = request.as_object().ok_or(Invalid::Json)?;
        let model = request.get("model").and_then(Value::as_str).ok_or(Invalid::Missing("model"))?;
        let input_field = if matches!(route, "/responses" | "/embeddings") { "input" } else { "messages" };
        let input = request.get(input_field).ok_or(Invalid::Missing(input_field))?;
        if !models::is_known(model) {
            return Err(Invalid::Model(model.to_owned()));
        }
        let tokens: Vec<String> = text(credential, input, body.len()).split_inclusive(' ').map(str::to_owned).collect();
        let mut words = Vec::new();
        request.get("system").into_iter().chain([input]).for_each(|part| collect_words(part, &mut words));
        let cached = match route {
            "/embeddings" | "/messages/count_tokens" => CachedWords::default(),
            _ => cache.take(credential, model, words.iter().copied(), Instant::now()),
        };
        let is_set = |value: Option<&Value>| value.and_then(Value::as_bool).unwrap_or(false);
        Ok(DemoReply {
            number: NEXT_NUMBER.fetch_add(1, Ordering::Relaxed),
            model: model.to_owned(),
            created: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            usage: usage(route, model, words.len(), cached, tokens.len()),
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
fn usage(route: &str, model: &str, words: usize, cached: CachedWords, output_words: usize) -> ServedTokens {
    let reasoning = if models::is_reasoning(model) && route != "/messages" { REASONING_TOKEN_COUNT } else { 0 };
    ServedTokens {
        input: words,
        cache_read: cached.read,
        cache_write: if route == "/messages" { cached.written } else { 0 },
        output: if route == "/embeddings" { 0 } else { output_words + reasoning },
        reasoning: if route == "/embeddings" { 0 } else { reasoning },
    }
}

/// Appends the words of all texts in an input; names of roles and kinds are none.
fn collect_words<'a>(value: &'a Value, words: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => words.extend(text.split_whitespace()),
        Value::Array(items) => items.iter().for_each(|item| collect_words(item, words)),
        Value::Object(item) => {
            if let Some(content) = item.get("text").or_else(|| item.get("content")) {
                collect_words(content, words);
            }
        }
        _ => {}
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
    fn tokens_are_the_words_of_all_messages_and_a_beginning_that_came_before_is_from_the_cache() {
        let cache = PromptCache::default();
        let compose =
            |route, body: Value| DemoReply::compose(route, body.to_string().as_bytes(), "bob-demo", &cache).unwrap();
        let messages = json!([{"role": "user", "content": [{"type": "text", "text": "one two three"}]},
            {"role": "assistant", "content": "four five"}, {"role": "user", "content": "six seven"}]);
        let few = compose("/chat/completions", json!({"model": "gpt-4o-mini", "messages": messages}));
        let tokens = ServedTokens { input: 7, output: few.tokens.len(), ..ServedTokens::default() };
        assert_eq!(few.usage, tokens);
        let body = json!({"model": "claude-sonnet-4", "system": "eight nine", "messages": messages});
        let cached = || {
            let ServedTokens { input, cache_read, cache_write, .. } = compose("/messages", body.clone()).usage;
            (input, cache_read, cache_write)
        };
        assert_eq!([cached(), cached()], [(9, 0, 8), (9, 8, 0)]);
        let counted = compose("/messages/count_tokens", json!({"model": "claude-haiku-4", "messages": messages})).usage;
        assert_eq!((counted.input, counted.cache_read), (7, 0));
        let thinking = compose("/responses", json!({"model": "gpt-5", "input": "one two"})).usage;
        assert_eq!((thinking.input, thinking.reasoning), (2, REASONING_TOKEN_COUNT));
        let embedding = compose("/embeddings", json!({"model": "text-embedding-3-small", "input": ["a b", "c"]})).usage;
        assert_eq!(embedding, ServedTokens { input: 3, ..ServedTokens::default() });
    }

    #[test]
    fn a_long_prompt_is_echoed_in_part_and_its_size_is_told() {
        let body = json!({"model": "gpt-4o-mini", "input": "ä".repeat(5_000_000)}).to_string();
        let reply = DemoReply::compose("/responses", body.as_bytes(), "bob-demo", &PromptCache::default()).unwrap();
        let text = reply.text();
        assert!(text.contains("bob-demo") && text.contains(&body.len().to_string()), "{text}");
        assert!(text.ends_with(&format!("\"{}...\"", "ä".repeat(ECHO_CHARS_MAX))), "{text}");
    }
}
