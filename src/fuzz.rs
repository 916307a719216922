//! The parsers of bytes from networks and files, and the writers that pass on what was parsed, for the targets of
//! `fuzz/`. None of them does I/O but those of a conversation, which goes over pairs of sockets.
//!
//! Only with the feature `fuzz`; the program is built without it.

pub mod pump;
mod sockets;
pub mod tunnel;

use crate::config::{Affinity, Filter, WebSocketUse};
use crate::proxy::guard::AccessRules;
use crate::proxy::guard::host::Hosts;
use crate::proxy::request::head::UpstreamIdentity;
use crate::proxy::request::rules::Rules;
use crate::proxy::request::target::TargetRules;

pub use crate::cli::settings::DotEnv;

/// Heads and bodies of HTTP/1.1.
pub mod http1 {
    pub use crate::http1::body::{BodyError, BodyReader, Owed, Piece};
    pub use crate::http1::framing::BodyLength;
    pub use crate::http1::head::{
        Field, HeadError, HeadLimits, HeadScanner, HeadSpan, RequestHead, ResponseHead, StartLine, Version,
        with_request, with_response,
    };
}

/// A request on its way upstream.
pub mod request {
    pub use crate::proxy::guard::origin::Caller;
    pub use crate::proxy::request::head::{RequestFacts, UpstreamHead, UpstreamIdentity, examine};
    pub use crate::proxy::request::path::UpstreamPath;
    pub use crate::proxy::request::plan::{Action, Forward, path_of, plan};
    pub use crate::proxy::request::rules::Rules;
    pub use crate::proxy::request::target::{Destination, TargetError, TargetRules, route};
}

/// An answer on its way downstream.
pub mod response {
    pub use crate::io::Buffer;
    pub use crate::proxy::response::body::BodyRelay;
    pub use crate::proxy::response::head::{Recipient, ResponseFacts, examine, write, write_interim};
    pub use crate::proxy::response::location::LocationRewrite;
}

/// JSON that comes in pieces.
pub mod json {
    pub use crate::json::grammar::{JsonGrammar, MemberObserver};
    pub use crate::json::members::{JsonMembers, StringMember, VALUE_BYTES_MAX};
    pub use crate::json::text::{Bracket, JsonObserver, JsonScalar, JsonText};
}

/// The body of a request, held, looked through and written anew.
pub mod held_body {
    pub use crate::credentials::{ObjectKey, Shelf};
    pub use crate::proxy::filter::member_cuts::{MemberCuts, NoCuts};
    pub use crate::proxy::replay::budget::ReplayBudget;
    pub use crate::proxy::replay::buffer::ReplayBuffer;
    pub use crate::proxy::replay::content::ContentCursor;
    pub use crate::proxy::replay::rewrite::Rewrite;
    pub use crate::proxy::request::model::asked::{AskedMembers, AskedModels};
    pub use crate::proxy::request::model::named::{ModelFinder, NamedModel};
    pub use crate::proxy::request::stored::references::{ReferenceSearch, Searched};
}

/// The answers that the gateway asks for itself, and the file of prices.
pub mod accounts {
    pub use crate::credentials::commented_json::strip_comments;
    pub use crate::credentials::quota::answer::{FlowToken, QuotaAnswer};
    pub use crate::usage::cost::Usd;
    pub use crate::usage::prices::{PriceTable, PricesFault};
    pub use crate::usage::tokens::TokenCounts;
}

/// The text that may be kept of failed exchanges.
pub mod capture {
    pub use crate::capture::masker::{Excerpt, ExchangeMasker, Masked, MaskedContent, Masker};
    pub use crate::capture::seen::SeenKey;
}

/// The conversation with another gateway of this machine.
pub mod take_over {
    pub use crate::credentials::OwnerRecord;
    pub use crate::server::take_over::conversation::Conversation;
    pub use crate::server::take_over::conversation_error::ConversationError;
}

/// TLS with the upstream.
pub mod tls {
    pub use crate::config::Trust;
    pub use crate::io::Buffer;
    pub use crate::upstream::tls::client_config;
    pub use crate::upstream::tls::session::{Handshake, ReadSide, Session};
}

/// Event streams.
pub mod sse {
    pub use crate::proxy::sse::consumer::{EventConsumer, EventField};
    pub use crate::proxy::sse::dialect::EventDialect;
    pub use crate::proxy::sse::ending::{append_chunk, end_chunked, error_event};
    pub use crate::proxy::sse::opening::OpeningReader;
    pub use crate::proxy::sse::tokenizer::Tokenizer;
    pub use crate::proxy::sse::tracker::EventTracker;
}

/// A WebSocket as it passes.
pub mod websocket {
    pub use crate::proxy::websocket::frames::{FrameObserver, FrameReader, Mask, MessageKind, Sender};
    pub use crate::usage::answer::messages::MessageUsage;
}

/// The usage that answers tell of.
pub mod usage {
    pub use crate::usage::answer::body::BodyUsage;
    pub use crate::usage::answer::stream::StreamUsage;
    pub use crate::usage::answer::told::AnswerUsage;
}

/// The rules of a gateway on `127.0.0.1:8899` in front of `https://flow.ciandt.com` with this base path, to which no
/// other host's pages may send requests.
pub fn rules(base_path: &str) -> Rules {
    let (listener_port, upstream_host) = (8899, "flow.ciandt.com".to_owned());
    Rules {
        access: AccessRules {
            hosts: Hosts::of_listener(([127, 0, 0, 1], listener_port).into(), vec![upstream_host.clone()], &[]),
            ..AccessRules::default()
        },
        upstream: UpstreamIdentity { base_path: base_path.to_owned(), authority: upstream_host.clone() },
        target: TargetRules {
            upstream_host,
            upstream_port: 443,
            base_path: base_path.to_owned(),
            listener_port,
            listener_hosts: vec!["127.0.0.1".to_owned()],
        },
        body_bytes_max: None,
        filter: Filter::None,
        affinity: Affinity::None,
        websocket: WebSocketUse::Auto,
    }
}
