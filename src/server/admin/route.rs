//! The routes of the admin listener: from a request to its page, or to the refusal.
//!
//! Pure. The access rules come first, so that a caller who is refused learns nothing of what pages there are.

use crate::http1::head::{HeadError, RequestHead};
use crate::proxy::error::GatewayError;
use crate::proxy::guard::AccessRules;
use crate::proxy::guard::origin::Caller;
use crate::proxy::request;
use crate::proxy::request::head::RequestError;

/// A page of the admin listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminPage {
    Health,
    Readiness,
    Metrics,
    State,
}

/// All pages with their paths.
pub const PATHS: [(&str, AdminPage); 4] = [
    ("/healthz", AdminPage::Health),
    ("/readyz", AdminPage::Readiness),
    ("/metrics", AdminPage::Metrics),
    ("/api/state", AdminPage::State),
];

/// The reason why a request gets no page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminRefusal {
    Unreadable(HeadError),
    ForeignHost,
    WebPage,
    NotFound,
    MethodNotAllowed,
}

impl From<HeadError> for AdminRefusal {
    fn from(error: HeadError) -> Self {
        AdminRefusal::Unreadable(error)
    }
}

/// Finds the page of a request. `rules` allow no origin: web pages may not ask.
///
/// # Errors
/// See [`AdminRefusal`].
pub fn route(head: &RequestHead<'_>, rules: &AccessRules) -> Result<AdminPage, AdminRefusal> {
    let mut caller = Caller::default();
    request::head::examine(head, &mut caller).map_err(|error| match error {
        RequestError::Head(error) => AdminRefusal::Unreadable(error),
        RequestError::UnsupportedExpectation => {
            AdminRefusal::Unreadable(HeadError::Malformed("it has an Expect field"))
        }
    })?;
    rules.admit(head, &caller).map_err(|error| match error {
        GatewayError::HostNotAllowed => AdminRefusal::ForeignHost,
        _ => AdminRefusal::WebPage,
    })?;
    let (authority, path) = split_target(head.target);
    if !authority.is_none_or(|authority| rules.answers_to(authority.as_bytes())) {
        return Err(AdminRefusal::ForeignHost);
    }
    let path = path.split('?').next().unwrap_or_default();
    let page =
        PATHS.into_iter().find_map(|(known, page)| (known == path).then_some(page)).ok_or(AdminRefusal::NotFound)?;
    match head.method {
        "GET" | "HEAD" => Ok(page),
        _ => Err(AdminRefusal::MethodNotAllowed),
    }
}

/// Splits a target into its authority, which only the absolute form has, and its path (RFC 9112 §3.2.2: a server must
/// accept that form).
fn split_target(target: &str) -> (Option<&str>, &str) {
    let Some(rest) = strip_scheme(target) else { return (None, target) };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    (Some(authority), path)
}

fn strip_scheme(target: &str) -> Option<&str> {
    const SCHEME: &str = "http://";
    let (scheme, rest) = target.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::with_request;
    use crate::proxy::guard::host::Hosts;

    fn routed(head: &str) -> Result<AdminPage, AdminRefusal> {
        let hosts = Hosts::of_listener("127.0.0.1:1".parse().unwrap(), Vec::new(), &["gateway.lan".to_owned()]);
        let rules = AccessRules { hosts, ..AccessRules::default() };
        with_request(format!("{head}\r\n\r\n").as_bytes(), |head| route(head, &rules)).unwrap()
    }

    #[test]
    fn each_path_has_its_page() {
        for (head, page) in [
            ("GET /healthz HTTP/1.1\r\nHost: localhost:8900", AdminPage::Health),
            ("HEAD /readyz HTTP/1.1\r\nHost: 127.0.0.1", AdminPage::Readiness),
            ("GET /metrics?x=1 HTTP/1.1\r\nHost: [::1]:1", AdminPage::Metrics),
            ("GET http://localhost:1/metrics HTTP/1.1\r\nHost: example.com", AdminPage::Metrics),
            ("GET /metrics HTTP/1.1\r\nHost: gateway.lan:8900", AdminPage::Metrics),
            ("GET /healthz HTTP/1.0", AdminPage::Health),
            ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: none", AdminPage::Health),
            ("GET /healthz HTTP/1.1\r\nHost: localhost\r\nSec-Fetch-Site: same-origin", AdminPage::Health),
        ] {
            assert_eq!(routed(head), Ok(page), "{head}");
        }
    }

    #[test]
    fn whoever_must_not_ask_learns_nothing_of_what_there_is() {
        for path in ["/healthz", "/nothing"] {
            for (method, fields, refusal) in [
                ("GET", "Host: example.com", AdminRefusal::ForeignHost),
                ("POST", "Host: example.com", AdminRefusal::ForeignHost),
                ("GET", "Host: localhost\r\nOrigin: http://localhost", AdminRefusal::WebPage),
                ("GET", "Host: localhost\r\nOrigin: null", AdminRefusal::WebPage),
                ("GET", "Host: localhost\r\nsec-fetch-site: Cross-Site", AdminRefusal::WebPage),
                ("GET", "Host: localhost\r\nsec-fetch-site: same-site", AdminRefusal::WebPage),
            ] {
                assert_eq!(routed(&format!("{method} {path} HTTP/1.1\r\n{fields}")), Err(refusal), "{method} {fields}");
            }
        }
        let foreign = "GET http://example.com/healthz HTTP/1.1\r\nHost: localhost";
        assert_eq!(routed(foreign), Err(AdminRefusal::ForeignHost));
    }

    #[test]
    fn other_methods_and_paths_are_told_apart() {
        for (line, refusal) in [
            ("POST /healthz", AdminRefusal::MethodNotAllowed),
            ("get /healthz", AdminRefusal::MethodNotAllowed),
            ("GET /", AdminRefusal::NotFound),
            ("POST /", AdminRefusal::NotFound),
            ("GET /healthz/", AdminRefusal::NotFound),
            ("GET //healthz", AdminRefusal::NotFound),
            ("OPTIONS *", AdminRefusal::NotFound),
            ("CONNECT localhost:1", AdminRefusal::NotFound),
            ("GET http://localhost", AdminRefusal::NotFound),
        ] {
            assert_eq!(routed(&format!("{line} HTTP/1.1\r\nHost: localhost")), Err(refusal), "{line}");
        }
    }

    #[test]
    fn a_request_names_one_host() {
        for fields in ["A: b", "Host: localhost\r\nHost: localhost", "Host: \u{e9}\u{ff}"] {
            let refused = routed(&format!("GET /healthz HTTP/1.1\r\n{fields}"));
            assert!(
                matches!(refused, Err(AdminRefusal::Unreadable(_) | AdminRefusal::ForeignHost)),
                "{fields}: {refused:?}"
            );
        }
    }
}
