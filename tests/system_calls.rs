//! The number of system calls that an exchange and an event cost a shard that has nothing else to do: counted, so that
//! the figure does not depend on how fast the machine is.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use support::{
    Client, DEADLINE, EVENT, EVENT_STREAM, Gate, Gateway, Peer, Running, Upstream, command, json, skip,
    skip_but_not_on_ci,
};

const EXCHANGES: usize = 200;
const EVENTS: usize = 100;

/// A busy machine adds calls: a connection whose client was kept waiting rests, and is looked at. Of so many rounds one
/// must be within the limits; one more call for each exchange would be one more in every round.
const ROUNDS_MAX: usize = 20;

const POST: &str =
    "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 17\r\n\r\n{\"model\":\"small\"}";

/// Four waits for the kernel: with the request, its way upstream, the answer, its way downstream; and what a sweep of
/// the deadlines adds now and then.
const EACH_EXCHANGE_MAX: f64 = 4.5;

/// Of a stream that a task relays, two waits for the kernel: with the event, and its way downstream.
const EACH_EVENT_OF_A_TASK_MAX: f64 = 2.5;

/// Of one in the pump: a wait, the look at what is ready, `recv` and `send`. Two calls more than a task's, and all the
/// same a tenth less CPU time, since what is in between is compact (docs/performance.md); of events that come together
/// the wait and the look are shared.
const EACH_EVENT_OF_THE_PUMP_MAX: f64 = 4.5;

/// Counts the system calls of one thread of another process.
struct Counter {
    strace: Running,
    report: tempfile::NamedTempFile,
}

impl Counter {
    /// Returns `None` where there is no `strace`, or it may not trace another process. On CI it must be possible.
    fn attach(thread: u32) -> Option<Self> {
        let report = tempfile::NamedTempFile::new().expect("a temporary file");
        let mut command = command("strace");
        command.args(["-q", "-c", "-U", "calls", "-p", &thread.to_string(), "-o"]).arg(report.path());
        command.stdin(Stdio::null()).stderr(Stdio::null());
        if let Ok(mut strace) = Running::start(command)
            && is_traced(thread, &mut strace)
        {
            return Some(Counter { strace, report });
        }
        skip_but_not_on_ci("system calls: strace is missing (apt install strace), or may not attach to a process");
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

/// Returns whether the tracer has attached, and not given up.
fn is_traced(thread: u32, strace: &mut Running) -> bool {
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until && strace.try_wait().expect("a child").is_none() {
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

/// Counts the calls of the shard during `work`, for each of its `count` steps, until a round is `within` the limits.
fn assert_calls_each(gateway: &Gateway, within: Range<f64>, count: usize, mut work: impl FnMut()) {
    for _ in 0..ROUNDS_MAX {
        let Some(counter) = Counter::attach(shard_of(gateway)) else { return };
        work();
        let each = counter.calls() as f64 / count as f64;
        println!("{each:.2} system calls each");
        if within.contains(&each) {
            return;
        }
    }
    panic!("none of {ROUNDS_MAX} rounds took {within:?} system calls for each");
}

fn runs_on_io_uring(gateway: &Gateway) -> bool {
    let is_so = gateway.wait_for_log("I/O driver").contains("io_uring (");
    if !is_so {
        skip("system calls: this is about io_uring, and the gateway runs on epoll");
    }
    is_so
}

#[test]
fn an_exchange_on_kept_alive_connections_takes_four() {
    let upstream = Upstream::tls(json(200, "{}"));
    let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().arg("--log-level", "WARNING").start();
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
    assert_calls_each(&gateway, 2.0..EACH_EXCHANGE_MAX, EXCHANGES, || exchange(EXCHANGES));
}

#[test]
fn an_event_takes_four_in_the_pump() {
    assert_calls_an_event("auto", 3.0..EACH_EVENT_OF_THE_PUMP_MAX);
}

#[test]
fn an_event_takes_two_in_a_task() {
    assert_calls_an_event("never", 1.0..EACH_EVENT_OF_A_TASK_MAX);
}

fn assert_calls_an_event(pump: &str, within: Range<f64>) {
    // An event is sent when the one before it has come, however long that takes: two at once would cost less.
    let has_come = Gate::new();
    let passing = has_come.clone();
    let upstream = Upstream::tls(move |peer: &mut Peer| {
        if peer.read_request().is_some() {
            peer.write(EVENT_STREAM);
            while peer.write(EVENT) {
                passing.pass();
                // The shard is asleep by then.
                peer.sleep(Duration::from_millis(5));
            }
        }
    });
    let builder = Gateway::builder().shards(1).upstream(&upstream).patient();
    let gateway = builder.arg("--log-level", "WARNING").arg("--pump", pump).start();
    let mut client = Client::connect_unrecorded(gateway.port());
    if !runs_on_io_uring(&gateway) {
        return;
    }
    client.send(POST);
    let mut events = |count| {
        for _ in 0..count {
            client.read_until(EVENT);
            has_come.open();
        }
    };
    events(20);
    assert_calls_each(&gateway, within, EVENTS, || events(EVENTS));
}
