use std::collections::BTreeSet;
use std::io;

use super::*;
use crate::credentials::LimitField;
use crate::proxy::key_accounts::LimitReached;

const REACHED: LimitReached = LimitReached { kind: LimitField::TokensPerDay, seconds: 3_600 };

/// One error for each row.
pub fn all_errors() -> Vec<GatewayError> {
    use GatewayError::*;
    vec![
        BadRequest("two Host fields"),
        BadUpgrade("it has a body"),
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
        Http2NotSupported,
        TlsRequired,
        NotAnOpenProxy,
        ConnectNotSupported,
        TraceNotSupported,
        WebsocketNotSupported,
        WebsocketRefused,
        WebsocketVersionNotSupported,
        HostNotAllowed,
        OriginNotAllowed,
        ApiKeyMissing,
        ApiKeyUnknown,
        ObjectNotFound,
        LimitReached(REACHED),
        ModelNotAllowed,
        ModelNotChecked("the body is no JSON object"),
        NoRoomToRead,
        ModelWithoutPrice,
        PricesUnknown,
        UseNotCounted,
        UpstreamResolve,
        UpstreamConnect(io::ErrorKind::ConnectionRefused),
        UpstreamTls,
        UpstreamCertificate,
        UpstreamClosed,
        UpstreamMalformed("two Content-Length fields"),
        UpstreamSwitchedProtocols,
        UpstreamLeaksToken { status: 401 },
        UpstreamUnsearchable { status: 401 },
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
        Overloaded,
        Draining,
        NoCredential,
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
fn a_refused_request_closes_and_a_failure_beyond_it_or_of_a_key_that_is_known_does_not() {
    for error in all_errors() {
        let row = error.row();
        let is_of_gateway = [GatewayError::OutOfDescriptors, GatewayError::Overloaded].contains(&error);
        let is_beyond = matches!(row.status, 500 | 502 | 504) || is_of_gateway;
        let is_of_key = [
            "limit_reached",
            "model_not_allowed",
            "model_without_price",
            "no_room_to_read",
            "prices_unknown",
            "use_not_counted",
        ];
        assert_eq!(row.closes, !is_beyond && !is_of_key.contains(&row.code), "{error:?}");
    }
}

#[test]
fn every_row_has_its_example_here() {
    let texts: BTreeSet<_> = all_errors().iter().map(GatewayError::message).collect();
    assert_eq!((texts.len(), all_errors().len()), (ROW_CODES.len(), ROW_CODES.len()));
}

#[test]
fn codes_are_snake_case_and_only_shared_by_answers_that_are_the_same_but_for_their_text() {
    let rows: Vec<ErrorRow> = all_errors().iter().map(|error| *error.row()).collect();
    for row in &rows {
        assert!(
            row.code.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "{}",
            row.code
        );
        let alike = rows.iter().filter(|other| other.code == row.code);
        assert!(alike.into_iter().all(|other| ErrorRow { class: row.class, ..*other } == *row), "{}", row.code);
    }
}

#[test]
fn every_code_has_one_place_where_it_is_counted_and_no_place_is_for_nothing() {
    assert_eq!(CODES.iter().collect::<BTreeSet<_>>().len(), CODES.len(), "rows that share a code follow each other");
    let rows: Vec<&ErrorRow> = all_errors().iter().map(GatewayError::row).collect();
    let used: BTreeSet<usize> = rows.iter().map(|row| row.place).collect();
    assert_eq!(used.into_iter().collect::<Vec<_>>(), (0..CODES.len()).collect::<Vec<_>>());
    assert!(rows.iter().all(|row| CODES[row.place] == row.code));
}

#[test]
fn an_attempt_that_ends_with_an_error_is_of_the_class_of_its_row() {
    for (error, class) in [
        (GatewayError::UpstreamResolve, AttemptClass::Unreachable),
        (GatewayError::UpstreamTls, AttemptClass::Unreachable),
        (GatewayError::ConnectTimeout, AttemptClass::Unreachable),
        (GatewayError::UpstreamCertificate, AttemptClass::Settled),
        (GatewayError::ProxyResolve, AttemptClass::Unreachable),
        (GatewayError::ProxyClosed, AttemptClass::Unreachable),
        (GatewayError::ProxyFailed { status: 503 }, AttemptClass::Unreachable),
        (GatewayError::ProxyRefused { status: 407 }, AttemptClass::Settled),
        (GatewayError::OutOfDescriptors, AttemptClass::Settled),
        (GatewayError::UpstreamClosed, AttemptClass::Closed),
        (GatewayError::UpstreamMalformed("x"), AttemptClass::Settled),
        (GatewayError::UpstreamTimeout { phase: UpstreamPhase::Request }, AttemptClass::Stalled),
        (GatewayError::UpstreamTimeout { phase: UpstreamPhase::ResponseHead }, AttemptClass::Settled),
        (GatewayError::Draining, AttemptClass::Settled),
    ] {
        assert_eq!(error.row().class, class, "{error:?}");
    }
}
