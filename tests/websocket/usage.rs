//! The usage of the answers in a tunnel.

use super::frame::{CONTINUATION, Frame, PING, TEXT, asked, text};
use super::{counting, open, sample, samples_of, switched};
use crate::support::{Client, Gateway, Peer, Upstream, wait_until};

const COMPLETED: &str = r#"{"type":"response.completed","response":{"id":"r","model":"gpt-5","usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":40},"output_tokens":50,"output_tokens_details":{"reasoning_tokens":20},"total_tokens":150}}}"#;
const DONE: &str = r#"{"event_id":"e1","type":"response.done","response":{"object":"realtime.response","status":"completed","usage":{"total_tokens":30,"input_tokens":20,"output_tokens":10,"input_token_details":{"cached_tokens":5}}}}"#;
const FAILED: &str = r#"{"type":"response.failed","response":{"id":"r","usage":null,"error":{"code":"server_error"}}}"#;
const DELTA: &str = r#"{"type":"response.output_text.delta","delta":"abcdefgh"}"#;

/// Plays a socket in which the upstream says this after the client's message, and returns the gateway once it is over.
fn played(path: &str, script: impl Fn(&mut Peer) + Send + Sync + 'static) -> (Gateway, String) {
    played_after(path, r#"{"type":"response.create"}"#, script)
}

/// The same, after this message.
fn played_after(path: &str, message: &str, script: impl Fn(&mut Peer) + Send + Sync + 'static) -> (Gateway, String) {
    let upstream = Upstream::plain(switched(move |peer| {
        peer.read_some();
        script(peer);
        peer.read_to_end();
    }));
    let gateway = counting(&upstream).start();
    let mut client = Client::connect(gateway.port());
    open(&mut client, path);
    client.send(asked(message));
    client.read_until(Frame::new(PING, "over").plain());
    client.half_close();
    client.read_to_end();
    let line = gateway.wait_for_log("status=101");
    (gateway, line)
}

fn tokens(gateway: &Gateway, model: &str, kind: &str) -> f64 {
    sample(gateway, &format!(r#"flow_uring_tokens_total{{credential="alpha",model="{model}",kind="{kind}"}}"#))
}

/// Returns all estimated tokens.
fn estimated(gateway: &Gateway) -> f64 {
    samples_of(gateway, "flow_uring_estimated_tokens_total", "kind=")
}

fn over(peer: &mut Peer) {
    peer.write(Frame::new(PING, "over").plain());
}

#[test]
fn several_answers_of_one_socket_add_up() {
    let (gateway, line) = played("/v1/responses", |peer| {
        for _ in 0..3 {
            peer.write([text(DELTA), text(COMPLETED)].concat());
        }
        over(peer);
    });
    for part in ["model=gpt-5", "tokens_in=300", "tokens_out=150", "tokens_cached=120", "tokens_reasoning=60"] {
        assert!(line.contains(part), "{line}");
    }
    wait_until("they are told", || tokens(&gateway, "gpt-5", "input") == 300.0);
    assert_eq!(tokens(&gateway, "gpt-5", "output"), 150.0);
    assert_eq!(sample(&gateway, "flow_uring_answers_without_usage_total"), 0.0);
}

#[test]
fn an_answer_in_fragments_between_pings_is_read() {
    let (_gateway, line) = played("/v1/realtime?model=gpt-realtime", |peer| {
        let (head, rest) = DONE.split_at(40);
        let frames = [
            Frame::part(TEXT, head).plain(),
            Frame::new(PING, "x").plain(),
            Frame::part(CONTINUATION, "").plain(),
            Frame::new(CONTINUATION, rest).plain(),
        ];
        for byte in frames.concat().chunks(3) {
            peer.write(byte);
        }
        over(peer);
    });
    for part in ["model=gpt-realtime", "tokens_in=20", "tokens_out=10", "tokens_cached=5"] {
        assert!(line.contains(part), "{line}");
    }
}

#[test]
fn an_answer_that_has_not_ended_with_its_socket_counts_by_its_length() {
    let (gateway, line) = played("/v1/responses", |peer| {
        peer.write([text(COMPLETED), text(DELTA), text(DELTA)].concat());
        over(peer);
    });
    assert!(line.contains("tokens_in=100 tokens_out=50"), "{line}");
    wait_until("it is told", || sample(&gateway, "flow_uring_answers_without_usage_total") == 1.0);
    assert_eq!(estimated(&gateway), 4.0, "two texts of 8 bytes");
}

#[test]
fn an_answer_that_ends_without_usage_counts_by_its_length_and_not_in_the_next_one() {
    let message = r#"{"type":"response.create","x":"0123456789"}"#;
    let (gateway, line) = played_after("/v1/responses", message, |peer| {
        peer.write([text(DELTA), text(FAILED), text(DELTA), text(COMPLETED)].concat());
        over(peer);
    });
    assert!(line.contains("tokens_in=100 tokens_out=50"), "{line}");
    wait_until("it is told", || sample(&gateway, "flow_uring_answers_without_usage_total") == 1.0);
    assert_eq!(estimated(&gateway), (message.len().div_ceil(4) + 2) as f64);
}

#[test]
fn who_leaves_pays_for_what_was_asked_and_for_audio_by_a_measure_of_its_own() {
    let audio = format!(r#"{{"type":"input_audio_buffer.append","audio":"{}"}}"#, "A".repeat(4000));
    let session = r#"{"type":"session.update","session":{}}"#;
    let create = r#"{"type":"response.create"}"#;
    let asked_bytes = session.len() + create.len() + 2 * audio.len() / 128;
    for (last, expected) in [(None, 0), (Some(create), asked_bytes.div_ceil(4))] {
        let upstream = Upstream::plain(switched(|peer| _ = peer.read_to_end()));
        let gateway = counting(&upstream).start();
        let mut client = Client::connect(gateway.port());
        open(&mut client, "/v1/realtime");
        client.send([asked(session), asked(&audio), asked(&audio), last.map(asked).unwrap_or_default()].concat());
        client.half_close();
        client.read_to_end();
        gateway.wait_for_log("status=101");
        let count = if last.is_some() { 1.0 } else { 0.0 };
        assert_eq!(sample(&gateway, "flow_uring_answers_without_usage_total"), count);
        assert_eq!(estimated(&gateway), expected as f64);
    }
}

#[test]
fn frames_that_break_the_protocol_end_the_reading_and_not_the_tunnel() {
    let (gateway, line) = played("/v1/responses", |peer| {
        peer.write([text(COMPLETED), Frame::new(TEXT, "x").with_first(0xC1).plain(), text(COMPLETED)].concat());
        over(peer);
    });
    assert!(line.contains("tokens_in=100 tokens_out=50"), "{line}");
    assert!(line.contains("end=ok"), "{line}");
    wait_until("it is told", || sample(&gateway, "flow_uring_answers_without_usage_total") == 1.0);
}

#[test]
fn a_socket_without_answers_has_no_usage() {
    let (gateway, line) = played("/v1/realtime", |peer| {
        peer.write(text(r#"{"type":"session.created","session":{"model":"x"}}"#));
        over(peer);
    });
    assert!(!line.contains("tokens_in"), "{line}");
    assert_eq!(sample(&gateway, "flow_uring_answers_without_usage_total"), 0.0);
}
