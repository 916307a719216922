//! The question to the upstream for the quotas of one identity: for a FlowToken where there is none, then for both
//! quotas.
//!
//! Below the origin of the upstream, not below its base path. Invariant: no secret, no token and no text of an answer is
//! in an error.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Serializer;
use serde_json::ser::CompactFormatter;
use zeroize::Zeroizing;

use crate::credentials::quota::answer::{FlowToken, QUOTA_ANSWER_BYTES_MAX, QuotaAnswer, TOKEN_ANSWER_BYTES_MAX};
use crate::credentials::quota::record::{QuotaAnswers, QuotaKind};
use crate::credentials::{CredentialId, Credentials};
use crate::io::{Either, pause, race};
use crate::proxy::own_request::{OwnRequest, OwnRequestError, answer_of, secret_answer_of};
use crate::upstream::Connector;

const TOKEN_PATH: &str = "/auth-engine-api/v2/api-key/token";
const QUOTA_PATH: &str = "/metrics-collector-api/rate-limit/me";

/// The longest that the question of one identity takes. The answer about one quota takes half of it at most, so that one
/// about which the upstream is silent does not cost the other.
const INQUIRY_LIMIT: Duration = Duration::from_secs(10);

/// Of JSON in a body, the most that one byte of a text takes.
const ESCAPED_BYTES_MAX: usize = 6;

/// The shortest text that counts as a part of a secret.
const PART_BYTES_MIN: usize = 8;

/// The reason why a question brought nothing that could be read.
#[derive(Debug)]
pub enum InquiryError {
    NoAnswer(OwnRequestError),
    Refused {
        status: u16,
    },
    /// The answer is not what was asked for.
    Unreadable,
    /// The tenant of the credential cannot stand in a field of a head.
    Tenant,
    /// Nothing within the limit.
    Overdue,
}

impl fmt::Display for InquiryError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InquiryError::NoAnswer(error) => error.fmt(formatter),
            InquiryError::Refused { status } => write!(formatter, "the upstream answered {status}"),
            InquiryError::Unreadable => formatter.write_str("the answer is no JSON object of the expected kind"),
            InquiryError::Tenant => formatter.write_str("the tenant holds characters that no field of a head can have"),
            InquiryError::Overdue => formatter.write_str("the upstream took too long"),
        }
    }
}

impl std::error::Error for InquiryError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            InquiryError::NoAnswer(error) => Some(error),
            InquiryError::Refused { .. } | InquiryError::Unreadable | InquiryError::Tenant | InquiryError::Overdue => {
                None
            }
        }
    }
}

/// The outcome of the question.
#[derive(Debug, Default)]
pub struct Inquired {
    pub answers: QuotaAnswers,
    /// The first failure, where there was one: then not both quotas are in the answers.
    pub failure: Option<InquiryError>,
}

/// The question of one identity.
pub struct Inquiry<'a> {
    pub connector: &'a Connector,
    /// The value of `Host`.
    pub authority: &'a str,
    pub credentials: &'a Credentials,
    pub credential: CredentialId,
}

