//! The retention of rotated log files: their names, and which of them are deleted.
//!
//! Invariant: only files of exactly these names are ever deleted. The age is the day in the name, which copying and
//! touching do not change.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, RenameFlags, linkat, renameat_with};
use rustix::io::Errno;
use time::{Date, OffsetDateTime};

/// Limit on the names that are tried for a file: more than there are gateways that could take one first.
const NAMES_TRIED_MAX: usize = 100;

/// The limits within which log files are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Files of days longer ago than this are deleted.
    pub days: u32,
    /// Limit on all files of the log together, the one that is written included.
    pub bytes_max: u64,
    /// Interval of the clean-up; `None`: nothing is ever deleted.
    pub cleanup_interval: Option<Duration>,
}

impl Retention {
    /// Returns the size at which a file is rotated: a tenth, so that deleting the oldest takes no more of the past
    /// than that.
    pub fn file_bytes_max(&self) -> u64 {
        self.bytes_max / 10
    }

    /// Deletes the files of `log` that are too old, and then the oldest until the others leave room for the one that is
    /// written.
    ///
    /// # Errors
    /// When the directory cannot be read, or a file cannot be deleted; the other files are deleted all the same.
    pub fn clean(&self, log: &Path, now: SystemTime) -> io::Result<()> {
        let first_day = utc_day(now).saturating_sub(time::Duration::days(self.days.into())).to_string();
        let rotated = rotated_files(log)?;
        let (mut result, mut kept_bytes) = (Ok(()), 0);
        for file in rotated.iter().rev() {
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

/// The deletion of old files at intervals.
pub struct Cleanup {
    pub path: PathBuf,
    pub retention: Retention,
    pub interval: Duration,
}

impl Cleanup {
    /// Runs on a thread of its own from here on, also while nothing is logged.
    #[expect(clippy::disallowed_methods, reason = "runs on a thread of its own")]
    pub fn start(self) {
        let Cleanup { path, retention, interval } = self;
        let run = move || loop {
            if let Err(error) = retention.clean(&path, SystemTime::now()) {
                tracing::warn!(path = %path.display(), %error, "old log files cannot be deleted");
            }
            thread::sleep(interval);
        };
        if let Err(error) = thread::Builder::new().name("flow-log-clean".into()).spawn(run) {
            tracing::warn!(%error, "old log files are deleted only when another is put aside");
        }
    }
}

/// Returns the day of a moment, in UTC.
pub fn utc_day(moment: SystemTime) -> Date {
    OffsetDateTime::from(moment).date()
}

/// Renames `log`, which was last written on `day`, to `flow-uring.log.2026-11-25.1`, or the next number that is free.
///
/// # Errors
/// When it cannot be renamed, or is not there.
pub fn rename_aside(log: &Path, day: Date) -> io::Result<()> {
    let day = day.to_string();
    let last = rotated_files(log)?.into_iter().rev().find(|file| file.day == day);
    let first = last.map_or(1, |last| last.number.saturating_add(1));
    let mut result = Err(io::ErrorKind::AlreadyExists.into());
    for number in (first..=u64::MAX).take(NAMES_TRIED_MAX) {
        let mut name = log.as_os_str().to_owned();
        name.push(format!(".{day}.{number}"));
        result = rename_to_free(log, Path::new(&name));
        match &result {
            // Another gateway on the same log was faster, or the name is taken by something other than a file.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Ok(()) | Err(_) => break,
        }
    }
    result
}

/// Renames without ever replacing another file, whose lines would be lost.
fn rename_to_free(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        // Some file systems and old kernels cannot; there it takes two steps.
        Err(Errno::INVAL | Errno::NOSYS) => rename_in_two_steps(from, to),
        result => result.map_err(io::Error::from),
    }
}

fn rename_in_two_steps(from: &Path, to: &Path) -> io::Result<()> {
    linkat(CWD, from, CWD, to, AtFlags::empty())?;
    fs::remove_file(from)
}

/// A rotated log file.
struct RotatedFile {
    day: String,
    /// The number among those of its day, from 1.
    number: u64,
    bytes: u64,
    path: PathBuf,
}

/// Lists the rotated files, the oldest first.
#[expect(clippy::disallowed_methods, reason = "runs on the log's own threads")]
fn rotated_files(log: &Path) -> io::Result<Vec<RotatedFile>> {
    let mut prefix = log.file_name().map(OsStr::to_owned).unwrap_or_default();
    prefix.push(".");
    let mut found = Vec::new();
    for entry in fs::read_dir(log.parent().unwrap_or(Path::new("/")))? {
        let entry = entry?;
        let Some((day, number)) = day_and_number(&entry.file_name(), &prefix) else { continue };
        // Symbolic links are not followed: their targets were not rotated here. A file that is gone by now is skipped
        // too.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            found.push(RotatedFile { day, number, bytes: metadata.len(), path: entry.path() });
        }
    }
    found.sort_by(|one, other| (&one.day, one.number).cmp(&(&other.day, other.number)));
    Ok(found)
}

/// Parses `2026-11-25` and `1` from `<prefix>2026-11-25.1`, and nothing from any other name.
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use tempfile::TempDir;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    /// 2026-11-25T12:00:00Z.
    const NOON: Duration = Duration::from_secs(1_795_608_000);

    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + NOON
    }

    fn retention(days: u32, bytes_max: u64) -> Retention {
        Retention { days, bytes_max, cleanup_interval: Some(DAY) }
    }

    fn directory(files: &[(&str, usize)]) -> TempDir {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for (name, bytes) in files {
            fs::write(directory.path().join(name), vec![b'x'; *bytes]).expect("written");
        }
        directory
    }

    fn names(directory: &TempDir) -> BTreeSet<String> {
        let entries = fs::read_dir(directory.path()).expect("a directory");
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect()
    }

    fn left(retention: Retention, files: &[(&str, usize)]) -> BTreeSet<String> {
        let directory = directory(files);
        retention.clean(&directory.path().join("a.log"), now()).expect("cleaned");
        names(&directory)
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn days_are_those_of_utc() {
        assert_eq!(utc_day(now()).to_string(), "2026-11-25");
        assert_eq!(utc_day(now() + DAY / 2 - Duration::from_nanos(1)).to_string(), "2026-11-25");
        assert_eq!(utc_day(now() + DAY / 2).to_string(), "2026-11-26");
    }

    #[test]
    fn files_of_days_before_the_kept_ones_are_deleted() {
        let files = [("a.log", 1), ("a.log.2026-11-25.1", 1), ("a.log.2026-11-18.9", 1), ("a.log.2026-11-17.10", 1)];
        assert_eq!(left(retention(7, 1000), &files), set(&["a.log", "a.log.2026-11-25.1", "a.log.2026-11-18.9"]));
    }

    #[test]
    fn the_oldest_are_deleted_until_the_others_and_the_next_fit_in_the_size() {
        // 900 bytes are for the rotated ones. The tenth of a day comes after its ninth.
        let files = [
            ("a.log", 99),
            ("a.log.2026-11-25.10", 300),
            ("a.log.2026-11-25.9", 300),
            ("a.log.2026-11-25.8", 300),
            ("a.log.2026-11-24.11", 1),
            ("a.log.2026-11-23.1", 0),
        ];
        let kept = ["a.log", "a.log.2026-11-25.10", "a.log.2026-11-25.9", "a.log.2026-11-25.8"];
        assert_eq!(left(retention(7, 1000), &files), set(&kept));
    }

    #[test]
    fn what_has_another_name_or_is_no_file_stays() {
        let strangers = [
            "a.log",
            "b.log.2020-01-01.1",
            "a.log.2020-01-01",
            "a.log.2020-01-01.1.gz",
            "a.log.2020-01-01.01",
            "a.log.2020-01-01.+1",
            "a.log.2020-1-01.1",
            "a.log.2020-01-0x.1",
            "a.log.20200101xx.1",
            "xa.log.2020-01-01.1",
            "a.log.2020-01-01.1 (copy)",
            "a_log.2020-01-01.1",
        ];
        let directory = directory(&strangers.map(|name| (name, 5000)));
        let path = |name: &str| directory.path().join(name);
        fs::create_dir(path("a.log.2020-01-01.2")).expect("made");
        std::os::unix::fs::symlink(path("a.log"), path("a.log.2020-01-01.3")).expect("made");
        fs::write(path("a.log.2020-01-01.4"), "ours").expect("written");
        retention(1, 1000).clean(&path("a.log"), now()).expect("cleaned");
        let mut expected = set(&strangers);
        expected.extend(set(&["a.log.2020-01-01.2", "a.log.2020-01-01.3"]));
        assert_eq!(names(&directory), expected);
    }

    #[test]
    fn a_file_gets_the_days_next_number_and_never_the_place_of_another() {
        let (one, ten, other) = ("a.log.2026-11-25.9", "a.log.2026-11-25.10", "a.log.2026-11-26.3");
        let directory = directory(&[(one, 1), (ten, 1), (other, 1)]);
        let path = |name: &str| directory.path().join(name);
        let log = path("a.log");
        // No log file, but in the way of one.
        fs::create_dir(path("a.log.2026-11-27.1")).expect("made");
        for (day, name) in [
            (0, "a.log.2026-11-25.11"),
            (0, "a.log.2026-11-25.12"),
            (1, "a.log.2026-11-26.4"),
            (2, "a.log.2026-11-27.2"),
        ] {
            fs::write(&log, name).expect("written");
            rename_aside(&log, utc_day(now() + DAY * day)).expect("renamed");
            assert!(!log.exists());
            assert_eq!(fs::read_to_string(path(name)).expect("there"), name);
        }
        let gone = rename_aside(&log, utc_day(now())).map_err(|error| error.kind());
        assert_eq!(gone, Err(io::ErrorKind::NotFound));
        assert!([one, ten, other].iter().all(|name| fs::metadata(path(name)).is_ok_and(|file| file.len() == 1)));
    }

    #[test]
    fn where_a_rename_may_replace_a_file_two_steps_do_not() {
        let directory = directory(&[("a", 1), ("b", 2)]);
        for rename in [rename_to_free, rename_in_two_steps] {
            let (from, to) = (directory.path().join("a"), directory.path().join("b"));
            let refused = rename(&from, &to).map_err(|error| error.kind());
            assert_eq!(refused, Err(io::ErrorKind::AlreadyExists));
            assert_eq!((from.metadata().expect("there").len(), to.metadata().expect("there").len()), (1, 2));
            rename(&from, &directory.path().join("c")).expect("renamed");
            assert!(!from.exists());
            rename(&directory.path().join("c"), &from).expect("renamed");
        }
    }
}
