//! The reason that an error answer gives, as far as failover asks for it: a quota that is used up, or a model that the
//! key may not use. Read as the body comes, at most [`READ_BYTES_MAX`] of it.

use crate::json::members::{JsonMembers, StringMember};

/// The part of an error answer that is read: LiteLLM's messages, which come before the type, may be long.
const READ_BYTES_MAX: usize = 4 * 1024;

/// The members that hold an error, and those of them that say what it is.
const ERRORS: [&[u8]; 2] = [b"error", b"detail"];
const NAMES: [&[u8]; 2] = [b"type", b"code"];

/// The names of errors about a quota that is used up: LiteLLM's, OpenAI's and Anthropic's.
const QUOTA_NAMES: [&[u8]; 4] =
    [b"budget_exceeded", b"insufficient_quota", b"billing_error", b"billing_hard_limit_reached"];

/// The reason that an error answer gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalReason {
    QuotaUsedUp,
    ModelDenied,
}

/// Reads the body of an error answer for its reason.
#[derive(Debug)]
pub struct RefusalReader {
    members: JsonMembers,
    room_bytes: usize,
    reason: Option<RefusalReason>,
}

impl RefusalReader {
    pub fn new() -> Self {
        RefusalReader { members: JsonMembers::also_in_array(), room_bytes: READ_BYTES_MAX, reason: None }
    }

    /// Takes the body's next bytes.
    pub fn observe(&mut self, data: &[u8]) {
        let data = &data[..data.len().min(self.room_bytes)];
        self.room_bytes -= data.len();
        let RefusalReader { members, reason, .. } = self;
        members.read(data, |member| {
            *reason = reason.or(reason_of(member));
            reason.is_some()
        });
    }

    pub fn reason(&self) -> Option<RefusalReason> {
        self.reason
    }

    /// Returns whether more of the body may tell more.
    pub fn wants_more(&self) -> bool {
        self.reason.is_none() && self.room_bytes > 0 && !self.members.is_over()
    }
}

fn reason_of(member: StringMember<'_>) -> Option<RefusalReason> {
    let StringMember { within, name, value } = member;
    if !NAMES.contains(&name) || within.is_some_and(|within| !ERRORS.contains(&within)) {
        return None;
    }
    if QUOTA_NAMES.contains(&value) {
        return Some(RefusalReason::QuotaUsedUp);
    }
    value.ends_with(b"model_access_denied").then_some(RefusalReason::ModelDenied)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_type_or_the_code_of_an_error_tells_its_reason() {
        let quota = Some(RefusalReason::QuotaUsedUp);
        let denied = Some(RefusalReason::ModelDenied);
        for (body, expected) in [
            (r#"{"error":{"message":"m","type":"budget_exceeded","param":null,"code":"400"}}"#, quota),
            (r#"{"error":{"message":"m","type":"t","code":"insufficient_quota"}}"#, quota),
            (r#"{"type":"error","error":{"type":"billing_error","message":"m"}}"#, quota),
            (r#"{"error":{"code":"billing_hard_limit_reached"}}"#, quota),
            (r#"{"type":"budget_exceeded"}"#, quota),
            (r#"{"detail":{"type":"budget_exceeded"}}"#, quota),
            (r#"{"error":{"type":"key_model_access_denied","code":"401"}}"#, denied),
            (r#"{"error":{"type":"team_model_access_denied"}}"#, denied),
            (r#"{"error":{"message":"budget_exceeded","type":"t"}}"#, None),
            (r#"{"error":{"type":"invalid_request_error","code":null}}"#, None),
            (r#"{"error":{"type":"billing_address_invalid"}}"#, None),
            (r#"{"error":{"code":"billing_"}}"#, None),
            (r#"{"usage":{"type":"budget_exceeded"}}"#, None),
            ("budget_exceeded", None),
            ("", None),
        ] {
            let mut reader = RefusalReader::new();
            body.as_bytes().chunks(7).for_each(|part| reader.observe(part));
            assert_eq!(reader.reason(), expected, "{body}");
        }
    }

    #[test]
    fn no_more_than_4_kib_are_read_and_none_of_what_is_no_object() {
        let mut reader = RefusalReader::new();
        reader.observe(br#"{"error":{"message":""#);
        assert!(reader.wants_more());
        reader.observe(&[b'x'; READ_BYTES_MAX]);
        reader.observe(br#"","type":"budget_exceeded"}}"#);
        assert!(!reader.wants_more() && reader.reason().is_none());
        let mut page = RefusalReader::new();
        page.observe(b"<html>");
        assert!(!page.wants_more());
    }
}
