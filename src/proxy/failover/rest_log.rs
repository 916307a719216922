//! The beginning and the end of rests, in the counts and in the log.

use std::time::Duration;

use crate::credentials::{CredentialFault, CredentialId, RestScope};
use crate::observability::{Activity, Count};
use crate::proxy::snapshot::Snapshot;

/// The scope of a rest of everything that a credential is asked for.
const WHOLE: &str = "credential";

/// Counts a rest that has begun, and writes it to the log.
pub fn tell_rest(
    activity: &Activity,
    snapshot: &Snapshot,
    credential: CredentialId,
    fault: CredentialFault,
    scope: Option<&RestScope>,
    time: Duration,
) {
    activity.counters.add(Count::Cooldowns);
    tracing::warn!(
        credential = snapshot.name(credential),
        reason = display(fault.kind().as_str()),
        scope = display(scope.map_or(WHOLE, RestScope::kind)),
        of = scope.map(RestScope::name),
        seconds = seconds(time),
        "credential cools down"
    );
}

/// Counts a credential that works again, and writes it to the log.
pub fn tell_recovery(activity: &Activity, snapshot: &Snapshot, credential: CredentialId, scope: Option<&RestScope>) {
    activity.counters.add(Count::Recoveries);
    tracing::info!(
        credential = snapshot.name(credential),
        scope = display(scope.map_or(WHOLE, RestScope::kind)),
        of = scope.map(RestScope::name),
        "credential works again"
    );
}

/// Writes to the log that requests of `scope` are limited whoever makes them.
pub fn tell_limit_for_all(scope: &RestScope, time: Duration) {
    tracing::warn!(
        scope = display(scope.kind()),
        of = scope.name(),
        seconds = seconds(time),
        "limited for all credentials"
    );
}

/// Writes to the log that a request of `scope` succeeded before the end of the limit.
pub fn tell_no_limit_for_all(scope: &RestScope) {
    tracing::info!(scope = display(scope.kind()), of = scope.name(), "no longer limited for all credentials");
}

/// Rounds up to full seconds.
fn seconds(time: Duration) -> u64 {
    time.as_secs_f64().ceil() as u64
}
