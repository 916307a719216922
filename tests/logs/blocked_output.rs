//! Outputs that take no more: stdout and stderr on one pipe that nobody reads, as with a pager, or stderr in a file
//! that has reached its limit. Lines wait or are lost; requests, signals and the end of the program do not wait.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, PipeReader, Read, Write, pipe};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

use crate::support::{Client, GET, HeldPort, Running, Upstream, command, json, secrets_json, wait_until};

/// More lines than the queue, its thread and the pipe hold.
const REQUESTS: usize = 20_000;

/// A gateway that writes where the test says. Dropped, it is killed.
struct Writing {
    running: Running,
    _place: TempDir,
}

impl Writing {
    fn start(upstream: &Upstream, arguments: &[&str], stdout: impl Into<Stdio>, stderr: impl Into<Stdio>) -> Self {
        let place = tempfile::tempdir().expect("a temporary directory");
        fs::write(place.path().join("secrets.json"), secrets_json(&["alpha"])).expect("written");
        let mut command = command(env!("CARGO_BIN_EXE_flow-uring"));
        command.args(["--admin", "off", "--shards", "1", "--upstream", &upstream.url()]).args(arguments);
        command
            .current_dir(place.path())
            .env_clear()
            .env("FLOW_PROXY_USAGE_DB", "off")
            .env("XDG_RUNTIME_DIR", place.path());
        command.stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        Writing { running: Running::start(command).expect("started"), _place: place }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.running), signal).expect("a child");
    }
}

/// Reads the banner to its last line, and returns the port in it.
fn port_in(output: impl Read) -> u16 {
    let mut lines = BufReader::with_capacity(1, output).lines();
    let mut line = || lines.next().expect("a banner").expect("readable");
    loop {
        if let Some(url) = line().strip_prefix("  export ANTHROPIC_BASE_URL=") {
            return url.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        }
    }
}

/// Starts a gateway on one pipe that is read no more once it serves, and returns its port too.
fn unread(upstream: &Upstream) -> (Writing, PipeReader, HeldPort) {
    let (reader, writer) = pipe().expect("a pipe");
    let held = HeldPort::reserve();
    let port = held.address().port();
    let arguments = ["--port", &port.to_string(), "--log-level", "DEBUG"];
    let gateway = Writing::start(upstream, &arguments, writer.try_clone().expect("a copy"), writer);
    assert_eq!(port_in(&reader), port);
    (gateway, reader, held)
}

/// Fills a pipe to its last byte.
fn fill(pipe: &PipeReader) {
    // Opened anew, since the other writers are to block.
    let path = format!("/proc/self/fd/{}", pipe.as_raw_fd());
    let mut writer = File::options().write(true).custom_flags(libc::O_NONBLOCK).open(path).expect("a pipe");
    while writer.write(&[b'\n'; 4096]).is_ok() {}
    while writer.write(b"\n").is_ok() {}
}

fn overflow(port: u16) {
    const AT_A_TIME: usize = 50;
    let mut client = Client::connect_unrecorded(port);
    for _ in 0..REQUESTS / AT_A_TIME {
        client.send(GET.repeat(AT_A_TIME));
        (0..AT_A_TIME).for_each(|_| assert_eq!(client.read_response().status, 200));
    }
}

#[test]
fn a_full_pipe_on_both_outputs_holds_up_neither_requests_nor_the_end() {
    let upstream = Upstream::plain(json(200, "{}"));
    let (mut gateway, unread, held) = unread(&upstream);
    overflow(held.address().port());
    fill(&unread);
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.running.wait_for_end().code(), Some(0));
}

#[test]
fn a_second_signal_ends_it_while_a_stream_is_open_and_stderr_is_blocked() {
    let upstream = Upstream::plain(|peer| {
        while let Some(request) = peer.read_request() {
            if request.path().ends_with("/stream") {
                return peer.wait_for_close();
            }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    let (mut gateway, unread, held) = unread(&upstream);
    overflow(held.address().port());
    fill(&unread);
    let mut waiting = Client::connect(held.address().port());
    waiting.send(GET.replace("models", "stream"));
    upstream.wait_for_requests(REQUESTS + 1);
    gateway.signal(Signal::TERM);
    wait_until("it drains", || TcpStream::connect(held.address()).is_err());
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.running.wait_for_end().code(), Some(1));
}

#[test]
fn a_gateway_that_starts_on_a_full_pipe_serves_and_heeds_signals_and_says_what_it_had_to_say_later() {
    let upstream = Upstream::plain(json(200, "{}"));
    let log = tempfile::tempdir().expect("a temporary directory");
    let file = log.path().join("a.log");
    for is_read_later in [false, true] {
        let (mut reader, writer) = pipe().expect("a pipe");
        fill(&reader);
        let held = HeldPort::reserve();
        let port = held.address().port();
        let arguments = ["--port", &port.to_string(), "--log-file", file.to_str().expect("text")];
        let mut gateway = Writing::start(&upstream, &arguments, writer.try_clone().expect("a copy"), writer);
        wait_until("it serves", || TcpStream::connect(held.address()).is_ok());
        assert_eq!(Client::connect(port).ask(GET).status, 200);
        gateway.signal(Signal::HUP);
        wait_until("it has reloaded", || text(&file).contains("the secrets file "));
        if is_read_later {
            assert_eq!(port_in(&reader), port);
        }
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.running.wait_for_end().code(), Some(0));
        let mut rest = String::new();
        reader.read_to_string(&mut rest).expect("text");
        assert!(text(&file).contains("stopped"), "{}", text(&file));
        fs::remove_file(&file).expect("removed");
    }
}

#[test]
fn a_stderr_that_is_a_file_at_its_limit_costs_lines_and_not_the_process() {
    const LIMIT_BYTES: u64 = 20_000;
    let upstream = Upstream::plain(json(200, "{}"));
    let place = tempfile::tempdir().expect("a temporary directory");
    let path = place.path().join("stderr");
    let file = File::options().append(true).create_new(true).open(&path).expect("made");
    let mut gateway = Writing::start(&upstream, &["--port", "0"], Stdio::null(), file);
    wait_until("it serves", || text(&path).contains("ANTHROPIC_BASE_URL"));
    let port = port_in(File::open(&path).expect("there"));
    let limit = Rlimit { current: Some(LIMIT_BYTES), maximum: None };
    prlimit(Some(Pid::from_child(&gateway.running)), Resource::Fsize, limit).expect("a child may be given less");
    let mut client = Client::connect_unrecorded(port);
    let mut answers = || (0..10).for_each(|_| assert_eq!(client.ask(GET).status, 200));
    wait_until("the limit", || {
        answers();
        fs::metadata(&path).is_ok_and(|file| file.len() == LIMIT_BYTES)
    });
    (0..20).for_each(|_| answers());
    gateway.signal(Signal::TERM);
    assert_eq!(gateway.running.wait_for_end().code(), Some(0));
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}
