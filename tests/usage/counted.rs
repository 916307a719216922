//! Usage that answers report.

use crate::support::{Client, Upstream};
use crate::{answering, before, expect_usage, post, streamed, whole};

const CHAT: &str = r#"{"messages":[{"role":"user","content":"hi"}],"model":"gpt-4o"}"#;

const CHAT_USAGE: &str = r#"{"prompt_tokens":12,"completion_tokens":5,"total_tokens":17,"prompt_tokens_details":{"cached_tokens":4},"completion_tokens_details":{"reasoning_tokens":2}}"#;

/// What is shown of [`CHAT_USAGE`].
const OF_CHAT: [&str; 5] = [
    "answers_without_usage_total 0",
    r#"tokens_total{credential="alpha",model="gpt-4o",kind="cache_read"} 4"#,
    r#"tokens_total{credential="alpha",model="gpt-4o",kind="input"} 12"#,
    r#"tokens_total{credential="alpha",model="gpt-4o",kind="output"} 5"#,
    r#"tokens_total{credential="alpha",model="gpt-4o",kind="reasoning"} 2"#,
];

#[test]
fn a_whole_answer_is_counted_by_credential_and_the_model_asked_for() {
    let body = format!(r#"{{"id":"x","model":"gpt-4o-2024-11-20","choices":[],"usage":{CHAT_USAGE}}}"#);
    let upstream = Upstream::tls(answering(whole("", &body)));
    let gateway = before(&upstream).start();
    Client::connect(gateway.port()).ask(post("/v1/chat/completions", CHAT));
    expect_usage(&gateway, &OF_CHAT);
    let line = gateway.wait_for_log(r#"exchange"#);
    for part in ["model=gpt-4o ", "tokens_in=12 ", "tokens_out=5 ", "tokens_cached=4 ", "tokens_reasoning=2"] {
        assert!(format!("{line} ").contains(part), "{part} is missing: {line}");
    }
}

#[test]
fn the_last_usage_of_a_stream_counts_whoever_relays_it() {
    let events = [
        r#"{"object":"chat.completion.chunk","model":"x","choices":[{"delta":{"content":"a"}}],"usage":null}"#,
        r#"{"object":"chat.completion.chunk","model":"x","choices":[{"delta":{"content":"b"}}],"usage":null}"#,
        &format!(r#"{{"object":"chat.completion.chunk","model":"x","choices":[],"usage":{CHAT_USAGE}}}"#),
        "[DONE]",
    ];
    let upstream = Upstream::plain(answering(streamed(&events)));
    for pump in ["always", "never"] {
        let gateway = before(&upstream).env("FLOW_PROXY_PUMP", pump).start();
        Client::connect(gateway.port()).ask(post("/v1/chat/completions", CHAT));
        expect_usage(&gateway, &OF_CHAT);
    }
}

#[test]
fn the_counts_of_a_message_are_its_last_ones_and_never_a_sum() {
    let events = [
        r#"{"type":"message_start","message":{"model":"claude","usage":{"input_tokens":10,"cache_creation_input_tokens":3,"cache_read_input_tokens":7,"output_tokens":1}}}"#,
        r#"{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"hello"}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":null},"usage":{"output_tokens":15}}"#,
        r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":42}}"#,
        r#"{"type":"message_stop"}"#,
    ];
    let upstream = Upstream::plain(answering(streamed(&events)));
    let gateway = before(&upstream).start();
    Client::connect(gateway.port()).ask(post("/v1/messages", r#"{"model":"claude-alias","stream":true}"#));
    expect_usage(
        &gateway,
        &[
            "answers_without_usage_total 0",
            r#"tokens_total{credential="alpha",model="claude-alias",kind="cache_read"} 7"#,
            r#"tokens_total{credential="alpha",model="claude-alias",kind="cache_write"} 3"#,
            r#"tokens_total{credential="alpha",model="claude-alias",kind="input"} 20"#,
            r#"tokens_total{credential="alpha",model="claude-alias",kind="output"} 42"#,
        ],
    );
}

#[test]
fn a_cost_that_the_upstream_tells_is_reported_and_logged() {
    let body = format!(r#"{{"choices":[],"usage":{CHAT_USAGE}}}"#);
    let upstream = Upstream::plain(answering(whole("x-litellm-response-cost: 1.25e-05\r\n", &body)));
    let gateway = before(&upstream).start();
    let response = Client::connect(gateway.port()).ask(post("/v1/chat/completions", CHAT));
    assert_eq!(response.field("x-litellm-response-cost"), Some("1.25e-05"));
    let cost = r#"cost_usd_total{credential="alpha",model="gpt-4o",source="reported"} 0.0000125"#;
    expect_usage(&gateway, &[&OF_CHAT[..1], &[cost], &OF_CHAT[1..]].concat());
    let line = gateway.wait_for_log("cost_usd=");
    assert!(line.contains("cost_usd=0.0000125"), "{line}");
}

#[test]
fn answers_to_the_holder_of_a_key_are_counted_by_its_name() {
    let body = format!(r#"{{"choices":[],"usage":{CHAT_USAGE}}}"#);
    let upstream = Upstream::plain(answering(whole("", &body)));
    let gateway = before(&upstream).env("FLOW_PROXY_API_KEYS", "ann:ann-secret-key,bob:bob-secret-key").start();
    let mut client = Client::connect(gateway.port());
    let request = post("/v1/chat/completions", CHAT).replacen("Host:", "x-api-key: ann-secret-key\r\nHost:", 1);
    (0..3).for_each(|_| assert_eq!(client.ask(&request).status, 200));
    expect_usage(
        &gateway,
        &[
            "answers_without_usage_total 0",
            r#"key_tokens_total{key="ann",kind="cache_read"} 12"#,
            r#"key_tokens_total{key="ann",kind="input"} 36"#,
            r#"key_tokens_total{key="ann",kind="output"} 15"#,
            r#"key_tokens_total{key="ann",kind="reasoning"} 6"#,
            r#"tokens_total{credential="alpha",model="gpt-4o",kind="cache_read"} 12"#,
            r#"tokens_total{credential="alpha",model="gpt-4o",kind="input"} 36"#,
            r#"tokens_total{credential="alpha",model="gpt-4o",kind="output"} 15"#,
            r#"tokens_total{credential="alpha",model="gpt-4o",kind="reasoning"} 6"#,
        ],
    );
}

#[test]
fn what_generates_nothing_and_what_fails_is_not_counted() {
    let models = r#"{"object":"list","data":[]}"#;
    let upstream = Upstream::plain(|peer| {
        while let Some(request) = peer.read_request() {
            if request.path().ends_with("/models") {
                peer.write(whole("", r#"{"object":"list","data":[]}"#));
            } else {
                peer.write("HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}");
            }
        }
    });
    let gateway = before(&upstream).start();
    let mut client = Client::connect(gateway.port());
    assert_eq!(client.ask("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").text(), models);
    assert_eq!(client.ask(post("/v1/chat/completions", CHAT)).status, 400);
    gateway.wait_for_log_count("exchange", 2);
    expect_usage(&gateway, &["answers_without_usage_total 0"]);
    assert_eq!(gateway.count_log("model="), 0);
}

#[test]
fn what_reads_an_answer_again_is_not_counted_again() {
    let body = format!(r#"{{"id":"resp_1","object":"response","status":"completed","usage":{CHAT_USAGE}}}"#);
    let upstream = Upstream::plain(answering(whole("x-litellm-response-cost: 0.1\r\n", &body)));
    let gateway = before(&upstream).start();
    let mut client = Client::connect(gateway.port());
    for request in [
        "GET /v1/responses/resp_1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        post("/v1/responses/resp_1/cancel", "{}"),
        "GET /v1/batches/batch_1 HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
    ] {
        assert_eq!(client.ask(request).status, 200);
    }
    gateway.wait_for_log_count("exchange id", 3);
    expect_usage(&gateway, &["answers_without_usage_total 0"]);
}

#[test]
fn a_client_that_leaves_at_the_last_event_has_had_an_answer_with_its_usage() {
    let upstream = Upstream::plain(|peer| {
        peer.read_request();
        let stream = streamed(&[
            &format!(r#"{{"object":"chat.completion.chunk","choices":[],"usage":{CHAT_USAGE}}}"#),
            "[DONE]",
        ]);
        // The body does not end.
        peer.write(stream.strip_suffix("0\r\n\r\n").expect("the last chunk"));
        peer.read_head();
    });
    for pump in ["always", "never"] {
        let gateway = before(&upstream).env("FLOW_PROXY_PUMP", pump).start();
        let mut client = Client::connect(gateway.port());
        client.send(post("/v1/chat/completions", CHAT));
        client.read_until("[DONE]\n\n\r\n");
        client.close();
        gateway.wait_for_log("end=ok");
        expect_usage(&gateway, &OF_CHAT);
    }
}
