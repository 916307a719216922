//! A gateway of this process with its upstream, and the wait until it is at rest.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use flow_uring::config::{
    AccessConfig, Affinity, Config, Filter, IoDriver, Limits, LogConfig, PriceSource, Pumping, QuotaSource, Timeouts,
    UpstreamConfig, UsageOptions, WebSocketUse,
};
use flow_uring::credentials::{ApiKeys, Credentials, from_json};
use flow_uring::server::{self, Busy, Driver, FileSource, Gauges, Keyring, Sources};

use super::request::keys_file;
use super::upstream::Upstream;

/// The secrets of the credentials, and their first bytes in every form in which a token could show them.
pub const SECRETS: [&str; 3] = [
    "the-first-secret-is-kept-from-all-output",
    "another-secret-is-kept-from-all-output",
    "a-third-is-kept-from-all-output",
];
pub const BASE_PATH: &str = "/base";

/// The largest body of a request.
const BODY_BYTES_MAX: u64 = 256 * 1024;

/// The memory for second attempts, and the part of it that a shard may keep: less than two of its eight steps.
const REPLAY_BYTES_MAX: usize = 128 * 1024;
const REPLAY_BYTES_KEPT: usize = REPLAY_BYTES_MAX / 4;

/// The time in which a gateway without clients and upstream comes to rest.
const REST_LIMIT: Duration = Duration::from_secs(3);

/// The limits of the gateways: long enough for a busy machine, so that what is fast is never cut off, and short enough
/// for what waits for them.
pub const TIMEOUTS: Timeouts = Timeouts {
    head: Duration::from_millis(90),
    // Clients that are held up between two requests are not its concern; each closes its connection.
    keepalive: Duration::from_secs(2),
    body: Duration::from_millis(90),
    handshake: Duration::from_millis(200),
    connect: Duration::from_secs(1),
    client: Duration::from_millis(90),
    upstream_write: Duration::from_millis(120),
    downstream_write: Duration::from_millis(120),
    // So short that what a script leaves in the pool is closed soon, and requests that follow each other still use it.
    upstream_idle: Duration::from_millis(30),
    drain: Duration::from_secs(1),
    // Hardly longer than the shortest pause before an attempt is repeated: most are not.
    retry: Duration::from_millis(70),
    heartbeat: None,
};

/// A gateway.
pub struct Stage {
    pub name: &'static str,
    pub address: SocketAddr,
    gauges: Gauges,
    pub upstream: Upstream,
    credentials: Arc<Credentials>,
}

impl Stage {
    /// Starts a gateway, which runs until the process ends.
    pub fn start(name: &'static str, io_driver: IoDriver) -> Self {
        let upstream = Upstream::start();
        let entry = |(place, secret): (usize, &&str)| {
            format!(
                r#"{{"name":"c{place}","clientId":"client-{place}","clientSecret":"{secret}","tenant":"t{place}"}}"#
            )
        };
        let entries: Vec<String> = SECRETS.iter().enumerate().map(entry).collect();
        let loaded = from_json(&format!("[{}]", entries.join(","))).expect("a secrets file");
        let credentials = Arc::new(loaded.credentials);
        let keys = ApiKeys::from_text(&keys_file()).expect("a file of keys").keys;
        let keyring = Keyring { credentials: credentials.clone(), api_keys: Some(Arc::new(keys)) };
        let sources = Sources { secrets: FileSource::Fixed, api_keys: FileSource::Fixed, prices: PriceSource::Nothing };
        let config = config(upstream.address, io_driver);
        let (ready_sender, ready) = channel();
        thread::Builder::new()
            .name(format!("gateway-{name}"))
            .spawn(move || {
                let ended = server::run(config, keyring, sources, move |_, _, ready| {
                    let facts = (ready.bound, ready.gauges.clone(), ready.driver.clone());
                    ready_sender.send(facts).expect("somebody waits");
                });
                panic!("a gateway has ended: {ended:?}");
            })
            .expect("a thread");
        let (address, gauges, driver) = ready.recv().expect("the gateway starts");
        match (io_driver, &driver) {
            (IoDriver::Uring, Driver::Uring(_)) | (IoDriver::Epoll, Driver::Epoll) => {}
            _ => panic!("{name}: the gateway runs on {driver}"),
        }
        Stage { name, address, gauges, upstream, credentials }
    }

