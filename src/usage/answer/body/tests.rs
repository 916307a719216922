use super::*;
use crate::usage::tokens::TokenCounts;

fn read<'a>(content_length: Option<u64>, parts: impl IntoIterator<Item = &'a [u8]>) -> AnswerUsage {
    let mut named = BodyUsage::new(content_length, true);
    let mut nameless = BodyUsage::new(content_length, false);
    for part in parts {
        named.read(part);
        nameless.read(part);
    }
    let (usage, other) = (named.usage(), nameless.usage());
    assert_eq!((other.tokens, other.cost, other.text_bytes), (usage.tokens, usage.cost, usage.text_bytes));
    usage
}

fn counts(input: u64, cache_read: u64, cache_write: u64, output: u64, reasoning: u64) -> Option<TokenCounts> {
    Some(TokenCounts { input, cache_read, cache_write, output, reasoning })
}

/// Answers as the SDKs' types and LiteLLM have them, with their model and tokens.
fn corpus() -> Vec<(&'static str, &'static str, Option<&'static str>, Option<TokenCounts>)> {
    vec![
        ("chat", include_str!("../corpus/chat.json"), Some("gpt-4o-2024-08-06"), counts(1200, 1024, 0, 300, 256)),
        (
            "tools, by LiteLLM",
            include_str!("../corpus/chat_litellm.json"),
            Some("claude-sonnet-4"),
            counts(2100, 1500, 500, 40, 0),
        ),
        ("refusal", include_str!("../corpus/chat_refusal.json"), Some("gpt-4o"), counts(81, 0, 0, 11, 0)),
        (
            "completions",
            include_str!("../corpus/completions.json"),
            Some("gpt-3.5-turbo-instruct"),
            counts(5, 0, 0, 7, 0),
        ),
        (
            "embeddings",
            include_str!("../corpus/embeddings.json"),
            Some("text-embedding-3-small"),
            counts(8, 0, 0, 0, 0),
        ),
        ("responses", include_str!("../corpus/responses.json"), Some("gpt-5-mini"), counts(500, 128, 0, 90, 64)),
        ("messages", include_str!("../corpus/messages.json"), Some("claude-opus-4-1"), counts(2055, 1999, 6, 503, 0)),
        ("images", include_str!("../corpus/images.json"), None, counts(50, 0, 0, 1056, 0)),
        ("rerank", include_str!("../corpus/rerank.json"), None, None),
        ("Gemini", include_str!("../corpus/gemini.json"), Some("gemini-2.5-pro"), counts(30, 8, 0, 150, 120)),
        (
            "Gemini, as an array",
            include_str!("../corpus/gemini_array.json"),
            Some("gemini-2.5-flash"),
            counts(8, 0, 0, 25, 0),
        ),
        (
            "Gemini, wrapped",
            include_str!("../corpus/gemini_wrapped.json"),
            Some("gemini-2.5-pro"),
            counts(10, 0, 0, 3, 0),
        ),
        ("error", r#"{"error":{"message":"no","usage":{"prompt_tokens":1}}}"#, None, None),
        ("transcription", r#"{"text":"a","usage":{"type":"duration","seconds":3}}"#, None, None),
        ("NaN", r#"{"usage":{"prompt_tokens":NaN,"completion_tokens":"7","cost":-1}}"#, None, None),
        ("text", "usage: {\"prompt_tokens\":1}", None, None),
        ("nothing", "", None, None),
    ]
}

#[test]
fn each_answer_tells_its_tokens_and_model_wherever_it_is_split() {
    for (name, text, model, tokens) in corpus() {
        let text = text.as_bytes();
        for length in [None, Some(text.len() as u64)] {
            for cut in 0..=text.len() {
                let usage = read(length, [&text[..cut], &text[cut..]]);
                assert_eq!((usage.model(), usage.tokens), (model, tokens), "{name}, split at {cut}");
                assert_eq!(usage.text_bytes, text.len() as u64);
            }
            let usage = read(length, text.chunks(1));
            assert_eq!((usage.model(), usage.tokens), (model, tokens), "{name}, byte by byte");
        }
    }
}

#[test]
fn an_answer_that_ends_early_tells_no_tokens() {
    for (name, text, _, tokens) in corpus() {
        let text = text.trim_ascii_end().as_bytes();
        for cut in 0..text.len() {
            assert_eq!(read(None, [&text[..cut]]).tokens, None, "{name}, {cut}");
            assert_eq!(read(Some(text.len() as u64), [&text[..cut]]).tokens, None, "{name}, {cut}");
        }
        assert_eq!(read(Some(text.len() as u64), [text]).tokens, tokens, "{name}");
        assert_eq!(read(Some(text.len() as u64 + 1), [text]).tokens, None, "{name}");
    }
}

#[test]
fn of_a_long_answer_the_end_tells_its_tokens_wherever_that_begins() {
    let end = r#"x","tool":{"usage":{"prompt_tokens":7}},"deep":[{"a":"b\"c"}]}],"usage":{"prompt_tokens":12,"completion_tokens":3,"cost":0.5}}"#;
    for begin in 0..end.find(",\"usage\":{\"prompt_tokens\":12").expect("there is one") {
        let filler = WHOLE_BYTES_MAX as usize - (end.len() - begin);
        // What the end begins with is the rest of `end`, and white space after it.
        let text =
            format!("{{\"model\":\"m\",\"choices\":[{{\"text\":\"{}{end}{}", "y".repeat(3000), " ".repeat(filler));
        let length = text.len() as u64;
        for size in [text.len(), 1000, 61] {
            let usage = read(Some(length), text.as_bytes().chunks(size));
            assert_eq!((usage.model(), usage.tokens), (Some("m"), counts(12, 0, 0, 3, 0)), "from {}", &end[begin..]);
            assert_eq!(usage.cost.map(|cost| cost.as_dollars()), Some(0.5));
        }
        assert_eq!(read(Some(length), [&text.as_bytes()[..3000]]).tokens, None);
    }
}

#[test]
fn of_one_hardly_longer_than_what_is_followed_whole_no_byte_is_read_twice() {
    let (begin, end) = (r#"{"a":"b","usage":{"prompt_tokens":12},"c":""#, r#""}"#);
    for surplus in 1..=8 {
        let filler = WHOLE_BYTES_MAX as usize + surplus - begin.len() - end.len();
        let text = format!("{begin}{}{end}", "x".repeat(filler));
        for size in [text.len(), 7, 1] {
            let usage = read(Some(text.len() as u64), text.as_bytes().chunks(size));
            assert_eq!(usage.tokens, counts(12, 0, 0, 0, 0), "{surplus} more, in parts of {size}");
        }
    }
}

#[test]
fn a_usage_at_the_beginning_of_a_long_answer_is_not_found_and_none_within_it_is_taken_for_its_own() {
    let text = format!(
        r#"{{"usage":{{"prompt_tokens":1}},"a":{{"usage":{{"prompt_tokens":2}},"b":"{}"}}}}"#,
        "x".repeat(70_000)
    );
    assert_eq!(read(None, [text.as_bytes()]).tokens, counts(1, 0, 0, 0, 0));
    assert_eq!(read(Some(text.len() as u64), [text.as_bytes()]).tokens, None);
    let text = format!(r#"{{"b":"{}","a":{{"usage":{{"prompt_tokens":2}}}}}}"#, "x".repeat(70_000));
    assert_eq!(read(Some(text.len() as u64), [text.as_bytes()]).tokens, None);
}
