//! The dialect of a stream and the end of its turn, by its whole events.
//!
//! The program skips what it can tell without reading it, so only streams of one mind are compared: every event is a
//! JSON object or `[DONE]`, its name and its type do not contradict each other, and one dialect has them all.

use std::collections::BTreeMap;

use crate::events::Event;
use crate::json::Json;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dialect {
    None,
    Anthropic,
    Responses,
    Chat,
    Gemini,
}

#[derive(Debug)]
pub struct Turn {
    pub dialect: Dialect,
    pub is_complete: bool,
    /// One more than the last `sequence_number`.
    pub next_number: u64,
}

/// An event, as far as it matters.
#[derive(Debug)]
struct Read {
    dialect: Dialect,
    is_ping: bool,
    is_last: bool,
    json: Json,
}

impl Turn {
    /// `None` of a stream that is not of one mind.
    pub fn of(events: &[Event]) -> Option<Self> {
        let events: Vec<Read> = events.iter().map(Read::of).collect::<Option<_>>()?;
        let mut dialects: Vec<Dialect> = events.iter().map(|event| event.dialect).collect();
        dialects.sort_unstable();
        dialects.dedup();
        dialects.retain(|dialect| *dialect != Dialect::None);
        let dialect = match dialects[..] {
            [] if !events.is_empty() && events.iter().all(|event| event.is_ping) => Dialect::Anthropic,
            [] => Dialect::None,
            [dialect] => dialect,
            _ => return None,
        };
        // A ping after the last event changes nothing.
        let last = events.iter().rev().find(|event| event.is_last || !event.is_ping);
        let numbers = events.iter().rev().find_map(|event| event.json.get("sequence_number")?.whole_number());
        Some(Turn {
            dialect,
            is_complete: last.is_some_and(|event| event.is_last) || are_finished(&events),
            next_number: numbers.map_or(0, |number| number.saturating_add(1)),
        })
    }
}

impl Read {
    fn of(event: &Event) -> Option<Self> {
        if event.data.trim_ascii() == b"[DONE]" && event.data.len() <= 16 {
            let (dialect, is_ping, _) = kind(&event.name);
            return Some(Read { dialect, is_ping, is_last: true, json: Json::Null });
        }
        // An escape could spell a name that matters; the program does not decode them.
        let json = event.json().filter(|json| !json.is_ambiguous())?;
        if event.data.windows(2).any(|bytes| bytes == b"\\u") {
            return None;
        }
        let by_name = kind(&event.name);
        let by_type = json.get("type").and_then(Json::text).map_or(kind(b""), |text| kind(text.as_bytes()));
        let nothing = kind(b"");
        let (dialect, is_ping, is_last) = match (by_name, by_type) {
            (by_name, by_type) if by_name == by_type || by_type == nothing => by_name,
            (by_name, by_type) if by_name == nothing => by_type,
            _ => return None,
        };
        let has = |names: [&str; 2]| names.iter().any(|name| json.get(name).is_some());
        let by_members = match (has(["object", "choices"]), has(["candidates", "usageMetadata"])) {
            (true, _) => Dialect::Chat,
            (false, true) => Dialect::Gemini,
            (false, false) => Dialect::None,
        };
        let dialect = if dialect == Dialect::None { by_members } else { dialect };
        Some(Read { dialect, is_ping, is_last, json })
    }
}

/// The meaning of a name or a type: the dialect, whether it is a ping, whether it ends the turn.
fn kind(name: &[u8]) -> (Dialect, bool, bool) {
    match name {
        b"ping" => (Dialect::None, true, false),
        b"message_start" | b"message_delta" => (Dialect::Anthropic, false, false),
        b"message_stop" => (Dialect::Anthropic, false, true),
        b"response.completed" | b"response.failed" | b"response.incomplete" => (Dialect::Responses, false, true),
        _ if name.starts_with(b"content_block_") => (Dialect::Anthropic, false, false),
        _ if name.starts_with(b"response.") => (Dialect::Responses, false, false),
        _ => (Dialect::None, false, false),
    }
}

/// Tells whether all of Gemini's candidates have ended, where they came last.
fn are_finished(events: &[Read]) -> bool {
    let mut finished = BTreeMap::new();
    for candidate in events.iter().filter_map(|event| event.json.get("candidates")).flat_map(Json::elements) {
        if !matches!(candidate, Json::Object(_) | Json::Array(_)) {
            continue;
        }
        let index = match candidate.get("index") {
            None | Some(Json::Null | Json::Object(_) | Json::Array(_)) => Some(0),
            Some(index) => index.whole_number().filter(|index| *index < 63),
        };
        let has_ended = match candidate.get("finishReason") {
            None | Some(Json::Null | Json::Object(_) | Json::Array(_)) => false,
            Some(Json::Text(reason)) => !matches!(&**reason, "" | "FINISH_REASON_UNSPECIFIED"),
            Some(_) => true,
        };
        // One that cannot be told apart stays unfinished.
        finished.insert(index, has_ended && index.is_some());
    }
    !finished.is_empty() && finished.values().all(|has_ended| *has_ended)
}
