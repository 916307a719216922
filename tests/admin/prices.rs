//! The prices of models, as the metrics page and the log tell of them.

use std::time::Instant;

use crate::page;
use crate::support::{Client, DEADLINE, Gateway};

/// Returns the number of models that have a price.
fn models(gateway: &Gateway) -> u64 {
    let text = page(gateway.admin_port(), "/metrics").text();
    let value = text.lines().find_map(|line| line.strip_prefix("flow_uring_prices_models "));
    value.expect("the gauge").parse().expect("a number")
}

#[test]
fn the_upstream_is_asked_for_its_prices_once_a_request_was_served_and_not_before() {
    let builder = Gateway::builder().switch("demo").arg("--admin", "127.0.0.1:0");
    let gateway = builder.env("FLOW_PROXY_PRICES", "").start();
    let ask = |path: &str, body: &str| {
        let length = body.len();
        let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
        Client::connect(gateway.port()).ask(head + body).status
    };
    assert_eq!(models(&gateway), 0);
    assert_eq!(ask("/v1/nothing", "{}"), 404);
    assert_eq!(models(&gateway), 0, "that was no success");
    for _ in 0..3 {
        assert_eq!(ask("/v1/embeddings", r#"{"model": "text-embedding-3-small", "input": "Hello"}"#), 200);
    }
    let line = gateway.wait_for_log("the upstream told the prices of its models");
    assert!(line.contains("models=4") && line.contains("several_prices=0"), "{line}");
    let until = Instant::now() + DEADLINE;
    while models(&gateway) != 4 {
        assert!(Instant::now() < until, "the page does not tell the prices");
    }
    gateway.expect_log_count("the upstream told the prices of its models", 1);
}
