//! The quotas of the demo's users, and the endpoints that tell them, as Flow has them beside its LLM Proxy.
//!
//! The first two credentials are of one user, each other one of its own. Invariant: a FlowToken is told to who knows the
//! secret and the tenant of a credential, and quotas to who has one of these tokens.

use std::cell::{Cell, RefCell};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, Method, StatusCode, Uri};
use serde_json::{Value, json};
use time::{Month, OffsetDateTime, Time};

use super::super::flow::DemoCredential;
use super::served::ServedUsage;

const TOKEN_PATH: &str = "/auth-engine-api/v2/api-key/token";
const QUOTA_PATH: &str = "/metrics-collector-api/rate-limit/me";

/// The lifetime of a token, in seconds.
const TOKEN_SECONDS: u32 = 3600;

/// The budget of a user in US dollars, and its requests, in a month.
const BUDGET_USD: f64 = 100.0;
const REQUESTS: f64 = 5000.0;

/// The part of its quotas that a user has used before the demo began, on each day of the month; more than what lasts.
const DAILY_SHARES: [f64; 2] = [0.041, 0.019];

/// The cost of a request that tells none, in US dollars.
const REQUEST_USD: f64 = 0.02;

/// One user of the demo.
#[derive(Debug)]
struct DemoUser {
    id: String,
    budget_before: f64,
    requests_before: f64,
    spent_usd: Cell<f64>,
    requests: Cell<f64>,
    is_blocked: Cell<bool>,
}

/// The answer of an endpoint.
pub type QuotaReply = (StatusCode, Value);

/// The users of one upstream.
pub struct DemoQuotas {
    users: Vec<DemoUser>,
    /// Each credential with the place of its user.
    credentials: Vec<(DemoCredential, usize)>,
    /// The token of each credential that has asked for one.
    tokens: RefCell<Vec<(String, usize)>>,
}

impl DemoQuotas {
    pub fn new<'a>(credentials: impl Iterator<Item = &'a DemoCredential>) -> Self {
        let credentials: Vec<_> =
            credentials.enumerate().map(|(at, credential)| (credential.clone(), at.saturating_sub(1))).collect();
        let day = OffsetDateTime::now_utc().day();
        let user = |at: usize| {
            let share = (DAILY_SHARES[at % DAILY_SHARES.len()] * f64::from(day)).min(0.9);
            DemoUser {
                id: format!("demo-user-{}", at + 1),
                budget_before: share * BUDGET_USD,
                requests_before: (share * REQUESTS / 2.0).round(),
                spent_usd: Cell::default(),
                requests: Cell::default(),
                is_blocked: Cell::default(),
            }
        };
        let users = credentials.last().map_or(0, |(_, last)| last + 1);
        DemoQuotas { users: (0..users).map(user).collect(), credentials, tokens: RefCell::default() }
    }

    /// Returns true for a path of these endpoints.
    pub fn is_asked(uri: &Uri) -> bool {
        [TOKEN_PATH, QUOTA_PATH].contains(&uri.path())
    }

    /// Answers a request to one of the endpoints.
    pub fn answer(&self, method: &Method, uri: &Uri, headers: &HeaderMap, body: &[u8]) -> QuotaReply {
        match uri.path() {
            TOKEN_PATH if method == Method::POST => self.token(headers, body),
            QUOTA_PATH if method == Method::GET => self.quota(uri, headers),
            _ => (StatusCode::METHOD_NOT_ALLOWED, json!({"message": "Method Not Allowed"})),
        }
    }

    /// Returns whether the user of this credential is blocked.
    pub fn is_blocked(&self, client_id: &str) -> bool {
        self.user(client_id).is_some_and(|user| user.is_blocked.get())
    }

    /// Blocks the user of a credential, or ends that, as `{"client_id": "alice-demo", "blocked": true}` asks.
    pub fn block(&self, body: &[u8]) -> QuotaReply {
        let wish: Value = serde_json::from_slice(body).unwrap_or_default();
        let user = wish["client_id"].as_str().and_then(|client_id| self.user(client_id));
        let (Some(user), Some(is_blocked)) = (user, wish["blocked"].as_bool()) else {
            return (
                StatusCode::BAD_REQUEST,
                json!({"message": "expected a known client_id, and blocked true or false"}),
            );
        };
        user.is_blocked.set(is_blocked);
        (StatusCode::OK, json!({"user_id": user.id, "blocked": is_blocked}))
    }

    /// Counts an answer to a credential.
    pub fn note(&self, client_id: &str, usage: &ServedUsage) {
        let Some(user) = self.user(client_id) else { return };
        user.spent_usd.set(user.spent_usd.get() + usage.cost.unwrap_or(REQUEST_USD));
        user.requests.set(user.requests.get() + 1.0);
    }

    fn user(&self, client_id: &str) -> Option<&DemoUser> {
        let (_, place) = self.credentials.iter().find(|(known, _)| known.client_id == client_id)?;
        self.users.get(*place)
    }

    fn token(&self, headers: &HeaderMap, body: &[u8]) -> QuotaReply {
        let tenant = headers.get("flowtenant").and_then(|tenant| tenant.to_str().ok());
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let secret = body["clientSecret"].as_str();
        let is_it = |(credential, _): &(DemoCredential, usize)| {
            secret == Some(&credential.client_secret) && tenant == Some(&credential.tenant)
        };
        let Some(place) = self.credentials.iter().position(is_it) else {
            return (StatusCode::UNAUTHORIZED, json!({"message": "Invalid client secret or tenant."}));
        };
        let mut tokens = self.tokens.borrow_mut();
        tokens.retain(|(_, of)| *of != place);
        let random: String = (0..32).map(|_| fastrand::alphanumeric()).collect();
        let token = format!("made-up-flow-token-{random}");
        tokens.push((token.clone(), place));
        (StatusCode::OK, json!({"access_token": token, "expires_in": TOKEN_SECONDS, "token_type": "Bearer"}))
    }

    fn quota(&self, uri: &Uri, headers: &HeaderMap) -> QuotaReply {
        let token = headers.get("flowtoken").and_then(|token| token.to_str().ok());
        let tokens = self.tokens.borrow();
        let found = token.and_then(|token| tokens.iter().find(|(known, _)| known == token));
        let user = found.and_then(|(_, place)| self.users.get(self.credentials.get(*place)?.1));
        let Some(user) = user else {
            return (StatusCode::UNAUTHORIZED, json!({"message": "Invalid FlowToken."}));
        };
        let is_budget = uri.query().is_some_and(|query| query.split('&').any(|part| part == "mode=budget"));
        (StatusCode::OK, json!({"data": if is_budget { user.budget() } else { user.requests_quota() }}))
    }
}

