//! Which proxy the upstream is reached through: the flag's, else the environment's where that applies.
//!
//! The variables are those of curl and others, and meant for many programs. So what they say is used, or found wrong,
//! only where it is for this upstream: `https_proxy` and `HTTPS_PROXY` for an `https://` one that is not on this machine
//! and that neither `no_proxy` nor `NO_PROXY` names. The flag is for this program alone and always holds.

use std::net::{IpAddr, SocketAddr};

use super::source::{EffectiveSetting, Setting, SettingError, SettingsReader, ValueSource};
use crate::cli::args::Args;
use crate::config::{Concealed, Scheme, UpstreamConfig, UpstreamProxy, is_named_by_no_proxy};

const FLAG: Setting = Setting { flag: "--upstream-proxy", variable: None };
/// As with curl, the lower-case name wins.
const PROXY_VARIABLES: [&str; 2] = ["https_proxy", "HTTPS_PROXY"];
const EXCEPTION_VARIABLES: [&str; 2] = ["no_proxy", "NO_PROXY"];

/// Reads the proxy for `upstream`, whose URL may have been wrong; `listen` is where the gateway listens.
pub fn read_upstream_proxy(
    reader: &mut SettingsReader<'_>,
    args: &Args,
    upstream: Option<&UpstreamConfig>,
    listen: Option<SocketAddr>,
) -> Option<UpstreamProxy> {
    let written = args.upstream_proxy.as_ref().map(Concealed::expose);
    let found = match reader.pick(FLAG, written) {
        Some(found) => Ok(found),
        None if args.is_demo() => Err(("none, the demo has its own upstream", ValueSource::Default)),
        None => find_in_variables(reader, upstream?),
    };
    let (url, source) = match found {
        Ok((url, source)) => (Concealed::new(url), source),
        Err((reason, source)) => {
            reader.findings.push(EffectiveSetting { flag: FLAG.flag, value: reason.to_owned(), source });
            return None;
        }
    };
    match UpstreamProxy::parse(url.expose(), source.to_string()) {
        Ok(proxy) if listen.is_some_and(|listen| leads_to(&proxy, listen)) => {
            let rule =
                "it is the address that this gateway itself listens on: name the network's own proxy, or leave it out";
            reader.mistakes.push(SettingError::Conflict { source, rule });
            None
        }
        Ok(proxy) => {
            reader.findings.push(EffectiveSetting { flag: FLAG.flag, value: proxy.url(), source });
            Some(proxy)
        }
        Err(expected) => {
            reader.mistakes.push(SettingError::Value { source, expected });
            None
        }
    }
}

/// What the variables say for this upstream, or why there is nothing in it.
fn find_in_variables(
    reader: &mut SettingsReader<'_>,
    upstream: &UpstreamConfig,
) -> Result<(String, ValueSource), (&'static str, ValueSource)> {
    if upstream.scheme == Scheme::Http {
        return Err(("none, HTTPS_PROXY is not for an http:// upstream", ValueSource::Default));
    }
    // A token that is for this machine has no business on the network, whatever NO_PROXY may have forgotten.
    if upstream.is_on_this_machine() {
        return Err(("none, the upstream is on this machine", ValueSource::Default));
    }
    let found = reader.pick_variable(&PROXY_VARIABLES).ok_or(("none", ValueSource::Default))?;
    if let Some((list, source)) = reader.pick_variable(&EXCEPTION_VARIABLES) {
        let (host, port) = upstream.address();
        if is_named_by_no_proxy(&list, &upstream.host, upstream.port) || is_named_by_no_proxy(&list, host, port) {
            return Err(("none, the upstream is an exception", source));
        }
    }
    Ok(found)
}

/// Whether a connect to the proxy would come back to this gateway.
fn leads_to(proxy: &UpstreamProxy, listen: SocketAddr) -> bool {
    let is_same_host = proxy.host.parse::<IpAddr>().is_ok_and(|address| address == listen.ip());
    let is_near =
        proxy.is_on_this_machine() && (listen.ip().to_canonical().is_loopback() || listen.ip().is_unspecified());
    proxy.port == listen.port() && (is_same_host || is_near)
}

#[cfg(test)]
mod tests;
