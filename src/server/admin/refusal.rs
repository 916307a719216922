//! The reasons why a request of the admin listener gets an error, and the errors.

use serde_json::json;

use super::reply::AdminReply;
use crate::http1::head::HeadError;

/// The paths that there are, for who asks for another.
pub const KNOWN_PATHS: [&str; 7] = ["/", "/healthz", "/readyz", "/metrics", "/api/state", "/api/events", "/api/usage"];

/// The reason why a request gets an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminRefusal {
    Unreadable(HeadError),
    ForeignHost,
    /// A page of another origin asks.
    WebPage,
    NotFound,
    /// The methods that there are.
    MethodNotAllowed(&'static str),
    /// The address is not a loopback one, and no token can be asked for.
    NoTokenFile,
    TokenMissing,
    TokenWrong,
    /// There are no random numbers for a session.
    NoSession,
    /// A log-in without a token in a body that tells its length, or with too large a one.
    LogInMalformed,
    TooManyFollowers,
    UnknownCredential,
    /// The query is not one that can be answered.
    BadQuery(&'static str),
    /// The totals cannot be read, at all or now.
    UsageUnavailable(&'static str),
}

impl From<HeadError> for AdminRefusal {
    fn from(error: HeadError) -> Self {
        AdminRefusal::Unreadable(error)
    }
}

impl AdminRefusal {
    /// Returns the status, the code and the message.
    fn told(self) -> (u16, &'static str, String) {
        let (status, code, message) = match self {
            AdminRefusal::Unreadable(error) => return unreadable(error),
            AdminRefusal::BadQuery(expected) => {
                return (400, "bad_query", format!("The query is malformed: {expected}."));
            }
            AdminRefusal::UsageUnavailable(why) => (503, "usage_unavailable", why),
            AdminRefusal::ForeignHost => (
                403,
                "host_not_allowed",
                "The Host field does not name this machine; ask by a loopback address, or by localhost.",
            ),
            AdminRefusal::WebPage => (
                403,
                "origin_not_allowed",
                "Pages of other origins may not ask the admin listener; use its own page, or a program.",
            ),
            AdminRefusal::NotFound => {
                (404, "not_found", "There is no such page here; the paths that there are follow.")
            }
            AdminRefusal::MethodNotAllowed("POST") => (405, "method_not_allowed", "This changes something; use POST."),
            AdminRefusal::MethodNotAllowed(_) => {
                (405, "method_not_allowed", "Pages can be read only; use GET or HEAD.")
            }
            AdminRefusal::NoTokenFile => (
                403,
                "token_file_needed",
                "This address can be reached by others, and no token can be asked for: start the gateway with \
                 --admin-token-file FILE (a line that openssl rand -hex 32 printed, mode 600), or with --admin on 127.0.0.1.",
            ),
            AdminRefusal::TokenMissing => {
                (401, "token_missing", "Send the token of --admin-token-file as Authorization: Bearer, or log in.")
            }
            AdminRefusal::TokenWrong => (401, "token_wrong", "This is not the token of --admin-token-file."),
            AdminRefusal::NoSession => (500, "internal_error", "The system gave no random numbers; try again."),
            AdminRefusal::LogInMalformed => (
                400,
                "log_in_malformed",
                "Send the token as JSON, {\"token\":\"...\"}, or as a form, with a Content-Length.",
            ),
            AdminRefusal::TooManyFollowers => {
                (503, "too_many_followers", "As many follow the events already as may; close another page.")
            }
            AdminRefusal::UnknownCredential => (404, "unknown_credential", "There is no credential of that name."),
        };
        (status, code, message.to_owned())
    }
}

fn unreadable(error: HeadError) -> (u16, &'static str, String) {
    match error {
        HeadError::LineTooLong | HeadError::HeadTooLarge | HeadError::TooManyFields => {
            (431, "head_too_large", "The request head is too large; send fewer or shorter fields.".to_owned())
        }
        HeadError::UnsupportedVersion => {
            (505, "http_version_not_supported", "The request's HTTP version is not supported; use HTTP/1.1.".into())
        }
        error => (400, "bad_request", format!("The request is malformed: {error}.")),
    }
}

impl From<AdminRefusal> for AdminReply {
    fn from(refusal: AdminRefusal) -> Self {
        let (status, code, message) = refusal.told();
        let mut body = json!({"error": {"message": message, "type": "flow_uring_error", "code": code}});
        if refusal == AdminRefusal::NotFound {
            body["paths"] = KNOWN_PATHS.as_slice().into();
        }
        let more = match refusal {
            AdminRefusal::MethodNotAllowed(methods) => format!("Allow: {methods}\r\n"),
            // RFC 9110 §11.6.1: a 401 names what it takes.
            _ if status == 401 => "WWW-Authenticate: Bearer realm=\"flow-uring\"\r\n".to_owned(),
            _ => String::new(),
        };
        let mut reply = AdminReply::json(status, &body);
        reply.fields = format!("X-Flow-Uring-Error: {code}\r\n{more}");
        reply
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(refusal: AdminRefusal, head_only: bool) -> String {
        let mut out = Vec::new();
        AdminReply::from(refusal).write(&mut out, head_only);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn refusals_say_what_to_do() {
        for (refusal, status, part) in [
            (
                AdminRefusal::Unreadable(HeadError::HeadTooLarge),
                "431 Request Header Fields Too Large",
                "head_too_large",
            ),
            (AdminRefusal::Unreadable(HeadError::Malformed("x")), "400 Bad Request", "malformed: x."),
            (AdminRefusal::Unreadable(HeadError::UnsupportedVersion), "505 HTTP Version Not Supported", "use HTTP/1.1"),
            (AdminRefusal::ForeignHost, "403 Forbidden", "localhost"),
            (AdminRefusal::WebPage, "403 Forbidden", "its own page"),
            (AdminRefusal::NotFound, "404 Not Found", r#""paths":["/","/healthz","/readyz","/metrics","/api/state""#),
            (AdminRefusal::MethodNotAllowed("GET, HEAD"), "405 Method Not Allowed", "Allow: GET, HEAD\r\n"),
            (AdminRefusal::MethodNotAllowed("POST"), "405 Method Not Allowed", "Allow: POST\r\n"),
            (AdminRefusal::NoTokenFile, "403 Forbidden", "--admin-token-file FILE"),
            (AdminRefusal::TokenMissing, "401 Unauthorized", "WWW-Authenticate: Bearer"),
            (AdminRefusal::BadQuery("expected x"), "400 Bad Request", "malformed: expected x."),
        ] {
            let answer = written(refusal, false);
            assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")) && answer.contains(part), "{answer}");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
            let head = written(refusal, true);
            assert!(answer.starts_with(&head) && head.ends_with("\r\n\r\n") && head.len() < answer.len());
        }
    }
}
