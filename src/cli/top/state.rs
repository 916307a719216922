//! The gateway's state as `GET /api/state` tells it: the members that are shown. Those that another version does not
//! know are their defaults.

use serde::Deserialize;

/// Limit on each list: the gateway tells no more than 100 of anything but credentials.
const SHOWN_MAX: usize = 1000;

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct GatewayReport {
    pub version: String,
    pub started: f64,
    pub now: f64,
    pub base_url: String,
    pub upstream: String,
    pub driver: String,
    pub stage: String,
    pub shards: ShardsReport,
    pub now_figures: Figures,
    pub totals: TotalsReport,
    pub history: HistoryReport,
    pub cost: CostsReport,
    pub credentials: Vec<CredentialReport>,
    /// `None`: the gateway does not ask for quotas.
    pub quota: Option<QuotaState>,
    pub streams: Vec<StreamReport>,
    pub streams_count: u64,
    pub exchanges: Vec<ExchangeReport>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ShardsReport {
    pub count: u64,
    pub answering: u64,
}

/// The figures of the last seconds.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Figures {
    pub requests_per_second: Option<f64>,
    pub time_to_first_byte_p50: Option<f64>,
    pub time_to_first_byte_p95: Option<f64>,
    pub open_streams: Option<u64>,
    pub open_exchanges: Option<u64>,
    pub errors_per_second: Option<f64>,
    pub output_tokens_per_second: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct TotalsReport {
    pub requests: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct HistoryReport {
    /// Seconds.
    pub step: u64,
    pub requests: Vec<Option<f64>>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CostsReport {
    pub today: CostReport,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CostReport {
    pub reported_usd: Option<f64>,
    pub estimated_usd: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct CredentialReport {
    pub name: String,
    /// `up`, `resting` or `limited`.
    pub state: String,
    pub rests: Vec<RestReport>,
    pub requests: u64,
    pub errors: u64,
    pub share: Option<f64>,
    /// The part that its user has used of a quota, of the one of which more is used.
    #[serde(skip)]
    pub quota_share: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct QuotaState {
    pub users: Vec<UserReport>,
}

/// A user of the upstream, and the names of its credentials.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct UserReport {
    pub credentials: Vec<String>,
    pub budget: Option<AmountReport>,
    pub requests: Option<AmountReport>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct AmountReport {
    pub used: Option<f64>,
    pub limit: Option<f64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct RestReport {
    pub what: Option<String>,
    pub reason: String,
    /// Seconds.
    pub ends_in: f64,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct StreamReport {
    /// Seconds.
    pub age: f64,
    pub model: Option<String>,
    pub credential: Option<String>,
    pub path: String,
    pub tokens_so_far: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct ExchangeReport {
    pub at: f64,
    pub method: String,
    pub path: String,
    pub status: Option<u16>,
    pub end: String,
    pub code: Option<String>,
    pub credential: Option<String>,
    pub model: Option<String>,
    pub attempts: u64,
    pub ttfb_ms: Option<f64>,
    pub duration_ms: Option<f64>,
    pub tokens_out: Option<u64>,
}

impl GatewayReport {
    /// Reads the body of an answer; `None` where it is something else.
    pub fn parse(body: &[u8]) -> Option<Self> {
        let mut report: GatewayReport = serde_json::from_slice(body).ok()?;
        report.credentials.truncate(SHOWN_MAX);
        report.streams.truncate(SHOWN_MAX);
        report.exchanges.truncate(SHOWN_MAX);
        let GatewayReport { credentials, quota, .. } = &mut report;
        for user in quota.iter().flat_map(|quota| &quota.users) {
            let of_user = |credential: &&mut CredentialReport| user.credentials.contains(&credential.name);
            credentials.iter_mut().filter(of_user).for_each(|credential| credential.quota_share = user.share());
        }
        Some(report)
    }
}

impl UserReport {
    fn share(&self) -> Option<f64> {
        let quotas = [&self.budget, &self.requests].into_iter().flatten();
        quotas.filter_map(|quota| Some(quota.used? / quota.limit?)).max_by(f64::total_cmp)
    }
}

impl ExchangeReport {
    /// Returns true for an exchange that its client has not had as it should.
    pub fn has_failed(&self) -> bool {
        self.status.is_none_or(|status| status >= 400) || !(self.end.is_empty() || self.end == "ok")
    }
}
