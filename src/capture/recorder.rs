//! The thread that writes captures, and the queue before it.
//!
//! Invariant: putting a failed exchange into the queue never waits. What does not fit, or cannot be written, is lost
//! and counted, and the log says so once a minute at most. Secrets are kept for masking only while the queue is not
//! empty.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use super::directory::CaptureDirectory;
use super::document::{CaptureDocument, ExchangeFacts};
use super::masker::Masker;
use super::recording::Notes;
use crate::credentials::{ApiKeys, Credentials};

/// The failed exchanges that wait. Each has at most 34 KiB of bodies, two heads of 16 KiB and eight of 8 KiB (`head`), and
/// its path, which is shorter than a head: some 150 KiB, and all of them 10 MiB at most.
const WAITING_MAX: usize = 64;
/// Least time between two lines about captures that were lost.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(60);
/// The longest that the end of the program waits for the last captures.
const ENDING_MAX: Duration = Duration::from_secs(1);

/// An exchange that has failed.
pub struct FailedExchange {
    pub facts: ExchangeFacts,
    pub notes: Notes,
    /// Those that the exchange began with.
    pub credentials: Arc<Credentials>,
    pub api_keys: Option<Arc<ApiKeys>>,
}

enum RecorderOrder {
    Keep(Box<FailedExchange>),
    End,
}

/// The way to the thread.
#[derive(Clone)]
pub struct Recorder {
    orders: SyncSender<RecorderOrder>,
    counts: Arc<CaptureCounts>,
}

#[derive(Default)]
struct CaptureCounts {
    written: AtomicU64,
    lost: AtomicU64,
}

/// Ends the thread when it is dropped, after what is in the queue.
pub struct RecorderEnd {
    orders: SyncSender<RecorderOrder>,
    ended: Receiver<()>,
}

impl Recorder {
    /// Starts the thread. A directory that cannot be made or written to is told in the log, and exchanges go on.
    ///
    /// # Errors
    /// When the thread cannot be started.
    pub fn start(directory: CaptureDirectory, run: u32) -> io::Result<(Self, RecorderEnd)> {
        let (orders, incoming) = sync_channel(WAITING_MAX);
        let (end, ended) = sync_channel(1);
        let counts = Arc::<CaptureCounts>::default();
        let writer = Writer { directory, run, counts: counts.clone(), told: 0, complaint_due: None };
        thread::Builder::new().name("flow-capture".into()).spawn(move || {
            writer.run(&incoming);
            let _ = end.try_send(());
        })?;
        Ok((Recorder { orders: orders.clone(), counts }, RecorderEnd { orders, ended }))
    }

    /// Puts a failed exchange into the queue, if there is room.
    pub fn keep(&self, failed: Box<FailedExchange>) {
        if self.orders.try_send(RecorderOrder::Keep(failed)).is_err() {
            self.counts.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns how many captures were written.
    pub fn written(&self) -> u64 {
        self.counts.written.load(Ordering::Relaxed)
    }

    /// Returns how many were lost.
    pub fn lost(&self) -> u64 {
        self.counts.lost.load(Ordering::Relaxed)
    }
}

impl Drop for RecorderEnd {
    #[expect(clippy::disallowed_methods, reason = "run by the main thread after the shards have ended")]
    fn drop(&mut self) {
        let until = Instant::now() + ENDING_MAX;
        while self.orders.try_send(RecorderOrder::End).is_err() && Instant::now() < until {
            // A full queue empties, or its thread is gone.
            if self.ended.recv_timeout(Duration::from_millis(10)).is_ok() {
                return;
            }
        }
        let _ = self.ended.recv_timeout(until.saturating_duration_since(Instant::now()));
    }
}

/// The state of the thread.
struct Writer {
    directory: CaptureDirectory,
    run: u32,
    counts: Arc<CaptureCounts>,
    /// The number of lost captures that the log has reported.
    told: u64,
    complaint_due: Option<Instant>,
}

impl Writer {
    #[expect(clippy::disallowed_methods, reason = "runs on the recorder's own thread")]
    fn run(mut self, incoming: &Receiver<RecorderOrder>) {
        if let Err(error) = self.directory.make() {
            self.complain(&error);
        }
        let mut masker = None;
        loop {
            let order = match incoming.try_recv() {
                Ok(order) => order,
                Err(TryRecvError::Disconnected) => return,
                Err(TryRecvError::Empty) => {
                    masker = None;
                    self.tell_lost();
                    match incoming.recv() {
                        Ok(order) => order,
                        Err(_) => return,
                    }
                }
            };
            match order {
                RecorderOrder::Keep(failed) => self.keep(*failed, &mut masker),
                RecorderOrder::End => return,
            }
        }
    }

    fn keep(&mut self, failed: FailedExchange, masker: &mut Option<CurrentMasker>) {
        let FailedExchange { facts, notes, credentials, api_keys } = failed;
        let current = match masker.take() {
            Some(current) if current.is_of(&credentials, api_keys.as_ref()) => current,
            _ => CurrentMasker { masker: Masker::new(&credentials, api_keys.as_deref()), credentials, api_keys },
        };
        let id = facts.id().to_owned();
        let document = CaptureDocument::new(facts, &notes, &current.masker);
        *masker = Some(current);
        let written = serde_json::to_vec_pretty(&document)
            .map_err(io::Error::other)
            .and_then(|bytes| self.directory.keep(&id, self.run, SystemTime::now(), &bytes));
        match written {
            Ok(fault) => {
                self.counts.written.fetch_add(1, Ordering::Relaxed);
                if let Some(error) = fault {
                    self.tell_left(&error);
                }
            }
            Err(error) => {
                self.counts.lost.fetch_add(1, Ordering::Relaxed);
                self.complain(&error);
            }
        }
    }

    fn complain(&mut self, error: &io::Error) {
        if self.may_complain() {
            let directory = self.directory.path().display();
            tracing::warn!(%directory, %error, "failed exchanges cannot be kept (--capture-dir); requests go on");
            self.told = self.counts.lost.load(Ordering::Relaxed);
        }
    }

    /// Says that older captures stay.
    fn tell_left(&mut self, error: &io::Error) {
        if self.may_complain() {
            let directory = self.directory.path().display();
            tracing::warn!(%directory, %error, "old captures of failed exchanges cannot be deleted (--capture-dir)");
        }
    }

    /// Says how many were lost since the last line about it.
    fn tell_lost(&mut self) {
        let lost = self.counts.lost.load(Ordering::Relaxed);
        if lost > self.told && self.may_complain() {
            tracing::warn!(captures = lost - self.told, "failed exchanges were not kept: there were too many at once");
            self.told = lost;
        }
    }

    fn may_complain(&mut self) -> bool {
        let now = Instant::now();
        let is_due = self.complaint_due.is_none_or(|due| due <= now);
        if is_due {
            self.complaint_due = Some(now + COMPLAINT_PAUSE);
        }
        is_due
    }
}

/// A masker, and what it was made for.
struct CurrentMasker {
    masker: Masker,
    credentials: Arc<Credentials>,
    api_keys: Option<Arc<ApiKeys>>,
}

impl CurrentMasker {
    fn is_of(&self, credentials: &Arc<Credentials>, api_keys: Option<&Arc<ApiKeys>>) -> bool {
        let is_same_key = match (&self.api_keys, api_keys) {
            (Some(own), Some(other)) => Arc::ptr_eq(own, other),
            (None, None) => true,
            _ => false,
        };
        Arc::ptr_eq(&self.credentials, credentials) && is_same_key
    }
}
