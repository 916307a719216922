//! Reading a file whole: bounded in size and time, and without copies left behind in memory.
//!
//! For the files that the program is configured by, most of which hold secrets. Invariant: a path that leads to a pipe,
//! a device or an endless file holds nobody up for longer than [`PIPE_PATIENCE`], and one that is read again while the
//! gateway runs holds nobody up at all.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::OFlags;
use zeroize::Zeroizing;

/// The longest wait for a pipe. Its writer may be a password manager that asks a person first.
pub const PIPE_PATIENCE: Duration = Duration::from_secs(60);

/// Room for a file whose size is not known beforehand.
const ROOM_MIN: usize = 4096;

/// The kinds of file that may be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileKinds {
    /// Pipes too, which have their content once: `--secrets-file <(pass show flow)`. For the start.
    RegularOrPipe,
    /// For a file that is read again.
    Regular,
}

/// The reason why a file could not be read.
#[derive(Debug)]
pub enum ReadFault {
    Unreadable(io::Error),
    TooLarge { bytes_max: usize },
    NotUtf8,
}

impl fmt::Display for ReadFault {
    /// Writes the end of a sentence that begins with the file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadFault::Unreadable(error) => write!(formatter, "cannot be read: {error}"),
            ReadFault::TooLarge { bytes_max } => write!(formatter, "is larger than {} KiB", bytes_max / 1024),
            ReadFault::NotUtf8 => formatter.write_str("is not UTF-8 text"),
        }
    }
}

impl std::error::Error for ReadFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadFault::Unreadable(error) => Some(error),
            ReadFault::TooLarge { .. } | ReadFault::NotUtf8 => None,
        }
    }
}

/// Reads the file at `path`, of at most `bytes_max`. Its metadata are those of the file that was read.
///
/// # Errors
/// When it cannot be read, is not of one of `kinds`, or is larger.
pub fn read(path: &Path, bytes_max: usize, kinds: FileKinds) -> Result<(Zeroizing<Vec<u8>>, Metadata), ReadFault> {
    let file = open(path).map_err(ReadFault::Unreadable)?;
    let metadata = file.metadata().map_err(ReadFault::Unreadable)?;
    if kinds == FileKinds::Regular && !metadata.is_file() {
        return Err(ReadFault::Unreadable(io::Error::other("it is not a regular file")));
    }
    Ok((read_open(file, &metadata, bytes_max, PIPE_PATIENCE)?, metadata))
}

/// As [`read`], of text.
///
/// # Errors
/// As [`read`], and when it is not UTF-8.
pub fn read_text(path: &Path, bytes_max: usize, kinds: FileKinds) -> Result<(Zeroizing<String>, Metadata), ReadFault> {
    let (bytes, metadata) = read(path, bytes_max, kinds)?;
    Ok((into_text(bytes)?, metadata))
}

/// Opens a file to be read, without waiting for anything: not for the writer of a pipe, nor for the carrier of a
/// terminal.
///
/// # Errors
/// That of the system.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK | OFlags::NOCTTY;
    OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path)
}

/// Reads what [`open`] opened to its end; a pipe has to end within `pipe_patience`.
///
/// # Errors
/// As [`read`].
pub fn read_open(
    mut file: File,
    metadata: &Metadata,
    bytes_max: usize,
    pipe_patience: Duration,
) -> Result<Zeroizing<Vec<u8>>, ReadFault> {
    let until = Instant::now() + pipe_patience;
    // One more than there may be tells a file that is too large; one more than there is tells the end.
    let room_max = bytes_max + 1;
    let expected = usize::try_from(metadata.len()).unwrap_or(usize::MAX).saturating_add(1);
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected.max(ROOM_MIN).min(room_max)));
    loop {
        if bytes.len() == bytes.capacity() {
            // By hand: a vector that grows leaves a copy behind that is not overwritten.
            let mut larger = Zeroizing::new(Vec::with_capacity((2 * bytes.len()).min(room_max)));
            larger.extend_from_slice(&bytes);
            bytes = larger;
        }
        if !metadata.is_file() {
            wait_for_content(&file, until).map_err(ReadFault::Unreadable)?;
        }
        let (filled, capacity) = (bytes.len(), bytes.capacity());
        bytes.resize(capacity, 0);
        let read = file.read(&mut bytes[filled..]);
        bytes.truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => return Ok(bytes),
            Ok(_) if bytes.len() > bytes_max => return Err(ReadFault::TooLarge { bytes_max }),
            Ok(_) => {}
            // Another reader was faster, or a signal came.
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(error) => return Err(ReadFault::Unreadable(error)),
        }
    }
}

