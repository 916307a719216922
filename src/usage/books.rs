//! The usage that the shards have counted since the start of the process, by key, credential and model.
//!
//! A shard alone writes its rows, with plain loads and stores; the thread that keeps the totals and the admin thread
//! read them all. Invariant: a row stays where it is and its sums never fall, so nothing is locked and nothing is lost
//! between two looks; the number of rows is bounded.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use crate::usage::gen_ai::GenAiShard;
use crate::usage::models::{ModelId, ModelNames};
use crate::usage::totals::{COUNTS, UsageKey, UsageSums};

/// Rows that are allocated at a time, on a shard.
const PAGE_ROWS: usize = 256;
const PAGES_MAX: usize = 32;

/// The most rows of a shard: enough for a team's keys with some models each. Of any more only the key is told, and at
/// last nothing.
pub const ROWS_MAX: usize = PAGE_ROWS * PAGES_MAX;

/// The rows with all three names; those after them have the key's alone.
const NAMED_ROWS_MAX: usize = ROWS_MAX / 4 * 3;
const LAST_ROW: usize = ROWS_MAX - 1;

/// The usage of one key, credential and model on one shard.
#[derive(Debug)]
pub struct BookRow {
    key: UsageKey,
    cells: CachePadded<[AtomicU64; COUNTS]>,
}

impl BookRow {
    fn new(key: UsageKey) -> Arc<Self> {
        Arc::new(BookRow { key, cells: CachePadded::default() })
    }

    pub fn key(&self) -> &UsageKey {
        &self.key
    }

    /// Only for the shard that owns this.
    pub fn add(&self, sums: &UsageSums) {
        for (cell, amount) in self.cells.iter().zip(sums.counts()).filter(|(_, amount)| *amount != 0) {
            cell.store(cell.load(Ordering::Relaxed).saturating_add(amount), Ordering::Relaxed);
        }
    }

    pub fn sums(&self) -> UsageSums {
        UsageSums::of_counts(std::array::from_fn(|place| self.cells[place].load(Ordering::Relaxed)))
    }
}

/// The usage that all shards have counted.
#[derive(Debug)]
pub struct UsageBooks {
    models: ModelNames,
    shards: Box<[UsagePages]>,
    /// One for each shard, where they are asked for.
    gen_ai: Option<Box<[GenAiShard]>>,
}

type RowPage = [OnceLock<Arc<BookRow>>; PAGE_ROWS];

/// The rows of one shard, filled from the first on.
#[derive(Debug)]
struct UsagePages([OnceLock<Box<RowPage>>; PAGES_MAX]);

impl UsageBooks {
    pub fn new(shards: usize, has_gen_ai: bool) -> Arc<Self> {
        let pages = || UsagePages([const { OnceLock::new() }; PAGES_MAX]);
        Arc::new(UsageBooks {
            models: ModelNames::default(),
            shards: (0..shards).map(|_| pages()).collect(),
            gen_ai: has_gen_ai.then(|| (0..shards).map(|_| GenAiShard::default()).collect()),
        })
    }

    /// Returns what is counted by the names of OpenTelemetry, on each shard; `None` where that is not asked for.
    pub fn gen_ai(&self) -> Option<&[GenAiShard]> {
        self.gen_ai.as_deref()
    }

    /// Calls `take` with each row of each shard: several may have the same key.
    pub fn read(&self, mut take: impl FnMut(&BookRow)) {
        for UsagePages(pages) in &self.shards {
            let rows = pages.iter().map_while(OnceLock::get).flat_map(|page| page.iter().map_while(OnceLock::get));
            rows.for_each(|row| take(row));
        }
    }

    pub fn models(&self) -> &ModelNames {
        &self.models
    }
}

/// The place where one shard counts.
#[derive(Debug)]
pub struct UsageBook {
    shard: usize,
    books: Arc<UsageBooks>,
    /// The rows by their keys.
    rows: RefCell<HashMap<UsageKey, Arc<BookRow>>>,
}

