//! An answer that tells its usage, as a stream and as a body, in whatever reads it comes: it tells the same, and nothing
//! that only stands in what the model said.

#![no_main]

use flow_uring::fuzz::sse::Tokenizer;
use flow_uring::fuzz::usage::{AnswerUsage, BodyUsage, StreamUsage};
use flow_uring_fuzz::events::Reading;
use flow_uring_fuzz::input::{expanded, ways_to_split};
use flow_uring_fuzz::json::Json;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let answer = expanded(data);
    check_stream(&answer);
    check_body(&answer);
});

fn check_stream(stream: &[u8]) {
    let usage = streamed(&[stream]);
    let reading = Reading::of(stream);
    let ways = ways_to_split(stream);
    let others: Vec<AnswerUsage> = ways.iter().map(|parts| streamed(parts)).collect();
    // Of what is no JSON, a search and a parser find different things.
    if !reading.is_json() || !reading.is_plain() || reading.half.as_deref().is_some_and(is_no_object) {
        return;
    }
    assert!(others.iter().all(|other| *other == usage), "however it is split: {usage:?} {others:?}");
    let events: Vec<Json> = reading.events.iter().filter_map(|event| event.json()).collect();
    assert!(usage.tokens.is_none() && usage.cost.is_none() || events.iter().any(may_tell_usage));
    if let Some(model) = usage.model() {
        assert!(stream.windows(model.len()).any(|bytes| bytes == model.as_bytes()));
    }
}

fn check_body(body: &[u8]) {
    for length in [None, Some(body.len() as u64)] {
        let usage = read(length, &[body]);
        for parts in ways_to_split(body) {
            assert_eq!(read(length, &parts), usage, "however it is split");
        }
        assert_eq!(usage.text_bytes, body.len() as u64);
        if let (Some(json), true) = (Json::read(body), usage.tokens.is_some() || usage.cost.is_some()) {
            assert!(may_tell_usage(&json) || json.elements().iter().any(may_tell_usage));
        }
    }
}

fn streamed(parts: &[&[u8]]) -> AnswerUsage {
    let (mut tokenizer, mut usage) = (Tokenizer::new(), StreamUsage::new());
    parts.iter().for_each(|part| tokenizer.read(part, &mut usage));
    usage.usage()
}

fn read(content_length: Option<u64>, parts: &[&[u8]]) -> AnswerUsage {
    let mut body = BodyUsage::new(content_length, true);
    parts.iter().for_each(|part| body.read(part));
    body.usage()
}

fn is_no_object(half: &[u8]) -> bool {
    !matches!(Json::read(half), Some(Json::Object(_)))
}

/// Tells whether an object has a usage of its own, or its `message` or `response` has. Of several of one name any may be
/// it.
fn may_tell_usage(object: &Json) -> bool {
    let has_usage = |object: &Json| {
        let is_usage = |name: &str| matches!(name, "usage" | "usageMetadata");
        object.members().iter().any(|(name, value)| is_usage(name) && matches!(value, Json::Object(_)))
    };
    let mut members = object.members().iter();
    has_usage(object) || members.any(|(name, value)| matches!(&**name, "message" | "response") && has_usage(value))
}
