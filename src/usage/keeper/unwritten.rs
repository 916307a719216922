//! The usage that is not in the file yet, for who reads the file: both together are all there is.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::usage::store::UsageRow;

/// The rows that are not in the file, and how often it was written.
#[derive(Debug, Default)]
pub struct Unwritten {
    /// Odd while it is being written: then the rows may be in the file already.
    pub writes: u64,
    pub rows: Vec<UsageRow>,
}

/// The place where the keeper shows them.
#[derive(Debug, Clone, Default)]
pub struct UnwrittenCell(Arc<ArcSwap<Unwritten>>);

impl UnwrittenCell {
    pub fn load(&self) -> Arc<Unwritten> {
        self.0.load_full()
    }

    /// Shows other rows, between two writes.
    pub fn show(&self, rows: Vec<UsageRow>) {
        self.0.store(Arc::new(Unwritten { writes: self.load().writes, rows }));
    }

    /// Notes that a write begins, with the rows that were shown before.
    pub fn begin_write(&self) {
        let before = self.load();
        self.0.store(Arc::new(Unwritten { writes: before.writes | 1, rows: before.rows.clone() }));
    }

    /// Notes that it has ended, with the rows that are left.
    pub fn end_write(&self, rows: Vec<UsageRow>) {
        self.0.store(Arc::new(Unwritten { writes: (self.load().writes | 1) + 1, rows }));
    }
}
