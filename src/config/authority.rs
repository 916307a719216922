//! Host and port: the one parser of `host:port` and the one test for loopback.
//!
//! Invariant: names are compared in any case, and a final dot of a name is the DNS root's (RFC 1034 §3.1), so that
//! `LOCALHOST.` is `localhost` to every caller. [`Authority::split`] divides the text and validates neither part: each
//! caller has its own rule for them. Only functions that return a `String` allocate, since the `Host` of every request
//! is compared here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::value::{Expected, parse_digits};

/// The name of the loopback interface (RFC 6761 §6.3).
const LOCALHOST: &str = "localhost";

/// The parts of `host`, `host:port`, `[IPv6]` or `[IPv6]:port` (RFC 3986 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority<'a> {
    /// Without brackets.
    pub host: &'a str,
    /// The text after the colon, which may be empty; `None` where there is no colon.
    pub port: Option<&'a str>,
    is_bracketed: bool,
}

impl<'a> Authority<'a> {
    /// Divides `text`. `None`: a bracket is not closed, or something other than a colon follows it.
    pub fn split(text: &'a str) -> Option<Self> {
        let (host, rest, is_bracketed) = match text.strip_prefix('[') {
            Some(inside) => {
                let (host, rest) = inside.split_once(']')?;
                (host, rest, true)
            }
            None => {
                let (host, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
                (host, rest, false)
            }
        };
        let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':')?) };
        Some(Authority { host, port, is_bracketed })
    }

    /// The host in the form of the configuration: in lower case, an IPv6 address in the form of RFC 5952. `None`: it is
    /// neither an IPv6 address in brackets nor a DNS name or IPv4 address without brackets.
    pub fn normal_host(&self) -> Option<String> {
        if self.is_bracketed {
            self.host.parse::<Ipv6Addr>().ok().map(|address| address.to_string())
        } else {
            is_host_name(self.host).then(|| self.host.to_ascii_lowercase())
        }
    }

    /// The port as a number from 1 to 65535. `None`: none is written, or it is not one of these.
    pub fn port_number(&self) -> Option<u16> {
        self.port.and_then(parse_port).filter(|port| *port != 0)
    }
}

/// Returns whether two hosts without brackets are equal but for case and a final dot.
pub fn is_same_host(one: &str, other: &str) -> bool {
    without_root_dot(one).eq_ignore_ascii_case(without_root_dot(other))
}

/// Returns whether a host without brackets can only mean this machine: `localhost`, a name below it (RFC 6761 §6.3), or
/// a loopback address, also as an IPv4-mapped one.
pub fn is_loopback(host: &str) -> bool {
    let host = without_root_dot(host);
    let name_start = host.len().wrapping_sub(LOCALHOST.len());
    if host.get(name_start..).is_some_and(|end| end.eq_ignore_ascii_case(LOCALHOST)) {
        return name_start == 0 || host.as_bytes()[..name_start].ends_with(b".");
    }
    host.parse::<IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}

/// Removes the final dot that stands for the DNS root (RFC 1034 §3.1).
pub fn without_root_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}

/// Removes the brackets around an IPv6 address, if there are any.
pub fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|inside| inside.strip_suffix(']')).unwrap_or(host)
}

/// Parses an IP address, with or without brackets, or a host name; neither with a port.
///
/// # Errors
/// Any other form.
pub fn parse_host(text: &str) -> Result<String, Expected> {
    let host = without_brackets(text);
    if host.parse::<IpAddr>().is_ok() || is_host_name(host) {
        Ok(host.to_owned())
    } else {
        Err(Expected::new("an IP address or a host name, without port"))
    }
}

/// Parses `off`, or an IP address or `localhost` with a port; port 0 is any free one.
///
/// # Errors
/// Any other form.
pub fn parse_admin(text: &str) -> Result<Option<SocketAddr>, Expected> {
    if text.eq_ignore_ascii_case("off") {
        return Ok(None);
    }
    let of_localhost = || {
        let authority = Authority::split(text).filter(|authority| is_same_host(authority.host, LOCALHOST))?;
        Some(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), parse_port(authority.port?)?))
    };
    let address = text.parse().ok().or_else(of_localhost);
    address.map(Some).ok_or_else(|| {
        Expected::new("off, or an IP address or localhost with a port, such as 127.0.0.1:8900 or [::1]:8900")
    })
}

/// Parses `host:port` or `[IPv6]:port`; both parts are required.
///
/// # Errors
/// Any other form.
pub fn parse_authority(text: &str) -> Result<(String, u16), Expected> {
    let authority = Authority::split(text);
    let parts = authority.and_then(|authority| Some((authority.normal_host()?, authority.port_number()?)));
    parts.ok_or_else(|| Expected::new("host:port, such as 10.0.0.7:443 or [::1]:8443"))
}

/// Writes `host:port`, with an IPv6 address in brackets: the inverse of [`parse_authority`].
pub fn join_authority(host: &str, port: u16) -> String {
    format!("{}:{port}", with_brackets(host))
}

/// Puts an IPv6 address in brackets, as it is written before a port; leaves any other host as it is.
pub fn with_brackets(host: &str) -> String {
    if host.contains(':') { format!("[{host}]") } else { host.to_owned() }
}

/// Parses a port of nothing but digits, 0 included.
fn parse_port(digits: &str) -> Option<u16> {
    parse_digits(digits).and_then(|port| u16::try_from(port).ok())
}

/// Returns whether this can be a DNS name or an IPv4 address: letters, digits, `-`, `_` and dots between non-empty
/// labels.
fn is_host_name(host: &str) -> bool {
    // RFC 1035 §2.3.4: 63 octets a label, 253 characters a name.
    const LABEL_BYTES_MAX: usize = 63;
    const NAME_BYTES_MAX: usize = 253;
    let host = without_root_dot(host);
    let is_label = |label: &str| {
        (1..=LABEL_BYTES_MAX).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    host.len() <= NAME_BYTES_MAX && host.split('.').all(is_label)
}

#[cfg(test)]
mod tests;
