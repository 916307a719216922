use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use rustix::fs::{CWD, Mode, XattrFlags, mkfifoat, setxattr};
use tempfile::TempDir;

use super::*;

const USER: User = User { id: 1000, primary_group: 1000 };

const GOOD: Seen = Seen {
    kind: FileType::RegularFile,
    owner: 1000,
    group: 1000,
    mode: 0o644,
    has_access_list: false,
    keeper: Keeper::Disk,
};

/// Judges the file for [`USER`]: a warning, or why it is refused.
fn judged(file: Seen) -> Result<Option<String>, String> {
    USER.judge(&file).map_err(|error| error.to_string())
}

fn refusal(file: Seen) -> String {
    judged(file).expect_err("refused")
}

#[test]
fn a_file_of_the_user_or_of_root_that_nobody_else_can_write_is_used() {
    for (owner, group, mode) in [
        (1000, 1000, 0o600),
        (1000, 1000, 0o644),
        // A umask of 002.
        (1000, 1000, 0o664),
        (1000, 50, 0o644),
        (0, 0, 0o644),
        (0, 0, 0o400),
        (0, 1000, 0o664),
        // The bits of the group bound the list.
        (1000, 1000, 0o4755),
    ] {
        assert_eq!(judged(Seen { owner, group, mode, ..GOOD }), Ok(None), "{owner} {group} {mode:o}");
    }
    assert_eq!(judged(Seen { has_access_list: true, ..GOOD }), Ok(None), "its mask lets nobody write");
}

#[test]
fn a_file_that_somebody_else_can_write_is_refused_with_what_to_do() {
    assert_eq!(
        refusal(Seen { mode: 0o666, ..GOOD }),
        ".env can be written by everyone (mode 666), so nothing of it is used. Read it, and if it says what you want run \
         chmod go-w .env"
    );
    for (file, begin) in [
        (Seen { mode: 0o602, ..GOOD }, ".env can be written by everyone (mode 602)"),
        (Seen { mode: 0o664, group: 50, ..GOOD }, ".env can be written by group 50 (mode 664)"),
        // The group of root is another one for this user.
        (Seen { owner: 0, mode: 0o664, group: 0, ..GOOD }, ".env can be written by group 0 (mode 664)"),
        (Seen { mode: 0o664, has_access_list: true, ..GOOD }, ".env can be written by those whom its access control"),
        (Seen { owner: 1001, ..GOOD }, ".env belongs to user 1001, not to user 1000, who runs this, or to root"),
        (Seen { owner: 65534, mode: 0o600, ..GOOD }, ".env belongs to user 65534"),
        (Seen { keeper: Keeper::Kernel, owner: 0, ..GOOD }, ".env leads to a file of the kernel's"),
    ] {
        let told = refusal(file);
        assert!(told.starts_with(begin) && told.contains(", so nothing of it is used. "), "{told}");
    }
    for (kind, named) in [
        (FileType::Directory, "a directory"),
        (FileType::Fifo, "a named pipe"),
        (FileType::Socket, "a socket"),
        (FileType::CharacterDevice, "a device"),
        (FileType::BlockDevice, "a device"),
    ] {
        let told = refusal(Seen { kind, owner: 0, ..GOOD });
        assert!(told.starts_with(&format!(".env is {named}, not a regular file")), "{told}");
    }
}

#[test]
fn where_the_file_system_keeps_no_owners_and_modes_they_lead_to_a_warning() {
    let mounted = Seen { keeper: Keeper::Mount, mode: 0o777, ..GOOD };
    for file in [mounted, Seen { owner: 0, ..mounted }, Seen { mode: 0o770, group: 50, ..mounted }] {
        let warning = judged(file).expect("used").expect("a warning");
        assert!(warning.starts_with(".env can be written by ") && warning.contains("read all the same"), "{warning}");
    }
    assert_eq!(judged(Seen { mode: 0o755, ..mounted }), Ok(None));
    for mode in [0o600, 0o777] {
        let warning = judged(Seen { owner: 1001, mode, ..mounted }).expect("used").expect("a warning");
        assert_eq!(
            warning,
            ".env belongs to user 1001, not to user 1000, who runs this, or to root; its file system keeps no owners and \
             modes, so it is read all the same: see that no other user of this machine can write it"
        );
    }
    assert!(refusal(Seen { kind: FileType::Fifo, ..mounted }).starts_with(".env is a named pipe"));
}

