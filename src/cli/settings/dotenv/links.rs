//! The way to a file over symbolic links, each of which is judged before it is followed.
//!
//! The kernel follows links whoever made them, those of directories too, so the way is gone part by part: each is opened
//! as what it is, below the directory that was opened before it. Invariant: opening waits for nothing and reads nothing,
//! and what another user puts in the place of a part meanwhile is judged as well.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat, readlinkat};
use rustix::io::Errno;

/// As many as the kernel follows (path_resolution(7)).
const LINKS_MAX: usize = 40;

/// The end of a way.
pub struct WayEnd {
    /// Opened for its path alone: it is not a link, and cannot be read.
    pub entry: OwnedFd,
    directory: OwnedFd,
    name: OsString,
}

/// The reason why a way has no end.
#[derive(Debug)]
pub enum WayFault<E> {
    /// There is no such file.
    Absent,
    /// There is a link, and what it leads to is not there.
    Dangling,
    /// The judge's.
    Refused(E),
    System(Errno),
}

impl WayEnd {
    /// Finds the file at `path`; every link is shown to `judge` before it is followed.
    ///
    /// # Errors
    /// There is none, a link was refused, or the system failed.
    pub fn find<E>(path: &Path, mut judge: impl FnMut(&OwnedFd) -> Result<(), E>) -> Result<Self, WayFault<E>> {
        let mut directory = open(CWD, OsStr::new("."), OFlags::PATH)?;
        let mut parts_left = reversed_parts(path);
        let mut links_count = 0;
        while let Some(name) = parts_left.pop() {
            let is_last = parts_left.is_empty();
            let entry = match open_part(&directory, &name, is_last) {
                Err(Errno::NOENT) if links_count == 0 => return Err(WayFault::Absent),
                Err(Errno::NOENT) => return Err(WayFault::Dangling),
                entry => entry?,
            };
            if FileType::from_raw_mode(fstat(&entry)?.st_mode) == FileType::Symlink {
                judge(&entry).map_err(WayFault::Refused)?;
                links_count += 1;
                if links_count > LINKS_MAX {
                    return Err(WayFault::System(Errno::LOOP));
                }
                // Of the link that was opened and judged, whatever has its name now.
                let target = readlinkat(&entry, "", Vec::new())?;
                parts_left.extend(reversed_parts(Path::new(OsStr::from_bytes(target.as_bytes()))));
            } else if is_last {
                return Ok(WayEnd { entry, directory, name });
            } else {
                directory = entry;
            }
        }
        Err(WayFault::Absent)
    }

    /// Opens what has the name now, which need not be [`Self::entry`] any more, to be read.
    pub fn open(&self) -> Result<OwnedFd, Errno> {
        open(&self.directory, &self.name, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW)
    }
}

impl<E> From<Errno> for WayFault<E> {
    fn from(error: Errno) -> Self {
        WayFault::System(error)
    }
}

/// The parts of a path, the first one at the end; that of an absolute path is `/`.
fn reversed_parts(path: &Path) -> Vec<OsString> {
    path.components().rev().map(|part| part.as_os_str().to_owned()).collect()
}

/// Opens a part of the way for its path alone, a link as what it is.
fn open_part(directory: &OwnedFd, name: &OsStr, is_last: bool) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW;
    if !is_last {
        // As a directory, without which one that is mounted when it is needed stays empty (automount).
        match open(directory, name, flags | OFlags::DIRECTORY) {
            Err(Errno::NOTDIR) => {}
            opened => return opened,
        }
    }
    open(directory, name, flags)
}

fn open(directory: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    use super::*;

    /// Follows the way to `path`, as far as `links_max` links: the content of the file and the number of links.
    fn follow(path: &Path, links_max: usize) -> Result<(String, usize), WayFault<usize>> {
        let mut links_count = 0;
        let end = WayEnd::find(path, |_| {
            links_count += 1;
            if links_count > links_max { Err(links_count) } else { Ok(()) }
        })?;
        let mut text = String::new();
        File::from(end.open()?).read_to_string(&mut text).expect("read");
        Ok((text, links_count))
    }

    #[test]
    fn every_link_of_a_file_or_of_a_directory_is_shown_and_one_that_is_refused_is_not_followed() {
        // Without links of its own, such as that of /tmp on some systems.
        let place = tempfile::tempdir().expect("a temporary directory");
        let root = place.path().canonicalize().expect("found");
        let path = |name: &str| root.join(name);
        std::fs::create_dir_all(path("d/e")).expect("made");
        std::fs::write(path("d/e/file"), "found").expect("written");
        for (target, name, links) in [
            ("d/e/file", "one", 1),
            ("one", "two", 2),
            ("e", "d/link", 1),
            ("d/link/file", "over-a-directory", 2),
            ("d/link/../link/../../two", "up-and-down", 5),
            ("./d//e/./file", "dots", 1),
        ] {
            symlink(target, path(name)).expect("linked");
            if name == "d/link" {
                continue;
            }
            let (text, shown) = follow(&path(name), LINKS_MAX).expect(name);
            assert_eq!((&*text, shown), ("found", links), "{name}");
            for links_max in 0..links {
                let refused = follow(&path(name), links_max);
                assert!(matches!(refused, Err(WayFault::Refused(at)) if at == links_max + 1), "{name}: {refused:?}");
            }
        }
        symlink(path("two"), path("absolute")).expect("linked");
        assert_eq!(follow(&path("absolute"), 3).expect("followed"), ("found".into(), 3));
        assert_eq!(follow(&path("d/e/file"), 0).expect("no link"), ("found".into(), 0));
    }

    #[test]
    fn a_way_without_an_end_is_given_up() {
        let place = tempfile::tempdir().expect("a temporary directory");
        let root = place.path().canonicalize().expect("found");
        let path = |name: &str| root.join(name);
        assert!(matches!(follow(&path("absent"), 0), Err(WayFault::Absent)));
        for (target, name) in [("nowhere", "dangling"), ("dangling", "over"), ("nowhere/file", "deep")] {
            symlink(target, path(name)).expect("linked");
            assert!(matches!(follow(&path(name), LINKS_MAX), Err(WayFault::Dangling)), "{name}");
        }
        std::fs::write(path("0"), "found").expect("written");
        for at in 0..=LINKS_MAX {
            symlink(at.to_string(), path(&(at + 1).to_string())).expect("linked");
        }
        assert_eq!(follow(&path(&LINKS_MAX.to_string()), LINKS_MAX).expect("the most"), ("found".into(), LINKS_MAX));
        for looped in [(LINKS_MAX + 1).to_string(), "itself".into()] {
            let _ = symlink("itself", path("itself"));
            let fault = follow(&path(&looped), usize::MAX);
            assert!(matches!(fault, Err(WayFault::System(Errno::LOOP))), "{looped}: {fault:?}");
        }
        symlink("0/file", path("through-a-file")).expect("linked");
        assert!(matches!(follow(&path("through-a-file"), 1), Err(WayFault::System(Errno::NOTDIR))));
    }
}
