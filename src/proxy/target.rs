//! The request target: where a request is meant to go, or why it goes nowhere (RFC 9112 §3.2).
//!
//! Invariant: a path that is forwarded cannot leave the upstream's base path, however the upstream decodes it, and
//! nothing is ever forwarded to another host. Path and query are otherwise kept byte for byte.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// What targets are compared with. The same for all requests.
#[derive(Debug, Clone)]
pub struct TargetRules {
    /// Without brackets or port.
    pub upstream_host: String,
    pub upstream_port: u16,
    /// Empty, or a slash and segments without a slash at the end.
    pub base_path: String,
    pub listener_port: u16,
    /// Names of this listener beside the loopback names and addresses.
    pub listener_hosts: Vec<String>,
}

/// What is done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    Forward(UpstreamPath<'a>),
    /// `OPTIONS *`.
    AnswerOptions,
    /// `GET` or `HEAD` of `/` or `/api/hello`: probes must not spend a real request.
    AnswerLiveness,
}

/// Path and query of a request that is forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpstreamPath<'a> {
    /// Whether the base path is to be put before it.
    pub needs_base: bool,
    /// Begins with `/`, or where an absolute-form target has no path, is empty or begins with `?`.
    pub path_and_query: &'a str,
    /// How many bytes of it are the base path; none where that is to be put before it.
    pub base_bytes: usize,
}

impl<'a> UpstreamPath<'a> {
    /// Without the query and without the base path.
    pub fn path(&self) -> &'a str {
        match split_query(self.path_and_query.get(self.base_bytes..).unwrap_or_default()).0 {
            "" => "/",
            path => path,
        }
    }

    /// Appends it in origin-form, as the upstream gets it.
    pub fn push_to(&self, out: &mut Vec<u8>, base_path: &str) {
        if self.needs_base {
            out.extend_from_slice(base_path.as_bytes());
        }
        if !self.path_and_query.starts_with('/') {
            out.push(b'/');
        }
        out.extend_from_slice(self.path_and_query.as_bytes());
    }
}

/// Why a request is not forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetError {
    /// It names another host, has user-info, or is outside the base path.
    NotAnOpenProxy,
    ConnectNotSupported,
    /// `TRACE`.
    MethodNotAllowed,
    /// A dot segment, a control byte, a raw backslash or `%00`.
    BadPath,
    Malformed(&'static str),
}

impl fmt::Display for TargetError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            TargetError::NotAnOpenProxy => "the target is not below the upstream's base URL",
            TargetError::ConnectNotSupported => "CONNECT is not supported",
            TargetError::MethodNotAllowed => "TRACE is not supported",
            TargetError::BadPath => "the path has a dot segment, a control byte, a backslash or %00",
            TargetError::Malformed(what) => what,
        })
    }
}

impl std::error::Error for TargetError {}

/// Decides by method and target alone. Methods are case-sensitive (RFC 9110 §9.1).
///
/// # Errors
/// Where the request must not go upstream.
pub fn route<'a>(method: &str, target: &'a str, rules: &TargetRules) -> Result<Route<'a>, TargetError> {
    match method {
        "CONNECT" => return Err(TargetError::ConnectNotSupported),
        "TRACE" => return Err(TargetError::MethodNotAllowed),
        _ => {}
    }
    if target.contains('#') {
        // RFC 9112 §3.2: no form has a fragment, and who cuts one off sees another path.
        return Err(TargetError::Malformed("the target has a fragment"));
    }
    if target.starts_with('/') {
        return route_origin_form(method, target, rules);
    }
    if target == "*" {
        // RFC 9112 §3.2.4: asterisk-form is for OPTIONS alone.
        return if method == "OPTIONS" {
            Ok(Route::AnswerOptions)
        } else {
            Err(TargetError::Malformed("only OPTIONS can have the target *"))
        };
    }
    let Some(absolute) = AbsoluteForm::parse(target)? else {
        return Err(TargetError::Malformed("the target is neither a path nor a URL"));
    };
    route_absolute_form(method, absolute, rules)
}

