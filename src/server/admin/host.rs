//! Which `Host` a listener on loopback answers to, so that no web page reaches it by a name of its own that it has had
//! resolved to this machine (DNS rebinding).
//!
//! Pure. Not here: what a request without the field is, which depends on its version.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The names that lead to this machine and that nobody else can give out: RFC 6761 §6.3, and what container engines call
/// the host.
const LOCAL_NAMES: [&str; 2] = ["localhost", "host.docker.internal"];

/// What a listener makes of `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostRule {
    /// Reached by whatever name its network gives it.
    Any,
    /// On loopback.
    Local,
}

impl HostRule {
    pub fn of_bind(address: SocketAddr) -> Self {
        if is_loopback(address.ip()) { HostRule::Local } else { HostRule::Any }
    }

    /// Whether a request for `authority`, a host with or without a port, is for this listener.
    pub fn admits(&self, authority: &str) -> bool {
        match self {
            HostRule::Any => true,
            HostRule::Local => is_local(authority),
        }
    }
}

fn is_local(authority: &str) -> bool {
    let Some(host) = host_of(authority) else { return false };
    if let Some(address) = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return address.parse::<Ipv6Addr>().is_ok_and(|address| is_loopback(address.into()));
    }
    if let Ok(address) = host.parse::<IpAddr>() {
        return address.is_ipv4() && is_loopback(address);
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    LOCAL_NAMES.contains(&name.as_str()) || name.strip_suffix(".localhost").is_some_and(|label| !label.is_empty())
}

/// The host without its port (RFC 3986 §3.2); `None` where what stands behind the colon is no port.
fn host_of(authority: &str) -> Option<&str> {
    let end_of_literal = authority.find(']').map_or(0, |at| at + 1);
    match authority[end_of_literal..].find(':').map(|at| authority.split_at(end_of_literal + at)) {
        None => Some(authority),
        Some((host, port)) => port[1..].bytes().all(|byte| byte.is_ascii_digit()).then_some(host),
    }
}

fn is_loopback(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_loopback(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.to_ipv4_mapped().is_some_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_loopback_answers_to_local_names_alone() {
        let rule = HostRule::of_bind("127.0.0.1:8900".parse().unwrap());
        for host in [
            "127.0.0.1",
            "127.0.0.1:8900",
            "127.8.8.8:1",
            "localhost",
            "LocalHost.:8900",
            "gateway.localhost:1",
            "host.docker.internal",
            "[::1]",
            "[::1]:8900",
            "[::ffff:127.0.0.1]:1",
            "localhost:",
        ] {
            assert!(rule.admits(host), "{host}");
        }
        for host in [
            "",
            ":8900",
            "example.com",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "notlocalhost",
            ".localhost",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "[2001:db8::1]:1",
            "::1",
            "localhost:x",
            "localhost:80:80",
            "[::1",
            "[::1]x",
            "[::1]x:1",
            "user@localhost",
        ] {
            assert!(!rule.admits(host), "{host}");
        }
    }

    #[test]
    fn one_on_a_network_is_reached_by_any_name() {
        for (bind, rule) in [
            ("0.0.0.0:1", HostRule::Any),
            ("10.0.0.1:1", HostRule::Any),
            ("[::]:1", HostRule::Any),
            ("[::1]:1", HostRule::Local),
            ("[::ffff:127.0.0.1]:1", HostRule::Local),
            ("127.1.1.1:1", HostRule::Local),
        ] {
            assert_eq!(HostRule::of_bind(bind.parse().unwrap()), rule, "{bind}");
        }
        assert!(HostRule::Any.admits("example.com"));
    }
}
