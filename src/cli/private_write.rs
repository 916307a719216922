//! A file of secrets that is written: made or replaced as a whole, for its owner alone.
//!
//! Invariant: whenever this ends, the file is the old one or the new one, whole.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// Nobody but its owner.
const MODE: u32 = 0o600;
/// The group that the owner lets read the file, such as that of the service.
const MODE_OF_READING_GROUP: u32 = 0o040;
/// Others.
const MODE_OF_OTHERS: u32 = 0o007;
/// Backups that are kept beside a file, each under a name of its own.
const BACKUPS_MAX: usize = 100;
/// The longest wait for another process that changes the file, which takes milliseconds.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_INTERVAL: Duration = Duration::from_millis(5);

/// The place of the file.
#[derive(Debug)]
pub enum Target {
    New(PathBuf),
    /// The file itself, where a link was named.
    Old(PathBuf),
}

/// The end of the file that was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormerFile {
    /// It stays under a name of its own.
    Backup,
    /// It is gone, and the new one has its owner and its group; the group may read it if it could.
    Replaced,
}

impl Target {
    /// # Errors
    /// There is something that is no file.
    pub fn find(path: &Path) -> io::Result<Self> {
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Target::New(path.to_owned())),
            Err(error) => Err(error),
            Ok(_) => {
                let file = fs::canonicalize(path)?;
                if fs::metadata(&file)?.is_file() {
                    Ok(Target::Old(file))
                } else {
                    Err(io::Error::other("it is no regular file"))
                }
            }
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Target::New(path) | Target::Old(path) => path,
        }
    }

    /// Keeps others that ask for it too from changing the file, for as long as what it returns lives. A file that is
    /// not there yet needs none: whoever comes second is refused by [`Target::write`].
    ///
    /// # Errors
    /// It cannot be opened, or another process has kept it for too long.
    pub fn lock(&self) -> io::Result<Option<File>> {
        let Target::Old(path) = self else { return Ok(None) };
        let until = Instant::now() + LOCK_PATIENCE;
        loop {
            let file = File::open(path)?;
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                // Unless it was replaced before it was locked.
                Ok(()) if file.metadata()?.ino() == fs::metadata(path)?.ino() => return Ok(Some(file)),
                Ok(()) | Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => {}
                // Some file systems have no locks.
                Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOLCK | rustix::io::Errno::NOSYS) => {
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            }
            if Instant::now() >= until {
                return Err(io::Error::other("another process is changing it"));
            }
            thread::sleep(LOCK_INTERVAL);
        }
    }

    /// Puts the text there; returns the backup of what was there before. A file that was made meanwhile stays.
    ///
    /// # Errors
    /// That of the system; all is as before.
    pub fn write(&self, text: &str, former: FormerFile) -> io::Result<Option<PathBuf>> {
        let path = self.path();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let whole = path.with_file_name(name);
        let result = write_whole(&whole, text).and_then(|()| match (self, former) {
            (Target::New(path), _) => publish(&whole, path).map(|()| None),
            (Target::Old(path), FormerFile::Backup) => {
                let backup = keep(path)?;
                fs::rename(&whole, path).map(|()| Some(backup))
            }
            (Target::Old(path), FormerFile::Replaced) => {
                keep_owner(path, &whole)?;
                fs::rename(&whole, path).map(|()| None)
            }
        });
        // Where it has another name now, there is nothing to remove.
        let _ = fs::remove_file(&whole);
        if result.is_ok() {
            sync_directory(path);
        }
        result
    }
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(text.as_bytes())?;
    // A power failure after the rename must not leave an empty file (rename(2) orders no data).
    file.sync_all()
}

