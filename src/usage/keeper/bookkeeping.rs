//! The course of things for the keeper's thread: what is read goes to the hour of now, and is kept until it is written.
//!
//! Invariant: a row leaves memory only when the writer has said that it is on disk. Without a clock and a disk of its
//! own, so that tests have theirs.

use std::time::SystemTime;

use super::additions::{Additions, UsageSource};
use super::pending::Pending;
use super::unwritten::UnwrittenCell;
use crate::usage::store::{StoreError, UsageRow};
use crate::usage::totals::UnixHour;

/// The task for the disk: rows to add, and the hour from which on old ones are to be deleted, if any are.
#[derive(Debug)]
pub struct Writing<'a> {
    pub rows: &'a [UsageRow],
    pub prune: Option<UnixHour>,
}

pub struct Bookkeeping<W> {
    additions: Additions,
    pending: Pending,
    write: W,
    /// The last try has failed, and has been told.
    is_failing: bool,
    /// The hour in which old rows were last deleted.
    pruned: Option<UnixHour>,
    unwritten: UnwrittenCell,
}

impl<W: FnMut(Writing<'_>) -> Result<(), StoreError>> Bookkeeping<W> {
    pub fn new(source: UsageSource, write: W, unwritten: UnwrittenCell) -> Self {
        Bookkeeping {
            additions: Additions::of(source),
            pending: Pending::default(),
            write,
            is_failing: false,
            pruned: None,
            unwritten,
        }
    }

    /// Reads the source.
    pub fn read(&mut self, now: SystemTime) {
        let hour = UnixHour::of(now);
        let mut has_more = false;
        self.additions.read(|of, added| {
            has_more = true;
            self.pending.add(hour, of, added);
        });
        if has_more {
            self.unwritten.show(self.pending.rows());
        }
    }

    /// Writes what there is, if there is anything, or old rows to delete: those are looked for once an hour, and at the
    /// start, where it shows too whether anything can be written.
    pub fn write(&mut self, now: SystemTime) {
        let hour = UnixHour::of(now);
        self.write_and_prune((self.pruned != Some(hour)).then_some(hour));
    }

    /// Writes what there is, at the end: the process waits for it, and old rows can wait for the next one.
    pub fn write_last(&mut self) {
        self.write_and_prune(None);
    }

    fn write_and_prune(&mut self, prune: Option<UnixHour>) {
        if self.pending.is_empty() && prune.is_none() && !self.is_failing {
            return;
        }
        let rows = self.pending.rows();
        self.unwritten.begin_write();
        let written = (self.write)(Writing { rows: &rows, prune });
        self.unwritten.end_write(if written.is_ok() { Vec::new() } else { rows });
        match written {
            Ok(()) => {
                self.pending.clear();
                self.pruned = prune.or(self.pruned);
                if std::mem::take(&mut self.is_failing) {
                    tracing::info!("usage is written again, with all that was counted meanwhile");
                }
            }
            Err(error) if !self.is_failing => {
                self.is_failing = true;
                tracing::warn!("usage is kept in memory alone, and written as soon as it can be: {error}");
            }
            Err(error) => tracing::debug!("usage still cannot be written: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::time::Duration;

    use super::*;
    use crate::usage::store::StoreFault;
    use crate::usage::totals::{UsageKey, UsageSums};

    /// The disk of a test: what was written, and whether anything can be.
    #[derive(Default)]
    struct Disk {
        rows: Vec<(u64, u64)>,
        pruned: Vec<u64>,
        tries: usize,
        is_full: bool,
    }

    fn counter() -> (Arc<AtomicU64>, UsageSource) {
        let requests = Arc::new(AtomicU64::new(0));
        let counted = requests.clone();
        let of = UsageKey { key: "k".into(), credential: "c".into(), model: "m".into() };
        let source: UsageSource = Box::new(move |entries| {
            let requests = counted.load(Ordering::Relaxed);
            entries.push((of.clone(), UsageSums { requests, ..UsageSums::default() }));
        });
        (requests, source)
    }

    fn onto(disk: &RefCell<Disk>) -> impl FnMut(Writing<'_>) -> Result<(), StoreError> {
        |writing| {
            let mut disk = disk.borrow_mut();
            disk.tries += 1;
            if disk.is_full {
                return Err(StoreError { path: "/p".into(), fault: StoreFault::NotAFile });
            }
            disk.rows.extend(writing.rows.iter().map(|row| (row.hour.0, row.sums.requests)));
            disk.pruned.extend(writing.prune.map(|hour| hour.0));
            Ok(())
        }
    }

    fn at(hour: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(3600 * hour + 1)
    }

    #[test]
    fn what_is_read_belongs_to_the_hour_of_then_and_is_written_once() {
        let (requests, source) = counter();
        let disk = RefCell::default();
        let mut bookkeeping = Bookkeeping::new(source, onto(&disk), UnwrittenCell::default());
        requests.store(2, Ordering::Relaxed);
        bookkeeping.read(at(5));
        requests.store(3, Ordering::Relaxed);
        bookkeeping.read(at(5));
        requests.store(7, Ordering::Relaxed);
        bookkeeping.read(at(6));
        bookkeeping.write(at(6));
        bookkeeping.write(at(6));
        assert_eq!(disk.borrow().rows, [(5, 3), (6, 4)]);
        assert_eq!((disk.borrow().tries, disk.borrow().pruned.as_slice()), (1, &[6][..]));
        bookkeeping.write(at(7));
        assert_eq!((disk.borrow().rows.len(), disk.borrow().pruned.as_slice()), (2, &[6, 7][..]));
    }

    #[test]
    fn what_cannot_be_written_is_kept_and_tried_again_until_it_can() {
        let (requests, source) = counter();
        let disk = RefCell::new(Disk { is_full: true, ..Disk::default() });
        let unwritten = UnwrittenCell::default();
        let mut bookkeeping = Bookkeeping::new(source, onto(&disk), unwritten.clone());
        for hour in 1..=3 {
            requests.fetch_add(hour, Ordering::Relaxed);
            bookkeeping.read(at(hour));
            bookkeeping.write(at(hour));
        }
        assert_eq!((disk.borrow().tries, disk.borrow().rows.len()), (3, 0));
        assert_eq!((unwritten.load().rows.len(), unwritten.load().writes), (3, 6));
        disk.borrow_mut().is_full = false;
        bookkeeping.write(at(3));
        bookkeeping.write(at(3));
        assert_eq!((disk.borrow().tries, disk.borrow().rows.as_slice()), (4, &[(1, 1), (2, 2), (3, 3)][..]));
        assert_eq!((unwritten.load().rows.len(), unwritten.load().writes), (0, 8));
    }

    #[test]
    fn a_clock_that_jumps_loses_nothing() {
        let (requests, source) = counter();
        let disk = RefCell::default();
        let mut bookkeeping = Bookkeeping::new(source, onto(&disk), UnwrittenCell::default());
        let ancient = SystemTime::UNIX_EPOCH - Duration::from_secs(1_000_000);
        for now in [at(500_000), ancient, at(9_000_000), at(500_000)] {
            requests.fetch_add(1, Ordering::Relaxed);
            bookkeeping.read(now);
            bookkeeping.write(now);
        }
        assert_eq!(disk.borrow().rows, [(500_000, 1), (0, 1), (9_000_000, 1), (500_000, 1)]);
    }
}
