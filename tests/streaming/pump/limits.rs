//! Time limits, heartbeats and the drain, for more pumped streams than one part of a sweep lets go.

use std::time::Duration;

use super::{DRIVERS, pumping};
use crate::support::{
    Client, EVENT, EVENT_STREAM, Ended, Event, Gate, Gateway, LIVENESS, POST, Peer, Upstream, check_at_once, chunk,
    is_error_event, parse_events,
};

/// Streams at the same time: more than leave in one part of a sweep.
const STREAMS: usize = 70;

const CHAT: &str = "/v1/chat/completions";
const CHAT_EVENT: &str = "data: {\"choices\":[]}\n\n";

/// Sends an event and is silent.
fn pausing(peer: &mut Peer) {
    if peer.read_request().is_some() {
        peer.write([EVENT_STREAM, &chunk(CHAT_EVENT)].concat());
        peer.wait_for_close();
    }
}

/// Sends events again and again.
fn talking(peer: &mut Peer) {
    if peer.read_request().is_some() {
        peer.write([EVENT_STREAM, &chunk(CHAT_EVENT)].concat());
        while peer.write(chunk(CHAT_EVENT)) {
            peer.sleep(Duration::from_millis(20));
        }
    }
}

/// Begins streams, and reads the first event of each.
fn begin(gateway: &Gateway, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::connect(gateway.port())).collect();
    for client in &mut clients {
        client.send(POST);
    }
    for client in &mut clients {
        client.read_until(chunk(CHAT_EVENT));
    }
    clients
}

/// The client reads whole events, the last of them an error event, and the end of the body.
fn assert_error_event(client: &mut Client) -> Ended {
    let (rest, ended) = client.read_to_end();
    assert!(rest.ends_with(b"\r\n0\r\n\r\n"), "{}", rest.escape_ascii());
    let events: Vec<Event> = parse_events(&rest);
    let [before @ .., last] = &events[..] else { panic!("no error event: {}", rest.escape_ascii()) };
    assert!(is_error_event(last, CHAT) && before.iter().all(|event| event.data == "{\"choices\":[]}"), "{events:?}");
    ended
}

#[test]
fn many_streams_whose_upstreams_say_nothing_more_end_in_time() {
    for driver in DRIVERS {
        let upstream = Upstream::plain(pausing);
        let gateway = pumping(driver, &upstream).arg("--client-timeout", "1").start();
        let mut clients: Vec<Client> = (0..STREAMS).map(|_| Client::connect(gateway.port())).collect();
        let request = POST.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
        for client in &mut clients {
            client.send(&request);
        }
        // On a machine that is busy some of them end before others begin.
        for client in &mut clients {
            client.read_until(chunk(CHAT_EVENT));
            assert_eq!(assert_error_event(client), Ended::Eof);
        }
        gateway.wait_for_log_count("end=timeout", STREAMS);
        for connection in 0..STREAMS {
            upstream.wait_for_close(connection);
        }
        // The shard goes on.
        begin(&gateway, 1)[0].read_until("0\r\n\r\n");
    }
}

#[test]
fn a_drain_that_expires_ends_many_streams_with_an_error_event() {
    for (driver, script) in
        DRIVERS.into_iter().flat_map(|driver| [(driver, pausing as fn(&mut Peer)), (driver, talking)])
    {
        let upstream = Upstream::plain(script);
        let mut gateway = pumping(driver, &upstream).arg("--drain-timeout", "1").start();
        let mut clients = begin(&gateway, STREAMS);
        gateway.terminate();
        for client in &mut clients {
            assert_eq!(assert_error_event(client), Ended::Eof);
        }
        assert!(gateway.wait().success());
        assert_eq!(gateway.count_log("end=shutdown"), STREAMS);
    }
}

