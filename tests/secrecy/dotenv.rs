//! A `.env` that somebody else could have written is not used: it could name another upstream, which would get the
//! tokens.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::{chown, lchown, symlink};
use std::os::unix::process::CommandExt;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, mkfifoat};

use super::place::{NOBODY, Outcome, Place, is_root, set_mode};
use crate::support::{Gateway, Running, Upstream, command, json, skip};

/// A setting that shows whether the file was used: nothing listens there.
const REDIRECTING: &str = "FLOW_PROXY_TARGET_URL=http://127.0.0.1:1/elsewhere\n";

/// Far less than a wait for a pipe takes.
const AT_ONCE: Duration = Duration::from_secs(20);

fn assert_refused(place: &Place, what: &str) {
    for words in [&["--port", "0", "--admin", "off"][..], &["token"], &["check"], &["check", "--port", "x"]] {
        let Outcome { code, stdout, stderr } = place.run(words);
        assert_eq!((code, stdout.as_str()), (Some(64), ""), "{words:?}: {stderr}");
        let begin = format!("flow-uring: the configuration has mistakes:\n  .env {what}");
        assert!(stderr.starts_with(&begin) && stderr.contains(", so nothing of it is used. "), "{stderr}");
        assert_eq!(stderr.lines().count(), 2, "{stderr}");
    }
}

fn assert_used(place: &Place) {
    let Outcome { code, stdout, stderr } = place.run(&["check"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""));
    assert!(stdout.contains("http://127.0.0.1:1/elsewhere (.env line 1: FLOW_PROXY_TARGET_URL)"), "{stdout}");
}

#[test]
fn one_that_others_can_write_or_that_is_no_file_is_refused_at_once_by_every_command_that_reads_it() {
    let place = Place::new();
    place.write(".env", REDIRECTING, 0o666);
    assert_refused(&place, "can be written by everyone (mode 666)");
    for mode in [0o600, 0o664] {
        set_mode(&place.path(".env"), mode);
        assert_used(&place);
    }
    let began = Instant::now();
    fs::remove_file(place.path(".env")).expect("removed");
    mkfifoat(CWD, place.path(".env"), Mode::from_raw_mode(0o600)).expect("made");
    assert_refused(&place, "is a named pipe, not a regular file");
    fs::remove_file(place.path(".env")).expect("removed");
    fs::create_dir(place.path(".env")).expect("made");
    assert_refused(&place, "is a directory, not a regular file");
    fs::remove_dir(place.path(".env")).expect("removed");
    symlink("nowhere", place.path(".env")).expect("linked");
    assert_refused(&place, "is a symbolic link to a file that is not there");
    fs::remove_file(place.path(".env")).expect("removed");
    symlink("/dev/zero", place.path(".env")).expect("linked");
    assert_refused(&place, "is a device, not a regular file");
    assert!(began.elapsed() < AT_ONCE, "{:?}", began.elapsed());
}

#[test]
fn help_version_and_a_health_check_do_without_it() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    let place = Place::new();
    let port = gateway.port().to_string();
    let make_pipe = |place: &Place| {
        fs::remove_file(place.path(".env")).expect("removed");
        mkfifoat(CWD, place.path(".env"), Mode::from_raw_mode(0o600)).expect("made");
    };
    // Used, it would send the health check to a port where nothing listens.
    place.write(".env", "FLOW_PROXY_PORT=1\nFLOW_PROXY_ADMIN=127.0.0.1:1\n", 0o666);
    for change in [|_: &Place| (), make_pipe] {
        change(&place);
        for words in [["--help"], ["--version"]] {
            assert_eq!(place.run(&words).code, Some(0), "{words:?}");
        }
        let Outcome { code, stdout, stderr } = place.run(&["healthcheck", "--port", &port, "--admin", "off"]);
        assert_eq!((code, stdout.as_str()), (Some(0), ""), "{stderr}");
        assert!(stderr.starts_with("flow-uring: warning: .env ") && stderr.lines().count() == 1, "{stderr}");
    }
    fs::remove_file(place.path(".env")).expect("removed");
    place.write(".env", &format!("FLOW_PROXY_PORT={port}\nFLOW_PROXY_ADMIN=off\n"), 0o600);
    let Outcome { code, stderr, .. } = place.run(&["healthcheck"]);
    assert_eq!((code, stderr.as_str()), (Some(0), ""), "it is used where it may be");
}

