//! The proxy that the upstream is reached through: the flag's, else the environment's where that applies.
//!
//! The variables are those of curl and others, and meant for many programs. So what they say is used, or found wrong,
//! only where it is for this upstream: `https_proxy` and `HTTPS_PROXY` for an `https://` one that is not on this
//! machine and that neither `no_proxy` nor `NO_PROXY` names. The flag is for this program alone and always holds.

use std::net::{IpAddr, SocketAddr};

use crate::cli::settings::error::ValueSource;
use crate::cli::settings::reading::{Picked, Reading};
use crate::config::{Concealed, Scheme, UpstreamConfig, UpstreamProxy, is_named_by_no_proxy};

pub const FLAG: &str = "--upstream-proxy";
/// As with curl, the lower-case name wins.
const PROXY_VARIABLES: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
const EXCEPTION_VARIABLES: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Finds the proxy for `upstream`, whose URL may have been wrong. `listen` is where the gateway listens; an
/// `is_embedded` upstream needs none.
pub fn find(
    reading: &mut Reading<'_>,
    upstream: Option<&UpstreamConfig>,
    listen: Option<SocketAddr>,
    is_embedded: bool,
) -> Option<UpstreamProxy> {
    let found = match reading.pick_flag(FLAG) {
        Some(found) => Ok(found),
        None if is_embedded => Err(("none, the demo has its own upstream", ValueSource::Default)),
        None => find_in_variables(reading, upstream?),
    };
    let (url, source) = match found {
        Ok((url, source)) => (Concealed::from(url), source),
        Err((reason, source)) => {
            reading.note(FLAG, reason.to_owned(), source);
            return None;
        }
    };
    match UpstreamProxy::parse(url.expose(), source.to_string()) {
        Ok(proxy) if listen.is_some_and(|listen| leads_to(&proxy, listen)) => {
            let rule =
                "it is the address that this gateway itself listens on: name the network's own proxy, or leave it out";
            reading.conflict(source, rule);
            None
        }
        Ok(proxy) => {
            reading.note(FLAG, proxy.url(), source);
            Some(proxy)
        }
        Err(expected) => {
            reading.refuse(source, expected);
            None
        }
    }
}

/// Reads the variables for this upstream, or returns the reason why none of them counts.
fn find_in_variables(
    reading: &mut Reading<'_>,
    upstream: &UpstreamConfig,
) -> Result<Picked, (&'static str, ValueSource)> {
    if upstream.scheme == Scheme::Http {
        return Err(("none, HTTPS_PROXY is not for an http:// upstream", ValueSource::Default));
    }
    // A token that is for this machine has no business on the network, whatever NO_PROXY may have forgotten.
    if upstream.is_on_this_machine() {
        return Err(("none, the upstream is on this machine", ValueSource::Default));
    }
    let found = reading.pick_variable(&PROXY_VARIABLES).ok_or(("none", ValueSource::Default))?;
    if let Some((list, source)) = reading.pick_variable(&EXCEPTION_VARIABLES) {
        let (host, port) = upstream.address();
        if is_named_by_no_proxy(&list, &upstream.host, upstream.port) || is_named_by_no_proxy(&list, host, port) {
            return Err(("none, the upstream is an exception", source));
        }
    }
    Ok(found)
}

/// Tells a proxy that would connect back to this gateway.
fn leads_to(proxy: &UpstreamProxy, listen: SocketAddr) -> bool {
    let is_same_host = proxy.host.parse::<IpAddr>().is_ok_and(|address| address == listen.ip());
    let is_near =
        proxy.is_on_this_machine() && (listen.ip().to_canonical().is_loopback() || listen.ip().is_unspecified());
    proxy.port == listen.port() && (is_same_host || is_near)
}

#[cfg(test)]
mod tests;
