//! Removes members of a JSON object without touching any other byte of it.
//!
//! serde_json parses, and nothing is serialized again: the parts to remove are ranges of the text. Invariant: the rest
//! is an object with the other members, each as it was written, in their order. A member is removed together with the
//! comma and the white space between it and the next one; the last ones together with the text between them and the
//! member before; if none is left, the white space within the braces stays. Members of nested values are not
//! considered.

use std::fmt;
use std::ops::Range;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

/// Returns the ranges to cut out of `text` so that its object has no member `key`, in order; none if it has no such
/// member. Names are compared after their escapes are decoded (RFC 8259 §8.3), and all members of that name are cut.
///
/// `None`: the text is not one valid JSON object (RFC 8259).
pub fn cuts(text: &[u8], key: &str) -> Option<Vec<Range<usize>>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut json = serde_json::Deserializer::from_str(text);
    let cuts = json.deserialize_map(Members { text, key }).ok()?;
    json.end().ok()?;
    Some(cuts)
}

/// Removes these ranges from `text`; they are in order and do not overlap.
pub fn cut(text: &mut Vec<u8>, cuts: &[Range<usize>]) {
    let (mut kept, mut rest) = (0, 0);
    for Range { start, end } in cuts.iter().cloned() {
        text.copy_within(rest..start, kept);
        kept += start - rest;
        rest = end;
    }
    text.copy_within(rest.., kept);
    text.truncate(kept + text.len() - rest);
}

/// Finds the members with the name `key`.
struct Members<'a> {
    text: &'a str,
    key: &'a str,
}

impl<'a> Visitor<'a> for Members<'a> {
    type Value = Vec<Range<usize>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        let mut cuts = Vec::new();
        // The start of the members to cut that no other member has followed yet.
        let mut going = None;
        let mut kept_end = None;
        let mut end = 0;
        while let Some((name, value)) = members.next_entry::<&'a RawValue, &'a RawValue>()? {
            let start = self.range(name).start;
            end = self.range(value).end;
            if is_named(name.get(), self.key) {
                going.get_or_insert(start);
                continue;
            }
            cuts.extend(going.take().map(|going| going..start));
            kept_end = Some(end);
        }
        cuts.extend(going.map(|going| kept_end.unwrap_or(going)..end));
        Ok(cuts)
    }
}

impl Members<'_> {
    /// Returns the range of the text that this part of it takes up.
    fn range(&self, part: &RawValue) -> Range<usize> {
        let start = part.get().as_ptr().addr() - self.text.as_ptr().addr();
        start..start + part.get().len()
    }
}

/// Returns whether `name`, as it is written with its quotes, decodes to `key`.
fn is_named(name: &str, key: &str) -> bool {
    if !name.contains('\\') {
        return name.strip_prefix('"').and_then(|name| name.strip_suffix('"')) == Some(key);
    }
    // A name with an unpaired surrogate is valid JSON and not a string (RFC 8259 §8.2): it does not equal `key`.
    serde_json::from_str::<String>(name).is_ok_and(|name| name == key)
}

#[cfg(test)]
mod tests;
