//! The limit on client connections: one at rest gives way to a new one, whichever shard has it, and nobody else does.

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use super::tls_listener::Files;
use crate::support::{
    CERTIFICATES, Client, Ended, GET, Gate, Gateway, GatewayBuilder, LIVENESS, OK, POST, Peer, Upstream, check_at_once,
    json,
};

/// Both drivers, with one shard and with two.
const CASES: [(&str, usize); 4] = [("auto", 1), ("auto", 2), ("epoll", 1), ("epoll", 2)];

/// Line that says so.
const GAVE_WAY: &str = "an idle connection gave way to a new one";

/// A gateway with this many places, in which no idle connection ends by itself.
fn gateway(upstream: &Upstream, (driver, shards): (&str, usize), places: usize) -> GatewayBuilder {
    Gateway::builder()
        .shards(shards)
        .upstream(upstream)
        .arg("--io-driver", driver)
        .arg("--max-connections", places.to_string())
        .arg("--keepalive-timeout", "600")
}

fn asked(gateway: &Gateway) -> Client {
    let mut client = Client::connect(gateway.port());
    assert_eq!(client.ask(LIVENESS).status, 200);
    client
}

/// A client whose request was sent.
fn asking(gateway: &Gateway, request: &str) -> Client {
    let mut client = Client::connect(gateway.port());
    client.send(request);
    client
}

/// An upstream that answers each request once the gate lets it through.
fn held_by(gate: &Gate) -> Upstream {
    let gate = gate.clone();
    Upstream::plain(move |peer: &mut Peer| {
        while peer.read_request().is_some() {
            gate.pass();
            peer.write(OK);
        }
    })
}

#[test]
fn a_shard_that_lacks_places_is_not_taken_for_one_that_is_slow() {
    const PLACES: usize = 2;
    // So many, and for so long, that the length of the queue is judged.
    const CLIENTS: usize = 40;
    const STEP: Duration = Duration::from_millis(20);
    let upstream = Upstream::plain(json(200, "{}"));
    check_at_once([("auto", 1), ("epoll", 1)], |case| {
        let gateway = gateway(&upstream, case, PLACES).start();
        let clients = (0..CLIENTS).map(|_| {
            thread::sleep(STEP);
            asked(&gateway)
        });
        let _clients: Vec<Client> = clients.collect();
        gateway.wait_for_log(GAVE_WAY);
        assert_eq!(gateway.count_log("more clients connect than can be accepted"), 0);
    });
}

#[test]
fn new_clients_get_the_places_of_those_that_rest_the_longest() {
    const PLACES: usize = 8;
    const CLIENTS: usize = 4 * PLACES;
    let upstream = Upstream::plain(json(200, "{}"));
    check_at_once(CASES, |case| {
        let gateway = gateway(&upstream, case, PLACES).start();
        let mut clients: Vec<Client> = (0..CLIENTS - PLACES).map(|_| asked(&gateway)).collect();
        // A shard that was held up between an answer and the rest after it takes the connection for a later one.
        thread::sleep(Duration::from_millis(200));
        clients.extend((0..PLACES).map(|_| asked(&gateway)));
        for client in &mut clients[..CLIENTS - PLACES] {
            assert_eq!(client.expect_close(), Ended::Eof, "{case:?}");
        }
        for client in &mut clients[CLIENTS - PLACES..] {
            assert_eq!(client.ask(GET).status, 200, "{case:?}: more have given way than there were new ones");
        }
        gateway.wait_for_log_count(GAVE_WAY, CLIENTS - PLACES);
        // As every client of a kept-alive connection does.
        drop(asked(&gateway));
    });
}

#[test]
fn those_that_never_sent_a_request_give_way_before_those_that_rest_the_longest() {
    let upstream = Upstream::plain(json(200, "{}"));
    check_at_once(CASES, |case| {
        let gateway = gateway(&upstream, case, 4).start();
        let (mut first, mut second) = (asked(&gateway), asked(&gateway));
        let mut silent = [(); 2].map(|()| Client::connect(gateway.port()));
        // For a second they may yet send their first request, and are not at rest.
        thread::sleep(Duration::from_secs(3));
        let new = [(); 2].map(|()| asked(&gateway));
        for silent in &mut silent {
            assert_eq!(silent.expect_close(), Ended::Eof, "{case:?}");
        }
        assert_eq!(second.ask(LIVENESS).status, 200, "{case:?}");
        let third = asked(&gateway);
        assert_eq!(first.expect_close(), Ended::Eof, "{case:?}");
        assert_eq!(second.ask(GET).status, 200, "{case:?}: it has rested less long");
        drop((new, third));
    });
}

#[test]
fn a_connection_with_unread_bytes_is_not_at_rest() {
    const ROUNDS: usize = 5;
    let upstream = Upstream::plain(json(200, "{}"));
    check_at_once(CASES, |case| {
        for _ in 0..ROUNDS {
            let gateway = gateway(&upstream, case, 3).start();
            let mut resting = [(); 3].map(|()| asked(&gateway));
            // The shards wait: what comes meanwhile they find at once.
            gateway.freeze();
            let mut new = Client::connect(gateway.port());
            new.send(LIVENESS);
            resting[0].send(GET);
            resting[1].send(GET);
            gateway.signal(libc::SIGCONT);
            assert_eq!(new.read_response().status, 200, "{case:?}");
            assert_eq!(resting[0].read_response().status, 200, "{case:?}");
            assert_eq!(resting[1].read_response().status, 200, "{case:?}");
        }
    });
}

