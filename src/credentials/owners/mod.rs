//! The owners of stored objects: which identity made a response, a file, a batch and so on, so that only it can find
//! it.
//!
//! Responses, of which there are many for a day, have a `table` of their own beside that of the rest, which is kept for
//! a month. Invariant: ids and identities are kept as digests alone; what is known outlives a reload, since an identity
//! is known by what it is and not by its place in the file. Not here: where ids stand in requests and answers.

mod key;
mod record;
mod table;

use std::time::{Duration, Instant};

use self::table::{OwnerTable, ticks};

pub use key::{ObjectKey, OwnerKey, Shelf};
pub use record::OwnerRecord;

/// The time since its last use for which the owner of a response is kept: longer than conversations pause.
const RESPONSES_LIFE: Duration = Duration::from_secs(24 * 3600);
/// The same for all other objects: as long as upstreams keep files by default.
const OTHERS_LIFE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The owners of all stored objects that are known, shared by all shards.
#[derive(Debug)]
pub struct Owners {
    began: Instant,
    responses: OwnerTable,
    others: OwnerTable,
}

impl Default for Owners {
    fn default() -> Self {
        Owners {
            began: Instant::now(),
            responses: OwnerTable::new(RESPONSES_LIFE),
            others: OwnerTable::new(OTHERS_LIFE),
        }
    }
}

impl Owners {
    /// Returns whether an owner is known of any object. Costs two loads.
    pub fn has_entries(&self) -> bool {
        self.has_entries_of(Shelf::Responses) || self.has_entries_of(Shelf::Others)
    }

    /// Returns the number of objects in a table; those whose time is over count until others take their places.
    pub fn count(&self, shelf: Shelf) -> usize {
        self.table(shelf).count()
    }

    pub fn has_entries_of(&self, shelf: Shelf) -> bool {
        self.count(shelf) > 0
    }

    /// Returns the owner of an object, which counts as a use of it.
    pub fn find(&self, shelf: Shelf, object: ObjectKey, now: Instant) -> Option<OwnerKey> {
        self.table(shelf).find(object, self.tick(now))
    }

    /// Keeps the owner of an object, in the place of the one that was used longest ago where the table is full.
    pub fn note(&self, shelf: Shelf, object: ObjectKey, owner: OwnerKey, now: Instant) {
        self.table(shelf).note(object, owner, self.tick(now));
    }

    /// Forgets an object, which was deleted.
    pub fn forget(&self, shelf: Shelf, object: ObjectKey) {
        self.table(shelf).forget(object);
    }

    /// Lists all that is known.
    pub fn records(&self, now: Instant) -> Vec<OwnerRecord> {
        let tick = self.tick(now);
        [Shelf::Responses, Shelf::Others]
            .into_iter()
            .flat_map(|shelf| {
                self.table(shelf).entries(tick).map(move |entry| OwnerRecord {
                    shelf,
                    object: entry.object,
                    owner: entry.owner,
                    age: tick.saturating_sub(entry.used),
                })
            })
            .collect()
    }

    /// Keeps what another process knew.
    pub fn adopt(&self, record: OwnerRecord, now: Instant) {
        let OwnerRecord { shelf, object, owner, age } = record;
        self.table(shelf).note(object, owner, self.tick(now).saturating_sub(age));
    }

    fn table(&self, shelf: Shelf) -> &OwnerTable {
        match shelf {
            Shelf::Responses => &self.responses,
            Shelf::Others => &self.others,
        }
    }

    /// Returns the time by a clock that was started longer ago than anything lives: what was handed over may have been
    /// used before this process began.
    fn tick(&self, now: Instant) -> u32 {
        ticks(OTHERS_LIFE + now.saturating_duration_since(self.began))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_is_handed_over_is_known_to_the_other_with_its_age() {
        let (before, after) = (Owners::default(), Owners::default());
        let owners = [("a", "s", "t"), ("a", "s", "u")].map(OwnerKey::of);
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let [response, file] = [&b"resp_1"[..], b"file-1"].map(ObjectKey::of);
        before.note(Shelf::Responses, response, owners[0], now);
        before.note(Shelf::Others, file, owners[1], now);
        let records = before.records(now + 23 * hour);
        assert_eq!(records.len(), 2);
        for record in records {
            let read = OwnerRecord::of_bytes(&record.to_bytes());
            assert_eq!(read, Some(record));
            after.adopt(record, now);
        }
        assert_eq!(after.find(Shelf::Others, response, now), None);
        assert_eq!(after.find(Shelf::Others, file, now + 30 * hour), Some(owners[1]));
        assert_eq!(after.find(Shelf::Responses, response, now + 2 * hour), None, "a day after its use");
        assert_eq!(before.records(now + 25 * hour).len(), 1);
    }
}
