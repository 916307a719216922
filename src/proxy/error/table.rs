//! The one table of errors: a row says how an error is answered, logged, counted and followed by another attempt.

use std::borrow::Cow;
use std::fmt;

use crate::observability::{ERROR_CODES_MAX, Ending};
use crate::proxy::attempt_class::AttemptClass;
use crate::proxy::attempt_class::AttemptClass::{Closed, Settled, Stalled, Unreachable};
use crate::proxy::error::{GatewayError, UpstreamPhase};

/// The methods that are forwarded or answered, as `Allow` lists them.
pub const ALLOW: &str = "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n";

/// A drain ends with a fresh process or another instance, and an overload with its cause: soon is right, and well below
/// the 60 s that SDKs honour.
const RETRY_SOON: &str = "Retry-After: 1\r\n";

/// Somebody has to change something first: the longest time that SDKs honour.
const RETRY_LATER: &str = "Retry-After: 60\r\n";

/// RFC 9110 §15.5.22: a 426 names the protocol to use, and §7.8: `Connection` then names `Upgrade`.
const UPGRADE: &str = "Upgrade: HTTP/1.1\r\nConnection: upgrade\r\n";

/// RFC 6455 §4.4: the version that is spoken.
const WEBSOCKET_VERSION: &str = "Sec-WebSocket-Version: 13\r\nUpgrade: websocket\r\nConnection: upgrade\r\n";

/// RFC 9110 §11.6.1: a 401 names a scheme that would do.
const CHALLENGE: &str = "WWW-Authenticate: Bearer realm=\"flow-uring\"\r\n";

/// One row of the table, but for its message, which may have parameters; see [`GatewayError::message`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorRow {
    pub status: u16,
    pub reason: &'static str,
    /// The value of `X-Flow-Uring-Error`, and of `code` in the body.
    pub code: &'static str,
    /// The index of the code in [`CODES`], where the error is counted.
    pub place: usize,
    /// The downstream connection ends with this answer: after every refusal, since the bytes that follow may be the
    /// refused request's body.
    pub closes: bool,
    /// Whole header lines that belong to the status, or nothing.
    pub fields: &'static str,
    /// The end of an exchange that is answered with it.
    pub ending: Ending,
    /// The class of an attempt that ends with it.
    pub class: AttemptClass,
}

/// Makes the methods of [`GatewayError`] and the list of codes from rows of the form `pattern => row, message;`.
macro_rules! error_table {
    ($($pattern:pat => $row:expr, $message:literal;)+) => {
        impl GatewayError {
            /// Its row of the table.
            #[expect(unused_variables, reason = "a row binds the parameters of its message")]
            pub fn row(&self) -> &'static ErrorRow {
                // It has no `_` arm: a new error needs its row.
                match self {
                    $($pattern => const { &$row.placed() },)+
                }
            }

            /// One sentence: what happened, and what to do.
            pub fn message(&self) -> Cow<'static, str> {
                match self {
                    $($pattern => text(format_args!($message)),)+
                }
            }
        }

        /// The code of each row, in their order.
        const ROW_CODES: &[&str] = &[$($row.code),+];
    };
}

