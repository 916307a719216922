//! A pseudo-terminal, and a program that has it as its own.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use super::support::{Running, wait_until};

pub struct Pty {
    /// The side of the person.
    person: File,
    /// That of the program, for its modes.
    program: OwnedFd,
    seen: Arc<Mutex<String>>,
    running: Running,
}

impl Pty {
    pub fn start(mut command: Command) -> Self {
        let (mut person, mut program) = (0, 0);
        let null = std::ptr::null_mut();
        // SAFETY: the two descriptors are written before it returns; the rest may be null (openpty(3)).
        let result = unsafe { libc::openpty(&mut person, &mut program, null, null.cast(), null.cast()) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        // SAFETY: both are new, and owned by nobody else.
        let (person, program) = unsafe { (File::from_raw_fd(person), OwnedFd::from_raw_fd(program)) };
        let end = || Stdio::from(program.try_clone().expect("a descriptor"));
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: between fork and exec only system calls are made, which may be.
        unsafe {
            command.pre_exec(|| {
                let result = if libc::setsid() < 0 { -1 } else { libc::ioctl(0, libc::TIOCSCTTY, 0) };
                if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            });
        }
        let running = Running::start(command).expect("it starts");
        let seen = Arc::new(Mutex::new(String::new()));
        let (mut screen, written) = (person.try_clone().expect("a descriptor"), seen.clone());
        thread::spawn(move || {
            let mut buffer = [0; 1024];
            while let Ok(count @ 1..) = screen.read(&mut buffer) {
                written.lock().expect("no panic").push_str(&String::from_utf8_lossy(&buffer[..count]));
            }
        });
        Pty { person, program, seen, running }
    }

    pub fn seen(&self) -> String {
        self.seen.lock().expect("no panic").clone()
    }

    /// Waits for a question, and answers it.
    pub fn answer(&mut self, question: &str, answer: &str) {
        wait_until(question, || self.seen().ends_with(question));
        self.person.write_all(answer.as_bytes()).expect("written");
    }

    /// Returns true where the terminal shows what is typed.
    pub fn echoes(&self) -> bool {
        // SAFETY: all zeros is a value of the struct, and it is written before it is read.
        let modes = unsafe {
            let mut modes: libc::termios = std::mem::zeroed();
            assert_eq!(libc::tcgetattr(self.program.as_raw_fd(), &mut modes), 0);
            modes
        };
        modes.c_lflag & libc::ECHO != 0
    }

    pub fn wait_for_end(&mut self) -> ExitStatus {
        self.running.wait_for_end()
    }
}
