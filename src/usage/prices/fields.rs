//! The fields of a JSON object, of which each value is read when it is asked for.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// Limit on the fields of an object that are kept, so on the entries of a file of prices: LiteLLM's own has 5,000.
pub const FIELDS_MAX: usize = 50_000;

/// The fields of an object in their order, borrowed from its text.
pub struct Fields<'a> {
    pub fields: Vec<(Cow<'a, str>, &'a RawValue)>,
    /// There are more than [`FIELDS_MAX`], which are left out.
    pub is_cut: bool,
}

impl<'a> Fields<'a> {
    /// Returns the value of a field, of several the last one, as Python reads it.
    pub fn value(&self, name: &str) -> Option<&'a RawValue> {
        self.fields.iter().rev().find(|(field, _)| field == name).map(|(_, value)| *value)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(FieldsVisitor)
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while fields.len() < FIELDS_MAX {
            match map.next_entry::<BorrowedFieldName<'de>, &'de RawValue>()? {
                Some((BorrowedFieldName(name), value)) => fields.push((name, value)),
                None => return Ok(Fields { fields, is_cut: false }),
            }
        }
        let is_cut = map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some();
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Fields { fields, is_cut })
    }
}

/// A name that is copied only if it is written with escapes.
#[derive(Deserialize)]
struct BorrowedFieldName<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_field_that_is_there_twice_the_last_one_counts() {
        let text = r#"{"a":1,"\u0062":[2],"a":{"c":3}}"#;
        let fields: Fields<'_> = serde_json::from_str(text).expect("an object");
        let value = |name| fields.value(name).map(RawValue::get);
        assert_eq!([value("a"), value("b"), value("c")], [Some(r#"{"c":3}"#), Some("[2]"), None]);
        assert!(["[]", "1", "{", "{\"a\":}"].into_iter().all(|text| serde_json::from_str::<Fields<'_>>(text).is_err()));
    }

    #[test]
    fn no_more_fields_than_the_limit_are_kept() {
        for (count, is_cut) in [(FIELDS_MAX, false), (FIELDS_MAX + 1, true), (FIELDS_MAX + 2, true)] {
            let text = format!("{{{}}}", vec!["\"a\":1"; count].join(","));
            let fields: Fields<'_> = serde_json::from_str(&text).expect("an object");
            assert_eq!((fields.fields.len(), fields.is_cut), (FIELDS_MAX, is_cut));
        }
    }
}
