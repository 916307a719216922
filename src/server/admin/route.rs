//! What a request to the admin listener gets: a page, or why not.
//!
//! Pure. The order of the checks is that of how much an answer tells: who must not ask learns nothing of what there is.

use super::host::HostRule;
use crate::http1::head::{Field, HeadError, RequestHead, Version};

/// What there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Health,
    Readiness,
    Metrics,
}

/// The paths of all pages.
pub const PATHS: [(&str, Page); 3] =
    [("/healthz", Page::Health), ("/readyz", Page::Readiness), ("/metrics", Page::Metrics)];

/// Why a request gets no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    Unreadable(HeadError),
    ForeignHost,
    WebPage,
    NotFound,
    MethodNotAllowed,
}

/// Looks the request up.
///
/// # Errors
/// See [`Refusal`].
pub fn route(head: &RequestHead<'_>, hosts: &HostRule) -> Result<Page, Refusal> {
    let (authority, path) = split_target(head)?;
    if authority.is_some_and(|authority| !hosts.admits(authority)) {
        return Err(Refusal::ForeignHost);
    }
    // Scrapers and health checks send neither.
    let is_of_web_page = all(head.fields, "origin").next().is_some()
        || all(head.fields, "sec-fetch-site").any(|value| value.eq_ignore_ascii_case(b"cross-site"));
    if is_of_web_page {
        return Err(Refusal::WebPage);
    }
    let path = path.split('?').next().unwrap_or_default();
    let page = PATHS.into_iter().find_map(|(known, page)| (known == path).then_some(page)).ok_or(Refusal::NotFound)?;
    match head.method {
        "GET" | "HEAD" => Ok(page),
        _ => Err(Refusal::MethodNotAllowed),
    }
}

/// Whom the request is for, and the path. RFC 9112 §3.2.2: of a target in absolute form the authority is taken, and
/// `Host` is not looked at. An HTTP/1.0 request may have neither: no browser sends it.
fn split_target<'a>(head: &RequestHead<'a>) -> Result<(Option<&'a str>, &'a str), Refusal> {
    let malformed = |what| Refusal::Unreadable(HeadError::Malformed(what));
    let mut hosts = all(head.fields, "host");
    let host = match (hosts.next(), hosts.next()) {
        (None, _) if head.version == Version::Http10 => None,
        // RFC 9112 §3.2.
        (None, _) => return Err(malformed("there is no Host field")),
        (Some(_), Some(_)) => return Err(malformed("there are two Host fields")),
        (Some(host), None) => {
            Some(std::str::from_utf8(host).map_err(|_| malformed("the Host field is not a host name"))?)
        }
    };
    let Some(rest) = strip_scheme(head.target) else { return Ok((host, head.target)) };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    Ok((Some(authority), path))
}

fn strip_scheme(target: &str) -> Option<&str> {
    const SCHEME: &str = "http://";
    let (scheme, rest) = target.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

fn all<'a>(fields: &'a [Field<'a>], name: &'static str) -> impl Iterator<Item = &'a [u8]> {
    fields.iter().filter(move |field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::with_request;

    fn routed(head: &str) -> Result<Page, Refusal> {
        let rule = HostRule::of_bind("127.0.0.1:1".parse().unwrap());
        with_request(format!("{head}\r\n\r\n").as_bytes(), |head| route(head, &rule)).unwrap()
    }

    #[test]
    fn each_path_has_its_page() {
        for (head, page) in [
            ("GET /healthz HTTP/1.1\r\nHost: localhost:8900", Page::Health),
            ("HEAD /readyz HTTP/1.1\r\nHost: 127.0.0.1", Page::Readiness),
            ("GET /metrics?x=1 HTTP/1.1\r\nHost: [::1]:1", Page::Metrics),
            ("GET http://localhost:1/metrics HTTP/1.1\r\nHost: example.com", Page::Metrics),
            ("GET /healthz HTTP/1.0", Page::Health),
            ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: none", Page::Health),
            ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin", Page::Health),
        ] {
            assert_eq!(routed(head), Ok(page), "{head}");
        }
    }

    #[test]
    fn whoever_must_not_ask_learns_nothing_of_what_there_is() {
        for path in ["/healthz", "/nothing"] {
            for (method, fields, refusal) in [
                ("GET", "Host: example.com", Refusal::ForeignHost),
                ("POST", "Host: example.com", Refusal::ForeignHost),
                ("GET", "Host: localhost\r\nOrigin: http://localhost", Refusal::WebPage),
                ("GET", "Host: localhost\r\nOrigin: null", Refusal::WebPage),
                ("GET", "Host: localhost\r\nsec-fetch-site: Cross-Site", Refusal::WebPage),
            ] {
                assert_eq!(routed(&format!("{method} {path} HTTP/1.1\r\n{fields}")), Err(refusal), "{method} {fields}");
            }
        }
        let foreign = "GET http://example.com/healthz HTTP/1.1\r\nHost: localhost";
        assert_eq!(routed(foreign), Err(Refusal::ForeignHost));
    }

    #[test]
    fn other_methods_and_paths_are_told_apart() {
        for (line, refusal) in [
            ("POST /healthz", Refusal::MethodNotAllowed),
            ("get /healthz", Refusal::MethodNotAllowed),
            ("GET /", Refusal::NotFound),
            ("POST /", Refusal::NotFound),
            ("GET /healthz/", Refusal::NotFound),
            ("GET //healthz", Refusal::NotFound),
            ("OPTIONS *", Refusal::NotFound),
            ("CONNECT localhost:1", Refusal::NotFound),
            ("GET http://localhost", Refusal::NotFound),
        ] {
            assert_eq!(routed(&format!("{line} HTTP/1.1\r\nHost: localhost")), Err(refusal), "{line}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        for fields in ["A: b", "Host: localhost\r\nHost: localhost", "Host: \u{e9}\u{ff}"] {
            let refused = routed(&format!("GET /healthz HTTP/1.1\r\n{fields}"));
            assert!(matches!(refused, Err(Refusal::Unreadable(_) | Refusal::ForeignHost)), "{fields}: {refused:?}");
        }
    }
}
