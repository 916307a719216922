//! Who may make a request (decided from its head alone), and what pages of allowed origins are told.
//!
//! Three guards, in this order: the name by which the gateway is called, since a page can make a name of its own lead
//! here (DNS rebinding); the page behind the request, since browsers send requests for any page; the caller's key.
//! Invariant: nothing of a request that is refused here reaches the upstream.

use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use crate::config::{Authority, Origin, is_loopback, is_same_host};
use crate::credentials::{ApiKeyId, ApiKeys};
use crate::http1::fields::{self, Known};
use crate::http1::head::{Field, RequestHead};
use crate::proxy::error::GatewayError;

/// What containers call the machine that they run on.
pub const HOST_OF_CONTAINERS: &str = "host.docker.internal";

/// What callers are compared with, fixed at start.
#[derive(Debug, Default)]
pub struct AccessRules {
    pub allow_origins: Vec<Origin>,
    /// `None`: any name will do.
    pub hosts: Option<Hosts>,
}

/// The names by which the gateway may be called, beside those of this machine.
#[derive(Debug)]
pub struct Hosts {
    /// In lower case, without brackets and port.
    pub names: Vec<String>,
    /// How nearly all requests name it, to spare them a closer look.
    pub usual: [String; 2],
}

/// One of the allowed origins, by its place: `config` takes few.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AllowedOrigin(u8);

/// What a head says of where it comes from; see [`Caller::note`].
#[derive(Default)]
pub struct Caller<'h> {
    pub host: Option<&'h [u8]>,
    origin: Option<&'h [u8]>,
    fetch_site: Option<&'h [u8]>,
    /// A repeated field, which nobody sends who means well.
    is_ambiguous: bool,
}

/// A request that may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admitted {
    /// The page's origin, where a page makes it.
    pub origin: Option<AllowedOrigin>,
    /// A browser asks whether the page may make a request (CORS preflight), and is answered here.
    pub is_preflight: bool,
}

impl<'h> Caller<'h> {
    /// Notes a field of the head; called for each of them in the one pass over a head's fields.
    pub fn note(&mut self, known: Known, field: &Field<'h>) {
        let place = match known {
            Known::Origin => &mut self.origin,
            Known::SecFetchSite => &mut self.fetch_site,
            _ => return,
        };
        self.is_ambiguous |= place.replace(field.value).is_some();
    }
}

impl AccessRules {
    /// Whether a request may be made, before its key is looked at.
    ///
    /// # Errors
    /// [`GatewayError::HostNotAllowed`], [`GatewayError::OriginNotAllowed`].
    pub fn admit(&self, head: &RequestHead<'_>, caller: &Caller<'_>) -> Result<Admitted, GatewayError> {
        // Of a target in absolute form the authority counts (RFC 9112 §3.2.2), which `target` looks at.
        let is_named_by_host = head.target.starts_with('/') || head.target == "*";
        if is_named_by_host && caller.host.is_some_and(|host| !self.answers_to(host)) {
            return Err(GatewayError::HostNotAllowed);
        }
        let origin = self.origin(caller)?;
        let is_preflight = origin.is_some()
            && head.method == "OPTIONS"
            && head.fields.iter().any(|field| field.name.eq_ignore_ascii_case("access-control-request-method"));
        Ok(Admitted { origin, is_preflight })
    }

    /// Whether a host, with or without a port, names this gateway.
    pub fn answers_to(&self, authority: &[u8]) -> bool {
        self.hosts.as_ref().is_none_or(|hosts| hosts.contain(authority))
    }

    /// The text of an allowed origin, for the answer.
    pub fn origin_text(&self, origin: AllowedOrigin) -> &str {
        self.allow_origins[usize::from(origin.0)].as_str()
    }

    fn origin(&self, caller: &Caller<'_>) -> Result<Option<AllowedOrigin>, GatewayError> {
        if caller.is_ambiguous {
            return Err(GatewayError::OriginNotAllowed);
        }
        match (caller.origin, caller.fetch_site) {
            (None, None) => Ok(None),
            (Some(origin), _) => {
                let place = self.allow_origins.iter().position(|allowed| allowed.as_str().as_bytes() == origin);
                place.map(|place| Some(AllowedOrigin(place as u8))).ok_or(GatewayError::OriginNotAllowed)
            }
            // Without `Origin`: images, links and such. What a person types is `none`. `same-site` is not ours either:
            // all ports of a machine are one site.
            (None, Some(b"none" | b"same-origin")) => Ok(None),
            (None, Some(_)) => Err(GatewayError::OriginNotAllowed),
        }
    }
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
    fn contain(&self, host: &[u8]) -> bool {
        if self.usual.iter().any(|usual| usual.as_bytes() == host) {
            return true;
        }
        let Some(Authority { host, .. }) = std::str::from_utf8(host).ok().and_then(Authority::split) else {
            return false;
        };
        is_loopback(host) || self.names.iter().any(|name| is_same_host(host, name))
    }
}

