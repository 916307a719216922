//! A gateway on threads of the test's own process, for what cannot be set or counted from outside.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

use flow_uring::config::{
    AccessConfig, Affinity, Config, Filter, IoDriver, Limits, LogConfig, PriceSource, Pumping, QuotaSource, Timeouts,
    UpstreamConfig, UsageOptions, WebSocketUse,
};
use flow_uring::credentials;
use flow_uring::server::{self, FileSource, Keyring, Ready, RunError, Sources};

use super::secrets_json;

/// One shard before an upstream, with an admin listener. It serves until a signal ends it, or the process.
pub struct InProcess {
    pub port: u16,
    pub admin_port: u16,
    pub running: JoinHandle<Result<(), RunError>>,
}

impl InProcess {
    /// Starts one with credentials of these names, and the defaults of all settings but those that `change` changes.
    /// No connection is kept warm.
    pub fn start(upstream: UpstreamConfig, names: &[&str], change: impl FnOnce(&mut Config)) -> Self {
        let any_port = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = Config {
            listen: any_port,
            listen_host: any_port.ip().to_string(),
            admin: Some(any_port),
            shards: 1.try_into().expect("not zero"),
            take_over: false,
            // Nobody takes over from a thread of a test.
            runtime_directory: Some("/nowhere".into()),
            secrets_file: "none".into(),
            access: AccessConfig::default(),
            listener_tls: None,
            upstream,
            io_driver: IoDriver::Auto,
            pumping: Pumping::Auto,
            filter: Filter::None,
            affinity: Affinity::None,
            websocket: WebSocketUse::Auto,
            timeouts: Timeouts::default(),
            limits: Limits { warm_connections: 0, ..Limits::default() },
            log: LogConfig::default(),
            usage: UsageOptions::default(),
            quota: QuotaSource::Off,
            capture_directory: None,
            notices: Vec::new(),
        };
        change(&mut config);
        let credentials = credentials::from_json(&secrets_json(names)).expect("valid").credentials;
        let keyring = Keyring { credentials: Arc::new(credentials), api_keys: None };
        let sources = Sources { secrets: FileSource::Fixed, api_keys: FileSource::Fixed, prices: PriceSource::Nothing };
        let (ready, serving) = mpsc::channel();
        let running = thread::spawn(move || {
            server::run(config, keyring, sources, |_, _, state: &Ready| {
                let admin = state.admin.expect("it was asked for").address;
                ready.send((state.bound.port(), admin.port())).expect("awaited");
            })
        });
        let (port, admin_port) = serving.recv().expect("the gateway starts");
        InProcess { port, admin_port, running }
    }
}
