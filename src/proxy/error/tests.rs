use super::*;

/// One of each.
fn all_errors() -> Vec<GatewayError> {
    use GatewayError::*;
    vec![
        BadRequest("two Host fields"),
        BadPath,
        HeadTimeout,
        BodyTimeout,
        BodyTooLarge { limit_mebibytes: 256 },
        RequestLineTooLong,
        HeadTooLarge,
        TooManyFields,
        ExpectationNotSupported,
        TransferCodingNotSupported,
        VersionNotSupported,
        TlsRequired,
        NotAnOpenProxy,
        ConnectNotSupported,
        TraceNotSupported,
        WebsocketNotSupported,
        HostNotAllowed,
        OriginNotAllowed,
        ApiKeyMissing,
        ApiKeyUnknown,
        UpstreamResolve,
        UpstreamConnect(io::ErrorKind::ConnectionRefused),
        UpstreamTls,
        UpstreamCertificate,
        UpstreamClosed,
        UpstreamMalformed("two Content-Length fields"),
        UpstreamSwitchedProtocols,
        ConnectTimeout,
        UpstreamTimeout { phase: UpstreamPhase::Request },
        UpstreamTimeout { phase: UpstreamPhase::ResponseHead },
        ProxyResolve,
        ProxyConnect(io::ErrorKind::ConnectionRefused),
        ProxyClosed,
        ProxyMalformed("it does not speak HTTP/1.0 or HTTP/1.1"),
        ProxyRefused { status: 407 },
        ProxyRefused { status: 403 },
        ProxyFailed { status: 503 },
        OutOfDescriptors,
        Draining,
        TokenFailed,
    ]
}

fn reply(is_head: bool, keep_alive: bool, is_http10: bool) -> Reply<'static> {
    Reply { is_head, keep_alive, is_http10, origin: None }
}

fn written(error: &GatewayError, dialect: Dialect, head_only: bool, keep_alive: bool, http10: bool) -> String {
    let mut out = b"before".to_vec();
    write_answer(&mut out, error, dialect, &reply(head_only, keep_alive, http10));
    String::from_utf8(out).unwrap().strip_prefix("before").unwrap().to_owned()
}

fn field<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    head.lines().filter_map(|line| line.split_once(": ")).filter(|(n, _)| *n == name).map(|(_, v)| v).collect()
}

#[test]
fn every_error_is_answered_with_a_whole_response_in_both_dialects() {
    for error in all_errors() {
        for dialect in [Dialect::Anthropic, Dialect::OpenAi] {
            let Answer { status, reason, code, closes, .. } = error.answer();
            let text = written(&error, dialect, false, true, false);
            let (head, body) = text.split_once("\r\n\r\n").unwrap();
            assert_eq!(head.lines().next().unwrap(), format!("HTTP/1.1 {status} {reason}"));
            assert_eq!(field(head, "Content-Type"), ["application/json"]);
            assert_eq!(field(head, "Content-Length"), [body.len().to_string()], "{error:?}");
            assert_eq!(field(head, "X-Flow-Uring-Error"), [code]);
            assert_eq!(field(head, "Connection").contains(&"close"), closes);
            assert_eq!(field(head, "Allow").len(), usize::from(status == 405));
            assert_eq!(field(head, "Upgrade").len(), usize::from(status == 426));
            assert_eq!(field(head, "WWW-Authenticate").len(), usize::from(status == 401));
            let body: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(body["error"]["message"], error.message().as_ref());
            match dialect {
                Dialect::Anthropic => {
                    assert_eq!(body["type"], "error");
                    assert_eq!(body["error"]["type"], anthropic_type(status));
                }
                Dialect::OpenAi => {
                    assert_eq!(body["error"]["type"], "flow_uring_error");
                    assert_eq!(body["error"]["code"], code);
                }
            }
        }
    }
}

#[test]
fn a_message_is_one_sentence_that_says_what_to_do() {
    for error in all_errors() {
        let message = error.message();
        assert!(message.ends_with('.') && message.contains("; "), "{message}");
        assert_eq!(message.matches(". ").count(), 0, "{message}");
        assert!(message.is_ascii() && !message.contains("  "), "{message}");
    }
}

