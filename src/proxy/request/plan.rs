//! The decision about a request, made from its head alone. Pure: [`plan`] takes no turn and writes nothing.

use crate::config::{Filter, MEBIBYTE, WebSocketUse};
use crate::credentials::{ApiKeyId, ApiKeys, Choice, CredentialId, Owner, Selection, Turn};
use crate::http1::framing::BodyLength;
use crate::http1::head::{HeadError, RequestHead};
use crate::proxy::error::GatewayError;
use crate::proxy::guard::key::check_key;
use crate::proxy::guard::origin::Caller;
use crate::proxy::guard::{Admitted, cors};
use crate::proxy::key_accounts::parallel::ParallelPlace;
use crate::proxy::reply_shape::ReplyShape;
use crate::proxy::request::head::{self, FilterableHead, RequestError, RequestFacts};
use crate::proxy::request::path::UpstreamPath;
use crate::proxy::request::replayable::may_replay;
use crate::proxy::request::rules::Rules;
use crate::proxy::request::stored::objects::Objects;
use crate::proxy::request::target::{self, Destination, TargetError};
use crate::proxy::request::token_place::TokenPlace;
use crate::proxy::request::upgrade::{self, Upgrade};

/// The decision about one request. `F` is known of a request that is forwarded: at first what its head says, later what
/// was written for the upstream.
#[derive(Debug)]
pub struct Plan<F> {
    /// The form of the answer; of a head that cannot be read, the most likely one.
    pub reply: ReplyShape,
    /// The caller's key, where one is asked for.
    pub key: Option<ApiKeyId>,
    /// The body that follows the head, where that is known, and the client does not wait until it is asked for it.
    pub body: Option<BodyLength>,
    pub action: Action<F>,
}

#[derive(Debug)]
pub enum Action<F> {
    Refuse(GatewayError),
    /// It is answered here; a body of this length comes with it.
    Answer(LocalAnswer, BodyLength),
    Forward(F),
}

/// An answer made here that is no error.
#[derive(Debug)]
pub enum LocalAnswer {
    Liveness,
    Options,
    /// `fields` are whole lines.
    Preflight {
        fields: Vec<u8>,
    },
}

/// A request that is to be forwarded.
#[derive(Debug, Clone, Copy)]
pub struct Forward<'h> {
    pub path: UpstreamPath<'h>,
    pub traits: RequestTraits,
}

/// The properties of a forwarded request that later decisions depend on.
#[derive(Debug, Clone, Copy)]
pub struct RequestTraits {
    pub facts: RequestFacts,
    /// A second attempt may be made although the first may have reached the upstream.
    pub may_replay: bool,
    /// The filter is for it: its body is then held until it is whole.
    pub is_filtered: bool,
    /// The client itself named the upstream, so that a `Location` must not be rewritten.
    pub is_absolute_form: bool,
}

/// A request whose head for the upstream stands in the replay buffer.
#[derive(Debug)]
pub struct UpstreamRequest {
    pub traits: RequestTraits,
    pub selection: Selection,
    /// The turn; as long as none was taken, that of who is likely to have the next one.
    pub choice: Choice,
    /// The credential whose token stands in the head, whatever is chosen since.
    pub written_for: CredentialId,
    /// Its place among the requests of its key that are under way, where it has one already.
    pub place: Option<ParallelPlace>,
    /// The way that it has yet to go before a turn is taken; boxed, since few have.
    pub late: Option<Box<LateAdmission>>,
    /// The length of the head.
    pub head_bytes: usize,
    /// The place of the token in the head.
    pub token: TokenPlace,
    /// The places that change when the body is filtered; none where it is not or cannot be.
    pub filterable_head: Option<Box<FilterableHead>>,
    /// It is an upgrade to WebSocket.
    pub upgrade: Option<Box<Upgrade>>,
    /// The stored objects that it is about, where there is more than one identity.
    pub objects: Option<Box<Objects>>,
}

/// The way to its turn of a request that waits for its place, or is read first, because of its key.
#[derive(Debug)]
pub struct LateAdmission {
    pub waits: bool,
    /// The body is read before anything goes upstream.
    pub needs_body: bool,
    /// The reason why the body cannot be read, where it is to be.
    pub unreadable: Option<&'static str>,
    /// The owner of what the target names.
    pub owner: Owner,
}

impl UpstreamRequest {
    /// Takes the choice; a turn that probes nothing takes its place.
    pub fn take_choice(&mut self) -> Choice {
        std::mem::replace(&mut self.choice, Choice::Use(Turn::of(self.written_for)))
    }

    /// Returns whose token stands in the head.
    pub fn credential(&self) -> CredentialId {
        self.written_for
    }

    /// Notes that the token of another one stands in the head now.
    pub fn note_credential(&mut self, credential: CredentialId) {
        self.written_for = credential;
    }
}

