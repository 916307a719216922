//! The address of the admin listener: which of two gateways gets it, and how it passes from one that stops to its
//! successor.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, DEADLINE, GET, Gateway, GatewayBuilder, HeldPort, Peer, Upstream, json, repeat_until_undisturbed,
};
use crate::{before, page};

/// The time that a gateway which wants an address gives the one that has it to answer. It cannot be set.
const HOLDER_PATIENCE: Duration = Duration::from_secs(1);

const HELD_REQUEST: &str = "POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";

/// Answers every request, `HELD_REQUEST` only once it is let through: meanwhile a test takes several steps.
fn holding(is_let_through: &Arc<AtomicBool>) -> Upstream {
    let is_let_through = is_let_through.clone();
    Upstream::plain(move |peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let until = Instant::now() + 10 * DEADLINE;
            while request.path().ends_with("/messages") && !is_let_through.load(Ordering::Relaxed) {
                assert!(Instant::now() < until, "nobody lets it through");
                peer.sleep(Duration::from_millis(5));
            }
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        }
    })
}

/// Returns the id of the process that answers at the port.
fn process_at(port: u16) -> u64 {
    page(port, "/readyz").json()["process"].as_u64().expect("a number")
}

/// Starts a gateway that needs the answer of another in time, again if the machine was too busy for that.
fn start_in_time(build: impl Fn() -> GatewayBuilder) -> Gateway {
    let mut started = None;
    repeat_until_undisturbed(|| {
        let began = Instant::now();
        match build().try_start() {
            Ok(gateway) => started = Some(gateway),
            Err(failure) => assert!(began.elapsed() >= HOLDER_PATIENCE, "{failure}"),
        }
        started.is_some()
    });
    started.expect("one started")
}

/// Returns the answer to `/readyz` at the port; an error while nobody listens there.
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

/// Returns a builder whose gateway shares the directory where gateways meet.
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
    gateway.wait_for_log("  admin        off");
    let tasks = std::fs::read_dir(format!("/proc/{}/task", gateway.pid())).expect("it runs");
    let names = tasks.map(|task| std::fs::read_to_string(task.expect("an entry").path().join("comm")));
    assert!(!names.flatten().any(|name| name.trim_end() == "flow-admin"));
}

#[test]
fn the_address_goes_to_the_one_that_takes_over_however_often() {
    let (place, held) = (tempfile::tempdir().expect("a temporary directory"), HeldPort::reserve());
    let is_let_through = Arc::new(AtomicBool::new(false));
    let (upstream, port) = (holding(&is_let_through), held.address().port());
    let admin = format!("127.0.0.1:{port}");
    let mut running = in_place(&place, &upstream, &admin).start();
    let mut processes = vec![running.pid()];
    let is_over = Arc::new(AtomicBool::new(false));
    let is_asked_enough = is_over.clone();
    // Between the two nobody may listen there for a moment.
    let asking = thread::spawn(move || {
        let mut owners: Vec<u32> = Vec::new();
        while !is_asked_enough.load(Ordering::Relaxed) {
            let answer = try_readiness(port).unwrap_or_default();
            if let Some((_, rest)) = answer.split_once("\"process\":") {
                let process = rest.split(',').next().expect("a part").parse().expect("a number");
                owners.push(process);
                owners.dedup();
            }
            thread::sleep(Duration::from_millis(2));
        }
        owners
    });
    for round in 0..8 {
        let client = (round == 0).then(|| {
            let mut client = Client::connect(running.port());
            client.send(HELD_REQUEST);
            upstream.wait_for_requests(1);
            client
        });
        let successor = start_in_time(|| {
            let successor = in_place(&place, &upstream, &admin).arg("--port", running.port().to_string());
            successor.switch("--take-over")
        });
        // Every other one is taken over before it has had the time to take the address.
        if round % 2 == 0 {
            wait_for_owner(port, &successor);
        }
        if let Some(mut client) = client {
            // The other one has had to give it up for that, and not to end: it still waits for the upstream.
            is_let_through.store(true, Ordering::Relaxed);
            assert_eq!(client.read_response().status, 200);
        }
        assert_eq!(running.wait().code(), Some(0), "round {round}");
        processes.push(successor.pid());
        running = successor;
    }
    wait_for_owner(port, &running);
    is_over.store(true, Ordering::Relaxed);
    let owners = asking.join().expect("it ends");
    let places: Option<Vec<usize>> =
        owners.iter().map(|owner| processes.iter().position(|process| process == owner)).collect();
    assert!(
        places.is_some_and(|places| places.is_sorted()),
        "it came back to one that goes: {owners:?}, {processes:?}"
    );
    assert_eq!(Client::connect(running.port()).ask(GET).status, 200);
    let line = running.wait_for_log("  admin  ");
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
    let (place, held) = (tempfile::tempdir().expect("a temporary directory"), HeldPort::reserve());
    let is_let_through = Arc::new(AtomicBool::new(false));
    let (upstream, port) = (holding(&is_let_through), held.address().port());
    let admin = format!("127.0.0.1:{port}");
    let mut draining = in_place(&place, &upstream, &admin).start();
    let mut client = Client::connect(draining.port());
    client.send(HELD_REQUEST);
    upstream.wait_for_requests(1);
    draining.terminate();
    draining.wait_for_log("stopping:");
    let next = start_in_time(|| in_place(&place, &upstream, &admin));
    assert_eq!(Client::connect(next.port()).ask(GET).status, 200);
    assert_eq!(process_at(port), u64::from(draining.pid()), "until it has ended what it has open");
    let banner = format!("  admin        http://{admin} (as soon as process {} has left it)", draining.pid());
    next.wait_for_log(&banner);
    is_let_through.store(true, Ordering::Relaxed);
    assert_eq!(client.read_response().status, 200);
    assert_eq!(draining.wait().code(), Some(0));
    next.wait_for_log("the admin pages are here from now on");
    wait_for_owner(port, &next);
}
