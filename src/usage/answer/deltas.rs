//! An event that came as one line, by its `shape`, or by the keys that matter alone: two searches, where a parser would
//! take ten times as long.
//!
//! A quote within a JSON string is always escaped, so that a key with both its quotes is no part of a text. Invariant:
//! of what is JSON, it tells the same as the parser does (`event`).

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::usage::answer::body::usage_in_rest;
use crate::usage::answer::fields::UsageFields;
use crate::usage::answer::shape::{EventShape, string_length};
use crate::usage::answer::text_key::{RESPONSES_TYPE, TextBytes, TextKey};

/// The beginning of the keys of usage objects.
const USAGE: &[u8] = b"\"usage";

static FINDERS: LazyLock<Finders> =
    LazyLock::new(|| Finders { usage: Finder::new(USAGE), texts: TextKey::ALL.map(|key| Finder::new(key.quoted())) });

struct Finders {
    usage: Finder<'static>,
    /// By their keys.
    texts: [Finder<'static>; TextKey::ALL.len()],
}

/// The result of a search of an event.
#[derive(Debug)]
pub enum SearchedEvent {
    /// It has texts alone, if any.
    Texts,
    /// It has a usage of its own too.
    Usage(UsageFields),
    /// It may have, and has to be parsed; nothing was added.
    Unclear,
}

/// Adds the lengths of the texts of an event, whose line has an object.
#[inline]
pub fn add_texts(line: &[u8], texts: &mut TextBytes, shape: &mut EventShape) -> SearchedEvent {
    match shape.text_length(line, texts.usual()) {
        Some(length) if length > 0 => {
            texts.add_event(length);
            SearchedEvent::Texts
        }
        _ => search(line, texts, shape),
    }
}

#[inline(never)]
fn search(line: &[u8], texts: &mut TextBytes, shape: &mut EventShape) -> SearchedEvent {
    let Some(usage_at) = usage_place(line) else {
        search_texts(line, texts, Some(shape));
        return SearchedEvent::Texts;
    };
    // Each of Gemini's events has one, after its text.
    let usage = &line[usage_at..];
    let is_alone = usage_place(&usage[USAGE.len()..]).is_none();
    let Some(fields) = Some(usage).filter(|_| is_alone).and_then(usage_in_rest) else { return SearchedEvent::Unclear };
    let mut with_texts = *texts;
    if search_texts(line, &mut with_texts, None) > usage_at {
        // It may be one of the usage, where it is no text.
        return SearchedEvent::Unclear;
    }
    *texts = with_texts;
    SearchedEvent::Usage(fields)
}

/// Adds the lengths of the texts of an event, of which `shape` is told where it has a shape. Returns the place of the
/// last one, else 0.
fn search_texts(line: &[u8], texts: &mut TextBytes, shape: Option<&mut EventShape>) -> usize {
    let finders = &*FINDERS;
    let is_responses = is_responses(line);
    let found = |key: TextKey| {
        let is_text = key == TextKey::Delta || !is_responses;
        if is_text { FoundTexts::of(line, &finders.texts[key as usize]) } else { FoundTexts::NONE }
    };
    let usual = texts.usual();
    let of_usual = found(usual);
    let mut last_at = of_usual.last_at;
    texts.add(usual, of_usual.bytes);
    if of_usual.bytes == 0 {
        for key in TextKey::ALL.into_iter().filter(|key| *key != usual) {
            let of_other = found(key);
            texts.add(key, of_other.bytes);
            last_at = last_at.max(of_other.last_at);
        }
    } else if let Some(shape) = shape
        && of_usual.strings == 1
    {
        shape.learn(line, usual, of_usual.last_at, of_usual.bytes);
    }
    texts.end_event();
    last_at
}

/// The place of the first key that may be that of a usage. LiteLLM sends one that is `null` with each chunk.
fn usage_place(line: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let place = at + FINDERS.usage.find(&line[at..])?;
        at = place + USAGE.len();
        let value = line.get(at).filter(|byte| **byte == b'"').and_then(|_| value_at(line, at + 1));
        if !value.is_some_and(|value| line[value..].starts_with(b"null")) {
            return Some(place);
        }
    }
}

/// The strings of an event that have one key.
struct FoundTexts {
    strings: usize,
    /// The place of the last one, after its quote.
    last_at: usize,
    bytes: usize,
}

impl FoundTexts {
    const NONE: FoundTexts = FoundTexts { strings: 0, last_at: 0, bytes: 0 };

    fn of(line: &[u8], finder: &Finder<'_>) -> Self {
        let (mut texts, mut at) = (FoundTexts::NONE, 0);
        while let Some(found) = finder.find(&line[at..]) {
            at += found + finder.needle().len();
            if let Some(value) = value_at(line, at)
                && line.get(value) == Some(&b'"')
            {
                let length = string_length(&line[value + 1..]);
                texts.strings += 1;
                texts.last_at = value + 1;
                texts.bytes += length;
                // A string that has no end goes up to that of the line.
                at = (value + length + 2).min(line.len());
            }
        }
        texts
    }
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
