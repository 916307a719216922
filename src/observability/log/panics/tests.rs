use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tracing::Level;

use crate::observability::log::{self, FileOptions, LineFormat, Retention};

/// Names the log file to the process that panics.
const FILE: &str = "FLOW_URING_TEST_PANIC_LOG";

#[test]
#[ignore = "run by the test below, in a process of its own"]
fn a_process_whose_thread_panics() {
    let path = PathBuf::from(std::env::var_os(FILE).expect("run by the test below"));
    let retention = Retention { days: 1, bytes_max: 1_000_000, cleanup_interval: None };
    let file = FileOptions { path, makes_directory: false, retention };
    let _log = log::init(Level::ERROR, LineFormat::Text, Some(file)).expect("a log");
    let fall = || panic!("the {} are\n\x1b[31mlost", "books");
    let fallen = std::thread::Builder::new().name("flow-shard-7".into()).spawn(fall).expect("a thread").join();
    assert!(fallen.is_err());
}

#[test]
#[expect(clippy::disallowed_methods, reason = "a test waits and reads files; no shard runs here")]
fn a_panic_is_one_line_in_every_output_with_its_backtrace_where_one_is_asked_for() {
    let place = tempfile::tempdir().expect("a temporary directory");
    for (backtrace, is_traced) in [("0", false), ("1", true)] {
        let path = place.path().join(backtrace);
        let name = concat!(module_path!(), "::a_process_whose_thread_panics");
        let name = name.split_once("::").expect("a path").1;
        let mut command = Command::new(std::env::current_exe().expect("a program"));
        command.args(["--exact", name, "--ignored", "--nocapture"]).env(FILE, &path);
        let output = command.env("RUST_BACKTRACE", backtrace).env_remove("RUST_LIB_BACKTRACE").output();
        let output = output.expect("started");
        assert!(output.status.success(), "{output:?}");
        let file = fs::read_to_string(&path).expect("a log file");
        let line = file.strip_suffix('\n').expect("a line");
        assert!(line.contains(" ERROR a thread has panicked thread=\"flow-shard-7\" at=src/observability/"), "{line}");
        assert!(line.contains(" reason=the books are\\n\\u{1b}[31mlost"), "{line}");
        assert_eq!((line.lines().count(), line.contains(" backtrace=")), (1, is_traced), "{line}");
        let stderr = String::from_utf8(output.stderr).expect("text");
        assert_eq!(stderr.lines().filter(|other| *other == line).count(), 1, "{stderr}");
        assert_eq!(stderr.matches("the books are").count(), 1, "{stderr}");
    }
}
