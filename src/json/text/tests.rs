use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const MEMBER: &str = r#""error":{"code":"x"}"#;

/// Notes all that an observer is told.
#[derive(Debug, Default, PartialEq)]
struct Told(Vec<(usize, String)>);

impl Told {
    fn note(&mut self, depth: usize, what: &str, token: &[u8]) {
        self.0.push((depth, format!("{what} {}", token.escape_ascii())));
    }
}

impl JsonObserver for Told {
    fn wants(&self, depth: usize) -> bool {
        depth != 2
    }

    fn key(&mut self, depth: usize, name: &[u8]) {
        self.note(depth, "key", name);
    }

    fn value(&mut self, depth: usize, value: JsonScalar<'_>) {
        match value {
            JsonScalar::String(text) => self.note(depth, "string", text),
            JsonScalar::Word(word) => self.note(depth, "word", word),
        }
    }

    fn text(&mut self, depth: usize, part: &[u8]) {
        match self.0.last_mut() {
            // However it was split.
            Some((at, text)) if *at == depth && text.starts_with("text ") => {
                text.push_str(&part.escape_ascii().to_string());
            }
            _ => self.note(depth, "text", part),
        }
    }

    fn open(&mut self, depth: usize, bracket: Bracket) {
        self.note(depth, if bracket == Bracket::Array { "array" } else { "object" }, b"");
    }

    fn close(&mut self, depth: usize) {
        self.note(depth, "close", b"");
    }
}

fn read<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> (JsonText, Told) {
    let (mut text, mut members) = (JsonText::new(), Told::default());
    parts.into_iter().for_each(|part| text.read(part, &mut members));
    (text, members)
}

fn closing(fragment: &[u8]) -> Option<Vec<u8>> {
    read([fragment]).0.closing(MEMBER)
}

fn closed(fragment: &[u8]) -> Option<Value> {
    let whole = [fragment, &closing(fragment)?].concat();
    Some(serde_json::from_slice(&whole).unwrap_or_else(|error| panic!("{error}: {}", whole.escape_ascii())))
}

#[test]
fn an_object_cut_anywhere_parses_and_has_the_member() {
    let text = r#" { "a":[1,-2.5e+3,[],{},[true,false , null]], "b\"\\\u00e9\ud83d\ude00\uDBFF\uDFFF\u0041":"é€😀\n",
        "c":{"d":{"e":"f"}} ,"g":0}"#;
    for cut in 0..text.len() {
        let fragment = &text.as_bytes()[..cut];
        let closed = closed(fragment).unwrap_or_else(|| panic!("left alone: {}", fragment.escape_ascii()));
        assert_eq!(closed["error"]["code"], "x", "{}", fragment.escape_ascii());
    }
    assert_eq!(closing(text.as_bytes()), None);
    assert!(read([text.as_bytes()]).0.is_whole());
}

#[test]
fn what_was_there_stays() {
    for (fragment, expected) in [
        ("", json!({"error": {"code": "x"}})),
        (" ", json!({"error": {"code": "x"}})),
        ("{", json!({"error": {"code": "x"}})),
        ("{\"a\":\"b", json!({"a": "b", "error": {"code": "x"}})),
        ("{\"a", json!({"a": null, "error": {"code": "x"}})),
        ("{\"a\":[1,", json!({"a": [1, null], "error": {"code": "x"}})),
        ("{\"error\":1,", json!({"": null, "error": {"code": "x"}})),
        ("{\"a\":tr", json!({"a": true, "error": {"code": "x"}})),
        ("{\"a\":1.", json!({"a": 1.0, "error": {"code": "x"}})),
        ("{\"a\":\n1.5", json!({"a": 1.5, "error": {"code": "x"}})),
        ("{\"a\":\"\\ud83d\\u", json!({"a": "\u{1F400}", "error": {"code": "x"}})),
        ("{\"a\":\"\\ud8", json!({"a": "\u{10000}", "error": {"code": "x"}})),
    ] {
        assert_eq!(closed(fragment.as_bytes()).expect("closed"), expected, "{fragment}");
    }
}

#[test]
fn without_members_it_is_closed_all_the_same() {
    for (fragment, rest) in [("", "{}"), ("{", "}"), ("{\"a\":[", "]}"), ("{\"a\":1,", "\"\":null}")] {
        assert_eq!(read([fragment.as_bytes()]).0.closing("").expect("closed"), rest.as_bytes(), "{fragment}");
    }
}

#[test]
fn what_is_no_open_object_is_left_alone() {
    for fragment in
        ["[", "[1", "\"a", "12", "{}", "{\"a\":1} ", "{\"a\":1}x", "{]", "{1", "{\"a\":}", "[DONE]", "{\"a\"\"b"]
    {
        assert_eq!(closing(fragment.as_bytes()), None, "{fragment}");
    }
}

#[test]
fn it_is_followed_down_to_the_deepest_bracket_that_is_counted() {
    let nested = |depth: usize| format!("{{\"a\":{}", "[".repeat(depth - 1));
    assert!(closed(nested(127).as_bytes()).is_some_and(|closed| closed["error"]["code"] == "x"));
    assert!(closing(nested(128).as_bytes()).is_some(), "serde_json takes no more than 127");
    assert_eq!(closing(nested(129).as_bytes()), None);
    let text = format!("{{\"a\":{}{},\"b\":{{\"c\":[", "{\"x\":[".repeat(60), "]}".repeat(60));
    assert!(closed(text.as_bytes()).is_some());
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(fragment in proptest::collection::vec(any::<u8>(), 0..40)) {
        let _ = closing(&fragment);
        let _ = closing(&[b"{\"a\":\"".as_slice(), &fragment].concat());
    }

    #[test]
    fn where_it_is_split_makes_no_difference(
        text in r#"\{"(type|a|\\u[dD]8[0-9]{2}\\udc00|é😀)": ?("[a-zé😀\\]{0,8}|[0-9.tfn\[{,:}\]]{0,8}|"ping"|7),?["\[{}]{0,3}"#,
        size in 1_usize..5,
    ) {
        let (whole, members) = read([text.as_bytes()]);
        let (split, of_split) = read(text.as_bytes().chunks(size));
        prop_assert_eq!(split.closing(MEMBER), whole.closing(MEMBER));
        prop_assert_eq!((split.is_whole(), of_split), (whole.is_whole(), members));
    }
}
