//! What is to be done with a request, decided from its head alone.
//!
//! Pure but for one thing: a request that is forwarded takes its turn in the round robin, and its head is written for
//! the upstream in the same pass over its fields.

use crate::config::{Filter, MEBIBYTE};
use crate::credentials::{ApiKeyId, ApiKeys};
use crate::http1::framing::BodyLength;
use crate::http1::head::{HeadError, RequestHead, Version, with_request};
use crate::proxy::error::{Dialect, GatewayError};
use crate::proxy::filter;
use crate::proxy::guard::key::check_key;
use crate::proxy::guard::origin::{AllowedOrigin, Caller};
use crate::proxy::guard::{AccessRules, Admitted, cors};
use crate::proxy::request::head::{self, Method, RequestError, RequestFacts, UpstreamIdentity};
use crate::proxy::request::path::UpstreamPath;
use crate::proxy::request::target::{self, Destination, TargetError, TargetRules};

/// What every request is compared with, fixed at start.
#[derive(Debug)]
pub struct Rules {
    pub access: AccessRules,
    pub target: TargetRules,
    pub upstream: UpstreamIdentity,
    pub body_bytes_max: Option<u64>,
    pub filter: Filter,
}

/// What is to be done with one request.
#[derive(Debug)]
pub struct Plan<C> {
    /// How the client wants to be answered; of a head that cannot be read, how it most likely does.
    pub client: Client,
    /// The caller's key, where one is asked for.
    pub key: Option<ApiKeyId>,
    pub action: Action<C>,
}

/// What an answer must know of the request.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub version: Version,
    pub is_head: bool,
    pub keep_alive: bool,
    pub dialect: Dialect,
    /// The page behind the request.
    pub origin: Option<AllowedOrigin>,
}

impl Client {
    /// Of a client whose request could not be read.
    pub const UNKNOWN: Client =
        Client { version: Version::Http11, is_head: false, keep_alive: false, dialect: Dialect::OpenAi, origin: None };

    pub fn is_http10(&self) -> bool {
        self.version == Version::Http10
    }
}

#[derive(Debug)]
pub enum Action<C> {
    Refuse(GatewayError),
    AnswerLiveness {
        body: BodyLength,
    },
    AnswerOptions {
        body: BodyLength,
    },
    /// `fields` are whole lines.
    AnswerPreflight {
        body: BodyLength,
        fields: Vec<u8>,
    },
    Forward(Forward<C>),
}

/// A request that goes upstream.
#[derive(Debug, Clone, Copy)]
pub struct Forward<C> {
    pub facts: RequestFacts,
    /// Whatever the writer of the head gave back.
    pub written: C,
    /// Whether a second attempt may be made although the first may have reached the upstream.
    pub may_replay: bool,
    /// Whether the filter is for it: its body is then held until it is whole.
    pub is_filtered: bool,
    /// Whether the client itself named the upstream, so that a `Location` must not be rewritten.
    pub is_absolute_form: bool,
}

/// Reads the request in `head`, notes its method and path, and decides; `keys` are asked for where there are any. For a
/// request that is to be forwarded `write_head` is called once; it picks the credential and writes the upstream's head.
pub fn plan<C>(
    head: &[u8],
    rules: &Rules,
    keys: Option<&ApiKeys>,
    (method, path): (&mut String, &mut String),
    write_head: impl FnOnce(&RequestHead<'_>, UpstreamPath<'_>, &RequestFacts) -> Result<C, GatewayError>,
) -> Plan<C> {
    let planned = with_request(head, |head| {
        let target_path = path_of(head.target);
        method.push_str(head.method);
        path.push_str(target_path);
        let mut client = Client {
            version: head.version,
            is_head: head.method == "HEAD",
            keep_alive: false,
            dialect: Dialect::of_path(target_path),
            origin: None,
        };
        let mut key = None;
        let action = decide(head, rules, keys, (&mut client, &mut key), write_head);
        Plan { client, key, action: action.unwrap_or_else(Action::Refuse) }
    });
    planned.unwrap_or_else(|error| Plan { client: Client::UNKNOWN, key: None, action: Action::Refuse(error.into()) })
}