fn route_origin_form<'a>(method: &str, target: &'a str, rules: &TargetRules) -> Result<Route<'a>, TargetError> {
    let path = split_query(target).0;
    if is_bad_path(path) {
        return Err(TargetError::BadPath);
    }
    if matches!(method, "GET" | "HEAD") && matches!(path, "" | "/" | "/api/hello") {
        return Ok(Route::AnswerLiveness);
    }
    // RFC 9112 §3.2.4: what OPTIONS * becomes in absolute-form.
    if method == "OPTIONS" && target.is_empty() {
        return Ok(Route::AnswerOptions);
    }
    let needs_base = strip_base_path(target, &rules.base_path).is_none();
    let base_bytes = if needs_base { 0 } else { rules.base_path.len() };
    Ok(Route::Forward(UpstreamPath { needs_base, path_and_query: target, base_bytes }))
}

fn route_absolute_form<'a>(
    method: &str,
    absolute: AbsoluteForm<'a>,
    rules: &TargetRules,
) -> Result<Route<'a>, TargetError> {
    let path_and_query = absolute.path_and_query;
    if absolute.names_upstream(&rules.upstream_host, rules.upstream_port)
        && strip_base_path(path_and_query, &rules.base_path).is_some()
    {
        if is_bad_path(split_query(path_and_query).0) {
            return Err(TargetError::BadPath);
        }
        let base_bytes = rules.base_path.len();
        return Ok(Route::Forward(UpstreamPath { needs_base: false, path_and_query, base_bytes }));
    }
    if absolute.names_listener(rules) {
        return route_origin_form(method, path_and_query, rules);
    }
    Err(TargetError::NotAnOpenProxy)
}

/// An `http` or `https` URL in parts.
#[derive(Clone, Copy)]
pub(super) struct AbsoluteForm<'a> {
    /// Without brackets.
    host: &'a str,
    port: Option<u16>,
    is_https: bool,
    pub(super) path_and_query: &'a str,
}

impl<'a> AbsoluteForm<'a> {
    /// `None` where there is no scheme.
    pub(super) fn parse(url: &'a str) -> Result<Option<Self>, TargetError> {
        let Some((scheme, rest)) = url.split_once("://") else { return Ok(None) };
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            // A path or query may hold "://" too, but what comes before it there is no scheme (RFC 3986 §3.1).
            let is_scheme_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
            let is_scheme = !scheme.is_empty() && scheme.bytes().all(is_scheme_byte);
            return if is_scheme { Err(TargetError::NotAnOpenProxy) } else { Ok(None) };
        }
        let (authority, path_and_query) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(TargetError::NotAnOpenProxy);
        }
        let (host, port) = split_port(authority)?;
        if host.is_empty() {
            // RFC 9110 §4.2.1: an http URI with an empty host is invalid.
            return Err(TargetError::Malformed("the target has no host"));
        }
        Ok(Some(AbsoluteForm { host, port, is_https, path_and_query }))
    }

    /// Ports 80 and 443 stand for a base URL that was configured without a port, whichever scheme the downstream took.
    pub(super) fn names_upstream(&self, host: &str, port: u16) -> bool {
        self.host.eq_ignore_ascii_case(host) && self.port.is_none_or(|named| matches!(named, 80 | 443) || named == port)
    }

    fn names_listener(&self, rules: &TargetRules) -> bool {
        let port = self.port.unwrap_or(if self.is_https { 443 } else { 80 });
        port == rules.listener_port
            && (is_loopback_host(self.host)
                || rules.listener_hosts.iter().any(|host| self.host.eq_ignore_ascii_case(without_brackets(host))))
    }
}

/// Whether a host, without brackets, can only mean this machine: `localhost`, a name below it (RFC 6761 §6.3), or a
/// loopback address.
pub fn is_loopback_host(host: &str) -> bool {
    const LOCALHOST: &str = "localhost";
    let name_start = host.len().wrapping_sub(LOCALHOST.len());
    if host.get(name_start..).is_some_and(|end| end.eq_ignore_ascii_case(LOCALHOST)) {
        return name_start == 0 || host.as_bytes()[..name_start].ends_with(b".");
    }
    match host.parse::<Ipv6Addr>() {
        Ok(address) => address.to_canonical().is_loopback(),
        Err(_) => host.parse::<Ipv4Addr>().is_ok_and(|address| address.is_loopback()),
    }
}

/// What follows the base path, if that is a prefix that ends where a segment ends: empty, or begins with `/`, `?`, `#`.
pub(super) fn strip_base_path<'a>(path_and_query: &'a str, base_path: &str) -> Option<&'a str> {
    path_and_query.strip_prefix(base_path).filter(|rest| rest.is_empty() || rest.starts_with(['/', '?', '#']))
}

