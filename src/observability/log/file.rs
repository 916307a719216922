//! The log file: opened, rotated when its day is over or it is large, and reopened when it is no longer there.
//!
//! Own code, since no crate does all that is needed here: rotation by UTC day as well as by size, a bound on all files
//! together, every failure returned (not printed, not a panic), and the detection of a file that others moved or
//! removed.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use time::Date;

use super::file_options::{FileError, FileOptions, not_a_file, or_here};
use super::retention::{Cleanup, Retention, rename_aside, utc_day};

/// Readable by the operator and the group that reads logs: lines hold paths and the names of credentials, and no
/// secrets. The umask takes more away.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// A log file that is written to.
pub struct LogFile {
    options: FileOptions,
    open: Option<Open>,
    /// Set when the log has said that the file cannot be rotated, or older ones not be deleted.
    has_complained: bool,
}

struct Open {
    file: File,
    identity: (u64, u64),
    tail: Tail,
}

/// The end of what was written last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// A whole line, or nothing was written.
    Whole,
    /// Part of a line, of which the rest is to come.
    Begun,
    /// Part of a line, of which the rest is lost.
    Cut,
}

impl LogFile {
    /// Opens the file, and makes its directory if the options say so.
    ///
    /// # Errors
    /// When it cannot be opened, or is no regular file.
    pub fn open(options: FileOptions) -> Result<Self, FileError> {
        let failed = |path: &Path, error| FileError { path: path.to_owned(), error };
        let mut log = LogFile { options, open: None, has_complained: false };
        log.open_with(0).map_err(|error| failed(&log.options.path, error))?;
        // Rotated files are put beside the real one, and stay there whatever becomes of links and of the working
        // directory.
        log.options.path = fs::canonicalize(&log.options.path).map_err(|error| failed(&log.options.path, error))?;
        Ok(log)
    }

    /// Returns the deletion of old files, if it is wanted.
    pub fn cleanup(&self) -> Option<Cleanup> {
        let FileOptions { path, retention, .. } = self.options.clone();
        retention.cleanup_interval.map(|interval| Cleanup { path, retention, interval })
    }

    fn reopen(&mut self) -> io::Result<Metadata> {
        // The file at the start may be a link on purpose, and is known by its own name from then on. A link that is
        // put there later could lead anywhere.
        self.open_with(libc::O_NOFOLLOW)
    }

    fn open_with(&mut self, flags: i32) -> io::Result<Metadata> {
        self.open = None;
        let path = &self.options.path;
        let directory = path.parent().filter(|_| self.options.makes_directory);
        if let Some(directory) = directory {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(or_here(directory))?;
        }
        // Without O_NONBLOCK, a pipe that somebody put there would block this thread.
        let flags = flags | libc::O_NONBLOCK;
        let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(not_a_file());
        }
        self.open = Some(Open { file, identity: identity(&metadata), tail: Tail::Whole });
        Ok(metadata)
    }

    /// Ensures that the file is there and has room for `lines_bytes` more of today.
    fn prepare(&mut self, lines_bytes: u64) -> io::Result<()> {
        let found = fs::symlink_metadata(&self.options.path).ok();
        let is_open = |found: &Metadata| self.open.as_ref().is_some_and(|open| open.identity == identity(found));
        let found = match found.filter(is_open) {
            Some(found) => found,
            None => self.reopen()?,
        };
        let day = found.modified().map_or(utc_day(SystemTime::now()), utc_day);
        let is_over = day < utc_day(SystemTime::now());
        let is_full = found.len() + lines_bytes > self.options.retention.file_bytes_max();
        if found.len() > 0 && (is_over || is_full) {
            self.rotate(day, found.len() + lines_bytes)?;
        }
        Ok(())
    }

    /// Rotates the file, and opens another. Where that fails the present one goes on, which has `bytes` soon.
    fn rotate(&mut self, day: Date, bytes: u64) -> io::Result<()> {
        let Retention { bytes_max, cleanup_interval, .. } = self.options.retention;
        // A lock that lasts until then belongs to another program.
        let renamed = self.rename(day, bytes > bytes_max);
        if matches!(renamed, Ok(true)) {
            self.reopen()?;
        }
        let cleaned = match cleanup_interval {
            Some(_) => self.options.retention.clean(&self.options.path, SystemTime::now()),
            None => Ok(()),
        };
        match (renamed, cleaned) {
            (Err(error), _) => {
                self.complain("the log file cannot be put aside", &error);
                // It is as large as all files may be together, so it is truncated. If that fails it stays; the write
                // that follows says why.
                if bytes > bytes_max
                    && cleanup_interval.is_some()
                    && let Some(open) = &self.open
                {
                    let _ = open.file.set_len(0);
                }
            }
            (Ok(_), Err(error)) => self.complain("old log files cannot be deleted", &error),
            // The next fault is a new one.
            (Ok(_), Ok(())) => self.has_complained = false,
        }
        Ok(())
    }

    /// Renames the file. Returns whether there is room for another in its place: it was renamed, by this gateway or
    /// another one that writes to it, or was removed. Of several gateways one does it; the others write on until they
    /// see that it is done.
    fn rename(&self, day: Date, is_forced: bool) -> io::Result<bool> {
        let Some(open) = &self.open else { return Ok(true) };
        let path = &self.options.path;
        let lock = flock(&open.file, FlockOperation::NonBlockingLockExclusive);
        if lock == Err(Errno::WOULDBLOCK) && !is_forced {
            return Ok(false);
        }
        // Only the holder of a file's lock renames it, so what is looked up here stays as it is. Without the lock (its
        // holder may be a gateway that was not scheduled for as long as others took to fill the file to the limit of
        // all) a file may be rotated as soon as it was made; no line is lost either.
        let result = match fs::symlink_metadata(path) {
            Ok(found) if open.identity == identity(&found) => rename_aside(path, day),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        // The file may have to go on. Without the lock this does nothing.
        let _ = flock(&open.file, FlockOperation::Unlock);
        match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            result => result.map(|()| true),
        }
    }

    fn complain(&mut self, what: &'static str, error: &io::Error) {
        if !std::mem::replace(&mut self.has_complained, true) {
            tracing::error!(path = %self.options.path.display(), %error, "{what}");
        }
    }
}

fn identity(metadata: &Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

impl Write for LogFile {
    /// Writes whole lines, or after a short write the rest of them.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.open.as_ref().is_none_or(|open| open.tail != Tail::Begun) {
            self.prepare(lines.len() as u64)?;
        }
        let Some(open) = &mut self.open else { return Err(io::ErrorKind::NotFound.into()) };
        let result = open.write(lines);
        if result.is_err() && open.tail == Tail::Begun {
            open.tail = Tail::Cut;
        }
        result
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Open {
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        if self.tail == Tail::Cut {
            self.file.write_all(b"\n")?;
            self.tail = Tail::Whole;
        }
        let written = self.file.write(lines)?;
        let last = written.checked_sub(1).map(|at| lines[at]);
        self.tail = if last.is_none_or(|byte| byte == b'\n') { Tail::Whole } else { Tail::Begun };
        Ok(written)
    }
}

#[cfg(test)]
mod tests;
