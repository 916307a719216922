use proptest::prelude::*;

use super::*;

/// Notes what is told of members, with depths below that of the end.
#[derive(Debug, Default, PartialEq)]
struct Heard(Vec<(usize, String)>);

impl Heard {
    fn note(&mut self, depth: usize, what: &str, token: &[u8]) {
        self.0.push((depth, format!("{what} {}", token.escape_ascii())));
    }
}

impl JsonObserver for Heard {
    fn wants(&self, _depth: usize) -> bool {
        true
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

    fn open(&mut self, depth: usize, bracket: Bracket) {
        self.note(depth, if bracket == Bracket::Array { "array" } else { "object" }, b"");
    }

    fn close(&mut self, depth: usize) {
        self.note(depth, "close", b"");
    }
}

const TEXT: &str =
    r#"{"id":"a\"b","list":["x",1.5,null,{"y":"\\"}],"usage":{"n": 12,"m":-1.5e3 , "s":"é{"},"end":true}"#;

fn read<'a>(mut json: JsonMiddle, parts: impl IntoIterator<Item = &'a [u8]>) -> (JsonMiddle, Vec<(usize, String)>) {
    let mut heard = Heard::default();
    parts.into_iter().for_each(|part| json.read(part, &mut heard));
    (json, heard.0)
}

#[test]
fn members_are_told_with_their_depth() {
    let (json, heard) = read(JsonMiddle::at_start(), [TEXT.as_bytes()]);
    let expected = [
        (1, "object "),
        (1, "key id"),
        (1, "string a\\\\\\\"b"),
        (1, "key list"),
        (2, "array "),
        (3, "object "),
        (3, "key y"),
        (3, "string \\\\\\\\"),
        (3, "close "),
        (2, "close "),
        (1, "key usage"),
        (2, "object "),
        (2, "key n"),
        (2, "word 12"),
        (2, "key m"),
        (2, "word -1.5e3"),
        (2, "key s"),
        (2, "string \\xc3\\xa9{"),
        (2, "close "),
        (1, "key end"),
        (1, "word true"),
        (1, "close "),
    ];
    assert_eq!(heard, expected.map(|(depth, text)| (depth, text.to_owned())));
    assert!(json.has_ended() && json.depth() == 0 && json.last_bracket() == Bracket::Object);
}

#[test]
fn wherever_it_is_begun_the_last_members_are_told_as_they_are() {
    let (_, whole) = read(JsonMiddle::at_start(), [TEXT.as_bytes()]);
    for begin in 0..TEXT.find("\"usage\"").expect("there is one") {
        let (json, heard) = read(JsonMiddle::in_middle(), [&TEXT.as_bytes()[begin..]]);
        assert!(json.has_ended(), "{}", &TEXT[begin..]);
        let depth_of = |(depth, text): &(usize, String)| (depth - json.depth(), text.clone());
        let last: Vec<_> = heard[heard.len() - 12..].iter().map(depth_of).collect();
        assert_eq!(last, whole[whole.len() - 12..], "{}", &TEXT[begin..]);
    }
}

#[test]
fn a_text_has_ended_after_its_last_bracket() {
    let cases =
        [("{}", true), (" [ ] \n", true), ("{", false), ("{}x", false), ("{}]", false), ("", false), ("12", false)];
    for (text, has_ended) in cases {
        assert_eq!(read(JsonMiddle::at_start(), [text.as_bytes()]).0.has_ended(), has_ended, "{text}");
    }
    assert!(!read(JsonMiddle::at_start(), [b"<html>{}".as_slice()]).0.has_ended(), "it is no JSON");
}

proptest! {
    #[test]
    fn where_it_is_split_makes_no_difference(text in r#"[{\[]?("(a|\\"|[b-z\\]{0,3})":? ?|[0-9.tfn{,:}\]x]{0,4}|"ping"|7|[\[{}]{0,3}){0,9}"#, size in 1_usize..5) {
        for begin in [JsonMiddle::at_start, JsonMiddle::in_middle] {
            let (whole, heard) = read(begin(), [text.as_bytes()]);
            let (split, of_split) = read(begin(), text.as_bytes().chunks(size));
            prop_assert_eq!((split.has_ended(), split.depth(), of_split), (whole.has_ended(), whole.depth(), heard));
        }
    }

    #[test]
    fn no_bytes_are_too_strange(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        read(JsonMiddle::at_start(), [&bytes[..]]);
        read(JsonMiddle::in_middle(), [&bytes[..]]);
    }
}