/// Turns what was read into text, without a copy.
///
/// # Errors
/// When it is not UTF-8.
pub fn into_text(mut bytes: Zeroizing<Vec<u8>>) -> Result<Zeroizing<String>, ReadFault> {
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(ReadFault::NotUtf8)
        }
    }
}

/// Waits until the pipe has bytes, or an end: that is when the last of its writers has closed it. One that nobody has
/// opened yet has neither.
fn wait_for_content(file: &File, until: Instant) -> io::Result<()> {
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
        match poll(&mut [PollFd::new(file, PollFlags::IN)], Some(&timeout)) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::TimedOut, "nobody has written all of it to the pipe")),
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    const MAX: usize = 1024 * 1024;
    const KINDS: [FileKinds; 2] = [FileKinds::RegularOrPipe, FileKinds::Regular];

    fn fifo(directory: &tempfile::TempDir) -> std::path::PathBuf {
        let path = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &path, rustix::fs::Mode::from_raw_mode(0o600)).expect("made");
        path
    }

    fn read_fifo(path: &Path, patience: Duration) -> Result<Zeroizing<Vec<u8>>, ReadFault> {
        let file = open(path).expect("opened at once");
        let metadata = file.metadata().expect("metadata");
        read_open(file, &metadata, MAX, patience)
    }

    #[test]
    fn a_file_of_any_size_up_to_the_limit_is_read_whole() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        for size in [0, 1, ROOM_MIN - 1, ROOM_MIN, ROOM_MIN + 1, MAX - 1, MAX] {
            std::fs::write(&path, vec![b'x'; size]).expect("written");
            for kinds in KINDS {
                let (bytes, metadata) = read(&path, MAX, kinds).expect("read");
                assert_eq!((bytes.len(), metadata.len()), (size, size as u64));
            }
        }
        std::fs::write(&path, vec![b'x'; MAX + 1]).expect("written");
        assert!(matches!(read(&path, MAX, FileKinds::Regular), Err(ReadFault::TooLarge { bytes_max: MAX })));
        // Its size says nothing.
        assert!(matches!(read(Path::new("/dev/zero"), MAX, FileKinds::RegularOrPipe), Err(ReadFault::TooLarge { .. })));
        assert!(read(Path::new("/dev/null"), MAX, FileKinds::RegularOrPipe).expect("read").0.is_empty());
    }

    #[test]
    fn a_pipe_is_read_when_its_writer_comes_later_and_writes_in_parts() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = fifo(&directory);
        let part = vec![b'x'; 3 * ROOM_MIN];
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(50));
                let mut writer = OpenOptions::new().write(true).open(&path).expect("opened");
                for _ in 0..4 {
                    writer.write_all(&part).expect("written");
                    thread::sleep(Duration::from_millis(10));
                }
            });
            let bytes = read_fifo(&path, Duration::from_secs(30)).expect("read");
            assert_eq!(bytes.len(), 4 * part.len());
        });
    }

    #[test]
    fn a_pipe_without_a_writer_or_without_an_end_is_given_up() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = fifo(&directory);
        let error = read_fifo(&path, Duration::from_millis(50)).expect_err("nobody writes").to_string();
        assert_eq!(error, "cannot be read: nobody has written all of it to the pipe");
        // Opened for both, since opening it for writing alone waits for a reader.
        let mut writer = OpenOptions::new().read(true).write(true).open(&path).expect("opened");
        writer.write_all(b"half").expect("written");
        assert!(read_fifo(&path, Duration::from_millis(50)).is_err(), "it never ends");
    }

    #[test]
    fn what_is_read_again_is_no_pipe_device_or_directory() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        for path in [&fifo(&directory), Path::new("/dev/zero"), directory.path()] {
            let error = read(path, MAX, FileKinds::Regular).expect_err("refused").to_string();
            assert_eq!(error, "cannot be read: it is not a regular file", "{}", path.display());
        }
        let error = read(directory.path(), MAX, FileKinds::RegularOrPipe).expect_err("a directory").to_string();
        assert!(error.starts_with("cannot be read: "), "{error}");
    }

    #[test]
    fn text_is_utf_8() {
        assert!(matches!(into_text(Zeroizing::new(b"\xff".to_vec())), Err(ReadFault::NotUtf8)));
        assert_eq!(into_text(Zeroizing::new("é".into())).expect("text").as_str(), "é");
    }
}