#[test]
fn a_refused_request_closes_and_a_failure_beyond_it_does_not() {
    for error in all_errors() {
        let answer = error.answer();
        let is_beyond = matches!(answer.status, 500 | 502 | 504) || error == GatewayError::OutOfDescriptors;
        assert_eq!(answer.closes, !is_beyond, "{error:?}");
    }
}

#[test]
fn codes_are_snake_case_and_only_shared_within_a_status() {
    let answers: Vec<Answer> = all_errors().iter().map(GatewayError::answer).collect();
    for answer in &answers {
        assert!(answer.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", answer.code);
        assert!(answers.iter().filter(|other| other.code == answer.code).all(|other| other == answer));
    }
}

#[test]
fn our_503_asks_for_a_retry_within_a_minute() {
    let text = written(&GatewayError::Draining, Dialect::OpenAi, false, true, false);
    let seconds: u64 = field(&text, "Retry-After")[0].parse().unwrap();
    assert!(seconds <= 60);
}

#[test]
fn the_answer_to_a_head_request_has_the_length_and_no_body() {
    let whole = written(&GatewayError::UpstreamClosed, Dialect::OpenAi, false, true, false);
    let head = written(&GatewayError::UpstreamClosed, Dialect::OpenAi, true, true, false);
    assert!(head.ends_with("\r\n\r\n"));
    assert_eq!(whole.split_once("\r\n\r\n").unwrap().0, head.strip_suffix("\r\n\r\n").unwrap());
}

#[test]
fn connection_says_what_becomes_of_it() {
    let connection = |error: &GatewayError, keep_alive, http10| {
        let text = written(error, Dialect::OpenAi, false, keep_alive, http10);
        field(&text, "Connection").join(",")
    };
    assert_eq!(connection(&GatewayError::UpstreamClosed, true, false), "");
    assert_eq!(connection(&GatewayError::UpstreamClosed, true, true), "keep-alive");
    assert_eq!(connection(&GatewayError::UpstreamClosed, false, false), "close");
    assert_eq!(connection(&GatewayError::UpstreamClosed, false, true), "close");
    assert_eq!(connection(&GatewayError::BadPath, true, true), "close");
    assert_eq!(connection(&GatewayError::WebsocketNotSupported, true, false), "upgrade,close");
}

#[test]
fn every_code_has_one_place_where_it_is_counted_and_no_place_is_for_nothing() {
    let errors = all_errors();
    let used: std::collections::BTreeSet<usize> = errors.iter().map(GatewayError::place).collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), (0..CODES.len()).collect::<Vec<_>>());
    assert!(errors.iter().all(|error| CODES[error.place()] == error.answer().code));
}

#[test]
fn the_path_tells_the_dialect() {
    for path in ["/v1/messages", "/v1/messages/count_tokens", "/flow-llm-proxy/v1/messages?beta=true"] {
        assert_eq!(Dialect::of_path(path), Dialect::Anthropic, "{path}");
    }
    for path in ["/v1/messages_of", "/v1/chat/completions", "/", "", "/v1/models?next=/v1/messages", "/v1/message"] {
        assert_eq!(Dialect::of_path(path), Dialect::OpenAi, "{path}");
    }
}

#[test]
fn liveness_options_and_continue_are_whole_answers() {
    let mut out = Vec::new();
    write_liveness(&mut out, &reply(false, true, false));
    let text = String::from_utf8(out).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(field(head, "Content-Length"), [body.len().to_string()]);
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["name"], "flow-uring");
    assert_eq!(body["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(body["status"], "ok");

    let mut head_only = Vec::new();
    write_liveness(&mut head_only, &reply(true, true, false));
    assert_eq!(head_only, [head.as_bytes(), b"\r\n\r\n"].concat());

    let mut out = Vec::new();
    write_options(&mut out, &reply(false, true, false));
    assert_eq!(out, format!("HTTP/1.1 204 No Content\r\n{ALLOW}\r\n").into_bytes());

    let mut out = Vec::new();
    write_continue(&mut out);
    assert_eq!(out, b"HTTP/1.1 100 Continue\r\n\r\n");
}
