//! The names by which the gateway may be called.
//!
//! A page can make a name of its own resolve to this machine (DNS rebinding); its requests then have that name in
//! `Host`. Invariant: a usual name costs one comparison, and no name an allocation.

use std::net::{IpAddr, SocketAddr};

use crate::config::{Authority, is_loopback, is_same_host, without_brackets};

/// The name by which containers reach the machine that they run on.
pub const HOST_OF_CONTAINERS: &str = "host.docker.internal";

/// The names by which the gateway may be called, beside the loopback ones.
#[derive(Debug)]
pub struct Hosts {
    /// Without brackets and port.
    pub names: Vec<String>,
    /// The `Host` of nearly all requests, which is compared first.
    pub usual: [String; 2],
    /// Any IP address will do: none can be rebound, as a name can.
    pub takes_addresses: bool,
}

impl Hosts {
    /// The names of a listener on `address`: its `own` and the configured `allowed` ones. `None`: any name will do, as
    /// on an address other than loopback if none is configured, since the names there are up to its network.
    pub fn of_listener(address: SocketAddr, own: Vec<String>, allowed: &[String]) -> Option<Self> {
        let is_guarded = address.ip().to_canonical().is_loopback() || !allowed.is_empty();
        let always = [address.ip().to_string(), HOST_OF_CONTAINERS.to_owned()];
        let usual = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{}", address.port()));
        let names = always.into_iter().chain(own).chain(allowed.iter().cloned()).collect();
        is_guarded.then_some(Hosts { names, usual, takes_addresses: false })
    }

    /// Takes any address too: those of a listener on all of them are not known, and scrapers use them.
    #[must_use]
    pub fn with_addresses(self) -> Self {
        Hosts { takes_addresses: true, ..self }
    }

    /// Returns whether a valid `Host` value names this gateway, on whatever port.
    pub fn contain(&self, host: &[u8]) -> bool {
        if self.usual.iter().any(|usual| usual.as_bytes() == host) {
            return true;
        }
        let Some(Authority { host, .. }) = std::str::from_utf8(host).ok().and_then(Authority::split) else {
            return false;
        };
        let is_taken_address = self.takes_addresses && without_brackets(host).parse::<IpAddr>().is_ok();
        is_taken_address || is_loopback(host) || self.names.iter().any(|name| is_same_host(host, name))
    }
}
