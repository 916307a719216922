//! The settings of the gateway itself: its addresses, its threads and its credentials.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use crate::cli::settings::draft::Draft;
use crate::cli::settings::error::{SettingError, ValueSource};
use crate::cli::settings::form::{OwnForm, Switch, Word};
use crate::cli::settings::reading::{Environment, Reading};
use crate::cli::settings::setting::{PathKind, Setting, SettingRank};
use crate::config;

pub const ADMIN: &str = "--admin";
pub const SHARDS: &str = "--shards";
const HOST: &str = "--host";
const TAKE_OVER: &str = "--take-over";
const NO_THREADED: Setting = Setting {
    flag: "--no-threaded",
    variable: Some("FLOW_PROXY_THREADED"),
    help: "accepted for old scripts, without effect",
    default: "",
    rank: SettingRank::Obsolete,
    ..Setting::SWITCH
};

pub const ROWS: &[Setting] = &[
    Setting {
        flag: HOST,
        variable: Some("FLOW_PROXY_HOST"),
        help: "address or name to listen on, 0.0.0.0 = every interface",
        default: config::DEFAULT_HOST,
        rank: SettingRank::Basic,
        form: Some(&OwnForm {
            read: |draft, text| config::parse_host(text).map(|host| draft.config.listen_host = host),
            show: |draft| Some(draft.config.listen_host.clone()),
        }),
        ..Setting::ROW
    },
    Setting {
        flag: "--port",
        variable: Some("FLOW_PROXY_PORT"),
        help: "port to listen on, 0 = any free one",
        default: "8899",
        rank: SettingRank::Basic,
        form: Some(&OwnForm {
            read: |draft, text| {
                let port = config::parse_count(text, 0, u16::MAX.into(), "a port (0 = any free one)")?;
                draft.config.listen.set_port(port);
                Ok(())
            },
            show: |draft| Some(draft.config.listen.port().to_string()),
        }),
        ..Setting::ROW
    },
    Setting {
        flag: ADMIN,
        variable: Some("FLOW_PROXY_ADMIN"),
        help: "address and port of the admin pages (the live page, its API, health, metrics), or off",
        default: "127.0.0.1:8900",
        form: Some(&OwnForm {
            read: |draft, text| config::parse_admin(text).map(|admin| draft.config.admin = admin),
            show: |draft| Some(draft.config.admin.map_or("off".into(), |address| address.to_string())),
        }),
        ..Setting::ROW
    },
    Setting {
        flag: TAKE_OVER,
        help: "take the listening sockets over from the gateway that runs on this address, which then drains and exits",
        form: Some(&Switch(|draft| &mut draft.config.take_over)),
        ..Setting::SWITCH
    },
    Setting {
        flag: SHARDS,
        old_flag: Some("--num-workers"),
        variable: Some("FLOW_PROXY_NUM_WORKERS"),
        help: "threads that serve, each pinned to a CPU",
        default: "the CPUs this process may use",
        example: Some(""),
        rank: SettingRank::Basic,
        form: Some(&OwnForm {
            read: |draft, text| {
                let count: usize = config::parse_count(text, 1, config::SHARDS_MAX as u64, "a whole number")?;
                draft.config.shards = NonZeroUsize::new(count).unwrap_or(NonZeroUsize::MIN);
                Ok(())
            },
            show: |draft| Some(draft.config.shards.to_string()),
        }),
        ..Setting::ROW
    },
    NO_THREADED,
    Setting {
        flag: "--secrets-file",
        variable: Some("FLOW_PROXY_SECRETS_FILE"),
        help: "file with the credentials (see secrets.json.template)",
        default: config::DEFAULT_SECRETS_FILE,
        rank: SettingRank::Basic,
        path: Some(PathKind::File),
        form: Some(&OwnForm {
            read: |draft, text| {
                draft.config.secrets_file = text.into();
                Ok(())
            },
            show: |draft| Some(draft.config.secrets_file.display().to_string()),
        }),
        ..Setting::ROW
    },
    Setting {
        flag: "--affinity",
        variable: Some("FLOW_PROXY_AFFINITY"),
        help: "none, or session: requests of one session, by the header fields of coding agents, go to one credential",
        default: "none",
        form: Some(&Word(|draft| &mut draft.config.affinity)),
        ..Setting::ROW
    },
    Setting {
        flag: "--websocket",
        variable: Some("FLOW_PROXY_WEBSOCKET"),
        help: "auto: upgrades to WebSocket go to the upstream, or off: they are refused (426), so that clients use HTTP",
        default: "auto",
        form: Some(&Word(|draft| &mut draft.config.websocket)),
        ..Setting::ROW
    },
];

