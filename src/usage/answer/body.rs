//! The usage in an answer that is one JSON text, read as it passes.
//!
//! A body of up to [`WHOLE_BYTES_MAX`], or of unknown length, is followed whole. Of a longer one only the end is, where
//! all dialects have their usage but those whose last member is long; the beginning may name the model. A usage counts
//! that stands one below what ends last, in whichever of the objects of Gemini's array, or in its `response`.
//! Invariant: nothing is allocated, memory is bounded, and nothing depends on how the body was split.

use std::sync::LazyLock;

use memchr::memmem::Finder;

use crate::json::middle::JsonMiddle;
use crate::json::text::{Bracket, JsonObserver, JsonScalar};
use crate::usage::answer::fields::{UsageFields, UsageMember};
use crate::usage::answer::told::{AnswerUsage, ModelName};

/// The longest body that is followed whole, and the length of the end of a longer one that is.
const WHOLE_BYTES_MAX: u64 = 64 * 1024;

/// The part of a longer one in which the model's name is looked for too: it stands before what is long in chat, messages
/// and embeddings.
const BEGINNING_BYTES: u64 = 1024;

/// Follows one body.
pub struct BodyUsage {
    content_length: Option<u64>,
    length: u64,
    /// The name of the model is looked for.
    wants_name: bool,
    /// The body came at once, and was searched instead of followed.
    is_settled: bool,
    json: JsonMiddle,
    members: BodyMembers,
}

impl BodyUsage {
    /// Begins one of this length, where the head tells it. A name of a model costs to be found.
    pub const fn new(content_length: Option<u64>, wants_name: bool) -> Self {
        let (json, members) = (JsonMiddle::at_start(), BodyMembers::new());
        BodyUsage { content_length, length: 0, wants_name, is_settled: false, json, members }
    }

    /// Takes the next bytes of the body.
    pub fn read(&mut self, data: &[u8]) {
        let begin = self.length;
        self.length += data.len() as u64;
        let is_at_once = begin == 0 && self.content_length == Some(self.length) && !self.wants_name;
        if is_at_once && let Some(fields) = only_usage(data) {
            self.members.fields = fields;
            self.is_settled = true;
            return;
        }
        let Some(tail) = self.tail() else {
            return self.json.read(data, &mut self.members);
        };
        let after = |place: u64| data.get(place.saturating_sub(begin) as usize..).unwrap_or_default();
        let beginning = BEGINNING_BYTES.min(tail);
        if begin < beginning {
            self.json.read(&data[..data.len() - after(beginning).len()], &mut self.members);
        }
        if begin <= tail && self.length > tail {
            self.json = JsonMiddle::in_middle();
            self.members.begin_in_middle();
        }
        self.json.read(after(tail), &mut self.members);
    }

    /// Returns what the body told, once it has ended; of one that is not whole only its length, and its model.
    pub fn usage(&self) -> AnswerUsage {
        let members = &self.members;
        if self.is_settled {
            let (tokens, cost) = (members.fields.tokens(), members.fields.cost());
            return AnswerUsage { tokens, cost, text_bytes: self.length, name: ModelName::new() };
        }
        let is_whole = self.json.has_ended() && self.content_length.is_none_or(|length| length == self.length);
        let is_array = self.json.last_bracket() == Bracket::Array;
        let top = self.json.depth() + 1;
        let usage_depth = top + usize::from(is_array) + usize::from(members.is_wrapped);
        let has_usage = is_whole && members.usage_depth == usage_depth;
        let is_named = match members.name_depth {
            BodyMembers::BEGINNING => true,
            depth if self.tail().is_none() && depth == BodyMembers::TOP => true,
            depth => is_whole && depth == top || has_usage && depth == usage_depth,
        };
        AnswerUsage {
            tokens: members.fields.tokens().filter(|_| has_usage),
            cost: members.fields.cost().filter(|_| has_usage),
            text_bytes: self.length,
            name: if is_named { members.name } else { ModelName::new() },
        }
    }

    /// The place from which on the end is followed; `None` where the whole is.
    fn tail(&self) -> Option<u64> {
        self.content_length.and_then(|length| length.checked_sub(WHOLE_BYTES_MAX)).filter(|tail| *tail > 0)
    }
}

/// Returns the usage of an object that is there as a whole, by a search for its key, which is some times as fast as a
/// parser. `None` where there are several, or one that is not the object's own: then that has to be parsed.
fn only_usage(object: &[u8]) -> Option<UsageFields> {
    const KEYS: [&[u8]; 2] = [b"\"usage\"", b"\"usageMetadata\""];
    if object.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    // A quote within a string is escaped.
    let is_key = |&at: &usize| object[at - 1] != b'\\' && KEYS.iter().any(|key| object[at..].starts_with(key));
    let mut keys = USAGE_KEY.find_iter(object).filter(is_key);
    match (keys.next(), keys.next()) {
        (None, _) => Some(UsageFields::NONE),
        (Some(only), None) => usage_in_rest(&object[only..]),
        (Some(_), Some(_)) => None,
    }
}

