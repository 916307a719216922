//! `flow-uring exec`: a command whose clients are pointed at a gateway.
//!
//! Once there is a gateway, this process becomes the command (execve(2)). So its signals, terminal, process group, exit
//! code and descriptors are the command's by themselves: there is nothing to forward, and nothing that could be
//! forwarded wrongly. A gateway of its own (`own_gateway`) is therefore no parent of the command but a process beside
//! it, which watches it and ends with it, in whatever way it ends. Not here: the settings, and the loading of secrets
//! and keys.

mod child;
mod error;
mod gateway;
mod listener_owner;
mod log_file;
mod own_gateway;
mod running;
mod variables;

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use self::variables::{Change, changes};

pub use error::ExecError;
pub use gateway::ChosenGateway;
pub use own_gateway::start;
pub use running::{AcceptedKeys, find};

/// The limit on open files as the command is to find it: a gateway raises that of its process, and a command may go
/// through all that it could have open.
#[derive(Debug)]
pub struct DescriptorLimit(Rlimit);

impl DescriptorLimit {
    /// Returns the limit in force.
    pub fn now() -> Self {
        DescriptorLimit(getrlimit(Resource::Nofile))
    }

    fn restore(self) {
        // Lowering a soft limit is never refused (getrlimit(2)).
        let _ = setrlimit(Resource::Nofile, self.0);
    }
}

/// Turns this process into the command. Returns only if that fails.
///
/// The standard library gives the command the default action of SIGPIPE and no blocked signal, as a shell does.
pub fn become_command(words: &[OsString], gateway: &ChosenGateway, descriptors: DescriptorLimit) -> ExecError {
    let Some((program, arguments)) = words.split_first() else { return ExecError::NoCommand };
    let mut command = Command::new(program);
    command.args(arguments);
    for Change { name, value } in changes(gateway, &|name| std::env::var(name).ok()) {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    descriptors.restore();
    ExecError::of_command(program, command.exec())
}
