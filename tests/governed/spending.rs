//! Requests, tokens and cost within a minute, a day and a month, and the ways that there might be around a limit.

use crate::support::{Client, Gate, Gateway, Upstream, wait_until};
use crate::{BODY, CHAT, Files, answering, before, entry, post, post_with, telling, used};

fn ask(gateway: &Gateway, name: &str, path: &str) -> crate::support::Response {
    Client::connect(gateway.port()).ask(post(name, path, BODY))
}

#[test]
fn requests_of_a_minute_are_counted_by_all_shards_together() {
    let upstream = Upstream::plain(answering(telling(2)));
    let files = Files::new();
    let entries = [entry("ana", r#""limits":{"requests_per_minute":10}"#), entry("ben", "")];
    let gateway = before(&upstream, &files, &entries).shards(2).start();
    let statuses: Vec<u16> = (0..16).map(|_| ask(&gateway, "ana", CHAT).status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 10, "{statuses:?}");
    let refused = ask(&gateway, "ana", "/v1/messages");
    let seconds: u64 = refused.field("retry-after").expect("it says when").parse().expect("a number");
    assert!((1..=60).contains(&seconds), "{seconds}");
    assert_eq!(refused.field("x-should-retry"), None);
    assert_eq!(refused.json()["error"]["type"], "rate_limit_error");
    assert!(refused.text().contains("requests_per_minute"));
    assert_eq!(ask(&gateway, "ben", CHAT).status, 200);
    let metric = r#"flow_uring_key_requests_refused_total{key="ana",limit="requests_per_minute"}"#;
    assert_eq!(crate::sample(&gateway, metric), Some(7.0));
}

#[test]
fn tokens_of_a_minute_and_of_a_day_are_those_of_answers_that_have_ended() {
    for (limit, is_long) in [("tokens_per_minute", false), ("tokens_per_day", true)] {
        let upstream = Upstream::plain(answering(telling(60)));
        let files = Files::new();
        let gateway = before(&upstream, &files, &[entry("ana", &format!(r#""limits":{{"{limit}":100}}"#))]).start();
        for count in [60.0, 120.0] {
            assert_eq!(ask(&gateway, "ana", CHAT).status, 200);
            wait_until("it is counted", || used(&gateway, "ana", limit) == Some(count));
        }
        let refused = ask(&gateway, "ana", CHAT);
        assert_eq!((refused.status, refused.error_code()), (429, Some("limit_reached")));
        assert_eq!(refused.field("x-should-retry"), is_long.then_some("false"), "{limit}");
        assert!(refused.text().contains(limit), "{}", refused.text());
        assert_eq!(upstream.requests().len(), 2);
    }
}

#[test]
fn a_stream_that_reaches_the_limit_of_the_day_ends_whole_and_the_next_request_is_refused() {
    let event = |data: &str| format!("{:x}\r\ndata: {data}\n\n\r\n", data.len() + 8);
    let text = r#"{"object":"chat.completion.chunk","choices":[{"delta":{"content":"12345678"}}]}"#;
    let usage =
        r#"{"object":"chat.completion.chunk","choices":[],"usage":{"prompt_tokens":500,"completion_tokens":500}}"#;
    let stream = format!("{}{}{}{}0\r\n\r\n", event(text), event(text), event(usage), event("[DONE]"));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
    for pump in ["always", "never"] {
        let upstream = Upstream::plain(answering(format!("{head}{stream}")));
        let files = Files::new();
        let gateway = before(&upstream, &files, &[entry("ana", r#""limits":{"tokens_per_day":100}"#)])
            .env("FLOW_PROXY_PUMP", pump)
            .start();
        let whole = ask(&gateway, "ana", CHAT);
        assert_eq!(whole.status, 200);
        assert!(whole.text().ends_with("data: [DONE]\n\n"));
        wait_until("it is counted", || used(&gateway, "ana", "tokens_per_day") == Some(1000.0));
        let refused = ask(&gateway, "ana", CHAT);
        assert_eq!((refused.status, refused.field("x-should-retry")), (429, Some("false")));
    }
}

#[test]
fn cost_of_a_day_and_a_month_is_reported_or_estimated_and_survives_a_restart() {
    for limit in ["usd_per_day", "usd_per_month"] {
        let upstream = Upstream::plain(answering(telling(60)));
        let files = Files::new();
        let entries = [entry("ana", &format!(r#""limits":{{"{limit}":0.0001}}"#))];
        let start =
            || before(&upstream, &files, &entries).env("FLOW_PROXY_USAGE_DB", files.path("usage.sqlite")).start();
        let mut gateway = start();
        assert_eq!(ask(&gateway, "ana", CHAT).status, 200);
        wait_until("it is counted", || used(&gateway, "ana", limit).is_some_and(|used| used > 5.9e-5));
        gateway.terminate();
        gateway.wait();
        let gateway = start();
        assert_eq!(ask(&gateway, "ana", CHAT).status, 200);
        wait_until("both are counted", || used(&gateway, "ana", limit).is_some_and(|used| used > 1.19e-4));
        let refused = ask(&gateway, "ana", CHAT);
        assert_eq!((refused.status, refused.field("x-should-retry")), (429, Some("false")));
    }
}

#[test]
fn an_answer_to_a_key_with_limits_on_its_use_has_no_content_coding() {
    let upstream = Upstream::plain(answering(telling(2)));
    let files = Files::new();
    let entries = [entry("ana", r#""limits":{"tokens_per_day":100}"#), entry("ben", r#""limits":{"parallel":1}"#)];
    let gateway = before(&upstream, &files, &entries).start();
    for (name, expected) in [("ana", "identity"), ("ben", "gzip, br")] {
        let request = post_with(name, CHAT, "Accept-Encoding: gzip, br\r\n", BODY);
        assert_eq!(Client::connect(gateway.port()).ask(request).status, 200);
        let requests = upstream.requests();
        let asked = requests.last().expect("a request");
        assert_eq!(asked.head.all("accept-encoding"), [expected], "{name}");
    }
}

#[test]
fn what_tells_no_usage_or_is_left_early_is_charged_its_estimate() {
    let coded =
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 400\r\n\r\n".to_owned() + &"x".repeat(400);
    let silent = "HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n".to_owned() + &"x".repeat(400);
    for answer in [coded, silent] {
        for path in [CHAT, "/v1/chat/completion%73", "/v1/chat/completions/", "/cohere/v2/chat"] {
            let upstream = Upstream::plain(answering(answer.clone()));
            let files = Files::new();
            let limits = r#""limits":{"tokens_per_day":50,"usd_per_day":1}"#;
            let gateway = before(&upstream, &files, &[entry("ana", limits)]).start();
            assert_eq!(ask(&gateway, "ana", path).status, 200);
            wait_until("it is counted", || used(&gateway, "ana", "tokens_per_day").is_some_and(|used| used > 100.0));
            assert!(used(&gateway, "ana", "usd_per_day").is_some_and(|used| used > 1e-4));
            assert_eq!(ask(&gateway, "ana", CHAT).status, 429);
        }
    }
}

#[test]
fn a_client_that_leaves_before_the_answer_or_before_its_usage_is_charged() {
    for has_begun in [false, true] {
        let upstream = Upstream::plain(move |peer| {
            peer.read_request();
            if has_begun {
                let event = r#"data: {"object":"chat.completion.chunk","choices":[{"delta":{"content":"12345678"}}]}"#;
                peer.write("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n");
                peer.write(format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2));
            }
            peer.read_head();
        });
        let files = Files::new();
        let gateway = before(&upstream, &files, &[entry("ana", r#""limits":{"usd_per_day":1}"#)]).start();
        let mut client = Client::connect(gateway.port());
        client.send(post("ana", CHAT, BODY));
        if has_begun {
            client.read_until("12345678\"}}]}\n\n\r\n");
        } else {
            upstream.wait_for_requests(1);
        }
        client.close();
        wait_until("it is charged", || used(&gateway, "ana", "usd_per_day").is_some_and(|used| used > 5e-6));
    }
}

#[test]
fn work_that_is_not_counted_when_its_answer_ends_is_refused() {
    let upstream = Upstream::plain(answering(telling(2)));
    let files = Files::new();
    let entries = [entry("ana", r#""limits":{"tokens_per_day":100}"#), entry("ben", r#""limits":{"parallel":9}"#)];
    let gateway = before(&upstream, &files, &entries).start();
    for (path, body) in [
        ("/v1/batches", "{}"),
        ("/v1/batche%73", "{}"),
        ("/v1/messages/batches", r#"{"requests":[]}"#),
        ("/v1/threads/t/runs", r#"{"model":"m"}"#),
        ("/v1/responses", r#"{"model":"m","background":true}"#),
        ("/v1/responses", r#"{"model":"m","back\u0067round":1,"background":false}"#),
    ] {
        let request = |name| post(name, path, body);
        let refused = Client::connect(gateway.port()).ask(request("ana"));
        assert_eq!((refused.status, refused.error_code()), (403, Some("use_not_counted")), "{path} {body}");
        assert_eq!(Client::connect(gateway.port()).ask(request("ben")).status, 200, "{path} {body}");
    }
    assert_eq!(ask(&gateway, "ana", "/v1/files").status, 200);
}

#[test]
fn a_model_without_a_price_is_refused_where_cost_is_limited() {
    let upstream = Upstream::plain(answering(telling(2)));
    let files = Files::new();
    let gateway = before(&upstream, &files, &[entry("ana", r#""limits":{"usd_per_month":1}"#)]).start();
    for body in [r#"{"model":"other"}"#, "{}", r#"{"model":"other","model":"other"}"#] {
        let refused = Client::connect(gateway.port()).ask(post("ana", CHAT, body));
        assert_eq!((refused.status, refused.error_code()), (403, Some("model_without_price")), "{body}");
    }
    for body in [
        r#"{"model":"m","model":"n"}"#,
        r#"{"model":"m,n"}"#,
        r#"{"model":"m","fallbacks":["n"]}"#,
        "model=m",
        r#"{"model":"m","input_cost_per_token":1e-30}"#,
        r#"{"model":"m","metadata":{"model_info":{"input_cost_per_token":1e-30}}}"#,
    ] {
        let refused = Client::connect(gateway.port()).ask(post("ana", CHAT, body));
        assert_eq!((refused.status, refused.error_code()), (403, Some("model_not_allowed")), "{body}");
    }
    assert_eq!(ask(&gateway, "ana", CHAT).status, 200);
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn the_prices_of_the_upstream_are_asked_for_before_the_first_request_that_needs_them() {
    let list =
        r#"{"data":[{"model_name":"m","model_info":{"input_cost_per_token":1e-6,"output_cost_per_token":1e-6}}]}"#;
    for (status, expected) in [(200, (200, None)), (403, (503, Some("prices_unknown")))] {
        let upstream = Upstream::plain(move |peer| {
            while let Some(request) = peer.read_request() {
                let (status, body) = if request.path().contains("model/info") { (status, list) } else { (200, "{}") };
                peer.write(format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n{body}", body.len()));
            }
        });
        let files = Files::new();
        let gateway = before(&upstream, &files, &[entry("ana", r#""limits":{"usd_per_day":1}"#)])
            .env("FLOW_PROXY_PRICES", "")
            .start();
        let answer = ask(&gateway, "ana", CHAT);
        assert_eq!((answer.status, answer.error_code()), expected);
    }
}

#[test]
fn keys_with_limits_on_tokens_alone_may_send_forms_and_what_costs_nothing_is_free() {
    let upstream = Upstream::plain(answering("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_owned()));
    let files = Files::new();
    let gateway = before(&upstream, &files, &[entry("ana", r#""limits":{"tokens_per_day":1000}"#)]).start();
    let fields = "Content-Type: multipart/form-data; boundary=x\r\n";
    let form = post_with("ana", "/v1/audio/transcriptions", fields, "--x--");
    assert_eq!(Client::connect(gateway.port()).ask(form).status, 200);
    wait_until("its estimate counts", || used(&gateway, "ana", "tokens_per_day").is_some_and(|used| used > 0.0));
    let counted = used(&gateway, "ana", "tokens_per_day");
    assert_eq!(ask(&gateway, "ana", "/v1/messages/count_tokens").status, 200);
    assert_eq!(ask(&gateway, "ana", "/v1/files").status, 200);
    assert_eq!(used(&gateway, "ana", "tokens_per_day"), counted);
}

#[test]
fn a_limit_that_was_reached_while_a_request_waited_holds_for_it() {
    let gate = Gate::new();
    let passing = gate.clone();
    let upstream = Upstream::plain(move |peer| {
        while peer.read_request().is_some() {
            passing.pass();
            peer.write(telling(600));
        }
    });
    let files = Files::new();
    let limits = r#""limits":{"parallel":1,"tokens_per_day":500}"#;
    let gateway = before(&upstream, &files, &[entry("ana", limits)]).start();
    let send = || {
        let mut client = Client::connect(gateway.port());
        client.send(post("ana", CHAT, BODY));
        client
    };
    let mut first = send();
    upstream.wait_for_requests(1);
    let mut second = send();
    let waiting = r#"flow_uring_key_requests_waiting{key="ana"}"#;
    wait_until("it waits", || crate::sample(&gateway, waiting) == Some(1.0));
    gate.open();
    assert_eq!(first.read_response().status, 200);
    assert_eq!(second.read_response().error_code(), Some("limit_reached"));
    assert_eq!(upstream.requests().len(), 1);
}
