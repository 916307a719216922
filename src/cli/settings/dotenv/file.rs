//! The file `.env`, and the decision whether it may be used.
//!
//! It is read if it is a regular file that belongs to the user or to root and that nobody else can write: whoever else
//! could write it could name another upstream, and the tokens would go there. Invariant: the decision is about the very
//! file that is read, opened before it is examined, and opening it waits for nothing.
//!
//! A symbolic link is followed if it belongs to the user or to root, and so is every further one on the way, those of
//! directories too: people link to the file of their own, and so do mounts of Kubernetes. One of somebody else could
//! choose among the files that the user may read. In `/proc` there are files and links that seem to be root's and say
//! what another process wants: none of them is used. A hard link is the file itself, with its owner; so whoever owns a
//! directory on the way can choose among the files that the kernel lets him link to (`fs.protected_hardlinks`).

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{FileType, fgetxattr_query, fstat, fstatfs};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};
use zeroize::Zeroizing;

use super::error::DotEnvError;
use super::links::{WayEnd, WayFault};
use super::refusal::{DotEnvRefusal, Writers};
use crate::whole_file::{self, PIPE_PATIENCE, ReadFault};

/// More than any settings file has.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// The extended attribute in which Linux keeps an access control list that says more than the mode does (acl(5)).
const ACCESS_CONTROL_LIST: &str = "system.posix_acl_access";

/// `PROC_SUPER_MAGIC` of statfs(2).
const PROC: u32 = 0x9fa0;

/// File systems without owners and modes of their own, or which cannot be trusted to have them: what they show was
/// chosen when they were mounted, as for all of a Windows disk in WSL (statfs(2); the kernel's magic.h).
///
/// FUSE may have real owners, as sshfs can, but its type does not tell. They are the word of the program that serves the
/// mount, which could as well name the user or root: a refusal would keep out no mount that means ill, and many that do
/// not, such as a shared folder whose files have the ids of the host.
const WITHOUT_OWNERS: [u32; 10] = [
    0x0102_1997, // 9p: drives of Windows in WSL 2
    0x5346_4846, // drives of Windows in WSL 1
    0x0000_4d44, // vfat
    0x2011_bab0, // exfat
    0x5346_544e, // ntfs
    0x7366_746e, // ntfs3
    0x6573_5546, // FUSE: ntfs-3g, sshfs, virtiofs and other folders of a host in a virtual machine
    0xff53_4d42, // cifs
    0xfe53_4d42, // smb2
    0x0000_517b, // smb
];

/// The content of a file that may be used.
pub struct DotEnvFile {
    pub text: Zeroizing<String>,
    /// A line for the operator where nobody can tell who may write it.
    pub warning: Option<String>,
}

/// Reads the file; `None` if there is none.
///
/// # Errors
/// It may not be used, or cannot be read.
pub fn read(path: &Path) -> Result<Option<DotEnvFile>, DotEnvError> {
    let user = User::effective();
    let mut link_warning = None;
    let way = WayEnd::find(path, |link| {
        link_warning = user.judge_link(&Seen::of(link)?)?.or_else(|| link_warning.take());
        Ok(())
    });
    let end = match way {
        Ok(end) => end,
        Err(WayFault::Absent) => return Ok(None),
        Err(WayFault::Dangling) => return Err(DotEnvError::Refused(DotEnvRefusal::DanglingLink)),
        Err(WayFault::Refused(error)) => return Err(error),
        Err(WayFault::System(error)) => return Err(unreadable(error)),
    };
    // Before it is opened to be read, which could already have an effect on a device, or wait, as for a pipe.
    user.judge(&Seen::of(&end.entry)?)?;
    let file = File::from(end.open().map_err(unreadable)?);
    // Once more: another file could have taken the name in between.
    let warning = user.judge(&Seen::of(&file)?)?.or(link_warning);
    let metadata = file.metadata().map_err(|error| DotEnvError::Read(ReadFault::Unreadable(error)))?;
    let bytes = whole_file::read_open(file, &metadata, FILE_BYTES_MAX, PIPE_PATIENCE).map_err(DotEnvError::Read)?;
    let text = whole_file::into_text(bytes).map_err(DotEnvError::Read)?;
    Ok(Some(DotEnvFile { text, warning }))
}

fn unreadable(error: Errno) -> DotEnvError {
    DotEnvError::Read(ReadFault::Unreadable(error.into()))
}

