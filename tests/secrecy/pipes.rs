//! Files that are pipes: they can be read at the start, and hold nobody up later.

use std::fs;
use std::os::unix::fs::FileTypeExt;

use rustix::fs::{CWD, Mode, mkfifoat};

use super::place::{Outcome, Place};
use crate::support::{Client, GET, Gateway, Upstream, command, json};

#[test]
fn secrets_can_come_from_another_program() {
    let place = Place::new();
    let program = env!("CARGO_BIN_EXE_flow-uring");
    // The second one comes late, and in parts.
    for source in ["cat secrets.json", "sleep 0.2; head -c 40 secrets.json; sleep 0.2; tail -c +41 secrets.json"] {
        let mut shell = command("bash");
        shell.current_dir(place.directory()).args(["-c", &format!("{program} check --secrets-file <({source})")]);
        let Outcome { code, stdout, stderr } = Outcome::of(shell);
        assert_eq!(code, Some(0), "{source}: {stderr}");
        assert!(stdout.contains("[0] alpha, weight 1"), "{stdout}");
    }
}

#[test]
fn a_pipe_in_the_place_of_a_file_that_is_read_again_is_an_error_and_holds_nobody_up() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    let path = gateway.secrets_path();
    let pipe = path.with_extension("pipe");
    mkfifoat(CWD, &pipe, Mode::from_raw_mode(0o600)).expect("made");
    fs::rename(&pipe, &path).expect("renamed");
    assert!(fs::metadata(&path).expect("there").file_type().is_fifo());
    for count in 1..3 {
        gateway.signal(libc::SIGHUP);
        gateway.wait_for_log_count("it is not a regular file", count);
    }
    assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
    // The main thread is free to end it, too.
    gateway.terminate();
    gateway.wait_for_log("stopping");
}
