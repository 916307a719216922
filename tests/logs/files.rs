//! The log file beside stderr: what is in it, how large it gets, and what an output that fails costs (lines, never
//! requests).

use std::collections::HashSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::support::{
    Client, GET, Gateway, GatewayBuilder, Upstream, answer, json, scan_directory, secrets_json, value_of, wait_until,
};

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

fn gateway(upstream: &Upstream, directory: &Path) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).arg("--log-dir", directory.to_str().expect("text"))
}

fn lines_of(file: &Path) -> Vec<String> {
    fs::read_to_string(file).unwrap_or_default().lines().map(str::to_owned).collect()
}

/// Returns the lines on stderr without the banner and the last words.
fn lines_on_stderr(gateway: &Gateway) -> Vec<String> {
    let is_of_the_log = |line: &String| line.starts_with("20") || line.starts_with('{');
    gateway.log().into_iter().filter(is_of_the_log).collect()
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry").path()).collect()
}

fn stop(gateway: &mut Gateway) {
    gateway.terminate();
    assert!(gateway.wait().success());
}

#[test]
fn every_line_is_in_both_outputs() {
    let upstream = Upstream::plain(json(200, "{}"));
    let directory = directory();
    let place = directory.path().join("made/for it");
    let mut gateway = gateway(&upstream, &place).start();
    let mut client = Client::connect(gateway.port());
    (0..20).for_each(|_| assert_eq!(client.ask(GET).status, 200));
    stop(&mut gateway);
    gateway.wait_for_log(" in all ");
    let in_file = lines_of(&place.join("flow-uring.log"));
    assert_eq!(in_file.iter().filter(|line| line.contains(" exchange ")).count(), 20);
    assert_eq!(in_file, lines_on_stderr(&gateway));
}