#[test]
fn where_none_rests_new_ones_wait_until_one_does_or_ends() {
    let upstream_gate = Gate::new();
    let upstream = held_by(&upstream_gate);
    for case in CASES {
        let gateway = gateway(&upstream, case, 2).start();
        let before = upstream.requests().len();
        let closing = POST.replacen("\r\n", "\r\nConnection: close\r\n", 1);
        let (mut keeping, mut closing) = (asking(&gateway, POST), asking(&gateway, &closing));
        upstream.wait_for_requests(before + 2);
        let mut waiting = [(); 2].map(|()| asking(&gateway, LIVENESS));
        for waiting in &mut waiting {
            assert!(waiting.is_quiet_for(Duration::from_millis(150)), "{case:?}");
        }
        assert_eq!(gateway.count_log(GAVE_WAY), 0, "{case:?}");
        (0..2).for_each(|_| upstream_gate.open());
        assert_eq!((keeping.read_response().text(), closing.read_response().text()), ("ok".into(), "ok".into()));
        for waiting in &mut waiting {
            assert_eq!(waiting.read_response().status, 200, "{case:?}");
        }
    }
}

#[test]
fn one_at_rest_gives_way_where_descriptors_are_lacking() {
    const CLIENTS: usize = 60;
    let upstream = Upstream::plain(json(200, "{}"));
    check_at_once(CASES, |case| {
        let gateway = gateway(&upstream, case, 1000).open_files_max(64).start();
        let _clients: Vec<Client> = (0..CLIENTS).map(|_| asked(&gateway)).collect();
        gateway.wait_for_log("cannot accept a connection");
        gateway.wait_for_log(GAVE_WAY);
    });
}

#[test]
fn so_do_clients_of_a_tls_listener_also_before_their_handshake() {
    let upstream = Upstream::plain(json(200, "{}"));
    let files = Files::new();
    check_at_once(CASES, |(driver, shards)| {
        let gateway = files
            .gateway()
            .shards(shards)
            .upstream(&upstream)
            .arg("--io-driver", driver)
            .arg("--max-connections", "2")
            .start();
        let connect = || Client::connect_tls(gateway.port(), Arc::clone(&CERTIFICATES.client));
        let mut silent = [(); 2].map(|()| Client::connect(gateway.port()));
        // As long as a client may take for the first byte without being at rest, and more.
        thread::sleep(Duration::from_secs(3));
        let (mut resting, mut second) = (connect(), connect());
        assert_eq!(resting.ask(LIVENESS).status, 200, "{driver}");
        // On a busy machine the other shard may be faster than this one is to note that it rests.
        thread::sleep(Duration::from_millis(300));
        assert_eq!(silent[0].expect_close(), Ended::Eof, "{driver}");
        assert_eq!(second.ask(LIVENESS).status, 200, "{driver}");
        assert_eq!(silent[1].expect_close(), Ended::Eof, "{driver}");
        // Their handshakes did not just take too long.
        gateway.wait_for_log_count(GAVE_WAY, 2);
        let mut third = connect();
        assert_eq!(third.ask(GET).status, 200, "{driver}");
        assert_eq!(resting.expect_close(), Ended::Eof, "{driver}: with a close_notify");
    });
}

#[test]
fn a_tls_client_that_begins_its_handshake_late_is_served_after_its_rest() {
    let upstream = Upstream::plain(json(200, "{}"));
    let files = Files::new();
    check_at_once(["auto", "epoll"], |driver| {
        let gateway = files.gateway().upstream(&upstream).arg("--io-driver", driver).start();
        let mut client = Client::connect_tls(gateway.port(), Arc::clone(&CERTIFICATES.client));
        thread::sleep(Duration::from_secs(3));
        assert_eq!(client.ask(GET).status, 200, "{driver}");
        // It is parked again, and comes out again.
        thread::sleep(Duration::from_millis(300));
        assert_eq!(client.ask(GET).status, 200, "{driver}");
    });
}

#[test]
fn a_drain_serves_those_that_wait_for_a_place() {
    const WAITING: usize = 20;
    let upstream_gate = Gate::new();
    let upstream = held_by(&upstream_gate);
    for case in CASES {
        let mut gateway = gateway(&upstream, case, 2).start();
        let before = upstream.requests().len();
        let mut busy = [(); 2].map(|()| asking(&gateway, POST));
        upstream.wait_for_requests(before + 2);
        let mut waiting: Vec<Client> = (0..WAITING).map(|_| asking(&gateway, LIVENESS)).collect();
        assert!(waiting[0].is_quiet_for(Duration::from_millis(150)), "{case:?}");
        gateway.terminate();
        for waiting in &mut waiting {
            assert_eq!(waiting.read_response().status, 200, "{case:?}");
        }
        (0..2).for_each(|_| upstream_gate.open());
        for busy in &mut busy {
            assert_eq!(busy.read_response().text(), "ok", "{case:?}");
        }
        assert!(gateway.wait().success(), "{case:?}");
    }
}

#[test]
fn a_drain_serves_those_that_wait_for_a_descriptor_of_one_at_rest() {
    const CLIENTS: usize = 60;
    let upstream = Upstream::plain(json(200, "{}"));
    check_at_once(CASES, |case| {
        let gateway = gateway(&upstream, case, 1000).open_files_max(64).start();
        let mut resting = Vec::new();
        while gateway.count_log("cannot accept a connection") == 0 {
            resting.push(asked(&gateway));
            assert!(resting.len() <= CLIENTS, "{case:?}: it lacks no descriptor");
        }
        // The shards wait: what comes meanwhile they find with the drain.
        gateway.freeze();
        let mut waiting = [(); 4].map(|()| Client::connect(gateway.port()));
        for waiting in &mut waiting {
            waiting.send(LIVENESS);
        }
        gateway.terminate();
        gateway.signal(libc::SIGCONT);
        for waiting in &mut waiting {
            assert_eq!(waiting.read_response().status, 200, "{case:?}");
        }
    });
}
