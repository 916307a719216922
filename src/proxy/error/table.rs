//! The one table from error to answer.

use std::borrow::Cow;

use crate::observability::ERROR_CODES_MAX;
use crate::proxy::error::{GatewayError, UpstreamPhase};

/// The methods that are forwarded or answered, as `Allow` lists them.
pub const ALLOW: &str = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n";

/// A drain ends with a fresh process or another instance: soon is right, and well below the 60 s that SDKs honour.
const RETRY_SOON: &str = "Retry-After: 1\r\n";

/// RFC 9110 §15.5.22: a 426 names the protocol to use, and §7.8: `Connection` then names `Upgrade`.
const UPGRADE: &str = "Upgrade: HTTP/1.1\r\nConnection: upgrade\r\n";

/// RFC 9110 §11.6.1: a 401 names a scheme that would do.
const CHALLENGE: &str = "WWW-Authenticate: Bearer realm=\"flow-uring\"\r\n";

/// Every code of the table, in its order: an error is counted at the place of its code.
pub const CODES: [&str; 34] = [
    "bad_request",
    "bad_path",
    "head_timeout",
    "body_timeout",
    "body_too_large",
    "request_line_too_long",
    "head_too_large",
    "too_many_fields",
    "expectation_not_supported",
    "transfer_coding_not_supported",
    "tls_required",
    "http_version_not_supported",
    "not_an_open_proxy",
    "connect_not_supported",
    "trace_not_supported",
    "websocket_not_supported",
    "host_not_allowed",
    "origin_not_allowed",
    "api_key_missing",
    "api_key_unknown",
    "upstream_resolve_failed",
    "upstream_connect_failed",
    "upstream_tls_failed",
    "upstream_certificate_refused",
    "upstream_proxy_failed",
    "upstream_proxy_refused",
    "upstream_closed",
    "upstream_malformed",
    "upstream_switched_protocols",
    "upstream_connect_timeout",
    "upstream_timeout",
    "out_of_descriptors",
    "draining",
    "token_failed",
];

const _: () = assert!(CODES.len() <= ERROR_CODES_MAX, "every code has a place where it is counted");

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRow {
    pub status: u16,
    pub reason: &'static str,
    /// The value of `X-Flow-Uring-Error`, and of `code` in the body.
    pub code: &'static str,
    /// Whether the downstream connection ends with this answer: after every refusal, since what follows on the wire
    /// may be the refused request's body.
    pub closes: bool,
    /// Whole header lines that belong to the status, or nothing.
    pub fields: &'static str,
}