/// Notes in `client` and `key` what is known by then, also of a request that is refused.
fn decide<C>(
    head: &RequestHead<'_>,
    rules: &Rules,
    keys: Option<&ApiKeys>,
    (client, key): (&mut Client, &mut Option<ApiKeyId>),
    write_head: impl FnOnce(&RequestHead<'_>, UpstreamPath<'_>, &RequestFacts) -> Result<C, GatewayError>,
) -> Result<Action<C>, GatewayError> {
    let mut caller = Caller::default();
    let facts = head::examine(head, &mut caller)?;
    client.version = facts.version;
    client.keep_alive = facts.keep_alive;
    let Admitted { origin, is_preflight } = rules.access.admit(head, &caller)?;
    client.origin = origin;
    if is_preflight {
        let mut fields = Vec::new();
        cors::push_preflight_fields(&mut fields, head);
        return Ok(Action::AnswerPreflight { body: facts.body, fields });
    }
    let route = target::route(head.method, head.target, &rules.target)?;
    if route != Destination::AnswerLiveness {
        *key = keys.map(|keys| check_key(head, keys)).transpose()?;
    }
    let path = match route {
        Destination::AnswerLiveness => return Ok(Action::AnswerLiveness { body: facts.body }),
        Destination::AnswerOptions => return Ok(Action::AnswerOptions { body: facts.body }),
        Destination::Forward(path) => path,
    };
    if facts.wants_websocket {
        return Err(GatewayError::WebsocketNotSupported);
    }
    if let (BodyLength::Known(length), Some(limit)) = (facts.body, rules.body_bytes_max)
        && length > limit
    {
        return Err(body_too_large(limit));
    }
    Ok(Action::Forward(Forward {
        facts,
        written: write_head(head, path, &facts)?,
        may_replay: may_replay(facts.method, path.path()),
        is_filtered: rules.filter == Filter::AnthropicCompat && filter::is_for(head, path.path(), &facts),
        is_absolute_form: !head.target.starts_with('/'),
    }))
}

/// The refusal of a body beyond `limit` bytes.
pub fn body_too_large(limit: u64) -> GatewayError {
    GatewayError::BodyTooLarge { limit_mebibytes: limit / MEBIBYTE }
}

/// Whether a request may reach the upstream twice: idempotent ones (RFC 9110 §9.2.2), and, as a stated deviation, the
/// generations, which change nothing upstream and whose loss costs the user a turn.
fn may_replay(method: Method, path: &str) -> bool {
    const GENERATIONS: [&str; 6] =
        ["/chat/completions", "/completions", "/responses", "/messages", "/messages/count_tokens", "/embeddings"];
    method.is_idempotent() || method == Method::Post && GENERATIONS.iter().any(|end| path.ends_with(end))
}

/// The path of a target: without its query, where clients put keys, and without an authority, which may hold a
/// password. Neither is for the log.
fn path_of(target: &str) -> &str {
    let end = memchr::memchr2(b'?', b'#', target.as_bytes()).unwrap_or(target.len());
    let path = &target[..end];
    if path.starts_with('/') {
        return path;
    }
    match path.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => path.rsplit_once('@').map_or(path, |(_, authority)| authority),
    }
}

impl From<HeadError> for GatewayError {
    fn from(error: HeadError) -> Self {
        match error {
            HeadError::Malformed(what) => GatewayError::BadRequest(what),
            HeadError::LineTooLong => GatewayError::RequestLineTooLong,
            HeadError::HeadTooLarge => GatewayError::HeadTooLarge,
            HeadError::TooManyFields => GatewayError::TooManyFields,
            HeadError::UnsupportedVersion => GatewayError::VersionNotSupported,
            HeadError::UnsupportedTransferCoding => GatewayError::TransferCodingNotSupported,
        }
    }
}

impl From<RequestError> for GatewayError {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Head(error) => error.into(),
            RequestError::UnsupportedExpectation => GatewayError::ExpectationNotSupported,
        }
    }
}

impl From<TargetError> for GatewayError {
    fn from(error: TargetError) -> Self {
        match error {
            TargetError::NotAnOpenProxy => GatewayError::NotAnOpenProxy,
            TargetError::ConnectNotSupported => GatewayError::ConnectNotSupported,
            TargetError::MethodNotAllowed => GatewayError::TraceNotSupported,
            TargetError::BadPath => GatewayError::BadPath,
            TargetError::Malformed(what) => GatewayError::BadRequest(what),
        }
    }
}
