//! The seccomp profile for containers, deploy/seccomp.json: the gateway does all of its work under it, on io_uring; and
//! on epoll where a profile refuses io_uring, as Docker's own does. The kernel applies the very file to the real
//! program.

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::fs;
use std::io;
use std::thread;
use std::time::Instant;

use seccompiler::{BpfProgram, TargetArch};
use serde_json::{Value, json};
use support::{Client, DEADLINE, GET, Gate, Gateway, GatewayBuilder, POST, Peer, Upstream, secrets_json};

const IO_URING: [&str; 3] = ["io_uring_enter", "io_uring_register", "io_uring_setup"];
const ALLOW: &str = "SCMP_ACT_ALLOW";

/// A profile in Docker's form.
struct Profile(Value);

impl Profile {
    fn shipped() -> Self {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/seccomp.json");
        Profile(serde_json::from_str(&fs::read_to_string(path).expect("readable")).expect("JSON"))
    }

    /// Returns it without io_uring, as the profiles of container engines are: its calls fail with `errno`.
    fn without_io_uring(errno: i32) -> Self {
        let Profile(mut profile) = Self::shipped();
        for group in profile["syscalls"].as_array_mut().expect("groups") {
            let names = group["names"].as_array_mut().expect("names");
            names.retain(|name| !IO_URING.contains(&name.as_str().expect("a name")));
        }
        let refused = json!({"names": IO_URING, "action": "SCMP_ACT_ERRNO", "errnoRet": errno});
        profile["syscalls"].as_array_mut().expect("groups").push(refused);
        Profile(profile)
    }

    fn groups(&self) -> &[Value] {
        self.0["syscalls"].as_array().expect("groups")
    }

    fn names(&self, action: &str) -> Vec<&str> {
        let groups = self.groups().iter().filter(|group| group["action"] == action);
        groups.flat_map(|group| group["names"].as_array().expect("names")).filter_map(Value::as_str).collect()
    }

    /// The filters that make up the profile, in the order in which they are to be applied. The kernel asks all of them,
    /// and a refusal goes before a permission.
    fn filters(&self) -> Vec<BpfProgram> {
        let refuse_all = errno(&self.0["defaultErrnoRet"]);
        let refused = self.groups().iter().filter(|group| group["action"] == "SCMP_ACT_ERRNO");
        let mut filters: Vec<BpfProgram> =
            refused.map(|group| compile(&json!("allow"), &errno(&group["errnoRet"]), &rules(group))).collect();
        // What has an answer of its own gets it from its own filter.
        let all: Vec<Value> = self
            .groups()
            .iter()
            .flat_map(|group| match group["action"].as_str() {
                Some(ALLOW | "SCMP_ACT_ERRNO") => rules(group),
                action => panic!("no filter is made of {action:?} here"),
            })
            .collect();
        filters.push(compile(&refuse_all, &json!("allow"), &all));
        filters
    }
}

fn errno(number: &Value) -> Value {
    json!({"errno": number.as_u64().expect("a number")})
}

/// Returns the rules of a group in seccompiler's form.
fn rules(group: &Value) -> Vec<Value> {
    let conditions: Vec<Value> = group["args"].as_array().into_iter().flatten().map(condition).collect();
    let rule = |name: &Value| match conditions.as_slice() {
        [] => json!({"syscall": name}),
        conditions => json!({"syscall": name, "args": conditions}),
    };
    group["names"].as_array().expect("names").iter().map(rule).collect()
}

fn condition(argument: &Value) -> Value {
    assert_eq!(argument["op"], "SCMP_CMP_MASKED_EQ", "no condition is made of it here");
    json!({
        "index": argument["index"], "type": "qword",
        "op": {"masked_eq": argument["value"]}, "val": argument["valueTwo"],
    })
}

fn compile(mismatch: &Value, matched: &Value, rules: &[Value]) -> BpfProgram {
    let filter = json!({"all": {"mismatch_action": mismatch, "match_action": matched, "filter": rules}}).to_string();
    let architecture = TargetArch::try_from(std::env::consts::ARCH).expect("an architecture with a filter");
    let compiled = seccompiler::compile_from_json(filter.as_bytes(), architecture);
    compiled.expect("a filter").remove("all").expect("compiled")
}

/// Applies filters to this thread and all that it starts, for good.
fn apply(filters: &[BpfProgram]) -> io::Result<()> {
    let applied = filters.iter().try_for_each(|filter| seccompiler::apply_filter(filter));
    applied.map_err(|_| io::Error::last_os_error())
}

/// Returns a builder whose gateway chooses its driver, whatever the whole run is to use, with admin pages and a log
/// file.
fn automatic(upstream: &Upstream) -> GatewayBuilder {
    let builder = Gateway::builder().upstream(upstream).patient().arg("--io-driver", "auto");
    builder.arg("--admin", "127.0.0.1:0").arg("--log-dir", "logs")
}

