//! The usage and what it cost, over spans of time and by model, key and credential.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use crate::server::admin::gateway_state::GatewayState;
use crate::usage::totals::{UsageKey, UsageSums};

/// Names that are listed, at most; the largest costs come first.
const NAMES_MAX: usize = 50;

/// The usage of many answers together. What was estimated is never in what was reported.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CostView {
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
    cache_read_tokens: u64,
    reported_usd: f64,
    estimated_usd: f64,
    /// Requests whose answers told no usage.
    without_usage: u64,
}

impl From<UsageSums> for CostView {
    fn from(sums: UsageSums) -> Self {
        CostView {
            requests: sums.requests,
            input_tokens: sums.tokens.input,
            output_tokens: sums.tokens.output,
            cache_read_tokens: sums.tokens.cache_read,
            reported_usd: sums.reported_cost.as_dollars(),
            estimated_usd: sums.estimated_cost.as_dollars(),
            without_usage: sums.without_usage,
        }
    }
}

/// The usage of today (UTC), of the last 7 and of the last 30 days.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct CostSpans {
    today: CostView,
    days_7: CostView,
    days_30: CostView,
}

impl CostSpans {
    /// Returns the usage since the start as that of every span.
    pub fn since_start(gateway: &GatewayState) -> Self {
        let mut total = UsageSums::default();
        for_each_row(gateway, |_, sums| total += sums);
        let cost = CostView::from(total);
        CostSpans { today: cost, days_7: cost, days_30: cost }
    }
}

/// The usage of one name.
#[derive(Debug, Clone, Serialize)]
struct NamedCost {
    name: String,
    #[serde(flatten)]
    cost: CostView,
}

/// The usage by what it can be seen by.
#[derive(Debug, Clone, Serialize)]
pub struct UsageBy {
    model: Vec<NamedCost>,
    key: Vec<NamedCost>,
    credential: Vec<NamedCost>,
}

impl UsageBy {
    pub fn since_start(gateway: &GatewayState) -> Self {
        let mut sums = NameSums::default();
        for_each_row(gateway, |of, row| sums.add(of, row));
        sums.into()
    }
}

/// The sums of each name.
#[derive(Debug, Default)]
struct NameSums {
    models: BTreeMap<Arc<str>, UsageSums>,
    keys: BTreeMap<Arc<str>, UsageSums>,
    credentials: BTreeMap<Arc<str>, UsageSums>,
}

impl NameSums {
    fn add(&mut self, of: &UsageKey, sums: UsageSums) {
        let NameSums { models, keys, credentials } = self;
        for (map, name) in [(models, &of.model), (keys, &of.key), (credentials, &of.credential)] {
            *map.entry(name.clone()).or_default() += sums;
        }
    }
}

impl From<NameSums> for UsageBy {
    fn from(sums: NameSums) -> Self {
        UsageBy { model: largest(&sums.models), key: largest(&sums.keys), credential: largest(&sums.credentials) }
    }
}

/// Lists the names with the largest costs; those without a cost by their tokens.
fn largest(sums: &BTreeMap<Arc<str>, UsageSums>) -> Vec<NamedCost> {
    let weight = |sums: &UsageSums| {
        let cost = sums.reported_cost.units().saturating_add(sums.estimated_cost.units());
        (cost, sums.tokens.input.saturating_add(sums.tokens.output), sums.requests)
    };
    let mut listed: Vec<_> = sums.iter().filter(|(_, sums)| !sums.is_zero()).collect();
    listed.sort_by_key(|(_, sums)| std::cmp::Reverse(weight(sums)));
    listed.truncate(NAMES_MAX);
    listed.into_iter().map(|(name, sums)| NamedCost { name: name.to_string(), cost: (*sums).into() }).collect()
}

fn for_each_row(gateway: &GatewayState, mut each: impl FnMut(&UsageKey, UsageSums)) {
    if let Some(books) = &gateway.shared.usage {
        books.read(|row| each(row.key(), row.sums()));
    }
}
