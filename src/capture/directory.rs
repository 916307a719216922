//! The directory of captures: one file each, of which the newest are kept, whoever wrote them.
//!
//! Invariant: a file is there whole or not at all, only its owner can read it, and only files whose names have the form
//! of a capture's are ever deleted. A name begins with its time, so that their order is that of the names; no byte of a
//! client is in it.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::document::rfc3339;

/// The captures that are kept.
pub const CAPTURES_MAX: usize = 200;

const SUFFIX: &str = ".json";
/// Ends the name of a file that is being written.
const PART: &str = ".part";
/// The age from which such a file is not being written any more.
const WRITING_MAX: Duration = Duration::from_secs(3600);
/// The length of the time at the start of a name: `20261130T071437.123Z`.
const TIME_BYTES: usize = 20;
/// The time by which a name may be ahead of the clock: other gateways write while this one deletes.
const AHEAD_MAX: Duration = Duration::from_secs(60);

/// A directory of captures.
#[derive(Debug, Clone)]
pub struct CaptureDirectory {
    path: PathBuf,
}

impl CaptureDirectory {
    pub fn at(path: impl Into<PathBuf>) -> Self {
        CaptureDirectory { path: path.into() }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it, for its owner alone, unless it is there; then what a process that was killed has left half written is
    /// deleted.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn make(&self) -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        for name in
            self.file_names()?.filter(|name| name.strip_suffix(PART).is_some_and(|name| exchange_of(name).is_some()))
        {
            let path = self.path.join(name);
            let age = fs::symlink_metadata(&path).ok().and_then(|file| file.modified().ok()?.elapsed().ok());
            if age.is_some_and(|age| age > WRITING_MAX) {
                // Another gateway may do the same.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// Writes a capture, and deletes the oldest of those that are too many. `run` tells processes apart. Returns the
    /// fault for which older ones are still there; the capture is kept all the same.
    ///
    /// # Errors
    /// Those of the operating system; then nothing is left of it.
    pub fn keep(&self, exchange: &str, run: u32, at: SystemTime, document: &[u8]) -> io::Result<Option<io::Error>> {
        let name = format!("{}-{run:08x}-{exchange}{SUFFIX}", time_in_name(at));
        let part = self.path.join(format!("{name}{PART}"));
        let written = write_new(&part, document).and_then(|()| fs::rename(&part, self.path.join(&name)));
        if written.is_err() {
            // Gone already, or as much in the way as it was.
            let _ = fs::remove_file(&part);
        }
        written?;
        Ok(self.prune(&name, at).err())
    }

    /// Deletes those that are too many, but not the one that was `written` at this time. What cannot be deleted is
    /// passed over, so that others make room.
    fn prune(&self, written: &str, at: SystemTime) -> io::Result<()> {
        let names = self.names()?;
        let mut surplus = names.len().saturating_sub(CAPTURES_MAX);
        // Those of a clock that was ahead would be the newest for as long as it was, and nothing new would stay: they go
        // first, those that are furthest ahead before the others.
        let present_end = time_in_name(at + AHEAD_MAX);
        let present = names.partition_point(|name| *name < present_end);
        let (past, ahead) = names.split_at(present);
        let mut fault = Ok(());
        for name in ahead.iter().rev().chain(past).filter(|name| *name != written) {
            if surplus == 0 {
                break;
            }
            match fs::remove_file(self.path.join(name)) {
                Ok(()) => surplus -= 1,
                // Another gateway has done the same.
                Err(error) if error.kind() == io::ErrorKind::NotFound => surplus -= 1,
                Err(error) => fault = Err(error),
            }
        }
        fault
    }

    /// Returns the names of all captures, the oldest first.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names: Vec<String> = self.file_names()?.filter(|name| exchange_of(name).is_some()).collect();
        names.sort_unstable();
        Ok(names)
    }

    #[expect(clippy::disallowed_methods, reason = "runs on the recorder's thread, or in a command")]
    fn file_names(&self) -> io::Result<impl Iterator<Item = String>> {
        Ok(fs::read_dir(&self.path)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok()))
    }
}

/// Returns the id of the exchange in the name of a capture; `None`: it is the name of something else.
pub fn exchange_of(name: &str) -> Option<&str> {
    let (time, rest) = name.strip_suffix(SUFFIX)?.split_at_checked(TIME_BYTES)?;
    let is_time = time.bytes().zip(b"00000000T000000.000Z").all(|(byte, form)| match form {
        b'0' => byte.is_ascii_digit(),
        mark => byte == *mark,
    });
    let (run, exchange) = rest.strip_prefix('-')?.split_once('-')?;
    let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let (shard, sequence) = exchange.split_once('-')?;
    (is_time && run.len() == 8 && [run, shard, sequence].into_iter().all(is_hex)).then_some(exchange)
}

/// Returns a time as it stands in a name.
fn time_in_name(at: SystemTime) -> String {
    // The punctuation of RFC 3339 is of no use there.
    rfc3339(at).chars().filter(|character| !matches!(character, '-' | ':')).collect()
}

fn write_new(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn at(milliseconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_608_000_000 + milliseconds)
    }

