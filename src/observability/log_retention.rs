//! What becomes of log files that were put aside: their names, and which of them are deleted.
//!
//! Invariant: only files of exactly these names are ever deleted. Age is told by the day in the name, which copying and
//! touching do not change.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use time::{Date, OffsetDateTime};

/// How long log files are kept, and how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Files of days longer ago than this are deleted.
    pub days: u32,
    /// All files of the log together, the one that is written included.
    pub bytes_max: u64,
    /// How often they are looked through; `None`: nothing is ever deleted.
    pub cleanup_interval: Option<Duration>,
}

impl Retention {
    /// At which size a file is put aside. A tenth, so that deleting the oldest takes no more of the past than that.
    pub fn file_bytes_max(&self) -> u64 {
        self.bytes_max / 10
    }

    /// Deletes the files of `log` that are too old, and then the oldest until the others leave room for the one that is
    /// written.
    ///
    /// # Errors
    /// The directory cannot be read, or a file not be deleted; the others are all the same.
    pub fn clean(&self, log: &Path, now: SystemTime) -> io::Result<()> {
        let first_day = utc_day(now).saturating_sub(time::Duration::days(self.days.into())).to_string();
        let aside = put_aside(log)?;
        let (mut result, mut kept_bytes) = (Ok(()), 0);
        for file in aside.iter().rev() {
            kept_bytes += file.bytes;
            if file.day < first_day || kept_bytes > self.bytes_max - self.file_bytes_max() {
                match fs::remove_file(&file.path) {
                    // Another gateway on the same log may have been faster.
                    Err(error) if error.kind() != io::ErrorKind::NotFound => result = Err(error),
                    Ok(()) | Err(_) => {}
                }
            }
        }
        result
    }
}

/// The day of a moment, in UTC.
pub fn utc_day(moment: SystemTime) -> Date {
    OffsetDateTime::from(moment).date()
}

/// The name under which `log`, which was last written on `day`, can be put aside: `flow-uring.log.2026-11-25.1`.
pub fn name_aside(log: &Path, day: Date) -> io::Result<PathBuf> {
    let day = day.to_string();
    let last = put_aside(log)?.into_iter().rev().find(|file| file.day == day);
    let number = last.map_or(1, |last| last.number + 1);
    let mut name = log.as_os_str().to_owned();
    name.push(format!(".{day}.{number}"));
    Ok(PathBuf::from(name))
}

/// A log file that was put aside.
struct Aside {
    day: String,
    /// Counts those of one day, from 1.
    number: u64,
    bytes: u64,
    path: PathBuf,
}

/// All of them, the oldest first.
#[expect(clippy::disallowed_methods, reason = "runs on the log's own threads")]
fn put_aside(log: &Path) -> io::Result<Vec<Aside>> {
    let mut prefix = log.file_name().map(OsStr::to_owned).unwrap_or_default();
    prefix.push(".");
    let mut found = Vec::new();
    for entry in fs::read_dir(log.parent().unwrap_or(Path::new("/")))? {
        let entry = entry?;
        let Some((day, number)) = day_and_number(&entry.file_name(), &prefix) else { continue };
        // Not followed: what a symbolic link names was not put aside here. One that is gone by now is no file either.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            found.push(Aside { day, number, bytes: metadata.len(), path: entry.path() });
        }
    }
    found.sort_by(|one, other| (&one.day, one.number).cmp(&(&other.day, other.number)));
    Ok(found)
}

/// Takes `2026-11-25` and `1` out of `<prefix>2026-11-25.1`, and nothing out of any other name.
fn day_and_number(name: &OsStr, prefix: &OsString) -> Option<(String, u64)> {
    let suffix = name.as_encoded_bytes().strip_prefix(prefix.as_encoded_bytes())?;
    let (day, number) = str::from_utf8(suffix).ok()?.split_once('.')?;
    let is_day = day.len() == 10
        && day
            .bytes()
            .enumerate()
            .all(|(at, byte)| if matches!(at, 4 | 7) { byte == b'-' } else { byte.is_ascii_digit() });
    let is_number = !number.starts_with('0') && number.bytes().all(|byte| byte.is_ascii_digit());
    Some((day.to_owned(), number.parse().ok()?)).filter(|_| is_day && is_number)
}
