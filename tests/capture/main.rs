//! Failed exchanges, kept as files (`--capture-dir`) and explained (`explain`).

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod bounds;
mod contents;
mod explain;

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use support::{Gateway, GatewayBuilder, Upstream, wait_until};

fn builder(upstream: &Upstream, captures: &Path) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).arg("--capture-dir", captures.to_str().expect("a readable path"))
}

/// The files of a directory of captures, the oldest first; none while there is no directory.
fn files(captures: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(captures) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    files
}

/// Waits until there are so many captures, and returns them.
fn wait_for(captures: &Path, count: usize) -> Vec<Value> {
    wait_until("there are so many captures", || files(captures).len() >= count);
    // One that is too old may be deleted meanwhile.
    let read = |path: &PathBuf| Some(serde_json::from_slice(&fs::read(path).ok()?).expect("whole JSON"));
    files(captures).iter().filter_map(read).collect()
}

fn post(path: &str, field_lines: &str, body: &str) -> String {
    let length = body.len();
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{field_lines}Content-Length: {length}\r\n\r\n{body}")
}
