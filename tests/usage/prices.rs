//! Costs that are estimated, by the prices of a file or of the upstream.

use std::io::Write;

use crate::support::{Client, Upstream};
use crate::{answering, before, expect_usage, post, whole};

const ANSWER: &str = r#"{"usage":{"prompt_tokens":100,"completion_tokens":10}}"#;

const MODEL_INFO: &str = r#"{"data":[{"model_name":"m","litellm_params":{"model":"openai/m"},
    "model_info":{"input_cost_per_token":2e-06,"output_cost_per_token":8e-06}}]}"#;

/// What is shown of two answers at these prices.
const OF_TWO: [&str; 4] = [
    "answers_without_usage_total 0",
    r#"cost_usd_total{credential="alpha",model="m",source="estimated"} 0.00056"#,
    r#"tokens_total{credential="alpha",model="m",kind="input"} 200"#,
    r#"tokens_total{credential="alpha",model="m",kind="output"} 20"#,
];

const REQUEST: &str = r#"{"model":"m"}"#;

#[test]
fn a_file_of_prices_tells_what_an_answer_cost_and_sighup_reads_it_anew() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    write!(file, r#"{{"m": {{"input_cost_per_token": 2e-6, "output_cost_per_token": "8e-6"}}}}"#).expect("written");
    let upstream = Upstream::plain(answering(whole("", ANSWER)));
    let gateway = before(&upstream).arg("--prices", file.path().to_str().expect("a readable path")).start();
    let mut client = Client::connect(gateway.port());
    (0..2).for_each(|_| drop(client.ask(post("/v1/chat/completions", REQUEST))));
    expect_usage(&gateway, &OF_TWO);
    gateway.wait_for_log("cost_usd=~0.00028");
    std::fs::write(file.path(), r#"{"m": {"input_cost_per_token": 1e-6, "output_cost_per_token": 1e-6}}"#)
        .expect("written");
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_log("the file of prices was loaded anew");
    client.ask(post("/v1/chat/completions", REQUEST));
    gateway.wait_for_log("cost_usd=~0.00011");
    std::fs::write(file.path(), "{").expect("written");
    gateway.signal(libc::SIGHUP);
    gateway.wait_for_log("the prices loaded before stay in use");
    client.ask(post("/v1/chat/completions", REQUEST));
    gateway.wait_for_log_count("cost_usd=~0.00011", 2);
}

#[test]
fn the_upstream_is_asked_for_prices_once_an_answer_told_tokens_without_a_cost() {
    let upstream = Upstream::plain(|peer| {
        while let Some(request) = peer.read_request() {
            match request.path().rsplit_once('/') {
                Some((_, "info")) => peer.write(whole("", MODEL_INFO)),
                Some((_, "completions")) => peer.write(whole("", ANSWER)),
                _ => peer.write(whole("x-litellm-response-cost: 0.5\r\n", ANSWER)),
            };
        }
    });
    let secrets = crate::support::secrets_json(&["one", "two"]);
    let gateway = before(&upstream).secrets(secrets).env("FLOW_PROXY_PRICES", "").start();
    let mut client = Client::connect(gateway.port());
    client.ask(post("/v1/messages", REQUEST));
    gateway.wait_for_log("cost_usd=0.5");
    assert_eq!(upstream.requests().len(), 1, "a cost that is reported needs no price");
    (0..3).for_each(|_| drop(client.ask(post("/v1/chat/completions", REQUEST))));
    gateway.wait_for_log("the upstream told the prices of its models");
    client.ask(post("/v1/chat/completions", REQUEST));
    gateway.wait_for_log("cost_usd=~0.00028");
    let questions: Vec<_> =
        upstream.requests().into_iter().filter(|request| request.path().ends_with("/model/info")).collect();
    let asked: Vec<(&str, String)> =
        questions.iter().map(|question| (question.path(), question.credential())).collect();
    assert_eq!(asked, [("/flow-llm-proxy/model/info", "one".to_owned())]);
}

#[test]
fn answers_without_usage_have_an_estimated_cost_too() {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    write!(file, r#"{{"m": {{"input_cost_per_token": 1, "output_cost_per_token": 1}}}}"#).expect("written");
    let upstream = Upstream::plain(answering(whole("", r#"{"choices":[]}"#)));
    let path = file.path().to_str().expect("a readable path");
    let (code, log) = before(&upstream).arg("--prices", path).run_to_end();
    assert!(code == Some(1) && log.contains("input_cost_per_token"), "a dollar a token is a mistake: {log}");
    std::fs::write(file.path(), r#"{"m": {"input_cost_per_token": 0.001, "output_cost_per_token": 0.001}}"#)
        .expect("written");
    let gateway = before(&upstream).arg("--prices", path).start();
    Client::connect(gateway.port()).ask(post("/v1/chat/completions", REQUEST));
    // 13 bytes are 4 tokens, 14 are 4 too.
    expect_usage(
        &gateway,
        &[
            "answers_without_usage_total 1",
            r#"cost_usd_total{credential="alpha",model="m",source="estimated"} 0.008"#,
            r#"estimated_tokens_total{credential="alpha",model="m",kind="input"} 4"#,
            r#"estimated_tokens_total{credential="alpha",model="m",kind="output"} 4"#,
        ],
    );
}
