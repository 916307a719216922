//! Programs that tests start. None outlives its test: it is killed when it is dropped, and where the test's process
//! ends without dropping anything (a signal, an abort, a time limit), the kernel kills it.

use std::ffi::OsStr;
use std::io::{self, Read};
use std::ops::{Deref, DerefMut};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{LazyLock, Mutex, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Signal, getpid, getppid, set_parent_process_death_signal};

use super::DEADLINE;

/// The longest that a program takes which is run to its end, whatever it does.
const WHOLE_RUN_MAX: Duration = Duration::from_secs(5 * DEADLINE.as_secs());

/// A program that was started.
pub struct Running {
    child: Child,
}

/// Starts programs, on a thread that lives as long as the process: the kernel's signal comes with the end of the thread
/// that started the child (prctl(2), `PR_SET_PDEATHSIG`), and the threads of tests come and go.
static STARTER: LazyLock<Mutex<mpsc::Sender<Order>>> = LazyLock::new(|| {
    let (orders, inbox) = mpsc::channel::<Order>();
    thread::spawn(move || {
        for mut order in inbox {
            // The receiver waits for it.
            let _ = order.started.send(order.command.spawn());
        }
    });
    Mutex::new(orders)
});

struct Order {
    command: Command,
    started: mpsc::Sender<io::Result<Child>>,
}

/// Returns a command whose child ends with this process. Later `pre_exec` actions run after the one that sees to that.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let (mut command, parent) = (Command::new(program), getpid());
    // SAFETY: between fork and exec only system calls are made, which may be.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // It may have ended before that.
            if getppid() == Some(parent) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
        });
    }
    command
}

impl Running {
    /// Starts what [`command`] made.
    ///
    /// # Errors
    /// The program cannot be started: it may not be installed.
    pub fn start(command: Command) -> io::Result<Self> {
        let (started, answer) = mpsc::channel();
        STARTER.lock().expect("no panic").send(Order { command, started }).expect("the thread lives");
        answer.recv().expect("the thread answers").map(|child| Running { child })
    }

    /// Waits until it has ended by itself.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let status = self.end_within(DEADLINE);
        status.unwrap_or_else(|| panic!("process {} does not end", self.child.id()))
    }

    /// Returns how it has ended by itself; `None` where it goes on for longer than `time`.
    pub fn end_within(&mut self, time: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + time;
        loop {
            match self.child.try_wait().expect("a child") {
                None if Instant::now() < until => thread::sleep(Duration::from_millis(2)),
                status => return status,
            }
        }
    }

    /// Returns what it wrote to the outputs that are piped; kills it if it does not end by itself.
    pub fn output(mut self) -> Output {
        drop(self.child.stdin.take());
        let stdout = self.child.stdout.take().map(read_to_end);
        let stderr = self.child.stderr.take().map(read_to_end);
        if self.end_within(WHOLE_RUN_MAX).is_none() {
            let _ = self.child.kill();
        }
        let status = self.child.wait().expect("a child");
        let all_of = |reader: Option<JoinHandle<Vec<u8>>>| reader.map_or(Vec::new(), |r| r.join().expect("no panic"));
        Output { status, stdout: all_of(stdout), stderr: all_of(stderr) }
    }
}

impl Deref for Running {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl DerefMut for Running {
    fn deref_mut(&mut self) -> &mut Child {
        &mut self.child
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail where it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end, and returns its output; kills it if it does not end by itself.
pub fn output_of(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    Running::start(command).expect("it can be started").output()
}

fn read_to_end(mut output: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What came until it failed is all there is.
        let _ = output.read_to_end(&mut bytes);
        bytes
    })
}
