//! What the gateway adds to the delay of each event of a stream, against a direct connection in the same run.
//!
//! Prints figures and holds none of them: they are this machine's. What holds on any machine, that no event waits for
//! another and no byte is changed, is in tests/streaming.

#![expect(clippy::disallowed_methods, reason = "waits on a thread of its own; no shard runs here")]
#![expect(clippy::disallowed_types, reason = "the times are shared by blocking threads; no shard runs here")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::{Client, Gateway, Peer, Upstream};

const EVENTS: usize = 500;
const INTERVAL: Duration = Duration::from_millis(20);
const ROUNDS: usize = 3;

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
const END: &str = "0\r\n\r\n";

const THROUGH_GATEWAY: usize = 0;
const DIRECT: usize = 1;

/// When each event was sent, of either stream.
type SendTimes = Arc<Mutex<[Vec<Instant>; 2]>>;

fn chunk(number: usize) -> String {
    let event = format!("data: {{\"number\":{number},\"text\":\"{}\"}}\n\n", "token ".repeat(number % 7));
    format!("{:x}\r\n{event}\r\n", event.len())
}

/// Sends every event when its time has come, whatever happened to those before it.
fn streaming(times: &SendTimes, peer: &mut Peer) {
    let Some(request) = peer.read_request() else { return };
    let stream = if request.path().ends_with("/direct") { DIRECT } else { THROUGH_GATEWAY };
    // Half an interval apart, so that one stream's work is not the other's delay.
    let begin = Instant::now() + INTERVAL / 2 * u32::from(stream == DIRECT);
    peer.write(HEAD);
    for number in 0..EVENTS {
        let due = begin + INTERVAL * u32::try_from(number + 1).expect("few");
        peer.sleep(due.saturating_duration_since(Instant::now()));
        times.lock().expect("no panic")[stream].push(Instant::now());
        peer.write(chunk(number));
    }
    peer.write(END);
}

/// The body, byte for byte, and when each event was there.
fn receive(port: u16, path: &str) -> (Vec<u8>, Vec<Instant>) {
    let mut client = Client::connect_unrecorded(port);
    client.send(format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{{}}"));
    assert_eq!(client.read_head().field("transfer-encoding"), Some("chunked"));
    let (mut body, mut times) = (Vec::new(), Vec::new());
    for _ in 0..EVENTS {
        body.extend(client.read_until("\n\n\r\n"));
        times.push(Instant::now());
    }
    body.extend(client.read_until(END));
    (body, times)
}

/// The delay of each event through the gateway less that of the same event without, sorted, in microseconds.
fn measure(is_tls: bool) -> Vec<i64> {
    let times = SendTimes::default();
    let script = |times: &SendTimes| {
        let times = Arc::clone(times);
        move |peer: &mut Peer| streaming(&times, peer)
    };
    // The direct client of the kit speaks no TLS.
    let direct = Upstream::plain(script(&times));
    let upstream = if is_tls { Upstream::tls(script(&times)) } else { Upstream::plain(script(&times)) };
    let gateway = Gateway::before(&upstream);
    let (port, direct_port) = (gateway.port(), direct.port());
    let through = thread::spawn(move || receive(port, "/v1/chat/completions"));
    let (direct_body, direct_arrivals) = receive(direct_port, "/direct");
    let (body, arrivals) = through.join().expect("a stream");

    let expected: String = (0..EVENTS).map(chunk).collect::<String>() + END;
    assert!(body == expected.as_bytes() && direct_body == expected.as_bytes(), "the bytes are not the same");
    let sent = times.lock().expect("no panic");
    let delay = |arrivals: &[Instant], stream: usize, event: usize| -> i64 {
        (arrivals[event] - sent[stream][event]).as_micros().try_into().expect("short")
    };
    let mut added: Vec<i64> = (0..EVENTS)
        .map(|event| delay(&arrivals, THROUGH_GATEWAY, event) - delay(&direct_arrivals, DIRECT, event))
        .collect();
    added.sort_unstable();
    added
}

fn main() {
    println!("added to an event, in microseconds ({EVENTS} events, one in {INTERVAL:?})");
    for round in 1..=ROUNDS {
        for is_tls in [false, true] {
            let added = measure(is_tls);
            let (p50, p99, most) = (added[EVENTS / 2], added[EVENTS * 99 / 100], added[EVENTS - 1]);
            let upstream = if is_tls { "TLS" } else { "plain" };
            println!("round {round}, {upstream:5} upstream: p50 {p50}, p99 {p99}, at most {most}");
        }
    }
}