error_table! {
    // The request breaks HTTP/1.1 or a limit.

    Self::BadRequest(what) => refusal(400, "Bad Request", "bad_request", Ending::Refused),
        "The request is malformed: {what}; send one that follows RFC 9112.";
    Self::BadUpgrade(what) => refusal(400, "Bad Request", "bad_request", Ending::Refused),
        "The upgrade to WebSocket is malformed: {what}; send one that follows RFC 6455.";
    Self::BadPath => refusal(400, "Bad Request", "bad_path", Ending::Refused),
        "The request path has a dot segment, a backslash, a NUL or a control byte; send the plain path of the API.";
    Self::HeadTimeout => refusal(408, "Request Timeout", "head_timeout", Ending::Timeout),
        "The request head did not arrive in time; send it at once, or raise --head-timeout.";
    Self::BodyTimeout => refusal(408, "Request Timeout", "body_timeout", Ending::Timeout),
        "The request body stopped arriving; keep sending it, or raise --body-timeout.";
    Self::BodyTooLarge { limit_mebibytes } => refusal(413, "Content Too Large", "body_too_large", Ending::Refused),
        "The request body is larger than {limit_mebibytes} MiB; send less, or raise --body-max.";
    Self::RequestLineTooLong => refusal(414, "URI Too Long", "request_line_too_long", Ending::Refused),
        "The request line is longer than 16 KiB; move what is in the query into the body.";
    Self::HeadTooLarge => refusal(431, "Request Header Fields Too Large", "head_too_large", Ending::Refused),
        "The request head is larger than 64 KiB; send fewer or shorter fields.";
    Self::TooManyFields => refusal(431, "Request Header Fields Too Large", "too_many_fields", Ending::Refused),
        "The request has more than 100 header fields; send fewer.";
    Self::ExpectationNotSupported =>
        refusal(417, "Expectation Failed", "expectation_not_supported", Ending::Refused),
        "The request expects something other than 100-continue; leave its Expect field out.";
    Self::TransferCodingNotSupported =>
        refusal(501, "Not Implemented", "transfer_coding_not_supported", Ending::Refused),
        "The request's transfer coding is not supported; send the body chunked or with a Content-Length.";
    Self::TlsRequired => refusal(400, "Bad Request", "tls_required", Ending::Refused),
        "Plain HTTP was sent to a port that speaks TLS; use its https:// URL.";
    Self::VersionNotSupported =>
        refusal(505, "HTTP Version Not Supported", "http_version_not_supported", Ending::Refused),
        "The request's HTTP version is not supported; use HTTP/1.1.";
    Self::Http2NotSupported => refusal(400, "Bad Request", "http2_not_supported", Ending::Refused),
        "HTTP/2 is not spoken here; have the client use HTTP/1.1, or switch its prior knowledge of HTTP/2 off.";

    // The request asks for what a gateway of one upstream does not do.

    Self::NotAnOpenProxy => refusal(403, "Forbidden", "not_an_open_proxy", Ending::Refused),
        "This gateway forwards to its own upstream only; set NO_PROXY for other hosts, or unset HTTP_PROXY.";
    Self::ConnectNotSupported =>
        refusal(405, "Method Not Allowed", "connect_not_supported", Ending::Refused).with(ALLOW),
        "This gateway opens no tunnels; use its http:// URL as the base URL, or as the proxy of an http:// URL without a \
         tunnel (proxyTunnel: false for undici's ProxyAgent), or unset HTTPS_PROXY.";
    Self::TraceNotSupported => refusal(405, "Method Not Allowed", "trace_not_supported", Ending::Refused).with(ALLOW),
        "The TRACE method is not supported here; use another method.";
    Self::WebsocketNotSupported =>
        refusal(426, "Upgrade Required", "websocket_not_supported", Ending::Refused).with(UPGRADE),
        "WebSockets are not supported here; use plain HTTP requests with server-sent events.";
    Self::WebsocketRefused =>
        refusal(426, "Upgrade Required", "websocket_not_supported", Ending::Refused).with(UPGRADE),
        "The upstream has no WebSocket on this path; use plain HTTP requests with server-sent events.";
    Self::WebsocketVersionNotSupported =>
        refusal(426, "Upgrade Required", "websocket_version_not_supported", Ending::Refused).with(WEBSOCKET_VERSION),
        "The WebSocket version is not supported; use version 13.";

    // The caller is not allowed to.

    Self::HostNotAllowed => refusal(403, "Forbidden", "host_not_allowed", Ending::Refused),
        "This gateway is not called by that host name; use its address, or allow the name with --allow-host.";
    Self::OriginNotAllowed => refusal(403, "Forbidden", "origin_not_allowed", Ending::Refused),
        "Pages of this origin may not use the gateway; if they are yours, allow it with --allow-origin.";
    Self::ApiKeyMissing => refusal(401, "Unauthorized", "api_key_missing", Ending::Refused).with(CHALLENGE),
        "The request has no API key of this gateway; send one as Authorization: Bearer, x-api-key or api-key.";
    Self::ApiKeyUnknown => refusal(401, "Unauthorized", "api_key_unknown", Ending::Refused).with(CHALLENGE),
        "The request's API key is not one of this gateway's; ask whoever runs it for one.";
    Self::ObjectNotFound => refusal(404, "Not Found", "object_not_found", Ending::Refused),
        "No credential that the request's API key may use has made an object of this id; use the key that it was made \
         with.";

    // The caller's key does not allow it. The request may have been read whole: then the connection lives on.

    Self::LimitReached(reached) => failure(429, "Too Many Requests", "limit_reached", Ending::Refused, Settled),
        "This API key has reached its limit {reached}; wait until then, or ask whoever runs the gateway for more.";
    Self::ModelNotAllowed => failure(403, "Forbidden", "model_not_allowed", Ending::Refused, Settled),
        "This API key may not use the model, or the request names none; use one that it may, or ask whoever runs the \
         gateway.";
    Self::ModelNotChecked(why) => failure(403, "Forbidden", "model_not_allowed", Ending::Refused, Settled),
        "This API key has limits, and what the request asks for could not be checked: {why}; send a plain JSON body \
         with one model.";
    Self::NoRoomToRead =>
        failure(503, "Service Unavailable", "no_room_to_read", Ending::Refused, Settled).with(RETRY_SOON),
        "The limits of this API key need the whole request, and the gateway holds too many; try again in a moment.";
    Self::ModelWithoutPrice => failure(403, "Forbidden", "model_without_price", Ending::Refused, Settled),
        "The cost of this API key is limited, and the model has no price; use one that has, or ask whoever runs the \
         gateway to add it with --prices.";
    Self::PricesUnknown =>
        failure(503, "Service Unavailable", "prices_unknown", Ending::Refused, Settled).with(RETRY_LATER),
        "The cost of this API key is limited, and the upstream does not tell the prices of its models; give them with \
         --prices, or try again.";
    Self::UseNotCounted => failure(403, "Forbidden", "use_not_counted", Ending::Refused, Settled),
        "This API key has limits on its use, and what this request begins (a batch, a run, a background response) is \
         not counted; make plain requests, or use a key without such limits.";

    // There was no connection to the upstream, so nothing went upstream.

    Self::UpstreamResolve =>
        failure(502, "Bad Gateway", "upstream_resolve_failed", Ending::UpstreamUnreachable, Unreachable),
        "The upstream's host name could not be resolved; check --upstream and this machine's DNS.";
    Self::UpstreamConnect(kind) =>
        failure(502, "Bad Gateway", "upstream_connect_failed", Ending::UpstreamUnreachable, Unreachable),
        "The upstream could not be reached ({kind}); check the network and --upstream, then try again.";
    Self::UpstreamTls =>
        failure(502, "Bad Gateway", "upstream_tls_failed", Ending::UpstreamUnreachable, Unreachable),
        "The TLS handshake with the upstream failed; check that --upstream names a TLS port, then try again.";
    Self::UpstreamCertificate =>
        failure(502, "Bad Gateway", "upstream_certificate_refused", Ending::UpstreamUnreachable, Settled),
        "The upstream's certificate was refused; if a private authority issued it, name that with --upstream-ca.";

    // There was none to or through the proxy before it.

    Self::ProxyResolve =>
        failure(502, "Bad Gateway", "upstream_proxy_failed", Ending::UpstreamUnreachable, Unreachable),
        "The name of the proxy before the upstream could not be resolved; check --upstream-proxy or HTTPS_PROXY.";
    Self::ProxyConnect(kind) =>
        failure(502, "Bad Gateway", "upstream_proxy_failed", Ending::UpstreamUnreachable, Unreachable),
        "The proxy before the upstream could not be reached ({kind}); check --upstream-proxy or HTTPS_PROXY.";
    Self::ProxyClosed =>
        failure(502, "Bad Gateway", "upstream_proxy_failed", Ending::UpstreamUnreachable, Unreachable),
        "The proxy before the upstream closed the connection before it answered; try again, and ask who runs it.";
    Self::ProxyMalformed(what) =>
        failure(502, "Bad Gateway", "upstream_proxy_failed", Ending::UpstreamUnreachable, Unreachable),
        "What --upstream-proxy or HTTPS_PROXY names does not answer as an HTTP proxy: {what}; check its port.";
    Self::ProxyFailed { status } =>
        failure(502, "Bad Gateway", "upstream_proxy_failed", Ending::UpstreamUnreachable, Unreachable),
        "The proxy before the upstream could not connect to it ({status}); check --upstream, then try again.";
    Self::ProxyRefused { status: status @ (401 | 407) } =>
        failure(502, "Bad Gateway", "upstream_proxy_refused", Ending::UpstreamUnreachable, Settled),
        "The proxy before the upstream wants other credentials ({status}); check user and password in \
         --upstream-proxy or HTTPS_PROXY.";
    Self::ProxyRefused { status } =>
        failure(502, "Bad Gateway", "upstream_proxy_refused", Ending::UpstreamUnreachable, Settled),
        "The proxy before the upstream refused to connect to it ({status}); ask who runs it to allow the host and \
         port, or name the upstream in NO_PROXY.";

    // The upstream failed, before a byte of its answer went downstream.

    Self::UpstreamClosed => failure(502, "Bad Gateway", "upstream_closed", Ending::UpstreamClosed, Closed),
        "The upstream closed the connection before it answered; try again.";
    Self::UpstreamMalformed(what) =>
        failure(502, "Bad Gateway", "upstream_malformed", Ending::UpstreamInvalid, Settled),
        "The upstream's answer is malformed: {what}; try again, and report it if it persists.";
    Self::UpstreamSwitchedProtocols =>
        failure(502, "Bad Gateway", "upstream_switched_protocols", Ending::UpstreamInvalid, Settled),
        "The upstream switched protocols without being asked; check that --upstream names the right server.";
    Self::UpstreamLeaksToken { status } =>
        failure(502, "Bad Gateway", "upstream_leaks_token", Ending::UpstreamInvalid, Settled),
        "The upstream answered {status} with an error that holds the gateway's own token, and so is not passed on; ask \
         without Accept-Encoding to read it with the token masked.";
    Self::UpstreamUnsearchable { status } =>
        failure(502, "Bad Gateway", "upstream_leaks_token", Ending::UpstreamInvalid, Settled),
        "The upstream answered {status} with an error that could not be searched for the gateway's own token because of \
         its content coding, and so is not passed on; ask without Accept-Encoding to read it.";
    Self::ConnectTimeout =>
        failure(504, "Gateway Timeout", "upstream_connect_timeout", Ending::Timeout, Unreachable),
        "The upstream could not be connected to in time; check the network, or raise --connect-timeout.";
    Self::UpstreamTimeout { phase: UpstreamPhase::Request } =>
        failure(504, "Gateway Timeout", "upstream_timeout", Ending::Timeout, Stalled),
        "The upstream stopped taking the request; try again.";
    Self::UpstreamTimeout { phase: UpstreamPhase::ResponseHead } =>
        failure(504, "Gateway Timeout", "upstream_timeout", Ending::Timeout, Settled),
        "The upstream did not answer in time; try again, or raise --client-timeout.";

    // The gateway itself.

    Self::OutOfDescriptors =>
        failure(503, "Service Unavailable", "out_of_descriptors", Ending::Internal, Settled).with(RETRY_SOON),
        "The gateway may open no more connections; raise its limit of open files, or lower --max-connections.";
    Self::Overloaded => failure(503, "Service Unavailable", "overloaded", Ending::Refused, Settled).with(RETRY_SOON),
        "The gateway has more to do than it can, and the request has waited too long; try again in a moment, and give \
         the gateway more CPUs if this persists.";
    Self::Draining => refusal(503, "Service Unavailable", "draining", Ending::Shutdown).with(RETRY_SOON),
        "The gateway is shutting down; try again in a moment.";
    Self::NoCredential => refusal(503, "Service Unavailable", "no_credential", Ending::Refused).with(RETRY_LATER),
        "None of the credentials that the request's API key may use is in the secrets file; whoever runs the gateway \
         has to add one there, or to name others in the file of keys.";
    Self::TokenFailed => failure(500, "Internal Server Error", "token_failed", Ending::Internal, Settled),
        "The credential's token could not be made; check the secrets file with flow-uring check.";
}

