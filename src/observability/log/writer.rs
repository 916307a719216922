//! One output of the log: a queue, the thread that writes its lines, and the count of lines that were lost.
//!
//! Invariant: putting a line into the queue never waits. A full queue or an output that fails costs lines; they are
//! counted, and reported in the log itself when the output works again.

use std::io::{self, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Time for which the thread gathers lines after each write. Waking it costs a system call and two switches, and a
/// write a few more, together more than formatting a line: so it is woken twenty times a second at most (with 10 ms,
/// it took a third of all that a log cost at 5,000 requests a second). The first line after a silence is written at
/// once, and none is older than this when it is.
const GATHERING: Duration = Duration::from_millis(50);
/// Limit on the bytes written at a time; some 300 lines.
const BATCH_BYTES_MAX: usize = 64 * 1024;
/// Least time between two reports that an output fails, or how many lines that cost: an output that comes and goes
/// must not fill the log.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// The number of lines an output has lost.
#[derive(Debug)]
pub struct Losses {
    /// The name of the output: `stderr` or `file`.
    pub output: &'static str,
    /// Lines that could not be written.
    unwritten: AtomicU64,
    /// Lines that found the queue full.
    refused: OnceLock<ErrorCounter>,
    /// The number of refused lines when the log ended.
    refused_by_the_end: OnceLock<u64>,
}

impl Losses {
    fn new(output: &'static str) -> Self {
        Losses { output, unwritten: AtomicU64::new(0), refused: OnceLock::new(), refused_by_the_end: OnceLock::new() }
    }

    pub fn lines(&self) -> u64 {
        let refused = self.refused_by_the_end.get().copied().unwrap_or_else(|| self.refused());
        self.unwritten.load(Ordering::Relaxed).saturating_add(refused)
    }

    /// Stops counting: the queue may be gone from here on, and a line that still comes was not lost by a slow output.
    pub fn end(&self) {
        // Only the first end counts.
        let _ = self.refused_by_the_end.set(self.refused());
    }

    fn refused(&self) -> u64 {
        self.refused.get().map_or(0, ErrorCounter::dropped_lines) as u64
    }
}

/// Starts the thread of one output; dropping the last value flushes the queue, for a second at most.
pub fn start(
    name: &'static str,
    output: impl Write + Send + 'static,
    lines_max: usize,
) -> (NonBlocking, Arc<Losses>, WorkerGuard) {
    let losses = Arc::new(Losses::new(name));
    let batches =
        Batches { output, batch: Vec::new(), losses: losses.clone(), told: 0, complaint_due: None, telling_due: None };
    let thread_name = format!("flow-log-{name}");
    let builder = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(lines_max).thread_name(&thread_name);
    let (queue, worker) = builder.finish(batches);
    // The first and only one to set it.
    let _ = losses.refused.set(queue.error_counter());
    (queue, losses, worker)
}

/// The writer that the thread writes to. The thread passes line by line, and flushes whenever the queue is empty.
struct Batches<W> {
    output: W,
    batch: Vec<u8>,
    losses: Arc<Losses>,
    /// The number of lost lines that the log has reported so far.
    told: u64,
    /// Time from which the log may report again that this output fails, or how many lines it lost; `None`: at any
    /// time.
    complaint_due: Option<Instant>,
    telling_due: Option<Instant>,
}

impl<W: Write> Write for Batches<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.batch.len() + line.len() > BATCH_BYTES_MAX {
            self.write_out();
        }
        self.batch.extend_from_slice(line);
        Ok(line.len())
    }

    #[expect(clippy::disallowed_methods, reason = "runs on the log's own thread")]
    fn flush(&mut self) -> io::Result<()> {
        if !self.batch.is_empty() {
            self.write_out();
            thread::sleep(GATHERING);
        }
        Ok(())
    }
}

impl<W: Write> Batches<W> {
    /// Writes the batch, or counts the lines that are lost of it; never fails, since the thread could do nothing about
    /// it.
    fn write_out(&mut self) {
        let (written, result) = write_all(&mut self.output, &self.batch);
        let rest = &self.batch[written..];
        // A line that lacks nothing but its end is not lost.
        let rest = rest.strip_prefix(b"\n").filter(|_| written > 0).unwrap_or(rest);
        let lost = memchr::memchr_iter(b'\n', rest).count() as u64;
        self.batch.clear();
        self.losses.unwritten.fetch_add(lost, Ordering::Relaxed);
        let now = Instant::now();
        match result {
            Err(error) if self.complaint_due.is_none_or(|due| due <= now) => {
                self.complaint_due = Some(now + COMPLAINT_PAUSE);
                tracing::error!(output = self.losses.output, %error, "log lines cannot be written; requests go on");
            }
            Ok(()) if self.telling_due.is_none_or(|due| due <= now) => self.tell_lost(now),
            Err(_) | Ok(()) => {}
        }
    }

    /// Reports in the log itself how many lines were lost since the last report.
    fn tell_lost(&mut self, now: Instant) {
        let lost = self.losses.lines();
        if lost > self.told {
            self.telling_due = Some(now + COMPLAINT_PAUSE);
            tracing::error!(output = self.losses.output, lines = lost - self.told, "log lines were lost");
            self.told = lost;
        }
    }
}

