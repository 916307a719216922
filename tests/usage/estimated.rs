//! Answers that report no usage, or of which nobody can know whether they would have.

use crate::support::{Client, Upstream};
use crate::{answering, before, expect_usage, post, streamed, whole};

/// 40 bytes: an estimate of 10 tokens.
const REQUEST: &str = r#"{"model":"m","messages":[],"stream":1  }"#;

/// Text of 8 bytes, 2 tokens.
const EVENT: &str = r#"{"object":"chat.completion.chunk","choices":[{"delta":{"content":"12345678"}}]}"#;

const USAGE_EVENT: &str =
    r#"{"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":1000,"completion_tokens":1000}}"#;

/// What is shown of one answer of so many tokens.
fn expect_estimate(gateway: &crate::support::Gateway, output: u64) {
    let of = |kind: &str, count: u64| {
        format!(r#"estimated_tokens_total{{credential="alpha",model="m",kind="{kind}"}} {count}"#)
    };
    let (input, output) = (of("input", 10), of("output", output));
    expect_usage(gateway, &["answers_without_usage_total 1", &input, &output]);
}

#[test]
fn a_stream_that_tells_none_is_estimated_by_its_text() {
    let upstream = Upstream::plain(answering(streamed(&[EVENT, EVENT, EVENT, "[DONE]"])));
    for pump in ["always", "never"] {
        let gateway = before(&upstream).env("FLOW_PROXY_PUMP", pump).start();
        Client::connect(gateway.port()).ask(post("/v1/chat/completions", REQUEST));
        expect_estimate(&gateway, 6);
    }
}

#[test]
fn an_answer_with_a_content_coding_is_estimated_by_its_length() {
    let upstream = Upstream::plain(answering(whole("Content-Encoding: gzip\r\n", &"x".repeat(100))));
    let gateway = before(&upstream).start();
    Client::connect(gateway.port()).ask(post("/v1/chat/completions", REQUEST));
    expect_estimate(&gateway, 25);
}

#[test]
fn a_stream_that_breaks_is_estimated_even_if_it_told_some() {
    let upstream = Upstream::plain(|peer| {
        peer.read_request();
        let stream = streamed(&[EVENT, EVENT, USAGE_EVENT]);
        peer.write(stream.strip_suffix("0\r\n\r\n").expect("the last chunk"));
    });
    for pump in ["always", "never"] {
        let gateway = before(&upstream).env("FLOW_PROXY_PUMP", pump).start();
        Client::connect(gateway.port()).ask(post("/v1/chat/completions", REQUEST));
        expect_estimate(&gateway, 4);
    }
}

#[test]
fn a_client_that_leaves_is_charged_what_came_until_then() {
    let upstream = Upstream::plain(|peer| {
        peer.read_request();
        let stream = streamed(&[EVENT, EVENT]);
        peer.write(stream.strip_suffix("0\r\n\r\n").expect("the last chunk"));
        peer.read_head();
    });
    for pump in ["always", "never"] {
        let gateway = before(&upstream).env("FLOW_PROXY_PUMP", pump).start();
        let mut client = Client::connect(gateway.port());
        client.send(post("/v1/chat/completions", REQUEST));
        (0..2).for_each(|_| drop(client.read_until("12345678\"}}]}\n\n\r\n")));
        client.close();
        gateway.wait_for_log("client_disconnected");
        expect_estimate(&gateway, 4);
    }
}

#[test]
fn a_client_that_leaves_before_the_answer_is_charged_its_request() {
    let upstream = Upstream::plain(|peer| {
        peer.read_request();
        peer.read_head();
    });
    let gateway = before(&upstream).start();
    let mut client = Client::connect(gateway.port());
    client.send(post("/v1/chat/completions", REQUEST));
    upstream.wait_for_requests(1);
    client.close();
    gateway.wait_for_log("client_disconnected");
    expect_usage(
        &gateway,
        &["answers_without_usage_total 1", r#"estimated_tokens_total{credential="alpha",model="",kind="input"} 10"#],
    );
}

#[test]
fn vectors_are_no_tokens() {
    let upstream = Upstream::plain(answering(whole("", r#"{"data":[{"embedding":[0.1,0.2,0.3,0.4,0.5,0.6]}]}"#)));
    let gateway = before(&upstream).start();
    Client::connect(gateway.port()).ask(post("/v1/embeddings", REQUEST));
    expect_usage(
        &gateway,
        &["answers_without_usage_total 1", r#"estimated_tokens_total{credential="alpha",model="m",kind="input"} 10"#],
    );
}
