//! The metrics of keys with limits: how much of each is used, and what was refused for it.

use std::time::Instant;

use super::exposition::{Exposition, Sample};
use crate::credentials::LimitField;
use crate::proxy::key_accounts::{KeyAccount, LimitUse, UtcDate};
use crate::server::admin::gateway_state::GatewayState;

/// The keys that are told apart: those with limits that are in use, in the order of their names.
const KEYS_MAX: usize = 1_000;

/// Writes the limits of keys, where any has one.
pub fn write(page: &mut Exposition, gateway: &GatewayState) {
    if !gateway.shared.key_accounts.have_any() {
        return;
    }
    let keys = Keys::of(gateway);
    page.gauge(
        "flow_uring_key_limit",
        "Limit of a key that is in use, by the name that it has in its file.",
        keys.limits,
    );
    page.gauge(
        "flow_uring_key_limit_used",
        "How much of a key's limit is used: now, in the last minute, today or this month (UTC).",
        keys.used,
    );
    page.gauge("flow_uring_key_requests_waiting", "Requests that wait until others of their key end.", keys.waiting);
    page.counter(
        "flow_uring_key_requests_refused_total",
        "Requests that were refused because of a limit of their key.",
        keys.refused,
    );
}

#[derive(Default)]
struct Keys {
    limits: Vec<Sample>,
    used: Vec<Sample>,
    waiting: Vec<Sample>,
    refused: Vec<Sample>,
}

impl Keys {
    fn of(gateway: &GatewayState) -> Self {
        let (now, date) = (Instant::now(), UtcDate::now());
        let mut in_use = Vec::new();
        gateway.shared.key_accounts.read(|name, account| {
            if account.is_in_use() {
                let refused: Vec<_> = refused(account).collect();
                in_use.push((name.to_owned(), account.used(now, date), account.parallel.counts().1, refused));
            }
        });
        in_use.sort_by(|one, other| one.0.cmp(&other.0));
        let mut keys = Keys::default();
        for (name, used, waiting, refused) in in_use.into_iter().take(KEYS_MAX) {
            let labels = |kind: LimitField| vec![("key", name.clone()), ("limit", kind.name().to_owned())];
            for LimitUse { kind, used, limit } in used {
                keys.limits.push((labels(kind), limit));
                keys.used.push((labels(kind), used));
                if kind == LimitField::Parallel {
                    keys.waiting.push((vec![("key", name.clone())], f64::from(waiting)));
                }
            }
            keys.refused.extend(refused.into_iter().map(|(kind, count)| (labels(kind), count as f64)));
        }
        keys
    }
}

fn refused(account: &KeyAccount) -> impl Iterator<Item = (LimitField, u64)> {
    LimitField::ALL.into_iter().map(|kind| (kind, account.refused(kind))).filter(|(_, count)| *count > 0)
}
