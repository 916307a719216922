//! The settings of the upstream: its URL, and how it is reached and trusted.

use std::net::SocketAddr;
use std::path::Path;

use super::upstream_proxy;
use crate::cli::settings::draft::Draft;
use crate::cli::settings::form::{OwnForm, Switch};
use crate::cli::settings::reading::Reading;
use crate::cli::settings::setting::{PathKind, Setting, SettingRank};
use crate::config::{self, Trust, UpstreamConfig};

const UPSTREAM: &str = "--upstream";

pub const ROWS: &[Setting] = &[
    Setting {
        flag: UPSTREAM,
        variable: Some("FLOW_PROXY_TARGET_URL"),
        help: "base URL of the Flow LLM Proxy (development: https://dev.flow.ciandt.com/flow-llm-proxy)",
        default: config::DEFAULT_UPSTREAM,
        rank: SettingRank::Basic,
        form: Some(&OwnForm {
            read: |draft, text| {
                let upstream = &mut draft.config.upstream;
                let (connect_to, trust) = (upstream.connect_to.take(), upstream.trust.clone());
                *upstream = UpstreamConfig { connect_to, trust, ..UpstreamConfig::parse(text, "")? };
                Ok(())
            },
            show: |draft| Some(draft.config.upstream.url()),
        }),
        ..Setting::ROW
    },
    Setting {
        flag: "--upstream-ca",
        variable: Some("FLOW_PROXY_UPSTREAM_CA"),
        help: "PEM file with the certificate authorities to trust",
        default: "the system's trust store",
        example: Some("/etc/ssl/our-ca.pem"),
        path: Some(PathKind::File),
        form: Some(&OwnForm {
            read: |draft, text| {
                draft.config.upstream.trust = Trust::File(text.into());
                Ok(())
            },
            show: |draft| trusted_file(&draft.config.upstream.trust).map(|path| path.display().to_string()),
        }),
        ..Setting::ROW
    },
    Setting {
        flag: "--upstream-addr",
        variable: Some("FLOW_PROXY_UPSTREAM_ADDR"),
        help: "connect here; the TLS name and the Host field stay the URL's",
        default: "the URL's host, resolved",
        example: Some("10.0.0.7:443"),
        form: Some(&OwnForm {
            read: |draft, text| {
                draft.config.upstream.connect_to = Some(config::parse_authority(text)?);
                Ok(())
            },
            show: |draft| draft.config.upstream.connect_to.as_ref().map(|(host, port)| format!("{host} port {port}")),
        }),
        ..Setting::ROW
    },
    Setting {
        flag: upstream_proxy::FLAG,
        variable: Some("HTTPS_PROXY"),
        help: "HTTP proxy to reach the upstream through, http://[user:password@]host:port; the variable counts unless \
               NO_PROXY names the upstream",
        default: "none",
        example: Some("http://proxy.example.com:3128"),
        ..Setting::ROW
    },
    Setting {
        flag: "--no-proxy",
        has_flag: false,
        variable: Some("NO_PROXY"),
        help: "the exceptions to HTTPS_PROXY, separated by commas",
        default: "none",
        example: Some("localhost,.example.com"),
        ..Setting::ROW
    },
    Setting {
        flag: "--allow-plain-upstream",
        help: "allow an http:// upstream that is not on this machine: tokens, and the secrets in them, then cross the \
               network in the clear",
        form: Some(&Switch(|draft| &mut draft.allow_plain_upstream)),
        ..Setting::SWITCH
    },
];

fn trusted_file(trust: &Trust) -> Option<&Path> {
    match trust {
        Trust::File(path) => Some(path),
        Trust::System | Trust::Pem(_) => None,
    }
}

/// Finds the proxy of the upstream, and refuses one to which tokens would go in the clear. `listen` is where the
/// gateway listens; an `is_embedded` upstream replaces the one that is configured.
pub fn settle(reading: &mut Reading<'_>, draft: &mut Draft, listen: Option<SocketAddr>, is_embedded: bool) {
    let upstream = &mut draft.config.upstream;
    let Some(source) = reading.source(UPSTREAM) else {
        // The proxy may be wrong besides.
        upstream_proxy::find(reading, None, listen, is_embedded);
        return;
    };
    upstream.source = source.to_string();
    upstream.proxy = upstream_proxy::find(reading, Some(upstream), listen, is_embedded);
    if upstream.leaks_token() && !draft.allow_plain_upstream {
        let rule = "an http:// upstream that is not on this machine would send tokens, and the client secrets in them, in \
                    the clear: use https://, or --allow-plain-upstream if the network is yours";
        reading.conflict(source, rule);
    }
}

/// Warns of tokens that cross the network in the clear, which `--allow-plain-upstream` allows.
pub fn plain_text(upstream: &UpstreamConfig) -> Option<String> {
    upstream.leaks_token().then(|| {
        "--allow-plain-upstream: tokens, and the client secrets in them, cross the network in the clear".into()
    })
}
