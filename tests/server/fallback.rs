//! The two I/O drivers, and the fallback where the kernel refuses io_uring (as Docker's default seccomp profile does).

use std::io;
use std::time::Duration;

use crate::support::{Client, EVENT_STREAM, Ended, Gate, Gateway, GatewayBuilder, POST, Peer, Upstream, echo, json};

/// The same number on every architecture.
const IO_URING_SETUP: u32 = 425;

/// Returns a builder whose gateway gets EPERM from `io_uring_setup`.
fn without_io_uring(builder: GatewayBuilder) -> GatewayBuilder {
    // SAFETY: it makes system calls only.
    unsafe { builder.before_exec(refuse_io_uring) }
}

/// Refuses `io_uring_setup` to this process for good: for a child that becomes the gateway.
fn refuse_io_uring() -> io::Result<()> {
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
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
            || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &program) != 0
        {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

fn event(number: usize) -> String {
    format!("data: {number}\n\n")
}

/// An upstream that streams ten events, the second half of them once it may.
fn streaming(may_end: &Gate) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let may_end = may_end.clone();
    move |peer| {
        while peer.read_request().is_some() {
            peer.write(EVENT_STREAM);
            for number in 0..10 {
                if number == 5 {
                    may_end.pass();
                }
                let event = event(number);
                peer.write(format!("{:x}\r\n{event}\r\n", event.len()));
                peer.sleep(Duration::from_millis(20));
            }
            peer.write("0\r\n\r\n");
        }
    }
}

/// Runs all that a driver does once: a stream, an upload, a client that leaves, a drain.
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
        go(client);
        // Nothing else would close it for ten minutes.
        upstream.wait_for_close(round);
    }
}

fn assert_streams_and_drains(start: impl Fn(&Upstream) -> Gateway) {
    let may_end = Gate::new();
    let upstream = Upstream::tls(streaming(&may_end));
    let mut gateway = start(&upstream);
    let expected: String = (0..10).map(event).collect();
    let mut idle = Client::connect(gateway.port());
    may_end.open();
    assert_eq!(idle.ask(POST).text(), expected);
    let mut streams: Vec<Client> = (0..5).map(|_| Client::connect(gateway.port())).collect();
    for client in &mut streams {
        client.send(POST);
        client.read_until("\r\n\r\n");
    }
    gateway.terminate();
    // It does not wait for the streams, which wait for it.
    assert_eq!(idle.expect_close(), Ended::Eof);
    streams.iter().for_each(|_| may_end.open());
    for mut client in streams {
        let chunks: String = (0..10).map(|number| format!("9\r\n{}\r\n", event(number))).collect();
        let (rest, ended) = client.read_to_end();
        assert_eq!((String::from_utf8_lossy(&rest).into_owned(), ended), (chunks + "0\r\n\r\n", Ended::Eof));
    }
    assert_eq!(gateway.wait().code(), Some(0));
}

/// Returns a builder whose connections to the upstream are kept however slow the test is.
fn keeping_connections(upstream: &Upstream) -> GatewayBuilder {
    Gateway::builder().upstream(upstream).arg("--upstream-idle-timeout", "600")
}

fn driver_of(gateway: &Gateway) -> String {
    gateway.wait_for_log("  I/O driver ").replace("  I/O driver ", "").trim().to_owned()
}

#[test]
fn epoll_serves_as_well() {
    assert_serves(|upstream| {
        let gateway = keeping_connections(upstream).arg("--io-driver", "epoll").start();
        assert_eq!(driver_of(&gateway), "epoll");
        gateway
    });
}

#[test]
fn where_io_uring_is_refused_epoll_takes_its_place_and_the_banner_says_so() {
    assert_serves(|upstream| {
        let gateway = without_io_uring(keeping_connections(upstream)).start();
        let driver = driver_of(&gateway);
        assert!(driver.starts_with("epoll (io_uring was refused: ") && driver.contains("not permitted"), "{driver}");
        gateway
    });
}

#[test]
fn where_io_uring_is_refused_and_asked_for_the_start_fails_and_says_why() {
    let upstream = Upstream::plain(json(200, "{}"));
    let builder = Gateway::builder().upstream(&upstream).arg("--io-driver", "uring");
    let (code, stderr) = without_io_uring(builder).run_to_end();
    assert_eq!(code, Some(1), "{stderr}");
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