#[test]
fn file_systems_are_told_by_their_type() {
    for (file_system, keeper) in [
        (0x0102_1997, Keeper::Mount),
        (0x4d44, Keeper::Mount),
        (0xff53_4d42, Keeper::Mount),
        (0x6573_5546, Keeper::Mount),
        (0x9fa0, Keeper::Kernel),
        // ext4, tmpfs, overlayfs, xfs, btrfs, nfs
        (0xef53, Keeper::Disk),
        (0x0102_1994, Keeper::Disk),
        (0x794c_7630, Keeper::Disk),
        (0x5846_5342, Keeper::Disk),
        (0x9123_683e, Keeper::Disk),
        (0x6969, Keeper::Disk),
    ] {
        assert_eq!(Keeper::of(file_system), keeper, "{file_system:x}");
    }
}

/// A directory in which `.env` can be made.
struct WrittenFile(TempDir);

impl WrittenFile {
    fn new() -> Self {
        WrittenFile(tempfile::tempdir().expect("a temporary directory"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, mode: u32) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, "A=1\n").expect("written");
        std::fs::set_permissions(&path, Permissions::from_mode(mode)).expect("changed");
        path
    }

    /// Reads `.env`: its text, or why not.
    fn read(&self) -> Result<Option<String>, String> {
        let read = super::read(&self.path(".env")).map_err(|error| error.to_string())?;
        assert!(read.as_ref().is_none_or(|file| file.warning.is_none()));
        Ok(read.map(|file| file.text.to_string()))
    }

    fn refusal(&self) -> String {
        self.read().expect_err("refused")
    }
}

#[test]
fn a_file_is_read_and_an_absent_one_is_none() {
    let place = WrittenFile::new();
    assert_eq!(place.read(), Ok(None));
    for mode in [0o600, 0o644, 0o664] {
        place.write(".env", mode);
        assert_eq!(place.read(), Ok(Some("A=1\n".into())), "{mode:o}");
    }
    place.write(".env", 0o666);
    assert!(place.refusal().starts_with(".env can be written by everyone (mode 666)"));
    std::fs::set_permissions(place.path(".env"), Permissions::from_mode(0o600)).expect("changed");
    std::fs::write(place.path(".env"), b"A=\xff").expect("written");
    assert_eq!(place.refusal(), ".env is not UTF-8 text");
    std::fs::write(place.path(".env"), vec![b'\n'; FILE_BYTES_MAX + 1]).expect("written");
    assert_eq!(place.refusal(), ".env is larger than 1024 KiB");
    // Its size alone: it takes no room on the disk.
    File::options().write(true).open(place.path(".env")).and_then(|file| file.set_len(1 << 40)).expect("grown");
    assert_eq!(place.refusal(), ".env is larger than 1024 KiB");
}

#[test]
fn what_is_no_file_is_refused_at_once() {
    let place = WrittenFile::new();
    std::fs::create_dir(place.path(".env")).expect("made");
    assert!(place.refusal().starts_with(".env is a directory, not a regular file"));
    std::fs::remove_dir(place.path(".env")).expect("removed");
    // Nobody writes to it: opening it would wait for ever.
    mkfifoat(CWD, place.path(".env"), Mode::from_raw_mode(0o600)).expect("made");
    assert!(place.refusal().starts_with(".env is a named pipe, not a regular file"));
    std::fs::remove_file(place.path(".env")).expect("removed");
    let _socket = UnixListener::bind(place.path(".env")).expect("bound");
    assert!(place.refusal().starts_with(".env is a socket, not a regular file"));
}

