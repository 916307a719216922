//! A working directory, and the program in it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::support::{command, output_of, secrets_json};

/// Nobody's user and group, on all distributions: who is root can run programs and own files as such.
pub const NOBODY: u32 = 65534;

/// A working directory with a secrets file. Others may enter it.
pub struct Place(TempDir);

pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Place {
    pub fn new() -> Self {
        let place = Place(tempfile::tempdir().expect("a temporary directory"));
        set_mode(place.directory(), 0o755);
        place.write("secrets.json", &secrets_json(&["alpha"]), 0o600);
        place
    }

    pub fn directory(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn write(&self, name: &str, text: &str, mode: u32) {
        fs::write(self.path(name), text).expect("written");
        set_mode(&self.path(name), mode);
    }

    /// The program, with nothing of this process's environment.
    pub fn program(&self, words: &[impl AsRef<OsStr>]) -> Command {
        let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
        command
            .args(words)
            .current_dir(self.directory())
            .env_clear()
            .env("FLOW_PROXY_USAGE_DB", "off")
            .env("XDG_RUNTIME_DIR", self.directory());
        command
    }

    pub fn run(&self, words: &[&str]) -> Outcome {
        Outcome::of(self.program(words))
    }
}

impl Outcome {
    pub fn of(command: Command) -> Self {
        let output = output_of(command);
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
        Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

pub fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("changed");
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
