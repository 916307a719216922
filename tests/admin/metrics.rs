//! The metrics page: Prometheus can read it, and its figures are right.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::Stdio;
use std::time::Instant;

use crate::support::{
    Client, DEADLINE, GET, Gateway, Peer, Response, Running, Upstream, answer, command, json, secrets_json,
    skip_but_not_on_ci,
};
use crate::{before, wait_for_page};

/// Returns every sample of a page for which no shard was held up, by its name with its labels.
fn samples(gateway: &Gateway) -> BTreeMap<String, f64> {
    let all_answer = |page: &Response| {
        let text = page.text();
        let value = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
        value("flow_uring_shards ").is_some_and(|count| value("flow_uring_shards_answering ") == Some(count))
    };
    let response = wait_for_page(gateway.admin_port(), "/metrics", all_answer);
    assert_eq!(response.status, 200);
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("not a number: {line}")))
    };
    response.text().lines().filter(|line| !line.starts_with('#')).map(sample).collect()
}

/// Waits until the page says so, and asks once more: a page is written while shards go on, so that one number of it may
/// be older than another.
fn wait_for(gateway: &Gateway, what: &str, is_so: impl Fn(&BTreeMap<String, f64>) -> bool) -> BTreeMap<String, f64> {
    let until = Instant::now() + DEADLINE;
    loop {
        let samples = samples(gateway);
        if is_so(&samples) {
            return self::samples(gateway);
        }
        assert!(Instant::now() < until, "not {what}: {samples:#?}");
    }
}

/// Sums the samples of a name over all labels.
fn sum_of(samples: &BTreeMap<String, f64>, name: &str) -> f64 {
    let is_of_family = |(found, _): &(&String, &f64)| found.split('{').next() == Some(name);
    samples.iter().filter(is_of_family).map(|(_, value)| value).sum()
}

fn request(path: &str) -> String {
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 4\r\n\r\n1234")
}

/// Answers by the path that was asked for, and by who asks.
fn by_path(peer: &mut Peer) {
    while let Some(request) = peer.read_request() {
        let limits = request.path().ends_with("/embeddings") && request.credential() == "b";
        let answer = match request.path().rsplit('/').next() {
            Some("completions") => "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanswer.",
            Some("messages") => "HTTP/1.1 401 No\r\nContent-Length: 2\r\n\r\n{}",
            Some("embeddings") if limits => "HTTP/1.1 429 No\r\nRetry-After: 3000\r\nContent-Length: 2\r\n\r\n{}",
            Some("embeddings") => "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nanswer.",
            _ => return peer.wait_for_close(),
        };
        peer.write(answer);
    }
}

