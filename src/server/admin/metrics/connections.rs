//! The metrics of connections, downstream and upstream.

use super::exposition::{Exposition, plain};
use crate::observability::Count;
use crate::server::admin::gateway_state::GatewayState;

/// Writes the open and idle connections, and how often they were opened and reused.
pub fn write(page: &mut Exposition, gateway: &GatewayState) {
    let open = gateway.shared.places.taken_count();
    page.gauge("flow_uring_downstream_connections", "Open connections of clients.", plain(open as f64));
    let mut counter = |name, help, count| page.counter(name, help, plain(gateway.counted(count)));
    counter(
        "flow_uring_accept_errors_total",
        "Times that a connection of a client could not be accepted, as for want of file descriptors.",
        Count::AcceptErrors,
    );
    counter(
        "flow_uring_downstream_connections_gave_way_total",
        "Idle connections of clients that were closed to make room for new ones.",
        Count::GaveWay,
    );
    counter(
        "flow_uring_upstream_connections_opened_total",
        "Connections to the upstream that were opened for an attempt.",
        Count::UpstreamOpened,
    );
    counter(
        "flow_uring_upstream_connections_reused_total",
        "Attempts that went out on a connection to the upstream that had been used before.",
        Count::UpstreamReused,
    );
    counter(
        "flow_uring_upstream_warm_opened_total",
        "Connections to the upstream that were opened in advance, for a request that may come.",
        Count::UpstreamWarmOpened,
    );
    counter(
        "flow_uring_upstream_warm_used_total",
        "Attempts that went out on a connection to the upstream that had been opened in advance.",
        Count::UpstreamWarmUsed,
    );
    counter(
        "flow_uring_upstream_connections_stale_total",
        "Connections to the upstream that had been closed there when they were used again; their requests were sent again.",
        Count::Stale,
    );
    page.gauge(
        "flow_uring_upstream_connections_idle",
        "Connections to the upstream that wait for their next request.",
        plain(gateway.total(|activity| activity.idle_upstream() as u64)),
    );
}