impl Inquiry<'_> {
    /// Asks, with a new token where there is none, and once with another one where it is refused. What had come by the
    /// time limit counts.
    pub async fn ask(&self) -> Inquired {
        self.ask_within(INQUIRY_LIMIT).await
    }

    async fn ask_within(&self, limit: Duration) -> Inquired {
        let mut inquired = Inquired::default();
        if let Either::Second(()) = race(self.ask_for(&mut inquired, limit / 2), pause(limit)).await {
            inquired.failure.get_or_insert(InquiryError::Overdue);
        }
        inquired
    }

    /// Fills `inquired` as the answers come, one quota within `limit`.
    async fn ask_for(&self, inquired: &mut Inquired, limit: Duration) {
        let known = self.credentials.quota_token(self.credential, Instant::now());
        let mut may_renew = true;
        let mut token = match known {
            Some(token) => token,
            None => match self.new_token().await {
                Ok(token) => token,
                Err(error) => return inquired.failure = Some(error),
            },
        };
        for kind in QuotaKind::ALL {
            let mut answered = self.quota_within(limit, kind, &token).await;
            if may_renew && matches!(answered, Err(InquiryError::Refused { status: 401 | 403 })) {
                may_renew = false;
                self.credentials.keep_quota_token(self.credential, None);
                match self.new_token().await {
                    Ok(renewed) => {
                        token = renewed;
                        answered = self.quota_within(limit, kind, &token).await;
                    }
                    Err(error) => answered = Err(error),
                }
            }
            match answered {
                Ok(answer) => *answers_of(&mut inquired.answers, kind) = Some(answer),
                Err(error) => _ = inquired.failure.get_or_insert(error),
            }
        }
    }

    async fn new_token(&self) -> Result<Arc<FlowToken>, InquiryError> {
        let entry = self.credentials.entry(self.credential);
        let tenant = entry.tenant.as_bytes();
        if !tenant.iter().all(|byte| matches!(byte, b' '..=b'~')) {
            return Err(InquiryError::Tenant);
        }
        let body = token_question(entry.client_secret.expose());
        let request = OwnRequest {
            method: "POST",
            path: [TOKEN_PATH, ""],
            authority: self.authority,
            fields: &[("FlowTenant", tenant), ("Content-Type", b"application/json")],
            body: &body,
        };
        let answered = secret_answer_of(self.connector, &request.written(), TOKEN_ANSWER_BYTES_MAX).await;
        let (status, body) = answered.map_err(InquiryError::NoAnswer)?;
        if status != 200 {
            return Err(InquiryError::Refused { status });
        }
        let token = Arc::new(FlowToken::read(&body, Instant::now()).ok_or(InquiryError::Unreadable)?);
        self.credentials.keep_quota_token(self.credential, Some(token.clone()));
        Ok(token)
    }

    async fn quota_within(
        &self,
        limit: Duration,
        kind: QuotaKind,
        token: &FlowToken,
    ) -> Result<QuotaAnswer, InquiryError> {
        match race(self.quota(kind, token), pause(limit)).await {
            Either::First(answered) => answered,
            Either::Second(()) => Err(InquiryError::Overdue),
        }
    }

    async fn quota(&self, kind: QuotaKind, token: &FlowToken) -> Result<QuotaAnswer, InquiryError> {
        let query = match kind {
            QuotaKind::Budget => "?mode=budget",
            QuotaKind::Requests => "",
        };
        let request = OwnRequest {
            method: "GET",
            path: [QUOTA_PATH, query],
            authority: self.authority,
            fields: &[("FlowToken", token.text.expose().as_bytes())],
            body: b"",
        };
        let answered = answer_of(self.connector, &request.written(), QUOTA_ANSWER_BYTES_MAX).await;
        let body = match answered.map_err(InquiryError::NoAnswer)? {
            (200, body) => body,
            (status, _) => return Err(InquiryError::Refused { status }),
        };
        let answer = QuotaAnswer::read(&body).ok_or(InquiryError::Unreadable)?;
        // The id of a user is shown.
        let secrets = [self.credentials.entry(self.credential).client_secret.expose(), token.text.expose()];
        let user = answer.user.filter(|user| !secrets.iter().any(|secret| tells_of(user, secret)));
        Ok(QuotaAnswer { user, ..answer })
    }
}

/// Returns whether a text holds a secret, or is a part of one that is too long to be one by chance.
fn tells_of(text: &str, secret: &str) -> bool {
    text.contains(secret) || (text.len() >= PART_BYTES_MIN && secret.contains(text))
}

fn answers_of(answers: &mut QuotaAnswers, kind: QuotaKind) -> &mut Option<QuotaAnswer> {
    match kind {
        QuotaKind::Budget => &mut answers.budget,
        QuotaKind::Requests => &mut answers.requests,
    }
}

