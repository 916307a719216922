//! The file of API keys: how people manage it, and how a gateway takes it.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod gateway;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{command, output_of, secrets_json};
use tempfile::TempDir;

/// A working directory with a secrets file.
struct Place(TempDir);

struct Outcome {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let place = Place(tempfile::tempdir().expect("a temporary directory"));
        place.write("secrets.json", &secrets_json(&["alpha", "beta"]));
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Writes a file that only its owner can read.
    fn write(&self, name: &str, text: &str) -> PathBuf {
        fs::write(self.path(name), text).expect("written");
        self.set_mode(name, 0o600);
        self.path(name)
    }

    /// Puts a file in the place of another at once, so that nobody reads half of it.
    fn replace(&self, name: &str, text: &str) {
        self.write("new", text);
        fs::rename(self.path("new"), self.path(name)).expect("renamed");
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a text")
    }

    fn set_mode(&self, name: &str, mode: u32) {
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(mode)).expect("changed");
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).expect("a file").permissions().mode() & 0o777
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("a directory");
        let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text"));
        let mut names: Vec<String> = names.collect();
        names.sort();
        names
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
        command.args(words).current_dir(self.0.path()).env_clear().stdin(Stdio::null());
        command.env("XDG_RUNTIME_DIR", self.0.path()).env("XDG_STATE_HOME", self.0.path().join("state"));
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command
    }

    /// Runs `keys` with these words, and the file `keys.json`.
    fn keys(&self, words: &[&str]) -> Outcome {
        outcome(self.command(&[&["keys"], words, &["--api-keys-file", "keys.json"]].concat()))
    }

    /// Adds a key, and returns it.
    fn add(&self, words: &[&str]) -> String {
        let outcome = self.keys(&[&["add"], words].concat());
        assert_eq!(outcome.code, Some(0), "{words:?}: {}", outcome.stderr);
        outcome.stdout.trim_end().to_owned()
    }
}

fn outcome(command: Command) -> Outcome {
    let output = output_of(command);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}

fn shown(path: &Path) -> String {
    path.to_str().expect("a readable path").to_owned()
}
