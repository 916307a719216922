//! The members of an event's JSON object that tell its dialect and the end of its turn.
//!
//! Invariant: memory is bounded; the last of several members of the same name counts, as for most parsers.
//! Not here: the grammar, and what the members of a whole stream mean together.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;
use memchr::{memchr, memmem};

use crate::json::text::{Bracket, JsonObserver, JsonScalar};
use crate::proxy::sse::dialect::EventDialect;

/// The kind of an event, by its name or its `type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// Of Anthropic's; some servers send it in streams of others too.
    Ping,
    Messages,
    MessageStop,
    Responses,
    /// It ends the turn.
    LastOfResponses,
    Other,
}

impl EventType {
    pub fn of(name: &[u8]) -> Self {
        if name.starts_with(b"content_block_") {
            return EventType::Messages;
        }
        match name {
            b"ping" => EventType::Ping,
            b"message_start" | b"message_delta" => EventType::Messages,
            b"message_stop" => EventType::MessageStop,
            b"response.completed" | b"response.failed" | b"response.incomplete" => EventType::LastOfResponses,
            _ if name.starts_with(b"response.") => EventType::Responses,
            _ => EventType::Other,
        }
    }

    pub fn ends_turn(self) -> bool {
        matches!(self, EventType::MessageStop | EventType::LastOfResponses)
    }

    /// The dialect that has events of this type and no other has.
    pub fn dialect(self) -> Option<EventDialect> {
        match self {
            EventType::Messages | EventType::MessageStop => Some(EventDialect::Anthropic),
            EventType::Responses | EventType::LastOfResponses => Some(EventDialect::Responses),
            EventType::Ping | EventType::Other => None,
        }
    }
}

/// The keys of the members that [`EventMembers`] reads at the top level.
const TELLING_KEYS: [&str; 6] =
    ["\"type\"", "\"object\"", "\"choices\"", "\"candidates\"", "\"usageMetadata\"", "\"sequence_number\""];

static TELLING_KEY: LazyLock<Option<Searcher>> = LazyLock::new(|| Searcher::new(TELLING_KEYS));

/// Returns whether the text of an object has the key of a member that tells something, wherever it stands: one pass,
/// where a parser would take ten times as long.
pub fn names_telling_member(text: &[u8]) -> bool {
    TELLING_KEY.as_ref().is_none_or(|keys| keys.find(text).is_some())
}

/// Gemini's candidates, by their `index`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GeminiCandidates {
    seen: u64,
    finished: u64,
}

impl GeminiCandidates {
    pub const NONE: GeminiCandidates = GeminiCandidates { seen: 0, finished: 0 };

    /// Adds what a later event tells, of candidates that were seen before too.
    pub fn join(&mut self, later: GeminiCandidates) {
        self.seen |= later.seen;
        self.finished = self.finished & !later.seen | later.finished;
    }

    /// Returns whether there was one, and all that there were have a `finishReason` where they were seen last.
    pub fn are_finished(self) -> bool {
        self.seen != 0 && self.seen == self.finished
    }

    fn add(&mut self, Candidate { index, is_finished }: Candidate) {
        // Gemini makes 8 at most. One that cannot be told apart stays unfinished: half an answer must not pass as
        // whole.
        let bit = index.map_or(1 << 63, |index| 1 << index.min(63));
        let finished = if is_finished && bit != 1 << 63 { bit } else { 0 };
        self.join(GeminiCandidates { seen: bit, finished });
    }
}

/// An element of `candidates`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    /// `None` where it is no whole number.
    index: Option<u8>,
    is_finished: bool,
}

impl Candidate {
    /// An `index` of 0 is left out by Google's servers.
    const NEW: Candidate = Candidate { index: Some(0), is_finished: false };
}

/// Observes one object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventMembers {
    pub kind: EventType,
    /// It has `object` or `choices`.
    is_chat: bool,
    /// It has `candidates` or `usageMetadata`.
    is_gemini: bool,
    pub sequence_number: Option<u64>,
    pub candidates: GeminiCandidates,
    /// The member of the object, or of a candidate, whose value is under way.
    member: MemberName,
    is_in_candidates: bool,
    candidate: Candidate,
    candidate_member: MemberName,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum MemberName {
    Type,
    SequenceNumber,
    GeminiCandidates,
    FinishReason,
    Index,
    Other,
}

