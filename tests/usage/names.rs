//! The names that usage is counted by.

use crate::support::{Client, Upstream};
use crate::{answering, before, post, samples, whole};

#[test]
fn at_most_two_hundred_models_are_told_apart() {
    let upstream = Upstream::plain(answering(whole("", r#"{"usage":{"prompt_tokens":1,"completion_tokens":1}}"#)));
    let gateway = before(&upstream).start();
    let mut client = Client::connect(gateway.port());
    for number in 0..230 {
        client.ask(post("/v1/chat/completions", &format!(r#"{{"model":"model-{number}"}}"#)));
    }
    gateway.wait_for_log_count("model=", 230);
    let inputs = samples(&gateway, |line| line.starts_with("flow_uring_tokens_total{") && line.contains("\"input\""));
    let other = inputs.iter().filter(|(name, _)| name.contains(r#"model="other""#)).map(|(_, count)| count.as_str());
    assert_eq!((inputs.len(), other.collect::<Vec<_>>()), (201, vec!["30"]));
}

#[test]
fn the_model_is_that_of_the_request_or_its_path_and_else_that_of_the_answer() {
    let answer = r#"{"model":"of-the-answer","usage":{"prompt_tokens":1,"completion_tokens":1}}"#;
    let upstream = Upstream::plain(answering(whole("", answer)));
    let gateway = before(&upstream).start();
    let mut client = Client::connect(gateway.port());
    for (path, body, model) in [
        ("/v1/chat/completions", r#"{"tools":[{"model":"inner"}],"model":"outer"}"#, "outer"),
        ("/openai/deployments/deployed/chat/completions", r#"{"messages":[]}"#, "deployed"),
        ("/openai/deployments/deployed/chat/completions", r#"{"x":{"model":"inner"}}"#, "deployed"),
        ("/v1/chat/completions", r#"{"messages":[{"content":"\"model\":\"quoted\""}]}"#, "of-the-answer"),
    ] {
        client.ask(post(path, body));
        gateway.wait_for_log(&format!("model={model} "));
    }
    gateway.expect_log_count("model=deployed ", 2);
}

#[test]
fn the_names_of_opentelemetry_are_beside_ours_where_they_are_asked_for() {
    let upstream = Upstream::plain(answering(whole("", r#"{"usage":{"prompt_tokens":5,"completion_tokens":2}}"#)));
    let is_gen_ai = |line: &str| line.starts_with("gen_ai_");
    let gateway = before(&upstream).start();
    Client::connect(gateway.port()).ask(post("/v1/chat/completions", r#"{"model":"m"}"#));
    gateway.wait_for_log("model=m");
    assert!(samples(&gateway, is_gen_ai).is_empty());
    let gateway = before(&upstream).switch("--otel-names").start();
    Client::connect(gateway.port()).ask(post("/v1/chat/completions", r#"{"model":"m"}"#));
    gateway.wait_for_log("model=m");
    let samples = samples(&gateway, is_gen_ai);
    let labels = r#"gen_ai_operation_name="chat",gen_ai_provider_name="openai",gen_ai_request_model="m""#;
    for (name, value) in [
        (format!(r#"gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="input"}}"#), "5"),
        (format!(r#"gen_ai_client_token_usage_bucket{{{labels},gen_ai_token_type="input",le="4"}}"#), "0"),
        (format!(r#"gen_ai_client_token_usage_bucket{{{labels},gen_ai_token_type="input",le="16"}}"#), "1"),
        (format!(r#"gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="output"}}"#), "2"),
        (format!(r#"gen_ai_client_operation_duration_seconds_count{{{labels}}}"#), "1"),
    ] {
        assert_eq!(samples.get(&name).map(String::as_str), Some(value), "{name} in {samples:#?}");
    }
}

#[test]
fn a_name_that_nothing_is_counted_by_takes_no_place() {
    let upstream = Upstream::plain(|peer| {
        while let Some(request) = peer.read_request() {
            let counts = request.path().ends_with("count_tokens");
            let body = if counts {
                r#"{"input_tokens":1}"#
            } else {
                r#"{"model":"of-the-answer","usage":{"prompt_tokens":1}}"#
            };
            peer.write(whole("", body));
        }
    });
    let gateway = before(&upstream).start();
    let mut client = Client::connect(gateway.port());
    for number in 0..250 {
        client.ask(post("/v1/messages/count_tokens", &format!(r#"{{"model":"model-{number}"}}"#)));
    }
    client.ask(post("/v1/chat/completions", r#"{"model":"the-one"}"#));
    gateway.wait_for_log("model=the-one ");
}
