//! Who may make a request (decided from its head alone), and what pages of allowed origins are told.
//!
//! Three guards, in this order: the name by which the gateway is called, since a page can make a name of its own lead
//! here (DNS rebinding); the page behind the request, since browsers send requests for any page; the caller's key.
//! Invariant: nothing of a request that is refused here reaches the upstream.

use std::net::SocketAddr;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use zeroize::Zeroizing;

use super::error::GatewayError;
use super::target::is_loopback_host;
use crate::config::Origin;
use crate::credentials::{ApiKeyId, ApiKeys};
use crate::http1::fields::{self, Known};
use crate::http1::head::{Field, RequestHead};

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
        let Ok(host) = std::str::from_utf8(host) else { return false };
        let host = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.split(':').next().unwrap_or_default(),
        };
        // RFC 1034 §3.1: the dot at the end is the root's.
        let host = host.strip_suffix('.').unwrap_or(host);
        is_loopback_host(host) || self.names.iter().any(|name| host.eq_ignore_ascii_case(name))
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
mod tests {
    use super::*;
    use crate::http1::head::with_request;
    use crate::proxy::request_head;

    const KEY: &str = "0123456789abcdef";

    fn rules(hosts: Option<&[&str]>) -> AccessRules {
        let origins = ["https://app.example.com", "http://localhost:3000"];
        AccessRules {
            allow_origins: origins.iter().map(|origin| Origin::parse(origin).unwrap()).collect(),
            hosts: hosts.map(|names| Hosts {
                names: names.iter().map(|name| (*name).to_owned()).collect(),
                usual: ["127.0.0.1:8899".into(), "localhost:8899".into()],
            }),
        }
    }

