//! The session that a request belongs to, by the header fields of coding agents.
//!
//! Read only where sessions keep their credential (`--affinity session`). The fields go upstream as they came.

use crate::credentials::SessionKey;
use crate::http1::head::RequestHead;

/// The fields that name a session, the one that tells most first: Claude Code's, Codex's in its older and its newer
/// form, and those of other agents and routers.
const SESSION_FIELDS: [&str; 5] =
    ["x-claude-code-session-id", "session_id", "session-id", "x-session-id", "x-session-affinity"];

/// The longest id of a session: those that are known are UUIDs. A longer one counts as none.
const SESSION_BYTES_MAX: usize = 256;

/// Returns the key of the request's session: of the first of [`SESSION_FIELDS`] that has a value.
pub fn session_of(head: &RequestHead<'_>) -> Option<SessionKey> {
    let mut found: Option<(usize, &[u8])> = None;
    for field in head.fields {
        let rank = SESSION_FIELDS.iter().position(|name| field.name.eq_ignore_ascii_case(name));
        let Some(rank) = rank.filter(|_| (1..=SESSION_BYTES_MAX).contains(&field.value.len())) else { continue };
        if found.is_none_or(|(best, _)| rank < best) {
            found = Some((rank, field.value));
        }
    }
    found.map(|(_, id)| SessionKey::of(id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::with_request;

    fn session(fields: &str) -> Option<SessionKey> {
        let head = format!("POST /v1/messages HTTP/1.1\r\nHost: x\r\n{fields}\r\n");
        with_request(head.as_bytes(), session_of).expect("a valid head")
    }

    #[test]
    fn the_field_that_tells_most_names_the_session_wherever_it_stands() {
        for name in SESSION_FIELDS {
            assert_eq!(session(&format!("{}:  id \r\n", name.to_uppercase())), Some(SessionKey::of(b"id")), "{name}");
        }
        let all: String =
            SESSION_FIELDS.iter().rev().enumerate().map(|(id, name)| format!("{name}: {id}\r\n")).collect();
        assert_eq!(session(&all), Some(SessionKey::of(b"4")));
        assert_eq!(session("session_id: first\r\nsession_id: second\r\n"), Some(SessionKey::of(b"first")));
    }

    #[test]
    fn an_empty_id_and_one_that_is_too_long_count_as_none() {
        let long = "x".repeat(SESSION_BYTES_MAX);
        assert_eq!(session(&format!("session_id: {long}\r\n")), Some(SessionKey::of(long.as_bytes())));
        for fields in ["", "session_id:\r\n", &format!("session_id: {long}x\r\n"), "session: x\r\nx-request-id: y\r\n"]
        {
            assert_eq!(session(fields), None, "{fields}");
        }
        let fields = format!("x-claude-code-session-id: {long}x\r\nsession-id: \r\nx-session-id: third\r\n");
        assert_eq!(session(&fields), Some(SessionKey::of(b"third")));
    }
}