#[test]
fn streams_that_end_before_the_drain_expires_end_as_always() {
    for driver in DRIVERS {
        let gate = Gate::new();
        let passing = gate.clone();
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            if peer.read_request().is_some() {
                peer.write([EVENT_STREAM, &chunk(CHAT_EVENT)].concat());
                passing.pass();
                peer.write(chunk("data: [DONE]\n\n") + "0\r\n\r\n");
                peer.read_request();
            }
        });
        let mut gateway = pumping(driver, &upstream).arg("--drain-timeout", "600").start();
        let mut clients = begin(&gateway, 10);
        let mut idle = Client::connect(gateway.port());
        idle.ask(LIVENESS);
        gateway.terminate();
        // Its close shows that the shard drains.
        idle.expect_close();
        (0..10).for_each(|_| gate.open());
        for client in &mut clients {
            assert!(client.read_until("0\r\n\r\n").starts_with(chunk("data: [DONE]\n\n").as_bytes()));
        }
        clients.iter_mut().for_each(|client| assert_eq!(client.expect_close(), Ended::Eof));
        assert!(gateway.wait().success());
        assert_eq!(gateway.count_log("end=ok"), 10 + 1);
    }
}

#[test]
fn a_client_that_takes_nothing_does_not_hold_up_the_end_of_a_drain() {
    for driver in DRIVERS {
        let upstream = Upstream::plain(|peer: &mut Peer| {
            peer.read_request();
            peer.write(EVENT_STREAM);
            let event = chunk(&format!("data: {{\"choices\":[\"{}\"]}}\n\n", "x".repeat(8000)));
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| while peer.write(&event) {}));
        });
        let mut gateway = pumping(driver, &upstream).arg("--drain-timeout", "1").start();
        let mut client = Client::connect_narrow(gateway.port(), None);
        client.send(POST);
        client.read_head();
        gateway.terminate();
        assert!(gateway.wait().success());
        gateway.wait_for_log("end=shutdown");
    }
}

#[test]
fn silent_streams_get_heartbeats_between_their_events() {
    const HEARTBEAT: &str = "7\r\n: ping\n\r\n";
    check_at_once(DRIVERS, |driver| {
        let gate = Gate::new();
        let passing = gate.clone();
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            while peer.read_request().is_some() {
                peer.write([EVENT_STREAM, &chunk(CHAT_EVENT)].concat());
                passing.pass();
                // In the middle of an event there is none.
                peer.write(&EVENT[..5]);
                peer.sleep(Duration::from_millis(400));
                peer.write([&EVENT[5..], "0\r\n\r\n"].concat());
            }
        });
        let gateway = pumping(driver, &upstream).arg("--sse-heartbeat", "0.1").start();
        let mut clients = begin(&gateway, 20);
        for client in &mut clients {
            (0..2).for_each(|_| assert_eq!(client.read_until(HEARTBEAT), HEARTBEAT.as_bytes()));
        }
        (0..clients.len()).for_each(|_| gate.open());
        for client in &mut clients {
            let rest = client.read_until("0\r\n\r\n");
            let rest = String::from_utf8(rest).expect("text");
            // After the whole event there may be one more, before the end of the body.
            let last = rest.replace(HEARTBEAT, "");
            assert_eq!(last, [EVENT, "0\r\n\r\n"].concat(), "{rest}");
        }
        gateway.wait_for_log_count("end=ok", clients.len());
    });
}

#[test]
fn a_client_that_reads_on_after_a_rest_gets_heartbeats_again() {
    const EVENTS: usize = 64;
    for driver in DRIVERS {
        let large = format!("data: {{\"choices\":[],\"padding\":\"{}\"}}\n\n", "x".repeat(256 * 1024));
        let sent = large.clone();
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            if peer.read_request().is_some() {
                peer.write(EVENT_STREAM);
                for _ in 0..EVENTS {
                    peer.write(chunk(&sent));
                }
                peer.wait_for_close();
            }
        });
        let gateway = pumping(driver, &upstream).arg("--sse-heartbeat", "0.1").start();
        let mut client = Client::connect_unrecorded(gateway.port());
        client.send(POST);
        client.read_head();
        // More waits for it than the sockets hold, for longer than it takes to look at the limits of all.
        std::thread::sleep(Duration::from_millis(500));
        for _ in 0..EVENTS {
            client.read_until(chunk(&large));
        }
        client.read_until(": ping\n");
    }
}