/// Every code of the table once, in the order of the rows: an error is counted at the place of its code.
pub const CODES: [&str; CODES_COUNT] = {
    let mut codes = [""; CODES_COUNT];
    let mut row = 0;
    while row < ROW_CODES.len() {
        codes[place_of(ROW_CODES[row])] = ROW_CODES[row];
        row += 1;
    }
    codes
};

const CODES_COUNT: usize = place_of(ROW_CODES[ROW_CODES.len() - 1]) + 1;

const _: () = assert!(CODES_COUNT <= ERROR_CODES_MAX, "every code has a place where it is counted");

/// The request is at fault, or nothing more is served: the connection closes.
const fn refusal(status: u16, reason: &'static str, code: &'static str, ending: Ending) -> ErrorRow {
    ErrorRow { closes: true, ..failure(status, reason, code, ending, Settled) }
}

/// The upstream is at fault, or the gateway: the downstream connection may live on.
const fn failure(
    status: u16,
    reason: &'static str,
    code: &'static str,
    ending: Ending,
    class: AttemptClass,
) -> ErrorRow {
    ErrorRow { status, reason, code, place: 0, closes: false, fields: "", ending, class }
}

impl ErrorRow {
    const fn with(self, fields: &'static str) -> Self {
        Self { fields, ..self }
    }

    /// Is evaluated by the compiler alone, as is [`place_of`].
    const fn placed(self) -> Self {
        Self { place: place_of(self.code), ..self }
    }
}

/// Counts the codes before this one. Rows that share a code follow each other.
const fn place_of(code: &str) -> usize {
    let (mut place, mut row) = (0, 0);
    while !is_same(ROW_CODES[row], code) {
        row += 1;
        if !is_same(ROW_CODES[row], ROW_CODES[row - 1]) {
            place += 1;
        }
    }
    place
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut index = 0;
    while index < one.len() && index < other.len() && one[index] == other[index] {
        index += 1;
    }
    index == one.len() && index == other.len()
}

/// Allocates only where there are parameters.
fn text(message: fmt::Arguments<'_>) -> Cow<'static, str> {
    message.as_str().map_or_else(|| Cow::Owned(message.to_string()), Cow::Borrowed)
}

#[cfg(test)]
pub mod tests;