fn confined(builder: GatewayBuilder, profile: &Profile) -> GatewayBuilder {
    let filters = profile.filters();
    // SAFETY: `apply` makes two system calls for each filter, and neither allocates nor locks.
    unsafe { builder.before_exec(move || apply(&filters)) }
}

fn driver_of(gateway: &Gateway) -> String {
    gateway.wait_for_log("  I/O driver ").replace("  I/O driver ", "").trim().to_owned()
}

fn is_filtered(gateway: &Gateway) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).expect("the gateway runs");
    status.lines().any(|line| line == "Seccomp:\t2")
}

/// Runs through the life of a gateway: requests over either kind of upstream connection, new secrets, a successor, a
/// drain.
fn assert_lives(profile: &Profile, expect_driver: impl Fn(&str) -> bool) {
    for upstream in [Upstream::plain(support::json(200, "{}")), Upstream::tls(support::json(200, "{}"))] {
        let runtime = tempfile::tempdir().expect("a temporary directory");
        let runtime = runtime.path().to_str().expect("a readable path");
        let usage = format!("{runtime}/state/usage.sqlite");
        let builder = || automatic(&upstream).env("XDG_RUNTIME_DIR", runtime).arg("--usage-db", &*usage);
        let mut first = confined(builder(), profile).start();
        assert!(is_filtered(&first));
        assert!(expect_driver(&driver_of(&first)), "{}", driver_of(&first));
        assert_are_pinned(&first);
        assert_eq!(Client::connect(first.port()).ask(POST).status, 200);
        let ask = |page: &str| {
            let request = format!("GET {page} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            Client::connect(first.admin_port()).ask(request)
        };
        // A shard that a busy machine keeps waiting for longer than a second counts as one that hangs.
        let until = Instant::now() + DEADLINE;
        while ask("/healthz").status != 200 {
            assert!(Instant::now() < until, "{:?}", ask("/healthz"));
        }
        let metrics = ask("/metrics").text();
        let info = metrics.lines().find(|line| line.starts_with("flow_uring_io_driver_info{")).expect("a driver");
        let driver = info.split("driver=\"").nth(1).and_then(|rest| rest.split('"').next()).expect("its label");
        assert!(driver_of(&first).starts_with(driver), "{info}");

        first.rewrite_secrets(&secrets_json(&["beta"]));
        first.signal(libc::SIGHUP);
        first.wait_for_log("the secrets file was loaded anew");
        assert_eq!(Client::connect(first.port()).ask(GET).status, 200);

        let second = builder().arg("--port", first.port().to_string()).switch("--take-over");
        let second = confined(second, profile).start();
        second.wait_for_log("took over from the gateway that ran here");
        assert_eq!(first.wait().code(), Some(0));
        assert_no_fault_of_usage(&first);
        assert_no_fault_of_usage(&second);
        assert_drains(second);
        // Made, and given its form in a transaction.
        assert!(fs::metadata(&usage).expect("the file of totals").len() > 0);
    }
    assert_drains_a_stream(profile);
}

fn assert_no_fault_of_usage(gateway: &Gateway) {
    let faults: Vec<String> = gateway.log().into_iter().filter(|line| line.contains("usage")).collect();
    assert!(faults.is_empty(), "{faults:?}");
}

fn assert_are_pinned(gateway: &Gateway) {
    let tasks = fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("the gateway runs");
    // A thread that ends meanwhile is none of them.
    let statuses = tasks.flatten().filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
    let shards: Vec<String> = statuses.filter(|status| status.starts_with("Name:\tflow-shard-")).collect();
    assert!(!shards.is_empty());
    for shard in shards {
        let allowed = shard.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:\t")).expect("a line");
        assert!(allowed.parse::<u32>().is_ok(), "a shard may run on {allowed}");
    }
}

fn assert_drains(mut gateway: Gateway) {
    assert_eq!(Client::connect(gateway.port()).ask(POST).status, 200);
    gateway.terminate();
    assert_eq!(gateway.wait().code(), Some(0));
}

fn assert_drains_a_stream(profile: &Profile) {
    let gate = Gate::default();
    let gate_of_upstream = gate.clone();
    let upstream = Upstream::tls(move |peer: &mut Peer| {
        if peer.read_request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 20\r\n\r\ndata: 1\n\n");
            gate_of_upstream.pass();
            peer.write("data: 22\n\n\n");
        }
    });
    let mut gateway = confined(automatic(&upstream), profile).start();
    let mut client = Client::connect(gateway.port());
    client.send(POST);
    client.read_until("data: 1\n\n");
    gateway.terminate();
    gateway.wait_for_log("open_exchanges=1");
    gate.open();
    assert_eq!(String::from_utf8_lossy(&client.read_to_end().0), "data: 22\n\n\n");
    assert_eq!(gateway.wait().code(), Some(0));
}

