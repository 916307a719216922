//! The rules that every request is compared with, fixed at start.

use std::net::SocketAddr;

use crate::config::{Affinity, Config, Filter, WebSocketUse};
use crate::proxy::guard::AccessRules;
use crate::proxy::guard::host::{HOST_OF_CONTAINERS, Hosts};
use crate::proxy::request::head::UpstreamIdentity;
use crate::proxy::request::target::TargetRules;

/// The rules of one gateway.
#[derive(Debug)]
pub struct Rules {
    pub access: AccessRules,
    pub target: TargetRules,
    pub upstream: UpstreamIdentity,
    pub body_bytes_max: Option<u64>,
    pub filter: Filter,
    pub affinity: Affinity,
    pub websocket: WebSocketUse,
}

impl Rules {
    /// The rules of a gateway that listens on `listener_port`.
    pub fn new(config: &Config, listener_port: u16) -> Self {
        let upstream = &config.upstream;
        Rules {
            access: access_rules(config, listener_port),
            target: TargetRules {
                upstream_host: upstream.host.clone(),
                upstream_port: upstream.port,
                base_path: upstream.base_path.clone(),
                listener_port,
                listener_hosts: listener_hosts(config),
            },
            upstream: UpstreamIdentity { base_path: upstream.base_path.clone(), authority: upstream.authority.clone() },
            body_bytes_max: config.limits.body_bytes_max,
            filter: config.filter,
            affinity: config.affinity,
            websocket: config.websocket,
        }
    }
}

/// The authorities that a target in absolute form may have, beside loopback names and addresses.
fn listener_hosts(config: &Config) -> Vec<String> {
    let own = [config.listen_host.clone(), HOST_OF_CONTAINERS.to_owned()];
    own.into_iter().chain(config.access.allow_hosts.iter().cloned()).collect()
}

fn access_rules(config: &Config, listener_port: u16) -> AccessRules {
    let own = vec![config.listen_host.clone(), config.upstream.host.clone()];
    AccessRules {
        allow_origins: config.access.allow_origins.clone(),
        hosts: Hosts::of_listener(SocketAddr::new(config.listen.ip(), listener_port), own, &config.access.allow_hosts),
    }
}
