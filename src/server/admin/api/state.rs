//! The state of the gateway, as `GET /api/state` tells it.

use std::time::{Instant, SystemTime};

use serde::Serialize;

use super::costs::{CostSpans, UsageBy};
use super::credentials::{self, CredentialView};
use super::process::ProcessView;
use super::totals::TotalsView;
use crate::server::admin::gateway_state::GatewayState;

/// The whole state. Unknown figures are `null`.
#[derive(Debug, Serialize)]
pub struct StateView {
    #[serde(flatten)]
    process: ProcessView,
    totals: TotalsView,
    cost: CostSpans,
    usage_by: UsageBy,
    credentials: Vec<CredentialView>,
}

/// The moment that a state is of, by both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    pub system: SystemTime,
    pub instant: Instant,
}

impl Moment {
    pub fn now() -> Self {
        Moment { system: SystemTime::now(), instant: Instant::now() }
    }
}

impl StateView {
    /// Returns the state at `now`, when `answering` shards answer.
    pub fn of(gateway: &GatewayState, answering: usize, now: Moment) -> Self {
        let spans = CostSpans::since_start(gateway);
        StateView {
            process: ProcessView::of(gateway, answering, now.system),
            totals: TotalsView::of(gateway),
            cost: spans,
            usage_by: UsageBy::since_start(gateway),
            credentials: credentials::all(gateway, now.instant),
        }
    }
}
