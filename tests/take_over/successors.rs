//! Successors that fail, and those that find no gateway.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::support::{Client, DEADLINE, GET, Gateway, Upstream, json};
use crate::{HELLO, Place, STEP_LIMIT, answers, is_there};

#[test]
fn nonsense_silence_and_unfinished_take_overs_change_nothing() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut running = place.builder().start();
    let knock = || UnixStream::connect(place.socket(&running)).expect("it listens");
    let mut count = 0;
    for words in
        [&b""[..], b"GET / HTTP/1.1\r\n\r\n", b"flow-to\x02", b"flow-to", b"flow-to\x01", b"flow-to\x01X", b"R"]
    {
        let mut stranger = knock();
        stranger.write_all(words).expect("taken");
        stranger.shutdown(std::net::Shutdown::Write).expect("shut down");
        let _ = stranger.read_to_end(&mut Vec::new());
        count += 1;
        running.wait_for_log_count("this gateway goes on", count);
    }
    assert!(answers(&running));
    // One that takes the sockets and hangs: the next one has to wait until it is given up.
    let mut hanging = knock();
    hanging.write_all(HELLO).expect("taken");
    running.wait_for_log_count("has the listening sockets too", 3);
    assert!(answers(&running));
    drop(hanging);
    running.wait_for_log_count("this gateway goes on", count + 1);
    let successor = place.start_successor_of(&running);
    assert_eq!(running.wait().code(), Some(0));
    assert!(answers(&successor));
}

#[test]
fn one_that_is_gone_when_it_is_bidden_farewell_has_taken_nothing_over() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut running = place.builder().start();
    let mut dying = UnixStream::connect(place.socket(&running)).expect("it listens");
    dying.write_all(HELLO).expect("taken");
    running.wait_for_log("has the listening sockets too");
    // The word that it sent is read after it has ended.
    running.freeze();
    dying.write_all(b"R").expect("taken");
    // Not by a close: a program that another test is just starting has a copy of the descriptor until it runs.
    dying.shutdown(Shutdown::Both).expect("connected");
    running.signal(libc::SIGCONT);
    running.wait_for_log("this gateway goes on");
    assert!(answers(&running));
    let successor = place.start_successor_of(&running);
    assert_eq!(running.wait().code(), Some(0));
    assert!(answers(&successor));
}

#[test]
fn one_that_never_says_that_it_serves_is_given_up_in_time() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let running = place.builder().start();
    let mut hanging = UnixStream::connect(place.socket(&running)).expect("it listens");
    let began = Instant::now();
    hanging.write_all(HELLO).expect("taken");
    hanging.set_read_timeout(Some(STEP_LIMIT + DEADLINE)).expect("not zero");
    hanging.read_to_end(&mut Vec::new()).expect("its end");
    assert!(began.elapsed() >= Duration::from_millis(4500), "{:?}", began.elapsed());
    assert!(running.wait_for_log("this gateway goes on").contains("said nothing for too long"));
    assert!(answers(&running));
}

#[test]
fn where_nobody_is_it_starts_as_usual_and_what_a_killed_one_left_is_replaced() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut first = place.builder().start();
    let socket = place.socket(&first);
    assert_eq!(socket.symlink_metadata().expect("there").mode() & 0o777, 0o600);
    first.signal(libc::SIGKILL);
    first.wait();
    assert!(is_there(&socket), "a killed one cannot tidy up");
    let mut second = place.start_successor_of(&first);
    second.wait_for_log("there is no gateway to take over from; starting as usual");
    assert!(answers(&second));
    let mut third = place.start_successor_of(&second);
    third.wait_for_log("took over");
    assert_eq!(second.wait().code(), Some(0));
    assert!(is_there(&socket), "it is the successor's");
    third.terminate();
    assert_eq!(third.wait().code(), Some(0));
    assert!(!is_there(&socket), "nobody listens there any more");
    assert_eq!(std::fs::read_dir(place.runtime.path()).expect("readable").count(), 0);
    let fourth = place.start_successor_of(&third);
    fourth.wait_for_log("there is no gateway to take over from; starting as usual");
    assert!(answers(&fourth));
}

#[test]
fn a_port_of_somebody_else_is_the_usual_error_and_no_port_is_one_of_usage() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let other = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = other.local_addr().expect("bound").port().to_string();
    let (code, log) = place.builder().arg("--port", port).switch("--take-over").run_to_end();
    assert_eq!(code, Some(1));
    assert!(log.contains("there is no gateway to take over from") && log.contains("the port is in use"), "{log}");
    let (code, log) = place.builder().arg("--port", "0").switch("--take-over").run_to_end();
    assert_eq!(code, Some(64));
    assert!(log.contains("--take-over: name the --port"), "{log}");
}

#[test]
fn without_a_usable_runtime_directory_it_serves_and_says_what_it_cannot_do() {
    let upstream = Upstream::plain(json(200, "{}"));
    for directory in [format!("/tmp/{}", "long".repeat(30)), "/tmp/flow-uring-of-nobody/none".into()] {
        let mut gateway = Gateway::builder().upstream(&upstream).env("XDG_RUNTIME_DIR", &directory).start();
        let line = gateway.wait_for_log("no later gateway will be able to take over from this one");
        assert!(line.contains(&directory), "{line}");
        assert_eq!(Client::connect(gateway.port()).ask(GET).status, 200);
        gateway.terminate();
        assert_eq!(gateway.wait().code(), Some(0));
    }
}
