//! The settings of who may use the gateway: keys, pages, host names, TLS for clients, and where the admin pages are.
//!
//! Invariant: no key is ever shown, and one that cannot be read is a mistake, not an open door.

use std::net::SocketAddr;

use super::source::{EffectiveSetting, Setting, SettingError, SettingsReader, ValueSource};
use crate::cli::args::Args;
use crate::config::{self, AccessConfig, ListenerTls, Origin};
use crate::credentials::{ApiKeys, LoadedKeys};

pub fn read_access(reader: &mut SettingsReader<'_>, args: &Args) -> AccessConfig {
    const API_KEYS_FILE: Setting = Setting::new("--api-keys-file", "FLOW_PROXY_API_KEYS_FILE");
    let (api_keys_file, _) = reader.read_path(API_KEYS_FILE, args.api_keys_file.as_deref(), "none");
    let allow_origins = reader.read_shown(
        Setting::new("--allow-origin", "FLOW_PROXY_ALLOW_ORIGIN"),
        joined(&args.allow_origin).as_deref(),
        Vec::new(),
        |text| config::parse_list(text, Origin::parse),
        |origins| listed(origins.iter().map(Origin::as_str)),
    );
    let allow_hosts = reader.read_shown(
        Setting::new("--allow-host", "FLOW_PROXY_ALLOW_HOST"),
        joined(&args.allow_host).as_deref(),
        Vec::new(),
        |text| config::parse_list(text, |host| config::parse_host(host).map(|host| host.to_ascii_lowercase())),
        |hosts| listed(hosts.iter().map(String::as_str)),
    );
    AccessConfig { allow_origins, allow_hosts, api_keys_file }
}

pub fn read_listener_tls(reader: &mut SettingsReader<'_>, args: &Args) -> Option<ListenerTls> {
    const CERTIFICATE: Setting = Setting::new("--tls-cert", "FLOW_PROXY_TLS_CERT");
    const KEY: Setting = Setting::new("--tls-key", "FLOW_PROXY_TLS_KEY");
    let (certificate, of_certificate) = reader.read_path(CERTIFICATE, args.tls_cert.as_deref(), "none, plain HTTP");
    let (key, of_key) = reader.read_path(KEY, args.tls_key.as_deref(), "none, plain HTTP");
    let (source, rule) = match (certificate, key) {
        (Some(certificate), Some(key)) => return Some(ListenerTls { certificate, key }),
        (None, None) => return None,
        (Some(_), None) => (of_certificate, "a certificate needs its key too: give --tls-key"),
        (None, Some(_)) => (of_key, "a key needs its certificate too: give --tls-cert"),
    };
    reader.mistakes.push(SettingError::Conflict { source, rule });
    None
}

/// What a flag that may be repeated says as one list.
fn joined(written: &[String]) -> Option<String> {
    Some(written.join(",")).filter(|list| !list.is_empty())
}

fn listed<'a>(members: impl Iterator<Item = &'a str>) -> String {
    let members: Vec<&str> = members.collect();
    if members.is_empty() { "none".into() } else { members.join(", ") }
}

/// The API keys that the environment itself holds. Its value is never shown.
pub fn read_api_keys(reader: &mut SettingsReader<'_>, has_file: bool) -> Option<LoadedKeys> {
    // A flag would show them to everybody who lists processes.
    const SETTING: Setting = Setting::new("--api-keys", "FLOW_PROXY_API_KEYS");
    let (text, source) = reader.pick(SETTING, None)?;
    if has_file {
        let rule = "there is a file of API keys too: give only one of them";
        reader.mistakes.push(SettingError::Conflict { source, rule });
    }
    match ApiKeys::from_list(&text) {
        Ok(loaded) => {
            let value = listed(loaded.keys.names());
            reader.findings.push(EffectiveSetting { flag: SETTING.flag, value, source });
            Some(loaded)
        }
        Err(mistakes) => {
            reader.mistakes.extend(mistakes.into_iter().map(|what| SettingError::ApiKeys { source, what }));
            None
        }
    }
}

/// What it means to listen where others can reach it, and to ask for no key.
pub fn open_door(listen: SocketAddr) -> Option<String> {
    let others =
        if listen.ip().is_unspecified() { "every address of this machine" } else { "an address of the network" };
    (!listen.ip().to_canonical().is_loopback()).then(|| {
        format!(
            "listening on {others} without API keys: whoever reaches port {} spends your tokens (see --api-keys-file, or \
             listen on 127.0.0.1)",
            listen.port()
        )
    })
}

pub fn read_admin(reader: &mut SettingsReader<'_>, args: &Args, listen: Option<SocketAddr>) -> Option<SocketAddr> {
    let admin = reader.read_shown(
        Setting::new("--admin", "FLOW_PROXY_ADMIN"),
        args.admin.as_deref(),
        Some(config::DEFAULT_ADMIN),
        config::parse_admin,
        |admin| admin.map_or("off".into(), |address| address.to_string()),
    );
    if let (Some(admin), Some(listen)) = (admin, listen)
        && admin.port() == listen.port()
        && admin.port() != 0
        && (admin.ip() == listen.ip() || admin.ip().is_unspecified() || listen.ip().is_unspecified())
    {
        let source = reader.findings.last().map_or(ValueSource::Default, |finding| finding.source);
        let rule = "the admin pages (--admin) cannot have the port of the gateway itself: choose another, or off";
        reader.mistakes.push(SettingError::Conflict { source, rule });
    }
    admin
}

/// What it means that others reach the admin pages too.
pub fn exposed_admin(admin: SocketAddr) -> Option<String> {
    (!admin.ip().to_canonical().is_loopback()).then(|| {
        format!(
            "--admin {admin}: whoever reaches this address can read the names of the credentials and how much they are used"
        )
    })
}
