//! Files that hold secrets: their size, and the warning when others can read one.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::process::{getegid, getgroups};
use zeroize::Zeroizing;

use crate::whole_file::{self, FileKinds, ReadFault};

/// Limit on the file's size, far above what any of these files needs, so that a wrong path is not read into memory
/// whole.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Reads the text of a file.
///
/// # Errors
/// As [`whole_file::read_text`].
pub fn read(path: &Path, kinds: FileKinds) -> Result<(Zeroizing<String>, Metadata), ReadFault> {
    read_up_to(path, FILE_BYTES_MAX, kinds)
}

/// As [`read`], of a file that may be larger.
///
/// # Errors
/// As [`whole_file::read_text`].
pub fn read_up_to(path: &Path, bytes_max: usize, kinds: FileKinds) -> Result<(Zeroizing<String>, Metadata), ReadFault> {
    whole_file::read_text(path, bytes_max, kinds)
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
