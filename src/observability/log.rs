//! The log on stderr, and in a file if there is one: one line an event, written by a thread of its own for each output.
//!
//! Invariant: a full or blocked output loses lines (and says how many), it never blocks a shard or the other output. A
//! line cannot be faked: control characters in any value are escaped.

use std::fmt::{self, Write as _};
use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use signal_hook::consts::SIGXFSZ;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber};
use tracing_appender::non_blocking::{NonBlocking, WorkerGuard};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{FormatFields, Writer};
use tracing_subscriber::fmt::writer::MakeWriterExt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

use super::log_file::LogFile;
use super::log_panics;
use super::log_writer::{self, Losses};

pub use super::log_file::{FileError, FileOptions};
pub use super::log_retention::Retention;

/// How many lines wait for a slow output before lines are lost. The line of an exchange takes some 300 bytes, so that is
/// 5 MiB; what clients choose of it is plain and cut ([`Shortened`](super::shortened::Shortened)), so that no line takes
/// more than 2.5 KiB, and all of them 40 MiB.
const WAITING_LINES_MAX: usize = 16 * 1024;
/// How long words outside of the log may take, the banner and the last ones: a blocked stderr must hold up neither the
/// main thread nor the exit.
const WORDS_MAX: Duration = Duration::from_millis(500);
/// How long all outputs together may take to write out what waits: each gives up by itself after 1.1 s, unless it has to
/// say so on a blocked stdout.
const ENDING_MAX: Duration = Duration::from_millis(1500);
/// The target of this crate's events.
const OWN_TARGET: &str = env!("CARGO_CRATE_NAME");

/// The shape of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// `2026-11-22T22:13:32.123456Z  INFO message name=value`
    Text,
    /// One flat JSON object.
    Json,
}

/// What this process's log has lost, by output.
static LOSSES: OnceLock<Vec<Arc<Losses>>> = OnceLock::new();
/// Whether this process's log has ended: threads that outlive it (the one that resolves names) may still have something
/// to say, which then gets into no output, and counts as lost in none.
static HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// Keeps the log running. Dropping it writes out what waits, and says how many lines were lost.
#[must_use = "the log ends when its guard is dropped"]
pub struct Guard {
    workers: Vec<WorkerGuard>,
}

/// How many lines each output of the log has lost: `stderr`, and `file` where there is one. Any thread may ask.
pub fn lost_lines() -> impl Iterator<Item = (&'static str, u64)> {
    LOSSES.get().into_iter().flatten().map(|losses| (losses.output, losses.lines()))
}

/// Starts the process's log on stderr, and in a file if one is named. A second call changes nothing: the first log stays.
///
/// Events of this crate are written from `level` on, those of libraries from WARN on (their DEBUG would bury ours).
///
/// # Errors
/// The file cannot be opened.
pub fn init(level: Level, line_format: LineFormat, file: Option<FileOptions>) -> Result<Guard, FileError> {
    // https://no-color.org: set and not empty.
    let is_colour_refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    let is_coloured = io::stderr().is_terminal() && !is_colour_refused;
    // A limit on the size of files (`ulimit -f`) is to cost log lines, be it that stderr leads to a file: by default its
    // signal ends the process.
    let spared = signal_hook::flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)));
    let file = file.map(LogFile::open).transpose()?;
    let cleanup = file.as_ref().and_then(LogFile::cleanup);
    let (stderr, losses, worker) = log_writer::start("stderr", io::stderr(), WAITING_LINES_MAX);
    let (mut all_losses, mut workers) = (vec![losses], vec![worker]);
    let file = file.map(|file| {
        let (queue, losses, worker) = log_writer::start("file", file, WAITING_LINES_MAX);
        all_losses.push(losses);
        workers.push(worker);
        queue
    });
    // Only a second log of the same process is refused, and then the first serves.
    let _ = LOSSES.set(all_losses);
    let _ = tracing::subscriber::set_global_default(subscriber(level, line_format, is_coloured, stderr, file));
    log_panics::install();
    // After the log is there, in which they say what they cannot do.
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
        log_panics::uninstall();
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

