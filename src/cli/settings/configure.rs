//! From the command line, the environment and `.env` to a [`Config`].
//!
//! The one place that knows every setting's names, default and form. Invariant: it reads the surroundings through
//! [`Surroundings`] only, so that a test owns all of its input.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

use super::access::{exposed_admin, open_door, read_access, read_admin, read_api_keys, read_listener_tls};
use super::dotenv::{DotEnv, DotEnvError};
use super::logging::read_log;
use super::source::{EffectiveSetting, Environment, Setting, SettingError, SettingErrors, SettingsReader, ValueSource};
use super::upstream_proxy::read_upstream_proxy;
use crate::cli::args::Args;
use crate::config::{self, Config, Expected, Filter, IoDriver, Limits, MEBIBYTE, Timeouts, Trust, UpstreamConfig};
use crate::credentials::LoadedKeys;

/// A day: longer waits are a slip of the hand.
const SECONDS_MAX: Duration = Duration::from_secs(86_400);
/// The finest wait that a timer of the program can keep.
const SECONDS_MIN: Duration = Duration::from_millis(1);
/// Comments that come more often would be traffic of their own.
const HEARTBEAT_MIN: Duration = Duration::from_millis(100);
/// A terabyte, which is to say any body.
const BODY_MEBIBYTES_MAX: u64 = 1024 * 1024;
/// More than Linux lets one process open (`fs.nr_open`'s default is 2^20).
const CONNECTIONS_MAX: u64 = 1 << 20;

/// What a configuration is made from besides the command line.
pub struct Surroundings<'a> {
    pub environment: &'a Environment<'a>,
    pub dotenv: Result<DotEnv, DotEnvError>,
    /// How many files this process may open.
    pub descriptors_max: u64,
    /// Finds the address of a listen host that is a name.
    pub resolve: &'a dyn Fn(&str, u16) -> io::Result<SocketAddr>,
}

/// A configuration, and where each of its values comes from.
#[derive(Debug)]
pub struct Configured {
    pub config: Config,
    /// The API keys that the environment itself holds.
    pub api_keys: Option<LoadedKeys>,
    pub findings: Vec<EffectiveSetting>,
}

impl Configured {
    /// Whether anybody has said what the setting of this flag is to be.
    pub fn is_written(&self, flag: &str) -> bool {
        self.findings.iter().any(|finding| finding.flag == flag && finding.source != ValueSource::Default)
    }
}

/// Reads and checks every setting.
///
/// # Errors
/// All that is wrong, at once.
pub fn configure(args: &Args, surroundings: Surroundings<'_>) -> Result<Configured, SettingErrors> {
    let Surroundings { environment, dotenv, descriptors_max, resolve } = surroundings;
    let mut reader = SettingsReader::new(environment, dotenv);
    let (listen, listen_host) = read_listen(&mut reader, args, resolve);
    let admin = read_admin(&mut reader, args, listen);
    let shards = read_shards(&mut reader, args);
    let secrets_file = reader.read(
        Setting::new("--secrets-file", "FLOW_PROXY_SECRETS_FILE"),
        args.secrets_file.as_deref(),
        config::DEFAULT_SECRETS_FILE.to_owned(),
        |text| Ok(text.to_owned()),
    );
    let upstream = read_upstream(&mut reader, args, listen);
    let io_driver = reader.read(
        Setting::new("--io-driver", "FLOW_PROXY_IO_DRIVER"),
        args.io_driver.as_deref(),
        IoDriver::default(),
        str::parse,
    );
    let filter = reader.read(
        Setting::new("--filter", "FLOW_PROXY_FILTER"),
        args.filter.as_deref(),
        Filter::default(),
        str::parse,
    );
    let timeouts = read_timeouts(&mut reader, args);
    let limits = read_limits(&mut reader, args, Limits::for_descriptors(descriptors_max, shards));
    let log = read_log(&mut reader, args);
    let access = read_access(&mut reader, args);
    let listener_tls = read_listener_tls(&mut reader, args);
    let api_keys = read_api_keys(&mut reader, access.api_keys_file.is_some());
    let mut notices = notices(&mut reader, args, upstream.as_ref(), &limits, descriptors_max);
    let asks_for_keys = access.api_keys_file.is_some() || api_keys.is_some();
    notices.extend(listen.filter(|_| !asks_for_keys).and_then(open_door));
    notices.extend(admin.and_then(exposed_admin));
    let SettingsReader { findings, mistakes, .. } = reader;
    match (listen, upstream) {
        (Some(listen), Some(upstream)) if mistakes.is_empty() => {
            let secrets_file = PathBuf::from(secrets_file);
            let config = Config {
                listen,
                listen_host,
                admin,
                shards,
                take_over: args.take_over,
                runtime_directory: runtime_directory(environment),
                secrets_file,
                access,
                listener_tls,
                upstream,
                io_driver,
                filter,
                timeouts,
                limits,
                log,
                notices,
            };
            Ok(Configured { config, api_keys, findings })
        }
        _ => Err(SettingErrors(mistakes)),
    }
}

