//! The settings of a run: validated values with their units.
//!
//! Invariant: a [`Config`] that exists is usable; a wrong setting was refused while it was made. The limits of the
//! contract and their defaults are defined here and nowhere else (those of a message head in `http1`). The source of a
//! value (flag, environment, `.env`) is the concern of `cli`.

mod access;
mod authority;
mod concealed;
mod keyword;
mod limits;
mod logging;
mod process;
mod upstream;
mod upstream_proxy;
mod usage;
mod value;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

pub use access::{AccessConfig, Origin, parse_list};
pub(crate) use authority::{Authority, is_loopback, is_same_host, without_brackets};
pub use authority::{join_authority, parse_admin, parse_authority, parse_host};
pub use concealed::Concealed;
pub use keyword::{Affinity, Filter, IoDriver, Keyword, LogFormat, LogLevel, Pumping, QuotaSource, WebSocketUse};
pub use limits::{Limits, Timeouts, WARM_CONNECTIONS_MAX};
pub use logging::{LOG_FILE_NAME, LogConfig, LogFileLocation, LogRetention};
pub use process::{
    default_shards, descriptors_max, forbid_core_dumps, keep_names_to_hosts_and_dns, raise_descriptor_limit,
};
pub use upstream::{Scheme, Trust, UpstreamConfig};
pub use upstream_proxy::{UpstreamProxy, is_named_by_no_proxy, percent_decoded};
pub use usage::{PriceSource, USAGE_FILE_NAME, UsageOptions, parse_on_off};
pub use value::{Expected, MEBIBYTE, MEGABYTE, parse_bool, parse_count, parse_mebibytes, parse_seconds};

/// The default host of the listener: a gateway that holds credentials is for this machine alone.
pub const DEFAULT_HOST: &str = "127.0.0.1";
/// The default port of the listener, as the guides and the Python original name it.
pub const DEFAULT_PORT: u16 = 8899;
/// The default address of the admin pages: for this machine alone, whatever address the gateway itself is on.
pub const DEFAULT_ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 8900);
/// The default secrets file, in the working directory.
pub const DEFAULT_SECRETS_FILE: &str = "secrets.json";
/// The default upstream: the production Flow LLM Proxy.
pub const DEFAULT_UPSTREAM: &str = "https://flow.ciandt.com/flow-llm-proxy";
/// More shards than any machine has cores; a larger number is a typing error.
pub const SHARDS_MAX: usize = 1024;

/// All settings of a run but the credentials.
#[derive(Debug, Clone)]
pub struct Config {
    pub listen: SocketAddr,
    /// The host of `listen` as it was written, for the banner.
    pub listen_host: String,
    /// The address of the admin pages; `None`: there are none.
    pub admin: Option<SocketAddr>,
    pub shards: NonZeroUsize,
    /// Takes the listening sockets over from the gateway that runs on `listen`.
    pub take_over: bool,
    /// The directory for this user's sockets; `None`: the system has not set one up.
    pub runtime_directory: Option<PathBuf>,
    pub secrets_file: PathBuf,
    pub access: AccessConfig,
    /// `None`: the listener speaks plain HTTP.
    pub listener_tls: Option<ListenerTls>,
    pub upstream: UpstreamConfig,
    pub io_driver: IoDriver,
    pub pumping: Pumping,
    pub filter: Filter,
    pub affinity: Affinity,
    pub websocket: WebSocketUse,
    pub timeouts: Timeouts,
    pub limits: Limits,
    pub log: LogConfig,
    pub usage: UsageOptions,
    pub quota: QuotaSource,
    /// The directory that failed exchanges are kept in; `None`: none is kept.
    pub capture_directory: Option<PathBuf>,
    /// Lines for the operator about accepted settings whose effect may surprise.
    pub notices: Vec<String>,
}

/// The PEM files of a listener that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerTls {
    /// The chain, its own certificate first.
    pub certificate: PathBuf,
    pub key: PathBuf,
}
