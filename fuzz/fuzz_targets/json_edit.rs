//! A JSON body as it is read, edited and closed: in whatever reads and chunks it comes, what is left of it is the same
//! object without what was to be cut, and a half is one with what was added.

#![no_main]

use std::ops::Range;
use std::sync::atomic::Ordering;

use flow_uring::fuzz::held_body::{MemberCuts, NoCuts, ReplayBuffer, Rewrite};
use flow_uring::fuzz::json::{Bracket, JsonGrammar, JsonMembers, JsonObserver, JsonScalar, JsonText, MemberObserver};
use flow_uring_fuzz::held_body::{COMPARED_BYTES_MAX, TOTAL, budget, framings};
use flow_uring_fuzz::input::{Random, expanded, ways_to_split};
use flow_uring_fuzz::json::Json;
use flow_uring_fuzz::members::{Member, UNREAD, depth, is_object, members, told_strings};
use libfuzzer_sys::fuzz_target;

const CUT: &str = "context_management";
const HEAD: &[u8] = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\n\r\n";
const NEW_HEAD: &[u8] = b"POST /v1/messages HTTP/1.1\r\nHost: b\r\nContent-Length: ?\r\n\r\n";
/// Beginnings of one text that are closed.
const CLOSED_MAX: usize = 8;

fuzz_target!(|data: &[u8]| {
    let input = expanded(data);
    let mut ways = ways_to_split(&input);
    ways.push(vec![&input]);
    let text = std::str::from_utf8(&input).ok().filter(|_| is_object(&input));
    check_grammar(&input, text, &ways);
    check_cuts(&input, text, &ways);
    check_members(&input, text, &ways);
    if let Some(text) = text {
        check_closing(text);
    }
});

/// The places of the members, as the grammar tells them.
#[derive(Debug, Default, PartialEq, Eq)]
struct Told {
    /// Of the name, what is written between its quotes, and the end of the value.
    members: Vec<(usize, Vec<u8>, Option<usize>)>,
}

impl MemberObserver for Told {
    fn name_begins(&mut self, place: usize) {
        self.members.push((place, Vec::new(), None));
    }

    fn name(&mut self, text: &[u8]) {
        self.members.last_mut().expect("it has begun").1.extend_from_slice(text);
    }

    fn value_ended(&mut self, place: usize) {
        let end = self.members.last_mut().expect("it has begun").2.replace(place);
        assert_eq!(end, None, "a value ends once");
    }
}

fn check_grammar(input: &[u8], text: Option<&str>, ways: &[Vec<&[u8]>]) {
    for parts in ways {
        let (mut grammar, mut told) = (JsonGrammar::new(), Told::default());
        let mut was_invalid = false;
        for part in parts {
            grammar.read(part, &mut told);
            assert!(grammar.is_invalid() || !was_invalid, "what is invalid stays so");
            was_invalid = grammar.is_invalid();
        }
        assert_eq!(grammar.is_whole(), text.is_some(), "as serde_json has it");
        assert!(!(grammar.is_whole() && grammar.is_invalid()));
        let Some(text) = text else { continue };
        let expected = members(text).expect("an object");
        assert_eq!(told.members.len(), expected.len());
        for ((start, name, end), member) in told.members.iter().zip(&expected) {
            assert_eq!(member.name.as_bytes(), [b"\"", &name[..], b"\""].concat());
            assert_eq!(*start..end.expect("it has ended"), member.place(text));
        }
    }
    if let Some(text) = text
        && Json::read(input).is_none()
    {
        assert!(UNREAD.iter().any(|(_, is_in)| is_in(text)), "serde_json reads no values from it");
    }
}

/// Checks what is cut out, and what a request is that was written anew without it.
fn check_cuts(input: &[u8], text: Option<&str>, ways: &[Vec<&[u8]>]) {
    let mut of_all = Vec::new();
    for parts in ways {
        let mut cuts = MemberCuts::new(CUT);
        let mut has_failed = false;
        for part in parts {
            cuts.read(part);
            assert!(cuts.failure().is_some() || !has_failed, "a failure stays");
            has_failed = cuts.failure().is_some();
        }
        let found = cuts.end();
        assert!(found.is_err() || !has_failed);
        of_all.push(found);
    }
    let found = &of_all[0];
    assert!(of_all.iter().all(|other| other == found), "however it is split: {of_all:?}");
    match (found, text) {
        (Err(NoCuts::NotAnObject), None) => {}
        (Err(NoCuts::TooMany), Some(text)) => assert!(text.matches(':').count() > 4096),
        (Err(NoCuts::TooMany), None) => assert!(input.len() > 4096),
        (Ok(cuts), Some(text)) => {
            check_edited(text, cuts);
            ways.iter().for_each(|parts| check_rewritten(input, parts, cuts));
        }
        (found, text) => panic!("{found:?} of {text:?}"),
    }
}

fn without(input: &[u8], cuts: &[Range<usize>]) -> Vec<u8> {
    let (mut out, mut at) = (Vec::new(), 0);
    for cut in cuts {
        assert!(at <= cut.start && cut.start < cut.end && cut.end <= input.len(), "in order, and none is empty");
        out.extend_from_slice(&input[at..cut.start]);
        at = cut.end;
    }
    out.extend_from_slice(&input[at..]);
    out
}