/// The address of a listen host that is a name; IPv4 where there is a choice.
///
/// # Errors
/// When the name has no address.
pub fn resolve_listen_host(host: &str, port: u16) -> io::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let chosen = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    chosen.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

fn read_listen(
    reader: &mut SettingsReader<'_>,
    args: &Args,
    resolve: &dyn Fn(&str, u16) -> io::Result<SocketAddr>,
) -> (Option<SocketAddr>, String) {
    let host = reader.read(
        Setting::new("--host", "FLOW_PROXY_HOST"),
        args.host.as_deref(),
        config::DEFAULT_HOST.to_owned(),
        config::parse_host,
    );
    let host_source = reader.findings.last().map_or(ValueSource::Default, |finding| finding.source);
    let port =
        reader.read(Setting::new("--port", "FLOW_PROXY_PORT"), args.port.as_deref(), config::DEFAULT_PORT, |text| {
            config::parse_count(text, 0, u16::MAX.into(), "a port (0 = any free one)")
        });
    let listen = match host.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, port)),
        // RFC 6761 §6.3: always this machine; IPv4, which every client tries.
        Err(_) if host.eq_ignore_ascii_case("localhost") => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        Err(_) => resolve(&host, port),
    };
    if args.take_over && port == 0 {
        let rule = "name the --port of the gateway that is to be taken over; 0 is any free one";
        reader.mistakes.push(SettingError::Conflict { source: ValueSource::Flag("--take-over"), rule });
    }
    match listen {
        Ok(listen) => (Some(listen), host),
        Err(error) => {
            reader.mistakes.push(SettingError::ListenHost { source: host_source, error });
            (None, host)
        }
    }
}

/// Where this user's sockets go: what systemd made for the service, or for the session. The latter has to be absolute by
/// the XDG Base Directory Specification; systemd's always is, and may be a list.
fn runtime_directory(environment: &Environment<'_>) -> Option<PathBuf> {
    let of_service = environment("RUNTIME_DIRECTORY").ok();
    let of_service = of_service.as_deref().and_then(|list| list.split(':').next()).map(PathBuf::from);
    let of_session = || environment("XDG_RUNTIME_DIR").ok().map(PathBuf::from);
    of_service.filter(|path| path.is_absolute()).or_else(|| of_session().filter(|path| path.is_absolute()))
}

fn read_shards(reader: &mut SettingsReader<'_>, args: &Args) -> NonZeroUsize {
    let flag = if args.num_workers.is_some() { "--num-workers" } else { "--shards" };
    if args.shards.is_some() && args.num_workers.is_some() {
        let rule = "it is the old name of --shards: give only one of them";
        reader.mistakes.push(SettingError::Conflict { source: ValueSource::Flag(flag), rule });
    }
    let written = args.num_workers.as_deref().or(args.shards.as_deref());
    let setting = Setting::new(flag, "FLOW_PROXY_NUM_WORKERS");
    reader.read(setting, written, config::default_shards(), |text| {
        let count: usize = config::parse_count(text, 1, config::SHARDS_MAX as u64, "a whole number")?;
        Ok(NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN))
    })
}