impl EventMembers {
    pub const NONE: EventMembers = EventMembers {
        kind: EventType::Other,
        is_chat: false,
        is_gemini: false,
        sequence_number: None,
        candidates: GeminiCandidates::NONE,
        member: MemberName::Other,
        is_in_candidates: false,
        candidate: Candidate::NEW,
        candidate_member: MemberName::Other,
    };

    /// Reads a line that is a whole object by its beginning and its end alone, as most events of a stream of `dialect`
    /// are written. `None` where they do not tell all that matters.
    pub fn skim(dialect: EventDialect, line: &[u8]) -> Option<Self> {
        match dialect {
            EventDialect::Responses => Self::skim_responses(line),
            EventDialect::Gemini => Self::skim_gemini(line),
            EventDialect::Anthropic | EventDialect::Chat => None,
        }
    }

    /// The type comes first, and the number next or last. One that ends the turn is read, lest what no client can parse
    /// should end it. A quote that ends a key is not escaped, so neither can be
    /// part of a text.
    fn skim_responses(line: &[u8]) -> Option<Self> {
        let object = line.strip_prefix(b"{\"type\":")?;
        let text = object.strip_prefix(b" ").unwrap_or(object).strip_prefix(b"\"")?;
        let (name, rest) = text.split_at(memchr(b'"', text)?);
        let kind = EventType::of(name);
        if kind != EventType::Responses || name.contains(&b'\\') {
            return None;
        }
        let digits = match rest.strip_prefix(b"\",\"sequence_number\":") {
            Some(rest) => &rest[..rest.iter().position(|&byte| matches!(byte, b',' | b'}'))?],
            None => last_number(line)?,
        };
        Some(EventMembers { kind, sequence_number: Some(number(digits)?), ..EventMembers::NONE })
    }

    /// There are candidates, none of which has a reason or an index. Keys in a text have escaped quotes.
    fn skim_gemini(line: &[u8]) -> Option<Self> {
        let array = line.strip_prefix(b"{\"candidates\":")?.trim_ascii_start().strip_prefix(b"[")?;
        let has = |key: &[u8]| memmem::find(line, key).is_some();
        if !array.trim_ascii_start().starts_with(b"{") || has(b"\"finishReason\"") || has(b"\"index\"") {
            return None;
        }
        let mut members = EventMembers { is_gemini: true, ..EventMembers::NONE };
        members.candidates.add(Candidate::NEW);
        Some(members)
    }

    /// The members of an object of Gemini's that has candidates, of which nothing else counts. Of one that cannot be
    /// parsed a candidate goes on: half an answer must not pass as whole.
    pub fn as_skimmed(&self, can_be_parsed: bool) -> Self {
        let mut members = EventMembers { is_gemini: true, ..EventMembers::NONE };
        if can_be_parsed {
            members.candidates = self.candidates;
        } else {
            members.candidates.add(Candidate::NEW);
        }
        members
    }

    /// The dialect of the object. A `type` says more than what else is there.
    pub fn dialect(&self) -> Option<EventDialect> {
        self.kind
            .dialect()
            .or(self.is_chat.then_some(EventDialect::Chat))
            .or(self.is_gemini.then_some(EventDialect::Gemini))
    }

    /// Returns whether candidates have come, or at least their name.
    pub fn has_candidates(&self) -> bool {
        self.member == MemberName::GeminiCandidates || self.candidates.seen != 0
    }

    /// Reads a `sequence_number` that ends with the stream, as a client will.
    pub fn open_sequence_number(&self, open_word: Option<&[u8]>) -> Option<u64> {
        open_word.filter(|_| self.member == MemberName::SequenceNumber).and_then(number)
    }

    fn note(&mut self, name: &[u8]) {
        self.member = match name {
            b"type" => MemberName::Type,
            b"sequence_number" => MemberName::SequenceNumber,
            b"candidates" => MemberName::GeminiCandidates,
            _ => MemberName::Other,
        };
        match name {
            b"object" | b"choices" => self.is_chat = true,
            b"candidates" | b"usageMetadata" => self.is_gemini = true,
            _ => {}
        }
    }
}

impl JsonObserver for EventMembers {
    fn wants(&self, depth: usize) -> bool {
        depth == 1 || depth == 3 && self.is_in_candidates
    }

    fn key(&mut self, depth: usize, name: &[u8]) {
        if depth == 1 {
            return self.note(name);
        }
        self.candidate_member = match name {
            b"finishReason" => MemberName::FinishReason,
            b"index" => MemberName::Index,
            _ => MemberName::Other,
        };
    }

