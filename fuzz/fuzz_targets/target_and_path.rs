//! A request target: it goes upstream below the base path, as it came, or not at all.

#![no_main]

use std::sync::LazyLock;

use flow_uring::fuzz::request::{Destination, TargetError, TargetRules, path_of, route};
use flow_uring::fuzz::rules;
use flow_uring_fuzz::path::{is_bad, is_below, split_query};
use libfuzzer_sys::fuzz_target;

static RULES: LazyLock<[TargetRules; 3]> =
    LazyLock::new(|| ["/flow-llm-proxy", "", "/a/b"].map(|base_path| rules(base_path).target));

/// The right thing to do with a target.
#[derive(Debug, PartialEq, Eq)]
enum Expected {
    /// This path and query go upstream.
    Forward(String),
    Liveness,
    Options,
    Refuse,
    /// It names another host.
    NotOurs,
    BadPath,
}

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (methods, target) = match text.split_once(' ') {
        Some((method, target)) => (vec![method], target),
        None => (vec!["GET", "POST", "OPTIONS"], text),
    };
    for (rules, method) in RULES.iter().flat_map(|rules| methods.iter().map(move |method| (rules, *method))) {
        let routed = route(method, target, rules);
        assert_eq!(simplified(&routed, rules), expected(method, target, rules), "{method} {target}");
        if let Ok(Destination::Forward(path)) = routed {
            check_forwarded(&path_below(&routed, rules), target, rules);
            assert!(path.path().starts_with('/'), "the path below the base path");
            assert!(!path.path().contains('?'));
        }
    }
    // Goes into the log.
    let logged = path_of(target);
    assert!(!logged.contains('?'), "a query may hold keys");
    assert!(target.starts_with('/') || !logged.contains('@') || logged.starts_with('/'), "an authority has a password");
});

fn path_below(routed: &Result<Destination<'_>, TargetError>, rules: &TargetRules) -> String {
    let Ok(Destination::Forward(path)) = routed else { return String::new() };
    let mut out = Vec::new();
    path.push_to(&mut out, &rules.base_path);
    String::from_utf8(out).expect("the target is text")
}

fn simplified(routed: &Result<Destination<'_>, TargetError>, rules: &TargetRules) -> Expected {
    match routed {
        Ok(Destination::Forward(_)) => Expected::Forward(path_below(routed, rules)),
        Ok(Destination::AnswerLiveness) => Expected::Liveness,
        Ok(Destination::AnswerOptions) => Expected::Options,
        Err(TargetError::BadPath) => Expected::BadPath,
        Err(TargetError::NotAnOpenProxy) => Expected::NotOurs,
        Err(_) => Expected::Refuse,
    }
}

/// Whatever the model says: the path stays below the base path, holds that once more at most, and is what came.
fn check_forwarded(upstream: &str, target: &str, rules: &TargetRules) {
    assert!(upstream.starts_with('/'));
    assert!(is_below(upstream, &rules.base_path), "{upstream}");
    assert!(!is_bad(split_query(upstream).0), "{upstream}");
    assert!(!upstream.contains('#'));
    let below = &upstream[rules.base_path.len()..];
    assert!(target.ends_with(upstream) || target.ends_with(below) || target.ends_with(below.trim_start_matches('/')));
}

fn expected(method: &str, target: &str, rules: &TargetRules) -> Expected {
    // By any letters: a server that ignores their case would see another message.
    let is_other_message = ["CONNECT", "TRACE", "HEAD"].iter().any(|name| method.to_ascii_uppercase() == *name);
    if is_other_message && method != "HEAD" || target.contains('#') {
        return Expected::Refuse;
    }
    if target.starts_with('/') {
        return expected_of_path(method, target, rules);
    }
    if target == "*" {
        return if method == "OPTIONS" { Expected::Options } else { Expected::Refuse };
    }
    let Some((scheme, rest)) = target.split_once("://") else { return Expected::Refuse };
    let is_scheme = |byte: u8| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte);
    match scheme.to_ascii_lowercase().as_str() {
        "http" => expected_of_url(method, rest, 80, rules),
        "https" => expected_of_url(method, rest, 443, rules),
        other if !other.is_empty() && other.bytes().all(is_scheme) => Expected::NotOurs,
        _ => Expected::Refuse,
    }
}

fn expected_of_path(method: &str, target: &str, rules: &TargetRules) -> Expected {
    let path = split_query(target).0;
    let is_probe = method == "GET" || method == "HEAD";
    if is_bad(path) {
        Expected::BadPath
    } else if is_probe && ["", "/", "/api/hello"].contains(&path) {
        Expected::Liveness
    } else if method == "OPTIONS" && target.is_empty() {
        Expected::Options
    } else if is_below(target, &rules.base_path) && target.starts_with('/') {
        Expected::Forward(target.to_owned())
    } else {
        Expected::Forward(format!("{}{}{target}", rules.base_path, if target.starts_with('/') { "" } else { "/" }))
    }
}

/// `rest` is what follows `://` of a URL whose scheme has this port.
fn expected_of_url(method: &str, rest: &str, scheme_port: u16, rules: &TargetRules) -> Expected {
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Expected::NotOurs;
    }
    let Some((host, port)) = split_authority(authority) else { return Expected::Refuse };
    if host.is_empty() {
        return Expected::Refuse;
    }
    let is_upstream = host.eq_ignore_ascii_case(&rules.upstream_host)
        && port.is_none_or(|port| [80, 443, rules.upstream_port].contains(&port));
    if is_upstream && is_below(path, &rules.base_path) {
        if is_bad(split_query(path).0) {
            return Expected::BadPath;
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        return Expected::Forward(format!("{slash}{path}"));
    }
    if port.unwrap_or(scheme_port) == rules.listener_port && is_this_machine(host) {
        return expected_of_path(method, path, rules);
    }
    Expected::NotOurs
}

/// Host without brackets, and port; `None` of an authority that cannot be read.
fn split_authority(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(inside) => {
            let (host, after) = inside.split_once(']')?;
            (host, if after.is_empty() { None } else { Some(after.strip_prefix(':')?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    let Some(port) = port else { return Some((host, None)) };
    let is_port = !port.starts_with('0') && !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    Some((host, Some(port.parse().ok().filter(|_| is_port)?)))
}

fn is_this_machine(host: &str) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    host == "localhost"
        || host.ends_with(".localhost")
        || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.to_canonical().is_loopback())
}