impl DemoUser {
    fn budget(&self) -> Value {
        let used = self.budget_before + self.spent_usd.get();
        json!({
            "consumed_usd": used,
            "limit": BUDGET_USD,
            "percentage": 100.0 * used / BUDGET_USD,
            "status": self.status(),
            "renewal_date": renewal(),
            "user_id": self.id,
            "limit_type": "individual",
        })
    }

    fn requests_quota(&self) -> Value {
        let used = self.requests_before + self.requests.get();
        json!({
            "requests_used": used,
            "limit": REQUESTS,
            "status": "active",
            "renewal_date": renewal(),
            "user_id": self.id,
        })
    }

    fn status(&self) -> &'static str {
        if self.is_blocked.get() { "blocked" } else { "active" }
    }
}

/// Returns the begin of the next month, as in ISO 8601.
fn renewal() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let today = OffsetDateTime::UNIX_EPOCH + now;
    let (year, month) = match today.month() {
        Month::December => (today.year() + 1, Month::January),
        month => (today.year(), month.next()),
    };
    let midnight = today.replace_time(Time::MIDNIGHT);
    let next =
        midnight.replace_day(1).and_then(|first| first.replace_month(month)).and_then(|next| next.replace_year(year));
    let next = next.unwrap_or(midnight);
    format!("{:04}-{:02}-{:02}T00:00:00Z", next.year(), u8::from(next.month()), next.day())
}

#[cfg(test)]
mod tests {
    use super::super::super::guide::credentials;
    use super::*;

    fn ask(quotas: &DemoQuotas, method: Method, path: &str, fields: &[(&str, &str)], body: Value) -> (u16, Value) {
        let field = |(name, value): &(&str, &str)| {
            (http::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap())
        };
        let headers: HeaderMap = fields.iter().map(field).collect();
        let body = body.to_string();
        let (status, body) = quotas.answer(&method, &path.parse().unwrap(), &headers, body.as_bytes());
        (status.as_u16(), body)
    }

    fn token(quotas: &DemoQuotas, place: usize) -> String {
        let credential = &credentials()[place];
        let body = json!({"clientSecret": credential.client_secret});
        let (status, body) = ask(quotas, Method::POST, TOKEN_PATH, &[("FlowTenant", &credential.tenant)], body);
        assert_eq!(status, 200);
        body["access_token"].as_str().unwrap().to_owned()
    }

    fn budget(quotas: &DemoQuotas, token: &str) -> (u16, Value) {
        let path = format!("{QUOTA_PATH}?mode=budget");
        ask(quotas, Method::GET, &path, &[("FlowToken", token)], Value::Null)
    }

    #[test]
    fn who_knows_a_secret_gets_a_token_and_with_it_the_quotas_of_its_user() {
        let quotas = DemoQuotas::new(credentials().iter());
        let users: Vec<Value> =
            (0..3).map(|place| budget(&quotas, &token(&quotas, place)).1["data"]["user_id"].clone()).collect();
        assert_eq!(users, ["demo-user-1", "demo-user-1", "demo-user-2"]);
        assert_eq!(budget(&quotas, "another").0, 401);
        let old = token(&quotas, 0);
        token(&quotas, 0);
        assert_eq!(budget(&quotas, &old).0, 401);
        let wrong = ask(&quotas, Method::POST, TOKEN_PATH, &[("FlowTenant", "other")], json!({"clientSecret": "x"}));
        assert_eq!(wrong.0, 401);
        assert_eq!(ask(&quotas, Method::GET, TOKEN_PATH, &[], Value::Null).0, 405);
    }

    #[test]
    fn what_is_used_grows_with_use_and_a_user_can_be_blocked() {
        let quotas = DemoQuotas::new(credentials().iter());
        let (alice, carol) = (token(&quotas, 0), token(&quotas, 2));
        let used = |token: &str| budget(&quotas, token).1["data"]["consumed_usd"].as_f64().unwrap();
        let (before, other) = (used(&alice), used(&carol));
        quotas.note("bob-demo", &ServedUsage { model: "m".into(), tokens: None, cost: Some(1.5) });
        assert!((used(&alice) - before - 1.5).abs() < 1e-9 && used(&carol) == other);
        assert_eq!(quotas.block(br#"{"client_id":"bob-demo","blocked":true}"#).0, StatusCode::OK);
        let status = |token: &str| budget(&quotas, token).1["data"]["status"].clone();
        assert_eq!((status(&alice), status(&carol)), (json!("blocked"), json!("active")));
        assert!(quotas.is_blocked("alice-demo") && !quotas.is_blocked("carol-demo"));
        assert_eq!(quotas.block(br#"{"client_id":"nobody","blocked":true}"#).0, StatusCode::BAD_REQUEST);
    }
}