/// The key that a request shows.
///
/// # Errors
/// [`GatewayError::ApiKeyMissing`] where it shows none, [`GatewayError::ApiKeyUnknown`] where it is none of `keys`.
pub fn check_key(head: &RequestHead<'_>, keys: &ApiKeys) -> Result<ApiKeyId, GatewayError> {
    let mut refusal = GatewayError::ApiKeyMissing;
    for field in head.fields {
        let found = match fields::known(field.name) {
            Some(Known::Authorization) => bearer(field.value).map(|key| keys.find(key)),
            Some(Known::ProxyAuthorization) => bearer(field.value)
                .map(|key| keys.find(key))
                .or_else(|| basic(field.value).map(|pair| find_in_pair(keys, &pair))),
            Some(Known::DownstreamKey) if is_key_field(field.name) => Some(keys.find(field.value)),
            _ => None,
        };
        match found {
            Some(Some(id)) => return Ok(id),
            Some(None) => refusal = GatewayError::ApiKeyUnknown,
            None => {}
        }
    }
    Err(refusal)
}

fn is_key_field(name: &str) -> bool {
    name.eq_ignore_ascii_case("x-api-key") || name.eq_ignore_ascii_case("api-key")
}

/// RFC 6750 §2.1.
fn bearer(value: &[u8]) -> Option<&[u8]> {
    credentials_of(value, b"bearer")
}

/// RFC 7617 §2: what becomes of the `user:password@` in a proxy's URL.
fn basic(value: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    BASE64_STANDARD.decode(credentials_of(value, b"basic")?).ok().map(Zeroizing::new)
}

/// RFC 9110 §11.4: a scheme in any case, a space, and the rest.
fn credentials_of<'v>(value: &'v [u8], scheme: &[u8]) -> Option<&'v [u8]> {
    let (written, rest) = value.split_at_checked(scheme.len())?;
    (written.eq_ignore_ascii_case(scheme) && rest.starts_with(b" ")).then(|| fields::trim_whitespace(rest))
}

/// The password is the key; or the user where there is no password.
fn find_in_pair(keys: &ApiKeys, pair: &[u8]) -> Option<ApiKeyId> {
    let (user, password) = pair.split_at(memchr::memchr(b':', pair)?);
    keys.find(if password == b":" { user } else { &password[1..] })
}

/// Appends what a page of `origin` is told with every answer (Fetch Standard, "CORS protocol").
pub fn push_page_fields(out: &mut Vec<u8>, origin: &str) {
    fields::push_field(out, "Access-Control-Allow-Origin", origin.as_bytes());
    // No request of a page carries cookies here, so that `*` stands for all fields.
    fields::push_field(out, "Access-Control-Expose-Headers", b"*");
    fields::push_field(out, "Vary", b"Origin");
}

/// Whether an upstream's field speaks of pages, which is ours to do.
pub fn is_page_field(name: &str) -> bool {
    const PREFIX: &str = "access-control-";
    name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
}

/// Appends the answer's fields to a preflight, beside [`push_page_fields`]: whatever it asks for is allowed.
pub fn push_preflight_fields(out: &mut Vec<u8>, head: &RequestHead<'_>) {
    let asked = |name: &str| head.fields.iter().find(|field| field.name.eq_ignore_ascii_case(name));
    fields::push_field(out, "Access-Control-Allow-Methods", b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS");
    if let Some(names) = asked("access-control-request-headers") {
        let names: Vec<&[u8]> = fields::list_members(names.value).filter(|name| fields::is_token(name)).collect();
        fields::push_field(out, "Access-Control-Allow-Headers", &names.join(&b", "[..]));
    }
    if asked("access-control-request-private-network").is_some_and(|field| field.value == b"true") {
        fields::push_field(out, "Access-Control-Allow-Private-Network", b"true");
    }
    // Ten minutes: Chromium keeps an answer for two hours at most, and a changed setting is to be seen soon.
    fields::push_field(out, "Access-Control-Max-Age", b"600");
    fields::push_field(out, "Vary", b"Access-Control-Request-Method, Access-Control-Request-Headers");
}

#[cfg(test)]
mod tests;
