//! The members of a JSON object with their places in its text: read by serde_json, which alone says where a value ends.

use std::fmt;
use std::ops::Range;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A member as it is written.
#[derive(Debug, Clone, Copy)]
pub struct Member<'a> {
    /// With its quotes.
    pub name: &'a str,
    pub value: &'a str,
}

impl<'a> Member<'a> {
    /// The name without its escapes; `None` of one with half of a pair of surrogates, which is no text.
    pub fn decoded_name(&self) -> Option<String> {
        serde_json::from_str(self.name).ok()
    }

    /// The value without its escapes, if it is a string that is a text.
    pub fn text(&self) -> Option<String> {
        serde_json::from_str(self.value).ok()
    }

    /// The value between its quotes, if it is a string.
    pub fn written_text(&self) -> Option<&'a str> {
        self.value.strip_prefix('"').and_then(|value| value.strip_suffix('"'))
    }

    /// The members of its value, if that is an object.
    pub fn members(&self) -> Option<Vec<Member<'a>>> {
        members(self.value)
    }

    /// Its place in `text`, which it was read from: from the quote of its name to the end of its value.
    pub fn place(&self, text: &str) -> Range<usize> {
        let start = self.name.as_ptr() as usize - text.as_ptr() as usize;
        let value = self.value.as_ptr() as usize - text.as_ptr() as usize;
        start..value + self.value.len()
    }
}

/// Tells whether a text is one JSON object, whatever its strings and numbers stand for.
pub fn is_object(text: &[u8]) -> bool {
    let begins = text.iter().find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r')) == Some(&b'{');
    begins && std::str::from_utf8(text).is_ok() && serde_json::from_slice::<IgnoredAny>(text).is_ok()
}

/// The members of an object in their order; `None` of another text.
pub fn members(text: &str) -> Option<Vec<Member<'_>>> {
    is_object(text.as_bytes()).then(|| serde_json::from_str::<Members<'_>>(text).expect("it was read once").0)
}

struct Members<'a>(Vec<Member<'a>>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((name, value)) = access.next_entry::<&RawValue, &RawValue>()? {
            members.push(Member { name: name.get(), value: value.get() });
        }
        Ok(Members(members))
    }
}

/// A reason, and whether a text has it.
pub type UnreadReason = (&'static str, fn(&str) -> bool);

/// Reasons why serde_json reads no values from a text that is one object. Each is argued; there are no others.
pub const UNREAD: [UnreadReason; 3] = [
    // The grammar alone has no limit on nesting (RFC 8259 §9 lets a parser set one; that of serde_json is 128).
    ("it is nested too deeply", |text| depth(text) > 127),
    // RFC 8259 §8.2: the grammar allows halves of pairs, and no text can hold one.
    ("a string has half of a pair of surrogates", |text| text.to_ascii_lowercase().contains("\\ud")),
    // RFC 8259 §6 lets a parser set limits on numbers; that of serde_json is that of a double.
    ("a number is too large for a double", has_large_number),
];

fn has_large_number(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let has_large_exponent = |(at, _): (usize, &str)| {
        digits(text[at + 1..].trim_start_matches(['+', '0'])) >= 3 || digits(&text[at + 1..]) >= 3
    };
    text.match_indices(['e', 'E']).any(has_large_exponent)
        || text.split(|letter: char| !letter.is_ascii_digit()).any(|run| run.len() >= 300)
}

/// The members of an object, and of the objects that are its members, whose values are strings: the name of the member
/// that one is within, its own name, and its value. Those whose names or values are longer than is told are left out.
pub fn told_strings(
    text: &str,
    name_bytes_max: usize,
    value_bytes_max: usize,
) -> Vec<(Option<String>, String, String)> {
    let name = |member: &Member<'_>| {
        let is_kept = member.name.len() - 2 <= value_bytes_max;
        member.decoded_name().filter(|name| is_kept && name.len() <= name_bytes_max)
    };
    let value = |member: &Member<'_>| member.text().filter(|_| member.value.len() - 2 <= value_bytes_max);
    let mut told = Vec::new();
    for outer in members(text).unwrap_or_default() {
        let Some(outer_name) = name(&outer) else { continue };
        if let Some(value) = value(&outer) {
            told.push((None, outer_name, value));
            continue;
        }
        for inner in outer.members().unwrap_or_default() {
            if let (Some(inner_name), Some(value)) = (name(&inner), value(&inner)) {
                told.push((Some(outer_name.clone()), inner_name, value));
            }
        }
    }
    told
}

/// The brackets that are open at once, at most, outside of strings.
pub fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut is_escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => depth += 1,
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}
