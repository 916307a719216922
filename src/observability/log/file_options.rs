//! The place of the log file, and the check whether it can be opened there.

use std::error::Error;
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};

use super::retention::Retention;

/// The place of the log file, and the retention of old ones.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileOptions {
    pub path: PathBuf,
    /// Set when its directory is made if it does not exist.
    pub makes_directory: bool,
    pub retention: Retention,
}

/// The reason why there is no log file.
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
    /// Checks whether the file could be opened, without creating anything.
    ///
    /// # Errors
    /// When it could not.
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

/// Replaces the empty directory of a bare name by the working directory.
pub fn or_here(directory: &Path) -> &Path {
    if directory.as_os_str().is_empty() { Path::new(".") } else { directory }
}

pub fn not_a_file() -> io::Error {
    io::Error::other("it is not a regular file")
}
