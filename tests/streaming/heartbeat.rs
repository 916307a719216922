//! `--sse-heartbeat`: the client of a silent event stream gets comment lines, where they change nothing of its events.

use std::time::Duration;

use crate::GET;
use crate::support::{Client, EVENT_STREAM, Gate, Gateway, Peer, Upstream, chunk, parse_events};

const GET_HTTP10: &str = "GET /v1/x HTTP/1.0\r\nHost: localhost\r\n\r\n";
const HEARTBEAT: &str = "7\r\n: ping\n\r\n";

/// Two heartbeats would come in this time.
const SILENCE: Duration = Duration::from_millis(500);

fn gateway_before(upstream: &Upstream) -> Gateway {
    Gateway::builder().upstream(upstream).arg("--sse-heartbeat", "0.2").start()
}

/// Sends these parts of a stream, each after a pass of the gate, and then the end of the body.
fn in_parts(parts: &[String], gate: &Gate) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let (parts, gate) = (parts.to_vec(), gate.clone());
    move |peer| {
        while peer.read_request().is_some() {
            peer.write(EVENT_STREAM);
            for part in &parts {
                gate.pass();
                peer.write(part);
            }
            gate.pass();
            peer.write("0\r\n\r\n");
        }
    }
}

#[test]
fn a_silent_stream_gets_heartbeats_before_and_between_its_events() {
    let gate = Gate::new();
    let upstream = Upstream::plain(in_parts(&[chunk("data: 1\n\n"), chunk("data: 2\n\n")], &gate));
    let gateway = gateway_before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send(GET);
    assert!(client.read_head().is_chunked());
    for event in ["data: 1\n\n", "data: 2\n\n"] {
        for _ in 0..2 {
            assert_eq!(client.read_until(HEARTBEAT), HEARTBEAT.as_bytes());
        }
        gate.open();
        assert!(client.read_until(chunk(event)).ends_with(chunk(event).as_bytes()));
    }
    client.read_until(HEARTBEAT);
    gate.open();
    client.read_until("0\r\n\r\n");
    // The connection is as good as any.
    (0..3).for_each(|_| gate.open());
    let response = client.ask(GET);
    assert!(response.is_whole);
    assert_eq!(parse_events(&response.body).len(), 2);
}

#[test]
fn nothing_is_put_into_an_event_or_behind_the_last_one() {
    let parts = [chunk("data: 1\n"), chunk("\n")[..4].to_owned(), "\r\n".to_owned(), chunk("data: [DONE]\n\n")];
    let gate = Gate::new();
    let upstream = Upstream::plain(in_parts(&parts, &gate));
    let gateway = gateway_before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send(GET);
    client.read_head();
    client.read_until(HEARTBEAT);
    for part in &parts[..2] {
        gate.open();
        client.read_until(part);
        assert!(client.is_quiet_for(SILENCE), "a heartbeat after {part:?}");
    }
    gate.open();
    client.read_until("\r\n");
    assert_eq!(client.read_until(HEARTBEAT), HEARTBEAT.as_bytes());
    gate.open();
    client.read_until(&parts[3]);
    assert!(client.is_quiet_for(SILENCE), "a heartbeat after the last event");
    gate.open();
    client.read_until("0\r\n\r\n");
}

#[test]
fn a_client_that_gets_no_chunks_gets_the_bare_line() {
    let gate = Gate::new();
    let upstream = Upstream::plain(in_parts(&[chunk("data: 1\r\n\r\n")], &gate));
    let gateway = gateway_before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send(GET_HTTP10);
    client.read_head();
    assert_eq!(client.read_until(": ping\n"), b": ping\n");
    gate.open();
    client.read_until("data: 1\r\n\r\n");
    assert_eq!(client.read_until(": ping\r\n"), b": ping\r\n");
    gate.open();
    let (rest, _) = client.read_to_end();
    assert!(parse_events(&rest).is_empty());
}

#[test]
fn what_is_no_event_stream_and_who_did_not_ask_get_none() {
    let gate = Gate::new();
    let waiting = gate.clone();
    let upstream = Upstream::plain(move |peer: &mut Peer| {
        while peer.read_request().is_some() {
            peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n");
            waiting.pass();
            peer.write("0\r\n\r\n");
        }
    });
    let gateway = gateway_before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send(GET);
    client.read_head();
    assert!(client.is_quiet_for(SILENCE));
    gate.open();
    client.read_until("0\r\n\r\n");

    let gate = Gate::new();
    let upstream = Upstream::plain(in_parts(&[], &gate));
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    client.send(GET);
    client.read_head();
    assert!(client.is_quiet_for(SILENCE));
    gate.open();
    client.read_until("0\r\n\r\n");
}
