//! The place of the file: its directory and the file itself, made for this user alone.
//!
//! Invariant: no file that is there is ever opened here. A descriptor of the file that is closed would take the locks
//! of SQLite in this process with it (fcntl(2), "Advisory record locking").

use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use super::fault::StoreFault;

const DIRECTORY_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// Makes the file, empty, and its directories where they are missing.
///
/// # Errors
/// One of them cannot be made, or the path leads to something that is no regular file.
pub fn make(path: &Path) -> Result<(), StoreFault> {
    match find(path) {
        Err(StoreFault::Absent) => {}
        found => return found,
    }
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory).map_err(StoreFault::Directory)?;
    }
    match OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path) {
        Ok(_) => Ok(()),
        // Another gateway was faster; or it is a link into nothing, which is not followed.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match find(path) {
            Err(StoreFault::Absent) => Err(StoreFault::NotAFile),
            found => found,
        },
        Err(error) => Err(StoreFault::File(error)),
    }
}

/// Returns the mode of a file that others than its user can read or write.
pub fn mode_for_others(path: &Path) -> Option<u32> {
    let mode = path.metadata().ok()?.permissions().mode() & 0o7777;
    (mode & 0o077 != 0).then_some(mode)
}

/// Looks whether the path leads to a regular file.
///
/// # Errors
/// It does not.
pub fn find(path: &Path) -> Result<(), StoreFault> {
    match path.metadata() {
        Ok(found) if found.is_file() => Ok(()),
        Ok(_) => Err(StoreFault::NotAFile),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(StoreFault::Absent),
        Err(error) => Err(StoreFault::File(error)),
    }
}