    fn value(&mut self, depth: usize, value: JsonScalar<'_>) {
        let member = if depth == 1 { self.member } else { self.candidate_member };
        match (member, value) {
            (MemberName::Type, JsonScalar::String(name)) => self.kind = EventType::of(name),
            (MemberName::Type, JsonScalar::Word(_)) => self.kind = EventType::Other,
            (MemberName::SequenceNumber, JsonScalar::Word(digits)) => self.sequence_number = number(digits),
            (MemberName::FinishReason, JsonScalar::String(reason)) => {
                // The name of "none" in the enumeration (Gemini API reference, `FinishReason`).
                self.candidate.is_finished = !matches!(reason, b"" | b"FINISH_REASON_UNSPECIFIED");
            }
            (MemberName::FinishReason, JsonScalar::Word(word)) => self.candidate.is_finished = word != b"null",
            (MemberName::Index, JsonScalar::Word(b"null")) => self.candidate.index = Candidate::NEW.index,
            (MemberName::Index, JsonScalar::Word(digits)) => self.candidate.index = number(digits),
            (MemberName::Index, JsonScalar::String(_)) => self.candidate.index = None,
            _ => {}
        }
    }

    fn open(&mut self, depth: usize, bracket: Bracket) {
        match depth {
            2 => self.is_in_candidates = self.member == MemberName::GeminiCandidates && bracket == Bracket::Array,
            3 => {
                self.candidate = Candidate::NEW;
                self.candidate_member = MemberName::Other;
            }
            _ => {}
        }
    }

    fn close(&mut self, depth: usize) {
        match depth {
            2 => self.is_in_candidates = false,
            3 if self.is_in_candidates => self.candidates.add(self.candidate),
            _ => {}
        }
    }
}

/// The digits of the `sequence_number` that is the last member of an object.
fn last_number(line: &[u8]) -> Option<&[u8]> {
    let members = line.strip_suffix(b"}")?;
    let digits = members.iter().rev().take_while(|byte| byte.is_ascii_digit()).count();
    let (before, digits) = members.split_at(members.len() - digits);
    (before.ends_with(b",\"sequence_number\":") || before.ends_with(b", \"sequence_number\": ")).then_some(digits)
}