/// Writes `words` to stderr beside the log. When this returns they are written, unless stderr is blocked: then they are as
/// soon as it is read again, if the process still runs.
pub fn say(words: impl fmt::Display) {
    let words: Arc<str> = words.to_string().into();
    if say_on(io::stderr(), words.clone()).is_err() {
        // Without a thread it is better to be held up than to end without a word. A failure has nobody left to tell.
        let _ = io::stderr().write_all(words.as_bytes());
    }
}

/// # Errors
/// There was no thread for it.
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

/// Drops each worker, which writes out what waits, on a thread of its own: two outputs that are blocked cost one wait.
/// Returns false where the limit came before the last of them had ended.
#[expect(clippy::disallowed_methods, reason = "run by the main thread after the shards have ended")]
fn end(workers: impl IntoIterator<Item = impl Send + 'static>) -> bool {
    let (done, finished) = mpsc::channel();
    for worker in workers {
        let done = done.clone();
        // Where there is no thread, it is dropped here.
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

fn subscriber(
    level: Level,
    line_format: LineFormat,
    is_coloured: bool,
    stderr: NonBlocking,
    file: Option<NonBlocking>,
) -> impl Subscriber + Send + Sync {
    let others = LevelFilter::from_level(level).min(LevelFilter::WARN);
    let filter = Targets::new().with_target(OWN_TARGET, level).with_default(others);
    let layers = match file {
        None => vec![layer(level, line_format, is_coloured, stderr)],
        // JSON is never coloured. Where both outputs get the same bytes, they are made once.
        Some(file) if !is_coloured || line_format == LineFormat::Json => {
            vec![layer(level, line_format, false, stderr.and(file))]
        }
        Some(file) => vec![layer(level, line_format, true, stderr), layer(level, line_format, false, file)],
    };
    Registry::default().with(layers.with_filter(filter))
}

fn layer(
    level: Level,
    line_format: LineFormat,
    is_coloured: bool,
    writer: impl for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
) -> Box<dyn Layer<Registry> + Send + Sync> {
    // Where an event comes from helps those who debug this program, and is noise to those who run it.
    let with_origin = level >= Level::DEBUG;
    let writer = writer.with_filter(|_| !HAS_ENDED.load(Ordering::Relaxed));
    let layer = tracing_subscriber::fmt::layer().with_writer(writer).with_target(with_origin);
    let layer = layer.with_thread_names(with_origin);
    match line_format {
        LineFormat::Text => layer.fmt_fields(SafeFields).with_ansi(is_coloured).boxed(),
        LineFormat::Json => layer.json().flatten_event(true).with_current_span(false).with_span_list(false).boxed(),
    }
}

/// Writes fields as `message name=value …` and lets no control character through, whoever chose the value.
///
/// The formatter of `tracing-subscriber` escapes ESC and its kin, but passes CR and LF in displayed values on.
struct SafeFields;

impl<'writer> FormatFields<'writer> for SafeFields {
    fn format_fields<R: RecordFields>(&self, writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut visitor = SafeVisitor { writer, is_first: true, result: Ok(()) };
        fields.record(&mut visitor);
        visitor.result
    }
}

struct SafeVisitor<'writer> {
    writer: Writer<'writer>,
    is_first: bool,
    result: fmt::Result,
}

impl Visit for SafeVisitor<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.result.is_ok() {
            self.result = self.write(field.name(), value);
        }
    }
}

impl SafeVisitor<'_> {
    fn write(&mut self, name: &str, value: &dyn fmt::Debug) -> fmt::Result {
        if !std::mem::take(&mut self.is_first) {
            self.writer.write_char(' ')?;
        }
        if name != "message" {
            // Dimmed on a terminal; these are the only escape sequences that get through.
            let (dim, plain) = if self.writer.has_ansi_escapes() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
            write!(self.writer, "{dim}{name}={plain}")?;
        }
        write!(Escaping(&mut self.writer), "{value:?}")
    }
}

