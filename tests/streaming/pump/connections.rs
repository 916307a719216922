//! Connections around a pumped answer: kept on both sides, left by either end, and what comes on them meanwhile.

use std::thread;
use std::time::Duration;

use super::{DRIVERS, ListenerFiles, client_tls, pumping};
use crate::support::{Client, EVENT, EVENT_STREAM, Gate, Gateway, POST, Peer, Upstream, check_at_once, chunk};

const DONE: &str = "data: {\"choices\":[]}\n\ndata: [DONE]\n\n";

fn close(client: Client) {
    client.close();
}

fn reset(client: Client) {
    client.reset();
}

const WAYS: [fn(Client); 2] = [close, reset];

/// Sends an event, and the rest of the answer after a pass of the gate. The answers are numbered by the requests' bodies.
fn in_two_parts(gate: &Gate) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let gate = gate.clone();
    move |peer| {
        while let Some(request) = peer.read_request() {
            peer.write([EVENT_STREAM, EVENT].concat());
            gate.pass();
            let body = String::from_utf8(request.body).expect("text");
            peer.write(chunk(&format!("data: of {body}\n\n")) + "0\r\n\r\n");
        }
    }
}

fn post(body: &str) -> String {
    // What may be sent again goes out on a connection of the pool.
    format!("POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn what_is_pipelined_during_a_stream_is_answered_after_it_in_order() {
    let files = ListenerFiles::new();
    check_at_once(DRIVERS.into_iter().flat_map(|driver| [(driver, false), (driver, true)]), |(driver, is_tls)| {
        let gate = Gate::new();
        let upstream = Upstream::plain(in_two_parts(&gate));
        let builder = pumping(driver, &upstream);
        let gateway = if is_tls { files.named_for(builder).start() } else { builder.start() };
        let mut client =
            if is_tls { Client::connect_tls(gateway.port(), client_tls()) } else { Client::connect(gateway.port()) };
        client.send(post("first"));
        client.read_until(EVENT);
        // Whole requests, and one in two parts that come during two streams.
        client.send(post("second"));
        client.send(post("third") + &post("fourth")[..30]);
        gate.open();
        client.read_until("data: of first\n\n\r\n0\r\n\r\n");
        client.read_until(EVENT);
        client.send(&post("fourth")[30..]);
        for body in ["second", "third", "fourth"] {
            gate.open();
            client.read_until(format!("data: of {body}\n\n\r\n0\r\n\r\n"));
        }
        assert_eq!(upstream.connections(), 1);
        gateway.wait_for_log_count("end=ok", 4);
    });
}

#[test]
fn a_client_that_leaves_by_tls_alone_ends_its_stream() {
    let files = ListenerFiles::new();
    for driver in DRIVERS {
        for is_close_delimited in [false, true] {
            let upstream = Upstream::plain(move |peer: &mut Peer| {
                peer.read_request();
                let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
                peer.write(if is_close_delimited { head } else { EVENT_STREAM });
                peer.write(if is_close_delimited { "data: 1\n\n" } else { EVENT });
                peer.wait_for_close();
            });
            let gateway = files.named_for(pumping(driver, &upstream)).start();
            let mut client = Client::connect_tls(gateway.port(), client_tls());
            client.send(POST);
            client.read_until(if is_close_delimited { "data: 1\n\n" } else { EVENT });
            assert!(client.is_quiet_for(Duration::from_millis(50)));
            client.say_goodbye();
            // Nothing else would end it for ten minutes.
            upstream.wait_for_close(0);
            gateway.wait_for_log("end=client_disconnected");
            client.read_to_end();
        }
    }
}

/// Requests of another sort than streams come between them.
#[test]
fn both_connections_serve_request_after_request() {
    const ROUNDS: usize = 12;
    check_at_once(DRIVERS.into_iter().flat_map(|driver| [(driver, false), (driver, true)]), |(driver, is_tls)| {
        let script = |peer: &mut Peer| {
            while let Some(request) = peer.read_request() {
                if request.body == b"whole" {
                    peer.write("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
                    continue;
                }
                peer.write([EVENT_STREAM, EVENT].concat());
                peer.sleep(Duration::from_millis(3));
                peer.write(chunk(DONE));
                // Its end comes late, or at once.
                if request.body == b"late" {
                    peer.sleep(Duration::from_millis(10));
                }
                peer.write("0\r\n\r\n");
            }
        };
        let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
        let gateway = pumping(driver, &upstream).start();
        let mut client = Client::connect(gateway.port());
        for round in 0..ROUNDS {
            for body in ["late", "whole", "at once"] {
                let response = client.ask(post(body));
                assert!(response.is_whole, "{round} {response:?}");
                assert!(body == "whole" || response.text().ends_with(DONE), "{round} {response:?}");
            }
        }
        gateway.wait_for_log_count("end=ok", 3 * ROUNDS);
        assert_eq!((upstream.connections(), upstream.requests().len()), (1, 3 * ROUNDS));
    });
}

#[test]
fn a_client_that_leaves_at_the_last_event_of_a_stream_does_not_cost_the_connection() {
    const ROUNDS: usize = 4;
    check_at_once(DRIVERS.into_iter().flat_map(|driver| WAYS.map(|way| (driver, way))), |(driver, leave)| {
        let gate = Gate::new();
        let passing = gate.clone();
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            while peer.read_request().is_some() {
                peer.write([EVENT_STREAM, EVENT].concat());
                passing.pass();
                peer.write(chunk(DONE));
                passing.pass();
                peer.sleep(Duration::from_millis(10));
                peer.write("0\r\n\r\n");
            }
        });
        let gateway = pumping(driver, &upstream).start();
        for round in 1..=ROUNDS {
            let mut client = Client::connect(gateway.port());
            client.send(POST);
            client.read_until(EVENT);
            gate.open();
            client.read_until(chunk(DONE));
            leave(client);
            gate.open();
            gateway.wait_for_log_count("end=ok", round);
        }
        assert_eq!(gateway.count_log("end=client_disconnected"), 0);
        // Only where the machine was too busy the end came after the 100 ms that it has.
        assert!(upstream.connections() <= ROUNDS / 2, "{} connections", upstream.connections());
    });
}

