//! A process beside this one: a copy of it (fork(2)) that is nobody's child and has no terminal.
//!
//! A copy rather than the program started again: it has the settings, secrets and keys that were read and checked, also
//! from a pipe, and needs no flag that would be for this alone.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};

use rustix::process::{Pid, WaitOptions, setsid, waitpid};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};

/// Runs `action` in the copy, which ends with the exit code that it returns. Two forks, so that the copy is a child of init and not of the command,
/// which could wait for it: some programs wait until they have no child.
///
/// # Errors
/// The system makes no process.
pub fn run_beside(action: impl FnOnce() -> i32) -> io::Result<()> {
    let Some(child) = fork()? else {
        // No signal of the terminal is for it.
        let _ = setsid();
        match fork() {
            Ok(None) => end(action()),
            Ok(Some(_)) => end(0),
            Err(_) => end(1),
        }
    };
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Ok(Some((_, status))) if status.exit_status() == Some(0) => return Ok(()),
            Ok(_) => return Err(io::Error::other("there are too many processes")),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Lets go of what belongs to the command: its terminal and its pipes, whose readers wait for their end.
///
/// # Errors
/// That of the system; it must not go on then.
pub fn leave_the_command(log: &File, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    dup2_stdin(File::open("/dev/null")?)?;
    dup2_stdout(log)?;
    dup2_stderr(log)?;
    let kept: Vec<RawFd> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    let open: Vec<RawFd> = fs::read_dir("/proc/self/fd")?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|descriptor| *descriptor > 2 && !kept.contains(descriptor))
        .collect();
    for descriptor in open {
        // SAFETY: these came with the process, or are gone already (that of the directory); all that this program has
        // opened is in `kept`, so that no owner of one is left.
        unsafe { libc::close(descriptor) };
    }
    Ok(())
}

/// Ends this process at once, without what the copied one would do at its end.
pub fn end(code: i32) -> ! {
    // SAFETY: takes no pointer and does not return.
    unsafe { libc::_exit(code) }
}

/// Returns the child's id to the one that goes on, and `None` to the child.
fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: this process has one thread: no lock is held by a thread that the copy does not have.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        child => Ok(Pid::from_raw(child)),
    }
}
