//! How many connections there may be: those of clients, and the idle ones to the upstream.

use std::time::Duration;

use crate::support::{Client, GET, Gate, LIVENESS, OK, Peer, Upstream, answer, check_at_once, wait_until};
use crate::{DRIVERS, builder};

/// For so long nothing happens.
const MOMENT: Duration = Duration::from_millis(200);

/// A client that is not at rest, without an upstream connection.
fn begun(port: u16) -> Client {
    let mut client = Client::connect(port);
    client.send(&LIVENESS[..20]);
    client
}

#[test]
fn forty_percent_of_the_descriptors_are_for_clients_and_the_next_one_waits() {
    const DESCRIPTORS: u64 = 250;
    const CLIENTS: usize = 100;
    let upstream = Upstream::plain(answer(OK));
    let cases = DRIVERS.into_iter().flat_map(|driver| {
        // What is set counts in place of the share.
        [(None, CLIENTS), (Some("7"), 7)].map(|(flag, clients)| (driver, flag, clients))
    });
    check_at_once(cases, |(driver, flag, clients)| {
        let mut builder = builder(driver, &upstream).open_files_max(DESCRIPTORS);
        if let Some(flag) = flag {
            builder = builder.arg("--max-connections", flag);
        }
        let gateway = builder.start();
        let mut others: Vec<Client> = (0..clients - 1).map(|_| begun(gateway.port())).collect();
        let mut last = Client::connect(gateway.port());
        assert_eq!(last.ask(LIVENESS).status, 200, "{driver}: there is a place for number {clients}");
        last.send(&LIVENESS[..20]);
        let mut next = Client::connect(gateway.port());
        next.send(LIVENESS);
        assert!(next.is_quiet_for(MOMENT), "{driver}: there are more places than {clients}");
        others.pop().expect("there are some").send(&LIVENESS[20..]).read_response();
        assert_eq!(next.read_response().status, 200, "{driver}: it gets the place that became free");
        assert_eq!(last.send(&LIVENESS[20..]).read_response().status, 200, "{driver}");
    });
}

#[test]
fn a_tenth_of_the_descriptors_is_for_idle_upstream_connections_over_all_shards() {
    const DESCRIPTORS: u64 = 200;
    const IDLE: usize = 20;
    check_at_once(DRIVERS, |driver| {
        for (asked, closed) in [(IDLE, 0), (IDLE + 1, 1)] {
            let gate = Gate::new();
            let passing = gate.clone();
            let upstream = Upstream::plain(move |peer: &mut Peer| {
                while peer.read_request().is_some() {
                    passing.pass();
                    peer.write(OK);
                }
            });
            let gateway = builder(driver, &upstream).open_files_max(DESCRIPTORS).start();
            let mut clients: Vec<Client> = (0..asked).map(|_| Client::connect(gateway.port())).collect();
            for client in &mut clients {
                client.send(GET);
            }
            upstream.wait_for_requests(asked);
            (0..asked).for_each(|_| gate.open());
            for client in &mut clients {
                assert_eq!(client.read_response().text(), "ok", "{driver}");
            }
            wait_until("those beyond it close", || upstream.closes() >= closed);
            std::thread::sleep(MOMENT);
            assert_eq!((upstream.connections(), upstream.closes()), (asked, closed), "{driver}");
        }
    });
}
