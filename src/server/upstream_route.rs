//! The route to the upstream, as the configuration describes it.

use rustls::pki_types::ServerName;

use super::error::RunError;
use crate::config::{Scheme, UpstreamConfig};
use crate::upstream::{Resolver, Route, Tunnel, tls};

/// Loads the trust anchors, and starts the resolver of the upstream's name, or of its proxy's.
///
/// # Errors
/// The trust anchors cannot be loaded, the host is no name of a certificate, or the resolver's thread cannot be
/// started.
pub fn route(upstream: &UpstreamConfig) -> Result<Route, RunError> {
    let tls = match upstream.scheme {
        Scheme::Http => None,
        Scheme::Https => {
            let (client_config, source) = tls::client_config(&upstream.trust).map_err(RunError::Trust)?;
            tracing::debug!(?source, "trust anchors are loaded");
            let name = ServerName::try_from(upstream.host.clone())
                .map_err(|_| RunError::UpstreamName(upstream.host.clone()))?;
            Some((client_config, name))
        }
    };
    let (host, port) = upstream.address();
    let (tunnel, (host, port)) = match &upstream.proxy {
        Some(proxy) => (Some(Tunnel::to(host, port, proxy.authorization.as_ref())), (&*proxy.host, proxy.port)),
        None => (None, (host, port)),
    };
    let resolver = Resolver::start(host.to_owned(), port).map_err(RunError::Thread)?;
    Ok(Route { resolver, tunnel, tls })
}