/// Writes the body of the question for a token into memory that is wiped and does not move.
fn token_question(client_secret: &str) -> Zeroizing<Vec<u8>> {
    const BEGIN: &[u8] = br#"{"clientSecret":"#;
    let length = BEGIN.len() + client_secret.len() * ESCAPED_BYTES_MAX + "\"\"}".len();
    let mut body = Zeroizing::new(Vec::with_capacity(length));
    body.extend_from_slice(BEGIN);
    let mut writer = Serializer::with_formatter(&mut *body, CompactFormatter);
    // A text can always be written to memory.
    let _ = serde::Serializer::serialize_str(&mut writer, client_secret);
    body.push(b'}');
    body
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::mpsc::Receiver;

    use super::*;
    use crate::credentials::from_json;
    use crate::io::deadline::on_a_shard;
    use crate::proxy::own_request::tests::{SILENCE, answering_whole};

    fn answer(status: &str, body: &str) -> String {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn ok(body: &str) -> String {
        answer("200 OK", body)
    }

    /// Asks so many times, and returns what was asked, and how each ended.
    fn asked(times: usize, tenant: &str, answers: Vec<String>) -> (Vec<String>, Vec<String>) {
        asked_within(INQUIRY_LIMIT, times, tenant, answering_whole(answers))
    }

    fn asked_within(
        limit: Duration,
        times: usize,
        tenant: &str,
        (connector, requests): (Connector, Receiver<String>),
    ) -> (Vec<String>, Vec<String>) {
        let secrets = format!(r#"[{{"name":"a","clientId":"i","clientSecret":"s\"\u0001é","tenant":"{tenant}"}}]"#);
        let credentials = Rc::new(from_json(&secrets).expect("valid").credentials);
        let ended = on_a_shard(async move {
            let credential = credentials.identities()[0];
            let (connector, credentials, authority) = (&connector, &*credentials, "api.example");
            let mut ended = Vec::new();
            for _ in 0..times {
                let inquiry = Inquiry { connector, authority, credentials, credential };
                let Inquired { answers, failure } = inquiry.ask_within(limit).await;
                let used = |answer: Option<QuotaAnswer>| answer.and_then(|answer| answer.used);
                let (budget, requests) = (used(answers.budget), used(answers.requests));
                ended.push(format!(
                    "{budget:?} {requests:?} {}",
                    failure.map_or(String::new(), |error| error.to_string())
                ));
            }
            ended
        });
        (requests.try_iter().collect(), ended)
    }

    const TOKEN: &str = r#"{"access_token":"t-1","expires_in":3600}"#;
    const NEW_TOKEN: &str = r#"{"data":{"accessToken":"t-2"}}"#;
    const BUDGET: &str = r#"{"consumed_usd":1,"limit":2}"#;
    const REQUESTS: &str = r#"{"requests_used":3,"limit":4}"#;

    #[test]
    fn a_token_is_asked_for_once_and_both_quotas_with_it() {
        let answers = [TOKEN, BUDGET, REQUESTS, BUDGET, REQUESTS].map(ok).to_vec();
        let (requests, ended) = asked(2, "a tenant", answers);
        assert_eq!(ended, ["Some(1.0) Some(3.0) "; 2]);
        let post = "POST /auth-engine-api/v2/api-key/token HTTP/1.1\r\nHost: api.example\r\nFlowTenant: a tenant\r\n\
                    Content-Type: application/json\r\nAccept: application/json\r\nContent-Length: 30\r\n\
                    Connection: close\r\n\r\n{\"clientSecret\":\"s\\\"\\u0001é\"}";
        let get = |query: &str| {
            format!(
                "GET /metrics-collector-api/rate-limit/me{query} HTTP/1.1\r\nHost: api.example\r\nFlowToken: t-1\r\n\
                 Accept: application/json\r\nConnection: close\r\n\r\n"
            )
        };
        let (budget, own) = (get("?mode=budget"), get(""));
        assert_eq!(requests, [post.to_owned(), budget.clone(), own.clone(), budget, own]);
    }

    #[test]
    fn a_refused_token_is_replaced_once() {
        let refused = answer("401 Unauthorized", "");
        let renewed = [ok(TOKEN), ok(BUDGET), ok(REQUESTS), refused.clone(), ok(NEW_TOKEN), ok(BUDGET), ok(REQUESTS)];
        let (requests, ended) = asked(2, "t", renewed.to_vec());
        assert_eq!(ended, ["Some(1.0) Some(3.0) "; 2]);
        assert!(
            requests[5].contains("FlowToken: t-2\r\n") && requests[6].contains("FlowToken: t-2\r\n"),
            "{requests:?}"
        );
        let forbidden = answer("403 Forbidden", "");
        let first = [ok(TOKEN), ok(BUDGET), forbidden.clone(), ok(NEW_TOKEN), forbidden.clone()];
        let second = [forbidden.clone(), ok(TOKEN), forbidden.clone(), forbidden];
        let (requests, ended) = asked(2, "t", first.into_iter().chain(second).collect());
        let told = "the upstream answered 403";
        assert_eq!(ended, [format!("Some(1.0) None {told}"), format!("None None {told}")]);
        assert_eq!(requests.len(), 9);
    }

    #[test]
    fn what_cannot_be_used_is_told_by_its_kind_and_what_can_is_kept() {
        let html = "<html>hunter2</html>";
        let long = "x".repeat(QUOTA_ANSWER_BYTES_MAX + 1);
        for (answers, expected) in [
            (vec![answer("500 Oh", html)], "None None the upstream answered 500"),
            (vec![answer("302 Found", "")], "None None the upstream answered 302"),
            (vec![ok(html)], "None None the answer is no JSON object of the expected kind"),
            (vec![ok(&long)], "None None the answer is too large"),
            (
                vec![ok(TOKEN), ok(html), ok(REQUESTS)],
                "None Some(3.0) the answer is no JSON object of the expected kind",
            ),
            (vec![ok(TOKEN), ok(BUDGET), ok(&long)], "Some(1.0) None the answer is too large"),
            (vec![ok(TOKEN), ok(BUDGET), answer("503 No", "")], "Some(1.0) None the upstream answered 503"),
            (
                vec![ok(TOKEN), "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{".to_owned(), ok(REQUESTS)],
                "None Some(3.0) the answer was cut",
            ),
        ] {
            assert_eq!(asked(1, "t", answers).1, [expected]);
        }
    }

    #[test]
    fn silence_about_one_quota_costs_nothing_of_the_other() {
        let limit = Duration::from_millis(600);
        for (answers, expected) in [
            ([ok(TOKEN), ok(BUDGET), SILENCE.to_owned()], "Some(1.0) None"),
            ([ok(TOKEN), SILENCE.to_owned(), ok(REQUESTS)], "None Some(3.0)"),
        ] {
            let (requests, ended) = asked_within(limit, 1, "t", answering_whole(answers.to_vec()));
            assert_eq!((requests.len(), ended), (3, vec![format!("{expected} the upstream took too long")]));
        }
        // The limit of all passes while the token is waited for.
        let (_, ended) = asked_within(limit, 1, "t", answering_whole(vec![SILENCE.to_owned()]));
        assert_eq!(ended, ["None None the upstream took too long"]);
    }

    #[test]
    fn a_user_whose_id_tells_of_a_secret_has_none() {
        for (text, expected) in [
            ("user-1", false),
            ("t", false),
            ("the-secret", true),
            ("of the-secret of", true),
            ("the-secr", true),
            ("the-sec", false),
        ] {
            assert_eq!(tells_of(text, "the-secret"), expected, "{text}");
        }
    }

    #[test]
    fn a_tenant_that_would_break_the_head_is_not_sent() {
        let (requests, ended) = asked(1, "t\\r\\nX: y", vec![ok(TOKEN)]);
        assert!(requests.is_empty() && ended[0].contains("the tenant holds characters"), "{ended:?}");
    }

    #[test]
    fn the_question_does_not_move_whatever_is_in_the_secret() {
        for secret in ["", "plain", &"\u{1}".repeat(100), "é\"\\"] {
            let body = token_question(secret);
            let value: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(value["clientSecret"], secret);
            let length = br#"{"clientSecret":""}"#.len() + secret.len() * ESCAPED_BYTES_MAX;
            assert_eq!(body.capacity(), length, "it was moved");
        }
    }
}
