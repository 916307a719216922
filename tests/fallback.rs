//! The two I/O drivers, and what happens where the kernel refuses io_uring (as Docker's default seccomp profile does).

#![expect(clippy::disallowed_methods, reason = "a test waits on a thread of its own; no shard runs here")]

mod support;

use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use support::{Client, DEADLINE, Ended, Gateway, Peer, Upstream, echo, json, secrets_json};

const POST: &str = "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";

/// The contract's 100 ms, and what a busy machine may add.
const GONE_WITHIN: Duration = Duration::from_millis(150);

/// The same number on every architecture.
const IO_URING_SETUP: u32 = 425;

/// Runs `start` where `io_uring_setup` says EPERM, for this thread and all that it starts.
fn without_io_uring<T: Send>(start: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let confined = scope.spawn(|| {
            refuse_io_uring();
            start()
        });
        confined.join().expect("no panic")
    })
}

/// Cannot be taken back: for a thread that ends soon.
fn refuse_io_uring() {
    let instruction = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    // The first word of what a filter sees is the system call's number.
    let mut filter = [
        instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, IO_URING_SETUP),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32),
        instruction(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: `program` and the filter it points to outlive the calls, which copy them.
    unsafe {
        assert_eq!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
        let result = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program);
        assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    }
}

fn event(number: usize) -> String {
    format!("data: {number}\n\n")
}

/// An upstream that streams ten events in half a second.
fn streaming(peer: &mut Peer) {
    while peer.read_request().is_some() {
        peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
        for number in 0..10 {
            let event = event(number);
            peer.write(format!("{:x}\r\n{event}\r\n", event.len()));
            peer.sleep(Duration::from_millis(50));
        }
        peer.write("0\r\n\r\n");
    }
}

/// Everything that a driver does, once: a stream, an upload, a client that leaves, a drain.
fn assert_serves(start: impl Fn(&Upstream) -> Gateway) {
    assert_uploads(&start);
    assert_notices_who_leaves(&start);
    assert_streams_and_drains(&start);
}

fn assert_uploads(start: impl Fn(&Upstream) -> Gateway) {
    const BODY_BYTES: usize = 5_000_000;
    for upstream in [Upstream::plain(echo()), Upstream::tls(echo())] {
        let gateway = start(&upstream);
        let mut client = Client::connect_unrecorded(gateway.port());
        for fill in [b'a', b'b'] {
            let body = vec![fill; BODY_BYTES];
            client.send(format!(
                "POST /v1/responses HTTP/1.1\r\nHost: localhost\r\nContent-Length: {BODY_BYTES}\r\n\r\n"
            ));
            client.send(&body);
            let response = client.read_response();
            assert!(response.is_whole && response.body == body, "{} bytes came back", response.body.len());
        }
        assert_eq!(upstream.connections(), 1);
    }
}

fn assert_notices_who_leaves(start: impl Fn(&Upstream) -> Gateway) {
    let upstream = Upstream::tls(|peer: &mut Peer| {
        if peer.read_request().is_some() {
            peer.wait_for_close();
        }
    });
    let gateway = start(&upstream);
    for (round, go) in [Client::reset, Client::close].into_iter().enumerate() {
        let mut client = Client::connect(gateway.port());
        client.send(POST);
        upstream.wait_for_requests(round + 1);
        let gone = go(client);
        let took = upstream.wait_for_close(round).saturating_duration_since(gone);
        assert!(took <= GONE_WITHIN, "{took:?}");
    }
}

fn assert_streams_and_drains(start: impl Fn(&Upstream) -> Gateway) {
    let upstream = Upstream::tls(streaming);
    let mut gateway = start(&upstream);
    let expected: String = (0..10).map(event).collect();
    let mut idle = Client::connect(gateway.port());
    assert_eq!(idle.ask(POST).text(), expected);
    let mut streams: Vec<Client> = (0..5).map(|_| Client::connect(gateway.port())).collect();
    for client in &mut streams {
        client.send(POST);
        client.read_until("\r\n\r\n");
    }
    let signalled = Instant::now();
    gateway.terminate();
    assert_eq!(idle.expect_close(), Ended::Eof);
    assert!(signalled.elapsed() < Duration::from_millis(400), "the idle connection waited for the streams");
    for mut client in streams {
        let chunks: String = (0..10).map(|number| format!("9\r\n{}\r\n", event(number))).collect();
        let (rest, ended) = client.read_to_end();
        assert_eq!((String::from_utf8_lossy(&rest).into_owned(), ended), (chunks + "0\r\n\r\n", Ended::Eof));
    }
    assert_eq!(gateway.wait().code(), Some(0));
}

fn driver_of(gateway: &Gateway) -> String {
    gateway.wait_for_log("  I/O driver ").replace("  I/O driver ", "").trim().to_owned()
}

#[test]
fn epoll_serves_as_well() {
    assert_serves(|upstream| {
        let gateway = Gateway::builder().upstream(upstream).arg("--io-driver", "epoll").start();
        assert_eq!(driver_of(&gateway), "epoll");
        gateway
    });
}

#[test]
fn where_io_uring_is_refused_epoll_takes_its_place_and_the_banner_says_so() {
    assert_serves(|upstream| {
        let gateway = without_io_uring(|| Gateway::before(upstream));
        let driver = driver_of(&gateway);
        assert!(driver.starts_with("epoll (io_uring was refused: ") && driver.contains("not permitted"), "{driver}");
        gateway
    });
}

/// What a program that is expected to end leaves; killed if it does not.
fn outcome(mut child: Child) -> Output {
    let until = Instant::now() + DEADLINE;
    while Instant::now() < until && child.try_wait().expect("a child").is_none() {
        thread::sleep(Duration::from_millis(5));
    }
    // One that has ended takes no notice.
    let _ = child.kill();
    child.wait_with_output().expect("a child")
}

#[test]
fn where_io_uring_is_refused_and_asked_for_the_start_fails_and_says_why() {
    let upstream = Upstream::plain(json(200, "{}"));
    let place = tempfile::tempdir().expect("a temporary directory");
    let secrets = place.path().join("secrets.json");
    std::fs::write(&secrets, secrets_json(&["a"])).expect("written");
    let child = without_io_uring(|| {
        Command::new(env!("CARGO_BIN_EXE_flow-uring"))
            .args([
                "--port",
                "0",
                "--admin",
                "off",
                "--io-driver",
                "uring",
                "--upstream",
                &upstream.url(),
                "--secrets-file",
            ])
            .arg(&secrets)
            .current_dir(place.path())
            .env("XDG_RUNTIME_DIR", place.path())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("started")
    });
    let output = outcome(child);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    let last = stderr.lines().last().expect("a line");
    assert!(last.starts_with("flow-uring: cannot set up the I/O driver: "), "{stderr}");
    assert!(last.contains("not permitted") && last.contains("--io-driver epoll"), "{stderr}");
    assert!(!stderr.contains("is ready"), "{stderr}");
}

#[test]
fn where_io_uring_is_there_it_is_used() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().upstream(&upstream).arg("--io-driver", "uring").start();
    assert!(driver_of(&gateway).starts_with("io_uring ("));
    assert_eq!(Client::connect(gateway.port()).ask(POST).status, 200);
}
