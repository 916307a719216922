//! The files that credentials and API keys were read from, and the source of prices.

use std::path::{Path, PathBuf};

use super::watched_file::FileVersion;
use crate::config::PriceSource;

/// The source of something that can change while the program runs.
#[derive(Debug)]
pub enum FileSource {
    /// A file, which is read again when it changes.
    File {
        path: PathBuf,
        /// The version that was read first.
        version: Option<FileVersion>,
    },
    /// Something that cannot be read again.
    Fixed,
}

/// The sources of credentials, API keys and prices.
#[derive(Debug)]
pub struct Sources {
    pub secrets: FileSource,
    pub api_keys: FileSource,
    pub prices: PriceSource,
}

impl FileSource {
    /// Notes the version of the file. To be called before the file is read, so that a change in between is seen. A pipe
    /// can be read only once.
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
