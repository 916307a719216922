//! The upstream's answers about quotas, as they are: no specification says how.
//!
//! Read as leniently as can be: wrapped in `data` up to three times, numbers as text, members missing or unknown.
//! Invariant: of a token nothing is copied but what becomes a [`FlowToken`].

use std::collections::HashMap;
use std::time::{Duration, Instant};

use serde_json::value::RawValue;

use super::moment::{self, UnixSecond};
use crate::credentials::secret::Secret;

/// Limit on an answer: one is some hundred bytes.
pub const QUOTA_ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Limit on the answer with a token.
pub const TOKEN_ANSWER_BYTES_MAX: usize = 16 * 1024;

/// Limit on a token: it goes into a field of a head.
const TOKEN_BYTES_MAX: usize = 8 * 1024;

/// The number of times that an answer may be wrapped.
const WRAPPINGS_MAX: usize = 3;

/// Limit on the id of a user; a longer one is none.
const USER_BYTES_MAX: usize = 256;

/// The lifetime of a token that tells none, and the longest one that counts.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
const TOKEN_LIFETIME_MAX: Duration = Duration::from_secs(24 * 3600);

/// The time before its end at which a token is made anew; for a short one, half of its life.
const TOKEN_MARGIN: Duration = Duration::from_secs(120);

const TOKEN_NAMES: [&str; 3] = ["access_token", "accessToken", "token"];
const LIFETIME_NAMES: [&str; 2] = ["expires_in", "expiresIn"];
const USED_NAMES: [&str; 3] = ["consumed_usd", "requests_used", "used"];
const LIMIT_NAMES: [&str; 4] = ["limit", "effective_limit", "budget_limit", "individual_budget"];
const RENEWAL_NAMES: [&str; 2] = ["renewal_date", "renewalDate"];
const USER_NAMES: [&str; 2] = ["user_id", "userId"];

/// The token by which the upstream tells an identity its quotas.
#[derive(Debug)]
pub struct FlowToken {
    pub text: Secret,
    /// The time from which on another one is needed.
    pub until: Instant,
}

/// One answer about a quota; what it does not tell is `None`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuotaAnswer {
    pub user: Option<String>,
    /// Not negative.
    pub used: Option<f64>,
    /// More than 0; `None`: there is none.
    pub limit: Option<f64>,
    pub is_blocked: Option<bool>,
    pub renewal: Option<UnixSecond>,
}

impl FlowToken {
    /// Reads an answer that came at `now`; `None` of anything else than one with a token.
    pub fn read(body: &[u8], now: Instant) -> Option<Self> {
        let object = Object::read(body, &TOKEN_NAMES)?;
        let text = TOKEN_NAMES.iter().find_map(|name| token_text(object.value(name)?))?;
        let told = LIFETIME_NAMES.iter().find_map(|name| number(object.value(name)?)).filter(|seconds| *seconds > 0.0);
        let lifetime = told.map_or(TOKEN_LIFETIME, |seconds| Duration::from_secs_f64(seconds.min(1e6)));
        let lifetime = lifetime.min(TOKEN_LIFETIME_MAX);
        let until = now + lifetime.saturating_sub(TOKEN_MARGIN).max(lifetime / 2);
        Some(FlowToken { text: Secret::new(text.to_owned()), until })
    }
}

impl QuotaAnswer {
    /// Reads an answer; `None` of anything else than one that tells something of a quota.
    pub fn read(body: &[u8]) -> Option<Self> {
        let amounts = [&USED_NAMES[..], &LIMIT_NAMES].concat();
        let object = Object::read(body, &amounts)?;
        let first_number = |names: &[&str]| names.iter().find_map(|name| number(object.value(name)?));
        let answer = QuotaAnswer {
            user: USER_NAMES.iter().find_map(|name| user(object.value(name)?)),
            used: first_number(&USED_NAMES).filter(|used| *used >= 0.0),
            limit: first_number(&LIMIT_NAMES).filter(|limit| *limit > 0.0),
            is_blocked: object.value("status").and_then(is_blocked),
            renewal: RENEWAL_NAMES.iter().find_map(|name| renewal(object.value(name)?)),
        };
        let tells_amount = answer.used.is_some() || first_number(&LIMIT_NAMES).is_some() || answer.renewal.is_some();
        // A status alone may be that of the request: it counts where nothing else can be meant.
        (tells_amount || answer.is_blocked == Some(true)).then_some(answer)
    }
}

/// The members of the object that an answer is about, and of those that it is wrapped in.
struct Object<'a> {
    /// From the outermost in.
    levels: Vec<HashMap<String, &'a RawValue>>,
}