fn read_upstream(reader: &mut SettingsReader<'_>, args: &Args, listen: Option<SocketAddr>) -> Option<UpstreamConfig> {
    let setting = Setting::new("--upstream", "FLOW_PROXY_TARGET_URL");
    let written = reader.pick(setting, args.upstream.as_deref());
    let (url, source) = written.unwrap_or((config::DEFAULT_UPSTREAM.to_owned(), ValueSource::Default));
    let upstream = UpstreamConfig::parse(&url, source.to_string());
    let connect_to = reader.read_shown(
        Setting::new("--upstream-addr", "FLOW_PROXY_UPSTREAM_ADDR"),
        args.upstream_addr.as_deref(),
        None,
        |text| config::parse_authority(text).map(Some),
        |address| {
            address.as_ref().map_or("the URL's host, resolved".into(), |(host, port)| format!("{host} port {port}"))
        },
    );
    const CA_FILE: Setting = Setting::new("--upstream-ca", "FLOW_PROXY_UPSTREAM_CA");
    let (ca_file, _) = reader.read_path(CA_FILE, args.upstream_ca.as_deref(), "the system's trust store");
    let upstream = match upstream {
        Ok(upstream) => UpstreamConfig { connect_to, trust: ca_file.map_or(Trust::System, Trust::File), ..upstream },
        Err(expected) => {
            reader.mistakes.push(SettingError::Value { source, expected });
            read_upstream_proxy(reader, args, None, listen);
            return None;
        }
    };
    let proxy = read_upstream_proxy(reader, args, Some(&upstream), listen);
    let upstream = UpstreamConfig { proxy, ..upstream };
    if upstream.leaks_token() && !args.allow_plain_upstream {
        let rule = "an http:// upstream that is not on this machine would send tokens, and the client secrets in them, in \
                    the clear: use https://, or --allow-plain-upstream if the network is yours";
        reader.mistakes.push(SettingError::Conflict { source, rule });
    }
    reader.findings.push(EffectiveSetting { flag: setting.flag, value: upstream.url(), source });
    Some(upstream)
}

fn read_timeouts(reader: &mut SettingsReader<'_>, args: &Args) -> Timeouts {
    let defaults = Timeouts::default();
    let mut read = |setting, written: &Option<String>, default, min| {
        reader.read_shown(
            setting,
            written.as_deref(),
            default,
            |text| config::parse_seconds(text, min, SECONDS_MAX),
            |duration| format!("{} s", duration.as_secs_f64()),
        )
    };
    let one_second = Duration::from_secs(1);
    Timeouts {
        head: read(
            Setting::new("--head-timeout", "FLOW_PROXY_HEAD_TIMEOUT"),
            &args.head_timeout,
            defaults.head,
            SECONDS_MIN,
        ),
        keepalive: read(
            Setting::new("--keepalive-timeout", "FLOW_PROXY_KEEPALIVE_TIMEOUT"),
            &args.keepalive_timeout,
            defaults.keepalive,
            SECONDS_MIN,
        ),
        body: read(
            Setting::new("--body-timeout", "FLOW_PROXY_BODY_TIMEOUT"),
            &args.body_timeout,
            defaults.body,
            SECONDS_MIN,
        ),
        connect: read(
            Setting::new("--connect-timeout", "FLOW_PROXY_CONNECT_TIMEOUT"),
            &args.connect_timeout,
            defaults.connect,
            SECONDS_MIN,
        ),
        client: read(
            Setting::new("--client-timeout", "FLOW_PROXY_CLIENT_TIMEOUT"),
            &args.client_timeout,
            defaults.client,
            one_second,
        ),
        upstream_idle: read(
            Setting::new("--upstream-idle-timeout", "FLOW_PROXY_UPSTREAM_IDLE_TIMEOUT"),
            &args.upstream_idle_timeout,
            defaults.upstream_idle,
            SECONDS_MIN,
        ),
        // 0: stop at once.
        drain: read(
            Setting::new("--drain-timeout", "FLOW_PROXY_DRAIN_TIMEOUT"),
            &args.drain_timeout,
            defaults.drain,
            Duration::ZERO,
        ),
        // 0: the first attempt is the only one.
        retry: read(
            Setting::new("--retry-deadline", "FLOW_PROXY_RETRY_DEADLINE"),
            &args.retry_deadline,
            defaults.retry,
            Duration::ZERO,
        ),
        handshake: defaults.handshake,
        upstream_write: defaults.upstream_write,
        downstream_write: defaults.downstream_write,
        heartbeat: read_heartbeat(reader, args, defaults.heartbeat),
    }
}

