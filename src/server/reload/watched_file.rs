//! The files that are watched, and their versions.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file that is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WatchedFile {
    Secrets,
    ApiKeys,
}

/// A version of a file, told from others without reading it; symbolic links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileVersion {
    device: u64,
    inode: u64,
    modified: (i64, i64),
    changed: (i64, i64),
    size_bytes: u64,
}

impl FileVersion {
    /// Examines the file.
    ///
    /// # Errors
    /// The file is missing, cannot be examined, or is not a regular file.
    #[expect(clippy::disallowed_methods, reason = "runs on the main thread and on the one that watches the file")]
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        // A pipe would block the main thread until a process writes to it.
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        Ok(FileVersion::from(&metadata))
    }

    /// A version that differs from those of other inodes alone.
    #[cfg(test)]
    pub fn of_inode(inode: u64) -> Self {
        FileVersion { device: 1, inode, modified: (1, 2), changed: (1, 2), size_bytes: 3 }
    }
}

impl From<&Metadata> for FileVersion {
    fn from(metadata: &Metadata) -> Self {
        FileVersion {
            device: metadata.dev(),
            inode: metadata.ino(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            size_bytes: metadata.size(),
        }
    }
}
