//! What is looked for in a JSON body: the model that it names, what it asks for beside that, and the stored objects that it
//! refers to. In whatever reads and chunks it comes, what is found is there, and nothing that is there is missed.

#![no_main]

use flow_uring::fuzz::held_body::{
    AskedMembers, AskedModels, ModelFinder, NamedModel, ObjectKey, ReferenceSearch, ReplayBuffer, Searched, Shelf,
};
use flow_uring::fuzz::http1::BodyLength;
use flow_uring_fuzz::held_body::{COMPARED_BYTES_MAX, TOTAL, budget, framings};
use flow_uring_fuzz::input::{expanded, ways_to_split};
use flow_uring_fuzz::json::Json;
use flow_uring_fuzz::members::{Member, depth, is_object, members, told_strings};
use libfuzzer_sys::fuzz_target;

const HEAD: &[u8] = b"POST /v1/messages HTTP/1.1\r\nHost: a\r\n\r\n";

fuzz_target!(|data: &[u8]| {
    let input = expanded(data);
    let mut ways = ways_to_split(&input);
    ways.push(vec![&input]);
    let text = std::str::from_utf8(&input).ok().filter(|_| is_object(&input));
    check_models(text, &ways);
    check_asked(&input, text, &ways);
    check_references(&input, text, &ways);
});

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
