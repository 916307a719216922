//! The threads that watch the files: each looks at one file and reports the changes of it to the main thread.
//!
//! Invariant: one version of a file is reported once.

use std::io;
use std::path::Path;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::Duration;

use super::source::FileSource;
use super::watched_file::{FileVersion, WatchedFile};
use crate::server::supervisor::event::SupervisorEvent;

/// The pause between two looks at the file. A change is reported at the second look that agrees, so half a second to
/// one after it was made; a look costs some microseconds.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// Starts to watch the file if there is one; changes are sent as [`SupervisorEvent::FileChanged`].
pub fn start(source: &FileSource, file: WatchedFile, events: Sender<SupervisorEvent>) -> io::Result<()> {
    if let FileSource::File { path, version } = source {
        let (path, seen) = (path.clone(), ChangeDetector::new(*version));
        let name = match file {
            WatchedFile::Secrets => "flow-secrets",
            WatchedFile::ApiKeys => "flow-keys",
        };
        thread::Builder::new().name(name.into()).spawn(move || watch(&path, file, seen, &events))?;
    }
    Ok(())
}

/// Looks at the file until the receiver of the events is gone.
#[expect(clippy::disallowed_methods, reason = "runs on a thread of its own")]
fn watch(path: &Path, file: WatchedFile, mut seen: ChangeDetector, events: &Sender<SupervisorEvent>) {
    loop {
        thread::sleep(LOOK_INTERVAL);
        let now = FileVersion::of(path).ok();
        if seen.is_change(now) && events.send(SupervisorEvent::FileChanged(file, now)).is_err() {
            return;
        }
    }
}

/// Tells a change of a file that is complete from one that is under way. `None` stands for a file that is missing or
/// cannot be examined.
struct ChangeDetector {
    reported: Option<FileVersion>,
    last_seen: Option<FileVersion>,
}

impl ChangeDetector {
    fn new(version: Option<FileVersion>) -> Self {
        ChangeDetector { reported: version, last_seen: version }
    }

    /// Returns whether this version is to be reported: it agrees with the look before, so that a file is seldom read
    /// half-written, and was not reported yet.
    fn is_change(&mut self, now: Option<FileVersion>) -> bool {
        let is_steady = self.last_seen == now;
        self.last_seen = now;
        let is_change = is_steady && self.reported != now;
        if is_change {
            self.reported = now;
        }
        is_change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(inode: u64) -> Option<FileVersion> {
        Some(FileVersion::of_inode(inode))
    }

    #[test]
    fn a_change_is_reported_at_the_second_look_that_agrees_and_only_once() {
        let mut seen = ChangeDetector::new(version(1));
        let looks = [1, 2, 3, 3, 3, 0, 0, 0, 3, 3, 4, 3, 3].map(|inode| if inode == 0 { None } else { version(inode) });
        let news: Vec<bool> = looks.into_iter().map(|look| seen.is_change(look)).collect();
        let expected = [3, 6, 9].map(|index: usize| index);
        assert_eq!(
            news.iter().enumerate().filter(|(_, is_change)| **is_change).map(|(at, _)| at).collect::<Vec<_>>(),
            expected
        );
    }
}