#[test]
fn a_link_of_the_user_is_followed_and_the_file_is_judged() {
    let place = WrittenFile::new();
    std::fs::create_dir(place.path("..1")).expect("made");
    let file = place.write("..1/.env", 0o644);
    // As Kubernetes mounts a file.
    symlink("..1", place.path("..data")).expect("linked");
    symlink("..data/.env", place.path(".env")).expect("linked");
    assert_eq!(place.read(), Ok(Some("A=1\n".into())));
    std::fs::set_permissions(&file, Permissions::from_mode(0o646)).expect("changed");
    assert!(place.refusal().starts_with(".env can be written by everyone (mode 646)"));
    std::fs::remove_file(&file).expect("removed");
    let dangling = place.refusal();
    assert!(dangling.starts_with(".env is a symbolic link to a file that is not there"), "{dangling}");
    let link_to = |target: &str| {
        std::fs::remove_file(place.path(".env")).expect("removed");
        symlink(target, place.path(".env")).expect("linked");
        place.refusal()
    };
    assert!(link_to("/dev/zero").starts_with(".env is a device, not a regular file"));
    assert!(link_to("/proc/self/cmdline").starts_with(".env leads to a file of the kernel's"));
    // A link of the kernel's to a file that may be used.
    let file = place.write("file", 0o600);
    let opened = File::open(&file).expect("opened");
    let told = link_to(&format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&opened)));
    assert!(told.starts_with(".env leads to a file of the kernel's"), "{told}");
    assert!(link_to(".env").starts_with(".env cannot be read: "), "a link to itself");
}

#[test]
fn a_link_of_another_user_is_not_followed() {
    let link = Seen { kind: FileType::Symlink, mode: 0o777, ..GOOD };
    let judged = |link| USER.judge_link(&link).map_err(|error| error.to_string());
    for owner in [0, 1000] {
        assert_eq!(judged(Seen { owner, ..link }), Ok(None));
    }
    let foreign = Seen { owner: 65534, ..link };
    let told = judged(foreign).expect_err("refused");
    assert!(told.starts_with(".env leads over a symbolic link of user 65534"), "{told}");
    let told = judged(Seen { owner: 0, keeper: Keeper::Kernel, ..link }).expect_err("refused");
    assert!(told.starts_with(".env leads to a file of the kernel's"), "{told}");
    let warning = judged(Seen { keeper: Keeper::Mount, ..foreign }).expect("followed").expect("a warning");
    assert!(warning.starts_with(".env leads over a symbolic link of user 65534, "), "{warning}");
}

#[test]
fn an_access_control_list_that_lets_another_user_write_is_found() {
    /// `user::rw-, user:65534:rw-, group::r--, mask::rw-, other::r--` in the form of xattr(7).
    const LIST: [(u16, u16, u32); 5] =
        [(1, 6, u32::MAX), (2, 6, 65534), (4, 4, u32::MAX), (16, 6, u32::MAX), (32, 4, u32::MAX)];
    let place = WrittenFile::new();
    let path = place.write(".env", 0o644);
    let mut list = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in LIST {
        list.extend([&tag.to_le_bytes()[..], &permissions.to_le_bytes(), &id.to_le_bytes()].concat());
    }
    match setxattr(&path, ACCESS_CONTROL_LIST, &list, XattrFlags::empty()) {
        // Not every file system has them, and the mode of the file tells nothing of it then.
        Err(Errno::OPNOTSUPP) => assert_eq!(place.read(), Ok(Some("A=1\n".into()))),
        set => {
            set.expect("set");
            // The list's mask, which setting it sets too where the kernel follows such lists.
            std::fs::set_permissions(&path, Permissions::from_mode(0o664)).expect("changed");
            let told = place.refusal();
            assert!(told.starts_with(".env can be written by those whom its access control list names"), "{told}");
        }
    }
}
