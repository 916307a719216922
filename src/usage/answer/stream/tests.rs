use proptest::prelude::*;

use super::*;
use crate::usage::tokens::TokenCounts;

/// Reads events, each of whose data comes in parts of this size at most.
fn read_in_parts(events: &[&str], size: usize) -> AnswerUsage {
    let mut usage = StreamUsage::new();
    for event in events {
        for line in event.split('\n') {
            usage.begin_data();
            let line = line.as_bytes();
            let whole = if size >= line.len() { 0 } else { line.len() / size * size };
            line[..whole].chunks(size).for_each(|part| usage.data_part(part));
            usage.end_data(&line[whole..]);
        }
        usage.end_event();
    }
    usage.usage()
}

fn read(events: &[&str]) -> AnswerUsage {
    read_in_parts(events, usize::MAX)
}

/// So many events that no name is looked for in later ones.
fn after_naming<'a>(events: &[&'a str]) -> Vec<&'a str> {
    [&[r#"{"model":"m"}"#], events].concat()
}

#[test]
fn only_the_usage_of_the_answer_itself_counts() {
    let cases = [
        (r#"{"usage":{"prompt_tokens":3}}"#, Some(3)),
        (r#"{"message":{"usage":{"prompt_tokens":3}}}"#, Some(3)),
        (r#"{"response":{"usage":{"prompt_tokens":3}}}"#, Some(3)),
        (r#"{"response":{"usageMetadata":{"promptTokenCount":3}}}"#, Some(3)),
        (r#"{"usage" : { "prompt_tokens" : 3 } }"#, Some(3)),
        (r#"{"choices":[],"usage":{"a":[{"prompt_tokens":9}],"prompt_tokens":3,"x":{"prompt_tokens":9}}}"#, Some(3)),
        (r#"{"response":{"usage":{"prompt_tokens":3}},"usage":{"completion_tokens":1}}"#, Some(3)),
        (r#"{"message":{},"x":{"usage":{"prompt_tokens":3}}}"#, None),
        (r#"{"usage":null}"#, None),
        (r#"{"usage":"a"}"#, None),
        (r#"{"usage":[{"prompt_tokens":3}]}"#, None),
        (r#"{"usage":{}}"#, None),
        (r#"{"x":{"usage":{"prompt_tokens":3}}}"#, None),
        (r#"{"message":[{"usage":{"prompt_tokens":3}}]}"#, None),
        (r#"{"message":{"content":{"usage":{"prompt_tokens":3}}}}"#, None),
        (r#"{"delta":{"usage":{"prompt_tokens":3}}}"#, None),
        (r#"{"choices":[{"usage":{"prompt_tokens":3}}]}"#, None),
        (r#"{"a":"usage","b":{"prompt_tokens":3}}"#, None),
        (r#"{"usage":{"prompt_tokens":3}"#, None),
        (r#"{"usage":{"prompt_tokens":3}}}"#, None),
        (r#"[{"usage":{"prompt_tokens":3}}]"#, None),
        ("{\"usage\":\n{\"prompt_tokens\":3}\n}", Some(3)),
        ("{\"usage\":{\"prompt_tokens\":3}}\n{}", None),
    ];
    for (event, input) in cases {
        for events in [vec![event], after_naming(&[event])] {
            for size in [usize::MAX, 7, 1] {
                let tokens = read_in_parts(&events, size).tokens;
                assert_eq!(tokens.map(|tokens| tokens.input), input, "{event}, in parts of {size}");
            }
        }
    }
}

#[test]
fn the_bytes_of_texts_are_counted_as_they_stand() {
    let two = r#"{"choices":[{"text":"ab"},{"text":"cd"}]}"#;
    let cases: [(&[&str], u64); 13] = [
        (&[two, two, two], 12),
        (&[r#"{"choices":[{"delta":{"content":"a\"b\\"}}]}"#], 6),
        (&[r#"{"choices":[{"delta":{"content":"ab"}},{"delta":{"content" : "c"}}]}"#], 3),
        (&[r#"{"choices":[{"delta":{"content":null,"refusal":"no"}}]}"#], 2),
        (&[r#"{"delta":{"type":"text_delta","text":"ab"}}"#], 2),
        (&[r#"{"delta":"abc"}"#], 3),
        (&[r#"{"type":"response.a.delta","delta":"abc"}"#, r#"{"type": "response.a.done","text":"abc"}"#], 3),
        (&[r#"{"a":1,"type":"response.a.done","text":"abc"}"#], 3),
        (&[r#"{"content":["text","content"],"x":"text"}"#], 0),
        // Of a text that is sent by two names one counts.
        (&[r#"{"reasoning":"ab"}"#, r#"{"reasoning":"cd","text":"cd"}"#], 4),
        (&[r#"{"content":"a","text":"b"}"#, r#"{"content":"","text":"bc"}"#, r#"{"text":"d","content":"e"}"#], 4),
        (&["[DONE]", "", "text", r#"{"text":"#], 0),
        (&[r#"{"content":"ab","usage":{"text":"cd"}}"#], 2),
    ];
    for (events, bytes) in cases {
        for size in [usize::MAX, 7, 1] {
            assert_eq!(read_in_parts(events, size).text_bytes, bytes, "{events:?}, in parts of {size}");
            assert_eq!(read_in_parts(&after_naming(events), size).text_bytes, bytes, "{events:?}, in parts of {size}");
        }
    }
}

#[test]
fn the_first_events_name_the_model() {
    let cases: [(&[&str], Option<&str>); 8] = [
        (&[r#"{"model":"a"}"#, r#"{"model":"b"}"#], Some("a")),
        (&[r#"{"model":"","choices":[]}"#, r#"{"model":"b"}"#], Some("b")),
        (&[r#"{"model":null}"#, r#"{"modelVersion":"b"}"#], Some("b")),
        (&[r#"{"message":{"model":"a"}}"#], Some("a")),
        (&[r#"{"response":{"model":"a"}}"#], Some("a")),
        (&[r#"{"x":{"model":"a"}}"#, r#"{"model":["a"]}"#, r#"{"model":{"a":"b"}}"#, r#"{"model":7}"#], None),
        (&[r#"{"model":"a\nb"}"#], None),
        (&["{}", "{}", "{}", "{}", "{}", "{}", "{}", "{}", r#"{"model":"a"}"#], None),
    ];
    for (events, model) in cases {
        for size in [usize::MAX, 7, 1] {
            assert_eq!(read_in_parts(events, size).model(), model, "{events:?}, in parts of {size}");
        }
    }
}

#[test]
fn the_last_value_of_each_field_counts_and_is_no_sum() {
    let events = [
        r#"{"type":"message_start","message":{"usage":{"input_tokens":10,"cache_read_input_tokens":20,"output_tokens":1}}}"#,
        r#"{"type":"message_delta","usage":{"output_tokens":5}}"#,
        r#"{"type":"message_delta","usage":{"input_tokens":12,"cache_read_input_tokens":null,"output_tokens":9}}"#,
    ];
    let expected = TokenCounts { input: 32, cache_read: 20, output: 9, ..TokenCounts::default() };
    assert_eq!(read(&events).tokens, Some(expected));
}

#[test]
fn it_is_small() {
    // Each open stream has one.
    assert!(size_of::<StreamUsage>() <= 384, "{}", size_of::<StreamUsage>());
}

/// Any JSON, of names and texts that matter or nearly do.
fn json() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec!["null", "true", "0", "7", "12", "-3", "1.5", "1e9", "99999999999"]);
    let text = prop::sample::select(vec![
        r#""""#,
        r#""a""#,
        r#""usage""#,
        r#""text""#,
        r#""\"usage\":{\"prompt_tokens\":1}""#,
        r#""\\""#,
        r#""response.x""#,
        r#""é\u00e9""#,
        r#""message_start""#,
    ]);
    let leaf = prop_oneof![word.prop_map(str::to_owned), text.prop_map(str::to_owned)];
    leaf.prop_recursive(5, 40, 6, |inner| {
        let object = prop::collection::vec((name(), inner.clone()), 0..6).prop_map(|members| object(&members));
        prop_oneof![4 => object, 1 => prop::collection::vec(inner, 0..4).prop_map(|values| format!("[{}]", values.join(", ")))]
    })
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "usage",
        "usageMetadata",
        "message",
        "response",
        "model",
        "modelVersion",
        "type",
        "delta",
        "text",
        "content",
        "thinking",
        "partial_json",
        "prompt_tokens",
        "input_tokens",
        "output_tokens",
        "total_tokens",
        "cached_tokens",
        "prompt_tokens_details",
        "input_tokens_details",
        "output_tokens_details",
        "reasoning_tokens",
        "cost",
        "promptTokenCount",
        "candidatesTokenCount",
        "cache_read_input_tokens",
        "usage_x",
        "a name that is longer than is kept of one",
    ])
}

fn object(members: &[(&'static str, String)]) -> String {
    let members: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

proptest! {
    #[test]
    fn where_events_are_split_makes_no_difference(
        events in prop::collection::vec(prop::collection::vec((name(), json()), 1..6).prop_map(|members| object(&members)), 1..14),
        size in 1_usize..40,
    ) {
        let events: Vec<&str> = events.iter().map(String::as_str).collect();
        prop_assert_eq!(read_in_parts(&events, size), read(&events));
        // As the searched events are read that follow the naming ones.
        let events = after_naming(&events);
        prop_assert_eq!(read_in_parts(&events, size), read(&events));
    }

    #[test]
    fn events_of_one_shape_tell_what_each_tells_alone(
        members in prop::collection::vec((name(), json()), 0..4),
        after in prop::collection::vec((name(), json()), 0..3),
        texts in prop::collection::vec((name(), prop::sample::select(vec!["", "a", "bc", "\\\"", "\\\\", "\",\"usage\":{\"prompt_tokens\":3},\"x\":\""])), 2..20),
        key in name(),
    ) {
        let event = |(other, text): &(&'static str, &str)| {
            let key = if text.len() == 2 { other } else { key };
            object(&[&members[..], &[(key, format!("\"{text}\""))], &after].concat())
        };
        let events: Vec<String> = texts.iter().map(event).collect();
        let events = after_naming(&events.iter().map(String::as_str).collect::<Vec<_>>());
        prop_assert_eq!(read_in_parts(&events, 1), read(&events));
    }

    #[test]
    fn no_bytes_are_too_strange(parts in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..30), 0..4), 0..30)) {
        let mut usage = StreamUsage::new();
        for (bytes, step) in parts {
            match step {
                0 => usage.begin_data(),
                1 => usage.data_part(&bytes),
                2 => usage.end_data(&bytes),
                _ => usage.end_event(),
            }
        }
        usage.usage();
    }
}