/// The value of a whole number without a sign; `None` for any other, and for one that is too large.
fn number<N: std::str::FromStr>(digits: &[u8]) -> Option<N> {
    let text = std::str::from_utf8(digits).ok()?;
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::text::JsonText;

    fn observed(text: &str) -> EventMembers {
        let (mut json, mut members) = (JsonText::new(), EventMembers::NONE);
        json.read(text.as_bytes(), &mut members);
        members
    }

    #[test]
    fn a_candidate_is_finished_by_its_reason() {
        let cases = [
            (r#"{"candidates":[{"finishReason":"STOP"}]}"#, true),
            (r#"{"candidates":[{"finishReason":"MAX_TOKENS","index":0},{"index":1,"finishReason":"STOP"}]}"#, true),
            (r#"{"candidates":[{"finishReason":"STOP","index":0},{"index":1}]}"#, false),
            (r#"{"candidates":[{"index":1},{"index":1,"finishReason":"SAFETY"}]}"#, true),
            (r#"{"candidates":[{"finishReason":null}]}"#, false),
            (r#"{"candidates":[{"finishReason":""}]}"#, false),
            (r#"{"candidates":[{"finishReason":"FINISH_REASON_UNSPECIFIED"}]}"#, false),
            (r#"{"candidates":[{"content":{"finishReason":"STOP"}}]}"#, false),
            (r#"{"candidates":{"a":{"finishReason":"STOP"}}}"#, false),
            (r#"{"x":[{"finishReason":"STOP"}],"candidates":[{}]}"#, false),
            (r#"{"candidates":[{"index":64,"finishReason":"STOP"}]}"#, false),
            (r#"{"candidates":[{"index":-1,"finishReason":"STOP"}]}"#, false),
            (r#"{"candidates":[{"index":"0","finishReason":"STOP"}]}"#, false),
            (r#"{"candidates":[{"index":62,"finishReason":"STOP"}]}"#, true),
            (r#"{"candidates":[{"index":null,"finishReason":"STOP"}]}"#, true),
            (r#"{"candidates":[],"usageMetadata":{}}"#, false),
            (r#"{"finishReason":"STOP"}"#, false),
        ];
        for (text, expected) in cases {
            assert_eq!(observed(text).candidates.are_finished(), expected, "{text}");
        }
    }

    #[test]
    fn an_object_that_can_be_skimmed_tells_what_it_tells_when_it_is_read() {
        let cases = [
            (EventDialect::Responses, r#"{"type":"response.a","sequence_number":7,"b":"c"}"#, true),
            (EventDialect::Responses, r#"{"type":"response.a","sequence_number":7}"#, true),
            (
                EventDialect::Responses,
                r#"{"type": "response.created", "response": {"sequence_number": 1}, "sequence_number": 12}"#,
                true,
            ),
            (
                EventDialect::Responses,
                r#"{"type": "response.completed", "response": {"sequence_number": 1}, "sequence_number": 12}"#,
                false,
            ),
            (
                EventDialect::Responses,
                r#"{"type":"response.a","delta":"\",\"sequence_number\":1","sequence_number":2}"#,
                true,
            ),
            (EventDialect::Responses, r#"{"type":"response.a","b":{"c":1,"sequence_number":2}}"#, false),
            (EventDialect::Responses, r#"{"type":"response.a","delta":",\"sequence_number\":2}"}"#, false),
            (EventDialect::Responses, r#"{"type":"response.a","x_sequence_number":2}"#, false),
            (EventDialect::Responses, r#"{"type":"response.a","sequence_number":-2}"#, false),
            (EventDialect::Responses, r#"{"type":"response.a\"","sequence_number":2}"#, false),
            (EventDialect::Responses, r#"{"type":"ping","sequence_number":2}"#, false),
            (EventDialect::Responses, r#"{"sequence_number":2,"type":"response.a"}"#, false),
            (EventDialect::Gemini, r#"{"candidates": [{"content": {"a": "\"index\": 3"}}],"usageMetadata": {}}"#, true),
            (EventDialect::Gemini, r#"{"candidates":[{},{}]}"#, true),
            (EventDialect::Gemini, r#"{"candidates":[]}"#, false),
            (EventDialect::Gemini, r#"{"candidates":[{"index":1}]}"#, false),
            (EventDialect::Gemini, r#"{"candidates":[{"finishReason":"STOP"}]}"#, false),
            (EventDialect::Gemini, r#"{"usageMetadata":{}}"#, false),
            (EventDialect::Chat, r#"{"type":"response.a","sequence_number":7}"#, false),
        ];
        for (dialect, text, can_be_skimmed) in cases {
            let skimmed = EventMembers::skim(dialect, text.as_bytes());
            assert_eq!(skimmed.is_some(), can_be_skimmed, "{text}");
            let facts =
                |members: EventMembers| (members.kind, members.sequence_number, members.candidates, members.dialect());
            assert!(skimmed.is_none_or(|members| facts(members) == facts(observed(text))), "{text}");
        }
    }

    #[test]
    fn members_of_the_object_tell_its_dialect_and_number() {
        use EventDialect::{Anthropic, Chat, Gemini, Responses};
        let cases = [
            (r#"{"object":"x"}"#, Some(Chat), None),
            (r#"{"id":"1","choices":[]}"#, Some(Chat), None),
            (r#"{"usageMetadata":{}}"#, Some(Gemini), None),
            (r#"{"candidates":[]}"#, Some(Gemini), None),
            (r#"{"type":"content_block_start","object":1}"#, Some(Anthropic), None),
            (r#"{"a":{"sequence_number":9},"sequence_number":18,"type":"response.x"}"#, Some(Responses), Some(18)),
            (
                r#"{"type":"response.a_name_that_is_longer_than_what_is_kept_of_one","sequence_number":"1"}"#,
                Some(Responses),
                None,
            ),
            (r#"{"sequence_number":99999999999999999999999999999999999999}"#, None, None),
            (r#"{"sequence_number":-1}"#, None, None),
            (r#"{"type":"ping"}"#, None, None),
            (r#"{"type":"error","error":{"type":"api_error"}}"#, None, None),
            (r#"{"jsonrpc":"2.0","result":{"object":1,"choices":[],"candidates":[]}}"#, None, None),
            (r#"{"a":"object","b":["choices"]}"#, None, None),
        ];
        for (text, dialect, number) in cases {
            let members = observed(text);
            assert_eq!((members.dialect(), members.sequence_number), (dialect, number), "{text}");
        }
    }
}
