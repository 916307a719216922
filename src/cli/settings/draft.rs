//! The configuration while its settings are read, one after the other.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::config::{
    self, AccessConfig, Affinity, Config, Filter, IoDriver, Limits, LogConfig, Pumping, QuotaSource, Timeouts,
    UpstreamConfig, UsageOptions, WebSocketUse, default_shards,
};

/// A configuration that begins with the defaults, and the settings that become a part of it together with others.
pub struct Draft {
    pub config: Config,
    pub allow_plain_upstream: bool,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub log_file: Option<PathBuf>,
    pub log_directory: Option<PathBuf>,
}

impl Draft {
    /// The defaults for a process that may open so many files.
    pub fn new(descriptors_max: u64) -> Self {
        let config = Config {
            listen: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), config::DEFAULT_PORT),
            listen_host: config::DEFAULT_HOST.to_owned(),
            admin: Some(config::DEFAULT_ADMIN),
            shards: default_shards(),
            take_over: false,
            runtime_directory: None,
            secrets_file: config::DEFAULT_SECRETS_FILE.into(),
            access: AccessConfig::default(),
            listener_tls: None,
            upstream: UpstreamConfig::parse(config::DEFAULT_UPSTREAM, "default").expect("the default URL is valid"),
            io_driver: IoDriver::default(),
            pumping: Pumping::default(),
            filter: Filter::default(),
            affinity: Affinity::default(),
            websocket: WebSocketUse::default(),
            timeouts: Timeouts::default(),
            limits: Limits::for_descriptors(descriptors_max, default_shards()),
            log: LogConfig::default(),
            usage: UsageOptions::default(),
            quota: QuotaSource::default(),
            capture_directory: None,
            notices: Vec::new(),
        };
        Draft {
            config,
            allow_plain_upstream: false,
            tls_certificate: None,
            tls_key: None,
            log_file: None,
            log_directory: None,
        }
    }
}
