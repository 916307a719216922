//! No core dump holds secrets, nor can other processes of the same user read them out of memory.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use rustix::fs::{CWD, Mode, mkfifoat};

use super::place::{NOBODY, Place, is_root};
use crate::support::{Running, skip, wait_until};

/// Starts a command of another user than root that waits for its secrets, and returns the owner of its entries in
/// `/proc`: root for a process that leaves no core dump (proc_pid(5)).
fn owner_of_entries(words: &[&str], allow: Option<&str>) -> io::Result<u32> {
    let place = Place::new();
    let pipe = place.path("pipe");
    mkfifoat(CWD, &pipe, Mode::from_raw_mode(0o644)).expect("made");
    let mut command = place.program(words);
    command.arg("--secrets-file").arg(&pipe).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
        std::os::unix::fs::chown(&pipe, Some(NOBODY), None).expect("given away");
    }
    command.envs(allow.map(|value| ("FLOW_URING_ALLOW_CORE", value)));
    let running = Running::start(command)?;
    // The pipe's other end can be opened without a wait once somebody reads from it.
    let mut writer = fs::OpenOptions::new();
    writer.write(true).custom_flags(libc::O_NONBLOCK);
    let mut opened = None;
    wait_until("it has opened its secrets file", || {
        opened = writer.open(&pipe).ok();
        opened.is_some()
    });
    Ok(fs::metadata(format!("/proc/{}/status", running.id())).expect("it runs").uid())
}

#[test]
fn every_command_that_reads_secrets_forbids_them_first_unless_they_are_allowed() {
    for words in [&["token"][..], &["check"], &[]] {
        let owner = match owner_of_entries(words, None) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                return skip("core dumps: who is not root cannot reach the program that is tested");
            }
            owner => owner.expect("started"),
        };
        assert_eq!(owner, 0, "{words:?}");
        assert_eq!(owner_of_entries(words, Some("0")).expect("started"), 0, "{words:?}: not by any value");
        let user = if is_root() { NOBODY } else { rustix::process::getuid().as_raw() };
        assert_eq!(owner_of_entries(words, Some("1")).expect("started"), user, "{words:?}: allowed");
    }
}
