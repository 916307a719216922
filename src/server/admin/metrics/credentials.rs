//! The metrics of credentials: which of them can be used.

use std::time::Instant;

use super::exposition::{Exposition, Sample, plain};
use crate::credentials::Credential;
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
    let mut counter = |name, help, count| page.counter(name, help, plain(gateway.counted(count)));
    counter(
        "flow_uring_credential_cooldowns_total",
        "Times that a credential began to be left alone, because the upstream refused or limited it.",
        Count::Cooldowns,
    );
    counter(
        "flow_uring_credential_recoveries_total",
        "Times that a credential was found to work again.",
        Count::Recoveries,
    );
}
