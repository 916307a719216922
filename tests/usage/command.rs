//! The totals of usage: the file that a gateway keeps, and the command that prints it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::SystemTime;

use flow_uring::usage::store::{UsageRow, UsageStore};
use flow_uring::usage::totals::{UnixHour, UsageKey, UsageSums};
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::{Client, GET, Gateway, Running, Upstream, command, json, output_of};

fn directory() -> TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// Adds a request of each of these models, made in this hour.
fn write(file: &Path, models: &[&str]) {
    let row = |model: &&str| UsageRow {
        hour: UnixHour::of(SystemTime::now()),
        of: UsageKey { key: "alice".into(), credential: "team".into(), model: (*model).into() },
        sums: UsageSums { requests: 1, ..UsageSums::default() },
    };
    let rows: Vec<UsageRow> = models.iter().map(row).collect();
    UsageStore::open(file).and_then(|mut store| store.add(&rows)).expect("written");
}

fn usage(place: &Path, words: &[&str]) -> Command {
    let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
    command.arg("usage").args(words).current_dir(place).env_clear().env("HOME", place);
    command
}

/// Returns the exit code, stdout and stderr.
fn outcome(output: Output) -> (Option<i32>, String, String) {
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn models_in_csv(place: &Path, file: &Path) -> Vec<String> {
    let words = ["--by", "model", "--csv", "--usage-db", file.to_str().expect("a readable path")];
    let (code, stdout, stderr) = outcome(output_of(usage(place, &words)));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    stdout.lines().skip(1).filter_map(|line| line.split(',').next()).map(str::to_owned).collect()
}

#[test]
fn the_command_needs_no_gateway_no_settings_and_no_dotenv() {
    let place = directory();
    let (code, stdout, stderr) = outcome(output_of(usage(place.path(), &[])));
    assert_eq!((code, stdout.as_str()), (Some(1), ""));
    let file = place.path().join(".local/state/flow-uring/usage.sqlite");
    assert!(
        stderr.starts_with(&format!("flow-uring: there is no usage file {}: no gateway", file.display())),
        "{stderr}"
    );
    assert!(!file.exists());

    write(&file, &["claude"]);
    // One that no other command would accept, and that names another file.
    std::fs::write(place.path().join(".env"), "FLOW_PROXY_USAGE_DB=/nowhere\nnot a line\n").expect("written");
    let mut command = usage(place.path(), &["--since", "2026-01-01", "--by", "key,model", "--json", "--port", "x"]);
    command.env("FLOW_PROXY_LOG_LEVEL", "wrong");
    let (code, stdout, stderr) = outcome(output_of(command));
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    let report: serde_json::Value = serde_json::from_str(&stdout).expect("JSON");
    assert_eq!(report["since"], "2026-01-01T00:00:00Z");
    assert_eq!((&report["rows"][0]["key"], &report["rows"][0]["model"]), (&"alice".into(), &"claude".into()));
    assert_eq!(report["total"]["requests"], 1);
}

#[test]
fn a_wrong_question_is_exit_64_and_no_file_at_all_exit_1() {
    let place = directory();
    for (words, expected, message) in [
        (&["--since", "hunter2"][..], 64, "flow-uring: --since: expected 24h, 7d, 12w, a date"),
        (&["--by", "hunter2"], 64, "flow-uring: --by: expected some of month, day, hour"),
        (&["--json", "--csv"], 64, "flow-uring: --csv: "),
        (&["--usage-db", "off"], 1, "flow-uring: there is no usage file: it is off"),
        (&["--usage-db", "/dev/null"], 1, "flow-uring: the usage file /dev/null is not a regular file"),
    ] {
        let (code, stdout, stderr) = outcome(output_of(usage(place.path(), words)));
        assert_eq!((code, stdout.as_str()), (Some(expected), ""), "{words:?}");
        assert!(stderr.starts_with(message) && !stderr.contains("hunter2"), "{stderr}");
    }
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let place = directory();
    let file = place.path().join("usage.sqlite");
    write(&file, &["claude"]);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = usage(place.path(), &["--usage-db", "usage.sqlite"]);
    command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
    let output = Running::start(command).expect("started").output();
    assert_eq!(outcome(output), (Some(0), String::new(), String::new()));
}

#[test]
fn a_write_that_was_cut_off_is_undone_by_the_command_too() {
    let place = directory();
    let file = place.path().join("usage.sqlite");
    write(&file, &["claude"]);
    let cut_off = in_the_middle_of_a_write(place.path(), &file);
    let journal = cut_off.with_extension("sqlite-journal");
    let halves = std::fs::read(&cut_off).expect("read").windows(4).filter(|bytes| *bytes == b"half").count();
    assert!(halves > 100 && journal.metadata().expect("hot").len() > 0, "{halves}");
    assert_eq!(models_in_csv(place.path(), &cut_off), ["claude"]);
    assert!(!journal.exists());
}

/// Copies the file with its journal when some pages of a transaction are in it and others are not, as a crash leaves
/// them.
fn in_the_middle_of_a_write(place: &Path, file: &Path) -> PathBuf {
    let database = Connection::open(file).expect("opened");
    let statements = "PRAGMA cache_size = 1; PRAGMA cache_spill = 1; BEGIN IMMEDIATE;
        UPDATE usage SET model = 'half';
        INSERT INTO usage WITH RECURSIVE number(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < 2000)
        SELECT hour, key, credential, 'half ' || n, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM usage, number;";
    database.execute_batch(statements).expect("executed");
    let copy = place.join("copy.sqlite");
    for ending in ["sqlite", "sqlite-journal"] {
        std::fs::copy(file.with_extension(ending), copy.with_extension(ending)).expect("copied");
    }
    copy
}

#[test]
fn a_gateway_makes_the_file_for_its_user_alone_and_check_says_which() {
    let place = directory();
    let file = place.path().join("state/usage.sqlite");
    let named = file.to_str().expect("a readable path");
    let upstream = Upstream::plain(json(200, "{}"));
    let state = named.trim_end_matches("/usage.sqlite");
    let mut gateway = Gateway::builder().upstream(&upstream).env("STATE_DIRECTORY", state).start();
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
    assert!(!gateway.log().iter().any(|line| line.contains("usage")), "{:?}", gateway.log());
    assert_eq!(file.metadata().expect("made").permissions().mode() & 0o777, 0o600);
    assert_eq!(models_in_csv(place.path(), &file), Vec::<String>::new());

    let mut check = command(env!("CARGO_BIN_EXE_flow-uring"));
    check.args(["check", "--usage-db", named]).current_dir(place.path()).env_clear();
    let (_, stdout, _) = outcome(output_of(check));
    assert!(stdout.contains(&format!("  usage-db                {named} (--usage-db)\n")), "{stdout}");
    assert!(stdout.contains(&format!("usage file {named}: can be read\n")), "{stdout}");
}

#[test]
fn where_the_file_cannot_be_written_the_gateway_serves_and_says_so_once() {
    let upstream = Upstream::plain(json(200, "{}"));
    let mut gateway = Gateway::builder().upstream(&upstream).arg("--usage-db", "/dev/null").start();
    let warning = gateway.wait_for_log("usage is kept in memory alone");
    assert!(warning.contains("the usage file /dev/null is not a regular file; choose another --usage-db"), "{warning}");
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
    let warnings = gateway.log().iter().filter(|line| line.contains("usage is kept in memory alone")).count();
    assert_eq!(warnings, 1);
}

#[test]
fn no_file_is_made_where_totals_are_off() {
    let place = directory();
    let state = place.path().join("state").display().to_string();
    let upstream = Upstream::plain(json(200, "{}"));
    for (flag, value) in [("--usage", "off"), ("--usage-db", "off")] {
        let mut gateway =
            Gateway::builder().upstream(&upstream).env("STATE_DIRECTORY", &state).arg(flag, value).start();
        gateway.terminate();
        assert_eq!(gateway.wait().code(), Some(0));
        assert!(!place.path().join("state").exists(), "{flag}");
    }
}
