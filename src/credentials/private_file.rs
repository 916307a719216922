//! Reading a file that holds secrets: bounded, without copies left behind in memory, and with a warning when others
//! can read it.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{getegid, getgroups};
use zeroize::Zeroizing;

/// Limit on the file's size, far above what any of these files needs, so that a wrong path is not read into memory
/// whole.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// The reason why a file could not be read.
#[derive(Debug)]
pub enum ReadFault {
    Unreadable(io::Error),
    TooLarge,
    NotUtf8,
}

impl fmt::Display for ReadFault {
    /// Writes the end of a sentence that begins with the file.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadFault::Unreadable(error) => write!(formatter, "cannot be read: {error}"),
            ReadFault::TooLarge => write!(formatter, "is larger than {} KiB", FILE_BYTES_MAX / 1024),
            ReadFault::NotUtf8 => formatter.write_str("is not UTF-8 text"),
        }
    }
}

impl std::error::Error for ReadFault {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ReadFault::Unreadable(error) => Some(error),
            ReadFault::TooLarge | ReadFault::NotUtf8 => None,
        }
    }
}

/// Reads the whole file.
///
/// # Errors
/// When it cannot be read, is larger than [`FILE_BYTES_MAX`], or is not text.
#[expect(clippy::disallowed_methods, reason = "read before there are shards, and by the main thread later")]
pub fn read(path: &Path) -> Result<(Zeroizing<String>, Metadata), ReadFault> {
    let file = File::open(path).map_err(ReadFault::Unreadable)?;
    let metadata = file.metadata().map_err(ReadFault::Unreadable)?;
    // Room for all of it at once: a growing buffer would leave unzeroed copies behind.
    let capacity = metadata.len().min(FILE_BYTES_MAX) as usize + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(ReadFault::Unreadable)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(ReadFault::TooLarge);
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| ReadFault::NotUtf8)?;
    Ok((Zeroizing::new(text.to_owned()), metadata))
}

/// Returns a warning if others can read the file and with it `what`, and what to do about it.
pub fn exposure_warning(path: &Path, metadata: &Metadata, what: &str) -> Option<String> {
    let mode = metadata.mode();
    let group_is_ours = || {
        let group = metadata.gid();
        getegid().as_raw() == group || getgroups().is_ok_and(|groups| groups.iter().any(|ours| ours.as_raw() == group))
    };
    let is_exposed = mode & 0o007 != 0 || (mode & 0o070 != 0 && !group_is_ours());
    is_exposed.then(|| {
        let path = path.display();
        format!("others can read {path} (mode {:03o}) and with it {what}: run chmod 600 {path}", mode & 0o777)
    })
}