impl GatewayError {
    /// The table. It has no `_` arm: a new error needs its row.
    pub fn row(&self) -> ErrorRow {
        match self {
            Self::BadRequest(_) => refusal(400, "Bad Request", "bad_request"),
            Self::BadPath => refusal(400, "Bad Request", "bad_path"),
            Self::HeadTimeout => refusal(408, "Request Timeout", "head_timeout"),
            Self::BodyTimeout => refusal(408, "Request Timeout", "body_timeout"),
            Self::BodyTooLarge { .. } => refusal(413, "Content Too Large", "body_too_large"),
            Self::RequestLineTooLong => refusal(414, "URI Too Long", "request_line_too_long"),
            Self::HeadTooLarge => refusal(431, "Request Header Fields Too Large", "head_too_large"),
            Self::TooManyFields => refusal(431, "Request Header Fields Too Large", "too_many_fields"),
            Self::ExpectationNotSupported => refusal(417, "Expectation Failed", "expectation_not_supported"),
            Self::TransferCodingNotSupported => refusal(501, "Not Implemented", "transfer_coding_not_supported"),
            Self::TlsRequired => refusal(400, "Bad Request", "tls_required"),
            Self::VersionNotSupported => refusal(505, "HTTP Version Not Supported", "http_version_not_supported"),

            Self::NotAnOpenProxy => refusal(403, "Forbidden", "not_an_open_proxy"),
            Self::ConnectNotSupported => refusal(405, "Method Not Allowed", "connect_not_supported").with(ALLOW),
            Self::TraceNotSupported => refusal(405, "Method Not Allowed", "trace_not_supported").with(ALLOW),
            Self::WebsocketNotSupported => refusal(426, "Upgrade Required", "websocket_not_supported").with(UPGRADE),

            Self::HostNotAllowed => refusal(403, "Forbidden", "host_not_allowed"),
            Self::OriginNotAllowed => refusal(403, "Forbidden", "origin_not_allowed"),
            Self::ApiKeyMissing => refusal(401, "Unauthorized", "api_key_missing").with(CHALLENGE),
            Self::ApiKeyUnknown => refusal(401, "Unauthorized", "api_key_unknown").with(CHALLENGE),

            Self::UpstreamResolve => failure(502, "Bad Gateway", "upstream_resolve_failed"),
            Self::UpstreamConnect(_) => failure(502, "Bad Gateway", "upstream_connect_failed"),
            Self::UpstreamTls => failure(502, "Bad Gateway", "upstream_tls_failed"),
            Self::UpstreamCertificate => failure(502, "Bad Gateway", "upstream_certificate_refused"),
            Self::UpstreamClosed => failure(502, "Bad Gateway", "upstream_closed"),
            Self::UpstreamMalformed(_) => failure(502, "Bad Gateway", "upstream_malformed"),
            Self::UpstreamSwitchedProtocols => failure(502, "Bad Gateway", "upstream_switched_protocols"),
            Self::ConnectTimeout => failure(504, "Gateway Timeout", "upstream_connect_timeout"),
            Self::UpstreamTimeout { .. } => failure(504, "Gateway Timeout", "upstream_timeout"),

            Self::ProxyResolve
            | Self::ProxyConnect(_)
            | Self::ProxyClosed
            | Self::ProxyMalformed(_)
            | Self::ProxyFailed { .. } => failure(502, "Bad Gateway", "upstream_proxy_failed"),
            Self::ProxyRefused { .. } => failure(502, "Bad Gateway", "upstream_proxy_refused"),

            Self::OutOfDescriptors => failure(503, "Service Unavailable", "out_of_descriptors").with(RETRY_SOON),
            Self::Draining => refusal(503, "Service Unavailable", "draining").with(RETRY_SOON),
            Self::TokenFailed => failure(500, "Internal Server Error", "token_failed"),
        }
    }

    /// Where in [`CODES`] its code is.
    pub fn place(&self) -> usize {
        let code = self.row().code;
        CODES.iter().position(|known| *known == code).expect("every code of the table is among them")
    }

