//! The commands for people at a terminal: `exec`, `init` and `top`.

#![expect(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a test waits on a thread of its own; no shard runs here"
)]

#[path = "../support/mod.rs"]
mod support;

mod exec;
mod init;
mod pty;
mod top;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use support::command;
use tempfile::TempDir;

const SECRETS: &str = r#"[{"clientId":"abc-123","clientSecret":"hunter2-and-more","tenant":"ciandt"}]"#;

/// A directory in which commands run, which is their home too.
struct Place(TempDir);

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Place(tempfile::tempdir().expect("a temporary directory"));
        for (name, content) in files {
            fs::write(place.path(name), content).expect("written");
            fs::set_permissions(place.path(name), PermissionsExt::from_mode(0o600)).expect("changed");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    fn mode(&self, name: &str) -> u32 {
        fs::metadata(self.path(name)).expect("it is there").permissions().mode() & 0o777
    }

    /// The names in the directory but for that of the state.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).expect("a directory");
        let mut names: Vec<String> =
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("text")).collect();
        names.retain(|name| name != "state");
        names.sort();
        names
    }

    fn command(&self, words: &[&str]) -> Command {
        self.environment(command(env!("CARGO_BIN_EXE_flow-uring")), words)
    }

    fn environment(&self, mut command: Command, words: &[&str]) -> Command {
        command.args(words).current_dir(self.0.path()).env_clear().env("HOME", self.0.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("TERM", "xterm-256color");
        command.env("XDG_RUNTIME_DIR", self.0.path()).env("XDG_STATE_HOME", self.path("state"));
        command
    }
}
