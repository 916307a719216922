//! `scripts/install.sh` on the files of a release: what it puts in place, and what it refuses without leaving anything.

#![expect(clippy::disallowed_methods, reason = "a test may block")]

mod support;

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Output;

use support::{command, output_of};
use tempfile::TempDir;

const INSTALLED: [&str; 5] = [
    "bin/flow-uring",
    "share/man/man1/flow-uring.1",
    "share/bash-completion/completions/flow-uring",
    "share/zsh/site-functions/_flow-uring",
    "share/fish/vendor_completions.d/flow-uring.fish",
];

/// A folder with a release, and a home that it may be installed into.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Place(tempfile::tempdir().expect("a temporary directory"));
        for folder in ["release of today", "home"] {
            fs::create_dir(place.path(folder)).expect("made");
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn release(&self) -> PathBuf {
        self.path("release of today")
    }

    /// Adds a version whose program says so, and ends with this exit code.
    fn add(&self, version: &str, exit_code: i32) {
        let name = format!("flow-uring-{version}-{}-linux", std::env::consts::ARCH);
        let folder = self.path(&name);
        fs::create_dir_all(folder.join("completions")).expect("made");
        for file in
            ["flow-uring.1", "completions/flow-uring.bash", "completions/_flow-uring", "completions/flow-uring.fish"]
        {
            fs::write(folder.join(file), version).expect("written");
        }
        let program = folder.join("flow-uring");
        fs::write(&program, format!("#!/bin/sh\necho flow-uring {version}\nexit {exit_code}\n")).expect("written");
        fs::set_permissions(program, PermissionsExt::from_mode(0o755)).expect("changed");
        let archive = self.release().join(format!("{name}.tar.gz"));
        self.shell(&format!("tar -czf '{}' -C '{}' {name}", archive.display(), self.0.path().display()));
        self.sum();
    }

    fn sum(&self) {
        self.shell(&format!(
            "cd '{}' && rm -f SHA256SUMS && sha256sum -- *.tar.gz >SHA256SUMS.new && mv SHA256SUMS.new SHA256SUMS",
            self.release().display()
        ));
    }

    fn shell(&self, line: &str) {
        let mut shell = command("sh");
        shell.args(["-ec", line]);
        let output = output_of(shell);
        assert!(output.status.success(), "{line}: {output:?}");
    }

    fn install(&self, words: &[&str]) -> Output {
        let mut shell = command("sh");
        shell.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/install.sh")).args(words);
        shell.env_clear().env("HOME", self.path("home")).env("PATH", "/usr/bin:/bin").env("TMPDIR", self.path("home"));
        shell.current_dir(self.0.path());
        output_of(shell)
    }

    fn install_release(&self, words: &[&str]) -> Output {
        self.install(&[&["--from", self.release().to_str().expect("text")], words].concat())
    }
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned()).concat()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn a_release_is_installed_for_one_user_and_a_newer_one_takes_its_place() {
    let place = Place::new();
    place.add("0.1.0", 0);
    let output = place.install_release(&[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(said(&output).contains("flow-uring 0.1.0 is installed"), "{}", said(&output));
    let prefix = place.path("home/.local");
    for file in INSTALLED {
        assert!(read(&prefix.join(file)).contains("0.1.0"), "{file}");
    }
    let program = prefix.join(INSTALLED[0]);
    assert_eq!(fs::metadata(&program).expect("there").permissions().mode() & 0o777, 0o755);
    // A program that runs keeps its file: another one is put in its place.
    let running = fs::File::open(&program).expect("there");

    place.add("0.10.0", 0);
    place.add("0.9.0", 0);
    let output = place.install_release(&[]);
    assert!(said(&output).contains("flow-uring 0.10.0 is installed"), "{}", said(&output));
    assert!(std::io::read_to_string(running).expect("read").contains("0.1.0"));
    let output = place.install_release(&["--version", "v0.9.0", "--prefix", "with spaces/and more"]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(read(&place.path("with spaces/and more").join(INSTALLED[0])).contains("0.9.0"));
    assert!(read(&program).contains("0.10.0"), "the other place stays as it was");
    assert_eq!(fs::read_dir(place.path("home")).expect("there").count(), 1, "nothing is left beside .local");
}

#[test]
fn what_is_not_what_the_release_says_is_refused_and_nothing_is_left() {
    let place = Place::new();
    place.add("0.1.0", 0);
    let archive = place.release().join(format!("flow-uring-0.1.0-{}-linux.tar.gz", std::env::consts::ARCH));
    let sums = place.release().join("SHA256SUMS");
    let (good_archive, good_sums) = (fs::read(&archive).expect("there"), read(&sums));
    let refused = |words: &[&str], reason: &str| {
        let output = place.install(words);
        assert_eq!(output.status.code(), Some(1), "{words:?}: {}", said(&output));
        assert!(said(&output).contains(reason), "{words:?}: {}", said(&output));
        let left = fs::read_dir(place.path("home")).expect("there").count();
        assert_eq!(left, 0, "{words:?}: {}", said(&output));
    };
    let release = place.release();
    let from = ["--from", release.to_str().expect("text")];

    fs::write(&archive, [&good_archive[..], b"x"].concat()).expect("written");
    refused(&from, "is not what SHA256SUMS of the release says");
    fs::write(&archive, &good_archive).expect("written");
    for sums_of_others in
        [good_sums.replace("0.1.0", "../0.1.0"), good_sums.replace("  ", " *"), String::new(), "x".repeat(99)]
    {
        fs::write(&sums, sums_of_others).expect("written");
        refused(&from, "the release has nothing for");
    }
    fs::remove_file(&sums).expect("removed");
    refused(&from, "has no SHA256SUMS");
    fs::write(&sums, &good_sums).expect("written");
    fs::remove_file(&archive).expect("removed");
    refused(&from, "has no flow-uring-0.1.0");
    symlink("/nowhere", &archive).expect("made");
    refused(&from, "has no flow-uring-0.1.0");
    fs::remove_file(&archive).expect("removed");

    // One that does not run on this machine.
    fs::remove_dir_all(place.path(&format!("flow-uring-0.1.0-{}-linux", std::env::consts::ARCH))).expect("removed");
    place.add("0.1.0", 1);
    refused(&from, "does not run on this machine");

    place.add("0.2.0", 0);
    fs::write(place.path("a file"), "").expect("written");
    refused(&[&from[..], &["--prefix", "a file"]].concat(), "cannot be written, so the program was left as it was");
    fs::create_dir_all(place.path("taken/bin/flow-uring")).expect("made");
    refused(&[&from[..], &["--prefix", "taken"]].concat(), "is a folder");
    refused(&[&from[..], &["--version", "0.3.0"]].concat(), "of version 0.3.0");
    refused(&[&from[..], &["--version", "0.2"]].concat(), "of version 0.2");
    refused(&[&from[..], &["--version", ".*"]].concat(), "no version");
    refused(&["--from", "ftp://example.com"], "neither a folder nor a URL");
    refused(&[], "say where the releases are");
    refused(&["--prefix"], "--prefix needs a value");
    refused(&["--nope"], "unknown argument --nope");
}
