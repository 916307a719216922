//! Many streams of one shard: those whose clients do not read take little room and disturb no other, and when all are
//! over nothing is left.

use std::time::Duration;

use super::{DRIVERS, pumping};
use crate::support::{
    Client, EVENT, EVENT_STREAM, Gate, Gateway, LIVENESS, POST, Peer, Upstream, chunk, parse_events, shown,
};

const SLOW_CLIENTS: usize = 200;

/// Events of a slow client's stream, and the length of each: more than the buffers of its connection take.
const LONG_EVENTS: usize = 60;
const LONG_EVENT_BYTES: usize = 8000;

/// Memory that a stream may take while its client does not read: a buffer of what it has not taken, one with a part of
/// what is next, and what a build without optimisation adds.
const STREAM_KIB_MAX: u64 = 160;

fn long_stream() -> String {
    (0..LONG_EVENTS).map(|number| chunk(&format!("data: {number}{}\n\n", "x".repeat(LONG_EVENT_BYTES)))).collect()
}

#[test]
fn clients_that_stop_to_read_disturb_nobody_and_get_everything_later() {
    for driver in DRIVERS {
        let gate = Gate::new();
        let passing = gate.clone();
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            let Some(request) = peer.read_request() else { return };
            peer.write(EVENT_STREAM);
            if request.path().ends_with("/slow") {
                peer.write(long_stream());
            } else {
                for number in 0..50 {
                    passing.pass();
                    peer.write(chunk(&format!("data: {number}\n\n")));
                }
            }
            peer.write("0\r\n\r\n");
            peer.read_request();
        });
        let gateway = pumping(driver, &upstream).start();
        let mut ordinary = Client::connect(gateway.port());
        ordinary.send(POST);
        ordinary.read_head();
        let before = gateway.rss_kib();
        let mut slow: Vec<Client> = (0..SLOW_CLIENTS).map(|_| Client::connect_narrow(gateway.port(), None)).collect();
        let request = "POST /v1/slow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}";
        for client in &mut slow {
            client.send(request);
        }
        for client in &mut slow {
            client.read_head();
        }
        // The events of another stream, each sent when the one before has come.
        for number in 0..50 {
            gate.open();
            let event = chunk(&format!("data: {number}\n\n"));
            assert_eq!(ordinary.read_until(&event), event.as_bytes());
            if number == 25 {
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        assert_eq!(ordinary.read_until("0\r\n\r\n"), b"0\r\n\r\n");
        assert_eq!(ordinary.ask(LIVENESS).status, 200);
        assert_eq!(gateway.count_log(" path=/v1/slow"), 0, "a slow client is done already");
        let grown = gateway.rss_kib().saturating_sub(before);
        let most = SLOW_CLIENTS as u64 * STREAM_KIB_MAX;
        println!("{driver}: {grown} KiB for {SLOW_CLIENTS} clients that do not read");
        assert!(grown < most, "{grown} KiB for clients that do not read");
        let expected = long_stream() + "0\r\n\r\n";
        for mut client in slow {
            let mut got = Vec::new();
            assert_eq!(client.read_at_least(expected.len(), &mut got), None);
            assert!(got == expected.as_bytes(), "{}", shown(&got));
        }
        gateway.wait_for_log_count("end=ok", SLOW_CLIENTS + 2);
    }
}

/// Of 50 clients those that read to the end.
const STAYING: usize = 20;

/// Ends 50 streams in all ways at once.
fn fifty_streams(gateway: &Gateway, upstream_gate: &Gate, round: usize) {
    let mut clients: Vec<Client> = (0..50).map(|_| Client::connect_unrecorded(gateway.port())).collect();
    for client in &mut clients {
        client.send(POST);
    }
    for client in &mut clients {
        client.read_until(EVENT);
    }
    let staying: Vec<Client> = clients
        .into_iter()
        .enumerate()
        .filter_map(|(number, mut client)| match number % 5 {
            0 => {
                client.close();
                None
            }
            1 => {
                client.reset();
                None
            }
            2 => {
                client.half_close();
                client.read_to_end();
                None
            }
            _ => Some(client),
        })
        .collect();
    // Else some of their streams would end before, and more connections to the upstream be kept.
    gateway.wait_for_log_count("end=client_disconnected", (50 - STAYING) * round);
    (0..50).for_each(|_| upstream_gate.open());
    for mut client in staying {
        let rest = client.read_until("0\r\n\r\n");
        assert!(!parse_events(&rest).is_empty(), "{}", shown(&rest));
        client.reset();
    }
}

#[test]
fn five_hundred_streams_leave_no_descriptor_and_no_memory_behind() {
    const ROUNDS: usize = 10;
    for (driver, is_tls) in DRIVERS.into_iter().flat_map(|driver| [(driver, false), (driver, true)]) {
        let gate = Gate::new();
        let passing = gate.clone();
        let script = move |peer: &mut Peer| {
            while peer.read_request().is_some() {
                peer.write([EVENT_STREAM, EVENT].concat());
                passing.pass();
                peer.write([EVENT, "0\r\n\r\n"].concat());
            }
        };
        let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
        let gateway = pumping(driver, &upstream).start();
        let descriptors = gateway.open_descriptors();
        let mut after_warming_up = 0;
        for round in 1..=ROUNDS {
            fifty_streams(&gateway, &gate, round);
            gateway.wait_for_log_count(" path=/v1/chat/completions", 50 * round);
            // The connections to the upstream of those that stayed are kept.
            gateway.wait_for_descriptors(descriptors + STAYING);
            if round == ROUNDS / 2 {
                after_warming_up = gateway.rss_kib();
            }
        }
        let grown = gateway.rss_kib().saturating_sub(after_warming_up);
        println!("{driver}, TLS {is_tls}: {grown} KiB more after {} streams", 50 * ROUNDS);
        assert!(grown < 4 * 1024, "{grown} KiB more after as many streams again");
    }
}