/// Whether a path could mean another one to whoever decodes or normalises it: a segment `.` or `..`, with `/`, `\`,
/// `%2f` and `%5c` between segments, `%2e` for a dot, and parameters after `;` ignored; or a control byte, `\`, `%00`.
pub(super) fn is_bad_path(path: &str) -> bool {
    // Most paths have nothing that needs a closer look.
    !path.bytes().all(is_plain_path_byte) && has_bad_segment(path)
}

/// Whether a byte in a path means itself to everybody, and cannot be part of a dot segment.
fn is_plain_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'~' | b':' | b'@')
}

fn has_bad_segment(path: &str) -> bool {
    let mut segment = Segment::Dots(0);
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        let (byte, after) = match (byte, after) {
            (b'%', [high, low, after @ ..]) => match decode_hex(*high, *low) {
                Some(0) => return true,
                Some(decoded @ (b'.' | b'/' | b'\\')) => (decoded, after),
                // Whatever else is encoded is just not a dot; the digits are looked at on their own.
                _ => (b'%', &rest[1..]),
            },
            (b'\\', _) => return true,
            (byte, after) => (*byte, after),
        };
        rest = after;
        segment = match (byte, segment) {
            (0..=0x20 | 0x7f, _) => return true,
            (b'/' | b'\\', segment) if segment.is_dot_segment() => return true,
            (b'/' | b'\\', _) => Segment::Dots(0),
            (b';', segment) if segment.is_dot_segment() => return true,
            (b'.', Segment::Dots(dots @ 0..=1)) => Segment::Dots(dots + 1),
            _ => Segment::Name,
        };
    }
    segment.is_dot_segment()
}

/// What a path segment has been so far.
#[derive(Clone, Copy)]
enum Segment {
    Dots(u8),
    Name,
}

impl Segment {
    fn is_dot_segment(self) -> bool {
        matches!(self, Segment::Dots(1..=2))
    }
}

fn decode_hex(high: u8, low: u8) -> Option<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    Some(digit(high)? * 16 + digit(low)?)
}

fn split_query(path_and_query: &str) -> (&str, &str) {
    path_and_query.split_at(path_and_query.find('?').unwrap_or(path_and_query.len()))
}

/// The host without brackets, and the port. A port is digits without a zero before them: compared exactly, as the host.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), TargetError> {
    const MALFORMED: TargetError = TargetError::Malformed("the target's host or port is malformed");
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or(MALFORMED)?,
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    match port.strip_prefix(':') {
        None if port.is_empty() => Ok((host, None)),
        Some(digits) if digits.starts_with(|first: char| matches!(first, '1'..='9')) => {
            digits.parse().map(|port| (host, Some(port))).map_err(|_| MALFORMED)
        }
        _ => Err(MALFORMED),
    }
}

