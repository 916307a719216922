//! The names by which the gateway may be called.
//!
//! A page can make a name of its own lead here (DNS rebinding), and its requests then carry that name in `Host`.
//! Invariant: the usual names cost one comparison each, and no name an allocation.

use std::net::SocketAddr;

use crate::config::{Authority, is_loopback, is_same_host};

/// What containers call the machine that they run on.
pub const HOST_OF_CONTAINERS: &str = "host.docker.internal";

/// The names by which the gateway may be called, beside those of this machine.
#[derive(Debug)]
pub struct Hosts {
    /// In lower case, without brackets and port.
    pub names: Vec<String>,
    /// How nearly all requests name it, to spare them a closer look.
    pub usual: [String; 2],
}

impl Hosts {
    /// Of a listener on `address` that is called by `own` names, and by `allowed` ones that it was told. On another address
    /// than loopback its names are its network's affair: there the guard begins with the first one that it is told.
    pub fn of_listener(address: SocketAddr, own: Vec<String>, allowed: &[String]) -> Option<Self> {
        let is_guarded = address.ip().to_canonical().is_loopback() || !allowed.is_empty();
        let always = [address.ip().to_string(), HOST_OF_CONTAINERS.to_owned()];
        let usual = ["127.0.0.1", "localhost"].map(|host| format!("{host}:{}", address.port()));
        let names = always.into_iter().chain(own).chain(allowed.iter().cloned()).collect();
        is_guarded.then_some(Hosts { names, usual })
    }

    /// Whether a valid `Host` value names this gateway, on whatever port.
    pub fn contain(&self, host: &[u8]) -> bool {
        if self.usual.iter().any(|usual| usual.as_bytes() == host) {
            return true;
        }
        let Some(Authority { host, .. }) = std::str::from_utf8(host).ok().and_then(Authority::split) else {
            return false;
        };
        is_loopback(host) || self.names.iter().any(|name| is_same_host(host, name))
    }
}