impl<'a> Object<'a> {
    /// Reads the object, which is wrapped where it has a `data` object and none of the `own` members.
    fn read(body: &'a [u8], own: &[&str]) -> Option<Self> {
        let mut levels: Vec<HashMap<String, &'a RawValue>> = vec![serde_json::from_slice(body).ok()?];
        while let Some(level) = levels.last() {
            let is_wrapped = levels.len() <= WRAPPINGS_MAX && !own.iter().any(|name| level.contains_key(*name));
            let inner =
                level.get("data").filter(|_| is_wrapped).and_then(|inner| serde_json::from_str(inner.get()).ok());
            match inner {
                Some(inner) => levels.push(inner),
                None => break,
            }
        }
        Some(Object { levels })
    }

    /// Returns a member that is not null. The status of a wrapping is that of the request; who asked may be told there.
    fn value(&self, name: &str) -> Option<&'a RawValue> {
        let mut levels = self.levels.iter().rev().take(if USER_NAMES.contains(&name) { usize::MAX } else { 1 });
        levels.find_map(|level| level.get(name).copied().filter(|value| value.get() != "null"))
    }
}

/// Returns the text of a string that can stand in a field of a head. One with escapes is no token.
fn token_text(value: &RawValue) -> Option<&str> {
    let text = value.get().strip_prefix('"')?.strip_suffix('"')?;
    let can_be_sent = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    (can_be_sent && (1..=TOKEN_BYTES_MAX).contains(&text.len())).then_some(text)
}

/// Returns a number, also one that is written as text.
fn number(value: &RawValue) -> Option<f64> {
    let text = value.get();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    text.trim().parse().ok().filter(|number: &f64| number.is_finite())
}

fn text(value: &RawValue) -> Option<String> {
    serde_json::from_str(value.get()).ok()
}

fn user(value: &RawValue) -> Option<String> {
    let is_number = value.get().starts_with(|first: char| first.is_ascii_digit() || first == '-');
    let user = if is_number { value.get().to_owned() } else { text(value)? };
    let user: String = user.trim().chars().filter(|letter| !letter.is_control()).collect();
    (1..=USER_BYTES_MAX).contains(&user.len()).then_some(user)
}

fn is_blocked(status: &RawValue) -> Option<bool> {
    Some(text(status)?.trim().to_ascii_lowercase().starts_with("blocked"))
}

