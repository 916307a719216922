use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream as Peer};
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::io::deadline::{on_a_shard, pause};

fn pair() -> (Peer, Peer) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = Peer::connect(listener.local_addr().unwrap()).unwrap();
    (peer, listener.accept().unwrap().0)
}

type Out = Rc<RefCell<Vec<(Peer, LetOut)>>>;

/// A lot with an attendant, and the connections that have come out.
fn attended() -> (Rc<Parking<Peer>>, Out) {
    let (parking, epoll) = Parking::open().unwrap();
    let parking = Rc::new(parking);
    let out = Out::default();
    let (attendant, leaving) = (parking.clone(), out.clone());
    monoio::spawn(async move { attendant.attend(epoll, |socket, why| leaving.borrow_mut().push((socket, why))).await });
    (parking, out)
}

/// Time that nothing takes here, even on a busy machine.
const ENOUGH: Duration = Duration::from_secs(30);
/// Time that no test lasts.
const LONG: Duration = Duration::from_secs(3600);

async fn until(what: &str, holds: impl Fn() -> bool) {
    let started = Instant::now();
    while !holds() {
        assert!(started.elapsed() < ENOUGH, "{what}");
        pause(Duration::from_millis(5)).await;
    }
}

/// Parks the gateway's ends of new connections, and returns the clients' ends.
fn park_many(parking: &Parking<Peer>, count: usize, due: Instant) -> Vec<Peer> {
    let pairs = (0..count).map(|_| pair());
    let park = |(peer, socket)| {
        assert!(parking.park(socket, GivesWay::Late, due).is_ok());
        peer
    };
    pairs.map(park).collect()
}

#[test]
fn whoever_is_sent_something_or_is_left_comes_out_once_and_again_after_another_stay() {
    on_a_shard(async {
        let (parking, out) = attended();
        let later = Instant::now() + LONG;
        let ((mut sender, parked), (leaver, left), (_silent, silent)) = (pair(), pair(), pair());
        for socket in [parked, left, silent] {
            assert!(parking.park(socket, GivesWay::Late, later).is_ok());
        }
        sender.write_all(b"x").unwrap();
        until("the one that was sent something comes out", || out.borrow().len() == 1).await;
        drop(leaver);
        until("the one that was left comes out", || out.borrow().len() == 2).await;
        let reasons: Vec<LetOut> = out.borrow().iter().map(|(_, why)| *why).collect();
        assert_eq!(reasons, [LetOut::Arrival, LetOut::HungUp]);
        sender.write_all(b"y").unwrap();
        pause(Duration::from_millis(30)).await;
        assert_eq!(out.borrow().len(), 2, "what is not parked is not watched");
        let (again, _) = out.borrow_mut().remove(0);
        assert!(parking.park(again, GivesWay::Late, later).is_ok());
        until("it has bytes still", || out.borrow().len() == 2).await;
        assert_eq!(parking.places.borrow().iter().len(), 1);
    });
}

#[test]
fn each_comes_out_when_it_is_due_whatever_the_order_in_which_they_were_parked() {
    on_a_shard(async {
        let (parking, out) = attended();
        let now = Instant::now();
        let times = [LONG, Duration::from_millis(300), Duration::from_millis(50), Duration::from_millis(100)];
        let kinds = [GivesWay::Late, GivesWay::Late, GivesWay::Early, GivesWay::Late];
        let mut peers = Vec::new();
        let mut ports = Vec::new();
        for (time, kind) in times.into_iter().zip(kinds) {
            let (peer, socket) = pair();
            ports.push(peer.local_addr().unwrap());
            peers.push(peer);
            assert!(parking.park(socket, kind, now + time).is_ok());
            // The attendant waits for the one that was parked last.
            pause(Duration::from_millis(1)).await;
        }
        until("three are due", || out.borrow().len() == 3).await;
        let came_out: Vec<_> = out.borrow().iter().map(|(socket, _)| socket.peer_addr().unwrap()).collect();
        assert_eq!(came_out, [ports[2], ports[3], ports[1]]);
        assert!(out.borrow().iter().all(|(_, why)| *why == LetOut::Overdue));
        assert!(now.elapsed() >= times[1], "too early");
    });
}

