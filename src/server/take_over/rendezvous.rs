//! The Unix socket at which a successor finds the running gateway: its name follows from the address that they share.
//!
//! Invariant: only this user and root can replace the socket, also in /tmp, where everybody may write.

use std::fmt;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The bytes that `sun_path` holds besides its closing zero (unix(7)).
const PATH_BYTES_MAX: usize = 107;

/// The directory to use without a runtime directory, as in a root shell or in a container.
const SHARED_DIRECTORY: &str = "/tmp";

/// Returns the path of the socket for `address`.
///
/// # Errors
/// The path is too long for a socket, or there is no safe directory.
pub fn path(runtime_directory: Option<&Path>, address: SocketAddr) -> Result<PathBuf, RendezvousError> {
    let directory = match runtime_directory {
        Some(directory) => directory.to_owned(),
        None => private_directory(Path::new(SHARED_DIRECTORY))?,
    };
    let path = directory.join(format!("flow-uring-{}-{}.sock", address.ip(), address.port()));
    // The name under which it is bound is longer.
    let length = interim(&path).as_os_str().as_bytes().len();
    if length > PATH_BYTES_MAX { Err(RendezvousError::TooLong { path, length }) } else { Ok(path) }
}

/// The error that keeps the socket from being set up.
#[derive(Debug)]
pub enum RendezvousError {
    TooLong {
        path: PathBuf,
        length: usize,
    },
    /// Others than this user have access to the directory in /tmp, and may have prepared it.
    NotPrivate {
        directory: PathBuf,
    },
    Io {
        path: PathBuf,
        error: io::Error,
    },
}

impl fmt::Display for RendezvousError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RendezvousError::TooLong { path, length } => write!(
                formatter,
                "{} would need {length} bytes while it is bound, and the path of a socket has {PATH_BYTES_MAX} at most: set \
                 XDG_RUNTIME_DIR to a shorter one",
                path.display()
            ),
            RendezvousError::NotPrivate { directory } => write!(
                formatter,
                "{} is not a directory of this user's alone (mode 700): remove it, or set XDG_RUNTIME_DIR",
                directory.display()
            ),
            RendezvousError::Io { path, error } => write!(formatter, "{}: {error}", path.display()),
        }
    }
}

impl std::error::Error for RendezvousError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RendezvousError::Io { error, .. } => Some(error),
            RendezvousError::TooLong { .. } | RendezvousError::NotPrivate { .. } => None,
        }
    }
}

/// Listens at `path` for this user alone, and replaces a socket that exists there: the gateway that has the port has
/// the path, so the old one belongs to a gateway that was killed, or that has just been taken over.
///
/// # Errors
/// The socket cannot be bound or moved to `path`.
pub fn listen(path: &Path) -> Result<UnixListener, RendezvousError> {
    let interim = interim(path);
    let failed = |error| RendezvousError::Io { path: path.to_owned(), error };
    // Left by a process that had the same id and was killed right here; mostly there is none.
    let _ = std::fs::remove_file(&interim);
    let listener = UnixListener::bind(&interim).map_err(failed)?;
    let placed = std::fs::set_permissions(&interim, Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&interim, path));
    if let Err(error) = placed {
        let _ = std::fs::remove_file(&interim);
        return Err(failed(error));
    }
    Ok(listener)
}

/// Returns the name of the socket until it has its permissions.
fn interim(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}", std::process::id()));
    PathBuf::from(name)
}

/// Makes or finds a directory that only this user has access to, in one where everybody may write.
fn private_directory(parent: &Path) -> Result<PathBuf, RendezvousError> {
    let directory = parent.join(format!("flow-uring-{}", geteuid()));
    let made = DirBuilder::new().mode(0o700).create(&directory);
    if let Err(error) = made
        && error.kind() != io::ErrorKind::AlreadyExists
    {
        return Err(RendezvousError::Io { path: directory, error });
    }
    // The metadata of the name itself: a link that another user put there must not be followed. A directory of this
    // user that is closed to others cannot be replaced: in /tmp only owners rename and remove (its sticky bit).
    let is_private = std::fs::symlink_metadata(&directory).is_ok_and(|metadata| {
        metadata.is_dir() && metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o077 == 0
    });
    if is_private { Ok(directory) } else { Err(RendezvousError::NotPrivate { directory }) }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixStream;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_name_follows_from_the_address() {
        let path = |text| path(Some(Path::new("/run/user/1")), address(text)).unwrap();
        assert_eq!(path("127.0.0.1:8899"), Path::new("/run/user/1/flow-uring-127.0.0.1-8899.sock"));
        assert_eq!(path("[::1]:1"), Path::new("/run/user/1/flow-uring-::1-1.sock"));
    }

    #[test]
    fn a_path_that_is_too_long_for_a_socket_is_refused_with_what_to_do() {
        let error = path(Some(&Path::new("/").join("d".repeat(80))), address("127.0.0.1:8899")).unwrap_err();
        assert!(matches!(error, RendezvousError::TooLong { .. }), "{error}");
        assert!(error.to_string().contains("107") && error.to_string().contains("XDG_RUNTIME_DIR"), "{error}");
    }

    #[test]
    fn a_private_directory_is_made_once_and_found_again() {
        let parent = tempfile::tempdir().unwrap();
        let directory = private_directory(parent.path()).unwrap();
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o777, 0o700);
        assert_eq!(private_directory(parent.path()).unwrap(), directory);
    }

    #[test]
    fn what_another_user_prepared_in_its_place_is_refused() {
        type Attack = fn(&Path, &Path);
        let attacks: [(&str, Attack); 4] = [
            ("a link to a directory", |elsewhere, place| symlink(elsewhere, place).unwrap()),
            ("a link to nowhere", |elsewhere, place| symlink(elsewhere.join("none"), place).unwrap()),
            ("a file", |_, place| fs::write(place, "").unwrap()),
            ("a directory that others may write to", |_, place| {
                fs::create_dir(place).unwrap();
                fs::set_permissions(place, Permissions::from_mode(0o770)).unwrap();
            }),
        ];
        for (what, attack) in attacks {
            let parent = tempfile::tempdir().unwrap();
            let elsewhere = tempfile::tempdir().unwrap();
            attack(elsewhere.path(), &parent.path().join(format!("flow-uring-{}", geteuid())));
            let refused = private_directory(parent.path());
            assert!(matches!(refused, Err(RendezvousError::NotPrivate { .. })), "{what}: {refused:?}");
            assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0, "{what}");
        }
    }

    #[test]
    fn a_directory_of_another_user_is_refused() {
        if !geteuid().is_root() {
            // Past what captures the output of tests, for scripts/check to tell at its end.
            let what = "a take-over by another user: only root can make a directory of another user";
            return drop(writeln!(io::stderr(), "skipped: {what}"));
        }
        let parent = tempfile::tempdir().unwrap();
        let place = parent.path().join("flow-uring-0");
        fs::create_dir(&place).unwrap();
        fs::set_permissions(&place, Permissions::from_mode(0o700)).unwrap();
        std::os::unix::fs::chown(&place, Some(65_534), None).unwrap();
        assert!(matches!(private_directory(parent.path()), Err(RendezvousError::NotPrivate { .. })));
    }

    #[test]
    fn a_socket_is_for_this_user_alone_and_replaces_what_stands_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flow-uring-test.sock");
        let stale = UnixListener::bind(&path).unwrap();
        drop(stale);
        let listener = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        listener.accept().unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1, "nothing else is left");
    }
}
