//! Access control, by the head of a request alone.
//!
//! Three checks, in this order: the name by which the gateway is called (`host`), since a page can make a name of its
//! own resolve to this machine; the page that makes the request (`origin`), since browsers send requests for any page;
//! and the caller's key (`key`). [`AccessRules::admit`] makes the first two. `cors` writes the fields for allowed
//! pages. Invariant: nothing of a request that is refused here reaches the upstream.

pub mod cors;
pub mod host;
pub mod key;
pub mod origin;

use self::host::Hosts;
use self::origin::{AllowedOrigin, Caller, CallingPage};
use crate::config::Origin;
use crate::http1::head::RequestHead;
use crate::proxy::error::GatewayError;

/// The rules of access of one listener, fixed at start.
#[derive(Debug, Default)]
pub struct AccessRules {
    pub allow_origins: Vec<Origin>,
    /// `None`: any name will do.
    pub hosts: Option<Hosts>,
}

/// A request that was admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// The page's origin, if a page makes it.
    pub origin: Option<AllowedOrigin>,
    /// It is a CORS preflight, which is answered here.
    pub is_preflight: bool,
}

impl AccessRules {
    /// Admits or refuses a request by its host and its page; the key is checked separately.
    ///
    /// # Errors
    /// [`GatewayError::HostNotAllowed`], [`GatewayError::OriginNotAllowed`].
    pub fn admit(&self, head: &RequestHead<'_>, caller: &Caller<'_>) -> Result<Admitted, GatewayError> {
        // Of a target in absolute form the authority counts (RFC 9112 §3.2.2), which `target` looks at.
        let is_named_by_host = head.target.starts_with('/') || head.target == "*";
        if is_named_by_host && caller.host.is_some_and(|host| !self.answers_to(host)) {
            return Err(GatewayError::HostNotAllowed);
        }
        let origin = match caller.page(&self.allow_origins) {
            CallingPage::None => None,
            CallingPage::Allowed(origin) => Some(origin),
            CallingPage::NotAllowed => return Err(GatewayError::OriginNotAllowed),
        };
        let is_preflight = origin.is_some()
            && head.method == "OPTIONS"
            && head.fields.iter().any(|field| field.name.eq_ignore_ascii_case("access-control-request-method"));
        Ok(Admitted { origin, is_preflight })
    }

    /// Returns whether a host, with or without a port, names this gateway.
    pub fn answers_to(&self, authority: &[u8]) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.contain(authority))
    }

    /// Returns the text of an allowed origin, for the response.
    pub fn origin_text(&self, origin: AllowedOrigin) -> &str {
        origin.text(&self.allow_origins)
    }
}

#[cfg(test)]
mod tests;
