//! The usage that was added to cumulative sums since they were last read.

use std::collections::HashMap;

use crate::usage::totals::{UsageKey, UsageSums};

/// Fills in the sums of all that was counted since the process began. Several entries may have the same key, as those of
/// several shards have. Invariant: the sums of a key never become less.
pub type UsageSource = Box<dyn FnMut(&mut Vec<(UsageKey, UsageSums)>) + Send>;

/// A source, and the sums that it had when it was last read.
pub struct Additions {
    source: UsageSource,
    entries: Vec<(UsageKey, UsageSums)>,
    sums: HashMap<UsageKey, UsageSums>,
    seen: HashMap<UsageKey, UsageSums>,
}

impl Additions {
    /// Returns a reader for which all that the source has is new.
    pub fn of(source: UsageSource) -> Self {
        Additions { source, entries: Vec::new(), sums: HashMap::new(), seen: HashMap::new() }
    }

    /// Reads the source, and calls `each` with what was added to each key. Sums that became less, against the invariant,
    /// count from there on.
    pub fn read(&mut self, mut each: impl FnMut(&UsageKey, UsageSums)) {
        self.entries.clear();
        (self.source)(&mut self.entries);
        self.sums.clear();
        for (of, sums) in self.entries.drain(..) {
            *self.sums.entry(of).or_default() += sums;
        }
        for (of, sums) in self.sums.drain() {
            let seen = self.seen.get(&of).copied().unwrap_or_default();
            if sums == seen {
                continue;
            }
            if let Some(added) = sums.since(&seen) {
                each(&of, added);
            }
            self.seen.insert(of, sums);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[test]
    fn the_entries_of_a_key_are_one_sum_and_only_what_is_new_counts() {
        let entries = Arc::new(Mutex::new(Vec::new()));
        let shown = entries.clone();
        let mut additions = Additions::of(Box::new(move |all| all.extend_from_slice(&shown.lock().expect("no panic"))));
        for (counted, expected) in [
            (&[][..], &[][..]),
            (&[("a", 3), ("b", 1), ("a", 4)], &[("a", 7), ("b", 1)]),
            (&[("a", 3), ("b", 1), ("a", 4)], &[]),
            (&[("a", 4), ("b", 1), ("a", 5)], &[("a", 2)]),
            // A key that is left out for once is not new when it comes back.
            (&[("b", 2)], &[("b", 1)]),
            (&[("a", 10), ("b", 2)], &[("a", 1)]),
            (&[("a", 1)], &[]),
            (&[("a", 2)], &[("a", 1)]),
        ] {
            let entry = |(model, requests): &(&str, u64)| {
                let of = UsageKey { key: "".into(), credential: "".into(), model: (*model).into() };
                (of, UsageSums { requests: *requests, ..UsageSums::default() })
            };
            *entries.lock().expect("no panic") = counted.iter().map(entry).collect();
            let mut added = Vec::new();
            additions.read(|of, sums| added.push((of.model.to_string(), sums.requests)));
            added.sort();
            let expected: Vec<_> = expected.iter().map(|(model, count)| ((*model).to_owned(), *count)).collect();
            assert_eq!(added, expected, "{counted:?}");
        }
    }
}
