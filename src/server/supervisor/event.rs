//! The events that the main thread waits for, whichever thread they come from.

use crate::server::reload::watched_file::{FileVersion, WatchedFile};
use crate::server::take_over::successor::Successor;

/// An event for the main thread.
#[derive(Debug)]
pub enum SupervisorEvent {
    /// SIGTERM or SIGINT.
    Stop,
    /// SIGHUP.
    Hangup,
    /// The file differs from the version reported last; `None`: it is gone.
    FileChanged(WatchedFile, Option<FileVersion>),
    /// Another gateway serves on this one's sockets.
    Successor(Successor),
    ShardEnded {
        has_panicked: bool,
    },
}
