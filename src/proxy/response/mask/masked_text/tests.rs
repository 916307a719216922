use proptest::prelude::*;

use super::*;
use crate::credentials::Secret;

const TOKEN: &str =
    "header.a-payload-of-more-than-32-bytes-of-which-some-are-a-payload.a-signature-of-43-bytes-abcdefghijklmnop";
const SECRET: &str = "a-payload's own secret";

pub fn traces() -> TokenTraces {
    TokenTraces::new(TOKEN, &Secret::new(SECRET.to_owned()))
}

/// Masks by the definition: slow and certain.
pub fn masked(text: &[u8]) -> Vec<u8> {
    let mut masked = text.to_vec();
    let parts = TOKEN.split('.').skip(1).map(|part| (part, 32)).chain([(SECRET, SECRET.len())]);
    for (part, run_bytes) in parts {
        for run in part.as_bytes().windows(run_bytes) {
            for (at, _) in text.windows(run_bytes).enumerate().filter(|(_, window)| *window == run) {
                masked[at..at + run_bytes].fill(MASK);
            }
        }
    }
    masked
}

/// Content of pieces of the token and the secret, and of other text.
pub fn contents() -> impl Strategy<Value = Vec<u8>> {
    let piece = (prop::sample::select(vec![TOKEN, SECRET]), any::<prop::sample::Index>(), any::<prop::sample::Index>());
    let piece = piece.prop_map(|(whole, from, to)| {
        let from = from.index(whole.len());
        whole.as_bytes()[from..=from + to.index(whole.len() - from)].to_vec()
    });
    let other = prop_oneof![
        Just(TOKEN.as_bytes().to_vec()),
        Just(SECRET.as_bytes().to_vec()),
        Just(b"{\"error\":\"a key\"}".to_vec()),
        Just(b"a-payload-of".to_vec()),
    ];
    prop::collection::vec(prop_oneof![piece, other], 0..8).prop_map(|pieces| pieces.concat())
}

/// Lengths of the parts in which a text comes.
pub fn lengths() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![Just(vec![1]), prop::collection::vec(1_usize..40, 1..6), Just(vec![usize::MAX]),]
}

/// Splits a text into parts of these lengths, over and over.
pub fn split<'a>(mut text: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut parts = Vec::new();
    for length in lengths.iter().cycle() {
        if text.is_empty() {
            break;
        }
        let (part, rest) = text.split_at((*length).min(text.len()));
        parts.push(part);
        text = rest;
    }
    parts
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn runs_are_masked_however_the_text_is_split(content in contents(), lengths in lengths()) {
        let (traces, mut text, mut out) = (traces(), MaskedText::default(), Buffer::none());
        let mut has_run = false;
        for part in split(&content, &lengths) {
            has_run |= text.push(&traces, part, Share::GOES_ON, &mut out);
            // Whatever is not held went out, and no run is held.
            prop_assert!(text.text.len() - text.sent < 32.max(SECRET.len()));
        }
        text.finish(&traces, false, &mut out);
        prop_assert!(!text.holds_any() && !text.has_open_suffix());
        let expected = masked(&content);
        prop_assert_eq!(has_run, expected != content);
        prop_assert_eq!(out.filled().escape_ascii().to_string(), expected.escape_ascii().to_string());
    }

    #[test]
    fn framing_stays_between_the_bytes_where_it_stood(content in contents(), lengths in lengths()) {
        let (traces, mut text, mut out) = (traces(), MaskedText::default(), Buffer::none());
        let parts = split(&content, &lengths);
        for part in &parts {
            text.push(&traces, part, Share::GOES_ON, &mut out);
            if text.holds_any() { text.push_framing(b"<>") } else { out.append(b"<>") }
        }
        text.finish(&traces, false, &mut out);
        let (mut expected, mut at, masked) = (Vec::new(), 0, masked(&content));
        for part in parts {
            expected.extend_from_slice(&masked[at..at + part.len()]);
            expected.extend_from_slice(b"<>");
            at += part.len();
        }
        prop_assert_eq!(out.filled().escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

/// The bytes that go out before the end and with it.
fn cut(content: &str, is_cut: bool) -> [String; 2] {
    let (traces, mut text, mut out) = (traces(), MaskedText::default(), Buffer::none());
    text.push(&traces, content.as_bytes(), Share::GOES_ON, &mut out);
    let before = String::from_utf8(out.filled().to_vec()).expect("text");
    text.finish(&traces, is_cut, &mut out);
    let rest = String::from_utf8(out.filled()[before.len()..].to_vec()).expect("text");
    [before, rest]
}

#[test]
fn the_beginning_of_a_token_that_breaks_off_is_masked_and_that_of_a_word_is_not() {
    let begun = "a-payload-of-mor";
    assert_eq!(cut(&format!("key {begun}"), true), ["key ", &"*".repeat(16)]);
    assert_eq!(cut(&format!("key {begun}"), false), ["key ", begun], "the answer ends with it");
    assert_eq!(cut("key a-payload-of-mo", true), ["key ", "a-payload-of-mo"]);
    assert_eq!(cut(&format!("the {}", &SECRET[..SECRET.len() - 1]), true), ["the ", &"*".repeat(SECRET.len() - 1)]);
}

#[test]
fn of_a_short_secret_half_is_masked_where_it_breaks_off_and_two_bytes_go_out_while_it_is_open() {
    let traces = TokenTraces::new(TOKEN, &Secret::new("eight888".to_owned()));
    for (content, end, is_cut, expected) in [
        ("key eight88", TextEnd::GoesOn, true, "key *******"),
        ("key eigh", TextEnd::GoesOn, true, "key ****"),
        ("an eig", TextEnd::GoesOn, true, "an eig"),
        ("key eight88", TextEnd::GoesOn, false, "key eight88"),
        ("key eight88", TextEnd::Undecided, true, "key *******"),
        ("an ei", TextEnd::Undecided, true, "an ei"),
    ] {
        let (mut text, mut out) = (MaskedText::default(), Buffer::none());
        text.push(&traces, content.as_bytes(), Share { end, ..Share::GOES_ON }, &mut out);
        let held = content.len() - out.len();
        assert_eq!(held == 0, end == TextEnd::Undecided && content == "an ei", "{content}");
        text.finish(&traces, is_cut, &mut out);
        assert_eq!(out.filled(), expected.as_bytes(), "{content} {end:?}");
    }
}

#[test]
fn what_is_said_to_be_harmless_is_not_masked() {
    let (traces, mut text, mut out) = (traces(), MaskedText::default(), Buffer::none());
    let content = format!("{SECRET} {SECRET}\n");
    let harmless = 0..SECRET.len();
    let share = Share { harmless: std::slice::from_ref(&harmless), goes_on: false, ..Share::GOES_ON };
    assert!(text.push(&traces, content.as_bytes(), share, &mut out));
    assert_eq!(out.filled(), format!("{SECRET} {}\n", "*".repeat(SECRET.len())).as_bytes());
    assert!(!text.has_open_suffix());
}