#[test]
fn a_client_that_takes_nothing_after_its_last_event_has_had_its_answer() {
    check_at_once(DRIVERS.into_iter().flat_map(|driver| WAYS.map(|way| (driver, way))), |(driver, leave)| {
        let upstream = Upstream::plain(|peer: &mut Peer| {
            peer.read_request();
            peer.write([EVENT_STREAM, EVENT].concat());
            peer.sleep(Duration::from_millis(20));
            peer.write(chunk(DONE));
            peer.sleep(Duration::from_millis(20));
            // More than all buffers on the way take.
            while peer.write(chunk(&format!(": {}\n\n", "x".repeat(8000)))) {}
        });
        let gateway = pumping(driver, &upstream).start();
        let mut client = Client::connect_narrow(gateway.port(), None);
        client.send(POST);
        client.read_until(chunk(DONE));
        thread::sleep(Duration::from_millis(200));
        leave(client);
        gateway.wait_for_log("end=ok");
        upstream.wait_for_close(0);
    });
}

/// Lets a client begin, and go, and waits until the upstream sees it and nothing is left.
fn assert_gone(gateway: &Gateway, upstream: &Upstream, go: fn(Client), talks: bool) {
    let closed = upstream.closes();
    let mut client = Client::connect(gateway.port());
    client.send(POST);
    if talks {
        client.read_until(EVENT);
    } else {
        upstream.wait_for_requests(closed + 1);
    }
    go(client);
    upstream.wait_for_close(closed);
    gateway.wait_for_log_count("end=client_disconnected", closed + 1);
}

#[test]
fn an_upstream_sees_that_its_client_has_gone_before_and_within_the_stream() {
    let ways: [fn(Client); 3] = [close, reset, |mut client| {
        client.half_close();
        client.read_to_end();
    }];
    check_at_once(
        DRIVERS.into_iter().flat_map(|driver| [false, true].map(|is_tls| (driver, is_tls))),
        |(driver, is_tls)| {
            for kind in ["thinks", "pauses", "talks"] {
                let script = move |peer: &mut Peer| {
                    peer.read_request();
                    if kind != "thinks" {
                        peer.write([EVENT_STREAM, EVENT].concat());
                    }
                    while kind == "talks" && peer.write(EVENT) {
                        peer.sleep(Duration::from_millis(2));
                    }
                    if kind != "talks" {
                        peer.wait_for_close();
                    }
                };
                let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
                let gateway = pumping(driver, &upstream).start();
                for go in ways {
                    assert_gone(&gateway, &upstream, go, kind != "thinks");
                }
            }
        },
    );
}

/// What a client sends beside its TLS session ends it.
#[test]
fn a_client_whose_tls_breaks_in_mid_stream_has_left() {
    let files = ListenerFiles::new();
    for driver in DRIVERS {
        let upstream = Upstream::plain(|peer: &mut Peer| {
            peer.read_request();
            peer.write([EVENT_STREAM, EVENT].concat());
            peer.wait_for_close();
        });
        let gateway = files.named_for(pumping(driver, &upstream)).start();
        let mut client = Client::connect_tls(gateway.port(), client_tls());
        client.send(POST);
        client.read_until(EVENT);
        client.send_beside_tls(b"\x17\x03\x03\x00\x20not a record that can be decrypted").expect("taken");
        upstream.wait_for_close(0);
        gateway.wait_for_log("end=client_disconnected");
    }
}
