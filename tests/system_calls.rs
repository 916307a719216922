//! How many system calls an exchange and an event cost a shard that has nothing else to do: counted, so that the figure
//! does not depend on how fast the machine is.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Client, DEADLINE, Gateway, Peer, Upstream, json};

const EXCHANGES: usize = 500;
const EVENTS: usize = 200;

const POST: &str =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n{\"model\":\"small\"}";
const EVENT: &str = "9\r\ndata: 1\n\n\r\n";

/// Four waits for the kernel: with the request, its way upstream, the answer, its way downstream; and what a sweep of the
/// deadlines, or a look at a connection that rested while the machine was busy, adds now and then.
const EACH_EXCHANGE_MAX: f64 = 4.5;

/// Two waits for the kernel: with the event, and its way downstream.
const EACH_EVENT_MAX: f64 = 2.5;

/// Counts the system calls of one thread of another process.
struct Counter {
    strace: Child,
    report: tempfile::NamedTempFile,
}

impl Counter {
    /// `None` where there is no `strace`, or it may not look at another process. On CI both must be.
    fn attach(thread: u32) -> Option<Self> {
        let report = tempfile::NamedTempFile::new().expect("a temporary file");
        let strace = Command::new("strace")
            .args(["-q", "-c", "-U", "calls", "-p", &thread.to_string(), "-o"])
            .arg(report.path())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        if let Ok(mut strace) = strace {
            if is_traced(thread) {
                return Some(Counter { strace, report });
            }
            let _ = strace.kill();
            let _ = strace.wait();
        }
        assert!(std::env::var_os("CI").is_none(), "system calls are to be counted here: install strace");
        println!("skipped: strace is not installed, or may not attach to a process");
        None
    }

    fn calls(mut self) -> usize {
        let pid = libc::pid_t::try_from(self.strace.id()).expect("a process id");
        // SAFETY: `kill` takes no pointer, and the child has not been waited for, so its id is its own.
        assert_eq!(unsafe { libc::kill(pid, libc::SIGINT) }, 0);
        self.strace.wait().expect("a child");
        let report = fs::read_to_string(self.report.path()).expect("readable");
        let total = report.lines().find_map(|line| line.trim().strip_suffix(" total")?.parse().ok());
        total.unwrap_or_else(|| panic!("no total in what strace wrote: {report}"))
    }
}

/// Whether a tracer has attached in time.
fn is_traced(thread: u32) -> bool {
    let until = Instant::now() + DEADLINE / 5;
    while Instant::now() < until {
        let status = fs::read_to_string(format!("/proc/{thread}/status")).expect("the gateway runs");
        if status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0")) {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

fn shard_of(gateway: &Gateway) -> u32 {
    let threads = fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("the gateway runs");
    let is_shard = |path: &Path| fs::read_to_string(path.join("comm")).is_ok_and(|name| name == "flow-shard-0\n");
    let paths = threads.filter_map(|entry| Some(entry.ok()?.path()));
    let shard = paths.filter(|path| is_shard(path)).find_map(|path| path.file_name()?.to_str()?.parse().ok());
    shard.expect("a shard")
}

/// The calls of the shard during `work`, for each of `count`.
fn count_each(gateway: &Gateway, count: usize, work: impl FnOnce()) -> Option<f64> {
    let counter = Counter::attach(shard_of(gateway))?;
    work();
    let each = counter.calls() as f64 / count as f64;
    println!("{each:.2} system calls each");
    Some(each)
}

fn runs_on_io_uring(gateway: &Gateway) -> bool {
    let is_so = gateway.wait_for_log("I/O driver").contains("io_uring (");
    if !is_so {
        println!("skipped: this is about io_uring, and the gateway runs on epoll");
    }
    is_so
}

#[test]
fn an_exchange_on_kept_alive_connections_takes_four() {
    let upstream = Upstream::tls(json(200, "{}"));
    let gateway = Gateway::builder().shards(1).upstream(&upstream).arg("--log-level", "WARNING").start();
    let mut client = Client::connect_unrecorded(gateway.port());
    let mut exchange = |count| {
        for _ in 0..count {
            assert_eq!(client.ask(POST).status, 200);
        }
    };
    if !runs_on_io_uring(&gateway) {
        return;
    }
    exchange(50);
    if let Some(each) = count_each(&gateway, EXCHANGES, || exchange(EXCHANGES)) {
        assert!((2.0..EACH_EXCHANGE_MAX).contains(&each), "{each:.2} for each exchange");
    }
}

#[test]
fn an_event_of_a_stream_takes_two() {
    let upstream = Upstream::tls(|peer: &mut Peer| {
        if peer.read_request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
            while peer.write(EVENT) {
                peer.sleep(Duration::from_millis(5));
            }
        }
    });
    let gateway = Gateway::builder().shards(1).upstream(&upstream).arg("--log-level", "WARNING").start();
    let mut client = Client::connect_unrecorded(gateway.port());
    if !runs_on_io_uring(&gateway) {
        return;
    }
    client.send(POST);
    let mut events = |count| {
        for _ in 0..count {
            client.read_until(EVENT);
        }
    };
    events(20);
    if let Some(each) = count_each(&gateway, EVENTS, || events(EVENTS)) {
        assert!((0.5..EACH_EVENT_MAX).contains(&each), "{each:.2} for each event");
    }
}
