//! `flow-uring top` on a terminal of tmux, in front of a made-up gateway.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::Place;

use super::support::{Running, command, output_of, skip_but_not_on_ci, wait_until};

/// The admin pages of a made-up gateway. They end with their input.
struct Mock {
    _running: Running,
    port: u16,
}

impl Mock {
    fn start(token: &str) -> Self {
        let mut command = command("python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/terminal/mock.py")).env("MOCK_TOKEN", token);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut running = Running::start(command).expect("Python is here");
        let mut line = String::new();
        BufReader::new(running.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
        Mock { _running: running, port: line.trim_end().parse().expect("a port") }
    }
}

/// A terminal with a shell.
struct Terminal {
    place: Place,
    /// Ends with this process, and its shell with it.
    _server: Running,
}

impl Terminal {
    /// `None` where there is no tmux.
    fn open() -> Option<Self> {
        let place = Place::new(&[]);
        let mut server = place.environment(command("tmux"), &["-S", "socket", "-f", "/dev/null", "-D"]);
        server.stdin(Stdio::null());
        let Ok(server) = Running::start(server) else {
            skip_but_not_on_ci("flow-uring top on a terminal: there is no tmux");
            return None;
        };
        let terminal = Terminal { place, _server: server };
        wait_until("tmux listens", || terminal.place.path("socket").exists());
        terminal.tmux(&["new-session", "-d", "-x", "120", "-y", "40", "env PS1='$ ' sh"]);
        Some(terminal)
    }

    fn tmux(&self, words: &[&str]) -> String {
        let command: Command = self.place.environment(command("tmux"), &[&["-S", "socket"], words].concat());
        let output = output_of(command);
        assert!(output.status.success(), "{words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn press(&self, keys: &[&str]) {
        self.tmux(&[&["send-keys", "--"], keys].concat());
    }

    /// Shows the page of this gateway; afterwards the shell writes the exit code, and the modes of the terminal.
    fn show(&self, mock: &Mock) {
        let (program, port) = (env!("CARGO_BIN_EXE_flow-uring"), mock.port);
        let line = format!(
            "stty -a | tail -n +2 >before; {program} top 127.0.0.1:{port}; echo code $?; stty -a | tail -n +2 >after; touch ended"
        );
        self.press(&[&line, "Enter"]);
        self.wait_for("team-b", true);
    }

    /// Waits until the screen has this text, or has it no more.
    fn wait_for(&self, text: &str, is_there: bool) {
        wait_until(text, || self.tmux(&["capture-pane", "-p"]).contains(text) == is_there);
    }

    /// Waits for the shell after the page, whose terminal is as it was.
    fn expect_end(&self, code: i32) {
        wait_until("the page ends", || self.place.path("ended").exists());
        assert_eq!(self.place.text("before"), self.place.text("after"), "the terminal has other modes");
        self.wait_for(&format!("code {code}\n"), true);
        assert_eq!(self.tmux(&["display-message", "-p", "#{alternate_on} #{cursor_flag}"]), "0 1\n");
    }
}

#[test]
fn keys_choose_filter_wake_and_end() {
    let (Some(terminal), mock) = (Terminal::open(), Mock::start("")) else { return };
    terminal.show(&mock);
    terminal.wait_for("gpt-4o 1m15s (rate_limited)", true);
    terminal.press(&["Down", "w"]);
    terminal.wait_for("woken: team-b", true);
    terminal.wait_for("rate_limited", false);
    terminal.press(&["f"]);
    terminal.wait_for("/v1/messages/1\n", false);
    terminal.wait_for("/v1/messages/3\n", true);
    terminal.tmux(&["resize-window", "-x", "40", "-y", "10"]);
    terminal.wait_for("team-b", false);
    terminal.press(&["Tab"]);
    terminal.wait_for("team-b", true);
    terminal.tmux(&["resize-window", "-x", "120", "-y", "40"]);
    terminal.wait_for("/v1/messages/3\n", true);
    terminal.press(&["q"]);
    terminal.expect_end(0);
}

#[test]
fn a_signal_ends_it_with_the_terminal_as_it_was() {
    let (Some(terminal), mock) = (Terminal::open(), Mock::start("")) else { return };
    for (signal, number) in [(Signal::TERM, libc::SIGTERM), (Signal::HUP, libc::SIGHUP)] {
        terminal.show(&mock);
        let shell = terminal.tmux(&["display-message", "-p", "#{pane_pid}"]);
        let shell = shell.trim();
        let children = std::fs::read_to_string(format!("/proc/{shell}/task/{shell}/children")).expect("the shell runs");
        let page = children.trim().parse().ok().and_then(Pid::from_raw).expect("the page is its only child");
        kill_process(page, signal).expect("it runs");
        terminal.expect_end(128 + number);
        std::fs::remove_file(terminal.place.path("ended")).expect("removed");
        terminal.press(&["clear", "Enter"]);
        terminal.wait_for("team-b", false);
    }
}

#[test]
fn a_gateway_that_is_lost_is_told_and_found_again() {
    let (Some(terminal), mock) = (Terminal::open(), Mock::start("")) else { return };
    terminal.show(&mock);
    let port = mock.port;
    drop(mock);
    terminal.wait_for("asking again", true);
    // What was known stays.
    terminal.wait_for("team-b", true);
    let mut again = command("python3");
    again.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/terminal/mock.py")).arg(port.to_string());
    again.stdin(Stdio::piped()).stdout(Stdio::null());
    let _again = Running::start(again).expect("Python is here");
    terminal.wait_for("asking again", false);
    terminal.press(&["Escape"]);
    terminal.expect_end(0);
}

#[test]
fn without_a_terminal_it_prints_one_frame() {
    let place = Place::new(&[("token", "hunter2\n")]);
    let mock = Mock::start("hunter2");
    let url = format!("http://127.0.0.1:{}", mock.port);
    let output = output_of(place.command(&["top", &url, "--admin-token-file", "token"]));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.starts_with("flow-uring 0.1.0  serving for 1h01m"), "{output:?}");
    assert!(text.contains("team-b            limited") && !text.contains('\u{1b}'), "{text}");
    for (words, code, told) in [
        (&["top", &url][..], 1, "it asks for a token"),
        (&["top", "--once", "http://127.0.0.1:1"], 1, "no answer: Connection refused"),
        (&["top", "ftp://x"], 64, "expected the address"),
        (&["top", "--admin", "off"], 1, "have no admin pages"),
    ] {
        let output = output_of(place.command(words));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), stderr.contains(told)), (Some(code), true), "{words:?}: {stderr}");
    }
}
