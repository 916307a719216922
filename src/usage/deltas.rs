//! An event that came as one line, by the keys that matter alone: two searches, where a parser would take ten times as
//! long.
//!
//! A quote within a JSON string is always escaped, so that a key with both its quotes is no part of a text. Invariant:
//! of what is JSON, it tells the same as the parser does (`event`).

use std::sync::LazyLock;

use memchr::memchr2;
use memchr::memmem::Finder;

use crate::usage::text_key::{RESPONSES_TYPE, TextBytes, TextKey};

/// The beginning of the keys of usage objects.
const USAGE: &[u8] = b"\"usage";

static FINDERS: LazyLock<Finders> = LazyLock::new(|| Finders {
    usage: Finder::new(USAGE),
    texts: TextKey::ALL.map(|key| (key, Finder::new(key.quoted()))),
});

struct Finders {
    usage: Finder<'static>,
    texts: [(TextKey, Finder<'static>); TextKey::ALL.len()],
}

/// Adds the lengths of the texts of an event, whose line has an object. Returns false, and has added none, where there
/// may be a usage, for which it has to be parsed.
pub fn add_texts(line: &[u8], texts: &mut TextBytes) -> bool {
    let finders = &*FINDERS;
    if has_usage(line, &finders.usage) {
        return false;
    }
    let (usual, finder) = &finders.texts[texts.usual() as usize];
    let is_responses = || is_responses(line);
    if *usual == TextKey::Delta || !is_responses() {
        texts.add(*usual, text_bytes(line, finder));
    }
    if !texts.has_usual() {
        let others = finders.texts.iter().filter(|(key, _)| key != usual);
        let is_responses = is_responses();
        for (key, finder) in others.filter(|(key, _)| *key == TextKey::Delta || !is_responses) {
            texts.add(*key, text_bytes(line, finder));
        }
    }
    texts.end_event();
    true
}

/// Tells whether there may be a usage. LiteLLM sends one that is `null` with each chunk.
fn has_usage(line: &[u8], finder: &Finder<'_>) -> bool {
    let mut at = 0;
    while let Some(found) = finder.find(&line[at..]) {
        at += found + USAGE.len();
        let is_null =
            line[at] == b'"' && value_at(line, at + 1).is_some_and(|value| line[value..].starts_with(b"null"));
        if !is_null {
            return true;
        }
    }
    false
}

/// The bytes of all strings that have the key which `finder` finds.
fn text_bytes(line: &[u8], finder: &Finder<'_>) -> usize {
    let (mut bytes, mut at) = (0, 0);
    while let Some(found) = finder.find(&line[at..]) {
        at += found + finder.needle().len();
        if let Some(value) = value_at(line, at)
            && line.get(value) == Some(&b'"')
        {
            let length = string_length(&line[value + 1..]);
            bytes += length;
            // A string that has no end goes up to that of the line.
            at = (value + length + 2).min(line.len());
        }
    }
    bytes
}

/// Returns whether the first member is a `type` of Responses.
fn is_responses(line: &[u8]) -> bool {
    let type_name = || {
        let members = line.strip_prefix(b"{")?.trim_ascii_start().strip_prefix(b"\"type\"")?;
        members.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start().strip_prefix(b"\"")
    };
    type_name().is_some_and(|name| name.starts_with(RESPONSES_TYPE))
}

/// The place of the value whose key ends at `at`; `None` where it is no key.
fn value_at(line: &[u8], at: usize) -> Option<usize> {
    let colon = after_space(line, at);
    (line.get(colon) == Some(&b':')).then(|| after_space(line, colon + 1))
}

fn after_space(line: &[u8], mut at: usize) -> usize {
    while line.get(at).is_some_and(u8::is_ascii_whitespace) {
        at += 1;
    }
    at
}

/// The length of a string, of which `text` begins after its first quote.
fn string_length(text: &[u8]) -> usize {
    let mut at = 0;
    while let Some(found) = memchr2(b'"', b'\\', text.get(at..).unwrap_or_default()) {
        at += found;
        if text[at] == b'"' {
            return at;
        }
        at += 2;
    }
    text.len()
}
