//! The errors that the gateway answers with when it cannot, or will not, forward; docs/user-guide.md ("Errors of the
//! gateway") lists them for users.
//!
//! [`GatewayError`] names them by fault, `table` has one row for each, and `dialect` writes them as the bodies that
//! clients understand.
//! Invariant: an answer holds no byte of the request, of the upstream's answer or of a secret. Its texts are the ones
//! of the table, with numbers and names of I/O errors in them.
//! Not here: the HTTP response around such a body (`local_answer`), a client that has gone (nobody is left to answer),
//! and a stream that breaks after its head (`sse`).

pub mod dialect;
pub mod table;

use std::io;

use crate::proxy::key_accounts::LimitReached;

pub use self::dialect::{Dialect, append_json_string};
use crate::credentials::OwnedByOthers;

/// A fault that the gateway answers by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GatewayError {
    // The request breaks HTTP/1.1 or a limit.
    /// Malformed; the text says what is wrong, as the end of "The request is malformed: …".
    BadRequest(&'static str),
    /// A malformed upgrade to WebSocket; the text ends "The upgrade to WebSocket is malformed: …".
    BadUpgrade(&'static str),
    BadPath,
    HeadTimeout,
    BodyTimeout,
    BodyTooLarge {
        limit_mebibytes: u64,
    },
    RequestLineTooLong,
    HeadTooLarge,
    TooManyFields,
    ExpectationNotSupported,
    TransferCodingNotSupported,
    VersionNotSupported,
    /// The preface of HTTP/2 came in the place of a request.
    Http2NotSupported,
    /// Plain HTTP on a port that speaks TLS.
    TlsRequired,

    // The request asks for what a gateway of one upstream does not do.
    NotAnOpenProxy,
    ConnectNotSupported,
    TraceNotSupported,
    /// WebSockets are switched off.
    WebsocketNotSupported,
    /// The upstream has none on the path, as it said now or lately.
    WebsocketRefused,
    /// Another version than 13 (RFC 6455 §4.4).
    WebsocketVersionNotSupported,

    // The caller is not allowed to.
    /// The gateway is called by a name that is not its own.
    HostNotAllowed,
    /// A page of an origin that is not allowed made the request.
    OriginNotAllowed,
    ApiKeyMissing,
    ApiKeyUnknown,
    /// The object that the request names belongs to a credential that its key may not use.
    ObjectNotFound,
    /// A limit of the caller's key is reached.
    LimitReached(LimitReached),
    /// The request names a model that the caller's key may not use, or none.
    ModelNotAllowed,
    /// It is not sure which models it names; the text says why.
    ModelNotChecked(&'static str),
    /// The request is to be read for its key, and all that is kept of requests is too much already.
    NoRoomToRead,
    /// The cost of the caller's key is limited, and the model has no price.
    ModelWithoutPrice,
    /// The cost of the caller's key is limited, and the prices are not known.
    PricesUnknown,
    /// The use of the caller's key is limited, and that of the request is not known when its answer ends.
    UseNotCounted,

    // The upstream failed, before a byte of its answer went downstream.
    UpstreamResolve,
    UpstreamConnect(io::ErrorKind),
    UpstreamTls,
    UpstreamCertificate,
    UpstreamClosed,
    /// The text says what is wrong, as the end of "The upstream's answer is malformed: …".
    UpstreamMalformed(&'static str),
    UpstreamSwitchedProtocols,
    /// The error that it answered with holds the token, under a content coding.
    UpstreamLeaksToken {
        status: u16,
    },
    /// The error that it answered with may hold the token: its content coding hides that.
    UpstreamUnsearchable {
        status: u16,
    },
    ConnectTimeout,
    UpstreamTimeout {
        phase: UpstreamPhase,
    },

    // The proxy before the upstream failed, so nothing went upstream.
    ProxyResolve,
    ProxyConnect(io::ErrorKind),
    ProxyClosed,
    /// The text says what is wrong, as the end of "… does not answer as an HTTP proxy: …".
    ProxyMalformed(&'static str),
    /// It would refuse every attempt.
    ProxyRefused {
        status: u16,
    },
    ProxyFailed {
        status: u16,
    },

    // The gateway itself.
    /// No descriptor was left for a connection to the upstream.
    OutOfDescriptors,
    /// The shard has more to do than it can, and the request has waited too long.
    Overloaded,
    Draining,
    /// The secrets file has none of the credentials that the caller's key may use.
    NoCredential,
    /// The credential's token could not be made.
    TokenFailed,
}

impl From<OwnedByOthers> for GatewayError {
    fn from(OwnedByOthers: OwnedByOthers) -> Self {
        GatewayError::ObjectNotFound
    }
}

/// The step that an upstream took too long for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamPhase {
    /// To take the request's bytes.
    Request,
    /// To begin and to finish its response head.
    ResponseHead,
}