/// The beginning of the keys of a usage. Made once: that takes longer than a search.
static USAGE_KEY: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(b"\"usage"));

/// Reads the rest of an object, from the key of a usage on. `None` where that is not one of its own.
pub(super) fn usage_in_rest(rest: &[u8]) -> Option<UsageFields> {
    let (mut json, mut members) = (JsonMiddle::in_middle(), BodyMembers::new());
    // No name is looked for.
    members.name_depth = BodyMembers::BEGINNING;
    json.read(rest, &mut members);
    let is_own = json.has_ended() && json.last_bracket() == Bracket::Object && members.usage_depth == json.depth() + 1;
    is_own.then_some(members.fields)
}

/// The members of a body that may be of interest, at whatever depth, since the depth of the outermost is known only at
/// its end: the least deep ones are kept.
struct BodyMembers {
    fields: UsageFields,
    /// The depth of the member that had them.
    usage_depth: usize,
    /// It was one of a `response`.
    is_wrapped: bool,
    name: ModelName,
    name_depth: usize,
    /// The member whose value is to come.
    member: BodyMember,
    /// The usage whose object is open, and the depth of its members; 0: none is.
    open: UsageFields,
    open_depth: usize,
    /// The member of it whose object is open.
    details: UsageMember,
    /// The depth of the members of a `response` that is open; 0: none is.
    response_depth: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BodyMember {
    Usage,
    Model,
    Response,
    /// Of a usage.
    OfUsage(UsageMember),
    Other,
}

impl BodyMembers {
    /// The depth of the outermost members of a text that is followed from its start.
    const TOP: usize = 1;
    /// Stands for that depth in the beginning of a text of which the middle is skipped.
    const BEGINNING: usize = 0;

    const fn new() -> Self {
        BodyMembers {
            fields: UsageFields::NONE,
            usage_depth: usize::MAX,
            is_wrapped: false,
            name: ModelName::new(),
            name_depth: usize::MAX,
            member: BodyMember::Other,
            open: UsageFields::NONE,
            open_depth: 0,
            details: UsageMember::Other,
            response_depth: 0,
        }
    }

    /// Forgets all but the name.
    fn begin_in_middle(&mut self) {
        let before = std::mem::replace(self, BodyMembers::new());
        if before.name.is_known() && before.name_depth == Self::TOP {
            self.name = before.name;
            self.name_depth = Self::BEGINNING;
        }
    }

    fn outer_member(&self, depth: usize, name: &[u8]) -> BodyMember {
        match name {
            b"usage" | b"usageMetadata" if depth <= self.usage_depth => BodyMember::Usage,
            b"model" | b"modelVersion" if depth < self.name_depth => BodyMember::Model,
            b"response" => BodyMember::Response,
            _ => BodyMember::Other,
        }
    }

    fn end_usage(&mut self) {
        let depth = self.open_depth - 1;
        if depth < self.usage_depth {
            self.fields = self.open;
        } else {
            self.fields.join(&self.open);
        }
        self.usage_depth = depth;
        self.is_wrapped = self.response_depth == depth;
        self.open_depth = 0;
    }
}

impl JsonObserver for BodyMembers {
    fn wants(&self, _depth: usize) -> bool {
        self.member != BodyMember::Other
    }

    fn key(&mut self, depth: usize, name: &[u8]) {
        self.member = if self.open_depth == 0 {
            self.outer_member(depth, name)
        } else if depth == self.open_depth {
            BodyMember::OfUsage(UsageMember::of(name))
        } else if depth == self.open_depth + 1 {
            BodyMember::OfUsage(self.details.within(name))
        } else {
            BodyMember::Other
        };
        if self.member == BodyMember::Model {
            self.name.begin();
            self.name_depth = depth;
        }
    }

    fn text(&mut self, _depth: usize, part: &[u8]) {
        if self.member == BodyMember::Model {
            self.name.append(part);
        }
    }

    fn value(&mut self, _depth: usize, value: JsonScalar<'_>) {
        match (self.member, value) {
            (BodyMember::OfUsage(member), value) => self.open.set(member, value),
            (BodyMember::Model, JsonScalar::String(_)) => self.name.end(),
            _ => {}
        }
        self.member = BodyMember::Other;
    }

    fn open(&mut self, depth: usize, bracket: Bracket) {
        match (self.member, bracket) {
            (BodyMember::Usage, Bracket::Object) => {
                self.open = UsageFields::NONE;
                self.open_depth = depth;
            }
            (BodyMember::Response, Bracket::Object) => self.response_depth = depth,
            (BodyMember::OfUsage(member), Bracket::Object) if depth == self.open_depth + 1 => {
                self.details = member;
                self.open.open(member);
            }
            _ => {}
        }
        self.member = BodyMember::Other;
    }

    fn close(&mut self, depth: usize) {
        if self.open_depth != 0 && depth == self.open_depth {
            self.end_usage();
        } else if self.open_depth != 0 && depth == self.open_depth + 1 {
            self.details = UsageMember::Other;
        }
        if depth == self.response_depth {
            self.response_depth = 0;
        }
        self.member = BodyMember::Other;
    }
}

#[cfg(test)]
mod tests;
