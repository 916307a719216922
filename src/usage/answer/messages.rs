//! The usage in the text messages of a WebSocket: events of Responses and of Realtime, of which several answers may
//! come one after the other.
//!
//! An answer ends with its last event (`response.completed`, `response.done`), which tells its usage or none; what the
//! events before it tell is not final. In other dialects, and for what is no answer, such as a transcription, each
//! usage is an end. Invariant: nothing is allocated, memory is bounded, and nothing depends on how a message was split.

use crate::json::text::JsonText;
use crate::usage::answer::event::EventUsage;
use crate::usage::answer::told::{AnswerUsage, ModelName};
use crate::usage::tokens::AUDIO_BYTES_PER_TEXT_BYTE;

/// Follows messages.
pub struct MessageUsage {
    json: JsonText,
    event: EventUsage,
    /// The bytes of the present message.
    present_bytes: u64,
    /// Those of messages with audio.
    audio_bytes: u64,
    /// The bytes of text, and of audio as text, up to the end of the last answer.
    ended_text_bytes: u64,
    /// An event of an answer came that has not ended.
    is_open: bool,
}

impl Default for MessageUsage {
    fn default() -> Self {
        MessageUsage {
            json: JsonText::new(),
            event: EventUsage::of_message(),
            present_bytes: 0,
            audio_bytes: 0,
            ended_text_bytes: 0,
            is_open: false,
        }
    }
}

impl MessageUsage {
    /// Takes the next bytes of a message.
    pub fn read(&mut self, part: &[u8]) {
        self.present_bytes += part.len() as u64;
        self.json.read(part, &mut self.event);
    }

    /// The message has ended. Returns what an answer told of its usage, where it was its last one.
    pub fn end_message(&mut self) -> Option<AnswerUsage> {
        let fields = self.event.fields;
        let is_whole = self.json.is_whole();
        let (is_of_answer, is_last) = (self.event.is_of_responses(), self.event.is_last_of_responses());
        if self.event.is_audio() {
            self.audio_bytes += self.present_bytes;
        }
        self.present_bytes = 0;
        self.is_open |= is_whole && is_of_answer;
        self.json.clear();
        self.event.begin();
        let (tokens, cost) = (fields.tokens(), fields.cost());
        let is_usage_of_another = !is_of_answer && (tokens.is_some() || cost.is_some());
        if !is_whole || !is_last && !is_usage_of_another {
            return None;
        }
        let name = std::mem::replace(&mut self.event.name, ModelName::new());
        if is_usage_of_another && self.is_open {
            return Some(AnswerUsage { tokens, cost, text_bytes: 0, name });
        }
        let text_bytes = self.open_text_bytes();
        self.ended_text_bytes += text_bytes;
        self.is_open = false;
        Some(AnswerUsage { tokens, cost, text_bytes, name })
    }

    /// Tells whether events of an answer of Responses or Realtime came that has not ended.
    pub fn is_within_answer(&self) -> bool {
        self.is_open
    }

    /// Tells whether anything came of an answer that has not ended.
    pub fn has_open_answer(&self) -> bool {
        self.is_open || self.open_text_bytes() > 0
    }