/// The user whom the program runs as.
#[derive(Clone, Copy)]
struct User {
    id: u32,
    /// The group that new files of the user belong to. With a umask of 002 it may write them, which is safe where each
    /// user has a group of his own, and a choice of the administrator where it is shared.
    primary_group: u32,
}

impl User {
    fn effective() -> Self {
        User { id: geteuid().as_raw(), primary_group: getegid().as_raw() }
    }

    fn trusts(self, owner: u32) -> bool {
        owner == self.id || owner == 0
    }

    /// Decides whether a link may be followed, as [`Self::judge`] does for the file.
    fn judge_link(self, link: &Seen) -> Result<Option<String>, DotEnvError> {
        if link.keeper == Keeper::Kernel {
            return Err(DotEnvError::Refused(DotEnvRefusal::OfKernel));
        }
        if self.trusts(link.owner) {
            return Ok(None);
        }
        link.keeper.doubt(DotEnvRefusal::ForeignLink { owner: link.owner })
    }

    /// Decides whether the file may be used; on a file system without owners, its owner and mode lead to a warning.
    fn judge(self, file: &Seen) -> Result<Option<String>, DotEnvError> {
        let refused = |refusal| Err(DotEnvError::Refused(refusal));
        if file.kind != FileType::RegularFile {
            return refused(DotEnvRefusal::NotRegular { kind: file.kind });
        }
        if file.keeper == Keeper::Kernel {
            return refused(DotEnvRefusal::OfKernel);
        }
        if !self.trusts(file.owner) {
            return file.keeper.doubt(DotEnvRefusal::Foreign { owner: file.owner, user: self.id });
        }
        let Some(writers) = self.other_writers(file) else { return Ok(None) };
        file.keeper.doubt(DotEnvRefusal::Writable { writers, mode: file.mode })
    }

    fn other_writers(self, file: &Seen) -> Option<Writers> {
        if file.mode & 0o002 != 0 {
            return Some(Writers::Everyone);
        }
        if file.mode & 0o020 == 0 {
            // The bits of the group bound a list, too (acl(5)).
            return None;
        }
        if file.has_access_list {
            return Some(Writers::List);
        }
        (file.group != self.primary_group).then_some(Writers::Group(file.group))
    }
}

/// The facts about a file that the decision is made from.
#[derive(Clone, Copy)]
struct Seen {
    kind: FileType,
    owner: u32,
    group: u32,
    mode: u32,
    /// Its group may write it, and it has an access control list that names further users or groups.
    has_access_list: bool,
    keeper: Keeper,
}

/// The keeper of a file, as its file system tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Keeper {
    /// A file system with owners and modes.
    Disk,
    /// One without.
    Mount,
    /// The kernel, which says what a process wants to be said, in the name of root.
    Kernel,
}

impl Seen {
    fn of(file: &impl AsFd) -> Result<Self, DotEnvError> {
        let found = fstat(file).map_err(unreadable)?;
        let keeper = Keeper::of(fstatfs(file).map_err(unreadable)?.f_type as u32);
        Ok(Seen {
            kind: FileType::from_raw_mode(found.st_mode),
            owner: found.st_uid,
            group: found.st_gid,
            mode: found.st_mode & 0o7777,
            has_access_list: found.st_mode & 0o020 != 0 && has_access_list(file),
            keeper,
        })
    }
}

fn has_access_list(file: &impl AsFd) -> bool {
    match fgetxattr_query(file, ACCESS_CONTROL_LIST) {
        Ok(bytes) => bytes > 0,
        // One that was opened for its path alone (EBADF) cannot be asked, and is not read either.
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::BADF) => false,
        Err(_) => true,
    }
}

impl Keeper {
    /// Finds it by the type that statfs(2) tells.
    fn of(file_system: u32) -> Self {
        match file_system {
            PROC => Keeper::Kernel,
            other if WITHOUT_OWNERS.contains(&other) => Keeper::Mount,
            _ => Keeper::Disk,
        }
    }

    /// Turns a doubt about owner or mode into a refusal; into a warning where the file system has neither, since they
    /// are nobody's choice there, and cannot be mended.
    fn doubt(self, refusal: DotEnvRefusal) -> Result<Option<String>, DotEnvError> {
        match self {
            Keeper::Mount => Ok(Some(format!(
                ".env {}; its file system keeps no owners and modes, so it is read all the same: see that no other user \
                 of this machine can write it",
                refusal.what()
            ))),
            Keeper::Disk | Keeper::Kernel => Err(DotEnvError::Refused(refusal)),
        }
    }
}

#[cfg(test)]
mod tests;