fn read_heartbeat(reader: &mut SettingsReader<'_>, args: &Args, default: Option<Duration>) -> Option<Duration> {
    let parse = |text: &str| match config::parse_seconds(text, Duration::ZERO, SECONDS_MAX) {
        Ok(Duration::ZERO) => Ok(None),
        _ => config::parse_seconds(text, HEARTBEAT_MIN, SECONDS_MAX)
            .map(Some)
            .map_err(|Expected(form)| Expected(format!("0 (off) or {form}"))),
    };
    reader.read_shown(
        Setting::new("--sse-heartbeat", "FLOW_PROXY_SSE_HEARTBEAT"),
        args.sse_heartbeat.as_deref(),
        default,
        parse,
        |heartbeat| heartbeat.map_or("off".into(), |interval| format!("{} s", interval.as_secs_f64())),
    )
}

fn read_limits(reader: &mut SettingsReader<'_>, args: &Args, defaults: Limits) -> Limits {
    let body_bytes_max = reader.read_shown(
        Setting::new("--body-max", "FLOW_PROXY_BODY_MAX"),
        args.body_max.as_deref(),
        defaults.body_bytes_max,
        |text| config::parse_mebibytes(text, 0, BODY_MEBIBYTES_MAX).map(|bytes| Some(bytes).filter(|bytes| *bytes > 0)),
        |limit| limit.map_or("no limit".into(), |bytes| format!("{} MiB", bytes / MEBIBYTE)),
    );
    // A single copy larger than all of them together could never be kept.
    let replay_mebibytes_max = defaults.replay_total_bytes_max as u64 / MEBIBYTE;
    let replay_bytes_max = reader.read_shown(
        Setting::new("--replay-max", "FLOW_PROXY_REPLAY_MAX"),
        args.replay_max.as_deref(),
        defaults.replay_bytes_max,
        |text| config::parse_mebibytes(text, 0, replay_mebibytes_max).map(|bytes| bytes as usize),
        |bytes| format!("{} MiB", *bytes as u64 / MEBIBYTE),
    );
    let connections_max = reader.read(
        Setting::new("--max-connections", "FLOW_PROXY_MAX_CONNECTIONS"),
        args.max_connections.as_deref(),
        defaults.connections_max,
        |text| config::parse_count(text, 1, CONNECTIONS_MAX, "a whole number"),
    );
    Limits { body_bytes_max, replay_bytes_max, connections_max, ..defaults }
}

/// Settings that are accepted and do something other than their writer may expect.
fn notices(
    reader: &mut SettingsReader<'_>,
    args: &Args,
    upstream: Option<&UpstreamConfig>,
    limits: &Limits,
    descriptors_max: u64,
) -> Vec<String> {
    let mut notices = Vec::new();
    if upstream.is_some_and(UpstreamConfig::leaks_token) {
        notices.push(
            "--allow-plain-upstream: tokens, and the client secrets in them, cross the network in the clear".into(),
        );
    }
    let threaded = Setting::new("--no-threaded", "FLOW_PROXY_THREADED");
    let written = args.no_threaded.then_some("true");
    if let Some((_, source)) = reader.pick(threaded, written) {
        notices.push(format!("{source}: has no effect, there is always one thread a shard (see --shards)"));
    }
    // Each exchange may need an upstream connection too.
    if limits.connections_max as u64 > descriptors_max / 2 {
        notices.push(format!(
            "--max-connections {}: this process may open {descriptors_max} files and an exchange needs two, so fewer will \
             be reached (raise the limit with ulimit -n)",
            limits.connections_max
        ));
    }
    notices
}

#[cfg(test)]
mod tests;
