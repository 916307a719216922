//! The state of the gateway that the admin pages show.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::liveness_probe::LivenessProbe;
use super::stage::StageCell;
use crate::observability::{Activity, Count};
use crate::server::shard::driver::Driver;
use crate::server::shard::shared::Shared;

/// The parts that the pages read.
pub struct GatewayState {
    pub shared: Arc<Shared>,
    /// The address of the gateway's own listeners.
    pub listen: SocketAddr,
    pub driver: Driver,
    pub liveness_probe: LivenessProbe,
    pub stage: Arc<StageCell>,
    pub started: SystemTime,
}

impl GatewayState {
    /// Sums a number over all shards.
    pub fn total(&self, of_shard: impl Fn(&Activity) -> u64) -> f64 {
        self.liveness_probe.activities().map(of_shard).sum::<u64>() as f64
    }

    /// Sums a counter over all shards.
    pub fn counted(&self, count: Count) -> f64 {
        self.total(|activity| activity.counters.value(count))
    }
}
