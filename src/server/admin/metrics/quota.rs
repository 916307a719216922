//! The metrics of the quotas of the upstream's users.

use super::exposition::{Exposition, Sample, plain};
use crate::credentials::quota::groups::QuotaGroup;
use crate::credentials::quota::moment::UnixSecond;
use crate::credentials::quota::record::{Quota, QuotaMoment};
use crate::server::admin::gateway_state::GatewayState;

/// Writes the quotas as they were told last, unless nobody is asked.
pub fn write(page: &mut Exposition, gateway: &GatewayState) {
    let Some(schedule) = &gateway.shared.quota else { return };
    let groups = gateway.shared.credentials.load().quota_groups();
    let now = QuotaMoment::now().unix;
    let each = |value: &dyn Fn(&Quota) -> Option<f64>| samples(&groups, value);
    let moment = |moment: Option<UnixSecond>| moment.map(|moment| moment.0 as f64);
    page.gauge(
        "flow_uring_quota_used",
        "What a user has used of a quota, as the upstream told it last: US dollars of budget, or requests.",
        each(&|quota| quota.used),
    );
    page.gauge("flow_uring_quota_limit", "The limit of a quota, where there is one.", each(&|quota| quota.limit));
    page.gauge(
        "flow_uring_quota_blocked",
        "Whether the upstream says that the quota blocks its user (1); then its credentials are left alone.",
        each(&|quota| Some(f64::from(u8::from(quota.is_blocked(now))))),
    );
    page.gauge(
        "flow_uring_quota_renewal_timestamp_seconds",
        "When the quota is renewed, in seconds since the beginning of 1970.",
        each(&|quota| moment(quota.renewal)),
    );
    page.gauge(
        "flow_uring_quota_exhaustion_timestamp_seconds",
        "When the quota runs out at its present pace, in seconds since the beginning of 1970; missing where it does not.",
        each(&|quota| moment(quota.exhaustion(now))),
    );
    page.gauge(
        "flow_uring_quota_failing",
        "Identities whose quotas the upstream did not tell when it was asked last, or not all of them.",
        plain(schedule.failing_count() as f64),
    );
    page.counter(
        "flow_uring_quota_questions_failed_total",
        "Questions for the quotas of an identity that brought no answer that could be read, or not all of them.",
        plain(schedule.failed_count() as f64),
    );
}

/// Makes a sample for each quota of a user that has the value.
fn samples(groups: &[QuotaGroup], value: &dyn Fn(&Quota) -> Option<f64>) -> Vec<Sample> {
    let mut samples = Vec::new();
    for group in groups {
        samples.extend(group.quotas().filter_map(|(kind, quota)| {
            let labels = vec![("quota", kind.as_str().to_owned()), ("user", group.name.clone())];
            Some((labels, value(quota)?))
        }));
    }
    samples
}
