//! Forwarding: where each request goes, and what is changed on its way.

use crate::support::{BASE_PATH, Client, Credential, Gateway, OK, Peer, Upstream, answer, json, secrets_json, shown};
use crate::{OURS, ask};

/// Starts a gateway for an upstream that answers all with 200.
fn pair() -> (Upstream, Gateway) {
    let upstream = Upstream::plain(json(200, "{}"));
    let gateway = Gateway::before(&upstream);
    (upstream, gateway)
}

/// Fills in the two addresses, which a table cannot know.
fn with_addresses(text: &str, upstream: &Upstream, gateway: &Gateway) -> String {
    text.replace("{upstream}", &upstream.authority())
        .replace("{port}", &gateway.port().to_string())
        .replace("{base}", BASE_PATH)
}

#[test]
fn a_target_goes_upstream_below_the_base_path() {
    let (upstream, gateway) = pair();
    let table = [
        ("GET /v1/models", "GET {base}/v1/models"),
        ("GET /v1/models?x=1", "GET {base}/v1/models?x=1"),
        ("GET /v1/models?", "GET {base}/v1/models?"),
        ("GET /v1/models?a=../b&c=%2e%2e/", "GET {base}/v1/models?a=../b&c=%2e%2e/"),
        ("GET /v1//models/", "GET {base}/v1//models/"),
        ("GET /v1/models/a%2Fb%20c:d@e;f=1", "GET {base}/v1/models/a%2Fb%20c:d@e;f=1"),
        ("GET /v1/.hidden/..more/...", "GET {base}/v1/.hidden/..more/..."),
        ("GET {base}/v1/models", "GET {base}/v1/models"),
        ("GET {base}", "GET {base}"),
        ("GET {base}?x=1", "GET {base}?x=1"),
        ("GET {base}er/v1/models", "GET {base}{base}er/v1/models"),
        ("POST /", "POST {base}/"),
        ("GET http://{upstream}{base}/v1/models?x=1", "GET {base}/v1/models?x=1"),
        ("GET https://{upstream}{base}/v1/models", "GET {base}/v1/models"),
        ("GET HTTP://{upstream}{base}/v1/models", "GET {base}/v1/models"),
        ("GET http://127.0.0.1{base}/v1/models", "GET {base}/v1/models"),
        ("GET http://127.0.0.1:80{base}/v1/models", "GET {base}/v1/models"),
        ("GET https://127.0.0.1:443{base}/v1/models", "GET {base}/v1/models"),
        ("GET http://127.0.0.1:{port}/v1/models", "GET {base}/v1/models"),
        ("GET http://localhost:{port}/v1/models?x=1", "GET {base}/v1/models?x=1"),
        ("GET http://localhost:{port}{base}/v1/models", "GET {base}/v1/models"),
        ("DELETE /v1/files/1", "DELETE {base}/v1/files/1"),
        ("PATCH /v1/files/1", "PATCH {base}/v1/files/1"),
        ("get /v1/models", "get {base}/v1/models"),
    ];
    for (sent, expected) in table {
        let before = upstream.requests().len();
        let line = with_addresses(sent, &upstream, &gateway);
        let response = ask(&gateway, format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(response.status, 200, "{line}: {}", response.text());
        let requests = upstream.requests();
        assert_eq!(requests.len(), before + 1, "{line}");
        let expected = format!("{} HTTP/1.1", with_addresses(expected, &upstream, &gateway));
        assert_eq!(requests[before].line(), expected, "for {line}");
        assert_eq!(requests[before].head.field("host"), Some(upstream.authority().as_str()), "for {line}");
    }
}

#[test]
fn the_authority_of_an_absolute_target_decides_and_not_the_host_field() {
    let (upstream, gateway) = pair();
    let to_upstream = format!("GET {}/v1/models HTTP/1.1\r\nHost: localhost:1\r\n\r\n", upstream.url());
    assert_eq!(ask(&gateway, to_upstream).status, 200);
    let host = upstream.authority();
    let elsewhere = format!("GET http://other.example/v1/models HTTP/1.1\r\nHost: {host}\r\n\r\n");
    assert_eq!(ask(&gateway, elsewhere).error_code(), Some("not_an_open_proxy"));
    assert_eq!(upstream.requests().len(), 1);
}

#[test]
fn what_is_not_for_the_upstream_is_answered_here() {
    let (upstream, gateway) = pair();
    let table: &[(&str, u16, Option<&str>)] = &[
        ("GET http://other.example/v1/models", 403, Some("not_an_open_proxy")),
        ("GET http://other.example:{port}/v1/models", 403, Some("not_an_open_proxy")),
        ("GET http://127.0.0.1:1{base}/v1/models", 403, Some("not_an_open_proxy")),
        ("GET http://127.0.0.1.other.example{base}/v1/models", 403, Some("not_an_open_proxy")),
        ("GET http://user@{upstream}{base}/v1/models", 403, Some("not_an_open_proxy")),
        ("GET http://user:word@127.0.0.1:{port}/v1/models", 403, Some("not_an_open_proxy")),
        ("GET http://{upstream}@other.example{base}/v1/models", 403, Some("not_an_open_proxy")),
        ("GET http://{upstream}/other/v1/models", 403, Some("not_an_open_proxy")),
        ("GET http://{upstream}{base}er/v1/models", 403, Some("not_an_open_proxy")),
        ("GET http://{upstream}/", 403, Some("not_an_open_proxy")),
        ("CONNECT {upstream}", 405, Some("connect_not_supported")),
        ("CONNECT other.example:443", 405, Some("connect_not_supported")),
        ("TRACE /v1/models", 405, Some("trace_not_supported")),
        ("OPTIONS *", 204, None),
        ("GET /", 200, None),
        ("HEAD /", 200, None),
        ("GET /api/hello", 200, None),
        ("HEAD /api/hello", 200, None),
        ("GET http://127.0.0.1:{port}/", 200, None),
        ("GET /v1/../admin", 400, Some("bad_path")),
        ("GET /..", 400, Some("bad_path")),
        ("GET /v1/.", 400, Some("bad_path")),
        ("GET /./v1", 400, Some("bad_path")),
        ("GET /v1/..;x=1/admin", 400, Some("bad_path")),
        ("GET /v1/.;/admin", 400, Some("bad_path")),
        ("GET /v1/%2e%2e/admin", 400, Some("bad_path")),
        ("GET /v1/%2E./admin", 400, Some("bad_path")),
        ("GET /v1/.%2e;a/admin", 400, Some("bad_path")),
        ("GET /v1%2f..%2fadmin", 400, Some("bad_path")),
        ("GET /v1%2F%2e%2e%2Fadmin", 400, Some("bad_path")),
        ("GET /v1%5c..%5cadmin", 400, Some("bad_path")),
        ("GET /v1%5C%2e", 400, Some("bad_path")),
        ("GET /v1\\..\\admin", 400, Some("bad_path")),
        ("GET /v1\\models", 400, Some("bad_path")),
        ("GET /v1/a%00b", 400, Some("bad_path")),
        ("GET {base}/../admin", 400, Some("bad_path")),
        ("GET http://{upstream}{base}/../admin", 400, Some("bad_path")),
    ];
    for (sent, status, code) in table {
        let line = with_addresses(sent, &upstream, &gateway);
        let response = ask(&gateway, format!("{line} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!((response.status, response.error_code()), (*status, *code), "{line}: {}", response.text());
        assert_eq!(response.field("allow").is_some(), matches!(status, 204 | 405), "{line}");
    }
    assert_eq!(upstream.bytes_received(), 0, "{:?}", upstream.requests());
}

#[test]
fn a_health_check_says_who_answers_and_keeps_the_connection() {
    let (upstream, gateway) = pair();
    let mut client = Client::connect(gateway.port());
    for path in ["/", "/api/hello"] {
        let response = client.ask(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(response.status, 200);
        let body = response.json();
        assert_eq!(body["name"], "flow-uring");
        assert_eq!(body["status"], "ok");
        assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
        let head = client.ask(format!("HEAD {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(head.field("content-length"), response.field("content-length"));
    }
    assert_eq!(client.ask("OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 204);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_refusal_says_what_to_do() {
    let (_upstream, gateway) = pair();
    let message = |request: &str| {
        let response = ask(&gateway, format!("{request}\r\nHost: localhost\r\n\r\n"));
        response.json()["error"]["message"].as_str().expect("a message").to_owned()
    };
    let elsewhere = message("GET http://other.example/ HTTP/1.1");
    assert!(elsewhere.contains("NO_PROXY") && elsewhere.contains("HTTP_PROXY"), "{elsewhere}");
    let tunnel = message("CONNECT other.example:443 HTTP/1.1");
    assert!(tunnel.contains("http://"), "{tunnel}");
}

#[test]
fn errors_speak_the_dialect_of_the_path() {
    let (_upstream, gateway) = pair();
    for path in ["/v1/messages/..", "/flow-llm-proxy/v1/messages/../x"] {
        let anthropic = ask(&gateway, format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(anthropic.json()["type"], "error", "{path}");
        assert_eq!(anthropic.json()["error"]["type"], "invalid_request_error", "{path}");
    }
    let openai = ask(&gateway, "POST /v1/chat/../x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(openai.json()["error"]["type"], "flow_uring_error");
    assert_eq!(openai.json()["error"]["code"], "bad_path");
}

#[test]
fn a_websocket_is_refused_at_once_where_it_is_off_and_another_upgrade_is_ignored() {
    let upstream = Upstream::plain(answer(OK));
    let gateway = Gateway::builder().upstream(&upstream).arg("--websocket", "off").start();
    for value in ["websocket", "WebSocket", "h2c, websocket"] {
        let upgrade =
            format!("GET /v1/responses HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: {value}\r\n\r\n");
        let response = ask(&gateway, upgrade);
        assert_eq!((response.status, response.error_code()), (426, Some("websocket_not_supported")), "{value}");
    }
    assert_eq!(upstream.bytes_received(), 0);
    let other = "GET /v1/models HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                 HTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(ask(&gateway, other).status, 200);
    assert!(upstream.request().head.lines_without(&OURS).is_empty(), "{:?}", upstream.request());
}

#[test]
fn a_request_goes_on_without_the_clients_keys_and_all_else_as_it_was() {
    let (upstream, gateway) = pair();
    let request = b"POST /v1/chat/completions HTTP/1.1\r\nhOSt: localhost\r\nX-First: 1\r\nauthorization: Bearer sk-client\r\n\
        X-Api-Key: sk-client\r\napi-key: sk-client\r\nX-LiteLLM-Api-Key: sk-client\r\nx-goog-api-key: sk-client\r\n\
        Ocp-Apim-Subscription-Key: sk-client\r\nCookie: a=b\r\nConnection: keep-alive, X-Hop, te\r\nX-Hop: 1\r\nx-hop: 2\r\n\
        Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic abc\r\nTE: trailers\r\n\
        Upgrade: h2c\r\nuser-AGENT: test/1 (caf\xc3\xa9)\r\nX-Multi: b\r\nX-Multi: a\r\nAccept-Encoding: gzip, br\r\n\
        anthropic-beta:  x,y \r\nX-Empty:\r\nContent-Type: application/json\r\nContent-Length: 2\r\nX-Last: \xff\r\n\r\n{}";
    assert_eq!(ask(&gateway, request).status, 200);
    let sent = upstream.request();
    assert_eq!(sent.line(), "POST /flow-llm-proxy/v1/chat/completions HTTP/1.1");
    let others = sent.head.lines_without(&OURS);
    let expected = [
        "X-First: 1",
        "user-AGENT: test/1 (caf\u{c3}\u{a9})",
        "X-Multi: b",
        "X-Multi: a",
        "Accept-Encoding: gzip, br",
        "anthropic-beta: x,y",
        "X-Empty: ",
        "Content-Type: application/json",
        "X-Last: \u{ff}",
    ];
    assert_eq!(others, expected, "{}", shown(&sent.head.raw));
    assert_eq!(sent.head.field("host"), Some(upstream.authority().as_str()));
    assert_eq!(sent.head.field("content-length"), Some("2"));
    assert_eq!(sent.head.field("transfer-encoding"), None);
    assert_eq!(Credential::of_authorization(sent.authorization()), Credential::named("alpha"));
    assert_eq!(sent.body, b"{}");
}

#[test]
fn a_connection_field_cannot_remove_what_the_gateway_sets() {
    let (upstream, gateway) = pair();
    let request = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nConnection: host, authorization, content-length, content-type\r\n\
        Connection: transfer-encoding\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";
    assert_eq!(ask(&gateway, request).status, 200);
    let sent = upstream.request();
    assert_eq!(sent.head.field("host"), Some(upstream.authority().as_str()));
    assert_eq!(sent.head.field("content-length"), Some("2"));
    assert_eq!(sent.head.field("content-type"), Some("text/plain"));
    assert_eq!(Credential::of_authorization(sent.authorization()), Credential::named("alpha"));
    assert_eq!(sent.head.lines_without(&OURS), ["Content-Type: text/plain"]);
}

#[test]
fn the_framing_of_a_request_is_kept() {
    let (upstream, gateway) = pair();
    let chunked = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    let sized = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\nok";
    let empty = "POST /v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n";
    let without = "GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let expected =
        [(chunked, Some("chunked"), None), (sized, None, Some("2")), (empty, None, Some("0")), (without, None, None)];
    let mut client = Client::connect(gateway.port());
    for (request, transfer_encoding, content_length) in expected {
        assert_eq!(client.ask(request).status, 200);
        let sent = upstream.requests().pop().expect("a request");
        assert_eq!(sent.head.field("transfer-encoding"), transfer_encoding, "{request}");
        assert_eq!(sent.head.field("content-length"), content_length, "{request}");
    }
}

#[test]
fn an_old_clients_request_is_one_of_http_1_1_upstream() {
    let (upstream, gateway) = pair();
    assert_eq!(ask(&gateway, "GET /v1/models HTTP/1.0\r\n\r\n").status, 200);
    let sent = upstream.request();
    assert_eq!(sent.line(), "GET /flow-llm-proxy/v1/models HTTP/1.1");
    assert_eq!(sent.head.field("host"), Some(upstream.authority().as_str()));
}

#[test]
fn the_name_in_a_token_comes_round_robin_over_all_shards() {
    let upstream = Upstream::plain(json(200, "{}"));
    let secrets = secrets_json(&["alpha", "beta", "gamma"]);
    let gateway = Gateway::builder().upstream(&upstream).secrets(secrets).start();
    for _ in 0..6 {
        // A local answer takes no turn.
        assert_eq!(ask(&gateway, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
        assert_eq!(ask(&gateway, "GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n").status, 200);
    }
    let names: Vec<String> =
        upstream.requests().iter().map(|sent| Credential::of_authorization(sent.authorization()).client_id).collect();
    let expected = ["alpha", "beta", "gamma"].map(|name| format!("{name}-client-id"));
    assert_eq!(names, [expected.clone(), expected].concat());
}

#[test]
fn an_answer_goes_on_without_hop_by_hop_fields_and_all_else_as_it_was() {
    let upstream = Upstream::plain(answer(
        &b"HTTP/1.1 418 I'm a  teapot\r\nX-First: 1\r\nconnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\n\
           Proxy-Connection: x\r\nUpgrade: h2c\r\nSet-Cookie: a=b\r\nset-cookie: c=d\r\nServer: up/1\r\nX-Multi: b\r\nX-Multi: a\r\n\
           content-TYPE: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\nX-Last: caf\xe9\r\n\r\n{}"[..],
    ));
    let gateway = Gateway::before(&upstream);
    let mut client = Client::connect(gateway.port());
    for _ in 0..2 {
        let response = client.ask("GET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(response.head.start_line, "HTTP/1.1 418 I'm a  teapot");
        let expected = [
            "X-First: 1",
            "Server: up/1",
            "X-Multi: b",
            "X-Multi: a",
            "content-TYPE: application/json",
            "Content-Encoding: gzip",
            "X-Last: caf\u{e9}",
        ];
        assert_eq!(response.head.lines_without(&["Content-Length", "x-request-id"]), expected);
        assert_eq!(response.field("content-length"), Some("2"));
        assert_eq!(response.text(), "{}");
    }
}

#[test]
fn an_event_stream_asks_not_to_be_buffered_once() {
    for (given, expected) in [("", vec!["no"]), ("X-Accel-Buffering: yes\r\n", vec!["yes"])] {
        let upstream = Upstream::plain(answer(format!(
            "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n{given}Content-Length: 9\r\n\r\ndata: 1\n\n"
        )));
        let gateway = Gateway::before(&upstream);
        let response = ask(&gateway, "GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert_eq!(response.head.all("x-accel-buffering"), expected);
    }
    let (_upstream, gateway) = pair();
    let response = ask(&gateway, "GET /v1/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.field("x-accel-buffering"), None);
}

#[test]
fn a_location_below_the_base_url_leads_back_here() {
    let upstream = Upstream::plain(|peer: &mut Peer| {
        while let Some(request) = peer.read_request() {
            let host = request.head.field("host").expect("a host").to_owned();
            let location = match request.path() {
                "/flow-llm-proxy/v1/below" => format!("http://{host}/flow-llm-proxy/v1/files/1?x=1"),
                "/flow-llm-proxy/v1/beside" => format!("http://{host}/flow-llm-proxyer/v1/files/1"),
                "/flow-llm-proxy/v1/relative" => "/flow-llm-proxy/v1/files/1".to_owned(),
                _ => "https://other.example/flow-llm-proxy/v1/files/1".to_owned(),
            };
            peer.write(format!("HTTP/1.1 307 Temporary Redirect\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"));
        }
    });
    let gateway = Gateway::before(&upstream);
    let location = |path: &str| {
        let response = ask(&gateway, format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert_eq!(response.status, 307);
        response.field("location").expect("a location").to_owned()
    };
    let below = location("/v1/below");
    // Both base URLs work here, so either is right.
    assert!(["/v1/files/1?x=1", "/flow-llm-proxy/v1/files/1?x=1"].contains(&below.as_str()), "{below}");
    assert_eq!(location("/v1/beside"), format!("http://{}/flow-llm-proxyer/v1/files/1", upstream.authority()));
    assert_eq!(location("/v1/relative"), "/flow-llm-proxy/v1/files/1");
    assert_eq!(location("/v1/other"), "https://other.example/flow-llm-proxy/v1/files/1");
}

#[test]
fn an_error_of_the_upstream_is_passed_on_as_it_is() {
    let body = r#"{"error":{"message":"No such model","code":"404"}}"#;
    let upstream = Upstream::plain(json(404, body));
    let gateway = Gateway::before(&upstream);
    let response = ask(&gateway, "GET /v1/models/x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert_eq!(response.head.start_line, "HTTP/1.1 404 Status");
    assert_eq!((response.text().as_str(), response.error_code()), (body, None));
}
