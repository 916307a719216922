//! The request target (RFC 9112 §3.2): the destination of a request, or the reason why it is refused.
//!
//! Invariant: a path that is forwarded cannot leave the upstream's base path, however the upstream decodes it (`path`),
//! and nothing is ever forwarded to another host. Path and query are otherwise kept byte for byte.

use std::fmt;

use crate::config::{Authority, is_loopback, is_same_host, without_brackets};
use crate::proxy::request::path::{UpstreamPath, is_bad_path, split_query, strip_base_path};

/// The hosts, ports and base path with which targets are compared, the same for all requests.
#[derive(Debug, Clone)]
pub struct TargetRules {
    /// Without brackets or port.
    pub upstream_host: String,
    pub upstream_port: u16,
    /// Empty, or begins with a slash and does not end with one.
    pub base_path: String,
    pub listener_port: u16,
    /// Names of this listener, beside the loopback names and addresses.
    pub listener_hosts: Vec<String>,
}

/// The destination of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination<'a> {
    Forward(UpstreamPath<'a>),
    /// `OPTIONS *`.
    AnswerOptions,
    /// `GET` or `HEAD` of `/` or `/api/hello`: probes must not spend a real request.
    AnswerLiveness,
}

/// A reason why a request is not forwarded.
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

/// Finds the destination, by method and target alone. Methods are case-sensitive (RFC 9110 §9.1), but not to every
/// server: `connect`, `trace` and `head` are not forwarded either, since one that takes them for the methods that decide
/// what follows a head would see other messages.
///
/// # Errors
/// The request must not go upstream.
pub fn route<'a>(method: &str, target: &'a str, rules: &TargetRules) -> Result<Destination<'a>, TargetError> {
    if method.eq_ignore_ascii_case("CONNECT") {
        return Err(TargetError::ConnectNotSupported);
    }
    if method.eq_ignore_ascii_case("TRACE") {
        return Err(TargetError::MethodNotAllowed);
    }
    if method.eq_ignore_ascii_case("HEAD") && method != "HEAD" {
        return Err(TargetError::Malformed("the method HEAD is written in capital letters"));
    }
    if target.contains('#') {
        // RFC 9112 §3.2: no form has a fragment, and an upstream that removes one gets another path.
        return Err(TargetError::Malformed("the target has a fragment"));
    }
    if target.starts_with('/') {
        return route_origin_form(method, target, rules);
    }
    if target == "*" {
        // RFC 9112 §3.2.4: asterisk-form is for OPTIONS alone.
        return if method == "OPTIONS" {
            Ok(Destination::AnswerOptions)
        } else {
            Err(TargetError::Malformed("only OPTIONS can have the target *"))
        };
    }
    let Some(absolute) = AbsoluteForm::parse(target)? else {
        return Err(TargetError::Malformed("the target is neither a path nor a URL"));
    };
    route_absolute_form(method, absolute, rules)
}

fn route_origin_form<'a>(method: &str, target: &'a str, rules: &TargetRules) -> Result<Destination<'a>, TargetError> {
    let path = split_query(target).0;
    if is_bad_path(path) {
        return Err(TargetError::BadPath);
    }
    if matches!(method, "GET" | "HEAD") && matches!(path, "" | "/" | "/api/hello") {
        return Ok(Destination::AnswerLiveness);
    }
    // RFC 9112 §3.2.4: the absolute-form of OPTIONS *.
    if method == "OPTIONS" && target.is_empty() {
        return Ok(Destination::AnswerOptions);
    }
    let needs_base = strip_base_path(target, &rules.base_path).is_none();
    let base_bytes = if needs_base { 0 } else { rules.base_path.len() };
    Ok(Destination::Forward(UpstreamPath { needs_base, path_and_query: target, base_bytes }))
}

fn route_absolute_form<'a>(
    method: &str,
    absolute: AbsoluteForm<'a>,
    rules: &TargetRules,
) -> Result<Destination<'a>, TargetError> {
    let path_and_query = absolute.path_and_query;
    if absolute.names_upstream(&rules.upstream_host, rules.upstream_port)
        && strip_base_path(path_and_query, &rules.base_path).is_some()
    {
        if is_bad_path(split_query(path_and_query).0) {
            return Err(TargetError::BadPath);
        }
        let base_bytes = rules.base_path.len();
        return Ok(Destination::Forward(UpstreamPath { needs_base: false, path_and_query, base_bytes }));
    }
    if absolute.names_listener(rules) {
        return route_origin_form(method, path_and_query, rules);
    }
    Err(TargetError::NotAnOpenProxy)
}

/// The parts of an `http` or `https` URL.
#[derive(Clone, Copy)]
pub(in crate::proxy) struct AbsoluteForm<'a> {
    /// Without brackets.
    host: &'a str,
    port: Option<u16>,
    is_https: bool,
    pub(in crate::proxy) path_and_query: &'a str,
}

impl<'a> AbsoluteForm<'a> {
    /// Parses a URL; `None`: it has no scheme.
    pub(in crate::proxy) fn parse(url: &'a str) -> Result<Option<Self>, TargetError> {
        let Some((scheme, rest)) = url.split_once("://") else { return Ok(None) };
        let is_https = scheme.eq_ignore_ascii_case("https");
        if !is_https && !scheme.eq_ignore_ascii_case("http") {
            // A path or query may contain "://" too, but the text before it there is not a scheme (RFC 3986 §3.1).
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

    /// Returns whether host and port are the upstream's. Ports 80 and 443 also stand for a base URL that was configured
    /// without a port, whichever scheme the downstream used.
    pub(in crate::proxy) fn names_upstream(&self, host: &str, port: u16) -> bool {
        self.host.eq_ignore_ascii_case(host) && self.port.is_none_or(|named| matches!(named, 80 | 443) || named == port)
    }

    fn names_listener(&self, rules: &TargetRules) -> bool {
        let port = self.port.unwrap_or(if self.is_https { 443 } else { 80 });
        port == rules.listener_port
            && (is_loopback(self.host)
                || rules.listener_hosts.iter().any(|host| is_same_host(self.host, without_brackets(host))))
    }
}

/// Divides into the host without brackets and the port, whose digits must have no leading zero.
fn split_port(authority: &str) -> Result<(&str, Option<u16>), TargetError> {
    const MALFORMED: TargetError = TargetError::Malformed("the target's host or port is malformed");
    let authority = Authority::split(authority).ok_or(MALFORMED)?;
    match authority.port {
        None => Ok((authority.host, None)),
        Some(digits) if digits.starts_with('0') => Err(MALFORMED),
        Some(_) => authority.port_number().map(|port| (authority.host, Some(port))).ok_or(MALFORMED),
    }
}

#[cfg(test)]
mod tests;
