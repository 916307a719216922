//! A JSON body as it is looked through and edited: in whatever reads and chunks it comes, what is found in it is there,
//! and what is left of it is the same object without what was to be cut.

#![no_main]

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flow_uring::fuzz::held_body::{
    AskedMembers, AskedModels, MemberCuts, ModelFinder, NamedModel, NoCuts, ObjectKey, ReferenceSearch, ReplayBudget,
    ReplayBuffer, Rewrite, Searched, Shelf,
};
use flow_uring::fuzz::http1::BodyLength;
use flow_uring::fuzz::json::{Bracket, JsonGrammar, JsonMembers, JsonObserver, JsonScalar, JsonText, MemberObserver};
use flow_uring_fuzz::input::{Random, expanded, ways_to_split};
use flow_uring_fuzz::json::Json;
use flow_uring_fuzz::members::{Member, UNREAD, depth, is_object, members, told_strings};
use libfuzzer_sys::fuzz_target;

const CUT: &str = "context_management";
const HEAD: &[u8] = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\n\r\n";
const NEW_HEAD: &[u8] = b"POST /v1/messages HTTP/1.1\r\nHost: b\r\nContent-Length: ?\r\n\r\n";
const TOTAL: usize = 1 << 22;

/// Up to this size no bound on work cuts a reading short, nor takes an input long.
const COMPARED_BYTES_MAX: usize = 16 * 1024;

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
    check_models(text, &ways);
    check_asked(&input, text, &ways);
    check_references(&input, text, &ways);
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

fn budget() -> (Arc<AtomicUsize>, ReplayBudget) {
    let process_free = Arc::new(AtomicUsize::new(TOTAL));
    (process_free.clone(), ReplayBudget::new(process_free, TOTAL, 1))
}

