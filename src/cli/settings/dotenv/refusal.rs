//! The reasons why `.env` may not be used, each with its remedy.

use std::fmt;

use rustix::fs::FileType;

/// The reason why `.env` may not be used. Displayed, it is the rest of a sentence that begins with the file, and says
/// how to mend it.
#[derive(Debug, PartialEq, Eq)]
pub enum DotEnvRefusal {
    NotRegular { kind: FileType },
    OfKernel,
    DanglingLink,
    ForeignLink { owner: u32 },
    Foreign { owner: u32, user: u32 },
    Writable { writers: Writers, mode: u32 },
}

/// Those who can write the file besides the user and root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Writers {
    Everyone,
    Group(u32),
    /// Those of an access control list.
    List,
}

impl DotEnvRefusal {
    /// Says what is wrong.
    pub fn what(&self) -> String {
        match self {
            DotEnvRefusal::NotRegular { kind } => {
                let kind = match kind {
                    FileType::Directory => "a directory",
                    FileType::Fifo => "a named pipe",
                    FileType::Socket => "a socket",
                    _ => "a device",
                };
                format!("is {kind}, not a regular file")
            }
            DotEnvRefusal::OfKernel => "leads to a file of the kernel's, not to one on a disk".into(),
            DotEnvRefusal::DanglingLink => "is a symbolic link to a file that is not there".into(),
            DotEnvRefusal::ForeignLink { owner } => {
                format!("leads over a symbolic link of user {owner}, which could lead anywhere")
            }
            DotEnvRefusal::Foreign { owner, user } => {
                format!("belongs to user {owner}, not to user {user}, who runs this, or to root")
            }
            DotEnvRefusal::Writable { writers, mode } => match writers {
                Writers::Everyone => format!("can be written by everyone (mode {mode:03o})"),
                Writers::Group(group) => format!("can be written by group {group} (mode {mode:03o})"),
                Writers::List => "can be written by those whom its access control list names".into(),
            },
        }
    }

    /// Says how to mend it.
    fn remedy(&self) -> &'static str {
        match self {
            DotEnvRefusal::NotRegular { kind: FileType::Directory } => {
                "Remove it (Docker makes one where the file to be mounted is missing), or start elsewhere"
            }
            DotEnvRefusal::NotRegular { .. } | DotEnvRefusal::OfKernel | DotEnvRefusal::ForeignLink { .. } => {
                "Remove it, or start elsewhere"
            }
            DotEnvRefusal::DanglingLink => "Make the file, remove the link, or start elsewhere",
            DotEnvRefusal::Foreign { .. } => {
                "Read it; if it says what you want, put a copy of your own in its place (cp .env my.env && mv my.env .env), \
                 else start elsewhere"
            }
            DotEnvRefusal::Writable { writers: Writers::List, .. } => {
                "Read it, and if it says what you want run setfacl -b .env && chmod go-w .env"
            }
            DotEnvRefusal::Writable { .. } => "Read it, and if it says what you want run chmod go-w .env",
        }
    }
}

impl fmt::Display for DotEnvRefusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}, so nothing of it is used. {}", self.what(), self.remedy())
    }
}