fn renewal(value: &RawValue) -> Option<UnixSecond> {
    match text(value) {
        Some(text) => moment::parse(&text),
        None => number(value).and_then(moment::from_number),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Wraps a text as the upstream does.
    fn wrapped(text: &str, times: usize) -> String {
        (0..times).fold(text.to_owned(), |text, _| format!(r#"{{"status":"success","code":200,"data":{text}}}"#))
    }

    fn read(text: &str) -> Option<QuotaAnswer> {
        QuotaAnswer::read(text.as_bytes())
    }

    fn token(text: &str, now: Instant) -> Option<(String, Duration)> {
        FlowToken::read(text.as_bytes(), now).map(|token| (token.text.expose().to_owned(), token.until - now))
    }

    #[test]
    fn a_quota_is_read_however_often_it_is_wrapped_and_no_more_than_three_times() {
        let text = r#"{"consumed_usd": 12.5, "limit": 100, "percentage": 12.5, "status": "active",
            "renewal_date": "2026-12-01", "user_id": "u-1", "unknown": {"data": {"limit": 7}}}"#;
        let expected = QuotaAnswer {
            user: Some("u-1".into()),
            used: Some(12.5),
            limit: Some(100.0),
            is_blocked: Some(false),
            renewal: moment::parse("2026-12-01"),
        };
        for times in 0..=3 {
            assert_eq!(read(&wrapped(text, times)), Some(expected.clone()), "{times}");
        }
        assert_eq!(read(&wrapped(text, 4)), None);
    }

    #[test]
    fn members_may_be_missing_null_or_of_another_type() {
        let quota = |used: Option<f64>, limit: Option<f64>, is_blocked| {
            Some(QuotaAnswer { used, limit, is_blocked, ..QuotaAnswer::default() })
        };
        for (text, expected) in [
            (r#"{"requests_used": 3, "limit": 10}"#, quota(Some(3.0), Some(10.0), None)),
            (r#"{"used": "3.5", "limit": " 10 "}"#, quota(Some(3.5), Some(10.0), None)),
            (r#"{"used": 3, "limit": 0}"#, quota(Some(3.0), None, None)),
            (r#"{"used": 3, "limit": 0, "budget_limit": 7}"#, quota(Some(3.0), None, None)),
            (r#"{"used": 3, "limit": null, "effective_limit": 7}"#, quota(Some(3.0), Some(7.0), None)),
            (r#"{"used": 3, "individual_budget": "7", "limit_type": "user"}"#, quota(Some(3.0), Some(7.0), None)),
            (r#"{"used": -1, "limit": -1}"#, quota(None, None, None)),
            (r#"{"used": true, "limit": 10, "status": 1}"#, quota(None, Some(10.0), None)),
            (r#"{"used": 3, "limit": [], "status": null}"#, quota(Some(3.0), None, None)),
            (r#"{"used": "many", "limit": 10}"#, quota(None, Some(10.0), None)),
            (r#"{"used": 1e999, "limit": 10}"#, quota(None, Some(10.0), None)),
            (r#"{"status": "BLOCKED_BY_BUDGET"}"#, quota(None, None, Some(true))),
            (r#"{"status": " Blocked ", "used": 1}"#, quota(Some(1.0), None, Some(true))),
            (r#"{"status": "unblocked", "used": 1}"#, quota(Some(1.0), None, Some(false))),
            (r#"{"status": "success", "data": {"status": "blocked"}}"#, quota(None, None, Some(true))),
            (r#"{"data": {"used": 1}, "used": 2}"#, quota(Some(2.0), None, None)),
        ] {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn a_user_and_a_renewal_have_several_forms() {
        let user = |text: &str| read(text).and_then(|answer| answer.user);
        for (text, expected) in [
            (r#"{"used": 1, "user_id": 42}"#, Some("42")),
            (r#"{"used": 1, "userId": " u\n1 "}"#, Some("u1")),
            (r#"{"user_id": "u", "data": {"used": 1}}"#, Some("u")),
            (r#"{"used": 1, "user_id": null, "userId": "u"}"#, Some("u")),
            (r#"{"used": 1, "user_id": ""}"#, None),
            (r#"{"used": 1, "user_id": ["u"]}"#, None),
        ] {
            assert_eq!(user(text).as_deref(), expected, "{text}");
        }
        let long = format!(r#"{{"used": 1, "user_id": "{}"}}"#, "u".repeat(USER_BYTES_MAX + 1));
        assert_eq!(user(&long), None);
        let renewal =
            |value: &str| read(&format!(r#"{{"used":1,"renewal_date":{value}}}"#)).and_then(|told| told.renewal);
        for (value, expected) in [
            ("1796083200", "2026-12-01"),
            ("\"1796083200\"", "2026-12-01"),
            ("1796083200000", "2026-12-01"),
            (r#""2026-12-01T01:00:00.5+01:00""#, "2026-12-01"),
        ] {
            assert_eq!(renewal(value), moment::parse(expected), "{value}");
        }
        assert_eq!(renewal("{}"), None);
        assert_eq!(renewal("\"soon\""), None);
    }

    #[test]
    fn what_tells_nothing_of_a_quota_is_no_answer() {
        for text in [
            "",
            "<html><body>blocked</body></html>",
            "{",
            "[]",
            "null",
            "\"blocked\"",
            "{}",
            r#"{"data": null}"#,
            r#"{"data": []}"#,
            r#"{"status": "success"}"#,
            r#"{"status": "blocked", "data": {}}"#,
            r#"{"error": {"message": "no", "status": "blocked"}}"#,
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn a_token_is_read_with_its_lifetime_less_a_margin() {
        let (now, seconds) = (Instant::now(), Duration::from_secs);
        for (text, expected) in [
            (r#"{"access_token": "a.b-c_d", "expires_in": 3600}"#, Some(("a.b-c_d", seconds(3480)))),
            (r#"{"accessToken": "t", "expires_in": "600"}"#, Some(("t", seconds(480)))),
            (r#"{"token": "t"}"#, Some(("t", seconds(3480)))),
            (r#"{"token": "t", "expires_in": 60}"#, Some(("t", seconds(30)))),
            (r#"{"token": "t", "expires_in": -1}"#, Some(("t", seconds(3480)))),
            (r#"{"token": "t", "expires_in": 1e300}"#, Some(("t", seconds(24 * 3600 - 120)))),
            (r#"{"token": null, "access_token": "t"}"#, Some(("t", seconds(3480)))),
            (r#"{"token": ""}"#, None),
            (r#"{"token": "a\r\nb"}"#, None),
            (r#"{"token": "a b"}"#, None),
            (r#"{"token": 5}"#, None),
            (r#"{"error": "no"}"#, None),
            ("<html>", None),
        ] {
            for times in 0..=3 {
                let found = token(&wrapped(text, times), now);
                assert_eq!(found, expected.map(|(text, time)| (text.to_owned(), time)), "{times} {text}");
            }
        }
        let long = format!(r#"{{"token": "{}"}}"#, "t".repeat(TOKEN_BYTES_MAX + 1));
        assert_eq!(token(&long, now), None);
        let shown = format!("{:?}", FlowToken::read(br#"{"token": "hunter2"}"#, now));
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_answer_is_too_odd(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (QuotaAnswer::read(&body), FlowToken::read(&body, Instant::now()));
        }
    }
}