    #[test]
    fn the_newest_are_kept_and_nothing_else_is_deleted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let captures = CaptureDirectory::at(directory.path().join("a/b"));
        captures.make().expect("made");
        captures.make().expect("it may be there");
        let stranger = captures.path().join("20000101T000000.000Z-notes.json");
        fs::write(&stranger, "mine").expect("written");
        // Two gateways, the second of which runs ahead.
        for index in 0..150u64 {
            captures.keep(&format!("0-{index:x}"), 1, at(index), b"{}").expect("written");
            captures.keep(&format!("0-{index:x}"), 2, at(index + 1), b"{}").expect("written");
        }
        let names = captures.names().expect("listed");
        assert_eq!(names.len(), CAPTURES_MAX);
        assert_eq!(names.last().map(String::as_str), Some("20261125T120000.150Z-00000002-0-95.json"));
        assert!(names.iter().all(|name| &names[0] <= name) && names[0].starts_with("20261125T120000.05"), "{names:?}");
        assert!(stranger.exists());
        let mode = |path: &Path| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        assert_eq!((mode(captures.path()), mode(&captures.path().join(&names[0]))), (0o700, 0o600));
    }

    #[test]
    fn what_cannot_be_deleted_is_passed_over_and_costs_no_capture() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let captures = CaptureDirectory::at(directory.path());
        let stuck = "20000101T000000.000Z-00000001-0-1.json";
        fs::create_dir(directory.path().join(stuck)).expect("made");
        for index in 0..250u64 {
            let fault = captures.keep(&format!("0-{index:x}"), 1, at(index), b"{}").expect("written");
            assert_eq!(fault.is_some(), index >= 199, "{index}");
        }
        let names = captures.names().expect("listed");
        assert_eq!((names.len(), names[0].as_str()), (CAPTURES_MAX, stuck));
        assert_eq!(names[1], "20261125T120000.051Z-00000001-0-33.json");
    }

    #[test]
    fn captures_of_a_clock_that_was_ahead_go_first() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let captures = CaptureDirectory::at(directory.path());
        for index in 0..CAPTURES_MAX {
            let name = format!("20990101T000000.{index:03}Z-00000001-0-{index:x}.json");
            fs::write(directory.path().join(name), "{}").expect("written");
        }
        for index in 0..3 {
            captures.keep(&format!("0-{index:x}"), 2, at(index), b"{}").expect("written");
        }
        let names = captures.names().expect("listed");
        assert_eq!(names.len(), CAPTURES_MAX);
        assert!(names[..3].iter().all(|name| name.starts_with("20261125T")), "{names:?}");
        assert!(names[199].starts_with("20990101T000000.196Z"), "{names:?}");
    }

    #[test]
    fn a_capture_that_cannot_be_written_leaves_nothing_behind() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let captures = CaptureDirectory::at(directory.path());
        fs::create_dir(directory.path().join("20261125T120000.000Z-00000001-0-1.json")).expect("made");
        assert!(captures.keep("0-1", 1, at(0), b"{}").is_err());
        assert_eq!(fs::read_dir(directory.path()).expect("listed").count(), 1);
        assert!(CaptureDirectory::at("/proc/none").keep("0-1", 1, at(0), b"{}").is_err());
    }

    #[test]
    fn what_was_left_half_written_long_ago_is_deleted() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let captures = CaptureDirectory::at(directory.path());
        let file = |name: &str, age: Duration| {
            let file = fs::File::create(directory.path().join(name)).expect("made");
            file.set_modified(SystemTime::now() - age).expect("changed");
        };
        let day = Duration::from_secs(86_400);
        file("20261125T120000.000Z-00000001-0-1.json.part", day);
        file("20261125T120000.000Z-00000001-0-2.json.part", Duration::ZERO);
        file("20261125T120000.000Z-00000001-0-3.json", day);
        file("mine.part", day);
        captures.make().expect("made");
        let mut left: Vec<String> = captures.file_names().expect("listed").collect();
        left.sort();
        let kept =
            ["20261125T120000.000Z-00000001-0-2.json.part", "20261125T120000.000Z-00000001-0-3.json", "mine.part"];
        assert_eq!(left, kept);
    }

    #[test]
    fn the_names_of_captures_are_told_from_all_others() {
        assert_eq!(exchange_of("20261125T120000.000Z-0000002a-3-1f.json"), Some("3-1f"));
        for name in [
            "20261125T120000.000Z-0000002a-3-1f.json.part",
            "20261125T120000.000Z-0000002a-3.json",
            "20261125T120000.000Z-2a-3-1f.json",
            "20261125T120000.000-0000002a-3-1f.json",
            "x0261125T120000.000Z-0000002a-3-1f.json",
            "20261125T120000.000Z-0000002a-3-é.json",
            "é",
            "",
        ] {
            assert_eq!(exchange_of(name), None, "{name}");
        }
    }
}