    /// One sentence: what happened, and what to do.
    pub fn message(&self) -> Cow<'static, str> {
        let text = match self {
            Self::BadRequest(what) => {
                return format!("The request is malformed: {what}; send one that follows RFC 9112.").into();
            }
            Self::BadPath => {
                "The request path has a dot segment, a backslash, a NUL or a control byte; send the plain path of the API."
            }
            Self::HeadTimeout => "The request head did not arrive in time; send it at once, or raise --head-timeout.",
            Self::BodyTimeout => "The request body stopped arriving; keep sending it, or raise --body-timeout.",
            Self::BodyTooLarge { limit_mebibytes } => {
                return format!(
                    "The request body is larger than {limit_mebibytes} MiB; send less, or raise --body-max."
                )
                .into();
            }
            Self::RequestLineTooLong => {
                "The request line is longer than 16 KiB; move what is in the query into the body."
            }
            Self::HeadTooLarge => "The request head is larger than 64 KiB; send fewer or shorter fields.",
            Self::TooManyFields => "The request has more than 100 header fields; send fewer.",
            Self::ExpectationNotSupported => {
                "The request expects something other than 100-continue; leave its Expect field out."
            }
            Self::TransferCodingNotSupported => {
                "The request's transfer coding is not supported; send the body chunked or with a Content-Length."
            }
            Self::TlsRequired => "Plain HTTP was sent to a port that speaks TLS; use its https:// URL.",
            Self::VersionNotSupported => "The request's HTTP version is not supported; use HTTP/1.1.",
            Self::NotAnOpenProxy => {
                "This gateway forwards to its own upstream only; set NO_PROXY for other hosts, or unset HTTP_PROXY."
            }
            Self::ConnectNotSupported => {
                "This gateway opens no tunnels; use its http:// URL as the base URL, or unset HTTPS_PROXY."
            }
            Self::TraceNotSupported => "The TRACE method is not supported here; use another method.",
            Self::WebsocketNotSupported => {
                "WebSockets are not supported here; use plain HTTP requests with server-sent events."
            }
            Self::HostNotAllowed => {
                "This gateway is not called by that host name; use its address, or allow the name with --allow-host."
            }
            Self::OriginNotAllowed => {
                "Pages of this origin may not use the gateway; if they are yours, allow it with --allow-origin."
            }
            Self::ApiKeyMissing => {
                "The request has no API key of this gateway; send one as Authorization: Bearer, x-api-key or api-key."
            }
            Self::ApiKeyUnknown => "The request's API key is not one of this gateway's; ask whoever runs it for one.",
            Self::UpstreamResolve => {
                "The upstream's host name could not be resolved; check --upstream and this machine's DNS."
            }
            Self::UpstreamConnect(kind) => {
                return format!(
                    "The upstream could not be reached ({kind}); check the network and --upstream, then try again."
                )
                .into();
            }
            Self::UpstreamTls => {
                "The TLS handshake with the upstream failed; check that --upstream names a TLS port, then try again."
            }
            Self::UpstreamCertificate => {
                "The upstream's certificate was refused; if a private authority issued it, name that with --upstream-ca."
            }
            Self::UpstreamClosed => "The upstream closed the connection before it answered; try again.",
            Self::UpstreamMalformed(what) => {
                return format!("The upstream's answer is malformed: {what}; try again, and report it if it persists.")
                    .into();
            }
            Self::UpstreamSwitchedProtocols => {
                "The upstream switched protocols without being asked; check that --upstream names the right server."
            }
            Self::ConnectTimeout => {
                "The upstream could not be connected to in time; check the network, or raise --connect-timeout."
            }
            Self::UpstreamTimeout { phase: UpstreamPhase::Request } => {
                "The upstream stopped taking the request; try again."
            }
            Self::UpstreamTimeout { phase: UpstreamPhase::ResponseHead } => {
                "The upstream did not answer in time; try again, or raise --client-timeout."
            }
            Self::ProxyResolve => {
                "The name of the proxy before the upstream could not be resolved; check --upstream-proxy or HTTPS_PROXY."
            }
            Self::ProxyConnect(kind) => {
                return format!(
                    "The proxy before the upstream could not be reached ({kind}); check --upstream-proxy or HTTPS_PROXY."
                )
                .into();
            }
            Self::ProxyClosed => {
                "The proxy before the upstream closed the connection before it answered; try again, and ask who runs it."
            }
            Self::ProxyMalformed(what) => {
                return format!(
                    "What --upstream-proxy or HTTPS_PROXY names does not answer as an HTTP proxy: {what}; check its port."
                )
                .into();
            }
            Self::ProxyRefused { status: status @ (401 | 407) } => {
                return format!(
                    "The proxy before the upstream wants other credentials ({status}); check user and password in \
                     --upstream-proxy or HTTPS_PROXY."
                )
                .into();
            }
            Self::ProxyRefused { status } => {
                return format!(
                    "The proxy before the upstream refused to connect to it ({status}); ask who runs it to allow the host \
                     and port, or name the upstream in NO_PROXY."
                )
                .into();
            }
            Self::ProxyFailed { status } => {
                return format!(
                    "The proxy before the upstream could not connect to it ({status}); check --upstream, then try again."
                )
                .into();
            }
            Self::OutOfDescriptors => {
                "The gateway may open no more connections; raise its limit of open files, or lower --max-connections."
            }
            Self::Draining => "The gateway is shutting down; try again in a moment.",
            Self::TokenFailed => {
                "The credential's token could not be made; check the secrets file with flow-uring check."
            }
        };
        Cow::Borrowed(text)
    }
}

/// The request is at fault, or nothing more is served: the connection closes.
const fn refusal(status: u16, reason: &'static str, code: &'static str) -> ErrorRow {
    ErrorRow { status, reason, code, closes: true, fields: "" }
}

/// The upstream is at fault: the downstream connection may live on.
const fn failure(status: u16, reason: &'static str, code: &'static str) -> ErrorRow {
    ErrorRow { status, reason, code, closes: false, fields: "" }
}

impl ErrorRow {
    const fn with(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }
}
