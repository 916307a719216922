//! The routes of the admin listener: from the head of a request to what it asks for, or to the refusal.
//!
//! Pure. The access rules come first, so that a caller who is refused learns nothing of what pages there are.

use super::access::{Need, Proof};
use super::page;
use super::refusal::AdminRefusal;
use crate::config::percent_decoded;
use crate::credentials::Secret;
use crate::http1::framing::BodyLength;
use crate::http1::head::{Field, HeadError, RequestHead};
use crate::proxy::error::GatewayError;
use crate::proxy::guard::AccessRules;
use crate::proxy::guard::key::bearer;
use crate::proxy::guard::origin::Caller;
use crate::proxy::request;
use crate::proxy::request::head::RequestError;

/// A page of the admin listener, or something that it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminPage {
    Health,
    Readiness,
    Metrics,
    State,
    Events,
    Usage {
        query: String,
    },
    Wake {
        credential: String,
    },
    LogIn,
    LogOut,
    /// A file of the live page, by its place.
    Asset(usize),
}

impl AdminPage {
    /// Finds the page of a path.
    fn of(path: &str, query: &str) -> Option<Self> {
        Some(match path {
            "/healthz" => AdminPage::Health,
            "/readyz" => AdminPage::Readiness,
            "/metrics" => AdminPage::Metrics,
            "/api/state" => AdminPage::State,
            "/api/events" => AdminPage::Events,
            "/api/usage" => AdminPage::Usage { query: query.to_owned() },
            "/login" => AdminPage::LogIn,
            "/logout" => AdminPage::LogOut,
            path => match path.strip_prefix("/api/credentials/").and_then(|rest| rest.strip_suffix("/wake")) {
                Some(name) if !name.is_empty() && !name.contains('/') => {
                    let name = percent_decoded(name)?;
                    AdminPage::Wake { credential: std::str::from_utf8(&name).ok()?.to_owned() }
                }
                _ => AdminPage::Asset(page::asset(path)?),
            },
        })
    }

    /// Returns the access that it needs.
    pub fn need(&self) -> Need {
        match self {
            AdminPage::Health | AdminPage::Readiness | AdminPage::Metrics => Need::Nothing,
            AdminPage::LogIn | AdminPage::LogOut | AdminPage::Asset(_) => Need::WayIn,
            AdminPage::State | AdminPage::Events | AdminPage::Usage { .. } | AdminPage::Wake { .. } => Need::Token,
        }
    }

    /// Returns its methods: what changes something is a `POST`.
    fn methods(&self) -> &'static str {
        match self {
            AdminPage::Wake { .. } | AdminPage::LogIn | AdminPage::LogOut => "POST",
            _ => "GET, HEAD",
        }
    }
}

/// A request, as far as it matters here.
#[derive(Debug)]
pub struct AdminRequest {
    pub page: AdminPage,
    pub is_head: bool,
    pub proof: Proof,
    /// The length of its body; `None`: it has one of no known length.
    pub body_bytes: Option<u64>,
    /// It prefers CSV.
    pub wants_csv: bool,
    /// The versions of a file that the client has.
    pub known_tags: Option<String>,
}

/// Finds what a request asks for. `rules` allow no origin: of pages, only those of this listener may ask. `cookie` is the
/// name of the session's.
///
/// # Errors
/// See [`AdminRefusal`].
pub fn route(head: &RequestHead<'_>, rules: &AccessRules, cookie: &str) -> Result<AdminRequest, AdminRefusal> {
    let mut caller = Caller::default();
    let facts = request::head::examine(head, &mut caller).map_err(|error| match error {
        RequestError::Head(error) => AdminRefusal::Unreadable(error),
        RequestError::UnsupportedExpectation => {
            AdminRefusal::Unreadable(HeadError::Malformed("it has an Expect field"))
        }
    })?;
    match rules.admit(head, &caller) {
        Ok(_) => {}
        Err(GatewayError::HostNotAllowed) => return Err(AdminRefusal::ForeignHost),
        // The host was looked at before.
        Err(_) if caller.is_of_this_host() => {}
        Err(_) => return Err(AdminRefusal::WebPage),
    }
    let (authority, path) = split_target(head.target);
    if !authority.is_none_or(|authority| rules.answers_to(authority.as_bytes())) {
        return Err(AdminRefusal::ForeignHost);
    }
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let page = AdminPage::of(path, query).ok_or(AdminRefusal::NotFound)?;
    let is_allowed = match page.methods() {
        "POST" => head.method == "POST",
        _ => matches!(head.method, "GET" | "HEAD"),
    };
    if !is_allowed {
        return Err(AdminRefusal::MethodNotAllowed(page.methods()));
    }
    let value = |name| first(head.fields, name);
    let session = value("cookie").and_then(|cookies| cookie_value(cookies, cookie));
    Ok(AdminRequest {
        page,
        is_head: head.method == "HEAD",
        proof: Proof { bearer: value("authorization").and_then(bearer).and_then(secret), session },
        body_bytes: match facts.body {
            BodyLength::None => Some(0),
            BodyLength::Known(length) => Some(length),
            BodyLength::Chunked | BodyLength::UntilClose => None,
        },
        wants_csv: value("accept").is_some_and(|types| memchr::memmem::find(types, b"text/csv").is_some()),
        known_tags: value("if-none-match").map(|tags| String::from_utf8_lossy(tags).into_owned()),
    })
}

