//! A client that closes at the event that ends the turn, as SDKs do, has had all of its answer: the exchange is whole,
//! and the upstream gets a moment to end its body, so that its connection serves the next request.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;

use crate::support::{CERTIFICATES, Client, EVENT_STREAM, Gate, Gateway, POST, Peer, Upstream, chunk};

const DONE: &str = "data: {\"choices\":[]}\n\ndata: [DONE]\n\n";

/// Well within the time that an upstream has.
const A_MOMENT: Duration = Duration::from_millis(20);

/// Sends `stream`, and the end of the body a moment after a pass of the gate.
fn ending_late(stream: &str, gate: &Gate) -> impl Fn(&mut Peer) + Send + Sync + 'static {
    let (stream, gate) = (chunk(stream), gate.clone());
    move |peer| {
        while peer.read_request().is_some() {
            peer.write([EVENT_STREAM, &stream].concat());
            gate.pass();
            peer.sleep(A_MOMENT);
            peer.write("0\r\n\r\n");
        }
    }
}

/// Lets three clients, one after the other, read `stream` and leave.
fn assert_kept(
    gateway: &Gateway,
    upstream: &Upstream,
    stream: &str,
    gate: &Gate,
    connect: impl Fn() -> Client,
    leave: fn(Client),
) {
    let already = gateway.count_log("end=ok");
    for round in 1..=3 {
        let mut client = connect();
        client.send(POST);
        client.read_until(chunk(stream));
        leave(client);
        gate.open();
        gateway.wait_for_log_count("end=ok", already + round);
    }
    assert_eq!(upstream.connections(), 1, "{stream}");
    assert_eq!(gateway.count_log("end=client_disconnected"), 0, "{stream}");
}

/// Ends its direction, and reads what comes.
fn half_close(mut client: Client) {
    client.half_close();
    std::thread::sleep(Duration::from_millis(5));
}

fn close(client: Client) {
    client.close();
}

fn reset(client: Client) {
    client.reset();
}

const WAYS: [fn(Client); 3] = [close, reset, half_close];

#[test]
fn a_client_that_leaves_at_the_end_of_its_turn_does_not_cost_the_connection() {
    for leave in WAYS {
        for is_tls in [false, true] {
            let gate = Gate::new();
            let script = ending_late(DONE, &gate);
            let upstream = if is_tls { Upstream::tls(script) } else { Upstream::plain(script) };
            let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
            assert_kept(&gateway, &upstream, DONE, &gate, || Client::connect(gateway.port()), leave);
        }
    }
}

#[test]
fn the_last_event_of_every_api_ends_a_turn() {
    let streams = [
        "event: message_start\ndata: {}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n",
        "event: response.completed\ndata: {\"type\":\"response.completed\",\"response\":{}}\n\n",
        "data: {\"type\":\"response.output_text.delta\"}\n\ndata: {\"type\":\"response.failed\"}\n\n",
        "data: {\"type\":\"response.incomplete\"}\r\n\r\n",
        "data: {\"candidates\":[{},{\"index\":1,\"finishReason\":\"STOP\"}]}\n\ndata: {\"candidates\":[{\"finishReason\":\"STOP\"}]}\n\n",
    ];
    for stream in streams {
        let gate = Gate::new();
        let upstream = Upstream::plain(ending_late(stream, &gate));
        let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
        assert_kept(&gateway, &upstream, stream, &gate, || Client::connect(gateway.port()), WAYS[0]);
    }
}

#[test]
fn a_client_that_speaks_tls_may_leave_with_a_goodbye_or_without() {
    let directory = TempDir::new().expect("a directory");
    let path = |name: &str| directory.path().join(name).to_str().expect("a readable path").to_owned();
    fs::write(path("cert.pem"), &CERTIFICATES.server_pem).expect("written");
    fs::write(path("key.pem"), &CERTIFICATES.server_key_pem).expect("written");
    let goodbye: fn(Client) = |mut client| {
        client.say_goodbye();
        std::thread::sleep(Duration::from_millis(5));
    };
    for leave in WAYS.into_iter().chain([goodbye]) {
        let gate = Gate::new();
        let upstream = Upstream::plain(ending_late(DONE, &gate));
        let tls = Gateway::builder().arg("--tls-cert", path("cert.pem")).arg("--tls-key", path("key.pem"));
        let gateway = tls.shards(1).upstream(&upstream).patient().start();
        let connect = || Client::connect_tls(gateway.port(), Arc::clone(&CERTIFICATES.client));
        assert_kept(&gateway, &upstream, DONE, &gate, connect, leave);
    }
}

#[test]
fn an_upstream_that_does_not_end_its_body_is_not_waited_for() {
    for leave in WAYS {
        for head in [EVENT_STREAM, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"] {
            let stream = if head == EVENT_STREAM { chunk(DONE) } else { DONE.to_owned() };
            let sent = stream.clone();
            let upstream = Upstream::plain(move |peer: &mut Peer| {
                if peer.read_request().is_some() {
                    peer.write([head, &sent].concat());
                    peer.wait_for_close();
                }
            });
            let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
            let mut client = Client::connect(gateway.port());
            client.send(POST);
            client.read_until(&stream);
            leave(client);
            upstream.wait_for_close(0);
            gateway.wait_for_log("end=ok");
        }
    }
}

#[test]
fn an_upstream_that_goes_on_sending_is_not_read_for_long() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        if peer.read_request().is_some() {
            peer.write([EVENT_STREAM, &chunk(DONE)].concat());
            while peer.write(chunk(": more\n\n")) {
                peer.sleep(Duration::from_millis(2));
            }
        }
    });
    for leave in WAYS {
        let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
        let mut client = Client::connect(gateway.port());
        client.send(POST);
        client.read_until(chunk(DONE));
        leave(client);
        gateway.wait_for_log("end=ok");
    }
}

#[test]
fn a_client_that_leaves_before_the_last_event_is_whole_has_left_early() {
    let before = [
        "data: {\"choices\":[]}\n\n",
        "data: {\"choices\":[]}\n\ndata: [DONE]\n",
        "data: [DONE]\n\ndata: {\"choices\":[]}\n\n",
    ];
    for stream in before {
        let upstream = Upstream::plain(move |peer: &mut Peer| {
            if peer.read_request().is_some() {
                peer.write([EVENT_STREAM, &chunk(stream)].concat());
                peer.wait_for_close();
            }
        });
        let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
        let mut client = Client::connect(gateway.port());
        client.send(POST);
        client.read_until(chunk(stream));
        client.close();
        gateway.wait_for_log("end=client_disconnected");
        upstream.wait_for_close(0);
    }
}

#[test]
fn a_client_that_ends_its_direction_reads_the_rest() {
    let gate = Gate::new();
    let upstream = Upstream::plain(ending_late(DONE, &gate));
    let gateway = Gateway::builder().shards(1).upstream(&upstream).patient().start();
    let mut client = Client::connect(gateway.port());
    client.send(POST);
    client.read_until(chunk(DONE));
    client.half_close();
    gate.open();
    assert!(client.read_to_end().0.ends_with(b"0\r\n\r\n"));
}