#[test]
fn json_holds_for_both_outputs() {
    let upstream = Upstream::plain(json(200, "{}"));
    let directory = directory();
    let file = directory.path().join("a.json");
    let builder = Gateway::builder().upstream(&upstream).arg("--log-file", file.to_str().expect("text"));
    let mut gateway = builder.arg("--log-format", "json").start();
    Client::connect(gateway.port()).ask(GET);
    stop(&mut gateway);
    let lines = lines_of(&file);
    for line in &lines {
        serde_json::from_str::<serde_json::Value>(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    }
    assert!(lines.iter().any(|line| line.contains(r#""message":"exchange""#)), "{lines:?}");
    wait_until("the same lines on stderr", || lines_on_stderr(&gateway) == lines);
}

/// Returns the number of lines that the file has lost, by the metrics page.
fn lost_of_file(gateway: &Gateway) -> usize {
    let page = gateway.metrics();
    let count = page.lines().find_map(|line| line.strip_prefix("flow_uring_log_lines_dropped_total{output=\"file\"} "));
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no such metric in {page}"))
}

#[test]
fn a_full_disk_costs_lines_that_are_counted_and_no_request() {
    const FULL_BYTES: u64 = 20_000;
    const LOST_MIN: usize = 100;
    let upstream = Upstream::plain(json(200, "{}"));
    let directory = directory();
    let file = directory.path().join("flow-uring.log");
    let builder = gateway(&upstream, directory.path()).arg("--admin", "127.0.0.1:0");
    let mut gateway = builder.file_bytes_max(FULL_BYTES).start();
    let mut client = Client::connect(gateway.port());
    wait_until("that many lines are lost", || {
        assert_eq!(client.ask(GET).status, 200);
        lost_of_file(&gateway) >= LOST_MIN
    });
    assert_eq!(fs::metadata(&file).expect("a file").len(), FULL_BYTES, "what fits is written");
    let complaint = gateway.wait_for_log("log lines cannot be written");
    assert!(complaint.contains(" output=\"file\" error=File too large"), "{complaint}");

    gateway.unlimit_files();
    let mut told = || {
        client.ask(GET);
        lines_of(&file).iter().any(|line| line.contains("log lines were lost"))
    };
    wait_until("a line that says how many were lost", &mut told);
    stop(&mut gateway);
    gateway.wait_for_log(" in all ");

    let on_stderr = lines_on_stderr(&gateway);
    let in_file: HashSet<String> = lines_of(&file).into_iter().collect();
    let lost: Vec<&String> = on_stderr.iter().filter(|line| !in_file.contains(*line)).collect();
    let said = on_stderr.iter().filter(|line| line.contains("log lines were lost"));
    let said: usize = said.map(|line| value_of(line, "lines").and_then(|count| count.parse().ok()).unwrap_or(0)).sum();
    assert!(lost.len() >= LOST_MIN, "{}", lost.len());
    assert_eq!(said, lost.len(), "all that are missing are told: {lost:#?}");
    let lost = lost.len();
    gateway.wait_for_log(&format!("{lost} log lines were lost in all: file was too slow, or could not be written"));
}

#[test]
fn a_blocked_stderr_holds_up_neither_the_file_nor_requests() {
    let upstream = Upstream::plain(json(200, "{}"));
    let directory = directory();
    let file = directory.path().join("flow-uring.log");
    let gateway = gateway(&upstream, directory.path()).start();
    let mut client = Client::connect_unrecorded(gateway.port());
    let blocked = gateway.block_output();
    // More than a pipe and the buffer of its reader hold.
    const REQUESTS: usize = 1500;
    for _ in 0..REQUESTS {
        assert_eq!(client.ask(GET).status, 200);
    }
    let exchanges = || lines_of(&file).iter().filter(|line| line.contains(" exchange ")).count();
    wait_until("all lines in the file", || exchanges() == REQUESTS);
    assert!(fs::metadata(&file).expect("a file").len() > 3 * 64 * 1024, "the pipe was full");
    drop(blocked);
    gateway.wait_for_log_count(" exchange ", REQUESTS);
}

#[test]
fn a_busy_day_keeps_its_newest_lines_within_the_limit() {
    const LIMIT_BYTES: u64 = 1_000_000;
    let upstream = Upstream::plain(json(200, "{}"));
    let directory = directory();
    let builder = gateway(&upstream, directory.path()).arg("--log-level", "INFO");
    let gateway = builder.env("FLOW_PROXY_LOG_MAX_SIZE_MB", "1").start();
    let mut client = Client::connect_unrecorded(gateway.port());
    for number in 0..1500 {
        let path = format!("{number}-{}", "x".repeat(1000));
        let request = format!("GET /v1/models/{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(client.ask(request).status, 200);
        let bytes: u64 =
            files_in(directory.path()).iter().filter_map(|file| fs::metadata(file).ok()).map(|f| f.len()).sum();
        assert!(bytes <= LIMIT_BYTES, "{bytes} bytes after request {number}");
    }
    let file = directory.path().join("flow-uring.log");
    wait_until("the newest line", || lines_of(&file).iter().any(|line| line.contains("/v1/models/1499-")));
    let bytes: u64 = files_in(directory.path()).iter().map(|file| fs::metadata(file).expect("a file").len()).sum();
    assert!(bytes > LIMIT_BYTES / 10 * 7, "what fits is kept: {bytes} bytes");
}

#[test]
fn old_files_go_at_the_start_and_strangers_stay_unless_cleanup_is_off() {
    let upstream = Upstream::plain(json(200, "{}"));
    for is_cleaned_up in [true, false] {
        let directory = directory();
        let path = |name: &str| directory.path().join(name);
        let (old, stranger) = (path("flow-uring.log.2020-01-01.1"), path("flow-uring.log.2020-01-01.1.gz"));
        fs::write(&old, "old").expect("written");
        fs::write(&stranger, "old").expect("written");
        fs::write(path("flow-uring.log"), "yesterday\n").expect("written");
        let yesterday = SystemTime::now() - Duration::from_secs(86_400);
        File::options().append(true).open(path("flow-uring.log")).expect("open").set_modified(yesterday).expect("set");
        let builder = gateway(&upstream, directory.path());
        let mut gateway = builder.env("FLOW_PROXY_LOG_CLEANUP_ENABLED", is_cleaned_up.to_string()).start();
        Client::connect(gateway.port()).ask(GET);
        if is_cleaned_up {
            wait_until("the old file is deleted", || !old.exists());
        }
        stop(&mut gateway);
        assert!(old.exists() != is_cleaned_up && stranger.exists());
        assert!(!lines_of(&path("flow-uring.log")).contains(&"yesterday".to_owned()));
        assert_eq!(files_in(directory.path()).len(), if is_cleaned_up { 3 } else { 4 }, "yesterday's is put aside");
    }
}

#[test]
fn a_file_that_logrotate_moves_is_left_alone_from_the_next_line_on() {
    let upstream = Upstream::plain(json(200, "{}"));
    let directory = directory();
    let file = directory.path().join("flow-uring.log");
    let gateway = gateway(&upstream, directory.path()).start();
    let mut client = Client::connect(gateway.port());
    client.ask(GET);
    wait_until("the first exchange", || lines_of(&file).iter().any(|line| line.contains(" exchange id=")));
    fs::rename(&file, directory.path().join("moved")).expect("moved");
    client.ask("GET /v1/other HTTP/1.1\r\nHost: localhost\r\n\r\n");
    wait_until("the second exchange", || lines_of(&file).iter().any(|line| line.contains("path=/v1/other")));
    assert!(!lines_of(&directory.path().join("moved")).iter().any(|line| line.contains("/v1/other")));
}

#[test]
fn no_secret_is_in_the_files() {
    let directory = directory();
    let answers: [(u16, &str); 3] = [(200, "{}"), (401, r#"{"error":"no"}"#), (503, "{}")];
    for (status, body) in answers {
        let upstream = Upstream::plain(json(status, body));
        let builder = gateway(&upstream, directory.path()).secrets(secrets_json(&["alpha", "beta"]));
        let mut gateway = builder.start();
        Client::connect(gateway.port()).ask(GET);
        stop(&mut gateway);
    }
    let upstream = Upstream::plain(answer("nonsense\r\n\r\n"));
    let mut gateway = gateway(&upstream, directory.path()).start();
    Client::connect(gateway.port()).ask(GET);
    stop(&mut gateway);
    let exchanges = lines_of(&directory.path().join("flow-uring.log"));
    assert_eq!(exchanges.iter().filter(|line| line.contains(" exchange ")).count(), 4, "{exchanges:#?}");
    assert_eq!(scan_directory(directory.path()), Vec::<String>::new());
}
