//! The one line that each exchange leaves in the log.
//!
//! Invariant: the query of a target, where clients put keys, is not in it. The escaping of values is up to `log`.

use std::fmt;
use std::time::Duration;

use super::shortened::Shortened;

/// The facts that are logged of an exchange when it is over.
#[derive(Debug, Clone, Copy)]
pub struct ExchangeRecord<'a> {
    pub id: ExchangeId,
    /// The value of `x-request-id` that went upstream, of visible ASCII.
    pub request_id: &'a str,
    /// The trace that the client's `traceparent` names.
    pub trace_id: Option<&'a str>,
    pub method: &'a str,
    /// The request target; its query, where clients put keys, is not logged, nor is more of it than [`Shortened`]
    /// shows.
    pub path: &'a str,
    /// `None` if no answer was begun.
    pub status: Option<u16>,
    /// The name of the credential of the last attempt; `None` for an answer made here.
    pub credential: Option<&'a str>,
    /// The name of the caller's API key; `None` if none is asked for, or it was not valid.
    pub key: Option<&'a str>,
    pub attempts: u32,
    /// From the end of the request head to the first byte sent downstream.
    pub first_byte: Option<Duration>,
    /// From the end of the request head to the end of the exchange.
    pub duration: Duration,
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes to the client.
    pub response_bytes: u64,
    pub ending: Ending,
    /// The code of the error that was made here in the place of an answer.
    pub error_code: Option<&'static str>,
    /// The tokens and the cost of the answer, where it is one that has them.
    pub usage: Option<UsageRecord<'a>>,
}

/// The usage of an exchange, as far as it is known.
#[derive(Debug, Clone, Copy)]
pub struct UsageRecord<'a> {
    /// The name of the model; `None` where neither request nor answer told it.
    pub model: Option<&'a str>,
    /// `None` where the answer told none.
    pub tokens: Option<TokensRecord>,
    /// In US dollars; `None` where it was not told and the model has no price.
    pub cost: Option<CostRecord>,
}

impl UsageRecord<'_> {
    /// Tells whether the answer did not tell its cost.
    pub fn wants_price(&self) -> bool {
        !self.cost.is_some_and(|cost| cost.is_reported)
    }
}

/// The tokens that an answer told.
#[derive(Debug, Clone, Copy)]
pub struct TokensRecord {
    pub input: u64,
    pub output: u64,
    /// Those of the input that came from the provider's cache.
    pub cached: u64,
    /// Those of the output that are not shown.
    pub reasoning: u64,
}

/// An amount of US dollars, which is shown with a `~` where it was estimated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CostRecord {
    pub dollars: f64,
    pub is_reported: bool,
}

impl fmt::Display for CostRecord {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.is_reported { "" } else { "~" };
        write!(formatter, "{mark}{}", self.dollars)
    }
}

/// Names an exchange; unique within the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExchangeId {
    /// The shard that served it.
    pub shard: usize,
    /// Its number on that shard, from 1.
    pub sequence: u64,
}

impl fmt::Display for ExchangeId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}-{:x}", self.shard, self.sequence)
    }
}

/// The way in which an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The whole answer went downstream.
    Ok,
    ClientDisconnected,
    /// The upstream was lost before or during its answer.
    UpstreamClosed,
    /// A limit of time ran out, on either side.
    Timeout,
    /// The request was refused here, by the rules, or its WebSocket was ended by a limit of its key.
    Refused,
    /// The upstream could not be reached at all.
    UpstreamUnreachable,
    /// The upstream's answer broke the protocol.
    UpstreamInvalid,
    /// Cut off by the drain limit of a shutdown.
    Shutdown,
    /// A fault of this program.
    Internal,
}

impl Ending {
    pub const ALL: [Ending; 9] = [
        Ending::Ok,
        Ending::ClientDisconnected,
        Ending::UpstreamClosed,
        Ending::Timeout,
        Ending::Refused,
        Ending::UpstreamUnreachable,
        Ending::UpstreamInvalid,
        Ending::Shutdown,
        Ending::Internal,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Ending::Ok => "ok",
            Ending::ClientDisconnected => "client_disconnected",
            Ending::UpstreamClosed => "upstream_closed",
            Ending::Timeout => "timeout",
            Ending::Refused => "refused",
            Ending::UpstreamUnreachable => "upstream_unreachable",
            Ending::UpstreamInvalid => "upstream_invalid",
            Ending::Shutdown => "shutdown",
            Ending::Internal => "internal",
        }
    }
}

impl ExchangeRecord<'_> {
    /// Returns the path without its query, where clients put keys.
    pub fn path_without_query(&self) -> &str {
        memchr::memchr2(b'?', b'#', self.path.as_bytes()).map_or(self.path, |end| &self.path[..end])
    }

    /// Logs the line, at INFO. Costs a load and a branch where INFO is off.
    pub fn log(&self) {
        if !tracing::enabled!(tracing::Level::INFO) {
            return;
        }
        let path = self.path_without_query();
        let tokens = self.usage.and_then(|usage| usage.tokens);
        tracing::info!(
            id = display(self.id),
            request_id = display(self.request_id),
            trace_id = self.trace_id.map(display),
            method = display(Shortened(self.method)),
            path = display(Shortened(path)),
            status = self.status,
            credential = self.credential,
            key = self.key,
            attempts = self.attempts,
            ttfb_ms = self.first_byte.map(milliseconds),
            duration_ms = milliseconds(self.duration),
            bytes_in = self.request_bytes,
            bytes_out = self.response_bytes,
            end = display(self.ending.as_str()),
            code = self.error_code.map(display),
            model = self.usage.and_then(|usage| usage.model).map(|model| display(Shortened(model))),
            tokens_in = tokens.map(|tokens| tokens.input),
            tokens_out = tokens.map(|tokens| tokens.output),
            tokens_cached = tokens.map(|tokens| tokens.cached),
            tokens_reasoning = tokens.map(|tokens| tokens.reasoning),
            cost_usd = self.usage.and_then(|usage| usage.cost).map(display),
            "exchange"
        );
    }
}

/// Converts to milliseconds, to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1000.0
}