/// Replaces control characters by their Rust escapes (`\n`, `\u{1b}`).
struct Escaping<'a, W>(&'a mut W);

impl<W: fmt::Write> fmt::Write for Escaping<'_, W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // Nearly every text, and looked through many times faster than character by character.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return self.0.write_str(text);
        }
        // U+2028 and U+2029 end a line for some viewers.
        let is_unsafe = |character: char| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}');
        let mut rest = text;
        while let Some(at) = rest.find(is_unsafe) {
            let (plain, after) = rest.split_at(at);
            self.0.write_str(plain)?;
            let character = after.chars().next().unwrap_or_default();
            write!(self.0, "{}", character.escape_default())?;
            rest = &after[character.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Instant;

    use super::*;
    use crate::observability::listening::listening;
    use crate::observability::{Ending, ExchangeId, ExchangeRecord};

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl Captured {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().expect("unpoisoned").clone()).expect("text")
        }

        /// What there is once the thread that writes has ended. Its guard waits for a second only.
        fn text_at_the_end(&self) -> String {
            while Arc::strong_count(&self.0) > 1 {
                thread::sleep(Duration::from_millis(1));
            }
            self.text()
        }
    }

    impl Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().expect("unpoisoned").extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn captured(level: Level, line_format: LineFormat, is_coloured: bool, emit: impl FnOnce()) -> String {
        let output = Captured::default();
        let (writer, _losses, guard) = log_writer::start("stderr", output.clone(), 1000);
        listening(subscriber(level, line_format, is_coloured, writer, None), emit);
        drop(guard);
        output.text_at_the_end()
    }

    /// The lines without their time, whose form is checked on the way.
    fn untimed(log: &str) -> Vec<&str> {
        let untimed = |line: &'_ str| {
            let (time, rest) = line.split_once(' ').expect("a time");
            let shape: String = time.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
            assert_eq!(shape, "0000-00-00T00:00:00.000000Z", "RFC 3339, UTC");
            line.len() - rest.len()
        };
        log.lines().map(|line| &line[untimed(line)..]).collect()
    }

    const RECORD: ExchangeRecord<'_> = ExchangeRecord {
        id: ExchangeId { shard: 1, sequence: 0x2a },
        method: "POST",
        path: "/v1/messages?key=hunter2",
        status: Some(200),
        credential: Some("team a"),
        key: None,
        attempts: 1,
        first_byte: Some(Duration::from_micros(1_234)),
        duration: Duration::from_micros(5_000_500),
        request_bytes: 10,
        response_bytes: 20,
        ending: Ending::Ok,
    };

    #[test]
    fn an_exchange_is_one_line_without_its_query() {
        let log = captured(Level::INFO, LineFormat::Text, false, || RECORD.log());
        assert_eq!(
            untimed(&log),
            [" INFO exchange id=1-2a method=POST path=/v1/messages status=200 credential=\"team a\" attempts=1 \
              ttfb_ms=1.234 duration_ms=5000.5 bytes_in=10 bytes_out=20 end=ok"]
        );
    }

    #[test]
    fn what_a_client_chose_is_cut_to_a_kib_and_marked_so_that_lines_are_bounded() {
        let long = "é".repeat(8000);
        let (text, path) = ("é".repeat(512) + "…", format!("{long}?{long}"));
        let record = ExchangeRecord { method: &long, path: &path, ..RECORD };
        let log = captured(Level::INFO, LineFormat::Text, false, || record.log());
        assert!(log.contains(&format!(" method={text} path={text} status=200 ")), "{log}");
        let log = captured(Level::INFO, LineFormat::Json, false, || record.log());
        let line: serde_json::Value = serde_json::from_str(&log).expect("JSON");
        assert_eq!((line["method"].as_str(), line["path"].as_str()), (Some(&*text), Some(&*text)));
    }

    #[test]
    fn an_exchange_that_was_never_answered_leaves_out_what_it_does_not_have() {
        let record = ExchangeRecord {
            status: None,
            credential: None,
            first_byte: None,
            ending: Ending::ClientDisconnected,
            ..RECORD
        };
        let log = captured(Level::INFO, LineFormat::Text, false, || record.log());
        assert_eq!(
            untimed(&log),
            [
                " INFO exchange id=1-2a method=POST path=/v1/messages attempts=1 duration_ms=5000.5 bytes_in=10 bytes_out=20 \
              end=client_disconnected"
            ]
        );
    }

    #[test]
    fn json_lines_are_flat_and_hold_numbers_as_numbers() {
        let log = captured(Level::INFO, LineFormat::Json, true, || RECORD.log());
        let mut line: serde_json::Value = serde_json::from_str(&log).expect("one JSON object");
        let time = line.as_object_mut().and_then(|object| object.remove("timestamp"));
        assert!(time.and_then(|time| Some(time.as_str()?.ends_with('Z'))).is_some_and(|is_utc| is_utc));
        assert_eq!(
            line,
            serde_json::json!({
                "level": "INFO", "message": "exchange", "id": "1-2a", "method": "POST", "path": "/v1/messages",
                "status": 200, "credential": "team a", "attempts": 1, "ttfb_ms": 1.234, "duration_ms": 5000.5,
                "bytes_in": 10, "bytes_out": 20, "end": "ok"
            })
        );
    }

    #[test]
    fn no_value_can_fake_a_line_or_reach_the_terminal() {
        const EVIL: &str = "a\r\nb\n2026-01-01 INFO \x1b[31m\u{9b}2J\u{2028}\u{85}\t\0 c";
        let emit = || {
            tracing::info!(shown = %EVIL, debugged = ?EVIL, text = EVIL, "{EVIL}");
            ExchangeRecord { path: EVIL, method: EVIL, credential: Some(EVIL), ..RECORD }.log();
            tracing::warn!(error = &io::Error::other(EVIL) as &dyn std::error::Error);
        };
        for is_coloured in [false, true] {
            let text = captured(Level::INFO, LineFormat::Text, is_coloured, emit);
            assert_eq!(text.lines().count(), 3, "{text}");
            let own_escapes = ["\x1b[0m", "\x1b[2m", "\x1b[32m", "\x1b[33m"];
            let stripped = own_escapes.iter().fold(text.clone(), |text, escape| text.replace(escape, ""));
            let is_unsafe = |c: &char| (c.is_control() && *c != '\n') || *c == '\u{2028}';
            assert!(!stripped.chars().any(|c| is_unsafe(&c)), "{stripped:?}");
            assert_eq!(is_coloured, text != stripped);
        }
        let json = captured(Level::INFO, LineFormat::Json, false, emit);
        assert_eq!(json.lines().count(), 3);
        assert!(!json.chars().any(|c| c.is_ascii_control() && c != '\n'), "{json:?}");
        for line in json.lines() {
            serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        }
    }

    #[test]
    fn levels_hold_for_this_crate_and_libraries_are_heard_from_warnings_on() {
        let emit = || {
            tracing::debug!("own debug");
            tracing::info!("own info");
            tracing::warn!("own warning");
            tracing::error!("own error");
            tracing::debug!(target: "rustls::conn", "its debug");
            tracing::info!(target: "monoio", "its info");
            tracing::warn!(target: "rustls", "its warning");
            tracing::error!(target: "monoio", "its error");
        };
        for (level, expected) in [
            (Level::DEBUG, "own debug,own info,own warning,own error,its warning,its error"),
            (Level::INFO, "own info,own warning,own error,its warning,its error"),
            (Level::WARN, "own warning,own error,its warning,its error"),
            (Level::ERROR, "own error,its error"),
        ] {
            let log = captured(level, LineFormat::Text, false, emit);
            let words = |line: &str| {
                line.split(' ').rev().take(2).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join(" ")
            };
            assert_eq!(log.lines().map(words).collect::<Vec<_>>().join(","), expected, "{log}");
            assert_eq!(log.contains(module_path!()), level == Level::DEBUG, "the origin is for debugging");
        }
    }

    #[test]
    fn an_exchange_costs_no_line_where_info_is_off() {
        assert_eq!(captured(Level::WARN, LineFormat::Text, false, || RECORD.log()), "");
    }

    /// Blocks every write until its sender is gone.
    struct Blocked(mpsc::Receiver<()>);

    impl Write for Blocked {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_blocked_output_loses_lines_counts_them_and_blocks_nobody() {
        const LINES_MAX: usize = 8;
        const LINES: usize = 1000;
        let (unblock, blocked) = mpsc::channel();
        let (stderr, losses, stderr_guard) = log_writer::start("stderr", Blocked(blocked), LINES_MAX);
        let captured = Captured::default();
        let (file, file_losses, file_guard) = log_writer::start("file", captured.clone(), LINES);
        let subscriber = subscriber(Level::INFO, LineFormat::Text, false, stderr, Some(file));
        // A write that waited would do so for ever.
        listening(subscriber, || (0..LINES).for_each(|_| RECORD.log()));
        let lost = losses.lines() as usize;
        // What the writer took out of the queue before it was blocked is not lost.
        assert!((1..=LINES - LINES_MAX).contains(&lost), "{lost}");
        drop(file_guard);
        assert_eq!(
            (captured.text_at_the_end().lines().count(), file_losses.lines()),
            (LINES, 0),
            "the other output has them all"
        );
        drop(unblock);
        drop(stderr_guard);
    }

    #[test]
    fn a_terminal_has_colours_and_the_file_beside_it_has_none() {
        let (stderr, file) = (Captured::default(), Captured::default());
        let (stderr_queue, _, stderr_guard) = log_writer::start("stderr", stderr.clone(), 10);
        let (file_queue, _, file_guard) = log_writer::start("file", file.clone(), 10);
        let subscriber = subscriber(Level::INFO, LineFormat::Text, true, stderr_queue, Some(file_queue));
        listening(subscriber, || RECORD.log());
        drop((stderr_guard, file_guard));
        let (stderr, file) = (stderr.text_at_the_end(), file.text_at_the_end());
        assert!(stderr.contains("\x1b[2mstatus=\x1b[0m200"), "{stderr}");
        assert!(file.contains(" status=200 ") && !file.contains('\x1b'), "{file}");
    }

    #[test]
    fn words_beside_the_log_are_written_when_they_are_said_and_wait_for_nobody() {
        let output = Captured::default();
        say_on(output.clone(), last_words("file", 7).into()).expect("a thread");
        let said = output.text_at_the_end();
        assert_eq!(said, "7 log lines were lost in all: file was too slow, or could not be written\n");
        let (_never, blocked) = mpsc::channel();
        // That it returns at all is what is asked of it.
        say_on(Blocked(blocked), "never read".into()).expect("a thread");
    }

    /// A worker whose end waits until its sender is gone.
    struct EndsLate(mpsc::Receiver<()>);

    impl Drop for EndsLate {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }

    #[test]
    fn outputs_that_are_blocked_cost_one_wait_and_others_none() {
        const OUTPUTS: u32 = 30;
        let (never, blocked): (Vec<_>, Vec<_>) = (0..OUTPUTS).map(|_| mpsc::channel()).unzip();
        let begin = Instant::now();
        assert!(!end(blocked.into_iter().map(EndsLate)));
        assert!((ENDING_MAX..ENDING_MAX * OUTPUTS).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        drop(never);
        assert!(end((0..OUTPUTS).map(|_| EndsLate(mpsc::channel().1))));
    }

    #[test]
    fn endings_have_distinct_names() {
        let names: std::collections::HashSet<&str> = Ending::ALL.iter().map(|ending| ending.as_str()).collect();
        assert_eq!(names.len(), Ending::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')));
    }
}
