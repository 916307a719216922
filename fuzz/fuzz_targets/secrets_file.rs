//! A secrets file: all of its mistakes are found, none of its values is told.

#![no_main]

use flow_uring::credentials::{JsonFault, LoadedCredentials, SecretsFault, from_json};
use flow_uring_fuzz::json::Json;
use libfuzzer_sys::fuzz_target;
use serde::de::IgnoredAny;

/// Stands in the file for each `~`, so that it is seen wherever it is told.
const MARK: &str = "hunter2-hunter2";

const ENTRIES_MAX: usize = 512;

/// The place of a mistake: the entry and the field.
type Place = (Option<usize>, Option<&'static str>);

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let text = text.replace('~', MARK);
    let loaded = from_json(&text);
    let bare = without_comments(text.strip_prefix('\u{feff}').unwrap_or(&text));
    let document = bare.as_ref().and_then(|bare| Json::read(bare.as_bytes()));
    let lines = 1 + text.matches('\n').count();
    let is_beyond_oracle =
        document.is_none() && bare.as_ref().is_some_and(|bare| serde_json::from_str::<IgnoredAny>(bare).is_ok());
    match &loaded {
        // RFC 8259 §6, §8.2 and §9: numbers of any size, half surrogate pairs and any depth are JSON, too.
        Ok(_) | Err(SecretsFault::Mistakes(_)) if is_beyond_oracle => {}
        Err(SecretsFault::Json(JsonFault::Comment { line })) => assert!(bare.is_none() && (1..=lines).contains(line)),
        Err(SecretsFault::Json(JsonFault::Syntax { line, .. })) => {
            assert!(bare.is_some() && document.is_none() && !is_beyond_oracle && *line <= lines);
        }
        Err(SecretsFault::Read(fault)) => panic!("nothing was read: {fault}"),
        Err(SecretsFault::Mistakes(found)) => {
            let found: Vec<Place> = found.iter().map(|mistake| (mistake.index, mistake.field)).collect();
            assert_eq!(found, mistakes(&document.expect("JSON")), "all of them, in their order");
        }
        Ok(loaded) => check_loaded(loaded, &document.expect("JSON")),
    }
    if let Err(fault) = &loaded {
        assert!(!format!("{fault} {fault:?}").contains(MARK), "a value is told");
    }
});

/// Replaces comments by spaces; `None` where a string or a comment does not end, or a `/` stands alone.
fn without_comments(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' => string_bytes(rest)?,
            '/' if rest.starts_with("//") => {
                rest = &rest[rest.find('\n').unwrap_or(rest.len())..];
                continue;
            }
            '/' => {
                rest = &rest[2 + rest.strip_prefix("/*")?.find("*/")? + 2..];
                out.push(' ');
                continue;
            }
            other => other.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    Some(out)
}

/// The length of the string that begins the text, with its quotes.
fn string_bytes(text: &str) -> Option<usize> {
    let mut characters = text.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some(at + 1),
            '\\' => drop(characters.next()?),
            _ => {}
        }
    }
    None
}

fn mistakes(document: &Json) -> Vec<Place> {
    let entries = document.elements();
    if entries.is_empty() || entries.len() > ENTRIES_MAX {
        return vec![(None, None)];
    }
    entries.iter().enumerate().flat_map(|(index, entry)| mistakes_of_entry(index, entry)).collect()
}

fn mistakes_of_entry(index: usize, entry: &Json) -> Vec<Place> {
    if !matches!(entry, Json::Object(_)) {
        return vec![(Some(index), None)];
    }
    let is_name = |field: &str| entry.get(field).and_then(Json::text).is_some_and(|text| !text.trim().is_empty());
    let is_optional_name = |field: &str| match entry.get(field) {
        None | Some(Json::Null) => true,
        Some(value) => value.text().is_some_and(|text| !text.chars().any(char::is_control)),
    };
    let required = ["clientId", "clientSecret", "tenant"].into_iter().filter(|field| !is_name(field));
    let optional = ["name", "agent", "appToAccess"].into_iter().filter(|field| !is_optional_name(field));
    let weight = Some("weight").filter(|_| weight(entry).is_none());
    required.chain(optional).chain(weight).map(|field| (Some(index), Some(field))).collect()
}

fn weight(entry: &Json) -> Option<u64> {
    match entry.get("weight") {
        None | Some(Json::Null) => Some(1),
        Some(value) => value.whole_number().filter(|weight| (1..=1000).contains(weight)),
    }
}

fn check_loaded(loaded: &LoadedCredentials, document: &Json) {
    assert_eq!(mistakes(document), Vec::<Place>::new(), "mistakes are not told");
    let entries = document.elements();
    assert_eq!(loaded.credentials.len(), entries.len());
    for ((_, credential), entry) in loaded.credentials.entries().zip(entries) {
        let text = |field: &str| entry.get(field).and_then(Json::text).expect("a string");
        assert_eq!((&*credential.client_id, &*credential.tenant), (text("clientId"), text("tenant")));
        assert_eq!(credential.client_secret.expose(), text("clientSecret"));
        assert_eq!(Some(u64::from(credential.weight)), weight(entry));
        assert!(!credential.name.chars().any(char::is_control), "a name goes into the log");
    }
    let mut names: Vec<&str> = loaded.credentials.names().collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "each has a name of its own");
    assert!(loaded.warnings.iter().all(|warning| !warning.chars().any(char::is_control)));
    let is_elsewhere = |(field, value): &(String, Json)| {
        field.contains(MARK) || field != "clientSecret" && value.text().is_some_and(|text| text.contains(MARK))
    };
    if !entries.iter().flat_map(Json::members).any(is_elsewhere) {
        assert!(!format!("{loaded:?}").contains(MARK), "a secret is told");
    }
}