    fn with_head<R>(field_lines: &str, use_head: impl FnOnce(&RequestHead<'_>) -> R) -> R {
        with_request(format!("OPTIONS /v1 HTTP/1.1\r\n{field_lines}\r\n").as_bytes(), use_head).unwrap()
    }

    fn admit(rules: &AccessRules, field_lines: &str) -> Result<Admitted, GatewayError> {
        with_head(field_lines, |head| {
            let mut caller = Caller::default();
            request_head::examine(head, &mut caller).expect("valid");
            rules.admit(head, &caller)
        })
    }

    #[test]
    fn the_gateway_answers_to_its_own_names_on_any_port() {
        let rules = rules(Some(&["gateway", "fd00::7", "flow.example.com"]));
        for host in [
            "localhost",
            "LOCALHOST:1",
            "api.localhost",
            "localhost.",
            "127.0.0.1:8899",
            "127.1.2.3",
            "[::1]:8899",
            "[::1]",
            "[::ffff:127.0.0.1]",
            "gateway",
            "Gateway:80",
            "gateway.:80",
            "[fd00::7]:8899",
            "flow.example.com",
        ] {
            assert!(admit(&rules, &format!("Host: {host}\r\n")).is_ok(), "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "evil-localhost",
            "127.0.0.1.evil.example",
            "gateway.evil.example",
            "10.0.0.1",
            "[fd00::8]",
            "0.0.0.0",
            "flow.example.com.evil.example",
            "%6cocalhost",
        ] {
            assert_eq!(admit(&rules, &format!("Host: {host}\r\n")), Err(GatewayError::HostNotAllowed), "{host}");
        }
        assert!(admit(&super::tests::rules(None), "Host: evil.example\r\n").is_ok(), "no names are known");
    }

    #[test]
    fn pages_are_admitted_by_their_origin_alone() {
        let rules = rules(None);
        let found = |field_lines: &str| admit(&rules, &format!("Host: a\r\n{field_lines}")).map(|found| found.origin);
        let (first, second) = (Some(AllowedOrigin(0)), Some(AllowedOrigin(1)));
        let refused = Err(GatewayError::OriginNotAllowed);
        for (field_lines, expected) in [
            ("", Ok(None)),
            ("Origin: https://app.example.com\r\n", Ok(first)),
            ("Origin: http://localhost:3000\r\nSec-Fetch-Site: same-site\r\n", Ok(second)),
            ("Origin: https://app.example.com\r\nSec-Fetch-Site: cross-site\r\n", Ok(first)),
            ("Origin: http://localhost:3001\r\n", refused.clone()),
            ("Origin: http://localhost\r\n", refused.clone()),
            ("Origin: https://app.example.com.evil.example\r\n", refused.clone()),
            ("Origin: null\r\n", refused.clone()),
            ("Origin:\r\n", refused.clone()),
            ("Origin: https://app.example.com\r\nOrigin: https://app.example.com\r\n", refused.clone()),
            ("Origin: https://evil.example\r\nSec-Fetch-Site: same-origin\r\n", refused.clone()),
            ("Sec-Fetch-Site: cross-site\r\n", refused.clone()),
            ("Sec-Fetch-Site: same-site\r\n", refused.clone()),
            ("Sec-Fetch-Site: Cross-Site\r\n", refused.clone()),
            ("Sec-Fetch-Site: none\r\nSec-Fetch-Site: cross-site\r\n", refused),
            ("Sec-Fetch-Site: same-origin\r\n", Ok(None)),
            ("Sec-Fetch-Site: none\r\n", Ok(None)),
        ] {
            assert_eq!(found(field_lines), expected, "{field_lines:?}");
        }
    }

    #[test]
    fn only_a_page_that_is_allowed_has_preflights() {
        let rules = rules(None);
        let is_preflight =
            |field_lines: &str| admit(&rules, &format!("Host: a\r\n{field_lines}")).map(|found| found.is_preflight);
        let asks = "access-control-request-method: POST\r\n";
        let origin = "Origin: https://app.example.com\r\n";
        assert_eq!(is_preflight(&format!("{origin}{asks}")), Ok(true));
        assert_eq!(is_preflight(origin), Ok(false));
        assert_eq!(is_preflight(asks), Ok(false));
        assert!(is_preflight(&format!("Origin: https://evil.example\r\n{asks}")).is_err());
    }

    #[test]
    fn a_preflight_is_granted_what_it_asks_for() {
        let granted = |field_lines: &str| {
            with_head(field_lines, |head| {
                let mut out = Vec::new();
                push_preflight_fields(&mut out, head);
                String::from_utf8(out).unwrap()
            })
        };
        let fields = granted(
            "Access-Control-Request-Headers: authorization,x-stainless-os , a b,\r\n\
             Access-Control-Request-Private-Network: true\r\n",
        );
        assert!(fields.contains("Access-Control-Allow-Headers: authorization, x-stainless-os\r\n"), "{fields}");
        assert!(fields.contains("Access-Control-Allow-Private-Network: true\r\n"), "{fields}");
        let fields = granted("");
        assert!(!fields.contains("Allow-Headers") && !fields.contains("Private"), "{fields}");
    }

    #[test]
    fn a_key_is_found_wherever_clients_put_it() {
        let keys = ApiKeys::from_list(&format!("team:{KEY}")).unwrap().keys;
        let basic = |pair: &str| format!("Proxy-Authorization: Basic {}\r\n", BASE64_STANDARD.encode(pair));
        let found = |field_lines: &str| {
            with_head(field_lines, |head| check_key(head, &keys).map(|id| keys.name(id).to_owned()))
        };
        for field_lines in [
            format!("Authorization: Bearer {KEY}\r\n"),
            format!("authorization: bearer   {KEY} \r\n"),
            format!("X-API-Key: {KEY}\r\n"),
            format!("api-key: {KEY}\r\n"),
            format!("Proxy-Authorization: Bearer {KEY}\r\n"),
            basic(&format!("anyone:{KEY}")),
            basic(&format!("{KEY}:")),
            format!("Authorization: Bearer other\r\nx-api-key: {KEY}\r\n"),
        ] {
            assert_eq!(found(&field_lines).as_deref(), Ok("team"), "{field_lines}");
        }
        for (field_lines, error) in [
            (String::new(), GatewayError::ApiKeyMissing),
            (format!("Authorization: {KEY}\r\n"), GatewayError::ApiKeyMissing),
            (format!("Authorization: Bearer{KEY}\r\n"), GatewayError::ApiKeyMissing),
            (format!("X-Goog-Api-Key: {KEY}\r\n"), GatewayError::ApiKeyMissing),
            (format!("Cookie: {KEY}\r\n"), GatewayError::ApiKeyMissing),
            ("Proxy-Authorization: Basic !\r\n".to_owned(), GatewayError::ApiKeyMissing),
            ("Authorization: Bearer\r\n".to_owned(), GatewayError::ApiKeyMissing),
            ("Authorization: Bearer other\r\n".to_owned(), GatewayError::ApiKeyUnknown),
            (basic(&format!("{KEY}:wrong")), GatewayError::ApiKeyUnknown),
            (basic(KEY), GatewayError::ApiKeyUnknown),
            ("x-api-key:\r\n".to_owned(), GatewayError::ApiKeyUnknown),
        ] {
            assert_eq!(found(&field_lines), Err(error), "{field_lines}");
        }
    }

    #[test]
    fn the_upstreams_word_on_pages_is_known_by_its_prefix() {
        for (name, expected) in [
            ("Access-Control-Allow-Origin", true),
            ("access-control-expose-headers", true),
            ("Access-Control", false),
            ("Allow", false),
            ("X-Access-Control-Allow-Origin", false),
        ] {
            assert_eq!(is_page_field(name), expected, "{name}");
        }
    }
}
