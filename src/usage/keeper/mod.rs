//! The keeper of totals: a thread of its own that reads what the process counts, and writes it to the file.
//!
//! It reads about once a second and writes once a minute and at the end; so a process that is killed loses a minute at
//! most. The file is opened for each write and closed again: one that was moved away, put back or mounted anew
//! meanwhile is found, and none is kept open that is gone. Invariant: the process waits for it only in
//! [`UsageKeeper::finish`], and there for a limited time.

mod additions;
mod bookkeeping;
mod pending;
mod unwritten;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use self::bookkeeping::{Bookkeeping, Writing};
use super::store::{StoreError, UsageStore, place};

pub use additions::UsageSource;
pub use unwritten::{Unwritten, UnwrittenCell};

/// So that little of what is counted at the end of an hour is taken for the next.
const READ_INTERVAL: Duration = Duration::from_secs(1);
/// The most that a crash costs.
const WRITE_INTERVAL: Duration = Duration::from_secs(60);

/// The handle to the thread. Dropped, it lets the thread write once more, without waiting for that.
pub struct UsageKeeper {
    /// Its end tells the thread to end.
    running: Sender<()>,
    /// Its end tells that the thread has ended.
    ended: Receiver<()>,
}

impl UsageKeeper {
    /// Starts the thread, which writes what `source` counts to the file, and shows in `unwritten` what is not there yet.
    ///
    /// # Errors
    /// There can be no thread. That the file cannot be written is told in the log.
    pub fn start(path: PathBuf, source: UsageSource, unwritten: UnwrittenCell) -> io::Result<Self> {
        let (running, orders) = channel();
        let (ending, ended) = channel();
        let body = move || {
            if let Some(mode) = place::mode_for_others(&path) {
                let shown = path.display();
                tracing::warn!("others can read {shown} (mode {mode:o}): run chmod 600 {shown}");
            }
            let write = |writing: Writing<'_>| write(&path, writing);
            keep(Bookkeeping::new(source, write, unwritten), &orders);
            drop(ending);
        };
        thread::Builder::new().name("flow-usage".into()).spawn(body)?;
        Ok(UsageKeeper { running, ended })
    }

    /// Reads and writes for the last time, and waits for that, at most as long as `limit`.
    #[expect(clippy::disallowed_methods, reason = "the main thread waits here when nothing is served any more")]
    pub fn finish(self, limit: Duration) {
        drop(self.running);
        if self.ended.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the usage of the last minute was not written in time");
        }
    }
}

/// Runs the thread until the handle is gone.
#[expect(clippy::disallowed_methods, reason = "runs on a thread of its own")]
fn keep<W>(mut bookkeeping: Bookkeeping<W>, orders: &Receiver<()>)
where
    W: FnMut(Writing<'_>) -> Result<(), StoreError>,
{
    bookkeeping.write(SystemTime::now());
    let mut written = Instant::now();
    while orders.recv_timeout(READ_INTERVAL) == Err(RecvTimeoutError::Timeout) {
        bookkeeping.read(SystemTime::now());
        if written.elapsed() >= WRITE_INTERVAL {
            bookkeeping.write(SystemTime::now());
            written = Instant::now();
        }
    }
    bookkeeping.read(SystemTime::now());
    bookkeeping.write_last();
}

fn write(path: &Path, Writing { rows, prune }: Writing<'_>) -> Result<(), StoreError> {
    let mut store = UsageStore::open(path)?;
    if !rows.is_empty() {
        store.add(rows)?;
    }
    // Not in the same transaction: what was added must not depend on it, nor be tried again where it fails.
    if let Some(now) = prune
        && let Err(error) = store.prune(now)
    {
        tracing::warn!("old usage cannot be deleted: {error}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::usage::totals::{UnixHour, UsageKey, UsageSums};

    fn always(requests: u64) -> UsageSource {
        let of = UsageKey { key: "k".into(), credential: "c".into(), model: "m".into() };
        Box::new(move |entries| entries.push((of.clone(), UsageSums { requests, ..UsageSums::default() })))
    }

    fn requests(path: &Path) -> u64 {
        let mut requests = 0;
        let store = UsageStore::open_existing(path).expect("opened");
        store.read(UnixHour(0), |row| requests += row.sums.requests).expect("read");
        requests
    }

    #[test]
    fn two_processes_that_follow_each_other_write_their_last_counts_when_they_finish() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("state/usage.sqlite");
        let old = UsageKeeper::start(path.clone(), always(3), UnwrittenCell::default()).expect("started");
        let new = UsageKeeper::start(path.clone(), always(4), UnwrittenCell::default()).expect("started");
        old.finish(Duration::from_secs(60));
        assert_eq!(requests(&path), 3);
        new.finish(Duration::from_secs(60));
        assert_eq!(requests(&path), 7);
    }

    #[test]
    fn a_source_that_hangs_holds_up_the_end_for_a_limited_time() {
        let (_never, blocked) = channel::<()>();
        let hang = Box::new(move |_: &mut Vec<_>| {
            let _ = blocked.recv();
        });
        let keeper = UsageKeeper::start("/dev/null".into(), hang, UnwrittenCell::default()).expect("started");
        keeper.finish(Duration::from_millis(10));
    }
}