    /// Returns the bytes of text of that answer, and of audio as text.
    pub fn open_text_bytes(&self) -> u64 {
        let present = if self.event.is_audio() { self.present_bytes } else { 0 };
        let audio = (self.audio_bytes + present) / AUDIO_BYTES_PER_TEXT_BYTE;
        self.event.texts.total() + audio - self.ended_text_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::tokens::TokenCounts;

    fn told(messages: &mut MessageUsage, text: &str, part: usize) -> Option<AnswerUsage> {
        text.as_bytes().chunks(part).for_each(|part| messages.read(part));
        messages.end_message()
    }

    const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"r","model":"gpt-5","usage":
        {"input_tokens":10,"input_tokens_details":{"cached_tokens":4},"output_tokens":5,
        "output_tokens_details":{"reasoning_tokens":2},"total_tokens":15}}}"#;
    const DONE: &str = r#"{"event_id":"e","type":"response.done","response":{"object":"realtime.response","usage":
        {"total_tokens":30,"input_tokens":20,"output_tokens":10,
        "input_token_details":{"text_tokens":20,"cached_tokens":8}}}}"#;

    #[test]
    fn each_answer_tells_its_own_usage_however_its_messages_were_split() {
        for part in [1, 7, 4096] {
            let mut messages = MessageUsage::default();
            let created = r#"{"type":"response.created","response":{"model":"gpt-5","usage":null}}"#;
            assert_eq!(told(&mut messages, created, part), None);
            assert!(messages.has_open_answer());
            let delta = r#"{"type":"response.output_text.delta","delta":"abcdef"}"#;
            assert_eq!(told(&mut messages, delta, part), None);
            assert_eq!(messages.open_text_bytes(), 6);
            let first = told(&mut messages, COMPLETED, part).expect("a usage");
            assert_eq!((first.model(), first.text_bytes), (Some("gpt-5"), 6));
            let counts = TokenCounts { input: 10, cache_read: 4, cache_write: 0, output: 5, reasoning: 2 };
            assert_eq!(first.tokens, Some(counts));
            assert!(!messages.has_open_answer());
            let second = told(&mut messages, DONE, part).expect("a usage");
            let counts = TokenCounts { input: 20, cache_read: 8, cache_write: 0, output: 10, reasoning: 0 };
            assert_eq!((second.model(), second.tokens, second.text_bytes), (None, Some(counts), 0));
        }
    }

    #[test]
    fn an_answer_that_ends_without_usage_ends_all_the_same() {
        for last in ["completed", "incomplete", "failed", "done"] {
            let mut messages = MessageUsage::default();
            assert_eq!(told(&mut messages, r#"{"type":"response.output_text.delta","delta":"abc"}"#, 5), None);
            let text = format!(r#"{{"event_id":"e","type":"response.{last}","response":{{"usage":null}}}}"#);
            let first = told(&mut messages, &text, 5).expect("its end");
            assert_eq!((first.tokens, first.cost, first.text_bytes), (None, None, 3), "{last}");
            assert!(!messages.has_open_answer());
            assert_eq!(told(&mut messages, COMPLETED, 5).expect("a usage").text_bytes, 0);
        }
    }

    #[test]
    fn what_is_no_answer_ends_with_its_usage_and_ends_no_answer() {
        let heard = r#"{"type":"conversation.item.input_audio_transcription.delta","delta":"abc"}"#;
        let transcribed = r#"{"type":"conversation.item.input_audio_transcription.completed","transcript":"abc",
            "usage":{"type":"tokens","input_tokens":13,"output_tokens":3,"total_tokens":16}}"#;
        let counts = Some(TokenCounts { input: 13, output: 3, ..TokenCounts::default() });
        let mut messages = MessageUsage::default();
        assert_eq!(told(&mut messages, heard, 9), None);
        let usage = told(&mut messages, transcribed, 9).expect("a usage");
        assert_eq!((usage.tokens, usage.text_bytes, messages.has_open_answer()), (counts, 3, false));
        // Within an answer.
        assert_eq!(told(&mut messages, r#"{"type":"response.created"}"#, 9), None);
        let usage = told(&mut messages, transcribed, 9).expect("a usage");
        assert_eq!((usage.tokens, usage.text_bytes, messages.has_open_answer()), (counts, 0, true));
        // Of Gemini, without a type.
        let mut messages = MessageUsage::default();
        assert_eq!(told(&mut messages, r#"{"serverContent":{"modelTurn":{"parts":[{"text":"abcd"}]}}}"#, 9), None);
        assert!(messages.has_open_answer());
        let usage = r#"{"usageMetadata":{"promptTokenCount":7,"candidatesTokenCount":2,"totalTokenCount":9}}"#;
        assert_eq!(told(&mut messages, usage, 9).expect("a usage").text_bytes, 4);
        assert!(!messages.has_open_answer());
    }

    #[test]
    fn audio_counts_by_its_length_in_a_measure_of_its_own() {
        let delta = format!(r#"{{"type":"response.output_audio.delta","delta":"{}"}}"#, "A".repeat(12_800));
        for part in [1, 100, 20_000] {
            let mut messages = MessageUsage::default();
            assert_eq!(told(&mut messages, &delta, part), None);
            assert_eq!(messages.open_text_bytes(), delta.len() as u64 / 128);
            delta.as_bytes().chunks(part).for_each(|part| messages.read(part));
            assert_eq!(messages.open_text_bytes(), 2 * delta.len() as u64 / 128, "one that has not ended");
            assert_eq!(messages.end_message(), None);
            assert_eq!(told(&mut messages, COMPLETED, part).expect("a usage").text_bytes, 2 * delta.len() as u64 / 128);
            assert_eq!((messages.open_text_bytes(), messages.has_open_answer()), (0, false));
        }
    }

    #[test]
    fn what_is_told_before_the_end_is_not_final() {
        let mut messages = MessageUsage::default();
        let usage = r#""response":{"usage":{"input_tokens":1,"output_tokens":0,"total_tokens":1}}}"#;
        for early in ["created", "in_progress", "output_item.done", "content_part.done"] {
            assert_eq!(told(&mut messages, &format!(r#"{{"type":"response.{early}",{usage}"#), 9), None, "{early}");
        }
        let counts = TokenCounts { input: 10, cache_read: 4, cache_write: 0, output: 5, reasoning: 2 };
        assert_eq!(told(&mut messages, COMPLETED, 9).expect("a usage").tokens, Some(counts));
    }

    #[test]
    fn what_is_no_whole_object_tells_nothing() {
        let mut messages = MessageUsage::default();
        for text in ["", "[]", "nonsense", &COMPLETED[..COMPLETED.len() - 1], r#"{"type":"session.created"}"#] {
            assert_eq!(told(&mut messages, text, 3), None, "{text}");
        }
        assert!(!messages.has_open_answer());
        assert!(told(&mut messages, COMPLETED, 3).is_some());
    }
}
