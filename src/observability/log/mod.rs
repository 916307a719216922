//! The log on stderr, and in a file if there is one: one line an event, written by a thread of its own for each output.
//!
//! Invariant: a full or blocked output loses lines (and says how many), it never blocks a shard or the other output. A
//! line cannot be faked: control characters in any value are escaped.

mod fields;
mod file;
mod file_options;
mod panics;
mod retention;
mod subscriber;
mod writer;

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGXFSZ;
use tracing::Level;
use tracing_appender::non_blocking::WorkerGuard;

use self::file::LogFile;
use self::subscriber::{HAS_ENDED, subscriber};
use self::writer::Losses;

pub use self::file_options::{FileError, FileOptions};
pub use self::retention::Retention;
pub use self::subscriber::LineFormat;

/// Limit on the lines that wait for a slow output before lines are lost. The line of an exchange takes some 300 bytes,
/// so that is 5 MiB; the parts of it that clients choose are plain and cut (by `shortened`), so that no line takes
/// more than 2.5 KiB, and all of them 40 MiB.
const WAITING_LINES_MAX: usize = 16 * 1024;
/// Time limit on words outside of the log, the banner and the last ones: a blocked stderr must delay neither the main
/// thread nor the exit.
const WORDS_MAX: Duration = Duration::from_millis(500);
/// Time limit on flushing all outputs together: each gives up by itself after 1.1 s, unless it has to say so on a
/// blocked stdout.
const ENDING_MAX: Duration = Duration::from_millis(1500);

/// The losses of this process's log, by output.
static LOSSES: OnceLock<Vec<Arc<Losses>>> = OnceLock::new();

/// Keeps the log running. Dropping it flushes the outputs, and says how many lines were lost.
#[must_use = "the log ends when its guard is dropped"]
pub struct Guard {
    workers: Vec<WorkerGuard>,
}

/// Returns how many lines each output of the log has lost: `stderr`, and `file` if there is one. Any thread may ask.
pub fn lost_lines() -> impl Iterator<Item = (&'static str, u64)> {
    LOSSES.get().into_iter().flatten().map(|losses| (losses.output, losses.lines()))
}

/// Starts the process's log on stderr, and in a file if one is named. A second call changes nothing: the first log
/// stays.
///
/// Events of this crate are written from `level` on, those of libraries from WARN on (their DEBUG would drown ours).
///
/// # Errors
/// When the file cannot be opened.
pub fn init(level: Level, line_format: LineFormat, file: Option<FileOptions>) -> Result<Guard, FileError> {
    // https://no-color.org: set and not empty.
    let is_colour_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_coloured = io::stderr().is_terminal() && !is_colour_refused;
    // A limit on the size of files (`ulimit -f`) must cost log lines alone, even if stderr is a file: by default its
    // signal ends the process.
    let spared = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let file = file.map(LogFile::open).transpose()?;
    let cleanup = file.as_ref().and_then(LogFile::cleanup);
    let (stderr, losses, worker) = writer::start("stderr", io::stderr(), WAITING_LINES_MAX);
    let (mut all_losses, mut workers) = (vec![losses], vec![worker]);
    let file = file.map(|file| {
        let (queue, losses, worker) = writer::start("file", file, WAITING_LINES_MAX);
        all_losses.push(losses);
        workers.push(worker);
        queue
    });
    // Fails for a second log of the same process, where the first one stays.
    let _ = LOSSES.set(all_losses);
    let _ = tracing::subscriber::set_global_default(subscriber(level, line_format, is_coloured, stderr, file));
    panics::install();
    // After the log is there, since they log what they cannot do.
    if let Err(error) = spared {
        tracing::warn!(%error, "a limit on the size of files will end the process");
    }
    if let Some(cleanup) = cleanup {
        cleanup.start();
    }
    Ok(Guard { workers })
}

impl Drop for Guard {
    fn drop(&mut self) {
        panics::uninstall();
        HAS_ENDED.store(true, Ordering::Relaxed);
        LOSSES.get().into_iter().flatten().for_each(|losses| losses.end());
        end(self.workers.drain(..));
        let lost: String =
            lost_lines().filter(|(_, lost)| *lost > 0).map(|(output, lost)| last_words(output, lost)).collect();
        if !lost.is_empty() {
            say(lost);
        }
    }
}

fn last_words(output: &str, lost: u64) -> String {
    format!("{lost} log lines were lost in all: {output} was too slow, or could not be written\n")
}

/// Writes `words` to stderr, outside of the log. When this returns they are written, unless stderr is blocked: then
/// they are as soon as it is read again, if the process still runs.
pub fn say(words: impl fmt::Display) {
    let words: Arc<str> = words.to_string().into();
    if say_on(io::stderr(), words.clone()).is_err() {
        // Without a thread it is better to block than to end without a word. There is nobody left to report a failure
        // to.
        let _ = io::stderr().write_all(words.as_bytes());
    }
}

/// # Errors
/// When the thread cannot be started.
#[expect(clippy::disallowed_methods, reason = "run by the main thread, which serves nothing")]
fn say_on(mut output: impl Write + Send + 'static, words: Arc<str>) -> io::Result<()> {
    let (done, finished) = mpsc::channel();
    thread::Builder::new().name("flow-words".into()).spawn(move || {
        let _ = output.write_all(words.as_bytes());
        let _ = done.send(());
    })?;
    let _ = finished.recv_timeout(WORDS_MAX);
    Ok(())
}

/// Drops each worker, which flushes its output, on a thread of its own: two blocked outputs cost one wait. Returns
/// false if the limit came before the last of them had ended.
#[expect(clippy::disallowed_methods, reason = "run by the main thread after the shards have ended")]
fn end(workers: impl IntoIterator<Item = impl Send + 'static>) -> bool {
    let (done, finished) = mpsc::channel();
    for worker in workers {
        let done = done.clone();
        // Without a thread it is dropped here.
        let _ = thread::Builder::new().name("flow-log-end".into()).spawn(move || {
            drop(worker);
            drop(done);
        });
    }
    drop(done);
    // Nothing is ever sent: the wait is over with the last thread, or with the limit.
    let waited: Result<(), _> = finished.recv_timeout(ENDING_MAX);
    waited == Err(mpsc::RecvTimeoutError::Disconnected)
}

#[cfg(test)]
mod tests;