impl<F> Plan<F> {
    /// Refuses a request that could not be read.
    pub fn refusing(error: GatewayError) -> Self {
        Plan { reply: ReplyShape::UNKNOWN, key: None, body: None, action: Action::Refuse(error) }
    }

    /// Replaces what is known of a forwarded request by what `write` makes of it, or refuses the request.
    pub fn write<G>(self, write: impl FnOnce(Option<ApiKeyId>, F) -> Result<G, GatewayError>) -> Plan<G> {
        let Plan { reply, key, body, action } = self;
        let action = match action {
            Action::Refuse(error) => Action::Refuse(error),
            Action::Answer(answer, body) => Action::Answer(answer, body),
            Action::Forward(forward) => write(key, forward).map_or_else(Action::Refuse, Action::Forward),
        };
        Plan { reply, key, body, action }
    }
}

/// Decides what is done with the request in `head`, whose path for the log is `path`. Callers need one of `keys`, where
/// there are any.
pub fn plan<'h>(head: &RequestHead<'h>, path: &str, rules: &Rules, keys: Option<&ApiKeys>) -> Plan<Forward<'h>> {
    let mut admission = Admission { reply: ReplyShape::of(head, path), key: None, body: None };
    let action = admission.decide(head, rules, keys).unwrap_or_else(Action::Refuse);
    let Admission { reply, key, body } = admission;
    Plan { reply, key, body, action }
}

/// The part of a plan that a refused request has too, noted as soon as it is known.
struct Admission {
    reply: ReplyShape,
    key: Option<ApiKeyId>,
    body: Option<BodyLength>,
}

impl Admission {
    fn decide<'h>(
        &mut self,
        head: &RequestHead<'h>,
        rules: &Rules,
        keys: Option<&ApiKeys>,
    ) -> Result<Action<Forward<'h>>, GatewayError> {
        let mut caller = Caller::default();
        let facts = head::examine(head, &mut caller)?;
        self.reply.version = facts.version;
        self.reply.keep_alive = facts.keep_alive;
        self.body = (!facts.expects_continue).then_some(facts.body);
        let Admitted { origin, is_preflight } = rules.access.admit(head, &caller)?;
        self.reply.origin = origin;
        if is_preflight {
            let mut fields = Vec::new();
            cors::push_preflight_fields(&mut fields, head);
            return Ok(Action::Answer(LocalAnswer::Preflight { fields }, facts.body));
        }
        let path = match target::route(head.method, head.target, &rules.target)? {
            Destination::AnswerLiveness => return Ok(Action::Answer(LocalAnswer::Liveness, facts.body)),
            Destination::AnswerOptions => {
                self.admit_key(head, keys)?;
                return Ok(Action::Answer(LocalAnswer::Options, facts.body));
            }
            Destination::Forward(path) => path,
        };
        self.admit_key(head, keys)?;
        if facts.wants_websocket {
            match rules.websocket {
                WebSocketUse::Auto => upgrade::check(head, &facts)?,
                WebSocketUse::Off => return Err(GatewayError::WebsocketNotSupported),
            }
        }
        if let (BodyLength::Known(length), Some(limit)) = (facts.body, rules.body_bytes_max)
            && length > limit
        {
            return Err(body_too_large(limit));
        }
        let traits = RequestTraits {
            facts,
            may_replay: may_replay(facts.method, path.path()),
            is_filtered: rules.filter == Filter::AnthropicCompat && is_for_filter(head, path.path(), &facts),
            is_absolute_form: !head.target.starts_with('/'),
        };
        Ok(Action::Forward(Forward { path, traits }))
    }

    fn admit_key(&mut self, head: &RequestHead<'_>, keys: Option<&ApiKeys>) -> Result<(), GatewayError> {
        self.key = keys.map(|keys| check_key(head, keys)).transpose()?;
        Ok(())
    }
}

/// Returns the refusal of a body that is larger than `limit` bytes.
pub fn body_too_large(limit: u64) -> GatewayError {
    GatewayError::BodyTooLarge { limit_mebibytes: limit / MEBIBYTE }
}

/// Tells whether the filter is for the request with this head and this path: Anthropic's Messages API, which the marks
/// tell from other dialects on its path.
fn is_for_filter(head: &RequestHead<'_>, path: &str, facts: &RequestFacts) -> bool {
    const PATH: &str = "/v1/messages";
    const MARKS: [&str; 3] = ["anthropic-version", "anthropic-beta", "x-api-key"];
    let is_mark = |name: &str| MARKS.iter().any(|mark| name.eq_ignore_ascii_case(mark));
    !facts.body.is_empty() && path == PATH && head.fields.iter().any(|field| is_mark(field.name))
}

/// Returns the path of a target: without its query, where clients put keys, and without an authority, which may hold a
/// password. Neither is for the log.
pub fn path_of(target: &str) -> &str {
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
            HeadError::Http2Preface => GatewayError::Http2NotSupported,
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