fn without_brackets(host: &str) -> &str {
    host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rules() -> TargetRules {
        TargetRules {
            upstream_host: "flow.ciandt.com".to_owned(),
            upstream_port: 8443,
            base_path: "/flow-llm-proxy".to_owned(),
            listener_port: 8899,
            listener_hosts: vec!["gateway.example".to_owned(), "[fd00::1]".to_owned()],
        }
    }

    /// What the upstream is asked for, and the path without the base that errors and logs go by.
    fn forwarded(method: &str, target: &str, rules: &TargetRules) -> Result<(String, String), String> {
        match route(method, target, rules) {
            Ok(Route::Forward(path)) => {
                let mut out = Vec::new();
                path.push_to(&mut out, &rules.base_path);
                Ok((String::from_utf8(out).unwrap(), path.path().to_owned()))
            }
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn targets_go_upstream_below_the_base_path() {
        let rows = [
            ("/v1/models?x=1", "/flow-llm-proxy/v1/models?x=1", "/v1/models"),
            ("/flow-llm-proxy/v1/models?x=1", "/flow-llm-proxy/v1/models?x=1", "/v1/models"),
            ("/flow-llm-proxy", "/flow-llm-proxy", "/"),
            ("/flow-llm-proxy/", "/flow-llm-proxy/", "/"),
            ("/flow-llm-proxy?x=/..", "/flow-llm-proxy?x=/..", "/"),
            ("/flow-llm-proxyX/v1", "/flow-llm-proxy/flow-llm-proxyX/v1", "/flow-llm-proxyX/v1"),
            ("/Flow-llm-proxy/v1", "/flow-llm-proxy/Flow-llm-proxy/v1", "/Flow-llm-proxy/v1"),
            ("//evil.example/v1", "/flow-llm-proxy//evil.example/v1", "//evil.example/v1"),
            ("/v1/models/a%2Fb%20c", "/flow-llm-proxy/v1/models/a%2Fb%20c", "/v1/models/a%2Fb%20c"),
            ("/v1?a=b?c&d=..%00\\", "/flow-llm-proxy/v1?a=b?c&d=..%00\\", "/v1"),
            ("/?x", "/flow-llm-proxy/?x", "/"),
            ("http://flow.ciandt.com/flow-llm-proxy/v1?x", "/flow-llm-proxy/v1?x", "/v1"),
            ("HTTPS://FLOW.CIANDT.COM:443/flow-llm-proxy/v1", "/flow-llm-proxy/v1", "/v1"),
            ("http://flow.ciandt.com:80/flow-llm-proxy", "/flow-llm-proxy", "/"),
            ("http://flow.ciandt.com:8443/flow-llm-proxy/v1", "/flow-llm-proxy/v1", "/v1"),
            ("http://localhost:8899/v1/models", "/flow-llm-proxy/v1/models", "/v1/models"),
            ("http://localhost:8899/flow-llm-proxy/v1", "/flow-llm-proxy/v1", "/v1"),
            ("http://x.LOCALHOST:8899/v1", "/flow-llm-proxy/v1", "/v1"),
            ("http://127.0.0.1:8899/v1", "/flow-llm-proxy/v1", "/v1"),
            ("http://127.1.2.3:8899/v1", "/flow-llm-proxy/v1", "/v1"),
            ("http://[::1]:8899/v1", "/flow-llm-proxy/v1", "/v1"),
            ("http://[::ffff:127.0.0.1]:8899/v1", "/flow-llm-proxy/v1", "/v1"),
            ("http://Gateway.example:8899/v1", "/flow-llm-proxy/v1", "/v1"),
            ("http://[fd00::1]:8899/v1", "/flow-llm-proxy/v1", "/v1"),
            ("http://localhost:8899?x=http://evil/", "/flow-llm-proxy/?x=http://evil/", "/"),
            ("http://localhost:8899", "/flow-llm-proxy/", "/"),
        ];
        for (target, expected, path) in rows {
            assert_eq!(forwarded("POST", target, &rules()), Ok((expected.to_owned(), path.to_owned())), "{target}");
        }
    }

    #[test]
    fn an_upstream_without_a_base_path_takes_any_path() {
        let rules = TargetRules { base_path: String::new(), ..rules() };
        let rows = [
            ("/v1?x", "/v1?x", "/v1"),
            ("http://flow.ciandt.com/v1", "/v1", "/v1"),
            ("http://flow.ciandt.com", "/", "/"),
            ("http://flow.ciandt.com?x", "/?x", "/"),
        ];
        for (target, expected, path) in rows {
            assert_eq!(forwarded("POST", target, &rules), Ok((expected.to_owned(), path.to_owned())), "{target}");
        }
    }

    #[test]
    fn an_upstream_on_this_machine_is_not_taken_for_the_listener() {
        let rules = TargetRules { upstream_host: "127.0.0.1".to_owned(), upstream_port: 9000, ..rules() };
        assert!(forwarded("POST", "http://127.0.0.1:9000/flow-llm-proxy/v1", &rules).is_ok());
        assert!(forwarded("POST", "http://127.0.0.1:8899/v1", &rules).is_ok());
        assert_eq!(route("POST", "http://127.0.0.1:9000/v1", &rules), Err(TargetError::NotAnOpenProxy));
        let on_port_80 = TargetRules { listener_port: 80, ..rules };
        assert!(forwarded("POST", "http://127.0.0.1/v1", &on_port_80).is_ok());
    }

    #[test]
    fn this_is_not_an_open_proxy() {
        let targets = [
            "http://evil.example/flow-llm-proxy/v1",
            "http://evil.example/",
            "http://flow.ciandt.com.evil.example/flow-llm-proxy/v1",
            "http://evilflow.ciandt.com/flow-llm-proxy/v1",
            "http://flow.ciandt.com./flow-llm-proxy/v1",
            "http://flow.ciandt.com:81/flow-llm-proxy/v1",
            "http://flow.ciandt.com:8899/flow-llm-proxy/v1",
            "http://user@flow.ciandt.com/flow-llm-proxy/v1",
            "http://user:pass@flow.ciandt.com/flow-llm-proxy/v1",
            "http://flow.ciandt.com@evil.example/flow-llm-proxy/v1",
            "http://flow.ciandt.com\\@evil.example/flow-llm-proxy/v1",
            "http://flow.ciandt.com\\.evil.example/flow-llm-proxy/v1",
            "http://localhost@evil.example:8899/",
            "http://flow.ciandt.com/",
            "http://flow.ciandt.com",
            "http://flow.ciandt.com/v1",
            "http://flow.ciandt.com/flow-llm-proxyX/v1",
            "http://flow.ciandt.com/FLOW-LLM-PROXY/v1",
            "http://flow.ciandt.com/%66low-llm-proxy/v1",
            "http://localhost/v1",
            "http://localhost:8900/v1",
            "https://localhost/v1",
            "http://evillocalhost:8899/v1",
            "http://localhost.evil.example:8899/v1",
            "http://127.0.0.1.evil.example:8899/v1",
            "http://128.0.0.1:8899/v1",
            "http://[::2]:8899/v1",
            "http://0.0.0.0:8899/v1",
            "ftp://flow.ciandt.com/flow-llm-proxy/v1",
            "ws+unix://flow.ciandt.com/flow-llm-proxy/v1",
        ];
        for target in targets {
            assert_eq!(route("POST", target, &rules()), Err(TargetError::NotAnOpenProxy), "{target}");
        }
    }

    #[test]
    fn some_requests_are_answered_here() {
        let rows = [
            ("OPTIONS", "*", Route::AnswerOptions),
            ("OPTIONS", "http://localhost:8899", Route::AnswerOptions),
            ("GET", "/", Route::AnswerLiveness),
            ("HEAD", "/", Route::AnswerLiveness),
            ("GET", "/?probe=1", Route::AnswerLiveness),
            ("GET", "/api/hello", Route::AnswerLiveness),
            ("HEAD", "/api/hello?x", Route::AnswerLiveness),
            ("GET", "http://localhost:8899", Route::AnswerLiveness),
            ("GET", "http://localhost:8899?x", Route::AnswerLiveness),
            ("HEAD", "http://127.0.0.1:8899/api/hello", Route::AnswerLiveness),
        ];
        for (method, target, expected) in rows {
            assert_eq!(route(method, target, &rules()), Ok(expected), "{method} {target}");
        }
        for (method, target) in [
            ("POST", "/"),
            ("get", "/"),
            ("OPTIONS", "/"),
            ("GET", "//"),
            ("GET", "/api/hello/"),
            ("GET", "/api/hellox"),
            ("GET", "/flow-llm-proxy/"),
        ] {
            assert!(forwarded(method, target, &rules()).is_ok(), "{method} {target}");
        }
    }

    #[test]
    fn methods_that_are_not_forwarded_are_told_apart() {
        let rows = [
            ("CONNECT", "flow.ciandt.com:443", TargetError::ConnectNotSupported),
            ("CONNECT", "/", TargetError::ConnectNotSupported),
            ("TRACE", "/", TargetError::MethodNotAllowed),
            ("TRACE", "http://evil.example/", TargetError::MethodNotAllowed),
        ];
        for (method, target, expected) in rows {
            assert_eq!(route(method, target, &rules()), Err(expected), "{method} {target}");
        }
    }

    #[test]
    fn paths_that_could_leave_the_base_path_are_bad() {
        let paths = [
            "/.",
            "/..",
            "/./",
            "/../",
            "/v1/..",
            "/v1/../x",
            "/v1/./x",
            "/v1/..?x",
            "/%2e",
            "/%2E%2e",
            "/.%2e/x",
            "/%2e.",
            "/v1%2f..%2fx",
            "/v1%2F%2E%2E",
            "/..%2fx",
            "/x%5c..",
            "/x%5C..%5cy",
            "/..%5cx",
            "/..;/x",
            "/..;a=b",
            "/.;x",
            "/x/%2e%2e;y",
            "/x;y/..",
            "/a\\b",
            "/\\",
            "/x%00",
            "/%00/x",
            "/x\x01",
            "/\x7f",
            "/a b",
            "/flow-llm-proxy/../admin",
            "/flow-llm-proxy/%2e%2e/admin",
        ];
        for path in paths {
            assert_eq!(route("GET", path, &rules()), Err(TargetError::BadPath), "{path}");
            let absolute = format!("http://localhost:8899{path}");
            assert_eq!(route("GET", &absolute, &rules()), Err(TargetError::BadPath), "{absolute}");
            let absolute = format!("http://flow.ciandt.com/flow-llm-proxy{path}");
            assert_eq!(route("GET", &absolute, &rules()), Err(TargetError::BadPath), "{absolute}");
        }
    }

    #[test]
    fn paths_that_merely_look_odd_are_kept() {
        let paths = [
            "/...",
            "/.../x",
            "/..a",
            "/a..",
            "/.a",
            "/a.",
            "/.well-known/x",
            "/gpt-4.1",
            "/a..b",
            "/a;..",
            "/;../x",
            "/%2e%2e%2e",
            "/%2ea",
            "/a%2e",
            "/%252e%252e",
            "/%",
            "/%2",
            "/%zz",
            "/%%2e",
            "/x%2fy",
            "/x%5cy",
            "/%2e%%2e",
            "/~x",
            "/a|b",
            "/{x}",
            "/%0d%0a",
            "/x//y",
            "/x;a=b/y",
            "/x:y@z",
        ];
        for path in paths {
            let expected = (format!("/flow-llm-proxy{path}"), path.to_owned());
            assert_eq!(forwarded("GET", path, &rules()), Ok(expected), "{path}");
        }
    }

    #[test]
    fn malformed_targets_are_refused() {
        let rows = [
            ("GET", "*"),
            ("GET", ""),
            ("GET", "v1/models"),
            ("GET", "flow.ciandt.com:443"),
            ("GET", "http:/flow.ciandt.com/"),
            ("GET", "http:///v1"),
            ("GET", "http://:8899/v1"),
            ("GET", "http://localhost:/v1"),
            ("GET", "http://localhost:08899/v1"),
            ("GET", "http://localhost:+8899/v1"),
            ("GET", "http://localhost:65536/v1"),
            ("GET", "http://localhost:8899:8899/v1"),
            ("GET", "http://[::1/v1"),
            ("GET", "http://[::1]8899/v1"),
            ("GET", "/v1#x"),
            ("GET", "http://localhost:8899#/../x"),
            ("GET", "x?u=http://localhost:8899/"),
            ("OPTIONS", "**"),
        ];
        for (method, target) in rows {
            let routed = route(method, target, &rules());
            assert!(matches!(routed, Err(TargetError::Malformed(_))), "{method} {target}: {routed:?}");
        }
    }

    /// What a lenient upstream could make of a path: decoded once, back slashes as slashes, parameters dropped.
    fn leaves_its_root(path: &str) -> bool {
        let decoded = path.replace("%2e", ".").replace("%2E", ".").replace("%2f", "/").replace("%5c", "\\");
        decoded.split(['/', '\\']).any(|segment| matches!(segment.split(';').next(), Some("." | "..")))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn no_path_with_a_dot_segment_is_forwarded(parts in prop::collection::vec(prop::sample::select(vec!["/", "\\", ".", "%2e", "%2E", "%2f", "%5c", ";", "a", "%", "2e", "//", "?"]), 0..10)) {
            let path = format!("/{}", parts.concat());
            let is_forwarded = forwarded("POST", &path, &rules()).is_ok();
            let path = split_query(&path).0;
            prop_assert_eq!(is_forwarded, !leaves_its_root(path) && !path.contains('\\'), "{}", path);
        }

        #[test]
        fn no_target_makes_it_panic_or_changes_on_its_way(method in "[A-Z]{0,7}", target in "(http://(localhost|flow.ciandt.com|[^/]{0,6})(:8899)?)?.{0,20}") {
            if let Ok((sent, path)) = forwarded(&method, &target, &rules()) {
                prop_assert!(sent.starts_with("/flow-llm-proxy"));
                prop_assert!(path.starts_with('/'));
                let suffix = sent.strip_prefix("/flow-llm-proxy").unwrap();
                prop_assert!(target.ends_with(suffix.trim_start_matches('/')), "{} from {}", sent, target);
            }
        }
    }
}