#[test]
fn the_first_kind_gives_way_first_and_of_each_kind_those_that_are_due_first() {
    on_a_shard(async {
        let (parking, out) = attended();
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(parking.first(), None);
        let mut peers = Vec::new();
        let mut expected = Vec::new();
        for (place, kind, due) in [
            (3, GivesWay::Late, after(20)),
            (2, GivesWay::Late, after(10)),
            (1, GivesWay::Early, after(40)),
            (4, GivesWay::Late, after(30)),
            (0, GivesWay::Early, after(35)),
        ] {
            let (peer, socket) = pair();
            expected.push((place, peer.local_addr().unwrap()));
            peers.push(peer);
            assert!(parking.park(socket, kind, due).is_ok());
        }
        expected.sort();
        let (kind, due) = parking.first().unwrap();
        assert!(kind == GivesWay::Early && due <= after(35) && due > after(34));
        for (place, address) in expected {
            assert_eq!(parking.take_first().unwrap().peer_addr().unwrap(), address, "{place}");
        }
        assert!(parking.take_first().is_none() && parking.first().is_none());
        peers[0].write_all(b"x").unwrap();
        pause(Duration::from_millis(30)).await;
        assert!(out.borrow().is_empty(), "what was taken out is not given out any more");
    });
}

#[test]
fn however_many_are_due_at_once_a_turn_lets_out_a_bounded_number() {
    const COUNT: usize = 5 * LET_OUT_MAX + 5;
    on_a_shard(async {
        let (parking, out) = attended();
        let _peers = park_many(&parking, COUNT, Instant::now() + Duration::from_millis(100));
        assert_bounded(&out, COUNT).await;
    });
}

#[test]
fn however_many_are_left_at_once_a_turn_lets_out_a_bounded_number() {
    const COUNT: usize = 5 * LET_OUT_MAX + 5;
    on_a_shard(async {
        let (parking, out) = attended();
        drop(park_many(&parking, COUNT, Instant::now() + LONG));
        assert_bounded(&out, COUNT).await;
    });
}

#[test]
fn one_that_was_sent_something_does_not_wait_for_those_that_were_left_before() {
    const COUNT: usize = 10 * LET_OUT_MAX;
    on_a_shard(async {
        let (parking, out) = attended();
        let later = Instant::now() + LONG;
        let peers = park_many(&parking, COUNT, later);
        let mut sender = park_many(&parking, 1, later).remove(0);
        drop(peers);
        sender.write_all(b"x").unwrap();
        let has_arrived = || out.borrow().iter().position(|(_, why)| *why == LetOut::Arrival);
        let started = Instant::now();
        while has_arrived().is_none() {
            assert!(started.elapsed() < ENOUGH);
            next_turn().await;
        }
        let before = has_arrived().unwrap();
        assert!(before <= 2 * LET_OUT_MAX, "{before} came out before");
        until("the others come out too", || out.borrow().len() == COUNT + 1).await;
    });
}

/// Waits until `count` have come out, and watches how many do in each turn.
async fn assert_bounded(out: &Out, count: usize) {
    let started = Instant::now();
    let mut before = 0;
    while before < count {
        assert!(started.elapsed() < ENOUGH, "{before} of {count}");
        next_turn().await;
        let now = out.borrow().len();
        // This task may run before the attendant in one turn, and after it in the next.
        assert!(now - before <= 2 * LET_OUT_MAX, "{} in two turns", now - before);
        before = now;
    }
}

#[test]
fn a_socket_that_cannot_be_watched_comes_back() {
    on_a_shard(async {
        let (parking, _) = Parking::open().unwrap();
        // A file is always readable.
        let refused = parking.park(std::fs::File::open("/proc/self/exe").unwrap(), GivesWay::Late, Instant::now());
        assert!(refused.is_err_and(|(_, error)| error.raw_os_error() == Some(libc::EPERM)));
        assert!(parking.places.borrow().iter().len() == 0 && parking.first().is_none());
    });
}

#[test]
fn one_that_has_closed_after_its_last_bytes_still_has_them() {
    on_a_shard(async {
        let (parking, out) = attended();
        let (mut peer, socket) = pair();
        peer.write_all(b"last").unwrap();
        drop(peer);
        assert!(parking.park(socket, GivesWay::Late, Instant::now() + LONG).is_ok());
        until("it comes out", || out.borrow().len() == 1).await;
        let (mut socket, why) = out.borrow_mut().remove(0);
        let mut last = String::new();
        socket.read_to_string(&mut last).unwrap();
        assert_eq!((last.as_str(), why), ("last", LetOut::HungUp));
    });
}
