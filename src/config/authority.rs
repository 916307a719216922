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
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_divided_into_host_and_port() {
        for (text, host, port, number) in [
            ("h", "h", None, None),
            ("h:", "h", Some(""), None),
            ("h:80", "h", Some("80"), Some(80)),
            ("h:080", "h", Some("080"), Some(80)),
            ("h:0", "h", Some("0"), None),
            ("h:65535", "h", Some("65535"), Some(65_535)),
            ("h:65536", "h", Some("65536"), None),
            ("h:+80", "h", Some("+80"), None),
            ("h:1:2", "h", Some("1:2"), None),
            (":80", "", Some("80"), Some(80)),
            ("::1", "", Some(":1"), None),
            ("[::1]", "::1", None, None),
            ("[::1]:", "::1", Some(""), None),
            ("[::1]:80", "::1", Some("80"), Some(80)),
            ("", "", None, None),
        ] {
            let authority = Authority::split(text).expect(text);
            assert_eq!((authority.host, authority.port, authority.port_number()), (host, port, number), "{text}");
        }
        for text in ["[::1", "[::1]80", "[", "[::1]]:80"] {
            assert_eq!(Authority::split(text), None, "{text}");
        }
    }

    #[test]
    fn the_normal_form_of_a_host_is_in_lower_case_and_an_address_at_its_shortest() {
        for (text, host) in [
            ("Flow.Example.COM:443", Some("flow.example.com")),
            ("h.", Some("h.")),
            ("10.0.0.7", Some("10.0.0.7")),
            ("[FD00:0:0::1]:1", Some("fd00::1")),
            ("[h]", None),
            ("[10.0.0.7]", None),
            ("", None),
            (".", None),
            ("a..b", None),
            ("a b", None),
            ("é.com", None),
        ] {
            let found = Authority::split(text).expect(text).normal_host();
            assert_eq!(found.as_deref(), host, "{text}");
        }
    }

    #[test]
    fn case_and_a_final_dot_make_no_other_host() {
        for (one, other, expected) in [
            ("gateway", "gateway", true),
            ("Gateway", "gateWAY", true),
            ("gateway.", "gateway", true),
            ("gateway", "gateway.", true),
            ("GATEWAY.", "gateway.", true),
            ("gateway..", "gateway", false),
            (".gateway", "gateway", false),
            ("gateway.example", "gateway", false),
            ("fd00::1", "FD00::1", true),
        ] {
            assert_eq!(is_same_host(one, other), expected, "{one} {other}");
        }
    }

    #[test]
    fn loopback_is_told_in_any_case_and_with_a_final_dot() {
        for host in [
            "localhost",
            "LOCALHOST",
            "LocalHost.",
            "localhost.",
            "api.localhost",
            "Api.LocalHost.",
            "a.b.localhost",
            "127.0.0.1",
            "127.0.0.1.",
            "127.255.255.254",
            "::1",
            "0:0:0:0:0:0:0:1",
            "::ffff:127.0.0.1",
            "::FFFF:7f00:1",
        ] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            ".",
            "localhost..",
            "localhos",
            "evil-localhost",
            "evillocalhost",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1..",
            "128.0.0.1",
            "0.0.0.0",
            "10.0.0.1",
            "127.1",
            "0127.0.0.1",
            "2130706433",
            "::",
            "::2",
            "::ffff:10.0.0.1",
            "[::1]",
            "éocalhost",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }

    #[test]
    fn a_host_is_an_address_or_a_name() {
        for (text, host) in
            [("0.0.0.0", "0.0.0.0"), ("::", "::"), ("[::1]", "::1"), ("Gateway-1.lan.", "Gateway-1.lan.")]
        {
            assert_eq!(parse_host(text).as_deref(), Ok(host));
        }
        for text in ["", ".", "a..b", "a b", "127.0.0.1:80", "[::1]:80", "a/b", &"a".repeat(64)] {
            let expected = parse_host(text).expect_err(text);
            assert_eq!(expected.to_string(), "expected an IP address or a host name, without port");
        }
    }

    #[test]
    fn the_admin_address_is_an_address_with_a_port_or_off() {
        for (text, address) in [
            ("127.0.0.1:8900", Some("127.0.0.1:8900")),
            ("[::1]:0", Some("[::1]:0")),
            ("0.0.0.0:1", Some("0.0.0.0:1")),
            ("LocalHost:8900", Some("127.0.0.1:8900")),
            ("localhost.:8900", Some("127.0.0.1:8900")),
            ("localhost:0", Some("127.0.0.1:0")),
            ("off", None),
            ("OFF", None),
        ] {
            assert_eq!(parse_admin(text), Ok(address.map(|address| address.parse().expect("an address"))), "{text}");
        }
        for text in
            ["", "on", "8900", ":8900", "127.0.0.1", "localhost", "localhost:", "localhost:x", "gateway:1", "::1:1"]
        {
            let expected = parse_admin(text).expect_err(text);
            assert!(expected.to_string().starts_with("expected off, or an IP address or localhost with a port, "));
        }
    }

    #[test]
    fn an_authority_has_a_host_and_a_port() {
        assert_eq!(parse_authority("10.0.0.7:443"), Ok(("10.0.0.7".into(), 443)));
        assert_eq!(parse_authority("Edge.example.com:8443"), Ok(("edge.example.com".into(), 8443)));
        assert_eq!(parse_authority("[::1]:8443"), Ok(("::1".into(), 8443)));
        for text in ["10.0.0.7:443", "edge.example.com:8443", "[::1]:8443"] {
            let (host, port) = parse_authority(text).expect(text);
            assert_eq!(join_authority(&host, port), text);
        }
        for text in
            ["", "host", "host:", ":1", "::1:80", "host:0", "host:65536", "host:+1", "a b:1", "[::1:1", "a..b:1"]
        {
            let expected = parse_authority(text).expect_err(text);
            assert_eq!(expected.to_string(), "expected host:port, such as 10.0.0.7:443 or [::1]:8443");
        }
    }
}
