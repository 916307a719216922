//! The rows of the file of totals, with what is not written yet.
//!
//! Read on a thread of its own, since a disk may hang and another gateway may be writing. Invariant: few threads at a
//! time, and no wait without a limit; a row is neither missing nor counted twice because it is written meanwhile.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::io::pause;
use crate::usage::keeper::{Unwritten, UnwrittenCell};
use crate::usage::store::{StoreError, UsageRow, UsageStore};
use crate::usage::totals::UnixHour;

/// Reads that are under way at a time, at most.
const READS_MAX: usize = 4;

/// The pause between two looks at whether a read is over.
const LOOK_PAUSE: Duration = Duration::from_millis(2);

/// Looks at a file that is being written, and the pause between two: a write takes milliseconds.
const LOOKS_MAX: usize = 20;
const WRITE_PAUSE: Duration = Duration::from_millis(20);

/// The file, and what is not in it yet.
#[derive(Debug)]
pub struct FileTotals {
    path: PathBuf,
    unwritten: UnwrittenCell,
    under_way: Arc<AtomicUsize>,
}

/// The rows of the file, and of what was not written when they were read.
#[derive(Debug)]
pub struct ReadTotals {
    pub rows: Vec<UsageRow>,
    pub unwritten: Arc<Unwritten>,
}

impl FileTotals {
    pub fn new(path: PathBuf, unwritten: UnwrittenCell) -> Self {
        FileTotals { path, unwritten, under_way: Arc::default() }
    }

    /// Returns what is not written yet.
    pub fn unwritten(&self) -> Arc<Unwritten> {
        self.unwritten.load()
    }

    /// Reads the rows from an hour on; `None` where that is not done in time, or fails: the log says why.
    pub async fn read(&self, since: UnixHour, limit: Duration) -> Option<ReadTotals> {
        let due = Instant::now() + limit;
        if self.under_way.fetch_add(1, Ordering::AcqRel) >= READS_MAX {
            self.under_way.fetch_sub(1, Ordering::AcqRel);
            return None;
        }
        let under_way = ReadUnderWay(self.under_way.clone());
        let (path, unwritten) = (self.path.clone(), self.unwritten.clone());
        let (sender, result) = sync_channel(1);
        let work = move || {
            let _under_way = under_way;
            let _ = sender.send(read(&path, &unwritten, since));
        };
        thread::Builder::new().name("flow-totals".into()).spawn(work).ok()?;
        loop {
            match result.try_recv() {
                Ok(Ok(totals)) => return Some(totals),
                Ok(Err(error)) => {
                    tracing::debug!("the totals of usage cannot be read: {error}");
                    return None;
                }
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) if Instant::now() >= due => return None,
                Err(TryRecvError::Empty) => pause(LOOK_PAUSE).await,
            }
        }
    }
}

/// A read that is under way until this is dropped.
struct ReadUnderWay(Arc<AtomicUsize>);

impl Drop for ReadUnderWay {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[expect(clippy::disallowed_methods, reason = "runs on a thread of its own")]
fn read(path: &std::path::Path, unwritten: &UnwrittenCell, since: UnixHour) -> Result<ReadTotals, StoreError> {
    let mut looks = 0;
    loop {
        let before = unwritten.load();
        let mut rows = Vec::new();
        UsageStore::open_existing(path)?.read(since, |row| rows.push(row))?;
        let after = unwritten.load();
        looks += 1;
        let was_still = before.writes.is_multiple_of(2) && before.writes == after.writes;
        if was_still || looks >= LOOKS_MAX {
            return Ok(ReadTotals { rows, unwritten: after });
        }
        thread::sleep(WRITE_PAUSE);
    }
}
