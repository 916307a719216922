//! The state of the gateway, as `GET /api/state` tells it.

use serde::Serialize;

use super::clocks::Moment;
use super::credentials::{self, CredentialView};
use super::exchanges::{self, ExchangeView, StreamView};
use super::history::{HistoryView, PresentFigures, STEP_SECONDS, StateHistory};
use super::keys::{self, KeysView};
use super::process::ProcessView;
use super::quota::QuotaView;
use super::totals::TotalsView;
use super::usage::costs::{CostSpans, SpanSums, UsageBy};
use crate::server::admin::gateway_state::GatewayState;

/// The whole state. Unknown figures are `null`.
#[derive(Debug, Serialize)]
pub struct StateView {
    #[serde(flatten)]
    process: ProcessView,
    now_figures: PresentFigures,
    totals: TotalsView,
    history: HistoryView,
    cost: CostSpans,
    usage_by: UsageBy,
    credentials: Vec<CredentialView>,
    keys: KeysView,
    /// `None`: nobody is asked for quotas.
    quota: Option<QuotaView>,
    streams: Vec<StreamView>,
    /// With those that are not listed.
    streams_count: u64,
    exchanges: Vec<ExchangeView>,
}

impl StateView {
    /// Returns the number of the step of the history that is under way, since 1970.
    pub fn step_number(&self) -> u64 {
        self.history.end / STEP_SECONDS
    }

    /// Returns the state at `now`, when `answering` shards answer, with `spent` and the last `steps_count` steps of the
    /// history.
    pub fn of(
        gateway: &GatewayState,
        history: &StateHistory,
        spent: &SpanSums,
        answering: usize,
        steps_count: usize,
    ) -> Self {
        let now = Moment::now();
        let views: Vec<_> = gateway.liveness_probe.activities().filter_map(|activity| activity.view.latest()).collect();
        StateView {
            process: ProcessView::of(gateway, answering, now.system),
            now_figures: history.present(),
            totals: TotalsView::of(gateway),
            history: history.last(steps_count),
            cost: spent.spans(),
            usage_by: spent.by_name(),
            credentials: credentials::all(gateway, now.instant),
            keys: keys::all(gateway, now.instant),
            quota: QuotaView::of(gateway),
            streams: exchanges::longest(&views, now),
            streams_count: gateway.total(|activity| activity.open_streams() as u64) as u64,
            exchanges: exchanges::newest(&views, now),
        }
    }
}
