//! The address of the admin listener: whose it is when it is wanted by two, and how it passes from a gateway that goes to
//! one that comes.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Client, DEADLINE, Gate, Gateway, GatewayBuilder, Peer, Upstream, json};
use crate::{GET, before, free_port, page};

/// Which process answers at the port, once one does.
fn process_at(port: u16) -> u64 {
    page(port, "/readyz").json()["process"].as_u64().expect("a number")
}

/// What `/readyz` answers there, unless nobody is there at this moment.
fn try_readiness(port: u16) -> io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// Waits until this gateway answers at the port, and says that it is ready.
fn wait_for_owner(port: u16, gateway: &Gateway) {
    let until = Instant::now() + DEADLINE;
    let process = format!("\"process\":{},\"status\":\"ready\"", gateway.pid());
    while !try_readiness(port).is_ok_and(|answer| answer.contains(&process)) {
        assert!(Instant::now() < until, "the address does not become this gateway's");
        thread::sleep(Duration::from_millis(5));
    }
}

/// One that shares the place where gateways meet.
fn in_place(place: &tempfile::TempDir, upstream: &Upstream, admin: &str) -> GatewayBuilder {
    let directory = place.path().to_str().expect("a readable path");
    Gateway::builder().upstream(upstream).env("XDG_RUNTIME_DIR", directory).arg("--admin", admin)
}

#[test]
fn an_address_in_use_is_an_error_that_names_the_flag() {
    let upstream = Upstream::plain(json(200, "{}"));
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let running = before(&upstream).start();
    for port in [other.local_addr().expect("bound").port(), running.admin_port()] {
        let address = format!("127.0.0.1:{port}");
        let (code, log) = Gateway::builder().upstream(&upstream).arg("--admin", &address).run_to_end();
        assert_eq!(code, Some(1), "{log}");
        let last = log.lines().last().expect("a line");
        assert!(last.starts_with(&format!("flow-uring: cannot listen on {address} for the admin pages: ")), "{log}");
        assert!(last.contains("in use") && last.contains("--admin"), "{log}");
    }
    assert_eq!(process_at(running.admin_port()), u64::from(running.pid()));
}

#[test]
fn one_that_is_off_listens_nowhere() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::builder().upstream(&upstream).arg("--admin", "off").start();
    assert!(gateway.log().iter().any(|line| line == "  admin        off"));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("it runs");
    let names = tasks.map(|task| std::fs::read_to_string(task.expect("an entry").path().join("comm")));
    assert!(!names.flatten().any(|name| name.trim_end() == "flow-admin"));
}

#[test]
fn the_address_goes_to_the_one_that_takes_over_however_often() {
    let (place, upstream) = (tempfile::tempdir().expect("a temporary directory"), Upstream::plain(json(200, "{}")));
    let port = free_port();
    let admin = format!("127.0.0.1:{port}");
    let mut running = in_place(&place, &upstream, &admin).start();
    let is_over = Arc::new(AtomicBool::new(false));
    let is_asked_enough = is_over.clone();
    // Between two it may be nobody's, for a moment.
    let asking = thread::spawn(move || {
        let (mut answered, mut longest_gap) = (Instant::now(), Duration::ZERO);
        while !is_asked_enough.load(Ordering::Relaxed) {
            if try_readiness(port).is_ok_and(|answer| answer.starts_with("HTTP/1.1 ")) {
                longest_gap = longest_gap.max(answered.elapsed());
                answered = Instant::now();
            }
            thread::sleep(Duration::from_millis(2));
        }
        longest_gap
    });
    for round in 0..8 {
        let successor = in_place(&place, &upstream, &admin).arg("--port", running.port().to_string());
        let successor = successor.switch("--take-over").start();
        // Every other one is taken over before it has had the time to take the address.
        if round % 2 == 0 {
            wait_for_owner(port, &successor);
        }
        assert_eq!(running.wait().code(), Some(0), "round {round}");
        running = successor;
    }
    wait_for_owner(port, &running);
    is_over.store(true, Ordering::Relaxed);
    let longest_gap = asking.join().expect("it ends");
    println!("longest time without an answer: {longest_gap:?}");
    assert!(longest_gap < Duration::from_secs(1), "{longest_gap:?}");
    assert_eq!(Client::connect(running.port()).ask(GET).status, 200);
    let line = running.log().into_iter().find(|line| line.starts_with("  admin ")).expect("in the banner");
    assert!(line.contains(&admin), "{line}");
}

#[test]
fn one_whose_address_is_somebody_elses_takes_nothing_over() {
    let (place, upstream) = (tempfile::tempdir().expect("a temporary directory"), Upstream::plain(json(200, "{}")));
    let running = in_place(&place, &upstream, "127.0.0.1:0").start();
    let another = before(&upstream).start();
    let admin = format!("127.0.0.1:{}", another.admin_port());
    let successor = in_place(&place, &upstream, &admin).arg("--port", running.port().to_string());
    let (code, log) = successor.switch("--take-over").run_to_end();
    assert_eq!(code, Some(1), "{log}");
    assert!(
        log.contains("taking over from") && log.lines().last().is_some_and(|line| line.contains("--admin")),
        "{log}"
    );
    running.wait_for_log("this gateway goes on");
    assert_eq!(Client::connect(running.port()).ask(GET).status, 200);
    assert_eq!(process_at(running.admin_port()), u64::from(running.pid()));
}

#[test]
fn one_that_starts_beside_one_that_drains_serves_at_once_and_has_the_address_later() {
    let gate = Gate::new();
    let held = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            if request.path().ends_with("/messages") {
                held.pass();
            }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    });
    let (place, port) = (tempfile::tempdir().expect("a temporary directory"), free_port());
    let admin = format!("127.0.0.1:{port}");
    let mut draining = in_place(&place, &upstream, &admin).start();
    let mut client = Client::connect(draining.port());
    client.send("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
    upstream.wait_for_requests(1);
    draining.terminate();
    draining.wait_for_log("stopping:");
    let next = in_place(&place, &upstream, &admin).start();
    assert_eq!(Client::connect(next.port()).ask(GET).status, 200);
    assert_eq!(process_at(port), u64::from(draining.pid()), "until it has ended what it has open");
    let banner = format!("  admin        http://{admin} (as soon as process {} has left it)", draining.pid());
    next.wait_for_log(&banner);
    gate.open();
    assert_eq!(client.read_response().status, 200);
    assert_eq!(draining.wait().code(), Some(0));
    next.wait_for_log("the admin pages are here from now on");
    wait_for_owner(port, &next);
}
