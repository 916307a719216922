//! All output of gateways, kept in a file per test process below the target directory, and the search through it.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};
use std::time::Duration;

use super::secrets::{SECRET_MARK, leak_in, secret_traces};

/// Returns the directory with the files of all test processes.
pub fn observed_directory() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("observed")
}

/// The age at which a file is of an earlier run: longer than any run takes.
const KEPT_FOR: Duration = Duration::from_secs(60 * 60);

static PATH: LazyLock<PathBuf> = LazyLock::new(|| {
    fs::create_dir_all(observed_directory()).expect("a directory below target");
    forget_earlier_runs();
    let program = std::env::args().next().unwrap_or_default();
    let program = Path::new(&program).file_name().unwrap_or_default().to_string_lossy().into_owned();
    observed_directory().join(format!("{program}-{}.log", std::process::id()))
});

static LOG: LazyLock<Mutex<File>> = LazyLock::new(|| {
    Mutex::new(OpenOptions::new().create(true).append(true).open(&*PATH).expect("a file below target"))
});

/// The `Authorization` values that upstreams were sent: only they may know them.
static SENT: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

fn forget_earlier_runs() {
    for entry in fs::read_dir(observed_directory()).into_iter().flatten().flatten() {
        let age = entry.metadata().ok().and_then(|file| file.modified().ok()?.elapsed().ok());
        if age.is_some_and(|age| age > KEPT_FOR) {
            // Another process may have been faster.
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Appends to this process's file.
pub fn record(bytes: &[u8]) {
    LOG.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).write_all(bytes).expect("space below target");
}

/// Remembers what an upstream was sent as authorization.
pub fn note_authorization(value: &str) {
    SENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).insert(value.to_owned());
}

pub fn sent_authorizations() -> Vec<String> {
    SENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).iter().cloned().collect()
}

/// Returns the number of bytes that this process has recorded so far.
pub fn recorded_bytes() -> u64 {
    fs::metadata(&*PATH).map_or(0, |file| file.len())
}

/// Returns the first of `traces` that this process recorded after the first `start` bytes.
pub fn leak_after(start: u64, traces: &[String]) -> Option<String> {
    let mut content = Vec::new();
    let mut file = File::open(&*PATH).ok()?;
    file.seek(SeekFrom::Start(start)).and_then(|_| file.read_to_end(&mut content)).expect("a readable log");
    leak_in(&content, traces).map(|leak| format!("{}: {leak}", PATH.display()))
}

/// Returns the files in `directory` that hold a test's secret in any form, each with the finding but not the secret.
pub fn scan_directory(directory: &Path) -> Vec<String> {
    let traces = secret_traces(SECRET_MARK);
    let mut leaks = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.expect("a directory entry").path();
        // A file that another process has just removed holds nothing.
        let Ok(content) = fs::read(&path) else { continue };
        leaks.extend(leak_in(&content, &traces).map(|leak| format!("{}: {leak}", path.display())));
    }
    leaks
}
