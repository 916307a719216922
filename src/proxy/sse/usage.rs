//! Usage, which is read from the data of events.

use crate::proxy::sse::consumer::{EventConsumer, EventField};
use crate::usage::answer::stream::StreamUsage;

impl EventConsumer for StreamUsage {
    #[inline]
    fn begin_value(&mut self, field: EventField) {
        if field == EventField::Data {
            self.begin_data();
        }
    }

    fn append_value(&mut self, field: EventField, part: &[u8]) {
        if field == EventField::Data {
            self.data_part(part);
        }
    }

    #[inline]
    fn end_value(&mut self, field: EventField, rest: &[u8]) {
        if field == EventField::Data {
            self.end_data(rest);
        }
    }

    #[inline]
    fn end_event(&mut self) {
        StreamUsage::end_event(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy::sse::tokenizer::Tokenizer;
    use crate::usage::answer::told::AnswerUsage;
    use crate::usage::tokens::TokenCounts;

    fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> AnswerUsage {
        let (mut tokenizer, mut usage) = (Tokenizer::new(), StreamUsage::new());
        parts.into_iter().for_each(|part| tokenizer.read(part, &mut usage));
        usage.usage()
    }

    /// A stream as the SDKs' types or LiteLLM have it, and what it tells.
    struct Streamed {
        text: &'static str,
        model: &'static str,
        /// Input, of it read from and written to the cache, output, of it reasoning.
        tokens: Option<[u64; 5]>,
        cost: Option<f64>,
        text_bytes: u64,
    }

    impl Streamed {
        fn expected(&self) -> (Option<&str>, Option<TokenCounts>, Option<f64>, u64) {
            let counts = |[input, cache_read, cache_write, output, reasoning]: [u64; 5]| TokenCounts {
                input,
                cache_read,
                cache_write,
                output,
                reasoning,
            };
            (Some(self.model), self.tokens.map(counts), self.cost, self.text_bytes)
        }
    }

    #[rustfmt::skip]
    const CORPUS: [Streamed; 8] = [
        Streamed { text: include_str!("../../usage/answer/corpus/chat.sse"), model: "gpt-4o", tokens: Some([1200, 1024, 0, 300, 256]), cost: None, text_bytes: 18 },
        Streamed { text: include_str!("../../usage/answer/corpus/chat_litellm.sse"), model: "claude-sonnet-4", tokens: Some([2100, 1500, 500, 40, 12]), cost: Some(0.0123), text_bytes: 45 },
        Streamed { text: include_str!("../../usage/answer/corpus/chat_without_usage.sse"), model: "gpt-3.5-turbo-instruct", tokens: None, cost: None, text_bytes: 7 },
        Streamed { text: include_str!("../../usage/answer/corpus/messages.sse"), model: "claude-opus-4-1", tokens: Some([2055, 1999, 6, 89, 0]), cost: None, text_bytes: 40 },
        Streamed { text: include_str!("../../usage/answer/corpus/messages_cut.sse"), model: "claude-haiku-4-5", tokens: Some([50, 0, 0, 1, 0]), cost: None, text_bytes: 5 },
        Streamed { text: include_str!("../../usage/answer/corpus/responses.sse"), model: "gpt-5-mini", tokens: Some([500, 128, 0, 90, 64]), cost: None, text_bytes: 10 },
        Streamed { text: include_str!("../../usage/answer/corpus/gemini.sse"), model: "gemini-2.5-flash", tokens: Some([8, 0, 0, 55, 30]), cost: None, text_bytes: 12 },
        Streamed { text: include_str!("../../usage/answer/corpus/gemini_wrapped.sse"), model: "gemini-2.5-pro", tokens: Some([10, 4, 0, 3, 0]), cost: None, text_bytes: 5 },
    ];

    #[test]
    fn each_stream_tells_its_usage_wherever_it_is_split() {
        for stream in CORPUS {
            let text = stream.text.as_bytes();
            let told = |parts: &[&[u8]]| {
                let usage = read(parts.iter().copied());
                let cost = usage.cost.map(|cost| cost.as_dollars());
                (usage.model().map(str::to_owned), usage.tokens, cost, usage.text_bytes)
            };
            let (model, tokens, cost, text_bytes) = stream.expected();
            let expected = (model.map(str::to_owned), tokens, cost, text_bytes);
            assert_eq!(told(&[text]), expected, "{}", stream.text);
            for cut in 0..text.len() {
                assert_eq!(told(&[&text[..cut], &text[cut..]]), expected, "split at {cut}: {}", stream.text);
            }
            let bytes: Vec<&[u8]> = text.chunks(1).collect();
            assert_eq!(told(&bytes), expected, "byte by byte: {}", stream.text);
        }
    }

    #[test]
    fn a_stream_of_which_only_the_names_came_has_no_content() {
        let mut usage = StreamUsage::new();
        let mut tokenizer = Tokenizer::new();
        tokenizer.read(b"event: a\nid: 1\n\ndata: {\"choices\":[{\"delta\":{\"content\":\"\"}}]}\n\n", &mut usage);
        assert_eq!(usage.text_bytes(), 0);
        tokenizer.read(b"data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n", &mut usage);
        assert!(usage.text_bytes() > 0);
    }
}