/// Gives the new file the owner and the group of the old one, which may be those of a service.
fn keep_owner(old: &Path, new: &Path) -> io::Result<()> {
    let (old, file) = (fs::metadata(old)?, File::open(new)?);
    let made = file.metadata()?;
    if (old.uid(), old.gid()) != (made.uid(), made.gid()) {
        fchown(&file, Some(old.uid()), Some(old.gid())).map_err(|error| {
            let what = format!("its owner (user {}, group {}) cannot be kept: {error}", old.uid(), old.gid());
            io::Error::new(error.kind(), what)
        })?;
    }
    let group = if old.mode() & MODE_OF_OTHERS == 0 { old.mode() & MODE_OF_READING_GROUP } else { 0 };
    file.set_permissions(Permissions::from_mode(MODE | group))
}

/// Lets the new name outlive a power failure, where the file system can.
fn sync_directory(path: &Path) {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
}

/// Gives the file its name, unless there is one of that name.
fn publish(whole: &Path, path: &Path) -> io::Result<()> {
    match fs::hard_link(whole, path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(error),
        // Some file systems have no links.
        Err(_) => fs::rename(whole, path),
        Ok(()) => Ok(()),
    }
}

/// Keeps the file under a name of its own.
fn keep(path: &Path) -> io::Result<PathBuf> {
    for number in 1..=BACKUPS_MAX {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(if number == 1 { ".bak".to_owned() } else { format!(".bak.{number}") });
        let backup = path.with_file_name(name);
        match fs::hard_link(path, &backup) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) if !backup.exists() => {
                write_whole(&backup, "")?;
                fs::copy(path, &backup)?;
                // A copy has the mode of what it is of.
                fs::set_permissions(&backup, Permissions::from_mode(MODE))?;
                return Ok(backup);
            }
            Err(_) => {}
            Ok(()) => {
                fs::set_permissions(&backup, Permissions::from_mode(MODE))?;
                return Ok(backup);
            }
        }
    }
    Err(io::Error::other("there are too many backups beside it"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("a file").mode() & 0o777
    }

    fn names(directory: &Path) -> Vec<String> {
        let entries = fs::read_dir(directory).expect("a directory");
        let mut names: Vec<_> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_made_for_its_owner_and_replaced_through_a_link_with_the_group_that_could_read_it() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        let made = Target::find(&file).expect("a place");
        made.write("one", FormerFile::Replaced).expect("written");
        assert_eq!((fs::read_to_string(&file).expect("text").as_str(), mode(&file)), ("one", 0o600));
        let error = made.write("other", FormerFile::Replaced).expect_err("made meanwhile");
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        symlink("file", &link).expect("linked");
        for (before, after) in [(0o600, 0o600), (0o640, 0o640), (0o644, 0o600), (0o660, 0o640), (0o400, 0o600)] {
            fs::set_permissions(&file, Permissions::from_mode(before)).expect("changed");
            Target::find(&link).expect("a place").write("two", FormerFile::Replaced).expect("written");
            assert_eq!((fs::read_to_string(&file).expect("text").as_str(), mode(&file)), ("two", after));
        }
        assert!(fs::symlink_metadata(&link).expect("a link").is_symlink());
        assert_eq!(names(directory.path()), ["file", "link"]);
        Target::find(&link).expect("a place").write("three", FormerFile::Backup).expect("written");
        assert_eq!(names(directory.path()), ["file", "file.bak", "link"]);
        assert!(Target::find(directory.path()).is_err(), "a directory");
    }

    #[test]
    fn one_process_at_a_time_has_the_lock_of_the_file_that_has_the_name() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("file");
        fs::write(&path, "one").expect("written");
        let target = Target::find(&path).expect("a place");
        let lock = target.lock().expect("locked");
        thread::scope(|scope| {
            let other = scope.spawn(|| {
                let lock = Target::find(&path).expect("a place").lock().expect("locked").expect("a lock");
                let inode = |metadata: io::Result<fs::Metadata>| metadata.expect("a file").ino();
                (fs::read_to_string(&path).expect("text"), inode(lock.metadata()) == inode(fs::metadata(&path)))
            });
            thread::sleep(Duration::from_millis(50));
            target.write("two", FormerFile::Replaced).expect("written");
            drop(lock);
            assert_eq!(other.join().expect("no panic"), ("two".to_owned(), true));
        });
    }
}