#[test]
fn under_the_profile_the_gateway_lives_on_io_uring() {
    assert_lives(&Profile::shipped(), |driver| driver.starts_with("io_uring ("));
}

#[test]
fn where_a_profile_refuses_io_uring_the_gateway_lives_on_epoll_and_says_why() {
    for (errno, said) in [(libc::EPERM, "not permitted"), (libc::ENOSYS, "not implemented")] {
        assert_lives(&Profile::without_io_uring(errno), |driver| {
            driver.starts_with("epoll (io_uring was refused: ")
                && driver.contains(said)
                && driver.contains("deploy/seccomp.json")
        });
    }
}

#[test]
fn where_a_profile_refuses_io_uring_and_it_is_asked_for_the_error_names_the_profile() {
    let upstream = Upstream::plain(support::json(200, "{}"));
    for (errno, said) in [(libc::EPERM, "not permitted"), (libc::ENOSYS, "not implemented")] {
        let builder = Gateway::builder().upstream(&upstream).arg("--io-driver", "uring");
        let (code, log) = confined(builder, &Profile::without_io_uring(errno)).run_to_end();
        assert_eq!(code, Some(1), "{log}");
        let last = log.lines().last().expect("a line");
        for part in ["flow-uring: cannot set up the I/O driver: ", said, "deploy/seccomp.json", "--io-driver epoll"] {
            assert!(last.contains(part), "{part:?} is not in: {last}");
        }
    }
}

/// On Linux before 5.12 and since 6.14 a ring counts as locked memory, and the limit is that of all processes of a
/// user.
#[test]
fn where_the_limit_on_locked_memory_refuses_a_ring_epoll_takes_its_place_and_the_banner_says_so() {
    /// The ring of one shard is this large (4 KiB pages), that of two is not.
    const ONE_RING_BYTES: libc::rlim_t = 104 * 1024;
    let upstream = Upstream::plain(support::json(200, "{}"));
    for bytes in [0, ONE_RING_BYTES] {
        let locked = libc::rlimit { rlim_cur: bytes, rlim_max: bytes };
        let action = move || {
            // SAFETY: `setrlimit` reads `locked` alone, `prctl` nothing. Who may not give the capability up has not got
            // it, and the limit holds for it as it is.
            match unsafe {
                libc::prctl(libc::PR_CAPBSET_DROP, CAP_IPC_LOCK, 0, 0, 0);
                libc::setrlimit(libc::RLIMIT_MEMLOCK, &locked)
            } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: `action` makes two system calls, and neither allocates nor locks.
        let gateway = unsafe { automatic(&upstream).before_exec(action) }.start();
        let driver = driver_of(&gateway);
        assert!(driver.contains("(ulimit -l)") || !charges_rings() && driver.starts_with("io_uring ("), "{driver}");
        for _ in 0..10 {
            assert_eq!(Client::connect(gateway.port()).ask(POST).status, 200);
        }
    }
}

/// The capability to lock any amount of memory (linux/capability.h).
const CAP_IPC_LOCK: libc::c_int = 14;

fn charges_rings() -> bool {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("readable");
    let mut parts = release.split(|byte: char| !byte.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    !((5, 12)..(6, 14)).contains(&version)
}

#[test]
fn the_profile_refuses_what_it_does_not_name() {
    let filters = Profile::shipped().filters();
    let refusals = thread::spawn(move || {
        apply(&filters).expect("applied");
        // SAFETY: none of these calls takes a pointer that it follows before it looks at its other arguments, and each
        // is refused.
        let calls: [fn() -> libc::c_long; 4] = unsafe {
            [
                || libc::syscall(libc::SYS_clone3, 0, 0),
                || libc::syscall(libc::SYS_clone, libc::CLONE_NEWUSER, 0, 0, 0, 0),
                || libc::syscall(libc::SYS_unshare, 0),
                || libc::syscall(libc::SYS_ptrace, 0, 0, 0, 0),
            ]
        };
        calls.map(|call| (call(), io::Error::last_os_error().raw_os_error().expect("a number")))
    });
    let refusals = refusals.join().expect("no panic");
    assert_eq!(refusals, [(-1, libc::ENOSYS), (-1, libc::EPERM), (-1, libc::EPERM), (-1, libc::EPERM)]);
}

#[test]
fn the_profile_names_each_call_once_and_none_that_reaches_beyond_the_process() {
    let profile = Profile::shipped();
    let mut names = profile.names(ALLOW);
    names.extend(profile.names("SCMP_ACT_ERRNO"));
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name stands there twice");
    for name in
        ["bpf", "kexec_load", "keyctl", "mount", "perf_event_open", "process_vm_readv", "ptrace", "setns", "unshare"]
    {
        assert!(!names.contains(&name), "{name}");
    }
}