    /// Waits until nothing is open or under way; what stays is the finding.
    pub fn rest(&self) -> Result<(), String> {
        let due = Instant::now() + REST_LIMIT;
        loop {
            self.await_answer()?;
            let busy = self.gauges.busy();
            let is_kept = busy.replay_bytes < REPLAY_BYTES_KEPT;
            if busy == (Busy { replay_bytes: busy.replay_bytes, ..Busy::default() }) && is_kept {
                break;
            }
            if Instant::now() >= due {
                return Err(format!("not at rest after {REST_LIMIT:?}: {busy:?}"));
            }
            thread::sleep(Duration::from_micros(200));
        }
        let now = Instant::now();
        for (id, _) in self.credentials.entries() {
            self.credentials.wake(id, now);
        }
        Ok(())
    }

    /// Counts the connections in the pool. Their upstream has closed them, which is noticed when they are of age.
    pub fn idle_upstream(&self) -> Result<usize, String> {
        self.await_answer()?;
        Ok(self.gauges.idle_upstream())
    }

    /// Waits until the shard has been through its work once more.
    fn await_answer(&self) -> Result<(), String> {
        let (asked, question) = (Instant::now(), self.gauges.ask());
        while !self.gauges.have_answered(&question) {
            if asked.elapsed() >= REST_LIMIT {
                return Err(format!("{}: a shard does not answer for {REST_LIMIT:?}", self.name));
            }
            thread::sleep(Duration::from_micros(20));
        }
        Ok(())
    }
}

/// Counts the descriptors of this process.
pub fn open_descriptors() -> usize {
    fs::read_dir("/proc/self/fd").expect("Linux").count()
}

/// Describes the descriptors of this process; TCP sockets by the lines of the kernel, with ports and state in hex.
pub fn described_descriptors() -> String {
    let sockets = fs::read_to_string("/proc/self/net/tcp").unwrap_or_default();
    let line_of = |target: &str| {
        let inode = target.strip_prefix("socket:[")?.strip_suffix(']')?;
        sockets.lines().find(|line| line.split_whitespace().nth(9) == Some(inode))
    };
    let entries = fs::read_dir("/proc/self/fd").expect("Linux").flatten();
    let targets = entries.map(|entry| fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned());
    let lines: Vec<String> = targets.map(|target| format!("{target} {}", line_of(&target).unwrap_or(""))).collect();
    lines.join("\n")
}

fn config(upstream: SocketAddr, io_driver: IoDriver) -> Config {
    let url = format!("http://{upstream}{BASE_PATH}");
    let limits = Limits {
        body_bytes_max: Some(BODY_BYTES_MAX),
        replay_bytes_max: 64 * 1024,
        replay_total_bytes_max: REPLAY_BYTES_MAX,
        warm_connections: 0,
        connections_max: 8,
        ..Limits::for_descriptors(1024, NonZeroUsize::MIN)
    };
    Config {
        listen: (Ipv4Addr::LOCALHOST, 0).into(),
        listen_host: "127.0.0.1".into(),
        admin: None,
        shards: NonZeroUsize::MIN,
        take_over: false,
        runtime_directory: None,
        secrets_file: "made up".into(),
        access: AccessConfig::default(),
        listener_tls: None,
        upstream: UpstreamConfig::parse(&url, "the fuzzer").expect("a URL"),
        io_driver,
        pumping: Pumping::default(),
        filter: Filter::default(),
        affinity: Affinity::default(),
        websocket: WebSocketUse::default(),
        timeouts: TIMEOUTS,
        limits,
        log: LogConfig::default(),
        usage: UsageOptions { prices: PriceSource::Nothing, ..UsageOptions::default() },
        quota: QuotaSource::default(),
        capture_directory: None,
        notices: Vec::new(),
    }
}
