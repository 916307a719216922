use std::io;

use super::table::{CODES, ErrorRow};
use super::*;

/// One of each.
pub fn all_errors() -> Vec<GatewayError> {
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
        let row = error.row();
        let is_beyond = matches!(row.status, 500 | 502 | 504) || error == GatewayError::OutOfDescriptors;
        assert_eq!(row.closes, !is_beyond, "{error:?}");
    }
}

#[test]
fn codes_are_snake_case_and_only_shared_within_a_status() {
    let rows: Vec<ErrorRow> = all_errors().iter().map(GatewayError::row).collect();
    for row in &rows {
        assert!(row.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{}", row.code);
        assert!(rows.iter().filter(|other| other.code == row.code).all(|other| other == row));
    }
}

#[test]
fn every_code_has_one_place_where_it_is_counted_and_no_place_is_for_nothing() {
    let errors = all_errors();
    let used: std::collections::BTreeSet<usize> = errors.iter().map(GatewayError::place).collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), (0..CODES.len()).collect::<Vec<_>>());
    assert!(errors.iter().all(|error| CODES[error.place()] == error.row().code));
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
