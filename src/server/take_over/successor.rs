//! The grant by which the main thread gives the listening sockets to a successor, while the thread that lends them
//! waits.
//!
//! Invariant: neither of the two threads waits for the other without a limit.

use super::conversation::STEP_LIMIT;
use crate::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};

/// A successor that serves on this process' sockets, as the main thread sees it.
#[derive(Debug)]
pub struct Successor {
    process: i32,
    granted: SyncSender<()>,
    /// Receives once the successor has been sent the farewell.
    finished: Receiver<()>,
}

/// The lending thread's end.
pub struct PendingGrant {
    granted: Receiver<()>,
    finished: Sender<()>,
}

impl Successor {
    /// Makes the two ends of a grant.
    pub fn new(process: i32) -> (Self, PendingGrant) {
        // Without a buffer: a grant that was sent has been received.
        let (grant, granted) = sync_channel(0);
        let (finish, finished) = channel();
        (Successor { process, granted: grant, finished }, PendingGrant { granted, finished: finish })
    }

    /// Gives the sockets to the successor: this process accepts no more. Returns false, and changes nothing, if the
    /// successor has given up meanwhile or has gone.
    #[expect(clippy::disallowed_methods, reason = "waits for a write of one byte, on the main thread")]
    pub fn grant(&self) -> bool {
        let has_finished = self.granted.send(()).is_ok() && self.finished.recv_timeout(STEP_LIMIT).is_ok();
        if has_finished {
            tracing::info!(process = self.process, "another gateway has taken over and accepts from here on");
        }
        has_finished
    }
}

impl PendingGrant {
    /// Waits for the main thread's grant, for [`STEP_LIMIT`] at most.
    ///
    /// # Errors
    /// The main thread did not answer in time, or has ended.
    #[expect(clippy::disallowed_methods, reason = "runs on a thread of its own")]
    pub fn wait(&self) -> Result<(), RecvTimeoutError> {
        self.granted.recv_timeout(STEP_LIMIT)
    }

    /// Reports that the successor has been sent the farewell.
    pub fn finish(&self) {
        // Without a main thread nothing waits for it.
        let _ = self.finished.send(());
    }
}