/// Frames a body in chunks that are as long as its parts.
fn in_chunks(parts: &[&[u8]]) -> Vec<u8> {
    let chunk = |part: &&[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    let mut body: Vec<u8> = parts.iter().filter(|part| !part.is_empty()).flat_map(chunk).collect();
    body.extend_from_slice(b"0\r\nX-Trailer: t\r\n\r\n");
    body
}

/// The framings of one body, and the reads that each comes in.
fn framings(input: &[u8], parts: &[&[u8]]) -> [(BodyLength, Vec<Vec<u8>>); 2] {
    let plain = parts.iter().map(|part| part.to_vec()).collect();
    let chunked = in_chunks(parts);
    let mut random = Random::of(input);
    let (mut reads, mut rest) = (Vec::new(), &chunked[..]);
    while !rest.is_empty() {
        let (read, after) = rest.split_at((1 + random.below(chunked.len())).min(rest.len()));
        reads.push(read.to_vec());
        rest = after;
    }
    [(BodyLength::Known(input.len() as u64), plain), (BodyLength::Chunked, reads)]
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

fn check_models(text: Option<&str>, ways: &[Vec<&[u8]>]) {
    let named = |parts: &[&[u8]]| {
        let mut finder = ModelFinder::new();
        parts.iter().for_each(|part| finder.read(part));
        match finder.named() {
            NamedModel::None => None,
            NamedModel::One(name) => Some(Some(name.to_owned())),
            NamedModel::Unclear => Some(None),
        }
    };
    let found = named(&ways[0]);
    assert!(ways.iter().all(|parts| named(parts) == found), "however it is split");
    let Some(text) = text.filter(|text| !has_brace_in_string(text)) else { return };
    let models: Vec<&str> = members(text)
        .expect("an object")
        .iter()
        .filter(|member| member.name == "\"model\"")
        .filter_map(Member::written_text)
        .collect();
    let is_name = |name: &str| (1..=128).contains(&name.len()) && !name.chars().any(char::is_control);
    match found {
        Some(Some(name)) => assert_eq!(models, [name], "another is named"),
        None => assert!(!models.iter().any(|name| !name.contains('\\') && is_name(name)), "it is not found"),
        Some(None) => {}
    }
}

fn has_brace_in_string(text: &str) -> bool {
    let (mut in_string, mut is_escaped) = (false, false);
    text.bytes().any(|byte| {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            _ => {}
        }
        in_string && matches!(byte, b'{' | b'}')
    })
}

/// Members by which another model or price may be had than the one that is named.
const ASKED: [&str; 14] = [
    "model",
    "background",
    "metadata",
    "litellm_metadata",
    "model_info",
    "models",
    "extra_body",
    "router_settings_override",
    "fallbacks",
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "target_model_names",
    "model_list",
    "user_config",
];

fn is_asked(member: &Member<'_>) -> bool {
    let is_long = member.name.len() - 2 > 156;
    !is_long && member.decoded_name().is_some_and(|name| ASKED.contains(&&*name) || name.contains("_cost_per_"))
}

fn check_asked(input: &[u8], text: Option<&str>, ways: &[Vec<&[u8]>]) {
    let places = |parts: &[&[u8]]| {
        let mut asked = AskedMembers::new();
        parts.iter().all(|part| asked.read(part));
        asked.end()
    };
    let found = places(&ways[0]);
    assert!(ways.iter().all(|parts| places(parts).ok() == found.as_ref().ok().cloned()), "however it is split");
    let Some(text) = text else { return assert!(found.is_err()) };
    let all = members(text).expect("an object");
    let expected: Vec<Member<'_>> = all.into_iter().filter(is_asked).collect();
    let are_few = expected.len() <= 32 && expected.iter().all(|member| member.place(text).len() <= 16 * 1024);
    let Ok(found) = found else { return assert!(!are_few, "they can be read") };
    assert!(expected.iter().map(|member| member.place(text)).eq(found.iter().cloned()));
    let mut asked = AskedModels::default();
    let added = found.into_iter().try_for_each(|place| asked.add(&input[place]));
    // One more bracket is open around each where it is read.
    if depth(text) < 100 {
        let read = asked_of(&expected);
        assert_eq!(added.is_ok().then_some(asked), read);
    }
}

/// The models that these members name; `None`: it is not sure.
fn asked_of(members: &[Member<'_>]) -> Option<AskedModels> {
    let mut asked = AskedModels::default();
    for member in members {
        let value = Json::read(member.value.as_bytes())?;
        let is_nothing = match &value {
            Json::Null => true,
            Json::Array(elements) => elements.is_empty(),
            Json::Object(members) => members.is_empty(),
            _ => false,
        };
        match &*member.decoded_name()? {
            "model" => asked.names.extend(value.text()?.split(',').map(|name| name.trim().to_owned())),
            "background" => asked.is_in_background |= !matches!(value, Json::Null | Json::Bool(false)),
            "metadata" | "litellm_metadata" => {
                asked.has_price |= value.members().iter().any(|(name, _)| name == "model_info");
            }
            name if name == "model_info" || name.contains("_cost_per_") => asked.has_price = true,
            _ if is_nothing => {}
            _ => return None,
        }
    }
    Some(asked)
}

fn check_references(input: &[u8], text: Option<&str>, ways: &[Vec<&[u8]>]) {
    if input.len() > COMPARED_BYTES_MAX {
        return;
    }
    let named: Vec<(bool, Shelf, ObjectKey)> =
        text.map_or_else(Vec::new, |text| told_strings(text, 32, 1024)).iter().filter_map(reference).collect();
    let objects: Vec<(Shelf, ObjectKey)> = named.iter().map(|(_, shelf, object)| (*shelf, *object)).collect();
    for parts in ways {
        for (length, reads) in framings(input, parts) {
            let found = referred(length, &reads, Shelf::Others, true);
            if text.is_some() {
                assert_eq!(found, objects[..objects.len().min(16)], "of a short body all are found");
            }
            let found = referred(length, &reads, Shelf::Responses, false);
            if text.is_none() {
                continue;
            }
            assert!(found.iter().all(|found| objects.contains(found)), "it names others");
            let is_found = |(is_plain, shelf, object): &(bool, Shelf, ObjectKey)| {
                !is_plain || *shelf != Shelf::Responses || found.contains(&(*shelf, *object))
            };
            assert!(named.len() > 16 || !is_searched(text) || named.iter().all(is_found), "one is not found");
        }
    }
}

/// Tells whether the name stands in the text as it is searched for.
fn is_searched(text: Option<&str>) -> bool {
    text.is_some_and(|text| text.contains("\"previous_response_id\""))
}

/// The object that a member names, and whether it is one of those that are searched for by name.
fn reference((within, name, value): &(Option<String>, String, String)) -> Option<(bool, Shelf, ObjectKey)> {
    let shelf = match (within.as_deref(), &**name) {
        (None, "previous_response_id") => Shelf::Responses,
        (None, "conversation" | "input_file_id" | "file_id") | (Some("conversation"), "id") => Shelf::Others,
        _ => return None,
    };
    Some((within.is_none(), shelf, ObjectKey::of(value.as_bytes())))
}

fn referred(length: BodyLength, reads: &[Vec<u8>], shelf: Shelf, has_conversations: bool) -> Vec<(Shelf, ObjectKey)> {
    let (_, budget) = budget();
    let mut replay = ReplayBuffer::default();
    replay.begin(&budget).extend_from_slice(HEAD);
    let mut search = ReferenceSearch::new(&replay, length, shelf, has_conversations);
    let mut found = Vec::new();
    let mut searched = Searched::GoesOn;
    let nothing = Vec::new();
    for read in reads.iter().chain([&nothing]) {
        if !read.is_empty() {
            assert!(replay.push(read, TOTAL, &budget));
        }
        searched = loop {
            let step = search.step(&replay, &mut |shelf, object| {
                found.push((shelf, object));
                false
            });
            if let Some(searched) = step {
                break searched;
            }
        };
    }
    assert_eq!(searched, Searched::Over, "the whole body is there");
    replay.release(&budget);
    found
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