/// Finds the listen address and holds the rules about it; `None` where the host has none.
pub fn settle(
    reading: &mut Reading<'_>,
    draft: &mut Draft,
    resolve: &dyn Fn(&str, u16) -> io::Result<SocketAddr>,
) -> Option<SocketAddr> {
    let (host, port) = (&draft.config.listen_host, draft.config.listen.port());
    let listen = match host.parse::<IpAddr>() {
        Ok(address) => Ok(SocketAddr::new(address, port)),
        // RFC 6761 §6.3: always this machine; IPv4, which every client tries.
        Err(_) if host.eq_ignore_ascii_case("localhost") => Ok(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port)),
        Err(_) => resolve(host, port),
    };
    if draft.config.take_over && port == 0 {
        let rule = "name the --port of the gateway that is to be taken over; 0 is any free one";
        reading.conflict(ValueSource::Flag(TAKE_OVER), rule);
    }
    match listen {
        Ok(listen) => {
            draft.config.listen = listen;
            if let Some(admin) = draft.config.admin {
                separate_admin(reading, admin, listen);
            }
            Some(listen)
        }
        Err(error) => {
            let source = reading.source(HOST).unwrap_or(ValueSource::Default);
            reading.errors.push(SettingError::ListenHost { source, error });
            None
        }
    }
}

fn separate_admin(reading: &mut Reading<'_>, admin: SocketAddr, listen: SocketAddr) {
    let is_same_host = admin.ip() == listen.ip() || admin.ip().is_unspecified() || listen.ip().is_unspecified();
    if is_same_host && admin.port() == listen.port() && admin.port() != 0 {
        let source = reading.source(ADMIN).unwrap_or(ValueSource::Default);
        let rule = "the admin pages (--admin) cannot have the port of the gateway itself: choose another, or off";
        reading.conflict(source, rule);
    }
}

/// The address of a listen host that is a name; IPv4 where there is a choice.
///
/// # Errors
/// If the name has no address.
pub fn resolve_listen_host(host: &str, port: u16) -> io::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = (host, port).to_socket_addrs()?.collect();
    let chosen = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    chosen.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address"))
}

/// The directory of this user's sockets: what systemd made for the service, or for the session. The latter has to be
/// absolute by the XDG Base Directory Specification; systemd's always is, and may be a list.
pub fn runtime_directory(environment: &Environment<'_>) -> Option<PathBuf> {
    let of_service = environment("RUNTIME_DIRECTORY").ok();
    let of_service = of_service.as_deref().and_then(|list| list.split(':').next()).map(PathBuf::from);
    let of_session = || environment("XDG_RUNTIME_DIR").ok().map(PathBuf::from);
    of_service.filter(|path| path.is_absolute()).or_else(|| of_session().filter(|path| path.is_absolute()))
}

/// Tells that `--no-threaded` does nothing, if anybody has given it.
pub fn without_effect(reading: &mut Reading<'_>) -> Option<String> {
    let (_, source) = reading.pick(&NO_THREADED)?;
    Some(format!("{source}: has no effect, there is always one thread a shard (see --shards)"))
}

/// Warns of admin pages that others can reach.
pub fn exposed_admin(admin: SocketAddr) -> Option<String> {
    (!admin.ip().to_canonical().is_loopback()).then(|| {
        format!(
            "--admin {admin}: whoever reaches this address can read the names of the credentials and how much they are used"
        )
    })
}
