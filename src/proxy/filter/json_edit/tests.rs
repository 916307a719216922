use proptest::prelude::*;
use serde_json::{Map, Value};

use super::*;

fn without_x(text: &str) -> Option<String> {
    let cuts = cuts(text.as_bytes(), "x")?;
    let mut text = text.as_bytes().to_vec();
    cut(&mut text, &cuts);
    Some(String::from_utf8(text).expect("text"))
}

#[test]
fn a_member_goes_with_its_comma() {
    for (text, expected) in [
        // The only one: the white space within the braces stays.
        (r#"{"x":1}"#, r#"{}"#),
        ("{ \"x\" : 1 }", "{  }"),
        ("\t{\n  \"x\": {\"x\": [1]}\n}\r\n", "\t{\n  \n}\r\n"),
        // The first: up to the next one.
        (r#"{"x":1,"a":2}"#, r#"{"a":2}"#),
        ("{ \"x\" : 1 , \"a\" : 2 }", "{ \"a\" : 2 }"),
        ("{\n  \"x\": null,\n  \"a\": 2\n}", "{\n  \"a\": 2\n}"),
        // In the middle: up to the next one.
        (r#"{"a":1,"x":2,"b":3}"#, r#"{"a":1,"b":3}"#),
        ("{\"a\":1 ,\t\"x\":2  ,\n \"b\":3}", "{\"a\":1 ,\t\"b\":3}"),
        ("{\n  \"a\": 1,\n  \"x\": \"},{\",\n  \"b\": 3\n}", "{\n  \"a\": 1,\n  \"b\": 3\n}"),
        // The last: from the end of the one before.
        (r#"{"a":1,"x":2}"#, r#"{"a":1}"#),
        ("{ \"a\" : 1 , \"x\" : 2 }", "{ \"a\" : 1 }"),
        ("{\n  \"a\": 1,\n  \"x\": true\n}", "{\n  \"a\": 1\n}"),
    ] {
        assert_eq!(without_x(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn all_members_of_the_name_go() {
    for (text, expected) in [
        (r#"{"x":1,"x":2}"#, r#"{}"#),
        (r#"{"x":1, "x":2 ,"a":3}"#, r#"{"a":3}"#),
        (r#"{"a":1 ,"x":2, "x":3 }"#, r#"{"a":1 }"#),
        (r#"{"x":1,"a":2,"x":3,"x":4,"b":5,"x":6}"#, r#"{"a":2,"b":5}"#),
    ] {
        assert_eq!(without_x(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn names_are_compared_with_their_escapes_read() {
    for (name, is_named) in [
        ("context_management", true),
        (r"context\u005fmanagement", true),
        (r"\u0063ontext_managemen\u0074", true),
        (r"context\u005Fmanagement", true),
        (r"context\\u005fmanagement", false),
        ("Context_Management", false),
        ("context_management ", false),
        ("context_managemen", false),
        ("", false),
        (r"\ud800", false),
        (r"context_management\ud800", false),
    ] {
        let text = format!(r#"{{"{name}":1}}"#);
        let cuts = cuts(text.as_bytes(), "context_management").unwrap_or_else(|| panic!("{text} is valid"));
        assert_eq!(!cuts.is_empty(), is_named, "{text}");
    }
}

#[test]
fn nothing_else_changes() {
    for text in [
        "{}",
        "  { } ",
        r#"{"a":{"x":1},"b":[{"x":2}]}"#,
        r#"{"a":"x","b":"\"x\":1","y":"x"}"#,
        r#"{"a":1.0E+2,"a":1e400,"b":-0,"c":123456789012345678901234567890.10,"é":"\u00e9\/\ud800"}"#,
    ] {
        assert_eq!(without_x(text).as_deref(), Some(text));
    }
    let odd = r#"{"a":1.0E+2,"a":1e400,"x":0,"c":123456789012345678901234567890.10,"é":"\u00e9\/\ud800"}"#;
    assert_eq!(without_x(odd), Some(odd.replace(r#""x":0,"#, "")));
}

#[test]
fn what_is_not_one_valid_object_is_left_alone() {
    for text in [
        "",
        " ",
        "null",
        "1",
        r#""x""#,
        r#"["x",1]"#,
        r#"[{"x":1}]"#,
        "{",
        r#"{"x""#,
        r#"{"x":"#,
        r#"{"x":1"#,
        r#"{"x":1,"#,
        r#"{"x":1,}"#,
        r#"{,"x":1}"#,
        r#"{"x" 1}"#,
        r#"{"x":1 "a":2}"#,
        r#"{x:1}"#,
        r#"{1:1}"#,
        r#"{'x':1}"#,
        r#"{"x":1}}"#,
        r#"{"x":1}{}"#,
        r#"{"x":01}"#,
        r#"{"x":+1}"#,
        r#"{"x":.5}"#,
        r#"{"x":NaN}"#,
        r#"{"x":"\q"}"#,
        r#"{"x":"\u00g0"}"#,
        "{\"x\":\"\n\"}",
        r#"{"x":[1,]}"#,
        r#"{"x":[1}"#,
        r#"{"x":{]}"#,
        r#"{"x":1} // comment"#,
        "\u{feff}{\"x\":1}",
        "{\u{a0}\"x\":1}",
    ] {
        assert_eq!(without_x(text), None, "{text}");
    }
    for text in [&b"{\"x\":\"\xff\"}"[..], b"{\"x\":1}\0", b"{\"x\":1,\"\xed\xa0\x80\":1}"] {
        assert_eq!(cuts(text, "x"), None, "{}", text.escape_ascii());
    }
    let whole = r#" {"a":[1,-2.5e+3,{"b":null}],"x":"\u005f\\","c":true}"#;
    for length in 0..whole.len() {
        assert_eq!(without_x(&whole[..length]), None, "{}", &whole[..length]);
    }
    assert!(without_x(whole).is_some());
}

#[test]
fn depth_costs_no_stack() {
    const DEPTH: usize = 1_000_000;
    let deep = format!(r#"{}{}"#, r#"{"x":["#.repeat(DEPTH), "]}".repeat(DEPTH));
    assert_eq!(without_x(&format!(r#"{{"a":{deep},"x":{deep}}}"#)), Some(format!(r#"{{"a":{deep}}}"#)));
    assert_eq!(without_x(&format!(r#"{{"a":{deep},"x":{deep}]}}"#)), None);
}

/// A value in one of its spellings.
fn value() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "null",
        "true",
        "-0.0",
        "1e5",
        "12",
        r#""""#,
        r#""x""#,
        r#""\"x\":1,""#,
        r#""},{\\""#,
        r#""\u005f é""#,
    ]);
    leaf.prop_map(str::to_owned).prop_recursive(3, 12, 3, |inner| {
        let member = (name(), space(), inner.clone(), space());
        let member = member.prop_map(|(name, before, value, after)| format!("{name}{before}:{value}{after}"));
        prop_oneof![
            prop::collection::vec(inner, 0..3).prop_map(|values| format!("[{}]", values.join(" ,"))),
            prop::collection::vec(member, 0..3).prop_map(|members| format!("{{ {}}}", members.join(","))),
        ]
    })
}

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![r#""x""#, r#""x""#, r#""\u0078""#, r#""a""#, r#""b""#, r#""xx""#, r#""\"x""#, r#""""#])
}

fn space() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["", "", " ", "\t", "\r\n", "  "])
}

/// The members of an object as they are written, between them what is there besides.
fn members() -> impl Strategy<Value = Vec<(&'static str, [&'static str; 4], String)>> {
    let spaces = [space(), space(), space(), space()];
    prop::collection::vec((name(), spaces, value()), 0..6)
}

/// Returns whether `part` is left of `whole` after bytes are removed.
fn is_subsequence(part: &[u8], whole: &[u8]) -> bool {
    let mut whole = whole.iter();
    part.iter().all(|byte| whole.any(|other| other == byte))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn an_object_without_its_member_means_the_others_and_writes_them_as_before(members in members()) {
        let write = |(name, [a, b, c, d], value): &(&str, [&str; 4], String)| format!("{a}{name}{b}:{c}{value}{d}");
        let text = format!("{{{}}}", members.iter().map(write).collect::<Vec<_>>().join(","));
        let mut expected: Map<String, Value> = serde_json::from_str(&text).expect("valid");
        expected.remove("x");
        let left = without_x(&text).expect("an object");
        let found: Map<String, Value> = serde_json::from_str(&left).unwrap_or_else(|error| panic!("{error}: {left}"));
        prop_assert_eq!(found, expected, "{}", text);
        prop_assert!(is_subsequence(left.as_bytes(), text.as_bytes()));
        // Each that stays is there as it was written, and none besides.
        let mut rest = left.as_str();
        for (name, [_, b, c, _], value) in members.iter().filter(|(name, ..)| !is_named(name, "x")) {
            let written = format!("{name}{b}:{c}{value}");
            let (before, after) = rest.split_once(&written).unwrap_or_else(|| panic!("{written} is not in {rest}"));
            prop_assert!(before.bytes().all(|byte| b"{, \t\r\n".contains(&byte)), "{}", left);
            rest = after;
        }
        prop_assert!(rest.bytes().all(|byte| b"{} \t\r\n".contains(&byte)), "{}", left);
        prop_assert_eq!(without_x(&left), Some(left.clone()), "twice is once");
    }

    #[test]
    fn no_bytes_are_too_strange(text in prop::collection::vec(any::<u8>(), 0..40), at in 0usize..20) {
        let _ = cuts(&text, "x");
        let mut damaged = br#"{"a":[1,{"b":"c"}], "x" : "\u0078" ,"d":2}"#.to_vec();
        damaged.splice(at..at + 1, text.iter().copied().take(2));
        if let Some(cuts) = cuts(&damaged, "x") {
            cut(&mut damaged, &cuts);
            prop_assert!(serde_json::from_slice::<Map<String, Value>>(&damaged).is_ok(), "{}", damaged.escape_ascii());
        }
    }
}
