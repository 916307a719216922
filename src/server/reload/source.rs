//! The files that credentials and API keys came from.

use std::path::{Path, PathBuf};

use super::watched_file::FileVersion;

/// Where something came from that can change while the program runs.
#[derive(Debug)]
pub enum FileSource {
    /// A file, which is read again when it changes.
    File {
        path: PathBuf,
        /// What it was when it was first read.
        version: Option<FileVersion>,
    },
    /// Nothing that could be read again.
    Fixed,
}

/// Where credentials and API keys came from.
#[derive(Debug)]
pub struct Sources {
    pub secrets: FileSource,
    pub api_keys: FileSource,
}

impl FileSource {
    /// To be called before the file is read, so that a change in between is seen. A pipe is read once: what it gave is
    /// gone.
    #[expect(clippy::disallowed_methods, reason = "asked before there are shards")]
    pub fn file(path: &Path) -> Self {
        if std::fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            return FileSource::Fixed;
        }
        FileSource::File { path: path.to_owned(), version: FileVersion::of(path).ok() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_is_never_read_again() {
        assert!(matches!(FileSource::file(Path::new("/dev/null")), FileSource::Fixed));
        assert!(matches!(FileSource::file(Path::new("/nowhere")), FileSource::File { version: None, .. }));
    }
}
