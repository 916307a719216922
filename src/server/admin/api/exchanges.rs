//! Single exchanges: the last ones, and those whose answers are on their way, of all shards together.

use std::sync::Arc;

use serde::Serialize;

use super::clocks::{Moment, unix_seconds};
use crate::observability::{OpenStream, PAST_MAX, PastExchange, STREAMS_MAX, ShardView};

/// An exchange that is over.
#[derive(Debug, Serialize)]
pub struct ExchangeView {
    id: String,
    request_id: String,
    /// Unix seconds of its end.
    at: f64,
    method: String,
    path: String,
    status: Option<u16>,
    end: &'static str,
    /// The code of an error that was made here.
    code: Option<&'static str>,
    credential: Option<String>,
    key: Option<String>,
    model: Option<String>,
    attempts: u32,
    ttfb_ms: Option<f64>,
    duration_ms: f64,
    tokens_in: Option<u64>,
    tokens_out: Option<u64>,
    cost_usd: Option<f64>,
    /// Otherwise it is an estimate.
    cost_is_reported: Option<bool>,
}

impl ExchangeView {
    fn of(exchange: PastExchange, now: Moment) -> Self {
        let age = now.instant.saturating_duration_since(exchange.ended);
        ExchangeView {
            id: exchange.id.to_string(),
            request_id: exchange.request_id,
            at: now.system.checked_sub(age).map_or(0.0, unix_seconds),
            method: exchange.method,
            path: exchange.path,
            status: exchange.status,
            end: exchange.ending.as_str(),
            code: exchange.error_code,
            credential: exchange.credential,
            key: exchange.key,
            model: exchange.model,
            attempts: exchange.attempts,
            ttfb_ms: exchange.first_byte.map(|time| time.as_secs_f64() * 1000.0),
            duration_ms: exchange.duration.as_secs_f64() * 1000.0,
            tokens_in: exchange.tokens.map(|(input, _)| input),
            tokens_out: exchange.tokens.map(|(_, output)| output),
            cost_usd: exchange.cost.map(|cost| cost.dollars),
            cost_is_reported: exchange.cost.map(|cost| cost.is_reported),
        }
    }
}

/// An answer that is on its way.
#[derive(Debug, Serialize)]
pub struct StreamView {
    id: String,
    /// In seconds.
    age: f64,
    model: Option<String>,
    key: Option<String>,
    credential: Option<String>,
    path: String,
    /// A quarter of a token a byte of text.
    tokens_so_far: u64,
}

impl StreamView {
    fn of(stream: OpenStream, now: Moment) -> Self {
        StreamView {
            id: stream.id.to_string(),
            age: now.instant.saturating_duration_since(stream.began).as_secs_f64(),
            model: stream.model,
            key: stream.key,
            credential: stream.credential,
            path: stream.path,
            tokens_so_far: stream.text_bytes.div_ceil(4),
        }
    }
}

/// Returns the last exchanges of all shards, the newest first.
pub fn newest(views: &[Arc<ShardView>], now: Moment) -> Vec<ExchangeView> {
    let mut all: Vec<&PastExchange> = views.iter().flat_map(|view| &view.past).collect();
    all.sort_by_key(|exchange| std::cmp::Reverse(exchange.ended));
    all.into_iter().take(PAST_MAX).map(|exchange| ExchangeView::of(exchange.clone(), now)).collect()
}

/// Returns the open answers of all shards, the longest first.
pub fn longest(views: &[Arc<ShardView>], now: Moment) -> Vec<StreamView> {
    let mut all: Vec<&OpenStream> = views.iter().flat_map(|view| &view.streams).collect();
    all.sort_by_key(|stream| stream.began);
    all.into_iter().take(STREAMS_MAX).map(|stream| StreamView::of(stream.clone(), now)).collect()
}
