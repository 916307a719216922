//! A stop signal before, during and after a take-over.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{
    Client, DEADLINE, EVENT, EVENT_STREAM, GET, Gate, Peer, Upstream, json, repeat_until_undisturbed, shown,
};
use crate::{HELLO, Place, STEP_LIMIT, answers, is_there};

#[test]
fn a_stop_signal_while_another_gateway_starts_leaves_the_sockets_to_it() {
    repeat_until_undisturbed(|| {
        let gate = Gate::new();
        let passing = gate.clone();
        let place = Place::before(Upstream::plain(move |peer: &mut Peer| {
            peer.read_request();
            passing.pass();
            peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        }));
        let mut running = place.builder().start();
        let mut busy = Client::connect(running.port());
        busy.send(GET);
        place.upstream.wait_for_requests(1);
        let mut slow_to_start = UnixStream::connect(place.socket(&running)).expect("it listens");
        let began = Instant::now();
        slow_to_start.write_all(HELLO).expect("taken");
        running.wait_for_log("has the listening sockets too");
        running.terminate();
        running.wait_for_log("stopping:");
        let said = slow_to_start.write_all(b"R");
        let is_undisturbed = began.elapsed() < STEP_LIMIT;
        if is_undisturbed {
            said.expect("taken");
            let mut received = Vec::new();
            slow_to_start.read_to_end(&mut received).expect("its end");
            assert_eq!(received.last(), Some(&b'F'), "{received:?}");
        }
        gate.open();
        assert_eq!(busy.read_response().text(), "ok");
        assert_eq!(running.wait().code(), Some(0));
        assert!(!is_there(&place.socket(&running)));
        is_undisturbed
    });
}

#[test]
fn a_stop_signal_at_any_moment_of_a_take_over_leaves_one_that_serves() {
    let place = Place::before(Upstream::plain(json(200, "{}")));
    let mut running = place.builder().start();
    for round in 0..20 {
        let successor = thread::scope(|scope| {
            let starting = scope.spawn(|| place.start_successor_of(&running));
            // A start takes some tens of milliseconds.
            thread::sleep(Duration::from_millis(2 * round));
            running.terminate();
            starting.join().expect("it serves")
        });
        assert!(answers(&successor));
        assert_eq!(running.wait().code(), Some(0), "round {round}");
        running = successor;
    }
}

#[test]
fn a_stop_signal_to_one_that_was_taken_over_does_not_cut_its_streams() {
    let gate = Gate::new();
    let passing = gate.clone();
    let place = Place::before(Upstream::plain(move |peer: &mut Peer| {
        peer.read_request();
        peer.write(EVENT_STREAM);
        peer.write(EVENT);
        passing.pass();
        peer.write("9\r\ndata: 2\n\n\r\n0\r\n\r\n");
    }));
    let mut running = place.builder().start();
    let mut stream = Client::connect(running.port()).with_deadline(2 * DEADLINE);
    stream.send("POST /v1/messages HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}");
    stream.read_until("data: 1\n\n\r\n");
    let _successor = place.start_successor_of(&running);
    running.wait_for_log("stopping:");
    running.terminate();
    running.wait_for_log("still waiting for open exchanges");
    gate.open();
    let (rest, _) = stream.read_to_end();
    assert_eq!(shown(&rest), shown(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n"));
    assert_eq!(running.wait().code(), Some(0));
}
