//! The quotas of the upstream's users, each with the credentials that share them.

use serde::Serialize;

use crate::credentials::Credentials;
use crate::credentials::quota::groups::QuotaGroup;
use crate::credentials::quota::moment::UnixSecond;
use crate::credentials::quota::record::{Quota, QuotaMoment};
use crate::server::admin::gateway_state::GatewayState;

/// The quotas, as they were told last.
#[derive(Debug, Serialize)]
pub struct QuotaView {
    users: Vec<UserView>,
    /// Identities whose quotas were not told when they were asked last, or not all of them.
    failing: usize,
}

/// One user.
#[derive(Debug, Serialize)]
struct UserView {
    /// Its id, shortened where it is long, else the name of the credential.
    name: String,
    credentials: Vec<String>,
    is_blocked: bool,
    /// In US dollars.
    budget: Option<AmountView>,
    requests: Option<AmountView>,
}

#[derive(Debug, Serialize)]
struct AmountView {
    used: Option<f64>,
    /// `None`: there is none.
    limit: Option<f64>,
    is_blocked: bool,
    /// Moments, in seconds since 1970.
    renewal: Option<u64>,
    runs_out: Option<u64>,
    told: u64,
}

impl QuotaView {
    /// Returns the quotas; `None` where nobody is asked for them.
    pub fn of(gateway: &GatewayState) -> Option<Self> {
        let schedule = gateway.shared.quota.as_ref()?;
        let credentials = gateway.shared.credentials.load();
        let now = QuotaMoment::now().unix;
        let groups = credentials.quota_groups().into_iter();
        let users = groups.map(|group| UserView::of(&credentials, group, now)).collect();
        Some(QuotaView { users, failing: schedule.failing_count() })
    }
}

impl UserView {
    fn of(credentials: &Credentials, group: QuotaGroup, now: UnixSecond) -> Self {
        let amount = |quota: Option<&Quota>| quota.map(|quota| AmountView::of(quota, now));
        UserView {
            credentials: group.credentials.iter().map(|id| credentials.entry(*id).name.clone()).collect(),
            is_blocked: group.is_blocked(now),
            budget: amount(group.budget.as_deref()),
            requests: amount(group.requests.as_deref()),
            name: group.name,
        }
    }
}

impl AmountView {
    fn of(quota: &Quota, now: UnixSecond) -> Self {
        AmountView {
            used: quota.used,
            limit: quota.limit,
            is_blocked: quota.is_blocked(now),
            renewal: quota.renewal.map(|renewal| renewal.0),
            runs_out: quota.exhaustion(now).map(|end| end.0),
            told: quota.at.unix.0,
        }
    }
}
