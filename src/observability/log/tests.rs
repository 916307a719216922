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

    /// Returns the text once the thread that writes has ended. Its guard waits for a second only.
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
    let (writer, _losses, guard) = super::writer::start("stderr", output.clone(), 1000);
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
    request_id: "r-1",
    trace_id: None,
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
    error_code: None,
    usage: None,
};

#[test]
fn an_exchange_is_one_line_without_its_query() {
    let log = captured(Level::INFO, LineFormat::Text, false, || RECORD.log());
    assert_eq!(
        untimed(&log),
        [
            " INFO exchange id=1-2a request_id=r-1 method=POST path=/v1/messages status=200 credential=\"team a\" attempts=1 \
          ttfb_ms=1.234 duration_ms=5000.5 bytes_in=10 bytes_out=20 end=ok"
        ]
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
            " INFO exchange id=1-2a request_id=r-1 method=POST path=/v1/messages attempts=1 duration_ms=5000.5 bytes_in=10 bytes_out=20 \
          end=client_disconnected"
        ]
    );
}

#[test]
fn an_exchange_names_the_trace_that_it_is_a_part_of() {
    let record = ExchangeRecord { trace_id: Some("0af7651916cd43dd8448eb211c80319c"), ..RECORD };
    let log = captured(Level::INFO, LineFormat::Text, false, || record.log());
    assert!(log.contains(" request_id=r-1 trace_id=0af7651916cd43dd8448eb211c80319c method="), "{log}");
}

#[test]
fn an_exchange_that_was_refused_names_the_code_of_the_error() {
    let record = ExchangeRecord { status: Some(400), ending: Ending::Refused, error_code: Some("bad_path"), ..RECORD };
    let log = captured(Level::INFO, LineFormat::Text, false, || record.log());
    assert!(log.trim_end().ends_with(" end=refused code=bad_path"), "{log}");
    let log = captured(Level::INFO, LineFormat::Json, false, || record.log());
    let line: serde_json::Value = serde_json::from_str(&log).expect("JSON");
    assert_eq!((&line["end"], &line["code"]), (&"refused".into(), &"bad_path".into()));
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
            "level": "INFO", "message": "exchange", "id": "1-2a", "request_id": "r-1", "method": "POST", "path": "/v1/messages",
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
fn levels_hold_for_this_crate_and_libraries_are_logged_from_warnings_on() {
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
    let (stderr, losses, stderr_guard) = super::writer::start("stderr", Blocked(blocked), LINES_MAX);
    let captured = Captured::default();
    let (file, file_losses, file_guard) = super::writer::start("file", captured.clone(), LINES);
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
    let (stderr_queue, _, stderr_guard) = super::writer::start("stderr", stderr.clone(), 10);
    let (file_queue, _, file_guard) = super::writer::start("file", file.clone(), 10);
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
    // It is enough that it returns at all.
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
