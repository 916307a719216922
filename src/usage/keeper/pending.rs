//! The usage that is not on disk yet, by hour, key, credential and model.
//!
//! Invariant: bounded. Where there are too many rows, what would be one more counts as of the model `other`, and at
//! last as of no key and no credential either: then it grows by a row an hour, and no count is lost.

use std::collections::BTreeMap;

use crate::usage::store::UsageRow;
use crate::usage::totals::{UnixHour, UsageKey, UsageSums};

/// The rows that are told apart. With 200 models, 10 credentials and 5 keys in use at a time that is one hour; more are
/// only there at once where nothing can be written.
const ROWS_MAX: usize = 10_000;
/// The further rows, by key and credential alone.
const MERGED_ROWS_MAX: usize = 2_000;
/// The model that stands for those that are not told apart.
const OTHER: &str = "other";

#[derive(Debug)]
pub struct Pending {
    rows: BTreeMap<(UnixHour, UsageKey), UsageSums>,
    rows_max: usize,
    merged_rows_max: usize,
}

impl Default for Pending {
    fn default() -> Self {
        Pending { rows: BTreeMap::new(), rows_max: ROWS_MAX, merged_rows_max: MERGED_ROWS_MAX }
    }
}

impl Pending {
    /// Adds usage of an hour.
    pub fn add(&mut self, hour: UnixHour, of: &UsageKey, sums: UsageSums) {
        let place = self.place(hour, of);
        *self.rows.entry(place).or_default() += sums;
    }

    fn place(&self, hour: UnixHour, of: &UsageKey) -> (UnixHour, UsageKey) {
        let exact = (hour, of.clone());
        if self.rows.len() < self.rows_max || self.rows.contains_key(&exact) {
            return exact;
        }
        let merged = (hour, UsageKey { model: OTHER.into(), ..of.clone() });
        if self.rows.len() < self.rows_max + self.merged_rows_max || self.rows.contains_key(&merged) {
            return merged;
        }
        (hour, UsageKey { key: "".into(), credential: "".into(), model: OTHER.into() })
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn rows(&self) -> Vec<UsageRow> {
        self.rows.iter().map(|((hour, of), sums)| UsageRow { hour: *hour, of: of.clone(), sums: *sums }).collect()
    }

    /// Forgets all of it, once it is on disk.
    pub fn clear(&mut self) {
        self.rows.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beyond_the_limits_models_are_merged_and_then_keys_and_nothing_is_lost() {
        let mut pending = Pending { rows_max: 3, merged_rows_max: 2, ..Pending::default() };
        let one = UsageSums { requests: 1, ..UsageSums::default() };
        let of = |key: usize, model: usize| UsageKey {
            key: format!("k{key}").into(),
            credential: "c".into(),
            model: format!("m{model}").into(),
        };
        for hour in 0..2 {
            for key in 0..4 {
                (0..5).for_each(|model| pending.add(UnixHour(hour), &of(key, model), one));
            }
        }
        let told = |row: UsageRow| (row.hour.0, row.of.key.to_string(), row.of.model.to_string(), row.sums.requests);
        let rows: Vec<_> = pending.rows().into_iter().map(told).collect();
        let row = |hour, key: &str, model: &str, requests| (hour, key.to_owned(), model.to_owned(), requests);
        assert_eq!(
            rows,
            [
                row(0, "", "other", 10),
                row(0, "k0", "m0", 1),
                row(0, "k0", "m1", 1),
                row(0, "k0", "m2", 1),
                row(0, "k0", "other", 2),
                row(0, "k1", "other", 5),
                row(1, "", "other", 20),
            ]
        );
    }
}