fn check_edited(text: &str, cuts: &[Range<usize>]) {
    let edited = String::from_utf8(without(text.as_bytes(), cuts)).expect("no letter is cut");
    let is_cut = |member: &Member<'_>| member.decoded_name().is_some_and(|name| name == CUT);
    let before = members(text).expect("an object");
    let after = members(&edited).unwrap_or_else(|| panic!("an object is left: {edited}"));
    let kept = before.iter().filter(|member| !is_cut(member));
    assert!(kept.map(|kept| (kept.name, kept.value)).eq(after.iter().map(|left| (left.name, left.value))));
    assert_eq!(before.iter().any(is_cut), !cuts.is_empty(), "nothing else changes");
}

fn check_rewritten(input: &[u8], parts: &[&[u8]], cuts: &[Range<usize>]) {
    for (length, reads) in framings(input, parts) {
        let (process_free, budget) = budget();
        let mut replay = ReplayBuffer::default();
        replay.begin(&budget).extend_from_slice(HEAD);
        reads.iter().for_each(|read| assert!(replay.push(read, TOTAL, &budget)));
        let mut rewrite = Rewrite::begin(&mut replay, HEAD.len(), NEW_HEAD, length, cuts.to_vec());
        while rewrite.step() {}
        rewrite.end(&budget);
        for _ in 0..2 {
            let mut sent = Vec::new();
            while !replay.unsent().is_empty() {
                let count = replay.unsent().len();
                sent.extend_from_slice(replay.unsent());
                replay.mark_sent(count);
            }
            assert_eq!(sent, [NEW_HEAD, &without(input, cuts)].concat());
            replay.rewind();
        }
        replay.release(&budget);
        drop(budget);
        assert_eq!(process_free.load(Ordering::Relaxed), TOTAL, "all is given back");
    }
}

type Found = Vec<(Option<Vec<u8>>, Vec<u8>, Vec<u8>)>;

fn found_strings(mut reader: JsonMembers, parts: &[&[u8]]) -> Found {
    let mut found = Found::new();
    for part in parts {
        let is_enough = reader.read(part, |member| {
            found.push((member.within.map(<[u8]>::to_vec), member.name.to_vec(), member.value.to_vec()));
            false
        });
        assert!(!is_enough);
    }
    found
}

fn check_members(input: &[u8], text: Option<&str>, ways: &[Vec<&[u8]>]) {
    if input.len() > COMPARED_BYTES_MAX {
        return;
    }
    for reader in [JsonMembers::default, JsonMembers::also_in_array, || JsonMembers::after_name(b"conversation")] {
        let whole = found_strings(reader(), &[input]);
        ways.iter().for_each(|parts| assert_eq!(found_strings(reader(), parts), whole, "however it is split"));
    }
    let Some(text) = text else { return };
    let expected: Found = told_strings(text, 32, 1024)
        .into_iter()
        .map(|(within, name, value)| (within.map(String::into_bytes), name.into_bytes(), value.into_bytes()))
        .collect();
    assert_eq!(found_strings(JsonMembers::default(), &[input]), expected);
    let in_array = [b" [", input, b",{\"id\":\"other\"}]"].concat();
    assert_eq!(found_strings(JsonMembers::also_in_array(), &[&in_array]), expected, "the first of an array");
    let mut reader = JsonMembers::default();
    reader.read(input, |_| false);
    assert!(reader.ends_here(), "it has ended");
}

/// Notes nothing.
struct Deaf;

impl JsonObserver for Deaf {
    fn wants(&self, _: usize) -> bool {
        false
    }
    fn key(&mut self, _: usize, _: &[u8]) {}
    fn value(&mut self, _: usize, _: JsonScalar<'_>) {}
    fn open(&mut self, _: usize, _: Bracket) {}
    fn close(&mut self, _: usize) {}
}

/// Closes the beginnings of an object: each is one then, with the members that it had, and the one that is added.
fn check_closing(text: &str) {
    let mut random = Random::of(text.as_bytes());
    let whole = members(text).expect("an object");
    let end = text.trim_end_matches([' ', '\t', '\r', '\n']).len();
    for _ in 0..CLOSED_MAX {
        let cut = random.below(text.len() + 1);
        let before = &text.as_bytes()[..cut];
        let mut json = JsonText::new();
        json.read(&before[..random.below(cut + 1)], &mut Deaf);
        let mut json = JsonText::new();
        let (first, second) = before.split_at(random.below(cut + 1));
        json.read(first, &mut Deaf);
        json.read(second, &mut Deaf);
        if depth(text) > 128 {
            continue;
        }
        assert_eq!(json.is_whole(), cut >= end);
        let Some(closing) = json.closing("\"error\":{\"code\":1}") else {
            assert!(json.is_whole());
            continue;
        };
        let closed = [before, &closing].concat();
        let closed = String::from_utf8(closed).expect("a letter is completed");
        let members = members(&closed).unwrap_or_else(|| panic!("an object: {closed}"));
        let (last, kept) = members.split_last().expect("one was added");
        assert_eq!((last.name, last.value), ("\"error\"", "{\"code\":1}"));
        let all_but_last = kept.len().saturating_sub(1);
        let is_same = |(one, other): (&Member<'_>, &Member<'_>)| one.name == other.name && one.value == other.value;
        assert!(kept[..all_but_last].iter().zip(&whole).all(is_same), "what was whole stays as it was");
        assert!(kept.len() <= whole.len() || cut < end && kept.len() == whole.len() + 1);
    }
}
