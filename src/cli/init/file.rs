//! The secrets file as a whole: read, kept as a backup, and replaced at once.

use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::error::InitError;
use crate::credentials::private_file;
use crate::whole_file::FileKinds;

/// Nobody but its owner.
const MODE: u32 = 0o600;
/// Backups that are kept beside a file, each under a name of its own.
const BACKUPS_MAX: usize = 100;

/// The place of the file.
#[derive(Debug)]
pub enum Target {
    New(PathBuf),
    /// The file itself, where a link was named.
    Old(PathBuf),
}

impl Target {
    /// # Errors
    /// There is something that is no file.
    pub fn find(path: &Path) -> Result<Self, InitError> {
        let failed = |error| InitError::File { path: path.to_owned(), error };
        match fs::symlink_metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Target::New(path.to_owned())),
            Err(error) => Err(failed(error)),
            Ok(_) => {
                let file = fs::canonicalize(path).map_err(failed)?;
                if fs::metadata(&file).map_err(failed)?.is_file() {
                    Ok(Target::Old(file))
                } else {
                    Err(failed(io::Error::other("it is no regular file")))
                }
            }
        }
    }

    pub fn path(&self) -> &Path {
        match self {
            Target::New(path) | Target::Old(path) => path,
        }
    }

    /// Puts the text there; returns the backup of what was there before. A file that was made meanwhile stays.
    ///
    /// # Errors
    /// That of the system; all is as before.
    pub fn write(&self, text: &str) -> Result<Option<PathBuf>, InitError> {
        let path = self.path();
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", std::process::id()));
        let whole = path.with_file_name(name);
        let result = write_whole(&whole, text).and_then(|()| match self {
            Target::New(path) => publish(&whole, path).map(|()| None),
            Target::Old(path) => {
                let backup = keep(path)?;
                fs::rename(&whole, path).map(|()| Some(backup))
            }
        });
        // Where it has another name now, there is nothing to remove.
        let _ = fs::remove_file(&whole);
        result.map_err(|error| InitError::File { path: path.to_owned(), error })
    }
}

/// Reads a file that is there.
///
/// # Errors
/// It cannot be read, or is no text.
pub fn read(path: &Path) -> Result<Zeroizing<String>, InitError> {
    let read = private_file::read(path, FileKinds::Regular);
    read.map(|(text, _)| text).map_err(|fault| InitError::Read { path: path.to_owned(), fault })
}

fn write_whole(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(MODE).open(path)?;
    file.write_all(text.as_bytes())?;
    // A power failure after the rename must not leave an empty file (rename(2) orders no data).
    file.sync_all()
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
