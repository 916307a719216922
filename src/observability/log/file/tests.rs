use std::collections::BTreeSet;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

const DAY: Duration = Duration::from_secs(86_400);
const LINE: &[u8] = b"one line of the log\n";

struct LogDirectory(TempDir);

impl LogDirectory {
    fn new() -> Self {
        LogDirectory(tempfile::tempdir().expect("a temporary directory"))
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
    let directory = LogDirectory::new();
    let mut log = directory.open(1_000_000);
    log.write_all(b"yesterday's\n").expect("written");
    let yesterday = SystemTime::now() - DAY;
    File::options().append(true).open(directory.path("a.log")).expect("open").set_modified(yesterday).expect("set");
    log.write_all(b"today's\n").expect("written");
    assert_eq!(directory.read("a.log"), b"today's\n");
    assert_eq!(directory.read(&format!("a.log.{}.1", utc_day(yesterday))), b"yesterday's\n");
    // The same after a restart, which otherwise goes on in the file.
    drop(log);
    directory.open(1_000_000).write_all(b"more\n").expect("written");
    assert_eq!(directory.read("a.log"), b"today's\nmore\n");
}

#[test]
fn the_size_of_all_files_is_bounded_and_the_newest_lines_are_kept() {
    const BYTES_MAX: u64 = 10_000;
    let directory = LogDirectory::new();
    let mut log = directory.open(BYTES_MAX);
    for number in 0..5000 {
        log.write_all(format!("line {number} of a busy day\n").as_bytes()).expect("written");
        let bytes: u64 = directory.names().iter().map(|name| directory.read(name).len() as u64).sum();
        assert!(bytes <= BYTES_MAX, "{bytes} after line {number}");
    }
    let mut names = directory.names();
    assert!(names[1..].iter().all(|name| name.starts_with(&format!("a.log.{}.", today()))), "{names:?}");
    names.sort_by_key(|name| name.rsplit('.').next().and_then(|number| number.parse().ok()).unwrap_or(u64::MAX));
    let kept: Vec<u8> = names.iter().flat_map(|name| directory.read(name)).collect();
    let kept: Vec<&str> = str::from_utf8(&kept).expect("text").lines().collect();
    let first = 5000 - kept.len();
    assert!(kept.len() * 26 > 8000, "at least eight tenths are used: {} lines", kept.len());
    for (at, line) in kept.iter().enumerate() {
        assert_eq!(*line, format!("line {} of a busy day", first + at), "no line is lost between the files");
    }
}

#[test]
fn without_cleanup_files_are_put_aside_and_none_is_deleted() {
    let directory = LogDirectory::new();
    let mut options = directory.options(1000);
    options.retention.cleanup_interval = None;
    let mut log = LogFile::open(options).expect("opened");
    assert!(log.cleanup().is_none());
    (0..100).for_each(|_| log.write_all(LINE).expect("written"));
    assert_eq!(directory.names().len(), 20, "five lines of 20 bytes each are a tenth of the limit");
}

#[test]
fn a_file_that_is_moved_or_removed_is_noticed_with_the_next_line() {
    let directory = LogDirectory::new();
    let mut log = directory.open(1_000_000);
    log.write_all(LINE).expect("written");
    fs::rename(directory.path("a.log"), directory.path("moved")).expect("moved");
    log.write_all(LINE).expect("written");
    fs::remove_file(directory.path("a.log")).expect("removed");
    log.write_all(LINE).expect("written");
    assert_eq!((directory.read("a.log"), directory.read("moved")), (LINE.to_vec(), LINE.to_vec()));
    // As logrotate does with create.
    fs::rename(directory.path("a.log"), directory.path("moved")).expect("moved");
    fs::write(directory.path("a.log"), "").expect("written");
    log.write_all(LINE).expect("written");
    assert_eq!((directory.read("a.log"), directory.read("moved")), (LINE.to_vec(), LINE.to_vec()));
    // As logrotate does with copytruncate.
    File::options().write(true).open(directory.path("a.log")).expect("open").set_len(0).expect("cut");
    log.write_all(LINE).expect("written");
    assert_eq!(directory.read("a.log"), LINE);
}

#[test]
fn a_directory_that_vanishes_is_made_again_only_where_it_was_made_before() {
    for makes_directory in [false, true] {
        let directory = LogDirectory::new();
        fs::create_dir_all(directory.path("x/y")).expect("made");
        let options =
            FileOptions { path: directory.path("x/y/a.log"), makes_directory, ..directory.options(1_000_000) };
        let mut log = LogFile::open(options).expect("opened");
        fs::remove_dir_all(directory.path("x")).expect("removed");
        assert_eq!(log.write_all(LINE).is_ok(), makes_directory);
        fs::create_dir_all(directory.path("x/y")).expect("made");
        log.write_all(LINE).expect("written");
    }
}

#[test]
fn a_file_that_cannot_be_put_aside_begins_anew_at_the_limit() {
    let directory = LogDirectory::new();
    let mut log = directory.open(1000);
    // No name is left for it.
    fs::write(directory.path(&format!("a.log.{}.{}", today(), u64::MAX - 1)), "").expect("written");
    fs::create_dir(directory.path(&format!("a.log.{}.{}", today(), u64::MAX))).expect("made");
    for _ in 0..1000 {
        log.write_all(LINE).expect("written");
        assert!(directory.read("a.log").len() <= 1000);
    }
    assert!(!directory.read("a.log").is_empty() && log.has_complained);
    fs::remove_dir(directory.path(&format!("a.log.{}.{}", today(), u64::MAX))).expect("removed");
    (0..10).for_each(|_| log.write_all(LINE).expect("written"));
    assert!(!log.has_complained, "the next fault will be told again");
}

#[test]
fn a_file_that_a_stranger_has_locked_is_put_aside_at_the_limit() {
    let directory = LogDirectory::new();
    let mut options = directory.options(1000);
    options.retention.cleanup_interval = None;
    let mut log = LogFile::open(options).expect("opened");
    let stranger = File::open(directory.path("a.log")).expect("open");
    flock(&stranger, FlockOperation::LockExclusive).expect("locked");
    (0..51).for_each(|_| log.write_all(LINE).expect("written"));
    assert_eq!(directory.read(&format!("a.log.{}.1", today())), LINE.repeat(50));
    assert_eq!((directory.read("a.log"), log.has_complained), (LINE.to_vec(), false));
}

#[test]
fn of_several_gateways_on_one_log_none_loses_a_line_or_puts_a_fresh_file_aside() {
    const LINES: usize = 5000;
    const WRITERS: usize = 3;
    let line = |writer: usize, number: usize| format!("{writer} {number:500}");
    let directory = LogDirectory::new();
    // The writer that rotates the file may not be scheduled while it holds the lock, and the others write on
    // meanwhile. At the limit of all files they would do without the lock, so all that is written here stays below it.
    let mut options = directory.options((WRITERS * LINES * (line(0, 0).len() + 1)) as u64);
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
    let names = directory.names();
    let mut lines = BTreeSet::new();
    for name in &names {
        let text = String::from_utf8(directory.read(name)).expect("text");
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
    let directory = LogDirectory::new();
    symlink("real", directory.path("a.log")).expect("linked");
    let mut log = directory.open(1_000_000);
    log.write_all(LINE).expect("written");
    fs::remove_file(directory.path("real")).expect("removed");
    fs::write(directory.path("precious"), "mine").expect("written");
    symlink("precious", directory.path("real")).expect("linked");
    log.write_all(LINE).expect_err("a link");
    assert_eq!(directory.read("precious"), b"mine");
    fs::remove_file(directory.path("real")).expect("removed");
    log.write_all(LINE).expect("written");
    assert_eq!(directory.read("a.log"), LINE);
}

#[test]
fn files_are_for_the_operator_and_the_group() {
    let directory = LogDirectory::new();
    let path = directory.path("x/y/a.log");
    let options = FileOptions { path: path.clone(), makes_directory: true, ..directory.options(1000) };
    LogFile::open(options).expect("opened");
    let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
    // The umask of the tests may take more away.
    assert_eq!(mode(&path) & !FILE_MODE, 0);
    assert_eq!(mode(&directory.path("x")) & !DIRECTORY_MODE, 0);
}

#[test]
fn what_cannot_be_opened_is_found_by_the_check_too_which_makes_nothing() {
    let directory = LogDirectory::new();
    fs::write(directory.path("file"), "").expect("written");
    rustix::fs::mknodat(rustix::fs::CWD, directory.path("pipe"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .expect("made");
    let before = directory.names();
    for (path, makes_directory, is_good) in [
        ("new.log", false, true),
        ("file", false, true),
        ("absent/new.log", false, false),
        ("absent/more/new.log", true, true),
        ("file/new.log", true, false),
        ("pipe", false, false),
        (".", false, false),
    ] {
        let options = FileOptions { path: directory.path(path), makes_directory, ..directory.options(1000) };
        let checked = options.check().map_err(|error| error.to_string());
        assert_eq!(directory.names(), before, "{path}");
        let opened = LogFile::open(options).map(drop).map_err(|error| error.to_string());
        assert_eq!((checked.is_ok(), opened.is_ok()), (is_good, is_good), "{path}: {checked:?} {opened:?}");
        for error in [checked, opened].into_iter().filter_map(Result::err) {
            assert!(error.starts_with(&format!("the log file {} cannot be opened: ", directory.path(path).display())));
        }
        let _ = fs::remove_dir_all(directory.path("absent"));
        let _ = fs::remove_file(directory.path("new.log"));
    }
}

#[test]
fn a_line_that_was_cut_is_ended_before_the_next() {
    let directory = LogDirectory::new();
    let mut log = directory.open(1_000_000);
    let half = log.write(&LINE[..5]).expect("written");
    assert_eq!(half, 5);
    log.open.as_mut().expect("open").tail = Tail::Cut;
    log.write_all(LINE).expect("written");
    assert_eq!(directory.read("a.log"), [&LINE[..5], b"\n", LINE].concat());
}
