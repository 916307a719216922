//! The process and its settings, as far as they are shown.

use std::time::SystemTime;

use serde::Serialize;

use super::clocks::unix_seconds;
use crate::observability::base_url;
use crate::server::admin::gateway_state::GatewayState;

/// The process and its settings.
#[derive(Debug, Serialize)]
pub struct ProcessView {
    version: &'static str,
    /// Unix seconds, as `now`.
    started: f64,
    now: f64,
    listen: String,
    base_url: String,
    is_tls: bool,
    upstream: String,
    driver: String,
    stage: &'static str,
    shards: ShardsView,
    usage: UsageSwitches,
    needs_key: bool,
}

#[derive(Debug, Serialize)]
struct ShardsView {
    count: usize,
    answering: usize,
}

/// The settings of usage that tell what its figures mean.
#[derive(Debug, Serialize)]
struct UsageSwitches {
    is_counted: bool,
    has_file: bool,
}

impl ProcessView {
    pub fn of(gateway: &GatewayState, answering: usize, now: SystemTime) -> Self {
        let config = &gateway.shared.config;
        let is_tls = config.listener_tls.is_some();
        ProcessView {
            version: env!("CARGO_PKG_VERSION"),
            started: unix_seconds(gateway.started),
            now: unix_seconds(now),
            listen: gateway.listen.to_string(),
            base_url: base_url(gateway.listen, is_tls),
            is_tls,
            upstream: config.upstream.url(),
            driver: gateway.driver.to_string(),
            stage: gateway.stage.get().as_str(),
            shards: ShardsView { count: config.shards.get(), answering },
            usage: UsageSwitches {
                is_counted: config.usage.is_counted,
                has_file: config.usage.written_file().is_some(),
            },
            needs_key: gateway.shared.api_keys.load().is_some(),
        }
    }
}