/// Returns the value of the first field of a name.
fn first<'h>(fields: &[Field<'h>], name: &str) -> Option<&'h [u8]> {
    fields.iter().find(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value)
}

/// Finds a cookie in a field of them (RFC 6265 §4.2.1).
fn cookie_value(cookies: &[u8], name: &str) -> Option<Secret> {
    let cookies = std::str::from_utf8(cookies).ok()?;
    let value = cookies.split(';').find_map(|cookie| cookie.trim().strip_prefix(name)?.strip_prefix('='))?;
    Some(Secret::new(value.to_owned()))
}

fn secret(value: &[u8]) -> Option<Secret> {
    Some(Secret::new(std::str::from_utf8(value).ok()?.to_owned()))
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

    fn request(head: &str) -> Result<AdminRequest, AdminRefusal> {
        let hosts = Hosts::of_listener("127.0.0.1:1".parse().unwrap(), Vec::new(), &["gateway.lan".to_owned()]);
        let rules = AccessRules { hosts, ..AccessRules::default() };
        with_request(format!("{head}\r\n\r\n").as_bytes(), |head| route(head, &rules, "session")).unwrap()
    }

    fn routed(head: &str) -> Result<AdminPage, AdminRefusal> {
        request(head).map(|request| request.page)
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
            ("GET / HTTP/1.1\r\nHost: localhost", AdminPage::Asset(0)),
            ("GET /api/state HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost", AdminPage::State),
            ("GET /api/usage?by=day HTTP/1.1\r\nHost: localhost", AdminPage::Usage { query: "by=day".into() }),
            ("POST /login HTTP/1.1\r\nHost: a.localhost\r\nOrigin: https://A.localhost", AdminPage::LogIn),
            (
                "POST /api/credentials/team%20%C3%A9/wake HTTP/1.1\r\nHost: localhost",
                AdminPage::Wake { credential: "team \u{e9}".into() },
            ),
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
                ("GET", "Host: localhost\r\nOrigin: http://localhost:3000", AdminRefusal::WebPage),
                ("POST", "Host: localhost:1\r\nOrigin: http://localhost", AdminRefusal::WebPage),
                (
                    "POST",
                    "Host: localhost\r\nOrigin: http://localhost\r\nOrigin: http://localhost",
                    AdminRefusal::WebPage,
                ),
                (
                    "POST",
                    "Host: localhost\r\nOrigin: http://localhost\r\nSec-Fetch-Site: same-site",
                    AdminRefusal::WebPage,
                ),
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
            ("POST /healthz", AdminRefusal::MethodNotAllowed("GET, HEAD")),
            ("get /healthz", AdminRefusal::MethodNotAllowed("GET, HEAD")),
            ("POST /", AdminRefusal::MethodNotAllowed("GET, HEAD")),
            ("GET /login", AdminRefusal::MethodNotAllowed("POST")),
            ("HEAD /api/credentials/a/wake", AdminRefusal::MethodNotAllowed("POST")),
            ("POST /api/credentials//wake", AdminRefusal::NotFound),
            ("POST /api/credentials/a/b/wake", AdminRefusal::NotFound),
            ("POST /api/credentials/%zz/wake", AdminRefusal::NotFound),
            ("POST /api/credentials/%ff/wake", AdminRefusal::NotFound),
            ("GET /assets/../index.html", AdminRefusal::NotFound),
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

    #[test]
    fn a_request_shows_its_token_and_its_session_and_nothing_of_either_is_printed() {
        let fields = "Authorization: bearer the-token\r\nCookie: a=b; session=the-session; c=d\r\nAccept: text/csv";
        let request = request(&format!("GET /api/usage HTTP/1.1\r\nHost: localhost\r\n{fields}")).unwrap();
        let shown = [&request.proof.bearer, &request.proof.session].map(|secret| secret.as_ref().map(Secret::expose));
        assert_eq!((shown, request.wants_csv), ([Some("the-token"), Some("the-session")], true));
        assert!(!format!("{request:?}").contains("the-"));
    }
}
