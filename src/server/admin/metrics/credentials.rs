//! The metrics of credentials: which of them can be used.

use std::collections::BTreeMap;
use std::time::Instant;

use super::exposition::{Exposition, Sample, plain};
use crate::credentials::{Credential, Credentials};
use crate::observability::Count;
use crate::server::admin::gateway_state::GatewayState;

/// Writes which credentials can be used, and for how long the others cannot.
pub fn write(page: &mut Exposition, gateway: &GatewayState) {
    let credentials = gateway.shared.credentials.load();
    let now = Instant::now();
    let each = |value: fn(f64) -> f64| -> Vec<Sample> {
        let seconds = |id| credentials.cooling_for(id, now).unwrap_or_default().as_secs_f64();
        let sample = |(id, entry): (_, &Credential)| (vec![("credential", entry.name.clone())], value(seconds(id)));
        credentials.entries().map(sample).collect()
    };
    page.gauge(
        "flow_uring_credential_up",
        "Whether the credential can be used (1) or is left alone for a while (0).",
        each(|seconds| if seconds > 0.0 { 0.0 } else { 1.0 }),
    );
    page.gauge(
        "flow_uring_credential_cooldown_seconds",
        "How long the credential is still left alone; 0 where it can be used.",
        each(|seconds| seconds),
    );
    page.gauge(
        "flow_uring_credential_scoped_rests",
        "Models and families of paths for which the credential is left alone for a while, by the reason.",
        scoped_rests(&credentials, now),
    );
    page.gauge(
        "flow_uring_limited_for_all",
        "Models and families of paths that are limited whichever credential asks.",
        plain(credentials.limits_for_all(now).len() as f64),
    );
    let mut counter = |name, help, count| page.counter(name, help, plain(gateway.counted(count)));
    counter(
        "flow_uring_credential_cooldowns_total",
        "Times that a credential began to be left alone, as a whole or for one model or family of paths.",
        Count::Cooldowns,
    );
    counter(
        "flow_uring_credential_checks_total",
        "Checks whether the upstream still knows a credential that it refused, where another was served.",
        Count::Checks,
    );
    counter(
        "flow_uring_credential_recoveries_total",
        "Times that a credential was found to work again.",
        Count::Recoveries,
    );
}

/// Counts the rests of each credential by their scope and reason: names of models come from clients and are no labels.
fn scoped_rests(credentials: &Credentials, now: Instant) -> Vec<Sample> {
    let mut samples = Vec::new();
    for (id, entry) in credentials.entries() {
        let mut counts = BTreeMap::<(&str, &str), u32>::new();
        for (scope, cooling) in credentials.scoped_rests(id, now) {
            *counts.entry((scope.kind(), cooling.kind.as_str())).or_default() += 1;
        }
        samples.extend(counts.into_iter().map(|((scope, reason), count)| {
            let labels = [("credential", entry.name.as_str()), ("reason", reason), ("scope", scope)];
            (labels.map(|(name, value)| (name, value.to_owned())).to_vec(), f64::from(count))
        }));
    }
    samples
}
