use std::fmt;

use proptest::prelude::*;
use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::*;

/// Finds the ranges in a text that comes in parts of `part` bytes.
fn cuts_in_parts(text: &[u8], key: &'static str, part: usize) -> Option<Vec<Range<usize>>> {
    let mut cuts = MemberCuts::new(key);
    text.chunks(part).for_each(|part| cuts.read(part));
    cuts.end().ok()
}

fn cuts(text: &[u8], key: &'static str) -> Option<Vec<Range<usize>>> {
    cuts_in_parts(text, key, usize::MAX)
}

fn cut(text: &mut Vec<u8>, cuts: &[Range<usize>]) {
    cuts.iter().rev().for_each(|cut| drop(text.drain(cut.clone())));
}

fn without_x(text: &str) -> Option<String> {
    let cuts = cuts(text.as_bytes(), "x")?;
    let mut text = text.as_bytes().to_vec();
    cut(&mut text, &cuts);
    Some(String::from_utf8(text).expect("text"))
}

/// The same by serde_json, which takes a text in one piece: to compare with.
fn cuts_of_whole(text: &[u8], key: &str) -> Option<Vec<Range<usize>>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut json = serde_json::Deserializer::from_str(text);
    let cuts = json.deserialize_map(WholeText { text, key }).ok()?;
    json.end().ok()?;
    Some(cuts)
}

struct WholeText<'a> {
    text: &'a str,
    key: &'a str,
}

impl<'a> Visitor<'a> for WholeText<'a> {
    type Value = Vec<Range<usize>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut cuts = Vec::new();
        let (mut going, mut kept_end, mut end) = (None, None, 0);
        while let Some((name, value)) = members.next_entry::<&'a RawValue, &'a RawValue>()? {
            let start = self.range(name).start;
            end = self.range(value).end;
            if serde_json::from_str::<String>(name.get()).is_ok_and(|name| name == self.key) {
                going.get_or_insert(start);
                continue;
            }
            cuts.extend(going.take().map(|going| going..start));
            kept_end = Some(end);
        }
        cuts.extend(going.map(|going| kept_end.unwrap_or(going)..end));
        Ok(cuts)
    }
}

