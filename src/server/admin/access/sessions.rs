//! The log-ins of the page: random values, in memory alone.
//!
//! Invariant: bounded; a session ends after [`SESSION_LIMIT`], and with the token that it was made of. It is kept as
//! its digest, so that a look at memory gives nobody one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::SHA256_OUTPUT_LEN;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use super::token::{AdminToken, digest_of};
use crate::credentials::Secret;

/// A working day.
pub const SESSION_LIMIT: Duration = Duration::from_secs(12 * 60 * 60);

/// More than a team has browsers; the oldest gives way.
const SESSIONS_MAX: usize = 64;

/// The random bytes of a session's value.
const VALUE_BYTES: usize = 32;

/// The sessions, the oldest first.
#[derive(Default)]
pub struct Sessions {
    sessions: VecDeque<AdminSession>,
}

struct AdminSession {
    value: [u8; SHA256_OUTPUT_LEN],
    /// The digest of the token and the value: it does not match those of another token.
    bound: [u8; SHA256_OUTPUT_LEN],
    until: Instant,
}

impl Sessions {
    /// Begins a session and returns its value; `None` without random numbers.
    pub fn begin(&mut self, token: &AdminToken, now: Instant) -> Option<Secret> {
        let mut bytes = [0; VALUE_BYTES];
        aws_lc_rs::rand::fill(&mut bytes).ok()?;
        let value = Secret::new(BASE64_URL_SAFE_NO_PAD.encode(bytes));
        self.sessions.retain(|session| now < session.until);
        while self.sessions.len() >= SESSIONS_MAX {
            self.sessions.pop_front();
        }
        let digest = digest_of(value.expose());
        self.sessions.push_back(AdminSession { value: digest, bound: token.bind(&digest), until: now + SESSION_LIMIT });
        Some(value)
    }

    /// Tells whether this is the value of a session under this token.
    pub fn knows(&mut self, shown: &Secret, token: &AdminToken, now: Instant) -> bool {
        let digest = digest_of(shown.expose());
        let bound = token.bind(&digest);
        let is_it = |session: &AdminSession| {
            let is_value = verify_slices_are_equal(&session.value, &digest).is_ok();
            is_value && verify_slices_are_equal(&session.bound, &bound).is_ok() && now < session.until
        };
        self.sessions.iter().any(is_it)
    }

    /// Ends the session of this value.
    pub fn end(&mut self, shown: &Secret) {
        let digest = digest_of(shown.expose());
        self.sessions.retain(|session| verify_slices_are_equal(&session.value, &digest).is_err());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_after_their_time_and_the_oldest_when_there_are_too_many() {
        let token = AdminToken::parse("0123456789abcdef").expect("a token");
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let values: Vec<Secret> = (0..=SESSIONS_MAX).map(|_| sessions.begin(&token, now).expect("random")).collect();
        assert!(!sessions.knows(&values[0], &token, now), "the oldest");
        assert!(values[1..].iter().all(|value| sessions.knows(value, &token, now)));
        assert!(!sessions.knows(&Secret::new(String::new()), &token, now));
        assert!(!sessions.knows(&values[1], &token, now + SESSION_LIMIT));
        sessions.begin(&token, now + SESSION_LIMIT).expect("random");
        assert_eq!(sessions.sessions.len(), 1);
    }
}
