//! The faults of the file of totals, with what can be done about each.

use std::fmt;
use std::io;
use std::path::PathBuf;

use rusqlite::{ErrorCode, ffi};

/// The reason why the file cannot be used.
#[derive(Debug)]
pub struct StoreError {
    pub path: PathBuf,
    pub fault: StoreFault,
}

#[derive(Debug)]
pub enum StoreFault {
    /// There is no file to read.
    Absent,
    /// Its directory cannot be made.
    Directory(io::Error),
    /// A directory, a device or a pipe.
    NotAFile,
    /// It cannot be made or looked at.
    File(io::Error),
    /// A database of another program.
    Foreign,
    /// Written by a later version of this program.
    Newer {
        version: i64,
    },
    Damaged(rusqlite::Error),
    Full(rusqlite::Error),
    /// The file, its directory or its file system is read-only for this user.
    ReadOnly(rusqlite::Error),
    /// A write was cut off, and this user may not roll it back.
    HalfWritten(rusqlite::Error),
    /// The disk, its file system or a limit on sizes of files.
    Disk(rusqlite::Error),
    /// Another process has held it for longer than the busy timeout.
    Busy(rusqlite::Error),
    Other(rusqlite::Error),
}

impl From<rusqlite::Error> for StoreFault {
    fn from(error: rusqlite::Error) -> Self {
        let extended = error.sqlite_error().map(|error| error.extended_code);
        match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreFault::Damaged(error),
            Some(ErrorCode::DiskFull) => StoreFault::Full(error),
            Some(ErrorCode::ReadOnly) if extended == Some(ffi::SQLITE_READONLY_ROLLBACK) => {
                StoreFault::HalfWritten(error)
            }
            // The journal beside the file cannot be made.
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                StoreFault::ReadOnly(error)
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreFault::Busy(error),
            Some(ErrorCode::SystemIoFailure) => StoreFault::Disk(error),
            _ => StoreFault::Other(error),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match &self.fault {
            StoreFault::Absent => write!(
                formatter,
                "there is no usage file {path}: no gateway has written one there yet; name another with --usage-db"
            ),
            StoreFault::Directory(error) => write!(
                formatter,
                "the directory of the usage file {path} cannot be made: {error}; make it, or choose another --usage-db"
            ),
            StoreFault::NotAFile => {
                write!(formatter, "the usage file {path} is not a regular file; choose another --usage-db")
            }
            StoreFault::File(error) => {
                write!(formatter, "the usage file {path} cannot be opened: {error}; choose another --usage-db")
            }
            StoreFault::Foreign => write!(
                formatter,
                "{path} is a database of another program, and is left as it is; choose another --usage-db"
            ),
            StoreFault::Newer { version } => write!(
                formatter,
                "the usage file {path} was written by a newer flow-uring (its form is number {version}), and is left as \
                 it is; use that version, or choose another --usage-db"
            ),
            StoreFault::Damaged(error) => write!(
                formatter,
                "the usage file {path} is damaged ({error}): move it away and a new one is made, or put a copy of it back"
            ),
            StoreFault::Full(error) => {
                write!(formatter, "there is no room for the usage file {path} ({error}): free some, or raise the quota")
            }
            StoreFault::ReadOnly(error) => write!(
                formatter,
                "the usage file {path} or its directory may not be written ({error}): give this user the right to, or \
                 choose another --usage-db"
            ),
            StoreFault::HalfWritten(error) => write!(
                formatter,
                "the last write to the usage file {path} was cut off, and this user may not undo it ({error}): read it \
                 once as the user that the gateway runs as"
            ),
            StoreFault::Disk(error) => write!(
                formatter,
                "the usage file {path} cannot be read or written ({error}): see to its disk and to limits on sizes of \
                 files, or choose another --usage-db"
            ),
            StoreFault::Busy(error) => write!(
                formatter,
                "another process keeps the usage file {path} locked ({error}): end that one, or try again"
            ),
            StoreFault::Other(error) => write!(formatter, "the usage file {path} cannot be used: {error}"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.fault {
            StoreFault::Directory(error) | StoreFault::File(error) => Some(error),
            StoreFault::Damaged(error)
            | StoreFault::Full(error)
            | StoreFault::ReadOnly(error)
            | StoreFault::HalfWritten(error)
            | StoreFault::Disk(error)
            | StoreFault::Busy(error)
            | StoreFault::Other(error) => Some(error),
            StoreFault::Absent | StoreFault::NotAFile | StoreFault::Foreign | StoreFault::Newer { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_of_the_database_has_its_kind_and_says_what_to_do() {
        for (code, kind, advice) in [
            (ffi::SQLITE_CORRUPT, "Damaged", "move it away and a new one is made"),
            (ffi::SQLITE_NOTADB, "Damaged", "move it away and a new one is made"),
            (ffi::SQLITE_FULL, "Full", "free some, or raise the quota"),
            (ffi::SQLITE_READONLY, "ReadOnly", "give this user the right to"),
            (ffi::SQLITE_READONLY_DIRECTORY, "ReadOnly", "give this user the right to"),
            (ffi::SQLITE_CANTOPEN, "ReadOnly", "give this user the right to"),
            (ffi::SQLITE_PERM, "ReadOnly", "give this user the right to"),
            (ffi::SQLITE_READONLY_ROLLBACK, "HalfWritten", "as the user that the gateway runs as"),
            (ffi::SQLITE_BUSY, "Busy", "end that one, or try again"),
            (ffi::SQLITE_LOCKED, "Busy", "end that one, or try again"),
            (ffi::SQLITE_IOERR_WRITE, "Disk", "see to its disk and to limits on sizes of files"),
            (ffi::SQLITE_NOMEM, "Other", "cannot be used"),
        ] {
            let fault = StoreFault::from(rusqlite::Error::SqliteFailure(ffi::Error::new(code), None));
            assert!(format!("{fault:?}").starts_with(&format!("{kind}(")), "{code}: {fault:?}");
            let error = StoreError { path: "/p".into(), fault };
            assert!(error.to_string().contains(advice) && error.to_string().contains("/p"), "{error}");
            assert!(std::error::Error::source(&error).is_some());
        }
    }
}