impl WholeText<'_> {
    fn range(&self, part: &RawValue) -> Range<usize> {
        let start = part.get().as_ptr().addr() - self.text.as_ptr().addr();
        start..start + part.get().len()
    }
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
    for text in [
        &b"{\"x\":\"\xff\"}"[..],
        b"{\"x\":1}\0",
        b"{\"x\":1,\"\xed\xa0\x80\":1}",
        b"{\"x\":\"\xc3\"}",
        b"{\"x\":\"\xe2\x82\\n\"}",
        b"{\"\xf0\x9f\x98\":1}",
    ] {
        for part in 1..=text.len() {
            assert_eq!(cuts_in_parts(text, "x", part), None, "{} in parts of {part}", text.escape_ascii());
        }
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

/// Something that JSON is made of, or nearly.
fn piece() -> impl Strategy<Value = &'static [u8]> {
    let json = [
        "{", "}", "[", "]", ",", ":", "\"", "\"x\"", "\"x\":", "\"a\":1", "\"a\":", "1", "0", "-", "1.5e", "2E+1",
        "true", "fals", "null", " ", "\n", "\\", "\\u00", "\\n", "\x00", "\x1f", "a", "é", "😀",
    ];
    let broken = [&b"\xff"[..], b"\xc3", b"\xa9", b"\xf0\x9f", b"\xed\xa0\x80"];
    prop::sample::select(json.map(str::as_bytes).into_iter().chain(broken).collect::<Vec<_>>())
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

/// Tells whether a name of [`name`] decodes to `x`.
fn is_x(name: &str) -> bool {
    [r#""x""#, r#""\u0078""#].contains(&name)
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
        for (name, [_, b, c, _], value) in members.iter().filter(|(name, ..)| !is_x(name)) {
            let written = format!("{name}{b}:{c}{value}");
            let (before, after) = rest.split_once(&written).unwrap_or_else(|| panic!("{written} is not in {rest}"));
            prop_assert!(before.bytes().all(|byte| b"{, \t\r\n".contains(&byte)), "{}", left);
            rest = after;
        }
        prop_assert!(rest.bytes().all(|byte| b"{} \t\r\n".contains(&byte)), "{}", left);
        prop_assert_eq!(without_x(&left), Some(left.clone()), "twice is once");
    }

    #[test]
    fn parts_of_any_length_tell_what_the_whole_does(
        members in members(),
        damage in prop::option::of((any::<prop::sample::Index>(), prop::collection::vec(piece(), 0..3), 0_usize..4)),
        part in 1_usize..40,
    ) {
        let write = |(name, [a, b, c, d], value): &(&str, [&str; 4], String)| format!("{a}{name}{b}:{c}{value}{d}");
        let mut text = format!("{{{}}}", members.iter().map(write).collect::<Vec<_>>().join(",")).into_bytes();
        if let Some((place, with, length)) = damage {
            let place = place.index(text.len());
            text.splice(place..text.len().min(place + length), with.concat());
        }
        let expected = cuts_of_whole(&text, "x");
        prop_assert_eq!(&cuts_in_parts(&text, "x", part), &expected, "{}", text.escape_ascii());
        prop_assert_eq!(&cuts(&text, "x"), &expected, "{}", text.escape_ascii());
    }

    #[test]
    fn pieces_of_json_in_any_order_are_an_object_or_not_as_the_whole_is(
        pieces in prop::collection::vec(piece(), 0..12),
        part in 1_usize..9,
    ) {
        for text in [pieces.concat(), [b"{", pieces.concat().as_slice(), b"}"].concat()] {
            prop_assert_eq!(cuts_in_parts(&text, "x", part), cuts_of_whole(&text, "x"), "{}", text.escape_ascii());
        }
    }

    #[test]
    fn a_number_or_a_string_is_one_or_not_as_the_whole_is(
        number in "[-+0-9.eE]{0,8}",
        string in r#"[a"\\/ubfx0é\x1f]{0,8}"#,
        part in 1_usize..9,
    ) {
        for text in [format!(r#"{{"x":{number}}}"#), format!(r#"{{"x":"{string}"}}"#), format!(r#"{{"{string}":1}}"#)] {
            let text = text.as_bytes();
            prop_assert_eq!(cuts_in_parts(text, "x", part), cuts_of_whole(text, "x"), "{}", text.escape_ascii());
        }
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

#[test]
fn what_is_no_object_is_given_up_with_the_byte_that_shows_it() {
    for (text, after) in
        [("[1]", 1), (r#"{"x":1,}"#, 8), ("{\"x\":\"\n\"}", 7), (r#"{"x":01}"#, 7), (r#"{"x":1} 2"#, 9)]
    {
        let mut cuts = MemberCuts::new("x");
        let first = text.bytes().position(|byte| {
            cuts.read(&[byte]);
            cuts.failure().is_some()
        });
        assert_eq!(first.map(|place| place + 1), Some(after), "{text}");
        assert_eq!(cuts.end(), Err(NoCuts::NotAnObject), "{text}");
    }
}

#[test]
fn so_many_ranges_are_cut_and_no_more() {
    let text = |count: usize| format!("{{{}\"b\":0}}", r#""x":1,"a":2,"#.repeat(count));
    let found = cuts_in_parts(text(CUTS_MAX).as_bytes(), "x", 1000).expect("as many as are allowed");
    assert_eq!(found.len(), CUTS_MAX);
    let mut cuts = MemberCuts::new("x");
    cuts.read(text(10 * CUTS_MAX).as_bytes());
    assert!(cuts.members.cuts.len() <= CUTS_MAX + 1);
    assert_eq!((cuts.failure(), cuts.end()), (Some(NoCuts::TooMany), Err(NoCuts::TooMany)));
}

#[test]
fn little_is_kept_of_a_long_name() {
    let mut cuts = MemberCuts::new("x");
    cuts.read(br#"{""#);
    (0..1000).for_each(|_| cuts.read(&[b'x'; 100]));
    assert!(cuts.members.name.len() <= ESCAPE_BYTES_MAX + 1);
}
