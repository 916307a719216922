//! One bounded table of owners, which all shards read and write without waiting for each other.
//!
//! An object's key gives the one set of [`WAYS`] places that it can be in, and a set is searched through. A place is
//! written by the thread that has claimed it; one that loses a claim looks for another place. Invariant: what is read
//! of a place belongs to the key that was asked for: its key is looked at again after its owner, and is taken out
//! before the owner changes. A lookup that meets a change finds nothing, as if it had come before.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use super::key::{ObjectKey, OwnerKey};

/// Sets of a table. Keys are digests, so they spread evenly.
const SETS: usize = 64;
/// Places of a set: with so many, hardly an entry goes before all 16,384 places are taken, and a search reads 2 KiB.
const WAYS: usize = 256;
/// Places that one call tries to claim. Each attempt but the first means that another thread was faster; an entry that
/// is not kept is found by asking.
const CLAIMS_MAX: usize = 4;

/// The key of a place that holds nothing, and of one that is being written.
const FREE: u64 = 0;
const CLAIMED: u64 = u64::MAX;

/// Owners by the keys of objects.
#[derive(Debug)]
pub(super) struct OwnerTable {
    life: u32,
    /// None until something is kept: a gateway that never sees an object has no memory for them.
    sets: OnceLock<Box<[Set]>>,
    count: AtomicUsize,
}

#[derive(Debug)]
struct Set {
    keys: [AtomicU64; WAYS],
    owners: [AtomicU64; WAYS],
    /// The tick of the last use.
    used: [AtomicU32; WAYS],
}

/// One object with its owner, as a table holds it.
pub(super) struct KeptOwner {
    pub object: ObjectKey,
    pub owner: OwnerKey,
    pub used: u32,
}

impl OwnerTable {
    pub fn new(life: Duration) -> Self {
        OwnerTable { life: ticks(life), sets: OnceLock::new(), count: AtomicUsize::new(0) }
    }

    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Returns the owner of `object`, and notes that it was used.
    pub fn find(&self, object: ObjectKey, tick: u32) -> Option<OwnerKey> {
        let set = self.set(object)?;
        let way = set.way_of(object)?;
        if tick.saturating_sub(set.used[way].load(Ordering::Relaxed)) >= self.life {
            return None;
        }
        let owner = set.owners[way].load(Ordering::Acquire);
        // It may have become another object's place meanwhile.
        if set.keys[way].load(Ordering::Relaxed) != object.0 {
            return None;
        }
        set.touch(way, tick);
        Some(OwnerKey(owner))
    }

    /// Keeps the owner of `object`, which was last used at `tick`.
    pub fn note(&self, object: ObjectKey, owner: OwnerKey, tick: u32) {
        let sets = self.sets.get_or_init(|| (0..SETS).map(|_| Set::new()).collect());
        let set = &sets[set_index(object)];
        for _ in 0..CLAIMS_MAX {
            let known = set.way_of(object);
            if let Some(way) = known
                && set.owners[way].load(Ordering::Acquire) == owner.0
                && set.keys[way].load(Ordering::Relaxed) == object.0
            {
                return set.touch(way, tick);
            }
            let Some((way, before)) = known.map(|way| (way, object.0)).or_else(|| set.oldest()) else { return };
            if !set.claim(way, before) {
                continue;
            }
            set.owners[way].store(owner.0, Ordering::Release);
            set.used[way].store(tick, Ordering::Relaxed);
            // Before it can be found: who forgets it takes it off the count.
            if before == FREE {
                self.count.fetch_add(1, Ordering::Relaxed);
            }
            set.keys[way].store(object.0, Ordering::Release);
            return;
        }
    }

    pub fn forget(&self, object: ObjectKey) {
        let Some(set) = self.set(object) else { return };
        for key in &set.keys {
            let was_there = key.load(Ordering::Relaxed) == object.0
                && key.compare_exchange(object.0, FREE, Ordering::AcqRel, Ordering::Relaxed).is_ok();
            if was_there {
                self.count.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }

    /// Returns what is known, in no order. Entries that change meanwhile may be missing.
    pub fn entries(&self, tick: u32) -> impl Iterator<Item = KeptOwner> {
        let sets = self.sets.get().map_or(&[][..], |sets| &sets[..]);
        let ways = sets.iter().flat_map(|set| (0..WAYS).filter_map(|way| set.entry(way)));
        ways.filter(move |entry| tick.saturating_sub(entry.used) < self.life)
    }

    fn set(&self, object: ObjectKey) -> Option<&Set> {
        self.sets.get().map(|sets| &sets[set_index(object)])
    }
}

/// Returns a time in the unit of the tables, 64 ms: fine enough to tell what came first, and 32 bits last for 8 years.
pub(super) fn ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / 64).unwrap_or(u32::MAX)
}

fn set_index(object: ObjectKey) -> usize {
    (object.0 % SETS as u64) as usize
}

impl Set {
    fn new() -> Self {
        Set {
            keys: [const { AtomicU64::new(FREE) }; WAYS],
            owners: [const { AtomicU64::new(0) }; WAYS],
            used: [const { AtomicU32::new(0) }; WAYS],
        }
    }

    fn way_of(&self, object: ObjectKey) -> Option<usize> {
        self.keys.iter().position(|key| key.load(Ordering::Acquire) == object.0)
    }

    /// Returns a free place, or the one that was used longest ago, with its key.
    fn oldest(&self) -> Option<(usize, u64)> {
        let keys = self.keys.iter().map(|key| key.load(Ordering::Relaxed)).enumerate();
        keys.filter(|(_, key)| *key != CLAIMED)
            .min_by_key(|(way, key)| if *key == FREE { None } else { Some(self.used[*way].load(Ordering::Relaxed)) })
    }

    fn claim(&self, way: usize, before: u64) -> bool {
        self.keys[way].compare_exchange(before, CLAIMED, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Writes the tick of the last use, once a tick.
    fn touch(&self, way: usize, tick: u32) {
        if self.used[way].load(Ordering::Relaxed) < tick {
            self.used[way].store(tick, Ordering::Relaxed);
        }
    }

    fn entry(&self, way: usize) -> Option<KeptOwner> {
        let key = self.keys[way].load(Ordering::Acquire);
        let owner = self.owners[way].load(Ordering::Acquire);
        let used = self.used[way].load(Ordering::Relaxed);
        let is_stable = !matches!(key, FREE | CLAIMED) && self.keys[way].load(Ordering::Relaxed) == key;
        is_stable.then_some(KeptOwner { object: ObjectKey(key), owner: OwnerKey(owner), used })
    }
}

#[cfg(test)]
mod tests;
