//! The keys with limits: how much of each is used.

use std::time::Instant;

use serde::Serialize;

use crate::proxy::key_accounts::{LimitUse, UtcDate};
use crate::server::admin::gateway_state::GatewayState;

/// The keys that are listed.
const KEYS_MAX: usize = 100;

/// The keys that use most of a limit of theirs first.
#[derive(Debug, Serialize)]
pub struct KeysView {
    /// With those that are not listed.
    count: usize,
    listed: Vec<KeyView>,
}

#[derive(Debug, Serialize)]
struct KeyView {
    name: String,
    /// Requests that wait for a place among those under way.
    waiting: u32,
    limits: Vec<LimitView>,
    #[serde(skip)]
    most_used: f64,
}

#[derive(Debug, Serialize)]
struct LimitView {
    limit: &'static str,
    /// In the unit of the limit, as `of`.
    used: f64,
    of: f64,
    /// Requests that were refused for it since the start.
    refused: u64,
}

/// Returns the keys with limits.
pub fn all(gateway: &GatewayState, now: Instant) -> KeysView {
    let date = UtcDate::now();
    let mut listed = Vec::new();
    gateway.shared.key_accounts.read(|name, account| {
        let view = |LimitUse { kind, used, limit }| LimitView {
            limit: kind.name(),
            used,
            of: limit,
            refused: account.refused(kind),
        };
        let limits: Vec<_> = account.used(now, date).into_iter().map(view).collect();
        let most_used = limits.iter().map(|limit| limit.used / limit.of).fold(0.0, f64::max);
        listed.push(KeyView { name: name.to_owned(), waiting: account.parallel.counts().1, limits, most_used });
    });
    let count = listed.len();
    listed.sort_by(|one, other| other.most_used.total_cmp(&one.most_used).then_with(|| one.name.cmp(&other.name)));
    listed.truncate(KEYS_MAX);
    KeysView { count, listed }
}
