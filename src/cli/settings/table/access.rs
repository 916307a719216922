//! The settings of access: keys, pages, host names, and TLS for clients.
//!
//! Invariant: no key is ever shown, and one that cannot be read is an error, not an open door.

use std::net::SocketAddr;

use crate::cli::settings::draft::Draft;
use crate::cli::settings::error::{SettingError, ValueSource};
use crate::cli::settings::form::{List, OptionalPath};
use crate::cli::settings::reading::Reading;
use crate::cli::settings::setting::{PathKind, Setting};
use crate::config::{self, ListenerTls, Origin};
use crate::credentials::{ApiKeys, LoadedKeys};
use crate::observability::list_names;

pub const ADMIN_TOKEN_FILE: &str = "--admin-token-file";

const CERTIFICATE: &str = "--tls-cert";
const KEY: &str = "--tls-key";
/// A flag would show the keys to everybody who lists processes.
const API_KEYS: Setting = Setting {
    flag: "--api-keys",
    has_flag: false,
    variable: Some("FLOW_PROXY_API_KEYS"),
    help: "the keys themselves in place of a file, name:key,name:key",
    default: "none asked for",
    example: Some(""),
    ..Setting::ROW
};

pub const ROWS: &[Setting] = &[
    Setting {
        flag: "--api-keys-file",
        variable: Some("FLOW_PROXY_API_KEYS_FILE"),
        help: "file with the keys that callers must show, JSON with limits or name:key a line (or FLOW_PROXY_API_KEYS with \
               name:key,name:key)",
        default: "none asked for",
        example: Some("/etc/flow-uring/keys"),
        path: Some(PathKind::File),
        form: Some(&OptionalPath(|draft| &mut draft.config.access.api_keys_file)),
        ..Setting::ROW
    },
    API_KEYS,
    Setting {
        flag: ADMIN_TOKEN_FILE,
        variable: Some("FLOW_PROXY_ADMIN_TOKEN_FILE"),
        help: "file with the token that the live page and its API ask for, read again on SIGHUP; without it they are for \
               loopback addresses alone",
        default: "none asked for",
        example: Some("/etc/flow-uring/admin-token"),
        path: Some(PathKind::File),
        form: Some(&OptionalPath(|draft| &mut draft.config.access.admin_token_file)),
        ..Setting::ROW
    },
    Setting {
        flag: CERTIFICATE,
        variable: Some("FLOW_PROXY_TLS_CERT"),
        help: "PEM file with the certificate chain of a listener that speaks TLS, read again on SIGHUP",
        default: "plain HTTP",
        example: Some("/etc/flow-uring/cert.pem"),
        path: Some(PathKind::File),
        form: Some(&OptionalPath(|draft| &mut draft.tls_certificate)),
        ..Setting::ROW
    },
    Setting {
        flag: KEY,
        variable: Some("FLOW_PROXY_TLS_KEY"),
        help: "PEM file with its private key",
        default: "plain HTTP",
        example: Some("/etc/flow-uring/key.pem"),
        path: Some(PathKind::File),
        form: Some(&OptionalPath(|draft| &mut draft.tls_key)),
        ..Setting::ROW
    },
    Setting {
        flag: "--allow-origin",
        variable: Some("FLOW_PROXY_ALLOW_ORIGIN"),
        may_repeat: true,
        help: "origin whose pages may use the gateway, such as https://app.example.com; may be repeated, or in the variable \
               separated by commas",
        default: "none",
        example: Some("https://app.example.com"),
        form: Some(&List { member: Origin::parse, field: |draft| &mut draft.config.access.allow_origins }),
        ..Setting::ROW
    },
    Setting {
        flag: "--allow-host",
        variable: Some("FLOW_PROXY_ALLOW_HOST"),
        may_repeat: true,
        help: "host name by which the gateway may be called, beside those of this machine; may be repeated, or in the \
               variable separated by commas",
        default: "none",
        example: Some("gateway.example.com"),
        form: Some(&List {
            member: |host| config::parse_host(host).map(|host| host.to_ascii_lowercase()),
            field: |draft| &mut draft.config.access.allow_hosts,
        }),
        ..Setting::ROW
    },
];

/// Joins the certificate with its key, and reads the API keys that the environment itself holds.
pub fn settle(reading: &mut Reading<'_>, draft: &mut Draft) -> Option<LoadedKeys> {
    let written_in = |flag| reading.source(flag).unwrap_or(ValueSource::Default);
    match (draft.tls_certificate.take(), draft.tls_key.take()) {
        (Some(certificate), Some(key)) => draft.config.listener_tls = Some(ListenerTls { certificate, key }),
        (None, None) => {}
        (Some(_), None) => {
            reading.conflict(written_in(CERTIFICATE), "a certificate needs its key too: give --tls-key");
        }
        (None, Some(_)) => reading.conflict(written_in(KEY), "a key needs its certificate too: give --tls-cert"),
    }
    read_api_keys(reading, draft.config.access.api_keys_file.is_some())
}

fn read_api_keys(reading: &mut Reading<'_>, has_file: bool) -> Option<LoadedKeys> {
    let (text, source) = reading.pick(&API_KEYS)?;
    if has_file {
        reading.conflict(source, "there is a file of API keys too: give only one of them");
    }
    match ApiKeys::from_list(&text) {
        Ok(loaded) => {
            reading.note(API_KEYS.flag, list_names(loaded.keys.names()), source);
            Some(loaded)
        }
        Err(mistakes) => {
            reading.errors.extend(mistakes.into_iter().map(|what| SettingError::ApiKeys { source, what }));
            None
        }
    }
}

/// Warns of a gateway that listens where others can reach it and asks for no key.
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