/// Writes all bytes; returns how many were written, and the error that prevented the rest.
#[expect(clippy::disallowed_methods, reason = "runs on the log's own thread")]
fn write_all(output: &mut impl Write, bytes: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < bytes.len() {
        match output.write(&bytes[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // Another process has made this pipe non-blocking: it is full, and is waited for as a blocking one would.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(GATHERING),
            Err(error) => return (written, Err(error)),
        }
    }
    (written, Ok(()))
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;
    use crate::observability::listening::listening;

    /// Takes so many bytes at each write, or fails.
    struct Flaky {
        plan: VecDeque<Result<usize, io::ErrorKind>>,
        taken: Vec<u8>,
    }

    impl Write for Flaky {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let count = self.plan.pop_front().unwrap_or(Ok(usize::MAX)).map_err(io::Error::from)?.min(bytes.len());
            self.taken.extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn batches(plan: &[Result<usize, io::ErrorKind>]) -> Batches<Flaky> {
        let losses = Arc::new(Losses::new("file"));
        let output = Flaky { plan: plan.iter().copied().collect(), taken: Vec::new() };
        Batches { output, batch: Vec::new(), losses, told: 0, complaint_due: None, telling_due: None }
    }

    fn write(batches: &mut Batches<Flaky>, lines: &[&str]) -> u64 {
        for line in lines {
            assert_eq!(batches.write(line.as_bytes()).expect("never fails"), line.len());
        }
        batches.flush().expect("never fails");
        batches.losses.lines()
    }

    const FULL: io::ErrorKind = io::ErrorKind::StorageFull;

    #[test]
    fn lines_that_come_together_are_written_at_once_and_long_batches_in_parts() {
        let mut batches = batches(&[]);
        assert_eq!(write(&mut batches, &["a\n", "b\n"]), 0);
        assert_eq!(batches.output.taken, b"a\nb\n");
        let long = format!("{}\n", "x".repeat(BATCH_BYTES_MAX));
        batches.write_all(long.as_bytes()).expect("never fails");
        batches.write_all(b"c\n").expect("never fails");
        assert_eq!(batches.output.taken.len(), 4 + long.len(), "what is full goes out before the next line");
    }

    #[test]
    fn only_lines_that_are_not_there_are_lost() {
        for (plan, taken, lost) in [
            (&[Err(FULL)][..], "", 3),
            (&[Ok(1), Err(FULL)], "a", 3),
            (&[Ok(4), Err(FULL)], "aa\nb", 2),
            (&[Ok(5), Err(FULL)], "aa\nbb", 1),
            (&[Ok(6), Err(FULL)], "aa\nbb\n", 1),
            (&[Ok(0)], "", 3),
            (&[Ok(2), Err(io::ErrorKind::Interrupted), Ok(1), Err(io::ErrorKind::WouldBlock)], "aa\nbb\ncc\n", 0),
        ] {
            let mut batches = batches(plan);
            assert_eq!(write(&mut batches, &["aa\n", "bb\n", "cc\n"]), lost, "{plan:?}");
            assert_eq!(String::from_utf8_lossy(&batches.output.taken), taken);
        }
    }

    /// Returns what is logged meanwhile: messages, with the number of lines that they name.
    fn events_of(steps: impl FnOnce()) -> Vec<String> {
        use std::sync::Mutex;
        use tracing::field::{Field, Visit};
        use tracing_subscriber::layer::{Context, Layer, SubscriberExt};

        struct Messages(Arc<Mutex<Vec<String>>>);
        struct Message<'a>(&'a mut String);
        impl Visit for Message<'_> {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                if matches!(field.name(), "message" | "lines") {
                    self.0.push_str(&format!("{value:?} "));
                }
            }
        }
        impl<S: tracing::Subscriber> Layer<S> for Messages {
            fn on_event(&self, event: &tracing::Event<'_>, _: Context<'_, S>) {
                let mut text = String::new();
                event.record(&mut Message(&mut text));
                self.0.lock().expect("unpoisoned").push(text.trim().to_owned());
            }
        }

        let messages = Arc::new(Mutex::new(Vec::new()));
        let subscriber = tracing_subscriber::registry().with(Messages(messages.clone()));
        listening(subscriber, steps);
        messages.lock().expect("unpoisoned").clone()
    }

    #[test]
    fn a_failure_is_told_once_and_what_it_cost_once_it_is_over() {
        let mut batches = batches(&[Err(FULL), Err(FULL), Ok(usize::MAX), Err(FULL)]);
        let events = events_of(|| {
            for _ in 0..6 {
                write(&mut batches, &["a\n", "b\n"]);
            }
            // The cost of the third failure is reported when the log may report again.
            batches.telling_due = None;
            write(&mut batches, &["a\n"]);
        });
        let expected =
            ["log lines cannot be written; requests go on", "log lines were lost 4", "log lines were lost 2"];
        assert_eq!(events, expected);
    }
}