impl UsageBook {
    /// Only one for each shard.
    pub fn new(books: Arc<UsageBooks>, shard: usize) -> Self {
        UsageBook { shard, books, rows: RefCell::default() }
    }

    pub fn models(&self) -> &ModelNames {
        &self.books.models
    }

    /// Returns where answers are counted by the names of OpenTelemetry, if that is asked for.
    pub fn gen_ai(&self) -> Option<&GenAiShard> {
        Some(&self.books.gen_ai()?[self.shard])
    }

    /// Returns the row of these names. A new one is allocated.
    pub fn row(&self, key: &str, credential: &str, model: ModelId) -> Arc<BookRow> {
        let model = self.models().name(model).clone();
        let key = UsageKey { key: Arc::from(key), credential: Arc::from(credential), model };
        let mut rows = self.rows.borrow_mut();
        if let Some(row) = rows.get(&key) {
            return row.clone();
        }
        let place = rows.len();
        let key = match place {
            0..NAMED_ROWS_MAX => key,
            // Whose it is is known for longer: limits depend on it.
            NAMED_ROWS_MAX..LAST_ROW => UsageKey { key: key.key, ..UsageKey::none() },
            // That of all that follow.
            _ => UsageKey::none(),
        };
        let row = rows.entry(key).or_insert_with_key(|key| self.open(place, BookRow::new(key.clone())));
        row.clone()
    }

    /// Shows a new row to those who read.
    fn open(&self, place: usize, row: Arc<BookRow>) -> Arc<BookRow> {
        let page = self.books.shards[self.shard].0[place / PAGE_ROWS]
            .get_or_init(|| Box::new([const { OnceLock::new() }; PAGE_ROWS]));
        page[place % PAGE_ROWS].get_or_init(|| row).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums(number: u64) -> UsageSums {
        UsageSums::of_counts(std::array::from_fn(|place| number + place as u64))
    }

    fn total(books: &UsageBooks) -> UsageSums {
        let mut total = UsageSums::default();
        books.read(|row| total += row.sums());
        total
    }

    #[test]
    fn a_row_adds_up_each_amount_in_its_place() {
        let book = UsageBook::new(UsageBooks::new(1, false), 0);
        let row = book.row("key", "credential", ModelId::NONE);
        row.add(&sums(100));
        assert_eq!(row.sums(), sums(100));
        row.add(&sums(1));
        let mut expected = sums(100);
        expected += sums(1);
        assert_eq!(book.row("key", "credential", ModelId::NONE).sums(), expected);
    }

    #[test]
    fn shards_have_rows_of_their_own_and_are_read_together() {
        let books = UsageBooks::new(2, false);
        for shard in [0, 1] {
            let book = UsageBook::new(books.clone(), shard);
            let model = book.models().id("model");
            book.row("key", "credential", model).add(&sums(7));
        }
        let mut keys = Vec::new();
        books.read(|row| keys.push(row.key().clone()));
        assert_eq!(keys.len(), 2);
        assert!(keys.iter().all(|key| &*key.model == "model" && &*key.key == "key"));
        assert_eq!(total(&books).requests, 14);
    }

    #[test]
    fn rows_are_bounded_and_nothing_is_lost() {
        let books = UsageBooks::new(1, false);
        let book = UsageBook::new(books.clone(), 0);
        let one = UsageSums { requests: 1, ..UsageSums::default() };
        let count = ROWS_MAX as u64 + 1_000;
        (0..count).for_each(|number| book.row(&number.to_string(), "c", ModelId::NONE).add(&one));
        let of_late_key = |key: &UsageKey| &*key.key == "7000" && key.credential.is_empty();
        let mut late_keys = 0;
        books.read(|row| late_keys += usize::from(of_late_key(row.key())));
        assert_eq!(late_keys, 1);
        let mut rows = 0;
        books.read(|_| rows += 1);
        assert_eq!((rows, total(&books).requests), (ROWS_MAX, count));
    }
}
