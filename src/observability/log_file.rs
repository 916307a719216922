//! The log file: opened, put aside when its day is over or it is large, and opened anew when it is no longer there.
//!
//! Own code, since no crate for it does all that has to hold here: a new file by UTC day as well as by size, a bound on
//! all files together, every failure returned (not printed, not a panic), and a file that others moved or removed noticed.

use std::error::Error;
use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

use rustix::fs::{Access, FlockOperation, access, flock};
use rustix::io::Errno;
use time::Date;

use super::log_retention::{Retention, rename_aside, utc_day};

/// For the operator and the group that reads logs: lines hold paths and the names of credentials, and no secrets. The
/// umask takes more away.
const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;

/// Where the log file is, and how long its like are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOptions {
    pub path: PathBuf,
    /// Whether its directory is made where it is not there.
    pub makes_directory: bool,
    pub retention: Retention,
}

/// Why there is no log file.
#[derive(Debug)]
pub struct FileError {
    pub path: PathBuf,
    pub error: io::Error,
}

impl fmt::Display for FileError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "the log file {} cannot be opened: {}; see to it that its directory exists and that this user may write \
             there, or choose another --log-file or --log-dir",
            self.path.display(),
            self.error
        )
    }
}

impl Error for FileError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

impl FileOptions {
    /// Says whether the file could be opened, without making anything.
    ///
    /// # Errors
    /// It could not.
    #[expect(clippy::disallowed_methods, reason = "asked where nothing is served")]
    pub fn check(&self) -> Result<(), FileError> {
        let allowed = match fs::metadata(&self.path) {
            Ok(found) if found.is_file() => access(&self.path, Access::WRITE_OK).map_err(io::Error::from),
            Ok(_) => Err(not_a_file()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.check_directory(),
            Err(error) => Err(error),
        };
        allowed.map_err(|error| FileError { path: self.path.clone(), error })
    }

    #[expect(clippy::disallowed_methods, reason = "asked where nothing is served")]
    fn check_directory(&self) -> io::Result<()> {
        let mut directories = self.path.ancestors().skip(1).map(or_here);
        let found = if self.makes_directory {
            directories.find(|directory| directory.symlink_metadata().is_ok())
        } else {
            directories.next()
        };
        let found = found.unwrap_or(Path::new("/"));
        if !fs::metadata(found)?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        access(found, Access::WRITE_OK | Access::EXEC_OK).map_err(io::Error::from)
    }
}

/// The directory of a bare name is the working directory.
fn or_here(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

fn not_a_file() -> io::Error {
    io::Error::other("it is not a regular file")
}

/// The deletion of old files now and then.
pub struct Cleanup {
    path: PathBuf,
    retention: Retention,
    interval: Duration,
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

/// A log file that is written to.
pub struct LogFile {
    options: FileOptions,
    open: Option<Open>,
    /// Whether the log has said that the file cannot be put aside, or older ones not be deleted.
    has_complained: bool,
}

struct Open {
    file: File,
    identity: (u64, u64),
    tail: Tail,
}

/// How what was written last ends.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tail {
    /// With a line, or nothing was written.
    Whole,
    /// In the middle of a line, of which the rest is to come.
    Begun,
    /// In the middle of a line, of which the rest is lost.
    Cut,
}

impl LogFile {
    /// Opens the file, and makes its directory if it is to.
    ///
    /// # Errors
    /// It cannot be opened, or is no regular file.
    pub fn open(options: FileOptions) -> Result<Self, FileError> {
        let failed = |path: &Path, error| FileError { path: path.to_owned(), error };
        let mut log = LogFile { options, open: None, has_complained: false };
        log.open_with(0).map_err(|error| failed(&log.options.path, error))?;
        // Files are put aside beside the real one, and stay there whatever becomes of links and of the working directory.
        log.options.path = fs::canonicalize(&log.options.path).map_err(|error| failed(&log.options.path, error))?;
        Ok(log)
    }

    /// What is to be done besides writing, if it is wanted.
    pub fn cleanup(&self) -> Option<Cleanup> {
        let FileOptions { path, retention, .. } = self.options.clone();
        retention.cleanup_interval.map(|interval| Cleanup { path, retention, interval })
    }

    fn reopen(&mut self) -> io::Result<Metadata> {
        // The file at the start may be a link on purpose, and is known by its own name from then on. A link that is put
        // there later leads wherever somebody else likes.
        self.open_with(libc::O_NOFOLLOW)
    }

    fn open_with(&mut self, flags: i32) -> io::Result<Metadata> {
        self.open = None;
        let path = &self.options.path;
        let directory = path.parent().filter(|_| self.options.makes_directory);
        if let Some(directory) = directory {
            DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(or_here(directory))?;
        }
        // Without this one, a pipe that somebody put there would hold up this thread.
        let flags = flags | libc::O_NONBLOCK;
        let file = OpenOptions::new().append(true).create(true).mode(FILE_MODE).custom_flags(flags).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(not_a_file());
        }
        self.open = Some(Open { file, identity: identity(&metadata), tail: Tail::Whole });
        Ok(metadata)
    }

    /// Sees to it that the file is there and has room for `lines_bytes` more of today.
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
            self.begin_anew(day, found.len() + lines_bytes)?;
        }
        Ok(())
    }

    /// Puts the file aside, and opens another. Where that cannot be it goes on, with `bytes` soon.
    fn begin_anew(&mut self, day: Date, bytes: u64) -> io::Result<()> {
        let Retention { bytes_max, cleanup_interval, .. } = self.options.retention;
        // A lock that lasts until then is a stranger's.
        let put_aside = self.put_aside(day, bytes > bytes_max);
        if matches!(put_aside, Ok(true)) {
            self.reopen()?;
        }
        let cleaned = match cleanup_interval {
            Some(_) => self.options.retention.clean(&self.options.path, SystemTime::now()),
            None => Ok(()),
        };
        match (put_aside, cleaned) {
            (Err(error), _) => {
                self.complain("the log file cannot be put aside", &error);
                // As large as all may be together: it begins anew. What cannot be cut off stays; the write that follows
                // says why.
                let open = self.open.as_ref().filter(|_| bytes > bytes_max && cleanup_interval.is_some());
                open.into_iter().for_each(|open| drop(open.file.set_len(0)));
            }
            (Ok(_), Err(error)) => self.complain("old log files cannot be deleted", &error),
            // The next fault is another one.
            (Ok(_), Ok(())) => self.has_complained = false,
        }
        Ok(())
    }

    /// Whether there is room for another file in its place: it was put aside, by this gateway or another one that writes
    /// to it, or was taken away. Of several gateways one does it; the others write on until they see that it is done.
    fn put_aside(&self, day: Date, is_forced: bool) -> io::Result<bool> {
        let Some(open) = &self.open else { return Ok(true) };
        let path = &self.options.path;
        let lock = flock(&open.file, FlockOperation::NonBlockingLockExclusive);
        if lock == Err(Errno::WOULDBLOCK) && !is_forced {
            return Ok(false);
        }
        // Who holds the lock of a file is the only one to rename it, so what is looked up here stays as it is. Without the
        // lock, which may be that of a gateway that has lost the processor for as long as others took to fill the file to
        // the limit of all, a file may be put aside as soon as it was made; no line is lost either.
        let result = match fs::symlink_metadata(path) {
            Ok(found) if open.identity == identity(&found) => rename_aside(path, day),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        // The file may have to go on. Who does not hold the lock gives nothing back.
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
    /// Expects whole lines, and after a short write the rest of them.
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
mod tests {
    use std::collections::BTreeSet;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use tempfile::TempDir;

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);
    const LINE: &[u8] = b"one line of the log\n";

    struct Place(TempDir);

    impl Place {
        fn new() -> Self {
            Place(tempfile::tempdir().expect("a temporary directory"))
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn options(&self, bytes_max: u64) -> FileOptions {
            let retention = Retention { days: 7, bytes_max, cleanup_interval: Some(DAY) };
            FileOptions { path: self.path("a.log"), makes_directory: false, retention }
        }

        fn open(&self, bytes_max: u64) -> LogFile {
            LogFile::open(self.options(bytes_max)).expect("opened")
        }

        fn read(&self, name: &str) -> Vec<u8> {
            fs::read(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(self.0.path()).expect("a directory");
            let mut names: Vec<_> =
                entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
            names.sort();
            names
        }
    }

    fn today() -> String {
        utc_day(SystemTime::now()).to_string()
    }

    #[test]
    fn a_file_whose_last_line_is_of_an_earlier_day_is_put_aside_under_that_day() {
        let place = Place::new();
        let mut log = place.open(1_000_000);
        log.write_all(b"yesterday's\n").expect("written");
        let yesterday = SystemTime::now() - DAY;
        File::options().append(true).open(place.path("a.log")).expect("open").set_modified(yesterday).expect("set");
        log.write_all(b"today's\n").expect("written");
        assert_eq!(place.read("a.log"), b"today's\n");
        assert_eq!(place.read(&format!("a.log.{}.1", utc_day(yesterday))), b"yesterday's\n");
        // The same after a restart, which otherwise goes on in the file.
        drop(log);
        place.open(1_000_000).write_all(b"more\n").expect("written");
        assert_eq!(place.read("a.log"), b"today's\nmore\n");
    }

    #[test]
    fn the_size_of_all_files_is_bounded_and_the_newest_lines_are_kept() {
        const BYTES_MAX: u64 = 10_000;
        let place = Place::new();
        let mut log = place.open(BYTES_MAX);
        for number in 0..5000 {
            log.write_all(format!("line {number} of a busy day\n").as_bytes()).expect("written");
            let bytes: u64 = place.names().iter().map(|name| place.read(name).len() as u64).sum();
            assert!(bytes <= BYTES_MAX, "{bytes} after line {number}");
        }
        let mut names = place.names();
        assert!(names[1..].iter().all(|name| name.starts_with(&format!("a.log.{}.", today()))), "{names:?}");
        names.sort_by_key(|name| name.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX));
        let kept: Vec<u8> = names.iter().flat_map(|name| place.read(name)).collect();
        let kept: Vec<&str> = str::from_utf8(&kept).expect("text").lines().collect();
        let first = 5000 - kept.len();
        assert!(kept.len() * 26 > 8000, "at least eight tenths are used: {} lines", kept.len());
        for (at, line) in kept.iter().enumerate() {
            assert_eq!(*line, format!("line {} of a busy day", first + at), "no line is lost between the files");
        }
    }

    #[test]
    fn without_cleanup_files_are_put_aside_and_none_is_deleted() {
        let place = Place::new();
        let mut options = place.options(1000);
        options.retention.cleanup_interval = None;
        let mut log = LogFile::open(options).expect("opened");
        assert!(log.cleanup().is_none());
        (0..100).for_each(|_| log.write_all(LINE).expect("written"));
        assert_eq!(place.names().len(), 20, "five lines of 20 bytes each are a tenth of the limit");
    }

    #[test]
    fn a_file_that_is_moved_or_removed_is_noticed_with_the_next_line() {
        let place = Place::new();
        let mut log = place.open(1_000_000);
        log.write_all(LINE).expect("written");
        fs::rename(place.path("a.log"), place.path("moved")).expect("moved");
        log.write_all(LINE).expect("written");
        fs::remove_file(place.path("a.log")).expect("removed");
        log.write_all(LINE).expect("written");
        assert_eq!((place.read("a.log"), place.read("moved")), (LINE.to_vec(), LINE.to_vec()));
        // As logrotate does with create.
        fs::rename(place.path("a.log"), place.path("moved")).expect("moved");
        fs::write(place.path("a.log"), "").expect("written");
        log.write_all(LINE).expect("written");
        assert_eq!((place.read("a.log"), place.read("moved")), (LINE.to_vec(), LINE.to_vec()));
        // As logrotate does with copytruncate.
        File::options().write(true).open(place.path("a.log")).expect("open").set_len(0).expect("cut");
        log.write_all(LINE).expect("written");
        assert_eq!(place.read("a.log"), LINE);
    }

    #[test]
    fn a_directory_that_vanishes_is_made_again_only_where_it_was_made_before() {
        for makes_directory in [false, true] {
            let place = Place::new();
            fs::create_dir_all(place.path("x/y")).expect("made");
            let options = FileOptions { path: place.path("x/y/a.log"), makes_directory, ..place.options(1_000_000) };
            let mut log = LogFile::open(options).expect("opened");
            fs::remove_dir_all(place.path("x")).expect("removed");
            assert_eq!(log.write_all(LINE).is_ok(), makes_directory);
            fs::create_dir_all(place.path("x/y")).expect("made");
            log.write_all(LINE).expect("written");
        }
    }

    #[test]
    fn a_file_that_cannot_be_put_aside_begins_anew_at_the_limit() {
        let place = Place::new();
        let mut log = place.open(1000);
        // No name is left for it.
        fs::write(place.path(&format!("a.log.{}.{}", today(), u64::MAX - 1)), "").expect("written");
        fs::create_dir(place.path(&format!("a.log.{}.{}", today(), u64::MAX))).expect("made");
        for _ in 0..1000 {
            log.write_all(LINE).expect("written");
            assert!(place.read("a.log").len() <= 1000);
        }
        assert!(!place.read("a.log").is_empty() && log.has_complained);
        fs::remove_dir(place.path(&format!("a.log.{}.{}", today(), u64::MAX))).expect("removed");
        (0..10).for_each(|_| log.write_all(LINE).expect("written"));
        assert!(!log.has_complained, "the next fault will be told again");
    }

    #[test]
    fn a_file_that_a_stranger_has_locked_is_put_aside_at_the_limit() {
        let place = Place::new();
        let mut options = place.options(1000);
        options.retention.cleanup_interval = None;
        let mut log = LogFile::open(options).expect("opened");
        let stranger = File::open(place.path("a.log")).expect("open");
        flock(&stranger, FlockOperation::LockExclusive).expect("locked");
        (0..51).for_each(|_| log.write_all(LINE).expect("written"));
        assert_eq!(place.read(&format!("a.log.{}.1", today())), LINE.repeat(50));
        assert_eq!((place.read("a.log"), log.has_complained), (LINE.to_vec(), false));
    }

    #[test]
    fn of_several_gateways_on_one_log_none_loses_a_line_or_puts_a_fresh_file_aside() {
        const LINES: usize = 5000;
        const WRITERS: usize = 3;
        let line = |writer: usize, number: usize| format!("{writer} {number:500}");
        let place = Place::new();
        // Who puts the file aside may lose the processor while it holds the lock, and the others write on meanwhile. At the
        // limit of all files they would do without the lock, so all that is written here stays below it.
        let mut options = place.options((WRITERS * LINES * (line(0, 0).len() + 1)) as u64);
        options.retention.cleanup_interval = None;
        let file_bytes_max = options.retention.file_bytes_max();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let mut log = LogFile::open(options.clone()).expect("opened");
                scope.spawn(move || {
                    (0..LINES).for_each(|number| {
                        log.write_all((line(writer, number) + "\n").as_bytes()).expect("written");
                        assert!(!log.has_complained);
                    });
                });
            }
        });
        let names = place.names();
        let mut lines = BTreeSet::new();
        for name in &names {
            let text = String::from_utf8(place.read(name)).expect("text");
            let is_full = text.len() as u64 + 600 > file_bytes_max;
            assert!(name == "a.log" || is_full, "{name} has {} bytes", text.len());
            lines.extend(text.lines().map(str::to_owned));
        }
        let expected = (0..WRITERS).flat_map(|writer| (0..LINES).map(move |number| line(writer, number)));
        assert!(lines == expected.collect(), "{} of {} lines", lines.len(), WRITERS * LINES);
        assert!(names.len() > 1, "none was put aside");
    }

    #[test]
    fn a_log_may_be_a_link_at_the_start_and_none_is_followed_later() {
        let place = Place::new();
        symlink("real", place.path("a.log")).expect("linked");
        let mut log = place.open(1_000_000);
        log.write_all(LINE).expect("written");
        fs::remove_file(place.path("real")).expect("removed");
        fs::write(place.path("precious"), "mine").expect("written");
        symlink("precious", place.path("real")).expect("linked");
        log.write_all(LINE).expect_err("a link");
        assert_eq!(place.read("precious"), b"mine");
        fs::remove_file(place.path("real")).expect("removed");
        log.write_all(LINE).expect("written");
        assert_eq!(place.read("a.log"), LINE);
    }

    #[test]
    fn files_are_for_the_operator_and_the_group() {
        let place = Place::new();
        let path = place.path("x/y/a.log");
        let options = FileOptions { path: path.clone(), makes_directory: true, ..place.options(1000) };
        LogFile::open(options).expect("opened");
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        // The umask of the tests may take more away.
        assert_eq!(mode(&path) & !FILE_MODE, 0);
        assert_eq!(mode(&place.path("x")) & !DIRECTORY_MODE, 0);
    }

    #[test]
    fn what_cannot_be_opened_is_found_by_the_check_too_which_makes_nothing() {
        let place = Place::new();
        fs::write(place.path("file"), "").expect("written");
        rustix::fs::mknodat(rustix::fs::CWD, place.path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
            .expect("made");
        let before = place.names();
        for (path, makes_directory, is_good) in [
            ("new.log", false, true),
            ("file", false, true),
            ("absent/new.log", false, false),
            ("absent/more/new.log", true, true),
            ("file/new.log", true, false),
            ("pipe", false, false),
            (".", false, false),
        ] {
            let options = FileOptions { path: place.path(path), makes_directory, ..place.options(1000) };
            let checked = options.check().map_err(|error| error.to_string());
            assert_eq!(place.names(), before, "{path}");
            let opened = LogFile::open(options).map(drop).map_err(|error| error.to_string());
            assert_eq!((checked.is_ok(), opened.is_ok()), (is_good, is_good), "{path}: {checked:?} {opened:?}");
            for error in [checked, opened].into_iter().filter_map(Result::err) {
                assert!(error.starts_with(&format!("the log file {} cannot be opened: ", place.path(path).display())));
            }
            let _ = fs::remove_dir_all(place.path("absent"));
            let _ = fs::remove_file(place.path("new.log"));
        }
    }

    #[test]
    fn a_line_that_was_cut_is_ended_before_the_next() {
        let place = Place::new();
        let mut log = place.open(1_000_000);
        let half = log.write(&LINE[..5]).expect("written");
        assert_eq!(half, 5);
        log.open.as_mut().expect("open").tail = Tail::Cut;
        log.write_all(LINE).expect("written");
        assert_eq!(place.read("a.log"), [&LINE[..5], b"\n", LINE].concat());
    }
}