#[test]
fn the_counts_are_those_of_what_happened() {
    let upstream = Upstream::plain(by_path);
    // No idle connection is closed before it is counted.
    let gateway = before(&upstream).arg("--upstream-idle-timeout", "600");
    let mut gateway = gateway.secrets(secrets_json(&["a", "b"])).start();
    let ask = |request: &str| Client::connect(gateway.port()).ask(request);
    for _ in 0..4 {
        assert_eq!(ask(&request("/v1/chat/completions")).status, 200);
    }
    assert_eq!(ask(&request("/v1/messages")).status, 401);
    assert_eq!(ask(&request("/v1/embeddings")).status, 200);
    assert_eq!(ask("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
    assert_eq!(ask("GET http://example.com/ HTTP/1.1\r\nHost: example.com\r\n\r\n").status, 403);
    let mut leaving = Client::connect(gateway.port());
    leaving.send(request("/v1/responses"));
    upstream.wait_for_requests(9);
    // For the gateway the exchange before may not be over at once.
    wait_for(&gateway, "one under way", |samples| samples["flow_uring_exchanges_in_flight"] == 1.0);
    leaving.reset();
    let is_over = |samples: &BTreeMap<String, f64>| {
        samples["flow_uring_exchanges_in_flight"] == 0.0 && samples["flow_uring_downstream_connections"] == 0.0
    };
    let samples = wait_for(&gateway, "over", is_over);

    for (name, expected) in [
        // The credential of the last attempt, so b of the request that both were refused for.
        (r#"flow_uring_requests_total{class="2xx",credential="a"}"#, 3),
        (r#"flow_uring_requests_total{class="2xx",credential="b"}"#, 2),
        (r#"flow_uring_requests_total{class="4xx",credential="b"}"#, 1),
        (r#"flow_uring_requests_total{class="none",credential="a"}"#, 1),
        (r#"flow_uring_requests_total{class="2xx",credential=""}"#, 1),
        (r#"flow_uring_requests_total{class="4xx",credential=""}"#, 1),
        (r#"flow_uring_exchanges_ended_total{end="ok"}"#, 7),
        (r#"flow_uring_exchanges_ended_total{end="refused"}"#, 1),
        (r#"flow_uring_exchanges_ended_total{end="client_disconnected"}"#, 1),
        (r#"flow_uring_errors_total{code="not_an_open_proxy"}"#, 1),
        ("flow_uring_forwarded_requests_total", 7),
        ("flow_uring_attempts_total", 9),
        (r#"flow_uring_retries_total{reason="refused"}"#, 1),
        (r#"flow_uring_retries_total{reason="rate_limited"}"#, 1),
        ("flow_uring_retries_suppressed_total", 0),
        ("flow_uring_credential_cooldowns_total", 1),
        (r#"flow_uring_credential_up{credential="a"}"#, 1),
        (r#"flow_uring_credential_up{credential="b"}"#, 1),
        (r#"flow_uring_credential_cooldown_seconds{credential="b"}"#, 0),
        (r#"flow_uring_credential_scoped_rests{credential="b",reason="rate_limited",scope="path_family"}"#, 1),
        ("flow_uring_credential_checks_total", 0),
        ("flow_uring_limited_for_all", 0),
        ("flow_uring_upstream_connections_stale_total", 0),
        ("flow_uring_request_body_bytes_total", 7 * 4),
        ("flow_uring_response_body_bytes_total", 5 * 7 + 2),
        ("flow_uring_time_to_first_byte_seconds_count", 6),
        ("flow_uring_request_duration_seconds_count", 7),
        (r#"flow_uring_request_duration_seconds_bucket{le="600"}"#, 7),
        ("flow_uring_shards", 2),
        ("flow_uring_shards_answering", 2),
        (r#"flow_uring_log_lines_dropped_total{output="stderr"}"#, 0),
    ] {
        assert_eq!(samples.get(name), Some(&f64::from(expected)), "{name}: {samples:#?}");
    }
    for (family, expected) in [
        ("flow_uring_requests_total", 9),
        ("flow_uring_exchanges_ended_total", 9),
        ("flow_uring_errors_total", 1),
        ("flow_uring_retries_total", 2),
    ] {
        assert_eq!(sum_of(&samples, family), f64::from(expected), "{family}: {samples:#?}");
    }
    let of = |name: &str| samples[&format!("flow_uring_upstream_connections_{name}")];
    assert_eq!(of("opened_total"), upstream.connections() as f64);
    assert_eq!(of("opened_total") + of("reused_total"), 9.0);
    // All but the one that the client's leaving has closed.
    assert_eq!(of("idle"), of("opened_total") - 1.0);
    assert!(samples["flow_uring_time_to_first_byte_seconds_sum"] > 0.0);
    assert!(samples["process_resident_memory_bytes"] > 1e6 && samples["process_open_fds"] > 5.0);

    gateway.replace_secrets(&secrets_json(&["b", "c"]));
    gateway.wait_for_log("loaded anew");
    let is_loaded =
        |samples: &BTreeMap<String, f64>| samples.contains_key(r#"flow_uring_credential_up{credential="c"}"#);
    let samples = wait_for(&gateway, "loaded", is_loaded);
    assert_eq!(samples[r#"flow_uring_requests_total{class="2xx",credential="a"}"#], 3.0, "it keeps what it has done");
    assert_eq!(samples[r#"flow_uring_requests_total{class="2xx",credential="b"}"#], 2.0);
    assert_eq!(samples[r#"flow_uring_requests_total{class="2xx",credential="c"}"#], 0.0);
    assert!(!samples.contains_key(r#"flow_uring_credential_up{credential="a"}"#));
    assert_eq!(Client::connect(gateway.port()).ask(request("/v1/embeddings")).status, 200);
    let served = |samples: &BTreeMap<String, f64>| samples["flow_uring_forwarded_requests_total"] == 8.0;
    let samples = wait_for(&gateway, "served", served);
    assert_eq!(
        samples[r#"flow_uring_requests_total{class="2xx",credential="c"}"#], 1.0,
        "b rests still for embeddings"
    );
}

#[test]
fn errors_made_here_are_counted_by_their_code_and_end() {
    let upstream = Upstream::plain(answer("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"));
    let gateway = before(&upstream).arg("--websocket", "off").start();
    for (request, status) in [
        ("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n", 502),
        ("GET /../x HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
        ("nonsense\r\n\r\n", 400),
        ("TRACE / HTTP/1.1\r\nHost: localhost\r\n\r\n", 405),
        ("GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", 426),
    ] {
        assert_eq!(Client::connect(gateway.port()).ask(request).status, status, "{request}");
    }
    let samples = wait_for(&gateway, "over", |samples| sum_of(samples, "flow_uring_exchanges_ended_total") == 5.0);
    for code in ["upstream_malformed", "bad_path", "bad_request", "trace_not_supported", "websocket_not_supported"] {
        assert_eq!(samples[&format!("flow_uring_errors_total{{code=\"{code}\"}}")], 1.0, "{code}: {samples:#?}");
    }
    assert_eq!(sum_of(&samples, "flow_uring_errors_total"), 5.0);
    assert_eq!(samples[r#"flow_uring_exchanges_ended_total{end="upstream_invalid"}"#], 1.0);
    assert_eq!(samples[r#"flow_uring_exchanges_ended_total{end="refused"}"#], 4.0);
    assert_eq!(samples[r#"flow_uring_requests_total{class="5xx",credential="alpha"}"#], 1.0);
}

#[test]
fn connections_that_cannot_be_accepted_are_counted() {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = before(&upstream).shards(1).arg("--max-connections", "1000").open_files_max(64).start();
    assert_eq!(samples(&gateway)["flow_uring_accept_errors_total"], 0.0);
    let clients: Vec<Client> = (0..100).map(|_| Client::connect(gateway.port())).collect();
    gateway.wait_for_log("cannot accept a connection");
    // The page needs a descriptor too.
    drop(clients);
    gateway.wait_for_descriptors(50);
    let samples = samples(&gateway);
    assert!(samples["flow_uring_accept_errors_total"] >= 1.0, "{samples:#?}");
    assert_eq!(samples["process_max_fds"], 64.0);
}

#[test]
fn promtool_finds_nothing_to_object_to() {
    let names = ["plain", "with \"quotes\" and \\", "ünïcode {x=\"y\"}"];
    // An answer to every question about quotas, too.
    let quotas =
        r#"{"token":"t","used":1,"limit":9,"status":"blocked","renewal_date":"2099-01-01","user_id":"ü \"x\""}"#;
    for upstream in [Upstream::plain(json(200, quotas)), Upstream::plain(json(429, "{}"))] {
        let gateway = before(&upstream).arg("--quota", "flow").secrets(secrets_json(&names)).start();
        for _ in names {
            Client::connect(gateway.port()).ask(GET);
        }
        let is_asked = |page: &Response| {
            let text = page.text();
            text.contains(r#"flow_uring_quota_renewal_timestamp_seconds{quota="requests",user="ü \"x\""}"#)
                || text.contains("flow_uring_quota_questions_failed_total 3")
        };
        let page = wait_for_page(gateway.admin_port(), "/metrics", is_asked);
        assert!(page.text().contains(r#"credential="with \"quotes\" and \\""#), "{}", page.text());
        let mut command = command("promtool");
        command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let Ok(mut promtool) = Running::start(command) else {
            return skip_but_not_on_ci("the metrics by promtool: it is missing (apt install prometheus)");
        };
        promtool.stdin.take().expect("piped").write_all(&page.body).expect("taken");
        let output = promtool.output();
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}
