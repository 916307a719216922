use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

/// The member that it is within, its name and its value.
type Named = (&'static str, &'static str, &'static str);

/// Lists the members that are found where the text comes in pieces of so many bytes.
fn members(text: &[u8], piece: usize) -> Vec<(String, String, String)> {
    read(JsonMembers::default(), text, piece)
}

fn read(mut reader: JsonMembers, text: &[u8], piece: usize) -> Vec<(String, String, String)> {
    let text_of = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut all = Vec::new();
    for piece in text.chunks(piece) {
        reader.read(piece, |member| {
            all.push((member.within.map(text_of).unwrap_or_default(), text_of(member.name), text_of(member.value)));
            false
        });
    }
    all
}

#[test]
fn members_of_the_outermost_object_and_of_those_in_it_are_found() {
    let cases: [(&str, &[Named]); 26] = [
        (r#"{"id":"a"}"#, &[("", "id", "a")]),
        (" {\n \"id\" : \"a\" , \"b\":\t\"c\"}", &[("", "id", "a"), ("", "b", "c")]),
        (r#"{"n":1,"t":true,"z":null,"id":"a"}"#, &[("", "id", "a")]),
        (r#"{"response":{"id":"r"},"id":"a"}"#, &[("response", "id", "r"), ("", "id", "a")]),
        (r#"{"a":{"b":{"id":"deep"},"c":"d"},"e":"f"}"#, &[("a", "c", "d"), ("", "e", "f")]),
        (r#"{"a":[{"id":"x"},"id","y"],"id":"z"}"#, &[("", "id", "z")]),
        (r#"{"a":"id","b":"\"id\":\"x\""}"#, &[("", "a", "id"), ("", "b", "\"id\":\"x\"")]),
        (r#"{"\u0069d":"a\/b\u003d\n"}"#, &[("", "id", "a/b=\n")]),
        (r#"{"id":"a"} {"id":"b"}"#, &[("", "id", "a")]),
        (r#"[{"id":"a"}]"#, &[]),
        (r#""id":"a""#, &[]),
        ("--boundary\r\nContent-Disposition: form-data; name=\"id\"", &[]),
        (r#"{"id":"a"#, &[]),
        ("", &[]),
        (r#" {"messages":[{"role":"user","content":"\"model\":\"x\""}],"model":"m"}"#, &[("", "model", "m")]),
        (r#"{"metadata":{"model":"x"},"model" : "m"}"#, &[("metadata", "model", "x"), ("", "model", "m")]),
        (r#"{"mo\u0064el":"m\/n\u00e9\ud83d\ude00"}"#, &[("", "model", "m/né😀")]),
        (r#"{"a":"\ud83d","\ude00":"b","c":"\x","d":"\u00","e":"f"}"#, &[("", "e", "f")]),
        (r#"{"a":"\\","b":"\\\"c"}"#, &[("", "a", "\\"), ("", "b", "\\\"c")]),
        (r#"{"model":null,"previous_response_id":null}"#, &[]),
        (r#"{"model":"m","more":"#, &[("", "model", "m")]),
        ("\u{feff}{\"model\":\"m\"}", &[("", "model", "m")]),
        (r#"--boundary {"model":"m"}"#, &[]),
        (r#""model""#, &[]),
        ("{", &[]),
        (r#"}]{"model":"m"}"#, &[]),
    ];
    for (text, expected) in cases {
        assert_found(JsonMembers::default, text, expected);
    }
}

#[test]
fn the_first_object_of_an_array_is_read_where_that_is_asked_for() {
    let cases: [(&str, &[Named]); 6] = [
        (r#"[{"error":{"code":429,"type":"t"}}]"#, &[("error", "type", "t")]),
        (r#" [ {"id":"a"} , {"id":"b"}]"#, &[("", "id", "a")]),
        (r#"{"id":"a"}"#, &[("", "id", "a")]),
        (r#"["id",{"id":"a"}]"#, &[]),
        ("[]", &[]),
        ("[", &[]),
    ];
    for (text, expected) in cases {
        assert_found(JsonMembers::also_in_array, text, expected);
    }
}

fn assert_found(reader: fn() -> JsonMembers, text: &str, expected: &[Named]) {
    for piece in [1, 2, 3, text.len().max(1)] {
        let found = read(reader(), text.as_bytes(), piece);
        let found: Vec<_> = found.iter().map(|(a, b, c)| (a.as_str(), b.as_str(), c.as_str())).collect();
        assert_eq!(found, expected, "{text} in pieces of {piece}");
    }
}

#[test]
fn what_is_too_long_is_not_told_and_does_not_hide_what_follows() {
    let longest = "x".repeat(VALUE_BYTES_MAX);
    assert_eq!(members(format!(r#"{{"id":"{longest}"}}"#).as_bytes(), 100).len(), 1);
    assert_eq!(members(format!(r#"{{"id":"{longest}x"}}"#).as_bytes(), 100), []);
    let name = "n".repeat(NAME_BYTES_MAX);
    assert_eq!(members(format!(r#"{{"{name}":{{"{name}":"a"}}}}"#).as_bytes(), 100).len(), 1);
    for long in [format!("{name}n"), format!("{longest}x")] {
        let text =
            format!(r#"{{"{long}":"a","b":{{"{long}":"c"}},"{long}":{{"c":"d"}},"e":"{longest}x","model":"m"}}"#);
        for piece in [1, 64, text.len()] {
            assert_found_model(&members(text.as_bytes(), piece));
        }
    }
}

fn assert_found_model(found: &[(String, String, String)]) {
    assert_eq!(found, [(String::new(), "model".to_owned(), "m".to_owned())]);
}

#[test]
fn reading_ends_where_enough_was_found() {
    let mut reader = JsonMembers::default();
    let mut count = 0;
    let is_found = reader.read(br#"{"a":"1","b":"2","c":"3"}"#, |member| {
        count += 1;
        member.name == b"b"
    });
    assert_eq!((is_found, count), (true, 2));
}

#[test]
fn work_is_bounded_by_what_a_text_costs_and_not_by_its_length() {
    let image = format!(r#"{{"image":"{}","id":"a"}}"#, "A".repeat(16 << 20));
    assert_eq!(members(image.as_bytes(), 64 << 10).len(), 1);
    for costly in [
        format!("{}{}", "[".repeat(150_000), "]".repeat(150_000)),
        format!(r#""{}""#, "\\\"".repeat(300_000)),
        "0,".repeat(150_000),
    ] {
        for piece in [1 << 10, 1 << 20] {
            assert_eq!(members(format!(r#"{{"a":{costly},"id":"a"}}"#).as_bytes(), piece), [], "{costly:.10}");
        }
    }
    let escapes = format!(r#"{{{},"id":"a"}}"#, [r#""b":"\n""#; 20_000].join(","));
    assert!(members(escapes.as_bytes(), 1 << 20).iter().all(|(_, name, _)| name == "b"), "decoding costs more");
    let mut reader = JsonMembers::after_name(b"id");
    reader.read(format!(r#":[{}]}}"#, "0,".repeat(150_000)).as_bytes(), |_| false);
    assert!(reader.is_over() && !reader.ends_here(), "what was not read to its end");
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(Value::from),
        Just(json!("\"\\\n\u{7}")),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-c\"\\\\{}:,]{0,3}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Lists the same members of parsed JSON.
fn expected(value: &Value) -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    let Value::Object(outermost) = value else { return all };
    for (name, value) in outermost {
        match value {
            Value::String(text) => all.push((String::new(), name.clone(), text.clone())),
            Value::Object(inner) => all.extend(inner.iter().filter_map(|(inner_name, value)| {
                Some((name.clone(), inner_name.clone(), value.as_str()?.to_owned()))
            })),
            _ => {}
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn the_members_are_those_that_a_parser_finds_however_the_text_is_split(value in value(), piece in 1_usize..40) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).expect("JSON")] {
            prop_assert_eq!(members(text.as_bytes(), piece), expected(&value), "{}", text);
        }
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), piece in 1_usize..20) {
        members(&bytes, piece);
        members(&[b"{\"", &bytes[..]].concat(), piece);
    }

    #[test]
    fn any_split_of_any_text_tells_the_same(text in "[{}\\[\\]\",:\\\\audDcC80 ]{0,80}", piece in 1_usize..20) {
        for text in [text.clone(), format!("{{{text}")] {
            for reader in [JsonMembers::default, JsonMembers::also_in_array] {
                prop_assert_eq!(read(reader(), text.as_bytes(), piece), read(reader(), text.as_bytes(), 1000), "{}", text);
            }
        }
    }
}