#[test]
fn one_of_another_user_is_refused_and_one_of_roots_is_used() {
    if !is_root() {
        return skip("a .env of another user and one of root's: only root can make them");
    }
    let place = Place::new();
    place.write(".env", REDIRECTING, 0o600);
    chown(place.path(".env"), Some(NOBODY), Some(NOBODY)).expect("given away");
    assert_refused(&place, "belongs to user 65534, not to user 0, who runs this, or to root");
    chown(place.path(".env"), Some(0), Some(NOBODY)).expect("given away");
    set_mode(&place.path(".env"), 0o664);
    assert_refused(&place, "can be written by group 65534 (mode 664)");

    // A link of another user on the way, of a file or of a directory, to a file of root's.
    fs::rename(place.path(".env"), place.path("file")).expect("moved");
    chown(place.path("file"), Some(0), Some(0)).expect("given away");
    set_mode(&place.path("file"), 0o644);
    fs::create_dir(place.path("d")).expect("made");
    for (target, link, way) in [("../file", "d/l", "d/l"), ("..", "d/up", "d/up/file"), ("file", "l", "l")] {
        symlink(target, place.path(link)).expect("linked");
        symlink(way, place.path(".env")).expect("linked");
        assert_used(&place);
        lchown(place.path(link), Some(NOBODY), Some(NOBODY)).expect("given away");
        assert_refused(&place, "leads over a symbolic link of user 65534");
        fs::remove_file(place.path(".env")).expect("removed");
    }
    fs::rename(place.path("file"), place.path(".env")).expect("moved");

    // Root's file, for somebody else.
    chown(place.path(".env"), Some(0), Some(0)).expect("given away");
    set_mode(&place.path(".env"), 0o644);
    chown(place.path("secrets.json"), Some(NOBODY), Some(NOBODY)).expect("given away");
    let mut check = place.program(&["check"]);
    check.uid(NOBODY).gid(NOBODY).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    match Running::start(check) {
        Ok(running) => {
            let output = running.output();
            let stdout = String::from_utf8_lossy(&output.stdout);
            assert!(stdout.contains("/elsewhere (.env line 1: FLOW_PROXY_TARGET_URL)"), "{output:?}");
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            skip("root's .env for another user: who cannot reach the program that is tested");
        }
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn on_a_file_system_without_owners_there_is_a_warning() {
    for (options, warning) in [
        ("loop,umask=000", "can be written by everyone (mode 777)"),
        ("loop,umask=022,uid=65534,gid=65534", "belongs to user 65534, not to user 0, who runs this, or to root"),
    ] {
        let Some(Outcome { code, stdout, stderr }) = check_on_vfat(options) else {
            return skip(
                "a .env on a file system without owners: none can be made and mounted here (mkfs.vfat, as root)",
            );
        };
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stderr.contains(&format!("warning: .env {warning}; its file system keeps no ")), "{stderr}");
        assert!(stdout.contains("/elsewhere (.env line 1: FLOW_PROXY_TARGET_URL)"), "{stdout}");
    }
}

/// Runs `check` in a directory that is mounted with these options; `None` where that cannot be done.
fn check_on_vfat(options: &str) -> Option<Outcome> {
    let place = Place::new();
    let (disk, mount_point) = (place.path("disk"), place.path("windows"));
    fs::create_dir(&mount_point).expect("made");
    fs::write(&disk, vec![0; 1 << 20]).expect("written");
    let succeeds = |words: &[&OsStr]| {
        let mut command = command(words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Running::start(command).is_ok_and(|mut running| running.wait_for_end().success())
    };
    let (disk, mounted) = (disk.as_os_str(), mount_point.as_os_str());
    let options = ["-t", "vfat", "-o", options].map(OsStr::new);
    if !is_root()
        || !succeeds(&["mkfs.vfat".as_ref(), disk])
        || !succeeds(&[&["mount".as_ref()], &options[..], &[disk, mounted]].concat())
    {
        return None;
    }
    let outcome = std::panic::catch_unwind(|| {
        fs::write(mount_point.join(".env"), REDIRECTING).expect("written");
        let mut check = place.program(&["check", "--secrets-file"]);
        check.arg(place.path("secrets.json")).current_dir(&mount_point);
        Outcome::of(check)
    });
    assert!(succeeds(&["umount".as_ref(), mounted]));
    Some(outcome.expect("no panic"))
}
