//! The log of a command's own gateway: the terminal is the command's.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

const FILE_NAME: &str = "exec.log";
/// The one before, kept once.
const OLD_FILE_NAME: &str = "exec.log.1";
/// The size at which the next command begins another file: some 30,000 requests.
const BYTES_MAX: u64 = 10 * 1024 * 1024;

/// A file that is written to its end, by several commands at once too.
#[derive(Debug)]
pub struct ExecLog {
    pub file: File,
    /// `None`: nothing is kept, since no directory for it is known or can be written.
    pub path: Option<PathBuf>,
}

impl ExecLog {
    /// Opens `exec.log` in `$XDG_STATE_HOME/flow-uring`, else in `~/.local/state/flow-uring`.
    ///
    /// # Errors
    /// Not even `/dev/null` can be opened.
    pub fn open() -> io::Result<Self> {
        let opened = directory().and_then(|directory| {
            let path = directory.join(FILE_NAME);
            DirBuilder::new().recursive(true).mode(0o700).create(&directory).ok()?;
            if fs::metadata(&path).is_ok_and(|metadata| metadata.len() > BYTES_MAX) {
                let _ = fs::rename(&path, directory.join(OLD_FILE_NAME));
            }
            let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&path).ok()?;
            Some(ExecLog { file, path: Some(path) })
        });
        match opened {
            Some(log) => Ok(log),
            None => Ok(ExecLog { file: OpenOptions::new().write(true).open("/dev/null")?, path: None }),
        }
    }
}

/// By the XDG Base Directory Specification a path that is not absolute does not count.
fn directory() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    state.map(|state| state.join("flow-uring"))
}
